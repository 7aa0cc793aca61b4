"""Images and tables of 08_object_blur_out: what each method sees in a scene, finds and hides."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from src.photos.hand_finder import BLOCKS, Found, blur_out, score_map
from src.photos.photo_files import Photo
from src.studies.hand_methods import (
    COLOUR,
    RECONSTRUCTION,
    SEGMENTATION,
    Method,
    as_float,
    box_iou,
    box_of,
    reconstruct,
    skin_colour_map,
)

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
COLUMNS = {"iou": "box IoU", "recall": "recall", "pixels": "hidden by mask", "boxed": "hidden by box",
           "alarms": "false alarms", "seconds": "ms an image"}  # fmt: skip


def outlined(image: Tensor, found: list[Found], colour: tuple[float, float, float] = RED) -> Tensor:
    """float [3, H, W] with the boxes drawn into it."""
    result, thick = image.clone(), max(1, image.shape[2] // 100)
    for x, y, w, h in (one.box for one in found):
        frame = torch.zeros(image.shape[1:], dtype=torch.bool)
        frame[y : y + h, x : x + w] = True
        frame[y + thick : y + h - thick, x + thick : x + w - thick] = False
        result[:, frame] = torch.tensor(colour, dtype=torch.float32)[:, None]
    return result


def hidden(
    image: Tensor, found: list[Found], mask: bool = False, blocks: int = BLOCKS, smooth: float | None = None
) -> Tensor:
    """float [3, H, W] in [0, 1]: the image as the command writes it."""
    pixels = (image.clamp(0, 1) * 255).round().byte().numpy()
    return torch.from_numpy(blur_out(Photo(pixels), found, mask, blocks, smooth).pixels / np.float32(255))


def enlarged(values: np.ndarray, size: tuple[int, int]) -> Tensor:
    """A map [h, w] or an image [3, h, w] at the finder's resolution -> [3, H, W]."""
    image = torch.from_numpy(np.asarray(values, np.float32))
    return nn.functional.interpolate(image.expand(3, -1, -1)[None], size=size)[0]


def steps(image: Tensor, methods: dict[str, Method], finder: nn.Module, rebuilder: nn.Module) -> dict[str, Tensor]:
    """title -> float [3, H, W]: a scene, the evidence of each method with its box, and the mosaic."""
    size, (_, error) = image.shape[1:], reconstruct(image, rebuilder)
    found = {name: method(image) for name, method in methods.items()}
    evidence = {
        RECONSTRUCTION: 4 * error,
        COLOUR: skin_colour_map(image),
        SEGMENTATION: score_map(image, finder),
    }
    panels = {name: outlined(enlarged(x, size).clamp(0, 1), found[name]) for name, x in evidence.items()}
    return {"scene": image.clamp(0, 1), **panels, "hidden": hidden(image, found[SEGMENTATION])}


def sheet(rows: list[dict[str, Tensor]]) -> tuple[Tensor, list[str], int]:
    """images, titles and columns for `show_images`: a row for each dict."""
    titles = [title for row in rows for title in row]
    return torch.stack([panel for row in rows for panel in row.values()]), titles, len(rows[0])


def worst_scenes(methods: dict[str, Method], scenes: np.ndarray, count: int) -> tuple[Tensor, list[str], int]:
    """images, titles and columns for `show_images`: for each method the scenes on which it is worst.

    Worst is the lowest box IoU, or where there is no hand the largest hidden area. Green is the true box.
    """
    images, titles = [], []
    for name, method in methods.items():
        ranked = []
        for index, scene in enumerate(scenes):
            image, mask = as_float(scene), scene[3] > 127
            found, truth = method(image), [Found(box_of(mask), mask, 1.0)] if mask.any() else []
            iou = box_iou(found[0].box, truth[0].box) if found and truth else float(not found and not truth)
            area = hidden_fraction(found)
            title = f"{name}, IoU {iou:.2f}" if truth else f"{name} hides {area:.0%}"
            panel = outlined(outlined(image, truth, GREEN), found)
            ranked.append((iou if truth else iou - area, index, panel, title))
        for *_, panel, title in sorted(ranked, key=lambda one: one[:2])[:count]:
            images.append(panel)
            titles.append(title)
    return torch.stack(images), titles, count


def hidden_fraction(found: list[Found]) -> float:
    """Fraction of the image that lies in what was found."""
    return float(np.any([one.mask for one in found], axis=0).mean()) if found else 0.0


def plus_minus(values: list[float], digits: int) -> str:
    """Mean ± standard deviation over the seeds; the mean alone of one seed."""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def condition_table(results: dict[str, dict[str, list[dict]]], seconds: bool = False) -> pd.DataFrame:
    """A row for each method and condition of `hand_finding.compare`, mean ± standard deviation over the seeds."""
    rows = {}
    for method, conditions in results.items():
        for condition, runs in conditions.items():
            row = rows.setdefault((method, condition), {})
            for key, title in COLUMNS.items():
                values = [run[key] * (1000 if key == "seconds" else 1) for run in runs if run[key] is not None]
                if key != "seconds" or seconds:
                    row[title] = plus_minus(values, 1 if key == "seconds" else 3) if values else "-"
    return pd.DataFrame.from_dict(rows, orient="index")


def headline_table(scores: dict) -> pd.DataFrame:
    """Three rows: the methods on photos of hands in front of a wall and in drawn rooms, without noise, over seeds."""
    rows = {}
    for method in (SEGMENTATION, RECONSTRUCTION, COLOUR):
        runs = {kind: scores[kind][method]["clean"] for kind in ("photos", "scenes")}
        rows[method] = {
            "IoU, wall": plus_minus([run["iou"] for run in runs["photos"]], 3),
            "IoU, rooms": plus_minus([run["iou"] for run in runs["scenes"]], 3),
            "recall, wall": plus_minus([run["recall"] for run in runs["photos"]], 3),
            "recall, rooms": plus_minus([run["recall"] for run in runs["scenes"]], 3),
            "false alarms, rooms": plus_minus([run["alarms"] for run in runs["scenes"]], 3),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def iou_by_method(scores: dict) -> dict[str, dict[str, tuple[float, float]]]:
    """method -> kind of images -> (mean, standard deviation) of the box IoU over the seeds, for `plot_dots`."""
    rows = {}
    for kind, title in dict(scenes="drawn rooms", photos="photos, in front of a wall").items():
        for method in (SEGMENTATION, RECONSTRUCTION, COLOUR):
            values = [run["iou"] for run in scores[kind][method]["clean"]]
            rows.setdefault(method, {})[title] = (float(np.mean(values)), float(np.std(values, ddof=1)))
    return rows
