"""What the hand finder hides in photos: on photos without a hand, on pages of text, on hands pasted into photos.

    python -m src.studies.hand_photos ../shared/data                             # two tables, some minutes
    python -m src.studies.hand_photos ../shared/data --count 5 --out hands.json  # a few images of each kind

The folder holds bsd400, cbsd68 and sign_digits (data/README.md). Nothing is trained. The figures of the shipped finder
are in PUBLISHED.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage import data
from torch import Tensor, nn

from src.files import ROOT, exit_code, printable, say, write_json
from src.photos.denoiser import load_denoiser
from src.photos.hand_finder import FINDER, Found, box_mask, find_objects, objects_in, score_map
from src.studies.hand_finding import hand_photos
from src.studies.hand_methods import Method, as_float, box_iou, box_of

PUBLISHED = ROOT / "checkpoints/published/finder/photos.json"
SIDE = 224  # of a photo that a hand is pasted into, in pixels
SIZES = (0.25, 0.35, 0.5, 0.7, 1.0)  # of the pasted hand's photo, of that side
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98)
BUNDLED = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry")
# photos that show a person's hand, however small, or one of stone: looked for by eye in contact sheets
WITH_HANDS = {  # stems of the files, as numbers
    "bsd400": (
        102062, 122048, 128035, 145014, 145053, 145059, 146074, 147077, 147080, 15004, 15011, 151087, 153077,
        153093, 157087, 16004, 170054, 181018, 181021, 181079, 181091, 185092, 187029, 187058, 187083, 187099,
        188005, 188025, 189006, 189011, 189013, 189029, 189096, 198004, 198023, 198087, 20069, 202000, 202012,
        206062, 216053, 217013, 220003, 225022, 226022, 226033, 226043, 226060, 230063, 230098, 23025, 23050,
        23080, 23084, 239007, 239096, 243095, 245051, 246016, 246053, 249021, 250047, 258089, 259060, 271008,
        274007, 277053, 281017, 285022, 285036, 286092, 290035, 292066, 293029, 302003, 302022, 309040, 310007,
        323016, 344010, 361084, 365025, 365072, 365073, 368016, 368078, 370036, 372019, 372047, 376001, 376020,
        376086, 384089, 388006, 388016, 388018, 388067, 48055, 49024, 55075, 61060, 61086, 64061, 65019, 65074,
        65084, 71076, 71099, 80085, 80090, 81066, 81090, 90076,
    ),
    "cbsd68": (6, 8, 9, 18, 24, 28, 34, 43, 45, 48, 55, 56, 62),
}  # fmt: skip


def files_without_hands(folder: Path, name: str, count: int) -> list[Path]:
    """Evenly spaced photos of bsd400 or cbsd68 without a hand."""
    if not (folder / name).is_dir():
        raise FileNotFoundError(f"no {printable(folder / name)}, expected photos; see data/README.md for them")
    files = [path for path in sorted((folder / name).iterdir()) if int(path.stem) not in WITH_HANDS[name]]
    return [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int))]


def photos_without_hands(folder: Path, name: str, count: int) -> Iterator[Tensor]:
    """The images of `files_without_hands`, float32 [3, H, W] in [0, 1]."""
    for path in files_without_hands(folder, name, count):
        with Image.open(path) as image:
            yield as_float(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def bundled_without_hands() -> Iterator[Tensor]:
    """Photos that scikit-image brings along, without a hand."""
    for name in BUNDLED:
        yield as_float(getattr(data, name)()[..., :3].transpose(2, 0, 1))


def pages_of_text(count: int = 10) -> Iterator[Tensor]:
    """Pages of this project's licence as a camera or a scanner shows them, float32 [3, 400, 300] in [0, 1]."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()
    font_file = font_manager.findfont("DejaVu Serif")
    for index in range(count):
        rng = np.random.default_rng(index)
        paper, ink = rng.integers((200, 195, 180), 256), rng.integers(0, 90, 3)
        page = Image.new("RGB", (300, 400), tuple(int(x) for x in paper))
        size = 7 + index % 6
        lines = "\n".join(text[(3 * index + k) % len(text)] for k in range(400 // (size + 3)))
        font = ImageFont.truetype(font_file, size)
        ImageDraw.Draw(page).multiline_text((16, 10), lines, tuple(int(x) for x in ink), font, spacing=3)
        yield as_float(
            np.asarray(page.rotate(float(rng.uniform(-3, 3)), fillcolor=page.getpixel((0, 0)))).transpose(2, 0, 1)
        )


def pasted_hands(folder: Path, count: int, seed: int) -> Iterator[tuple[float, Tensor, np.ndarray]]:
    """(size, image [3, SIDE, SIDE], mask [SIDE, SIDE]): hands of sign_digits, soft-edged, in front of photos of bsd400.

    The hand stands on the lower edge, as arms do. size: side of its photo, of SIDE; each of SIZES equally often.
    """
    rng = np.random.default_rng([seed, 21])
    hands = hand_photos(folder / "sign_digits", count)
    photos = [photo for photo in photos_without_hands(folder, "bsd400", min(count, 100))]
    for index, hand in enumerate(hands):
        size = SIZES[index % len(SIZES)]
        side, photo = round(size * SIDE), photos[int(rng.integers(len(photos)))]
        image = squared(photo, SIDE)
        colour = squared(as_float(hand), side)
        soft = ndimage.gaussian_filter(squared(torch.from_numpy(hand[3:] / np.float32(255)), side)[0].numpy(), 0.7)
        left = int(rng.integers(SIDE - side + 1))
        place = (slice(None), slice(SIDE - side, SIDE), slice(left, left + side))
        image[place] += torch.from_numpy(soft) * (colour - image[place])
        mask = np.zeros((SIDE, SIDE), bool)
        mask[place[1:]] = soft > 0.5
        yield size, image, mask


def squared(image: Tensor, side: int) -> Tensor:
    """The middle square of [C, H, W] at [C, side, side], bicubic with antialiasing, clamped to [0, 1]."""
    short = min(image.shape[1:])
    top, left = ((length - short) // 2 for length in image.shape[1:])
    square = image[:, top : top + short, left : left + short][None]
    return torch.nn.functional.interpolate(square, (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)


def hidden_fractions(found: list[Found]) -> tuple[float, float]:
    """Fraction of the image under the boxes (what the command hides) and under the masks of what was found."""
    if not found:
        return 0.0, 0.0
    return tuple(float(np.any(x, axis=0).mean()) for x in ([box_mask(f.mask) for f in found], [f.mask for f in found]))


def measure_without_hands(method: Method, images: Iterator[Tensor]) -> dict:
    """Means over images without a hand: hidden by boxes and by masks, fraction of images with a false alarm."""
    figures = np.array([hidden_fractions(method(image)) for image in images])
    boxes, masks = (round(float(x), 5) for x in figures.mean(axis=0))
    return dict(images=len(figures), boxes=boxes, masks=masks, alarms=round(float((figures[:, 1] > 0).mean()), 5))


def measure_hands(method: Method, scenes: Iterator[tuple[float, Tensor, np.ndarray]]) -> dict[str, dict]:
    """size -> images, mean box IoU of the first object, recall at IoU 0.5 of any object; and "all"."""
    ious = {}
    for size, image, mask in scenes:
        boxes = [box_iou(one.box, box_of(mask)) for one in method(image)]
        for key in (f"{size:g}", "all"):
            ious.setdefault(key, []).append((boxes[0], max(boxes)) if boxes else (0.0, 0.0))
    result = {}
    for key, x in ious.items():
        first, best = np.array(x).T
        iou, recall = round(float(first.mean()), 5), round(float((best >= 0.5).mean()), 5)
        result[key] = dict(images=len(x), iou=iou, recall=recall)
    return result


def measure(method: Method, folder: Path, count: int, seeds: list[int]) -> dict:
    """{"without": kind -> figures, "with": kind -> [figures of `measure_hands`, one a seed]}."""
    without = {
        "bsd400": measure_without_hands(method, photos_without_hands(folder, "bsd400", count)),
        "cbsd68": measure_without_hands(method, photos_without_hands(folder, "cbsd68", count)),
        "scikit-image": measure_without_hands(method, bundled_without_hands()),
        "pages of text": measure_without_hands(method, pages_of_text()),
    }
    wall = ((1.0, as_float(hand), hand[3] > 127) for hand in hand_photos(folder / "sign_digits", count))
    return {
        "without": without,
        "with": {
            "before a wall": [measure_hands(method, wall)],
            "pasted": [measure_hands(method, pasted_hands(folder, count, seed)) for seed in seeds],
        },
    }


def images_without_hands(folder: Path, count: int) -> dict[str, Tensor]:
    """Every image without a hand by its name, such as "cbsd68/0013", "chelsea" or "page 3"."""
    images = {
        f"{name}/{path.stem}": image
        for name in ("bsd400", "cbsd68")
        for path, image in zip(files_without_hands(folder, name, count), photos_without_hands(folder, name, count))
    }
    images |= dict(zip(BUNDLED, bundled_without_hands()))
    return images | {f"page {index}": page for index, page in enumerate(pages_of_text())}


def trade_off(model: nn.Module, folder: Path, count: int, seed: int) -> tuple[dict[str, list], list[dict]]:
    """What each of THRESHOLDS hides and finds, and the ten images of which the default hides most.

    The first: name -> [(threshold, percent)]: hidden by boxes of images without a hand and of pages of text, recall at
    IoU 0.5 of hands before a wall and of pasted ones.
    """
    scores = {name: (score_map(x, model), x.shape[1:]) for name, x in images_without_hands(folder, count).items()}
    wall = [(as_float(hand), hand[3] > 127) for hand in hand_photos(folder / "sign_digits", count)]
    pasted = [(image, mask) for _, image, mask in pasted_hands(folder, count, seed)]
    hands = {"recall, before a wall": wall, "recall, pasted": pasted}
    hands = {name: [(score_map(x, model), mask) for x, mask in scenes] for name, scenes in hands.items()}
    curves = {}
    for threshold in THRESHOLDS:
        hidden = {name: hidden_fractions(objects_in(*one, threshold))[0] for name, one in scores.items()}
        values = {
            "hidden, no hand": list(hidden.values()),
            "hidden, pages": [x for n, x in hidden.items() if "page" in n],
        }
        for name, scenes in hands.items():
            values[name] = [any(box_iou(one.box, box_of(mask)) >= 0.5 for one in objects_in(x, mask.shape, threshold))
                            for x, mask in scenes]  # fmt: skip
        for name, x in values.items():
            curves.setdefault(name, []).append((threshold, round(100 * float(np.mean(x)), 2)))
    hidden = {name: hidden_fractions(objects_in(*one))[0] for name, one in scores.items()}
    worst = sorted(hidden, key=hidden.get)[:-11:-1]
    return curves, [dict(image=name, hidden=round(hidden[name], 3), what="") for name in worst]


def tables(found: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images without a hand, in percent; and hands by relative size where there are several, mean over the seeds."""
    without = pd.DataFrame.from_dict(found["without"], orient="index")
    without[["boxes", "masks", "alarms"]] *= 100
    without = without.rename(columns=dict(boxes="% hidden by boxes", masks="% by masks", alarms="% with a false alarm"))
    rows = {}
    for kind, runs in found["with"].items():
        for size in sorted(set(runs[0]) - {"all"}, key=float) * (len(runs[0]) > 2) + ["all"]:
            means = {key: float(np.mean([run[size][key] for run in runs])) for key in ("iou", "recall")}
            spread = float(np.std([run[size]["iou"] for run in runs], ddof=1)) if len(runs) > 1 else 0.0
            rows[kind, size] = {"images": runs[0][size]["images"], "box IoU": means["iou"], "± seeds": spread,
                                "recall": means["recall"]}  # fmt: skip
    hands = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["", "relative size"])
    return without.round(1), hands.round(3)


def published_tables(path: Path = PUBLISHED) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`tables` of the shipped finder."""
    return tables(json.loads(path.read_text(encoding="utf-8")))


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.studies.hand_photos", description="Measure what the hand finder hides in photos.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="holds bsd400, cbsd68 and sign_digits")
    parser.add_argument("--weights", default=str(FINDER), help="folder of the finder")
    parser.add_argument("--count", type=int, default=500, help="images of each kind at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the pasted hands")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: report(arguments))


def described_as_before(worst: list[dict], path: Path | None) -> list[dict]:
    """The worst images, each with the sentence that a person wrote about it in the file that is replaced."""
    before = json.loads(path.read_text(encoding="utf-8")).get("worst", []) if path and path.exists() else []
    sentences = {one["image"]: one["what"] for one in before}
    return [one | dict(what=sentences.get(one["image"], "")) for one in worst]


def report(arguments: argparse.Namespace) -> None:
    method = partial(find_objects, model=load_denoiser(arguments.weights))
    found = measure(method, arguments.folder, arguments.count, arguments.seeds)
    curves, worst = trade_off(method.keywords["model"], arguments.folder, arguments.count, arguments.seeds[0])
    found |= dict(curves=curves, worst=described_as_before(worst, arguments.out))
    if arguments.out:
        write_json(arguments.out, found)
    for table in tables(found):
        say(f"\n{table.to_string()}")


if __name__ == "__main__":
    sys.exit(main())
