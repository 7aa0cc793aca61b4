"""Find the hands in an image and hide them under a mosaic that cannot be undone: the project's first idea of 2021.

    found = find_objects(image)                # float32 [3, H, W] in [0, 1]
    hidden = blur_out(read_photo("photo.jpg"), found)

The finder is a small UNet: a score for each pixel, times the probability that the image shows a hand at all. It was
trained on hands and other things that this repository draws (train_finder.py, which also trains one for objects of your
own). `python -m src.photos blur-out` is the command for files.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyvips
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from src.checkpoint import run_folder
from src.device import autocast, to_device
from src.files import described
from src.photos.denoiser import load_denoiser
from src.photos.photo_files import Photo, without_previews

FINDER = run_folder("published/finder")
SIDES = (48, 96, 160)  # pixels of the longer side at which an image is seen: large hands are found at the first
SIDE = 128  # pixels of the longer side, for which the next two hold
MARGIN = 3  # of those pixels, by which what is hidden extends beyond what was found
SMALLEST = 24  # of those pixels: a smaller region is no object
THRESHOLD = 0.4  # score that some pixel of an object must have,
EXTENT = 0.25  # and score that all its pixels must have
BLOCKS = 5  # along the longer side of the largest object
MOST_BLOCKS = 6  # with ten, people still see which fingers are stretched
LEAST_BLUR = 0.3  # width relative to that side; at 0.2 the finder itself still found some hands again


@dataclass(frozen=True)
class Found:
    """An object. box: (x, y, w, h) in pixels of the image as stored; mask: bool [H, W], the object and a margin;
    confidence: mean score of its pixels, in [0, 1]."""

    box: tuple[int, int, int, int]
    mask: np.ndarray
    confidence: float


def load_finder(weights: str | Path = FINDER) -> nn.Module:
    """The shipped network that finds hands, or a run of your own; raises as `load_denoiser` does."""
    return load_denoiser(weights)


def shrink(image: Tensor, side: int = SIDE) -> Tensor:
    """float32 [C, H, W] in [0, 1] -> [C, h, w], whose longer side has so many pixels."""
    height, width = image.shape[1:]
    scale = side / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


@torch.no_grad()
def score_map(image: Tensor, model: nn.Module, scales: int = 1) -> np.ndarray:
    """How sure the finder is of each pixel: float32 [h, w] in [0, 1], of the image at the last of its sides.

    The image is seen at SIDES. The largest mean of the scores at two neighbouring sides counts: what is seen at one
    side alone is seldom a hand (PROGRESS.md). scales: 2 at twice the last side besides, 3 at four times.
    """
    where, maps = next(model.parameters()).device, []
    for side in (*SIDES, *(SIDES[-1] * 2**scale for scale in range(1, scales))):
        with autocast(where):
            score = model(to_device(shrink(image, side)[None], where))[:, :1]
            maps.append(score.float().cpu().clamp(0, 1))
    size = maps[-1].shape[2:]
    scores = torch.cat([F.interpolate(x, size, mode="bilinear") for x in maps])[:, 0]  # [sides, h, w]
    return ((scores[:-1] + scores[1:]) / 2).amax(dim=0).numpy()


def objects_in(
    scores: np.ndarray, size: tuple[int, int], threshold: float = THRESHOLD, extent: float = EXTENT
) -> list[Found]:
    """The objects of a score map, float32 [h, w], the largest first; size: the image's (H, W) in pixels.

    An object is a region above `extent` that has something above `threshold` (hysteresis, Canny 1986). Parts closer to
    each other than twice MARGIN are one object, such as a hand with a ring or a bracelet.
    """
    unit = max(1, round(max(scores.shape) / SIDE))  # pixels of the map for one of SIDE
    regions = label_regions(scores > min(extent, threshold))
    sure = np.zeros(regions.max() + 1, bool)  # of each region: has it something above the threshold?
    sure[regions[scores > threshold]] = True
    inside, result = sure[regions], []
    if not inside.any():
        return result
    regions = join_diagonals(label_regions(dilate(inside, MARGIN * unit)))
    for number in np.flatnonzero(np.bincount(regions[inside])):
        own, mask = inside & (regions == number), torch.from_numpy(regions == number)[None, None].float()
        if own.sum() < SMALLEST * unit**2:
            continue
        rows, columns = limits(own)
        (top, bottom), (left, right) = scaled(rows, own.shape[0], size[0]), scaled(columns, own.shape[1], size[1])
        # of an image smaller than its map, each pixel takes the most of those that fall on it: none is missed
        larger = size[0] > own.shape[0]
        mask = F.interpolate(mask, size, mode="bilinear") if larger else F.adaptive_max_pool2d(mask, size)
        box = (left, top, right - left, bottom - top)
        result.append(Found(box, mask[0, 0].numpy() > 0.1, round(float(scores[own].mean()), 3)))
    return sorted(result, key=lambda found: -found.mask.sum())


def find_objects(
    image: Tensor, model: nn.Module | None = None, threshold: float = THRESHOLD, scales: int = 1
) -> list[Found]:
    """The hands in an image, float32 [C, H, W] in [0, 1], C = 1 or 3, the most confident first; ValueError for another.

    threshold: score that some pixel of an object must have, in (0, 1): lower finds more, also what is no hand.
    scales: 1 finds most hands from a quarter of the image's longer side up, 2 those half as large, at four times the
    cost and with many more false alarms: 08_object_blur_out.
    """
    if not torch.is_tensor(image) or image.ndim != 3 or image.shape[0] not in (1, 3) or image.dtype != torch.float32:
        raise ValueError(
            f"image must be float32 [3, H, W] or [1, H, W], got {described(image)}; a batch goes image by image"
        )
    if 0 in image.shape or not torch.isfinite(image).all():
        raise ValueError(f"image {list(image.shape)} is empty or holds NaN or infinity, expected numbers; replace them")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold:g}; the default is {THRESHOLD}")
    if scales not in (1, 2, 3):
        raise ValueError(f"scales must be 1, 2 or 3, got {scales!r}; 1 is the default")
    model = load_finder() if model is None else model
    found = objects_in(score_map(image.expand(3, -1, -1), model, scales), tuple(image.shape[1:]), threshold)
    return sorted(found, key=lambda one: -one.confidence)


def label_regions(mask: np.ndarray) -> np.ndarray:
    """int [h, w]: a number from 1 for each 4-connected region of True pixels, 0 elsewhere."""
    labels = pyvips.Image.new_from_array(mask.astype(np.uint8)).labelregions().numpy()  # of False regions, too
    return np.where(mask, labels + 1, 0)


def join_diagonals(labels: np.ndarray) -> np.ndarray:
    """labels, int [h, w], changed in place: regions that touch at a corner get one number."""
    for a, b in ((labels[:-1, :-1], labels[1:, 1:]), (labels[:-1, 1:], labels[1:, :-1])):
        while (touching := (a != b) & (a > 0) & (b > 0)).any():
            labels[labels == b[touching][0]] = a[touching][0]  # a and b are views of it
    return labels


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """bool [h, w]: True within `radius` pixels of a True pixel."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = torch.from_numpy(x**2 + y**2 <= radius**2)[None, None].float()
    return F.conv2d(torch.from_numpy(mask)[None, None].float(), disk, padding=radius)[0, 0].numpy() > 0.5


def hide(pixels: np.ndarray, where: np.ndarray, block: int, smooth: bool = False) -> np.ndarray:
    """A copy of uint8 or uint16 [C, H, W] in which each block that touches `where`, bool [H, W], is its own mean.

    block: least side of a block in pixels; the grid starts at the upper left corner of `where`, and a block that the
    image's edge would cut off is joined to its neighbour. Of a block nothing is left but its mean, so it cannot be
    distinguished from any other arrangement of its pixels. smooth: the means are joined by cubic interpolation, which
    adds nothing.
    """
    result = pixels.copy()
    if not where.any():
        return result
    (rows, heights), (columns, widths) = (grid(at, side, block) for at, side in zip(limits(where), where.shape))
    part, touched = pixels[:, rows, columns], where[rows, columns]
    means = block_sums(part, heights, widths) / np.outer(heights, widths)  # [C, rows of blocks, columns of blocks]
    if smooth:
        size = touched.shape[::-1]
        hidden = np.stack(
            [np.asarray(Image.fromarray(m.astype(np.float32)).resize(size, Image.BICUBIC)) for m in means]
        )
        hidden = hidden.round().clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    else:
        hidden = spread(means.round().astype(pixels.dtype), heights, widths)
    touched = spread(block_sums(touched, heights, widths) > 0, heights, widths)
    result[:, rows, columns] = np.where(touched, hidden, part)
    return result


def box_mask(mask: np.ndarray) -> np.ndarray:
    """bool [H, W], True in the smallest box around a mask, bool [H, W]."""
    box = np.zeros_like(mask)
    if mask.any():
        (top, bottom), (left, right) = limits(mask)
        box[top : bottom + 1, left : right + 1] = True
    return box


def check_coarseness(blocks: int, smooth: float | None) -> None:
    """ValueError for a mosaic or a blur that would show the object."""
    if not 1 <= blocks <= MOST_BLOCKS:
        raise ValueError(f"the mosaic must have 1 to {MOST_BLOCKS} blocks, got {blocks}; more would show the object")
    if smooth is not None and not LEAST_BLUR <= smooth <= 1:
        raise ValueError(
            f"the blur must be {LEAST_BLUR:g} to 1 of the object's longer side, got {smooth:g}; less would show it"
        )


def blur_out(
    photo: Photo, found: list[Found], mask: bool = False, blocks: int = BLOCKS, smooth: float | None = None
) -> Photo:
    """The photo with what was found hidden: its boxes, or its masks. Alpha is hidden alike; thumbnails are dropped.

    blocks: along the longer side of the largest object, 1 to MOST_BLOCKS; smooth: instead the width of a blur relative
    to that side, LEAST_BLUR to 1. One size for all objects, as a small one may be a piece of a large one.
    Raises ValueError for either out of range: anything finer would show the object.
    """
    check_coarseness(blocks, smooth)
    pixels, alpha = photo.pixels, photo.alpha
    longer = max((max(one.box[2:]) for one in found), default=0)
    block = max(2, round(longer * smooth) if smooth else -(-longer // blocks))
    for one in found:
        where = one.mask if mask else box_mask(one.mask)
        pixels = hide(pixels, where, block, smooth is not None)
        alpha = None if alpha is None else hide(alpha[None], where, block, smooth is not None)[0]
    return replace(without_previews(photo), pixels=pixels, alpha=alpha)


def limits(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) row and column with a True pixel."""
    lines = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    return [(int(line[0]), int(line[-1])) for line in lines]


def grid(at: tuple[int, int], side: int, block: int) -> tuple[slice, np.ndarray]:
    """The part of a side in which whole blocks cover at[0] to at[1], and the lengths of these blocks."""
    start = max(0, min(at[0], side - block))
    count = -(-(at[1] + 1 - start) // block)
    lengths = np.full(count, block)
    if start + count * block > side:  # the last one has no room: what is left of it joins the one before
        lengths = lengths[: max(1, count - 1)]
        lengths[-1] += side - start - lengths.sum()
    return slice(start, start + int(lengths.sum())), lengths


def block_sums(x: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Sums over blocks of these heights and widths."""
    rows = np.add.reduceat(x, np.cumsum(heights) - heights, axis=-2, dtype=np.int64)
    return np.add.reduceat(rows, np.cumsum(widths) - widths, axis=-1)


def spread(x: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Each value over its block."""
    return x.repeat(heights, axis=-2).repeat(widths, axis=-1)


def scaled(at: tuple[int, int], small: int, large: int) -> tuple[int, int]:
    """First and end in `large` pixels of what extends from at[0] to at[1] in `small` ones."""
    return at[0] * large // small, -(-(at[1] + 1) * large // small)
