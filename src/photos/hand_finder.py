"""Find the hands in a picture and hide them under a mosaic that cannot be undone: the project's first idea of 2021.

    python -m src.blur_out photo.jpg hidden.jpg               boxes over the hands, as averages of large blocks
    python -m src.blur_out photos/ hidden/ --mask --json      along their outlines; beside each what was found
    python -m src.blur_out photo.jpg hidden.jpg --blur 0.3    the averages joined smoothly

The finder is a small UNet with one output, how much a pixel looks like the skin of a hand, trained on hands that
this repository draws: checkpoints/published/finder/record.json has the command to train it again.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label, regionprops
from skimage.morphology import dilation, disk
from torch import Tensor, nn

from src.checkpoint import folder
from src.photos.denoiser import load_denoiser
from src.device import autocast, to_device
from src.photos.photo_files import Photo, check_target, each, read_photo, replacing, shown, without_previews, write_photo

FINDER = folder("published/finder")
LOOK = 128  # pixels of the longer side at which a picture is looked at: what the finder was trained at
MARGIN = 3  # of those pixels, by which what is hidden reaches beyond what was found
SMALLEST = 24  # of those pixels: a smaller spot is no object
SURE = 0.8  # of the finder's output: what an object must reach somewhere,
LIKELY = 0.25  # and what all of it must
BLOCKS = 5  # along the longer side of the largest object
MOST_BLOCKS = 6  # with ten, people still see which fingers are stretched
LEAST_BLUR = 0.3  # as wide as this share of that side; at 0.2 the finder itself still found some hands again


@dataclass(frozen=True)
class Found:
    """One object. box: its (x, y, w, h) in pixels of the picture, from its upper left corner as it lies in the file;
    mask: bool [H, W] of the whole picture, the object and a margin; certainty: mean of the finder's output on it, in
    [0, 1], of which its surest pixel has more."""

    box: tuple[int, int, int, int]
    mask: np.ndarray
    certainty: float


def load_finder(weights: str | Path = FINDER) -> nn.Module:
    """The shipped network that finds hands; raises as `load_denoiser` does."""
    return load_denoiser(weights)


def looked_at(image: Tensor, side: int = LOOK) -> Tensor:
    """float32 [C, H, W] in [0, 1] -> [C, h, w], its longer side of so many pixels."""
    height, width = image.shape[1:]
    scale = side / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


@torch.no_grad()
def likeness(image: Tensor, model: nn.Module, looks: int = 1) -> np.ndarray:
    """How much each pixel looks like the object: float32 [h, w] in [0, 1], of the picture as `looked_at`.

    looks: 2 looks again at twice the side and takes the larger answer, 3 at four times it besides, and so on.
    """
    where, maps = next(model.parameters()).device, []
    for closer in range(looks):
        with autocast(where):
            maps.append(model(to_device(looked_at(image, LOOK * 2**closer)[None], where)).float().cpu().clamp(0, 1))
    size = maps[-1].shape[2:]
    return torch.cat([F.interpolate(x, size, mode="bilinear") for x in maps]).amax(dim=(0, 1)).numpy()


def objects(likeness: np.ndarray, size: tuple[int, int], sure: float = SURE, likely: float = LIKELY) -> list[Found]:
    """The objects of a map, float32 [h, w], the largest first; size: the picture's (H, W) in pixels.

    An object is what is above `likely` and hangs together with something above `sure` (hysteresis, Canny 1986). Parts
    closer to each other than twice MARGIN are one object, such as a hand with a ring or a bracelet.
    """
    closer = max(1, round(max(likeness.shape) / LOOK))  # pixels of the map for one of LOOK
    inside = apply_hysteresis_threshold(likeness, min(likely, sure), sure)
    spots = label(dilation(inside, disk(MARGIN * closer)))
    result = []
    for spot in regionprops(spots):
        own, mask = inside & (spots == spot.label), torch.from_numpy(spots == spot.label)[None, None].float()
        if own.sum() < SMALLEST * closer**2:
            continue
        rows, columns = _extent(own)
        (top, bottom), (left, right) = _span(rows, own.shape[0], size[0]), _span(columns, own.shape[1], size[1])
        # of a picture smaller than its map, each pixel takes the most of those that fall on it: none is stepped over
        larger = size[0] > own.shape[0]
        mask = F.interpolate(mask, size, mode="bilinear") if larger else F.adaptive_max_pool2d(mask, size)
        box = (left, top, right - left, bottom - top)
        result.append(Found(box, mask[0, 0].numpy() > 0.1, round(float(likeness[own].mean()), 3)))
    return sorted(result, key=lambda found: -found.mask.sum())


def find(image: Tensor, model: nn.Module | None = None, sure: float = SURE, looks: int = 1) -> list[Found]:
    """The hands in a picture, float32 [C, H, W] in [0, 1], C = 1 or 3, the largest first; ValueError for another.

    sure: what the finder's output must reach somewhere in an object, in (0, 1): lower finds more, also what is none.
    looks: 1 finds hands of half the picture's longer side and more, 2 of a fifth, at four times the cost and with much
    more that is none: 08_object_blur_out.
    """
    if not torch.is_tensor(image) or image.ndim != 3 or image.shape[0] not in (1, 3) or image.dtype != torch.float32:
        got = f"{image.dtype} {list(image.shape)}" if torch.is_tensor(image) else type(image).__name__
        raise ValueError(f"image must be float32 [3, H, W] or [1, H, W], got {got}; a batch goes picture by picture")
    if 0 in image.shape or not torch.isfinite(image).all():
        raise ValueError(f"image {list(image.shape)} is empty or holds NaN or infinity, expected numbers; replace them")
    if not 0 < sure < 1:
        raise ValueError(f"sure must lie between 0 and 1, got {sure:g}; the default is {SURE}")
    if looks not in (1, 2, 3):
        raise ValueError(f"looks must be 1, 2 or 3, got {looks!r}; 1 is the default")
    model = load_finder() if model is None else model
    return objects(likeness(image.expand(3, -1, -1), model, looks), tuple(image.shape[1:]), sure)


def hide(pixels: np.ndarray, where: np.ndarray, block: int, smooth: bool = False) -> np.ndarray:
    """A copy of uint8 or uint16 [C, H, W] in which each block that touches `where`, bool [H, W], is its own mean.

    block: least side of a block in pixels; the grid starts at the upper left corner of `where`, and a block that the
    picture's edge would cut off is joined to its neighbour. Of a block nothing is left but its mean, so whatever was in
    it cannot be told from any other arrangement of its pixels. smooth: the means are joined by cubic interpolation,
    which adds nothing.
    """
    result = pixels.copy()
    if not where.any():
        return result
    (window, tall), (across, wide) = (_grid(at, side, block) for at, side in zip(_extent(where), where.shape))
    part, touched = pixels[:, window, across], where[window, across]
    means = _sums(part, tall, wide) / np.outer(tall, wide)  # [C, rows of blocks, columns of blocks]
    if smooth:
        size = touched.shape[::-1]
        hidden = np.stack(
            [np.asarray(Image.fromarray(m.astype(np.float32)).resize(size, Image.BICUBIC)) for m in means]
        )
        hidden = hidden.round().clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    else:
        hidden = _spread(means.round().astype(pixels.dtype), tall, wide)
    result[:, window, across] = np.where(_spread(_sums(touched, tall, wide) > 0, tall, wide), hidden, part)
    return result


def boxed_in(mask: np.ndarray) -> np.ndarray:
    """bool [H, W], True in the smallest box around a mask, bool [H, W]."""
    box = np.zeros_like(mask)
    if mask.any():
        rows, columns = _extent(mask)
        box[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    return box


def blur_out(
    photo: Photo, found: list[Found], mask: bool = False, blocks: int = BLOCKS, smooth: float | None = None
) -> Photo:
    """The photo with what was found hidden: its boxes, or its masks. Alpha is hidden alike; thumbnails are dropped.

    blocks: along the longer side of the largest object, 1 to MOST_BLOCKS; smooth: in their place the width of a blur as
    a share of that side, LEAST_BLUR to 1. One size for all objects, as a small one may be a piece of a large one.
    Raises ValueError for either out of range: anything finer would show the object.
    """
    if not 1 <= blocks <= MOST_BLOCKS:
        raise ValueError(f"the mosaic must have 1 to {MOST_BLOCKS} blocks, got {blocks}; more would show the object")
    if smooth is not None and not LEAST_BLUR <= smooth <= 1:
        raise ValueError(
            f"the blur must be {LEAST_BLUR:g} to 1 of the object's longer side, got {smooth:g}; less would show it"
        )
    pixels, alpha = photo.pixels, photo.alpha
    longer = max((max(one.box[2:]) for one in found), default=0)
    block = max(2, round(longer * smooth) if smooth else -(-longer // blocks))
    for one in found:
        where = one.mask if mask else boxed_in(one.mask)
        pixels = hide(pixels, where, block, smooth is not None)
        alpha = None if alpha is None else hide(alpha[None], where, block, smooth is not None)[0]
    return replace(without_previews(photo), pixels=pixels, alpha=alpha)


def _extent(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) row and column with a True one."""
    lines = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    return [(int(line[0]), int(line[-1])) for line in lines]


def _grid(at: tuple[int, int], side: int, block: int) -> tuple[slice, np.ndarray]:
    """The stretch of a side in which whole blocks cover at[0] to at[1], and the lengths of these."""
    start = max(0, min(at[0], side - block))
    count = -(-(at[1] + 1 - start) // block)
    lengths = np.full(count, block)
    if start + count * block > side:  # the last one has no room: what is left of it joins the one before
        lengths = lengths[: max(1, count - 1)]
        lengths[-1] += side - start - lengths.sum()
    return slice(start, start + int(lengths.sum())), lengths


def _sums(x: np.ndarray, tall: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Over blocks of these heights and widths."""
    rows = np.add.reduceat(x, np.cumsum(tall) - tall, axis=-2, dtype=np.int64)
    return np.add.reduceat(rows, np.cumsum(wide) - wide, axis=-1)


def _spread(x: np.ndarray, tall: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Each value over its block."""
    return x.repeat(tall, axis=-2).repeat(wide, axis=-1)


def _span(at: tuple[int, int], small: int, large: int) -> tuple[int, int]:
    """First and end in `large` pixels of what reaches from at[0] to at[1] in `small` ones."""
    return at[0] * large // small, -(-(at[1] + 1) * large // small)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.blur_out",
        description="Hide the hands in photos. Of the metadata what may hold a picture goes; names and GPS stay.",
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="PNG, JPEG, TIFF, WebP or BMP, or folders of them")
    parser.add_argument("output", metavar="OUT", help="a file for one picture, a folder for several")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--box", action="store_true", help="hide the box around what was found (default)")
    shape.add_argument("--mask", action="store_true", help="hide what was found along its outline")
    how = parser.add_mutually_exclusive_group()
    counted = f"N blocks along the longer side of the largest hand, 1 to {MOST_BLOCKS} (default {BLOCKS})"
    how.add_argument("--mosaic", type=int, metavar="N", help=counted)
    wide = f"instead a blur as wide as S times that side, {LEAST_BLUR:g} to 1"
    how.add_argument("--blur", type=float, metavar="S", help=wide)
    less = (
        f"certainty that some pixel of a hand must reach, 0 to 1 (default {SURE}); lower finds more, also what is none"
    )
    parser.add_argument("--sure", type=float, default=SURE, metavar="P", help=less)
    again = "2 finds hands half as large, 3 half of that, and much more that is none (default 1)"
    parser.add_argument("--looks", type=int, default=1, choices=(1, 2, 3), help=again)
    parser.add_argument("--json", action="store_true", help="write what was found beside each picture, OUT.json")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that are there, never an input")
    arguments = parser.parse_args(argv)
    blocks = BLOCKS if arguments.mosaic is None else arguments.mosaic
    try:
        blur_out(Photo(np.zeros((1, 1, 1), np.uint8)), [], arguments.mask, blocks, arguments.blur)
        model = load_finder()
        find(torch.zeros(1, 1, 1), model, arguments.sure)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    def work(source: Path, target: Path) -> str:
        photo = read_photo(source)
        check_target(target, photo)
        beside = target.with_name(target.name + ".json")
        if (
            arguments.json
            and beside.exists()
            and (not arguments.overwrite or beside.samefile(source) or beside.is_dir())
        ):
            raise ValueError(
                f"{shown(beside)} is there already; name another output, or add --overwrite for a JSON file"
            )
        image = torch.from_numpy(photo.pixels).float() / np.iinfo(photo.pixels.dtype).max
        found = find(image, model, arguments.sure, arguments.looks)
        if not found:
            raise ValueError(
                f"no hand was found in {shown(source)}, so nothing was written; look at it yourself, or try "
                f"--sure {arguments.sure / 2:g}, or --looks 2 for small ones"
            )
        hidden = blur_out(photo, found, arguments.mask, blocks, arguments.blur)
        write_photo(target, hidden)
        if arguments.json:
            about = [{"box": one.box, "certainty": one.certainty} for one in found]
            text = json.dumps({"picture": target.name, "size": photo.pixels.shape[:0:-1], "objects": about}, indent=1)
            with replacing(beside) as part:
                Path(part).write_text(text + "\n")
        share = (hidden.pixels != photo.pixels).any(axis=0).mean()
        return f"{len(found)} hidden, {share:.0%} of the picture changed; look whether that is all and no more"

    return each(arguments.inputs, arguments.output, arguments.overwrite, work, "hiding hands")


if __name__ == "__main__":
    sys.exit(main())
