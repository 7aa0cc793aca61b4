"""What is below `load_images`: listing a folder, decoding its files, the cache of pixels."""

import contextlib
import csv
import hashlib
import json
import math
import os
import re
import stat
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# Pillow goes by content, not suffix, and for other formats (EPS) it may start outside programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


def shown(path):
    """A path as text for one line: line breaks, and bytes that are no UTF-8, as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def reason(error):
    """An error of a library in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def writing(folder):
    """Turns the system's errors of the block (no room, no permission ...) into one line that names the folder."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # a line of our own
            raise
        raise type(error)(
            f"{shown(folder)} cannot be written ({error.strerror}), expected room and permission to write there; "
            "free some space, or choose another folder"
        ) from None


def digest(pixels):
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]


def _natural(path):
    """Sort key of a posix path: folder by folder, numbers by value, then the exact spelling."""
    parts = [re.split(r"(\d+)", part.lower()) for part in path.split("/")]
    return [[int(t) if i % 2 else t for i, t in enumerate(part)] for part in parts], path


def list_images(folder):
    """[[posix name, bytes, mtime_ns], ...] of a folder's images in natural order."""
    where, top, inside = shown(folder), [], []
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError(
                f"{where} is a file, expected a folder of images; did you mean {shown(folder.parent)}?"
            )
        for name in os.listdir(folder):
            path = folder / name
            if name.startswith("."):
                continue
            if path.is_dir():
                inside += [f"{name}/{n}" for n in os.listdir(path) if not n.startswith(".")]
            else:
                top.append(name)
    except PermissionError as error:
        raise PermissionError(
            f"{shown(error.filename)} may not be listed, expected a readable folder; try chmod u+rx"
        ) from None
    except NotADirectoryError as error:
        if error.strerror is None:
            raise
        raise NotADirectoryError(f"no folder {where}, expected one of images, but above it is a file") from None
    except (OSError, ValueError):  # also a loop of links, and names that no system takes
        made = folder.name in ("finger_numbers", "sign_digits", "drawn_photos")
        fix = f"make it with `python -m src.data {folder.name}`" if made else "check the path"
        raise FileNotFoundError(f"no folder {where}, expected one of images; {fix}") from None
    top, inside = ([n for n in names if n.lower().endswith(SUFFIXES)] for names in (top, inside))
    if top and inside:
        raise ValueError(
            f"{where} holds images at its top ({shown(top[0])}) and in class folders ({shown(inside[0])}), "
            "expected one or the other; move the ones at the top into a class folder"
        )
    if not top and not inside:
        raise FileNotFoundError(
            f"{where} holds no images, expected {' '.join(SUFFIXES)} files in it or in its class "
            "folders (one level); put some there or check the path"
        )
    files = []
    for name in sorted(top or inside, key=_natural):
        path = shown(folder / name)
        try:
            info = os.stat(folder / name)
        except PermissionError:
            raise PermissionError(f"{path} may not be read, expected an image; try chmod u+rx on its folder") from None
        except OSError as error:
            raise FileNotFoundError(
                f"{path} cannot be found ({error.strerror}), expected an image; remove the dead link"
            ) from None
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{path} is not a file, expected an image; rename it")
        files.append([name, info.st_size, info.st_mtime_ns])
    return files


def read_groups(path, names):
    """The group of each name from a groups.csv, or the names themselves where there is none."""
    if not os.path.lexists(path):  # a dead link is no leave to split persons
        return names
    where = shown(path)
    try:  # names that are no UTF-8 come as os.listdir gives them
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = list(csv.reader(file))
    except (OSError, csv.Error) as error:
        kind = PermissionError if isinstance(error, PermissionError) else ValueError
        raise kind(
            f"{where} cannot be read ({getattr(error, 'strerror', None) or error}), expected a table file,group; "
            "mend it, or delete it to make each image its own group"
        ) from None
    if not rows or rows[0] != ["file", "group"]:
        raise ValueError(f"{where} begins with {str(rows[:1])[:200]}, expected the header file,group; add it")
    rows = [row for row in rows[1:] if row]
    bad = next((row for row in rows if len(row) != 2 or not all(row)), None)
    if bad:
        raise ValueError(f"{where} has the row {str(bad)[:200]}, expected file,group; mend that row")
    groups = dict(rows)
    repeated = Counter(name for name, _ in rows) - Counter(groups.keys())
    problems = [f"misses {name}" for name in names if name not in groups]
    problems += [f"names {name}, which is not there" for name in sorted(groups.keys() - set(names))]
    problems += [f"names {name} twice" for name in repeated]
    if problems:
        raise ValueError(
            f"{where} {shown(problems[0])}, expected one row for each of the {len(names)} images; "
            "mend that row, or delete the file to make each image its own group"
        )
    return tuple(groups[name] for name in names)


def _decode(path, size, channels):
    """One file as numpy uint8 [C, H, W]; ValueError, PermissionError, FileNotFoundError that name the file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "PNG":  # its checksums, which decoding passes over: flipped bits may decode
                image.verify()
        with Image.open(path, formats=FORMATS) as image:
            if size is not None:  # a JPEG decodes at 1/2, 1/4, 1/8 while 3x the size remains
                image.draft(None, (3 * size, 3 * size))
            image = ImageOps.exif_transpose(image)
            if image.mode == "F":
                raise ValueError("float pixels, whose range is unknown")
            if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip at 255
                deep = np.asarray(image)
                if deep.min() < 0 or deep.max() > 65535:
                    raise ValueError(f"grey values {deep.min()}..{deep.max()} outside 0..65535")
                grey = (deep * (255 / 65535) + 0.5).astype(np.uint8)
                grey[deep == image.info.get("transparency", -1)] = 255  # a PNG's one transparent level
                image = Image.fromarray(grey)
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("RGB" if channels == 3 else "L")
    except PermissionError:
        raise PermissionError(f"{shown(path)} may not be read, expected an image; chmod u+r") from None
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{shown(path)} is gone since the folder was listed, expected an image; put it back, or load again"
        ) from None
    except Exception as error:  # Pillow lets everything out, from SyntaxError to zlib.error
        why = f"no {', '.join(FORMATS)} in it" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise ValueError(
            f"{shown(path)} cannot be decoded ({why}), expected a whole image; replace or remove it"
        ) from None
    if size is not None:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))  # whole pixels, so no blur
        if side != size:
            image = image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_all(folder, names, size, channels, limit_bytes, cache):
    """Pixels uint8 [N, C, H, W], in memory or above limit_bytes in a mapped file, and digests."""
    shape = _decode(folder / names[0], size, channels).shape
    whole = (len(names), *shape)
    small = math.prod(whole) <= limit_bytes
    pixels = np.empty(whole, np.uint8) if small else _map(cache, whole)

    def work(i):
        image = _decode(folder / names[i], size, channels)
        if image.shape != shape:
            (_, h0, w0), (_, h, w) = shape, image.shape
            raise ValueError(
                f"{shown(folder / names[0])} is {w0}x{h0} but {shown(names[i])} is {w}x{h}, expected one size; "
                "pass size=128 to resize and crop them"
            )
        pixels[i] = image
        return digest(image)

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # which may be unable to show the name
    title = shown(folder.name).encode(encoding, "backslashreplace").decode(encoding)
    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            # Plain tqdm, no times, gone when done: a notebook's saved output stays the same.
            bar = tqdm(
                pool.map(work, range(len(names))), f"reading {title}", len(names),
                leave=False, file=sys.stdout, bar_format="{desc}: {n_fmt}/{total_fmt} |{bar:30}|",
            )  # fmt: skip
            return pixels, list(bar)
    except BaseException:
        if getattr(pixels, "filename", None):
            os.unlink(pixels.filename)
        raise


def _part(cache):
    """A new open file in the cache folder, to be renamed when it is complete."""
    Path(cache).mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=cache, suffix=".part", delete=False)


def _map(cache, shape):
    """A new mapped uint8 .npy file in the cache, or a nameless one elsewhere if that is full or unwritable."""
    for make in (lambda: _part(cache), tempfile.TemporaryFile):
        file = None
        try:
            file = make()
            with file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                offset = file.tell()
                if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a bus error later
                    os.posix_fallocate(file.fileno(), offset, math.prod(shape))
                return np.memmap(file, np.uint8, "r+", offset, shape)
        except OSError as error:
            why = error.strerror
            if file is not None and isinstance(file.name, str):
                Path(file.name).unlink(missing_ok=True)
    raise OSError(
        f"{math.prod(shape):,} bytes of pixels fit neither into {shown(cache)} nor into the temporary folder ({why}), "
        "expected room for them; free some space, or pass a smaller size="
    )


def write_cache(entry, stamp, pixels, digests):
    """Keep decoded pixels; a cache that cannot be written is no error."""
    if isinstance(pixels, np.memmap) and pixels.filename is None:
        return
    part, replaced = getattr(pixels, "filename", None), False
    try:
        if part is None:
            with _part(entry.parent) as file:
                part = file.name
                np.save(file, pixels)
        else:
            pixels.flush()
        info = os.stat(part)
        # The .json names the .npy it goes with: two writers at once cannot mix their halves.
        record = {"stamp": stamp, "npy": [info.st_size, info.st_mtime_ns], "digests": digests}
        os.replace(part, f"{entry}.npy")
        replaced = True
        with _part(entry.parent) as file:
            part = file.name
            file.write(json.dumps(record).encode())
        os.replace(part, f"{entry}.json")
    except OSError:
        # Without its record the .npy would only take room.
        for left in (part, f"{entry}.npy" if replaced else None):
            if left is not None:
                Path(left).unlink(missing_ok=True)


def read_cache(entry, stamp, limit_bytes):
    """(pixels, digests) of a cache entry that fits the stamp, else None."""
    try:
        record = json.loads(Path(f"{entry}.json").read_text())
        info = os.stat(f"{entry}.npy")
        if record["stamp"] != stamp or record["npy"] != [info.st_size, info.st_mtime_ns]:
            return None
        mode = "c" if info.st_size > limit_bytes else None
        return np.load(f"{entry}.npy", mmap_mode=mode), record["digests"]
    except (OSError, ValueError, LookupError, TypeError):  # missing or damaged: decode again
        return None
