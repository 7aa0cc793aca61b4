"""Denoise a photo of any size: the shipped network, `denoise` for tensors and a command for files.

    python -m src.denoise noisy.jpg clean.png                one picture
    python -m src.denoise photos/ cleaned/                   a folder, or several files
    python -m src.denoise noisy.png clean.png --strength 0.7 --ensemble
    python -m src.denoise camera.jpg clean.jpg --grain 3     noise in blots, as cameras leave it

The network needs no sigma: it was trained over a range (checkpoints/published/denoiser/record.json has all of it,
the command to train it again included) on pictures that this repository draws, without any photo.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from src.networks.autoencoder import Autoencoder
from src.checkpoint import DAMAGE, folder, load_last
from src.device import autocast, device, to_device
from src.networks.dncnn import DnCNN
from src.networks.noise_level import SCALES, estimate_sigma
from src.image_files import reason
from src.noise import check_sigma, number
from src.photos.photo_files import check_target, each, read_photo, write_photo
from src.unet import UNet

NETWORKS = {"UNet": UNet, "Autoencoder": Autoencoder, "DnCNN": DnCNN}
SHIPPED = folder("published/denoiser")
LOUDEST = 55 / 255  # sigma up to which the shipped network was trained
TILE = 768  # pixels, a side: smaller ones look at more twice, larger ones take more memory (PROGRESS.md)


def load_denoiser(weights: str | Path = SHIPPED) -> nn.Module:
    """The network of a folder, by default the shipped one; on the GPU if there is one.

    weights: a folder with record.json and weights.pt, or one of a run of your own, checkpoints/<run>: its averaged
    weights after the last finished epoch.
    Raises FileNotFoundError where they are missing, ValueError where they are damaged or another's.
    """
    record, path = Path(weights) / "record.json", Path(weights) / "weights.pt"
    ours = Path(weights).parent == SHIPPED.parent
    fix = f"`git checkout {weights}` brings it back" if ours else "check the folder"
    try:
        about = json.loads(record.read_text())
        own = any((Path(weights) / name).exists() for name in ("state.pt", "state-before.pt"))  # a run of this machine
        data = b"" if own else path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"no {error.filename}, expected the network's weights; {fix}") from None
    except ValueError as error:
        raise ValueError(f"{record} is damaged ({error}); {fix}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{record} is damaged, expected a run's record, got {about!r:.40}; {fix}")
    if not own and hashlib.sha256(data).hexdigest() != about.get("sha256"):
        raise ValueError(
            f"{path} does not have the sha256 of its record.json, expected {about.get('sha256')}: it is damaged or "
            f"another's; {fix}"
        )
    try:
        given = dict(about["key"]["network"])
        model = NETWORKS[given.pop("class")](**given)
        saved = load_last(Path(weights).resolve()) if own else torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(saved)
    except DAMAGE as error:
        raise ValueError(f"the weights in {weights} cannot be loaded ({reason(error)}); train them again") from None
    return model.eval().to(device(), memory_format=torch.channels_last)


@torch.no_grad()
def denoise(
    image: Tensor,
    model: nn.Module | None = None,
    sigma: float | None = None,
    tile: int | None = None,
    strength: float = 1.0,
    ensemble: bool = False,
    bar: bool = False,
    grain: int = 1,
) -> Tensor:
    """The picture without its noise, of the same shape and type.

    image     float32 [C, H, W] or [B, C, H, W], C = 1 or 3, in [0, 1] but for the noise; or uint8 or uint16 in
              their whole range. A float comes back clamped to [0, 1]
    model     the shipped network without it, see `load_denoiser`; another one runs where it is
    sigma     deviation of the noise in [0, 1] units, if known; the network needs none. What it takes away may then be
              no more than that: where its deviation over a picture is above sigma, a part is given back (Morozov's
              discrepancy principle, 1966). Worth something in noise of a few grey levels of 255. A conditioned network
              (see UNet) uses it in place of its own estimate, which it makes of the whole picture
    tile      side in pixels of the squares worked on one by one, so that memory does not grow with the picture. Each
              is seen with all around it that can matter (`model.reach`), so nothing but rounding differs from the
              whole. None: tiles for pictures above 768 x 768; whole, if the network does not know its reach
    strength  1: denoised, 0: as it was, and all between: a mix of the two
    ensemble  True: the mean over the eight flips and quarter turns, at eight times the cost
    bar       True: a progress bar over the tiles
    grain     side in pixels of the noise's blots; 1: none, each pixel has its own noise. A camera's are 2 or 3 wide, as
              it takes two of a pixel's three colours from the neighbours, and the network takes blots for the picture.
              Every grain-th pixel along both sides makes a picture of noise without blots, and each of these is
              denoised by itself (Zhou and others, AAAI 2020). Without blots it costs 2 to 3 dB: they see less detail

    Raises ValueError for wrong arguments.
    """
    if not torch.is_tensor(image):
        raise ValueError(
            f"image must be a tensor, got {type(image).__name__}; of an array [H, W, C] that is "
            "torch.from_numpy(x).permute(2, 0, 1)"
        )
    model = load_denoiser() if model is None else model
    one = image.ndim == 3
    pictures = image[None] if one else image
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or 0 in pictures.shape:
        raise ValueError(
            f"image must be [C, H, W] or [B, C, H, W] with 1 or 3 channels, got {list(image.shape)}; "
            "of an array [H, W, C] that is torch.from_numpy(x).permute(2, 0, 1)"
        )
    if image.dtype not in (torch.float32, *SCALES):
        raise ValueError(f"image must be float32, uint8 or uint16, got {image.dtype}; x.float() makes it float32")
    if image.dtype == torch.float32 and not torch.isfinite(image).all():
        raise ValueError("image holds NaN or infinity, expected numbers in [0, 1]; replace them")
    low, high = torch.aminmax(image) if image.dtype == torch.float32 else (0, 1)
    if max(-low, high) > FAR:
        raise ValueError(
            f"image must be in [0, 1] but for the noise, got {low:g} to {high:g}; did you mean image / 255?"
        )
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1, got {strength:g}; 1 is the denoised picture")
    if not isinstance(grain, int) or grain < 1:
        raise ValueError(f"grain must be a whole number of pixels, at least 1, got {grain!r}; try grain=3")
    sigma = None if sigma is None else check_sigma(sigma)
    height, width = pictures.shape[2:]
    if grain > 1:
        result = torch.empty_like(pictures)
        for top, left in product(range(min(grain, height)), range(min(grain, width))):
            part = (..., slice(top, None, grain), slice(left, None, grain))
            result[part] = denoise(pictures[part], model, sigma, tile, strength, ensemble, bar)
        return result[0] if one else result
    result, removed = torch.empty_like(pictures), torch.zeros(len(pictures), 1, 1, 1, dtype=torch.float64)
    level = _level(model, pictures, sigma)
    training, _ = model.training, model.eval()
    try:
        squares = list(_tiles(height, width, model, tile))
        for inner, outer in tqdm(squares, "denoising", unit="tile", file=sys.stdout, leave=False, disable=not bar):
            noisy = _as_float(pictures[(..., *outer)])
            inside = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer))
            clean = (_mean_of_flips(model, noisy, level) if ensemble else _once(model, noisy, level))[(..., *inside)]
            removed += (clean - noisy[(..., *inside)]).double().square().sum(dim=(1, 2, 3), keepdim=True)
            result[(..., *inner)] = _as_stored(clean, image.dtype)
        share = torch.full_like(removed, strength)
        if sigma is not None:
            deviation = (removed / pictures[0].numel()).sqrt()
            share *= (sigma / deviation.clamp(min=1e-12)).clamp(max=1)
        for inner, _ in squares if (share < 1).any() else ():
            noisy, clean = _as_float(pictures[(..., *inner)]), _as_float(result[(..., *inner)])
            result[(..., *inner)] = _as_stored(noisy + share.float() * (clean - noisy), image.dtype)
    finally:
        model.train(training)
    return result[0] if one else result


FAR = 16  # no noise of sigma 1 takes a pixel that far from [0, 1]


def _as_float(x: Tensor) -> Tensor:
    return (x if x.is_floating_point() else x.float() / SCALES[x.dtype]).cpu()


def _as_stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.clamp(0, 1)
    return x if dtype == torch.float32 else (x * SCALES[dtype]).round().to(dtype)


def _level(model: nn.Module, pictures: Tensor, sigma: float | None) -> Tensor | None:
    """[B], what a conditioned network is told of each picture; None for others."""
    if not getattr(model, "conditioned", False):
        return None
    return estimate_sigma(pictures) if sigma is None else torch.full((len(pictures),), sigma)


def flips(model: nn.Module, noisy: Tensor, level: Tensor | None = None) -> Iterator[Tensor]:
    """What the network makes of each of the eight flips and quarter turns, turned back; float32 [B, C, H, W] each.

    level: [B], sigma in [0, 1] units for a conditioned network; without it, its estimate of each picture.
    The mean of the eight is the self-ensemble of Timofte, Rothe, Van Gool (CVPR 2016); their spread says where it is
    unsure.
    """
    height, width = noisy.shape[2:]
    level = _level(model, noisy, None) if level is None else level
    padded = _padded(noisy, model)  # before the turns, or they would shift the network's grid
    for turns in range(4):
        for mirrored in (False, True):
            turned = torch.rot90(padded, turns, (2, 3))
            clean = _once(model, turned.flip(3) if mirrored else turned, level)
            yield torch.rot90(clean.flip(3) if mirrored else clean, -turns, (2, 3))[..., :height, :width]


def _mean_of_flips(model: nn.Module, noisy: Tensor, level: Tensor | None) -> Tensor:
    total = torch.zeros_like(noisy)
    for clean in flips(model, noisy, level):
        total += clean
    return total / 8


def _once(model: nn.Module, noisy: Tensor, level: Tensor | None) -> Tensor:
    """One pass, float32 [B, C, H, W] on the CPU; grey pictures as a network for colour knows them."""
    where = next(model.parameters()).device
    channels, height, width = noisy.shape[1:]
    x = to_device(_padded(noisy, model), where)
    x = x.expand(-1, 3, -1, -1) if channels == 1 and getattr(model, "config", {}).get("channels") == 3 else x
    with torch.no_grad(), autocast(where):
        x = x.contiguous(memory_format=torch.channels_last)
        y = (model(x) if level is None else model(x, level.to(where))).float()
    if y.shape != x.shape:
        raise ValueError(
            f"the network makes {list(y.shape[1:])} of {list(x.shape[1:])}, expected a picture of the same shape; "
            "choose a denoiser's weights"
        )
    return (y.mean(dim=1, keepdim=True) if channels == 1 else y)[..., :height, :width].cpu()


def _padded(noisy: Tensor, model: nn.Module) -> Tensor:
    """To whole cells of the network's grid, by reflection.

    The network itself repeats the border, and a blind one takes those stripes for a picture without noise: it left
    the noise of up to 40 pixels beside them where it was (test_no_band_of_noise_is_left_at_the_border).
    """
    height, width = noisy.shape[2:]
    right, below = -width % _stride(model), -height % _stride(model)
    if right < width and below < height:
        return F.pad(noisy, (0, right, 0, below), mode="reflect")
    return noisy  # a few pixels wide


def _stride(model: nn.Module) -> int:
    """Side in pixels of the cells of the network's coarsest grid; 1 if it does not say."""
    stride = getattr(model, "stride", 1)
    return stride if isinstance(stride, int) else 1  # a bare convolution has a pair of its own


def _tiles(height: int, width: int, model: nn.Module, tile: int | None) -> Iterator[tuple[tuple, tuple]]:
    """(rows and columns to fill, rows and columns to look at) of each tile."""
    reach = getattr(model, "reach", None)
    if tile is not None and (not isinstance(tile, int) or tile < 1):
        raise ValueError(f"tile must be a whole number of pixels, at least 1, got {tile!r}; try tile={TILE}")
    if tile is not None and reach is None:
        raise ValueError(f"{type(model).__name__} does not say its reach in pixels, which tiles need; pass tile=None")
    if reach is None or (tile is None and max(height, width) <= TILE):
        yield (slice(0, height), slice(0, width)), (slice(0, height), slice(0, width))
        return
    # tiles start where the network's own grid of halvings does, or it would see the picture shifted
    stride = _stride(model)
    tile, margin = -(-(tile or TILE) // stride) * stride, -(-reach // stride) * stride

    def spans(size: int) -> list[tuple[slice, slice]]:
        edges = [(start, min(start + tile, size)) for start in range(0, size, tile)]
        return [(slice(a, b), slice(max(0, a - margin), min(size, b + margin))) for a, b in edges]

    for rows, seen_rows in spans(height):
        for columns, seen_columns in spans(width):
            yield (rows, columns), (seen_rows, seen_columns)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.denoise", description="Remove the noise from photos.")
    parser.add_argument("inputs", nargs="+", metavar="IN", help="PNG, JPEG, TIFF, WebP or BMP, or folders of them")
    parser.add_argument("output", metavar="OUT", help="a file for one picture, a folder for several")
    parser.add_argument("--strength", type=float, default=1.0, help="0 leaves the picture, 1 denoises it (default)")
    parser.add_argument("--sigma", type=number, help="deviation of the noise in 0..1, if known; 25/255 is understood")
    parser.add_argument("--ensemble", action="store_true", help="mean over eight flips and turns: slower, a bit better")
    parser.add_argument(
        "--grain", type=int, default=1, help="side in pixels of the noise's blots: 2 or 3 for a camera's"
    )
    parser.add_argument("--tile", type=int, help=f"side of the squares worked on one by one (default {TILE})")
    parser.add_argument(
        "--weights", default=SHIPPED, metavar="DIR", help="another network: a run of yours, checkpoints/<run>"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that are there, never an input")
    arguments = parser.parse_args(argv)
    try:
        options = dict(
            model=load_denoiser(arguments.weights), sigma=arguments.sigma, tile=arguments.tile,
            strength=arguments.strength, ensemble=arguments.ensemble, grain=arguments.grain,
        )  # fmt: skip
        denoise(torch.zeros(1, 1, 1), **options)  # what is wrong with them is said once
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    def work(source: Path, target: Path) -> str:
        photo = read_photo(source)
        check_target(target, photo)
        clean = denoise(torch.from_numpy(photo.pixels), bar=sys.stdout.isatty(), **options).numpy()
        write_photo(target, replace(photo, pixels=clean))
        return "denoised"

    return each(arguments.inputs, arguments.output, arguments.overwrite, work, "denoising")


if __name__ == "__main__":
    sys.exit(main())
