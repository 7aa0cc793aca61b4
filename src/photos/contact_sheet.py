"""What the finder found in many photos, to look at and to edit: contact sheets and found.json."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.files import printable, write_atomically, write_json
from src.photos.hand_finder import Found, limits
from src.photos.photo_files import TURNS, Photo

THUMBNAIL, CAPTION, COLUMNS, ROWS = 240, 44, 5, 8  # pixels, pixels, thumbnails
COLOURS = ((255, 255, 255), (230, 0, 60))  # of a box: a dark one is seen on light, a light one on dark


@dataclass
class Page:
    """A photo of the dry run: its path, thumbnail, [width, height] as stored, and what was found."""

    path: Path
    thumbnail: Image.Image
    size: list[int]
    found: list[Found]

    @property
    def confidence(self) -> float:
        return max((one.confidence for one in self.found), default=0.0)


def page(path: Path, photo: Photo, found: list[Found]) -> Page:
    """The photo upright and small, with the boxes that would be hidden drawn into it."""
    step = -(-max(photo.pixels.shape[1:]) // (2 * THUMBNAIL))  # a rough step first: a photo may have 200 megapixels
    small = photo.pixels[:, ::step, ::step] // (257 if photo.pixels.dtype == np.uint16 else 1)
    image = Image.fromarray(np.broadcast_to(small, (3, *small.shape[1:])).astype(np.uint8).transpose(1, 2, 0).copy())
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    scale, draw = image.width / photo.pixels.shape[2], ImageDraw.Draw(image)
    for one in found:
        x, y, w, h = hidden_box(one)
        corners = np.array([x, y, x + w - 1, y + h - 1]) * scale
        for inset, colour in enumerate(COLOURS):
            left, top, right, bottom = corners + inset * np.array([1, 1, -1, -1])
            draw.rectangle([left, top, max(left, right), max(top, bottom)], outline=colour)
    if photo.orientation in TURNS:
        image = image.transpose(TURNS[photo.orientation])
    return Page(path, image, list(photo.pixels.shape[:0:-1]), found)


def hidden_box(one: Found) -> list[int]:
    """[x, y, w, h] that `blur_out` hides: what was found and its margin."""
    (top, bottom), (left, right) = limits(one.mask)
    return [left, top, right + 1 - left, bottom + 1 - top]


def write_pages(folder: Path, pages: list[Page]) -> list[Path]:
    """Write contact_sheet.jpg, contact_sheet_2.jpg, ... and found.json, most confident first; returns the names."""
    pages, names = sorted(pages, key=lambda one: -one.confidence), []
    for start in range(0, len(pages), COLUMNS * ROWS):
        number = start // (COLUMNS * ROWS) + 1
        names.append(folder / ("contact_sheet.jpg" if number == 1 else f"contact_sheet_{number}.jpg"))
        image = sheet(pages[start : start + COLUMNS * ROWS])
        write_atomically(names[-1], lambda file, image=image: image.save(file, "JPEG", quality=90))
    images = []
    for one in pages:
        objects = [dict(box=hidden_box(found), confidence=found.confidence) for found in one.found]
        images.append(dict(file=one.path.as_posix(), size=one.size, objects=objects))
    write_json(folder / "found.json", dict(images=images))
    return [folder / "found.json", *names]


def sheet(pages: list[Page]) -> Image.Image:
    """Thumbnails in rows, under each its name and the confidence of each object."""
    columns = min(COLUMNS, len(pages))
    cell, rows = (THUMBNAIL + 12, THUMBNAIL + CAPTION), -(-len(pages) // columns)
    image = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for number, one in enumerate(pages):
        x, y = number % columns * cell[0] + 6, number // columns * cell[1] + 6
        image.paste(one.thumbnail, (x, y))
        name = printable(one.path.name).encode("ascii", "backslashreplace").decode()  # the font has no other letters
        found = "  ".join(f"{found.confidence:.2f}" for found in one.found) or "nothing found"
        draw.text((x, y + THUMBNAIL + 2), f"{name[-32:]}\n{found[:36]}", "black", font)
    return image


def read_found(path: Path) -> dict[Path, dict]:
    """Resolved path of a photo -> its entry in an edited found.json: {"size", "objects": [{"box"}]}.

    Raises FileNotFoundError or ValueError of one line.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["images"]
        return {Path(entry["file"]).resolve(): dict(size=entry["size"], objects=entry["objects"]) for entry in entries}
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {printable(path)}, expected found.json of a --dry-run; check it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{printable(path)} is not what --dry-run writes ({error!r}); correct or write it") from None


def listed(entry: dict, size: list[int]) -> list[Found]:
    """The objects that a person left in an entry, for a photo of [width, height] as stored; ValueError for others."""
    if entry["size"] != size:
        raise ValueError(f"the image is {size[0]}x{size[1]}, listed as {entry['size']}; make a new --dry-run")
    found = []
    for one in entry["objects"]:
        box = one.get("box") if isinstance(one, dict) else None
        if not (isinstance(box, list) and len(box) == 4 and all(type(x) is int for x in box)):
            raise ValueError(f"box must be [x, y, width, height] in whole pixels, got {box!r}; correct found.json")
        x, y, w, h = box
        if not (0 <= x < x + w <= size[0] and 0 <= y < y + h <= size[1]):
            raise ValueError(f"box {box} lies outside the image of {size[0]}x{size[1]} pixels; correct found.json")
        mask = np.zeros(size[::-1], bool)
        mask[y : y + h, x : x + w] = True
        found.append(Found((x, y, w, h), mask, float(one.get("confidence", 1.0))))
    return found
