"""Photos to show, simulated camera noise, PSNR out against PSNR in, and uncertainty: for 07_photos."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from skimage import data
from torch import Tensor, nn

from src.datasets.camera_noise import Camera, blurred, stages
from src.evaluation import LABELS, Scores
from src.files import ROOT
from src.images import ImageSet
from src.loop import evaluation_mode
from src.metrics import psnr
from src.noise import GaussianNoiseDataset
from src.photos.denoiser import denoise

POLYU = ROOT / "checkpoints/published/07_photos/polyu.json"
POLYU_LABELS = {
    "gaussian": "Gaussian mode", "camera mode, 2 passes": "Gaussian network, two passes",
    "camera network": "camera mode", "camera network, no level": "camera mode, no level",
    "camera network, half the level": "camera mode, half the level",
    "camera network, twice the level": "camera mode, twice the level",
    "OpenCV fastNlMeans 4, 4": "NLM (OpenCV)", "OpenCV bilateral 9, 25, 3": "bilateral filter (OpenCV)",
}  # fmt: skip
POLYU_PUBLISHED = {"NTNet + NAFNet": 38.67}  # dB, by its authors: arXiv 2412.04727


def bundled_photos(names: tuple[str, ...], side: int, whole: bool = False) -> ImageSet:
    """Squares of scikit-image's photos, which may be shown, in RGB; side in pixels.

    whole: the largest square, made smaller, in place of the middle one.
    """
    squares = []
    for name in names:
        pixels = np.atleast_3d(getattr(data, name)())
        square = middle_square(pixels, min(pixels.shape[:2]) if whole else side)
        image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(square, (*square.shape[:2], 3))))
        squares.append(np.asarray(image.resize((side, side), Image.LANCZOS) if whole else image))
    return ImageSet.from_pixels(torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2).copy()), names)


def read_square(photo: str | Path, side: int) -> Tensor:
    """float32 [C, side, side] in [0, 1]: the middle square of a file, or of a bundled photo by its name."""
    if hasattr(data, str(photo)):
        pixels = np.atleast_3d(getattr(data, str(photo))())
    else:
        with Image.open(photo) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return torch.from_numpy(middle_square(pixels, side).transpose(2, 0, 1).astype(np.float32) / 255)


def middle_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """[side, side, C] of [H, W, C], or less where a photo is smaller."""
    top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def noisy_images(images: ImageSet, sigma: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(noisy, clean), float32 [N, C, H, W], with Gaussian noise; sigma in [0, 1]."""
    return GaussianNoiseDataset(images, sigma, seed=seed, fixed=True).batch(list(range(len(images))))


def camera_stages(scenes: Tensor, shot: float = 2e-3, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """step -> (noisy, clean), each [N, 3, H, W] in [0, 1]: what a simulated camera makes of scenes, the JPEG file last.

    scenes: [N, 3, H, W] in [0, 1]. shot: variance of the noise of a white raw value; 2e-3 is a dim room. Each scene has
    a camera of its own, drawn from (seed, index).
    """
    found = {}
    for index, scene in enumerate(scenes):
        rng = np.random.default_rng([seed, index])
        # read noise for this shot noise: Brooks and others 2019
        camera = replace(Camera.drawn(rng), shot=shot, read=math.exp(2.18 * math.log(shot) + 1.2))
        for step, (noisy, clean) in stages(blurred(scene, 0.8), camera, rng).items():  # blurred by the lens
            found.setdefault(step, []).append((noisy, clean.clamp(0, 1)))
    return {step: tuple(torch.stack(part) for part in zip(*pairs)) for step, pairs in found.items()}


def camera_photos(scenes: Tensor, shot: float = 2e-3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(noisy, clean), each [N, 3, H, W] in [0, 1]: JPEG files of a simulated camera, and the same without noise."""
    return camera_stages(scenes, shot, seed)["JPEG"]


def noise_kinds(clean: Tensor, sigma: float, shot: float, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """name -> (noisy, clean), each [N, 3, H, W]: Gaussian noise, and that of a camera after each of its steps."""
    gaussian, _ = noisy_images(ImageSet.from_floats(clean), sigma, seed)
    clipped = (gaussian.clamp(0, 1) * 255).round() / 255
    camera = {f"camera: {step}": pair for step, pair in camera_stages(clean, shot, seed).items()}
    return {"Gaussian": (gaussian, clean), "Gaussian, clipped to 8 bits": (clipped, clean)} | camera


def gain_table(kinds: dict[str, tuple[Tensor, Tensor]], methods: dict[str, Callable[[Tensor], Tensor]]) -> pd.DataFrame:
    """PSNR in dB of each kind of noise, before ("noisy") and after each method."""
    rows = {}
    for kind, (noisy, clean) in kinds.items():
        rows[kind] = {"noisy": float(psnr(noisy, clean).mean())}
        rows[kind] |= {name: float(psnr(method(noisy), clean).mean()) for name, method in methods.items()}
    return pd.DataFrame.from_dict(rows, orient="index").round(2).rename_axis("PSNR (dB)")


def polyu_table(path: Path = POLYU) -> pd.DataFrame:
    """PSNR on PolyU's 100 real photos, as `python -m src.photos.benchmark` measured it, from the lowest up.

    "other 75": without every fourth pair by name, on which the rule for the level was chosen. "improved": photos that
    are nearer to their reference than before.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    chosen_on = set(sorted(record["pairs"])[::4])
    others = np.array([name not in chosen_on for name in record["pairs"]])
    noisy, rows = np.array(record["methods"]["noisy"]["psnr"]), {}
    for name, found in record["methods"].items():
        psnrs = np.array(found["psnr"])
        numbers = (psnrs.mean(), psnrs[others].mean(), 100 * (psnrs > noisy).mean(), found["seconds_per_megapixel"])
        rows[POLYU_LABELS.get(name, name)] = ("measured", *numbers)
    rows |= {name: ("published", value) + (float("nan"),) * 3 for name, value in POLYU_PUBLISHED.items()}
    columns = ["source", "PSNR, dB", "PSNR, other 75", "improved, %", "seconds a megapixel, one core"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).sort_values("PSNR, dB")
    for column, digits in zip(columns[1:], (2, 2, 0, 2)):
        table[column] = ["-" if pd.isna(x) else f"{x:.{digits}f}" for x in table[column]]
    return table


def worst_crops(scores: Scores, side: int = 56, count: int = 2) -> dict[str, Tensor]:
    """Where the network errs most: a crop of each of the `count` worst images, [count, C, side, side], as columns."""
    side = min(side, *scores.clean.shape[2:])
    error = (scores.denoised["unet"] - scores.clean).square().mean(dim=1, keepdim=True)
    step = max(1, side // 4)
    found = F.avg_pool2d(error, side, step)  # [N, 1, rows, columns]
    places = [(float(x.max()), i, *divmod(int(x.argmax()), x.shape[2])) for i, x in enumerate(found)]
    chosen = [(i, step * row, step * column) for _, i, row, column in sorted(places, reverse=True)[:count]]
    best = "bm3d" if "bm3d" in scores.denoised else "nlm"
    columns = {"clean": scores.clean, "noisy": scores.noisy}
    columns |= {LABELS[name]: scores.denoised[name] for name in (best, "unet")}
    return {
        name: torch.stack([images[i, :, top : top + side, left : left + side] for i, top, left in chosen])
        for name, images in columns.items()
    }


def psnr_in_and_out(
    model: nn.Module, images: ImageSet, sigmas: list[float], non_blind: bool = False
) -> list[tuple[float, float]]:
    """(PSNR in, PSNR out) in dB at each sigma, means over the images. non_blind: sigma is given to `denoise`."""
    points = []
    for sigma in sigmas:
        noisy, clean = noisy_images(images, sigma)
        denoised = denoise(noisy, model, sigma=sigma if non_blind else None)
        points.append((float(psnr(noisy, clean).mean()), float(psnr(denoised, clean).mean())))
    return points


@torch.no_grad()
def symmetry_spread(model: nn.Module, noisy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation of the outputs for the eight flips and turns, and error of their mean, each [N, 1, H, W].

    noisy, clean: [N, C, H, W] with H = W; both results are root mean squares over the channels.
    """
    where, outputs = next(model.parameters()).device, []
    with evaluation_mode(model):
        for turns in range(4):
            for flip in (False, True):
                x = torch.rot90(noisy.flip(3) if flip else noisy, turns, (2, 3))
                y = torch.rot90(model(x.to(where)).cpu(), -turns, (2, 3))
                outputs.append(y.flip(3) if flip else y)
    outputs = torch.stack(outputs)  # [8, N, C, H, W]
    error = (outputs.mean(dim=0) - clean).square().mean(dim=1, keepdim=True).sqrt()
    return outputs.var(dim=0).mean(dim=1, keepdim=True).sqrt(), error


def error_by_spread(spread: Tensor, error: Tensor, parts: int = 10) -> list[tuple[float, float]]:
    """(spread, error), root mean squares in 8-bit levels, of the pixels sorted by spread in equal parts."""

    def rms(values: Tensor, chosen: Tensor) -> float:
        return float(values.flatten()[chosen].square().mean().sqrt()) * 255

    order = spread.flatten().argsort()
    return [(rms(spread, chosen), rms(error, chosen)) for chosen in order.tensor_split(parts)]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, between two maps."""
    ranks = [x.flatten().argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])
