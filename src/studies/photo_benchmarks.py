"""The denoiser against the field's tables: CBSD68, Set12 and BSD68 at sigma 15, 25 and 50 of 255, for 07_photos.

    python notebooks/benchmarks.py ../shared/data                                  noisy, NLM, BM3D and the shipped
    python notebooks/benchmarks.py ../shared/data --weights twin=DIR --methods twin       another network
    python notebooks/benchmarks.py --ship denoiser                  a run's weights to where `load_denoiser` looks

The photos are not part of the project (data/README.md): their figures are, in checkpoints/published/denoiser/
scores.json, and what is in there is not measured again. The field's protocol: noise unclipped, from a seed of its
own for each picture, the output clamped to [0, 1], PSNR of each picture, then the mean; also after rounding to
8 bits, which some of the published figures have and others have not.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from src import GaussianNoiseDataset, ImageSet, psnr
from src.checkpoint import folder, write_json
from src.photos.denoiser import SHIPPED, denoise, load_denoiser
from src.evaluation import bm3d, nlm

SETS = {"CBSD68": ("cbsd68", "RGB"), "Set12": ("set12", "L"), "BSD68": ("bsd68_gray", "L")}
SIGMAS = (15, 25, 50)
SCORES = SHIPPED / "scores.json"
# PSNR in dB at sigma 15, 25, 50: SwinIR's tables 5 and 6 (Liang and others 2021); the best result without photos, but
# for their colours, is said with one decimal
PUBLISHED = {
    "CBSD68": {  # best of drawn: FFDNet on VibrantLeaves (2025), whose colours are of photos
        "CBM3D": (33.52, 30.71, 27.38),
        "best of drawn": (33.5, 30.9, 27.7),
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

# what trained the shipped weights; its twin on photos had other --data and --size, and for --epochs as many steps
COMMAND = (
    "python -m src.train --data data/drawn_photos --size 256 --sigma 0 55/255 --grey 0.25 --loss psnr --batch 16 "
    "--crop 64 --widths 32 64 128 192 --most-train 100000 --most-held-out 24 --held-out 0.05 --epochs {epochs} "
    "--cooldown {cooldown} --run denoiser"
)

Method = Callable[[Tensor, float], Tensor]


def pairs(folder: Path, mode: str, sigma: float):
    """Yield (name, noisy, clean) of each picture, float32 [C, H, W]; sigma in [0, 1] units."""
    for index, path in enumerate(sorted(folder.iterdir())):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode))
        pixels = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1).copy())
        noisy, clean = GaussianNoiseDataset(ImageSet.from_pixels(pixels[None]), sigma, seed=index, fixed=True)[0]
        yield path.name, noisy, clean


def measure(method: Method, folder: Path, mode: str, sigma: int) -> dict:
    """names, psnr and rounded (in dB, a picture each) and seconds a megapixel of a method on a folder."""
    found, spent, seen = {"names": [], "psnr": [], "rounded": []}, 0.0, 0
    for name, noisy, clean in pairs(folder, mode, sigma / 255):
        start = time.perf_counter()
        denoised = method(noisy, sigma / 255).clamp(0, 1)
        spent, seen = spent + time.perf_counter() - start, seen + noisy[0].numel()
        found["names"].append(name)
        found["psnr"].append(round(float(psnr(denoised[None], clean[None])), 4))
        found["rounded"].append(round(float(psnr((denoised * 255).round()[None] / 255, clean[None])), 4))
    return found | {"seconds_per_megapixel": round(spent / seen * 1e6, 3)}


def network(weights: str | Path, ensemble: bool = False) -> Method:
    """A network as a method; it is not told sigma."""
    model = load_denoiser(weights)
    return lambda noisy, sigma: denoise(noisy, model, ensemble=ensemble)


def ship(run: str | Path, target: Path = SHIPPED, command: str = COMMAND, also: dict | None = None) -> None:
    """Write the averaged weights of a run's last epoch and its record as `load_denoiser` reads them.

    command: what trains it again, with {epochs} and {cooldown} where they belong; also: further entries of the record.
    """
    state = torch.load(folder(run) / "state.pt", map_location="cpu", weights_only=True)
    record = json.loads((folder(run) / "record.json").read_text())
    target.mkdir(parents=True, exist_ok=True)
    torch.save(state["model"], target / "weights.pt")
    epochs, data = len(state["history"]), (target / "weights.pt").read_bytes()
    command = command.format(epochs=epochs, cooldown=record["key"]["config"].get("cooldown", 0))
    record |= dict(epochs=epochs, command=command, sha256=hashlib.sha256(data).hexdigest(), **(also or {}))
    record["history"] = record["history"][:epochs]
    write_json(target / "record.json", record)


def scores() -> dict:
    """set -> sigma (as text) -> method -> what `measure` found."""
    return json.loads(SCORES.read_text()) if SCORES.exists() else {}


def mean_psnr(found: dict, name: str, method: str, figure: str = "psnr") -> list[float]:
    """In dB, at each of SIGMAS; NaN where it was not measured."""
    there = [found[name][str(sigma)].get(method) for sigma in SIGMAS]
    return [float(np.mean(x[figure])) if x else float("nan") for x in there]


def difference(found: dict, name: str, method: str, other: str) -> str:
    """method less other in words: the mean and the deviation over the pictures, at each sigma of both."""
    measured = [s for s in SIGMAS if {method, other} <= set(found[name][str(s)])]
    gaps = [np.subtract(*(found[name][str(s)][tool]["psnr"] for tool in (method, other))) for s in measured]
    return (
        ", ".join(f"{gap.mean():+.2f} ± {gap.std(ddof=1):.2f}" for gap in gaps)
        + f" dB at sigma {', '.join(map(str, measured))}"
    )


def behind(found: dict, name: str, method: str, published: str) -> str:
    """method less a published figure, in words."""
    gaps = np.subtract(mean_psnr(found, name, method), PUBLISHED[name][published])
    return f"{published}, published: " + ", ".join(f"{gap:+.2f}" for gap in gaps) + " dB at sigma 15, 25, 50"


def seconds(found: dict, name: str) -> str:
    """What each method took a megapixel, in words."""
    return ", ".join(f"{method} {x['seconds_per_megapixel']:.2f}" for method, x in found[name]["15"].items())


def furthest(found: dict, name: str, method: str, other: str, sigma: int = 25, count: int = 3) -> str:
    """The pictures on which `method` is furthest behind `other`, in words."""
    place = found[name][str(sigma)]
    if not {method, other} <= set(place):
        return f"{name}, sigma {sigma}, {method} against {other}: not measured"
    gaps = np.subtract(place[method]["psnr"], place[other]["psnr"])
    rows = [f"{place[method]['names'][i]} {gaps[i]:+.2f} dB ({place[method]['psnr'][i]:.2f})" for i in gaps.argsort()]
    return f"{name}, sigma {sigma}, {method} against {other}: " + ", ".join(rows[:count])


def record_of(weights: str | Path) -> dict:
    """The record.json beside a network's weights."""
    return json.loads((Path(weights) / "record.json").read_text())


def by_hours(record: dict) -> str:
    """How long a run took, by its history."""
    return f"{sum(entry['seconds'] for entry in record['history']) / 3600:.1f} hours"


def table(found: dict, name: str) -> str:
    """Measured here, and published, the mean over the pictures in dB, from the lowest up."""
    methods = dict.fromkeys(method for sigma in SIGMAS for method in found[name][str(sigma)])
    here = {method: mean_psnr(found, name, method) for method in methods}
    rounded = {method: mean_psnr(found, name, method, "rounded") for method in here}
    count = len(found[name]["15"]["noisy"]["psnr"])
    lines = [
        f"{f'{name}, {count} pictures':43s}" + "".join(f"{f'sigma {s}':>11s}" for s in SIGMAS) + "    8-bit rounded"
    ]
    rows = [(values, method, True) for method, values in here.items()]
    rows += [(list(values), f"{method}, published", False) for method, values in PUBLISHED[name].items()]
    for values, method, measured in sorted(rows, key=lambda row: row[0][0]):
        line = f"{method:43s}" + "".join(f"{value:11.2f}" for value in values)
        line += "    " + " / ".join(f"{v:.2f}" for v in rounded[method]) if measured else ""
        lines.append(line.replace("nan", "  -"))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.py", description="Measure on CBSD68, Set12 and BSD68.")
    parser.add_argument("folder", type=Path, nargs="?", help="holds cbsd68, set12 and bsd68_gray")
    parser.add_argument("--ship", metavar="RUN", help="first copy this run's weights to --to")
    parser.add_argument("--to", type=Path, default=SHIPPED)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=DIR", help="another network")
    parser.add_argument("--methods", nargs="+", help="these alone")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--out", type=Path, default=SCORES)
    arguments = parser.parse_args(argv)
    if arguments.ship:
        ship(arguments.ship, arguments.to)
    if arguments.folder is None:
        return 0
    methods: dict[str, Callable[[], Method]] = {
        "noisy": lambda: lambda noisy, sigma: noisy,
        "nlm": lambda: nlm,
        "bm3d": lambda: bm3d,
    }
    weights = {}  # method -> sha256: what was measured with other weights is measured again
    for name, _, place in [("ours, drawn", "", SHIPPED), *(text.partition("=") for text in arguments.weights)]:
        methods |= {name: partial(network, place), f"{name}, ensemble": partial(network, place, ensemble=True)}
        weights |= dict.fromkeys((name, f"{name}, ensemble"), record_of(place)["sha256"])
    for method in arguments.methods or methods:
        tool = methods[method]()
        jobs = [(name, sigma) for name in arguments.sets for sigma in SIGMAS]
        for name, sigma in tqdm(jobs, method, file=sys.stdout, disable=None):
            found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
            place = found.setdefault(name, {}).setdefault(str(sigma), {})
            if method in place and place[method].get("weights") == weights.get(method):
                continue
            place[method] = measure(tool, arguments.folder / SETS[name][0], SETS[name][1], sigma)
            place[method] |= {"weights": weights[method]} if method in weights else {}
            write_json(arguments.out, found)
            print(name, sigma, method, round(float(np.mean(place[method]["psnr"])), 3), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
