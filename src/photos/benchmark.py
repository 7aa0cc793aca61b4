"""Measure denoisers on pairs of real photos: `*_real.*` is noisy, `*_mean.*` of the same name its reference.

    python -m src.photos.benchmark FOLDER                     # all methods, a table
    python -m src.photos.benchmark FOLDER --limit 10 --out scores.json
    python -m src.photos.benchmark FOLDER --methods "camera network" "camera mode, 2 passes"
    python -m src.photos.benchmark FOLDER --clean CLEAN       # also what is lost of clean images

PSNR over RGB with data range 1, the 8-bit output against the reference, mean over the images. OpenCV and BM3D are
measured where they are installed (pip install opencv-python-headless bm3d). The level comes from the ISO number in the
name (`..._3200_...` or `..._iso3200_...`), else it is 16/255.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from src.device import environment
from src.evaluation import bm3d
from src.files import exit_code, printable, say, whole_number, write_json
from src.files.decoding import SUFFIXES, decode, natural_order
from src.metrics import psnr
from src.photos.denoiser import CAMERA, SHIPPED, USUAL_LEVEL, denoise, level_of_iso, load_denoiser

BM3D_SIGMA = 15 / 255  # its best on PolyU; with the true standard deviation it leaves correlated noise
Method = Callable[[Tensor, float], Tensor]  # (uint8 [3, H, W], level) -> uint8 [3, H, W]


def iso_in(name: str) -> int | None:
    """The ISO number in a file's name: after "iso", or a part between underscores of 100 to 409600."""
    found = re.search(r"iso[_-]?(\d{2,6})", name, re.IGNORECASE)
    if found:
        return int(found[1])
    numbers = [int(part) for part in name.split("_")[2:] if re.fullmatch(r"[1-9]\d{2,5}", part)]
    return numbers[-1] if numbers else None


def camera_in(name: str) -> str:
    """The part of a file's name before the first underscore."""
    return name.split("_")[0]


def photo_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """(noisy, reference) files of a folder in natural order; ValueError where there are none or one is missing."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    references = {path.stem.removesuffix("_mean"): path for path in files if path.stem.endswith("_mean")}
    noisy = sorted((path for path in files if path.stem.endswith("_real")), key=lambda path: natural_order(path.name))
    if not noisy:
        raise ValueError(
            f"{printable(folder)} holds no *_real.* image, expected pairs *_real.*, *_mean.*; check the path"
        )
    missing = [path.name for path in noisy if path.stem.removesuffix("_real") not in references]
    if missing:
        raise ValueError(f"{printable(missing[0])} has no reference, expected a *_mean.* beside it; add or remove it")
    return [(path, references[path.stem.removesuffix("_real")]) for path in noisy]


def methods() -> dict[str, Method]:
    """Name -> method, of all that are installed."""
    gaussian, network = load_denoiser(SHIPPED), load_denoiser(CAMERA)
    found: dict[str, Method] = {
        "noisy": lambda noisy, level: noisy,
        "gaussian": lambda noisy, level: denoise(noisy, gaussian),
        "camera mode, 2 passes": lambda noisy, level: denoise(noisy, gaussian, noise="camera", level=level),
        "camera network": lambda noisy, level: denoise(noisy, network, noise="camera", level=level),
        "camera network, half the level": lambda noisy, level: denoise(noisy, network, noise="camera", level=level / 2),
        "camera network, twice the level": lambda noisy, level: denoise(
            noisy, network, noise="camera", level=min(1, 2 * level)
        ),
        "camera network, no level": lambda noisy, level: denoise(noisy, network, noise="camera"),
    }
    if find_spec("cv2"):
        found |= {"OpenCV fastNlMeans 4, 4": fast_nl_means, "OpenCV bilateral 9, 25, 3": bilateral}
    if find_spec("bm3d"):
        found["BM3D, sigma 15/255"] = bm3d_of_8_bits
    return found


def fast_nl_means(noisy: Tensor, level: float) -> Tensor:
    import cv2

    return from_cv2(cv2.fastNlMeansDenoisingColored(to_cv2(noisy), None, 4, 4, 7, 21))


def bilateral(noisy: Tensor, level: float) -> Tensor:
    import cv2

    return from_cv2(cv2.bilateralFilter(to_cv2(noisy), 9, 25, 3))


def to_cv2(image: Tensor) -> np.ndarray:
    """uint8 [3, H, W] -> uint8 [H, W, 3], blue first."""
    return np.ascontiguousarray(image.flip(0).permute(1, 2, 0).numpy())


def from_cv2(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))


def bm3d_of_8_bits(noisy: Tensor, level: float) -> Tensor:
    return (bm3d(noisy.float() / 255, BM3D_SIGMA).clamp(0, 1) * 255).round().byte()


def measure(method: Method, pairs: list[tuple[Path, Path]], name: str) -> dict:
    """{"psnr": [dB of each pair], "seconds_per_megapixel"}; the time is the method's alone."""
    figures, seconds, pixels = [], 0.0, 0
    for noisy_file, clean_file in tqdm(pairs, name, leave=False, file=sys.stdout, disable=None):
        noisy, clean = (torch.from_numpy(decode(path, None, 3)) for path in (noisy_file, clean_file))
        if noisy.shape != clean.shape:
            raise ValueError(
                f"{printable(noisy_file.name)} is {list(noisy.shape)} but its reference {list(clean.shape)}, expected "
                "one size; cut them to the same part"
            )
        iso = iso_in(noisy_file.stem)
        level = USUAL_LEVEL if iso is None else level_of_iso(iso)
        start = time.perf_counter()
        denoised = method(noisy, level)
        seconds, pixels = seconds + time.perf_counter() - start, pixels + noisy[0].numel()
        figures.append(round(float(psnr(denoised[None].float() / 255, clean[None].float() / 255)), 4))
    return dict(psnr=figures, seconds_per_megapixel=round(seconds / pixels * 1e6, 3))


def table(scores: dict) -> str:
    """Mean PSNR in dB of each method, of all pairs and by camera where the names tell, and seconds a megapixel."""
    cameras = [camera_in(name) for name in scores["pairs"]]
    columns = [None, *dict.fromkeys(cameras)] if 1 < len(set(cameras)) < len(cameras) else [None]
    header = [f"all {len(cameras)}", *(f"{camera} {cameras.count(camera)}" for camera in columns[1:]), "s/megapixel"]
    widths = [max(7, len(title)) + 2 for title in header]
    lines = [f"{'PSNR in dB':34s}" + "".join(f"{title:>{width}s}" for title, width in zip(header, widths))]
    for name, found in scores["methods"].items():
        means = [np.mean([x for x, c in zip(found["psnr"], cameras) if column in (None, c)]) for column in columns]
        cells = [f"{mean:.2f}" for mean in means] + [f"{found['seconds_per_megapixel']:.2f}"]
        lines.append(f"{name:34s}" + "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths)))
    return "\n".join(lines)


def failures(scores: dict, method: str = "camera network", count: int = 3) -> list[dict]:
    """The pairs on which `method` is furthest behind the best other method, doing nothing included."""
    others = {name: found["psnr"] for name, found in scores["methods"].items() if not name.startswith(method)}
    if method not in scores["methods"] or not others:
        return []
    found = []
    for index, (pair, figure) in enumerate(zip(scores["pairs"], scores["methods"][method]["psnr"])):
        best = max(others, key=lambda name: others[name][index])
        found.append(dict(pair=pair, psnr=figure, best=best, best_psnr=others[best][index]))
    return sorted(found, key=lambda failure: failure["psnr"] - failure["best_psnr"])[:count]


def measure_clean(folder: Path, available: dict[str, Method]) -> dict:
    """PSNR in dB of every second image of a folder against itself after denoising, mean over the images."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[::2]
    if not files:
        raise ValueError(f"{printable(folder)} holds no images, expected clean ones; check the path")
    figures = {}
    for name in ("gaussian", "camera network, no level", "camera network"):
        scores = []
        for path in tqdm(files, f"clean, {name}", leave=False, file=sys.stdout, disable=None):
            clean = torch.from_numpy(decode(path, None, 3))
            denoised = available[name](clean, USUAL_LEVEL)
            scores.append(float(psnr(denoised[None].float() / 255, clean[None].float() / 255)))
        figures[name] = round(float(np.mean(scores)), 3)
    return dict(folder=folder.resolve().name, images=len(files), psnr=figures)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.photos.benchmark", description="Measure denoisers on pairs of real photos."
    )
    parser.add_argument("folder", type=Path, help="holds pairs *_real.* and *_mean.*")
    parser.add_argument("--limit", type=int, help="only so many pairs, evenly spaced")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these; their names stand in the table")
    parser.add_argument("--clean", type=Path, metavar="DIR", help="clean images, of which every second is measured")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures of each pair as JSON")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: benchmark(arguments))


def benchmark(arguments: argparse.Namespace) -> None:
    pairs = photo_pairs(arguments.folder)
    if arguments.limit is not None:
        limit = min(whole_number("--limit", arguments.limit, 1), len(pairs))
        pairs = [
            pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).round().astype(int))
        ]
    available = methods()
    unknown = [name for name in arguments.methods or () if name not in available]
    if unknown:
        raise ValueError(f"no method {unknown[0]!r}, expected some of {list(available)}; check the spelling")
    scores = dict(folder=arguments.folder.resolve().name, pairs=[noisy.stem for noisy, _ in pairs],
                  environment=environment(), methods={})  # fmt: skip
    for name in arguments.methods or available:
        scores["methods"][name] = measure(available[name], pairs, name)
        if arguments.out is not None:
            write_json(arguments.out, scores)
    scores["failures"] = failures(scores)
    if arguments.clean is not None:
        scores["clean"] = measure_clean(arguments.clean, available)
    if arguments.out is not None:
        write_json(arguments.out, scores)
    say(table(scores))
    for failure in scores["failures"]:
        say("{pair}: camera network {psnr:.2f} dB, {best} {best_psnr:.2f} dB".format(**failure))
    for name, figure in scores.get("clean", {}).get("psnr", {}).items():
        say(f"clean images, {name}: {figure:.2f} dB")


if __name__ == "__main__":
    sys.exit(main())
