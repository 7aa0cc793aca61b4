"""The denoiser against the field's tables: CBSD68, Set12 and BSD68 at sigma 15, 25 and 50 (of 255), for 07_photos.

    python -m src.studies.photo_benchmarks ../shared/data                   # noisy, NLM, BM3D and the shipped network
    python -m src.studies.photo_benchmarks ../shared/data --weights mine=checkpoints/mine --methods mine
    python -m src.studies.photo_benchmarks --publish denoiser               # a run becomes the shipped network
    python -m src.studies.photo_benchmarks --publish fabrics --average published/denoiser   # its mean with another

The photos are not part of the project (data/README.md). SCORES holds their figures; what it holds is not measured
again. `--out mine.json` measures everything. Protocol: unclipped noise with a seed for each image, output clamped to
[0, 1], PSNR of each image, then the mean; also after rounding to 8 bits, as some papers do.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from src.checkpoint import run_folder
from src.evaluation import bm3d, nlm
from src.files import exit_code, printable, say, write_json
from src.files.fingerprint import weights_sha256
from src.images import ImageSet
from src.metrics import psnr
from src.noise import GaussianNoiseDataset
from src.photos.denoiser import SHIPPED, denoise, load_denoiser
from src.photos.publishing import publish, read_record
from src.photos.train_denoiser import STAGES

SETS = {"CBSD68": ("cbsd68", "RGB"), "Set12": ("set12", "L"), "BSD68": ("bsd68_gray", "L")}  # folder, Pillow's mode
SIGMAS = (15, 25, 50)
SCORES = SHIPPED / "scores.json"
OURS = "ours, drawn"  # the shipped network in SCORES
EIGHTH = "ours, drawn, eighth run"  # what the shipped one was before its last run, that on textured images
TUNED = "ours, tuned on photos"  # the shipped network, trained further on BSD400
DEEPER = "ours, drawn, third block"  # the network of the fourth run, trained further with a third block; not shipped
GREY = "ours, drawn, grey"  # the eighth run's network, trained further on grey images alone; not shipped
GREY_PHOTOS = "ours, photos, grey, conditioned"  # noise-level normalised, on BSD400 in grey
FIRST = "ours, drawn, first run"  # the blind network that its training began with
LABELS = {  # of the methods of SCORES in tables and figures
    "bm3d": "BM3D", "nlm": "NLM", OURS: "ours", f"{OURS}, ensemble": "ours, x8", FIRST: "ours, first run",
    EIGHTH: "run 8", TUNED: "ours, tuned on photos",
    "ours, photos": "ours, first run's network on photos",
    GREY_PHOTOS: "ours, trained on grey photos", GREY: "ours, drawn, grey alone",
}  # fmt: skip
# PSNR in dB at sigma 15, 25, 50: SwinIR's tables 5 and 6 (Liang and others 2021). "FFDNet on VibrantLeaves" (2025) is
# the best result of a network trained on drawn images; their colours are taken from photos
PUBLISHED = {
    "CBSD68": {
        "CBM3D": (33.52, 30.71, 27.38),
        "FFDNet on VibrantLeaves": (33.5, 30.9, 27.7),
        "DnCNN": (33.90, 31.24, 27.95),
        "FFDNet": (33.87, 31.21, 27.96),
        "DRUNet": (34.30, 31.69, 28.51),
        "SwinIR": (34.42, 31.78, 28.56),
    },
    "Set12": {
        "BM3D": (32.37, 29.97, 26.72),
        "DnCNN": (32.86, 30.44, 27.18),
        "FFDNet": (32.75, 30.43, 27.32),
        "DRUNet": (33.25, 30.94, 27.90),
        "SwinIR": (33.36, 31.01, 27.91),
    },
    "BSD68": {
        "BM3D": (31.08, 28.57, 25.60),
        "DnCNN": (31.73, 29.23, 26.23),
        "FFDNet": (31.63, 29.19, 26.29),
        "DRUNet": (31.91, 29.48, 26.59),
        "SwinIR": (31.97, 29.50, 26.58),
    },
}

Method = Callable[[Tensor, float], Tensor]  # (noisy [C, H, W], sigma in [0, 1]) -> denoised [C, H, W]


def noisy_pairs(folder: Path, mode: str, sigma: float) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, noisy, clean) of each image, float32 [C, H, W]; sigma in [0, 1]. FileNotFoundError without the folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no {printable(folder)}, expected a folder of photos; see data/README.md for it")
    for index, path in enumerate(sorted(folder.iterdir())):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode))
        pixels = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1).copy())
        noisy, clean = GaussianNoiseDataset(ImageSet.from_pixels(pixels[None]), sigma, seed=index, fixed=True)[0]
        yield path.name, noisy, clean


def measure(method: Method, folder: Path, mode: str, sigma: int) -> dict:
    """names, psnr and rounded (in dB, for each image) and seconds a megapixel of a method on a folder.

    mode: Pillow's, "RGB" or "L". sigma: in 8-bit levels. Raises FileNotFoundError without the folder.
    """
    found, seconds, pixels = {"names": [], "psnr": [], "rounded": []}, 0.0, 0
    for name, noisy, clean in noisy_pairs(folder, mode, sigma / 255):
        start = time.perf_counter()
        denoised = method(noisy, sigma / 255)
        denoised = noisy if denoised is noisy else denoised.clamp(0, 1)  # the input counts as it is given
        seconds, pixels = seconds + time.perf_counter() - start, pixels + noisy[0].numel()
        found["names"].append(name)
        found["psnr"].append(round(float(psnr(denoised[None], clean[None])), 4))
        found["rounded"].append(round(float(psnr((denoised * 255).round()[None] / 255, clean[None])), 4))
    return found | {"seconds_per_megapixel": round(seconds / pixels * 1e6, 3)}


def network_method(weights: str | Path, self_ensemble: bool = False) -> Method:
    """A network as a method; it is blind."""
    model = load_denoiser(weights)
    return lambda noisy, sigma: denoise(noisy, model, self_ensemble=self_ensemble)


def load_scores(path: Path = SCORES) -> dict:
    """set -> sigma (as text) -> method -> what `measure` found."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def mean_psnr(scores: dict, name: str, method: str) -> list[float]:
    """In dB, of the output rounded to 8 bits, at each of SIGMAS; NaN where it was not measured."""
    found = [scores[name][str(sigma)].get(method) for sigma in SIGMAS]
    return [float(np.mean(x["rounded"])) if x else float("nan") for x in found]


def field_table(scores: dict, name: str, methods: tuple[str, ...] | None = None) -> pd.DataFrame:
    """PSNR in dB on one of SETS, measured here and published, sorted by the first sigma.

    methods: those of the measured ones to show; None: all but FIRST.
    """
    measured = methods or [method for method in scores[name]["25"] if method != FIRST]
    rows = [(LABELS.get(method, method), "measured", *mean_psnr(scores, name, method)) for method in measured]
    rows += [(method, "published", *values) for method, values in PUBLISHED[name].items()]
    columns = ["method", "source", *(f"sigma {sigma}" for sigma in SIGMAS)]
    return pd.DataFrame(rows, columns=columns).set_index("method").sort_values("sigma 15").round(2)


def field_gains(scores: dict, name: str, sigma: int, methods: tuple[str, ...], over: str) -> dict[str, float]:
    """method -> difference in dB from the method `over` at one sigma, sorted; published numbers are marked so."""
    place = SIGMAS.index(sigma)
    values = {LABELS.get(method, method): mean_psnr(scores, name, method)[place] for method in methods}
    values |= {f"{method} (published)": values[place] for method, values in PUBLISHED[name].items()}
    base = mean_psnr(scores, name, over)[place]
    return {method: value - base for method, value in sorted(values.items(), key=lambda item: item[1])}


def paired_differences(scores: dict, name: str, pairs: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Rows "a - b": mean ± standard deviation over the images of the difference in dB, at each sigma of both."""
    rows = {}
    for a, b in pairs:
        row = rows.setdefault(f"{LABELS.get(a, a)} - {LABELS.get(b, b)}", {})
        for sigma in SIGMAS:
            found = scores[name][str(sigma)]
            if {a, b} <= set(found):
                gaps = np.subtract(found[a]["psnr"], found[b]["psnr"])
                row[f"sigma {sigma}"] = f"{gaps.mean():+.2f} ± {gaps.std(ddof=1):.2f}"
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("-")
    return table.rename_axis("dB: mean ± std over the images")


def worst_images(scores: dict, name: str, method: str, other: str, sigma: int = 25, count: int = 3) -> pd.DataFrame:
    """The images on which `method` is furthest behind `other`: `method` - `other` in dB, so a loss is negative."""
    found, label = scores[name][str(sigma)], LABELS.get(other, other)
    gaps = np.subtract(found[method]["psnr"], found[other]["psnr"])
    rounded = gaps.round(2) + 0.0  # no -0.00
    rows = [
        (name, found[method]["names"][i], label, rounded[i], found[method]["psnr"][i]) for i in gaps.argsort()[:count]
    ]
    columns = [f"set, sigma {sigma}", "image", "against", "difference, dB", "PSNR of ours, dB"]
    return pd.DataFrame(rows, columns=columns).round(2)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.studies.photo_benchmarks", description="Measure on CBSD68, Set12 and BSD68."
    )
    parser.add_argument("folder", type=Path, nargs="?", help="holds cbsd68, set12 and bsd68_gray")
    parser.add_argument("--publish", metavar="RUN", help="first copy this run's weights to --to")
    parser.add_argument("--average", nargs="+", default=[], metavar="RUN", help="publish its mean with these runs")
    parser.add_argument("--to", type=Path, default=SHIPPED)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=DIR", help="another network")
    parser.add_argument("--methods", nargs="+", help="these alone")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--out", type=Path, default=SCORES)
    arguments = parser.parse_args(argv)
    return exit_code(lambda: work(arguments))


def work(arguments: argparse.Namespace) -> None:
    if arguments.publish:
        publish_denoiser(arguments.publish, arguments.to, arguments.average)
    if arguments.folder is None:
        return
    networks = {OURS: SHIPPED} | dict(text.split("=", 1) for text in arguments.weights)
    methods: dict[str, Callable[[], Method]] = {
        "noisy": lambda: lambda noisy, sigma: noisy,
        "nlm": lambda: nlm,
        "bm3d": lambda: bm3d,
    }
    hashes = {}  # method -> sha256: what was measured with other weights is measured again
    for name, folder in networks.items():
        methods |= {name: partial(network_method, folder), f"{name}, ensemble": partial(network_method, folder, True)}
        hashes |= dict.fromkeys((name, f"{name}, ensemble"), sha256_of(folder))
    unknown = set(arguments.methods or ()) - set(methods)
    if unknown:
        raise ValueError(f"--methods must be some of {', '.join(methods)}, got {', '.join(unknown)}; name one of those")
    for method in arguments.methods or methods:
        measure_method(method, methods[method](), hashes.get(method), arguments)


def sha256_of(folder: str | Path) -> str:
    """Of a published network's weights as its record has it, or of a run's EMA weights."""
    return read_record(run_folder(folder)).get("sha256") or weights_sha256(load_denoiser(folder).state_dict())


def measure_method(method: str, tool: Method, sha256: str | None, arguments: argparse.Namespace) -> None:
    """Measure a method on each set at each sigma, unless it is in the scores; written after each."""
    jobs = [(name, sigma) for name in arguments.sets for sigma in SIGMAS]
    for name, sigma in tqdm(jobs, method, file=sys.stdout, disable=None):
        scores = load_scores(arguments.out)
        found = scores.setdefault(name, {}).setdefault(str(sigma), {})
        if method in found and found[method].get("weights") == sha256:
            say(f"{name} {sigma} {method} {np.mean(found[method]['psnr']):.3f}, as {arguments.out.name} has it")
            continue
        found[method] = measure(tool, arguments.folder / SETS[name][0], SETS[name][1], sigma)
        found[method] |= {"weights": sha256} if sha256 else {}
        write_json(arguments.out, scores)
        say(f"{name} {sigma} {method} {np.mean(found[method]['psnr']):.3f}")


def publish_denoiser(run: str, target: Path, average: Sequence[str] = ()) -> None:
    """Copy a run of `src.photos.train_denoiser`, or its mean with others, with the commands that make the shipped one.

    The mean of the weights before and after fine-tuning is better on other images than those of the fine-tuning
    (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
    """
    *runs, fabrics, last = [f"python -m src.photos.train_denoiser {options}".strip() for options in STAGES]
    keep = "python -m src.studies.photo_benchmarks --publish"
    commands = [*runs, f"{keep} symmetric --average thickets", fabrics, f"{keep} fabrics --average published/denoiser"]
    publish(run, target, " && ".join([*commands, last, f"{keep} textured"]), average=average)


if __name__ == "__main__":
    sys.exit(main())
