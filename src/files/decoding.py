"""What is below `load_images`: listing a folder, decoding its files, and the cache of decoded pixels."""

import contextlib
import csv
import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from src.files import one_line, printable, say, whole_number

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # Pillow goes by content, and may start programs for others (EPS)
NOT_IMAGES = (".csv", ".json", ".txt", ".md")  # files beside images that nobody misses


def digest(pixels: np.ndarray) -> str:
    """16 hex digits of the sha256 of an image's shape and pixels."""
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]


def natural_order(path: str) -> tuple:
    """Sort key of a posix path: folder by folder, numbers by value, then the exact spelling."""
    parts = [re.split(r"(\d+)", part.lower()) for part in path.split("/")]
    return [[int(t) if i % 2 else t for i, t in enumerate(part)] for part in parts], path


def list_images(folder: Path) -> list[list]:
    """[posix name, bytes, mtime_ns, ctime_ns, inode] of a folder's images in natural order; says what is left out."""
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise ValueError(f"{printable(folder)} is a file, expected a folder of images; try {folder.parent}")
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
        folders = [name for name in names if os.path.isdir(folder / name)]
        inside = [f"{a}/{b}" for a in folders for b in os.listdir(folder / a) if not b.startswith(".")]
    except PermissionError as error:
        raise PermissionError(f"{printable(error.filename)} may not be listed; try chmod u+rx") from None
    except OSError:  # also a loop of links, and names that no system takes
        drawn = "finger_numbers", "drawn_photos", "reliefs", "thickets", "fabrics", "textured"
        made = folder.name in (*drawn, "sign_digits")
        fix = f"make it with `python -m src.datasets {folder.name}`" if made else "check the path"
        raise FileNotFoundError(f"no folder {printable(folder)}, expected one of images; {fix}") from None
    files = [name for name in names if name not in folders] + inside
    images = sorted((name for name in files if name.lower().endswith(SUFFIXES)), key=natural_order)
    if not images:
        raise FileNotFoundError(
            f"{printable(folder)} holds no images, expected {' '.join(SUFFIXES)} in it or in its class folders; put "
            "some there, or check the path"
        )
    if len({"/" in name for name in images}) == 2:
        raise ValueError(
            f"{printable(folder)} holds images at its top and in class folders, expected one or the other, as labels "
            "would be a guess; move the ones at the top into a class folder"
        )
    left_out = [name for name in files if not name.lower().endswith(SUFFIXES + NOT_IMAGES)]
    if left_out:
        some = ", ".join(map(printable, sorted(left_out, key=natural_order)[:5])) + ", ..." * (len(left_out) > 5)
        kind = "files or folders" if len(left_out) > 1 else "folder" if (folder / left_out[0]).is_dir() else "file"
        say(f"{len(left_out)} {kind} not read: {some}")
    return [[name, *_stamp(folder / name)] for name in images]


def _stamp(path: Path) -> list[int]:
    """What changes when a file is edited, even by tools that restore its times."""
    try:
        info = os.stat(path)
    except OSError as error:
        raise OSError(f"{printable(path)} cannot be read ({error.strerror}), expected an image; remove it") from None
    if not stat.S_ISREG(info.st_mode):
        raise ValueError(f"{printable(path)} is not a file, expected an image; rename it")
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def read_groups(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """The group of each name from a groups.csv (header file,group), or the names themselves where there is none."""
    if not os.path.lexists(path):  # a dead link is no leave to split persons
        return names
    fix = "correct that row, or delete the file to make each image its own group"
    try:  # names that are no UTF-8 come as os.listdir gives them
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, csv.Error) as error:
        raise OSError(f"{printable(path)} cannot be read ({one_line(error)}), expected file,group; {fix}") from None
    bad = next((row for row in rows if len(row) != 2 or not all(row)), None)
    groups = dict(rows) if bad is None else {}
    problems = [f"begins with {header}"] * (header != ["file", "group"]) + [f"has the row {bad}"] * (bad is not None)
    repeated = Counter(row[0] for row in rows if row) - Counter(groups.keys()) if groups else ()
    problems += [f"names {name} twice" for name in repeated]
    problems += [f"misses {name}" for name in names if name not in groups]
    problems += [f"names {name}, which is not there" for name in sorted(groups.keys() - set(names))]
    if problems:
        raise ValueError(f"{printable(path)} {printable(problems[0])}, expected one row file,group an image; {fix}")
    return tuple(groups[name] for name in names)


def decode(path: Path, size: int | None, channels: int) -> np.ndarray:
    """One file as uint8 [channels, H, W], upright, over white; OSError or ValueError that names the file."""
    try:
        # through a file object: Pillow maps plain TIFFs given by name, and shears those that lie on their side
        with open(path, "rb") as file:
            with Image.open(file, formats=FORMATS) as image:
                if image.format == "PNG":  # its checksums, which decoding passes over
                    image.verify()
            file.seek(0)
            with Image.open(file, formats=FORMATS) as image:
                if size is not None:  # a JPEG decodes at 1/2, 1/4, 1/8 while 3x the size remains
                    image.draft(None, (3 * size, 3 * size))
                image = _over_white(ImageOps.exif_transpose(_eight_bits(image)))
                image = image.convert("RGB" if channels == 3 else "L")
    except OSError as error:
        if error.errno is not None:
            raise OSError(f"{printable(path)} cannot be read ({error.strerror}), expected an image; check it") from None
        reason = f"no {', '.join(FORMATS)} in it" if isinstance(error, UnidentifiedImageError) else one_line(error)
        raise _undecodable(path, reason) from None
    except Exception as error:  # Pillow lets everything out, from SyntaxError to zlib.error
        raise _undecodable(path, one_line(error)) from None
    if size is not None:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))  # whole pixels, so no blur
        image = image if side == size else image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _undecodable(path: Path, reason: str) -> ValueError:
    return ValueError(f"{printable(path)} cannot be decoded ({reason}), expected a whole image; replace or remove it")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits scaled to 8 (Pillow would clip it), and a transparent grey level in the same unit."""
    transparent, rawmode = image.info.get("transparency"), str(image.tile[0].args) if image.tile else ""
    if image.mode == "F":
        raise ValueError("float pixels, whose range is unknown")
    if image.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})
        white = 2 ** min(16, tags.get(258, (16,))[0]) - 1  # bits of a TIFF's sample; nobody fills 32
        deep, exif = np.asarray(image).astype(np.int64), image.getexif()
        if deep.min() < 0 or deep.max() > white:
            raise ValueError(f"grey values {deep.min()}..{deep.max()} outside 0..{white}")
        grey = ((white - deep if tags.get(262) == 0 else deep) * (255 / white) + 0.5).astype(np.uint8)
        grey[deep == (-1 if transparent is None else transparent)] = 255
        image = Image.fromarray(grey)
        image.info["exif"] = exif.tobytes()
    elif isinstance(transparent, int) and image.mode == "L" and ("L;2" in rawmode or "L;4" in rawmode):
        image.info["transparency"] = transparent * (85 if "L;2" in rawmode else 17)
    elif isinstance(transparent, tuple) and "16" in rawmode:
        image.info["transparency"] = tuple(level >> 8 for level in transparent)
    return image


def _over_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def read_cache(entry: Path) -> tuple[np.ndarray, list[str]] | None:
    """(pixels, digests) of a cache entry, a file mapped copy-on-write; None where it is not whole."""
    try:
        digests = json.loads((entry / "digests.json").read_text(encoding="utf-8"))
        pixels = np.load(entry / "pixels.npy", mmap_mode="c")
        return (pixels, digests) if len(pixels) == len(digests) else None
    except (OSError, ValueError, TypeError):
        return None


def decode_into_cache(folder: Path, names: tuple[str, ...], size: int | None, channels: int, entry: Path):
    """uint8 [N, channels, H, W] and the digest of each, kept as `entry`: a folder that is renamed when it is whole.

    Where the cache cannot be written, or has no room, the pixels are in memory and nothing is kept.
    """
    shape = (len(names), *decode(folder / names[0], size, channels).shape)
    with contextlib.ExitStack() as stack:
        part = None
        with contextlib.suppress(OSError):
            entry.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=entry.parent, suffix=".part"))
            stack.callback(shutil.rmtree, part, ignore_errors=True)
        pixels = None
        if part is not None and shutil.disk_usage(part).free >= 2 * math.prod(shape):
            with contextlib.suppress(OSError):  # of a limit to the size of files
                pixels = np.lib.format.open_memmap(part / "pixels.npy", "w+", np.uint8, shape)
        if pixels is None:
            pixels = np.empty(shape, np.uint8)
            return pixels, _decode_each(folder, names, size, channels, pixels)
        digests = _decode_each(folder, names, size, channels, pixels)
        with contextlib.suppress(OSError):
            (part / "digests.json").write_text(json.dumps(digests), encoding="utf-8")
            for old in entry.parent.glob(f"{entry.name.partition('-')[0]}-*"):
                shutil.rmtree(old, ignore_errors=True)
            os.rename(part, entry)
    return pixels, digests


def _decode_each(folder: Path, names: tuple[str, ...], size: int | None, channels: int, pixels: np.ndarray):
    """Fill pixels, uint8 [N, channels, H, W], several files at a time; returns the digest of each."""

    def work(i: int) -> str:
        image = decode(folder / names[i], size, channels)
        if image.shape != pixels.shape[1:]:
            raise ValueError(
                f"{printable(names[0])} is {list(pixels.shape[1:])} but {printable(names[i])} is {list(image.shape)}, "
                "expected one size; pass size=128 to resize and crop them"
            )
        pixels[i] = image
        return digest(image)

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    title = printable(folder.name).encode(encoding, "backslashreplace").decode(encoding)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # no times in the bar, and gone when done: a notebook's saved output stays the same
        bar = tqdm(pool.map(work, range(len(names))), f"reading {title}", len(names), leave=False, file=sys.stdout,
                   bar_format="{desc}: {n_fmt}/{total_fmt} |{bar:30}|")  # fmt: skip
        return list(bar)


def read_folder(folder: Path, size: int | None, channels: int, cache: Path):
    """(pixels, names, groups, digests) of a folder, from the cache where its files are those of then."""
    size = size if size is None else whole_number("size", size, 1, 1 << 14, "try size=128")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels!r}; try channels=3")
    files = list_images(folder)
    names = tuple(name for name, *_ in files)
    groups = read_groups(folder / "groups.csv", names)
    place, stamp = [str(folder.resolve()), size, int(channels)], [files, PIL.__version__]  # decoders differ
    entry = cache / "-".join(hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16] for part in (place, stamp))
    found = read_cache(entry)
    if found is None:
        decoded = decode_into_cache(folder, names, size, int(channels), entry)
        found = read_cache(entry) or decoded  # mapped copy-on-write, where the cache could be written
    return found[0], names, groups, tuple(found[1])
