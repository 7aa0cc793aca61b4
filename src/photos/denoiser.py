"""Denoise an image of any size: the shipped networks, tiles, self-ensemble, and a mode for photos of cameras.

    from src.photos.denoiser import denoise
    denoised = denoise(noisy)                        # float32 [3, H, W] in [0, 1], or uint8, or uint16
    denoised = denoise(photo, noise="camera")        # noise that is faint and spatially correlated

The shipped network is blind: it was trained over a range of sigma (checkpoints/published/denoiser/record.json), on
drawn images alone, and estimates sigma from the image. `python -m src.photos denoise` is the command for files.
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from src.checkpoint import load, run_folder
from src.device import autocast, to_device
from src.files import described, whole_number
from src.loop import evaluation_mode
from src.networks.level_unet import LevelUNet
from src.networks.noise_level import SCALES, NoiseLevelNormalised, estimate_sigma, with_sigma_channel
from src.noise import check_sigma

SHIPPED, CAMERA = run_folder("published/denoiser"), run_folder("published/camera")
LARGEST_SIGMA = 55 / 255  # up to which the shipped network was trained
USUAL_LEVEL = 16 / 255  # of the noise added in camera mode: about three times that of a camera at ISO 3200
ISO_LEVELS = ((12800, 28 / 255), (6400, 22 / 255), (0, USUAL_LEVEL))  # (from this ISO, level), measured on PolyU
TILE = 768  # side in pixels: smaller tiles compute more of their surroundings twice, larger ones take more memory
NOISE_PERIOD = 1024  # pixels after which the added noise repeats
MOST_NOISE = 16  # no noise of sigma 1 takes a pixel that far from [0, 1]
RESHAPE = "an array [H, W, C] becomes one by torch.from_numpy(x).permute(2, 0, 1)"

Pass = Callable[[Tensor, tuple[slice, slice]], Tensor]  # noisy tile [B, C, h, w], where it lies -> denoised tile


def load_denoiser(weights: str | Path = SHIPPED) -> nn.Module:
    """A network with its EMA weights, in evaluation mode; on the GPU if there is one.

    weights: a published network's folder (record.json, weights.pt), or a run of your own: its name or its folder.
    Raises FileNotFoundError where it is missing, ValueError where it is damaged.
    """
    folder = Path(weights).absolute()  # load takes other relative paths from checkpoints/
    return load(folder if (folder / "record.json").exists() else weights)


@torch.no_grad()
def denoise(
    image: Tensor,
    model: nn.Module | None = None,
    sigma: float | None = None,
    noise: str = "gaussian",
    level: float | None = None,
    tile: int | None = None,
    strength: float = 1.0,
    self_ensemble: bool = False,
    progress: bool = False,
) -> Tensor:
    """The image without its noise, of the same shape and dtype.

    image     float32 [C, H, W] or [B, C, H, W], C = 1 or 3, in [0, 1] but for the noise; or uint8 or uint16 in their
              whole range. A float result is clamped to [0, 1]
    model     None: the shipped network for this kind of noise. Another one runs on the device where it is
    sigma     standard deviation of the noise in [0, 1], if known: an upper limit of what is removed. If that of
              noisy - denoised exceeds sigma, the result is blended with the input until it equals sigma (Morozov 1966).
              `NoiseLevelNormalised` uses it in place of its own estimate, which it makes of the whole image
    noise     "gaussian": white. "camera": faint and spatially correlated, as cameras and phones leave it; a blind
              network takes that for texture. With the shipped camera network one pass; with any other network
              Gaussian noise of `level` is added first, and the result is the mean over two passes, with that noise and
              with its negative. It is the same noise for every image, a function of the position
    level     in [0, 1], for noise="camera". Two passes: standard deviation of what is added (default 16/255; more
              removes more). Camera network: an upper bound of the noise (default: unknown)
    tile      side in pixels of tiles that are denoised one by one, so that memory does not grow with the image. Each
              is seen with all pixels around it that matter (`model.receptive_radius`), so the result is that of the
              whole image. None: tiles for images above 768x768, if the network has a receptive_radius
    strength  1: denoised, 0: as it was; between: a mix of the two
    self_ensemble  True: the mean over the eight flips and quarter turns, at eight times the cost
    progress  True: a progress bar over the tiles

    Raises ValueError for wrong arguments.
    """
    images = checked_image(image)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1, got {strength:g}; 1 is the denoised image")
    if noise not in ("gaussian", "camera") or (noise == "gaussian" and level is not None):
        raise ValueError(f"noise must be 'gaussian', or 'camera' with level, got {noise!r}, level {level}; change one")
    sigma, level = (None if x is None else check_sigma(x) for x in (sigma, level))
    if model is None:
        model = load_denoiser(CAMERA if noise == "camera" and (CAMERA / "weights.pt").exists() else SHIPPED)
    tiles = tiles_of(*images.shape[2:], model, tile)
    with evaluation_mode(model):
        run = choose_pass(model, images, sigma, noise, level, self_ensemble)
        result, removed = denoise_tiles(images, run, tiles, progress)
    kept = torch.full_like(removed, strength)
    if sigma is not None:
        kept *= (sigma / removed.clamp(min=1e-12)).clamp(max=1)
    if (kept < 1).any():
        mix(images, result, kept, tiles)
    return result if image.ndim == 4 else result[0]


def level_of_iso(iso: int) -> float:
    """The level of camera mode for a photo taken at this ISO."""
    return next(level for lowest, level in ISO_LEVELS if iso >= lowest)


def checked_image(image: Tensor) -> Tensor:
    """[B, C, H, W] of what `denoise` takes; ValueError for anything else."""
    if not torch.is_tensor(image):
        raise ValueError(f"image must be a tensor, got {described(image)}; {RESHAPE}")
    images = image[None] if image.ndim == 3 else image
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"image must be [C, H, W] or [B, C, H, W], C = 1 or 3, got {list(image.shape)}; {RESHAPE}")
    if image.dtype not in (torch.float32, *SCALES):
        raise ValueError(f"image must be float32, uint8 or uint16, got {image.dtype}; x.float() makes it float32")
    low, high = (x.item() for x in torch.aminmax(image)) if image.dtype == torch.float32 else (0, 1)
    if not max(-low, high) <= MOST_NOISE:  # NaN, too
        raise ValueError(
            f"image must be in [0, 1] but for the noise, got {low:g} to {high:g}; did you mean image / 255? "
            "Replace NaN and infinity"
        )
    return images


def choose_pass(
    model: nn.Module, images: Tensor, sigma: float | None, noise: str, level: float | None, self_ensemble: bool
) -> Pass:
    """How a tile is denoised: once or twice, with or without a further input, as it is or in eight symmetries."""
    channel = None  # [B]: a further input of the network, the same for all tiles
    if isinstance(model, NoiseLevelNormalised):
        channel = estimate_sigma(images) if sigma is None else torch.full((len(images),), sigma)
    if isinstance(model, LevelUNet):
        bound = level if noise == "camera" else sigma
        channel = torch.full((len(images),), 0.0 if bound is None else bound)
    network = ensemble_pass if self_ensemble else single_pass
    if noise == "gaussian" or isinstance(model, LevelUNet):
        return lambda noisy, place: network(model, noisy, channel)
    amplitude = USUAL_LEVEL if level is None else level
    channel = None if channel is None else torch.hypot(channel, torch.tensor(amplitude))  # of both noises

    def two_passes(noisy: Tensor, place: tuple[slice, slice]) -> Tensor:
        rows, columns = (np.arange(part.start, part.stop) % NOISE_PERIOD for part in place)
        added = amplitude * torch.from_numpy(noise_field()[: noisy.shape[1], rows[:, None], columns])
        return network(model, noisy + added, channel).add_(network(model, noisy - added, channel)).div_(2)

    return two_passes


@cache
def noise_field() -> np.ndarray:
    """float32 [3, NOISE_PERIOD, NOISE_PERIOD] of standard deviation 1, the same in every process."""
    return np.random.default_rng(0).standard_normal((3, NOISE_PERIOD, NOISE_PERIOD), dtype=np.float32)


def denoise_tiles(images: Tensor, run: Pass, tiles: list[tuple], progress: bool) -> tuple[Tensor, Tensor]:
    """(denoised images, standard deviation of what was removed from each, float64 [B, 1, 1, 1])."""
    result, removed = torch.empty_like(images), torch.zeros(len(images), 1, 1, 1, dtype=torch.float64)
    for inner, outer in tqdm(tiles, "denoising", unit="tile", file=sys.stdout, leave=False, disable=not progress):
        noisy = as_float(images[(..., *outer)])
        inside = (..., *(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer)))
        denoised = run(noisy, outer)[inside]
        removed += (denoised - noisy[inside]).double().square().sum(dim=(1, 2, 3), keepdim=True)
        result[(..., *inner)] = as_stored(denoised, images.dtype)
    return result, (removed / images[0].numel()).sqrt()


def mix(images: Tensor, result: Tensor, kept: Tensor, tiles: list[tuple]) -> None:
    """Replace result by images + kept * (result - images), tile by tile; kept: [B, 1, 1, 1]."""
    for inner, _ in tiles:
        noisy, denoised = as_float(images[(..., *inner)]), as_float(result[(..., *inner)])
        result[(..., *inner)] = as_stored(noisy + kept.float() * (denoised - noisy), images.dtype)


def as_float(x: Tensor) -> Tensor:
    return (x if x.is_floating_point() else x.float() / SCALES[x.dtype]).cpu()


def as_stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.clamp(0, 1)
    return x if dtype == torch.float32 else (x * SCALES[dtype]).round().to(dtype)


def flips(model: nn.Module, noisy: Tensor, channel: Tensor | None = None) -> Iterator[Tensor]:
    """The network's output for each of the eight flips and quarter turns of an image, turned back; [B, C, H, W] each.

    Their mean is the self-ensemble (Timofte, Rothe, Van Gool, CVPR 2016); their spread says where it is unsure.
    noisy: float32 [B, C, H, W]. channel: [B], a further input of the network.
    """
    height, width = noisy.shape[2:]
    padded = reflected(noisy, model)  # before the turns, or they would shift the network's grid
    for turns in range(4):
        for flip in (False, True):
            turned = torch.rot90(padded, turns, (2, 3))
            output = single_pass(model, turned.flip(3) if flip else turned, channel)
            yield torch.rot90(output.flip(3) if flip else output, -turns, (2, 3))[..., :height, :width]


def ensemble_pass(model: nn.Module, noisy: Tensor, channel: Tensor | None) -> Tensor:
    total = torch.zeros_like(noisy)
    for output in flips(model, noisy, channel):
        total += output
    return total / 8


def single_pass(model: nn.Module, noisy: Tensor, channel: Tensor | None = None) -> Tensor:
    """float32 [B, C, H, W] on the CPU -> the same; a network for RGB gets a grey image as three equal channels."""
    where = next(model.parameters()).device
    channels, height, width = noisy.shape[1:]
    config = getattr(model, "config", {})
    x = reflected(noisy, model)
    if channels == 1 and config.get("unet", config).get("channels") == 3:
        x = x.expand(-1, 3, -1, -1)
    expected = x.shape
    x = to_device(x if channel is None else with_sigma_channel(x, channel), where)
    with torch.no_grad(), autocast(where):
        y = model(x.contiguous(memory_format=torch.channels_last)).float()
    if y.shape != expected:
        raise ValueError(
            f"the network makes {list(y.shape[1:])} of {list(expected[1:])}, expected an image of the same shape; "
            "choose a denoiser's weights"
        )
    return (y.mean(dim=1, keepdim=True) if channels == 1 else y)[..., :height, :width].cpu()


def reflected(noisy: Tensor, model: nn.Module) -> Tensor:
    """noisy, padded by reflection to a multiple of the network's stride.

    The network itself repeats the border, and takes those stripes for an image without noise: it left noise beside them
    up to 40 pixels wide (test_no_band_of_noise_is_left_at_the_border).
    """
    height, width = noisy.shape[2:]
    right, below = -width % stride_of(model), -height % stride_of(model)
    if right < width and below < height:
        return F.pad(noisy, (0, right, 0, below), mode="reflect")
    return noisy  # a few pixels wide


def stride_of(model: nn.Module) -> int:
    stride = getattr(model, "stride", 1)
    return stride if isinstance(stride, int) else 1  # a bare convolution has a pair


def tiles_of(height: int, width: int, model: nn.Module, tile: int | None) -> list[tuple]:
    """((rows, columns) to fill, (rows, columns) to look at) of each tile, as slices."""
    radius = getattr(model, "receptive_radius", None)
    if tile is not None:
        tile = whole_number("tile", tile, 1, fix=f"try tile={TILE}")
        if radius is None:
            raise ValueError(f"{type(model).__name__} has no receptive_radius, which tiles need; pass tile=None")
    if radius is None or (tile is None and max(height, width) <= TILE):
        whole = slice(0, height), slice(0, width)
        return [(whole, whole)]
    # tiles start on the network's own grid of halvings, or it would see the image shifted
    stride = stride_of(model)
    tile, margin = -(-(tile or TILE) // stride) * stride, -(-radius // stride) * stride

    def spans(size: int) -> list[tuple[slice, slice]]:
        edges = [(start, min(start + tile, size)) for start in range(0, size, tile)]
        return [(slice(a, b), slice(max(0, a - margin), min(size, b + margin))) for a, b in edges]

    return [((rows, columns), (seen_rows, seen_columns))
            for rows, seen_rows in spans(height) for columns, seen_columns in spans(width)]  # fmt: skip
