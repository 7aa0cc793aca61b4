"""What 07_photos shows and measures with: the bundled photos, curves over sigma, a camera's noise, uncertainty."""

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import data
from torch import Tensor, nn

from src import GaussianNoiseDataset, ImageSet, denoise, estimate_sigma, psnr
from src.photos.denoiser import flips


def bundled(names: tuple[str, ...], side: int) -> ImageSet:
    """The middle squares of scikit-image's photos, which may be shown; side in pixels."""
    squares = []
    for name in names:
        image = getattr(data, name)()
        top, left = ((size - side) // 2 for size in image.shape[:2])
        squares.append(image[top : top + side, left : left + side])
    return ImageSet.from_pixels(torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2).copy()), names)


def noisy(images: ImageSet, sigma: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(noisy, clean), float32 [N, C, H, W]; sigma in [0, 1] units."""
    pairs = GaussianNoiseDataset(images, sigma, seed=seed, fixed=True)
    return pairs.batch(list(range(len(images))))


def in_and_out(
    model: nn.Module, images: ImageSet, sigmas: list[float], told: bool = False
) -> list[tuple[float, float]]:
    """(PSNR in, PSNR out) in dB at each sigma, means over the images; told: the network is given sigma."""
    points = []
    for sigma in sigmas:
        given, clean = noisy(images, sigma)
        restored = denoise(given, model, sigma=sigma if told else None)
        points.append((float(psnr(given, clean).mean()), float(psnr(restored, clean).mean())))
    return points


def own_photo(place: str, side: int) -> Tensor:
    """float32 [C, H, W] in [0, 1]: the middle square of a file, or of a bundled photo by its name."""
    if hasattr(data, place):
        pixels = np.atleast_3d(getattr(data, place)())
    else:
        with Image.open(place) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
    pixels = pixels[top : top + side, left : left + side].transpose(2, 0, 1)
    return torch.from_numpy(pixels.astype(np.float32) / 255)


def spread_and_error(model: nn.Module, given: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Deviation of the eight flips and error of their mean, each [N, 1, H, W], over the channels."""
    answers = torch.stack([*flips(model, given)])  # [8, N, C, H, W]
    error = (answers.mean(dim=0) - clean).square().mean(dim=1, keepdim=True).sqrt()
    return answers.var(dim=0).mean(dim=1, keepdim=True).sqrt(), error


def error_by_spread(spread: Tensor, error: Tensor, parts: int = 10) -> list[tuple[float, float]]:
    """(spread, error), both root mean square in grey levels of 255, of the pixels sorted by their spread into parts."""
    order = spread.flatten().argsort()
    rms = lambda x, chosen: float(x.flatten()[chosen].square().mean().sqrt()) * 255  # noqa: E731
    return [(rms(spread, chosen), rms(error, chosen)) for chosen in order.tensor_split(parts)]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, between two maps."""
    ranks = [x.flatten().argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


# a camera's noise, step by step, each [N, 3, H, W] in [0, 1] from clean and a generator

Draw = np.random.Generator


def gaussian(clean: Tensor, sigma: float, draw: Draw) -> Tensor:
    """What the network was trained on."""
    return clean + sigma * torch.from_numpy(draw.standard_normal(clean.shape, np.float32))


def photons(clean: Tensor, full: float, draw: Draw) -> Tensor:
    """Counted light: variance grows with brightness, in linear light (gamma 2.2); full: photons of a white pixel."""
    counts = draw.poisson(clean.double().numpy() ** 2.2 * full)
    return torch.from_numpy((counts / full).clip(0, 4) ** (1 / 2.2)).float()


def mosaic(clean: Tensor, full: float, draw: Draw) -> Tensor:
    """Counted light behind a Bayer mosaic, whose two missing colours are then interpolated: noise in blots."""
    counts = torch.from_numpy(draw.poisson(clean.double().numpy() ** 2.2 * full) / full).float()
    seen = torch.zeros(1, 3, *clean.shape[2:])
    seen[:, 0, ::2, ::2] = seen[:, 1, ::2, 1::2] = seen[:, 1, 1::2, ::2] = seen[:, 2, 1::2, 1::2] = 1
    near = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(3, 1, 3, 3)
    spread = lambda x: nn.functional.conv2d(x, near, padding=1, groups=3)  # noqa: E731
    filled = torch.where(seen > 0, counts, spread(counts * seen) / spread(seen.expand_as(counts)))
    return filled.clamp(0, 4) ** (1 / 2.2)


def jpeg(image: Tensor, quality: int = 90) -> Tensor:
    """Written as a JPEG file and read again."""
    read = []
    for picture in (image.clamp(0, 1) * 255).round().byte():
        file = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        read.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(read).transpose(0, 3, 1, 2).copy()).float() / 255


def kinds_of_noise(clean: Tensor, sigma: float, full: float, seed: int = 0) -> dict[str, Tensor]:
    """name -> noisy pictures: Gaussian noise, and a camera's with what happens to it on the way to the file."""
    draw = lambda k: np.random.default_rng([seed, k])  # noqa: E731
    return {
        "Gaussian": gaussian(clean, sigma, draw(0)),
        "Gaussian, clipped, 8 bits": (gaussian(clean, sigma, draw(0)).clamp(0, 1) * 255).round() / 255,
        "photons": photons(clean, full, draw(1)),
        "photons, mosaic": mosaic(clean, full, draw(2)),
        "photons, mosaic, JPEG": jpeg(mosaic(clean, full, draw(2))),
    }


def gain(model: nn.Module, kinds: dict[str, Tensor], clean: Tensor) -> str:
    """A table: PSNR of each kind before and after, as it comes and with grain=3, and sigma estimated from the picture."""
    lines = [
        f"{'noise':28s}{'before':>10s}{'denoised':>10s}{'gain':>8s}{'grain 3':>10s}{'gain':>8s}{'estimated sigma':>18s}"
    ]
    for name, given in kinds.items():
        answers = (given, denoise(given, model), denoise(given, model, grain=3))
        before, after, grained = (float(psnr(x, clean).mean()) for x in answers)
        level = float(estimate_sigma(given).mean()) * 255
        figures = f"{after:10.2f}{after - before:+8.2f}{grained:10.2f}{grained - before:+8.2f}{level:18.1f}"
        lines.append(f"{name:28s}{before:10.2f}{figures}")
    return "\n".join(lines)
