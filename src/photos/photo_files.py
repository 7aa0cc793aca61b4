"""Pictures as they come: read, changed and written back with their depth, alpha, profile and metadata.

`read_photo`, `write_photo`, which never leaves half a file, and `each`, which goes through files and folders and puts
what is wrong with one into one line.
"""

import contextlib
import os
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from src.image_files import FORMATS, SUFFIXES, list_images, reason, shown

MODES = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "P": "RGB", "PA": "RGBA", "RGBX": "RGB"}
DEEP = (".png", ".tif", ".tiff")  # formats that hold 16 bits
ALPHA = (*DEEP, ".webp")
# what a damaged EXIF block makes Pillow raise
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OSError, SyntaxError, struct.error)


@dataclass(frozen=True)
class Photo:
    """pixels: uint8 or uint16 [C, H, W], C = 1 or 3; alpha: [H, W] of the same type, or None.

    icc: its colour profile; exif: its EXIF block, thumbnail included, as bytes; other: its resolution (dpi), and
    XMP, which goes back into JPEG and WebP alone.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    other: dict = field(default_factory=dict)


def read_photo(path: str | Path) -> Photo:
    """A PNG, JPEG, TIFF, WebP or BMP file. The pixels are as stored: the EXIF orientation is kept, not applied.

    Grey stays grey, 16 bits stay 16 bits; a palette becomes RGB and one bit becomes eight. Of a phone's JPEG that
    holds a preview or a gain map besides (MPO) it is the picture alone.
    Raises ValueError, FileNotFoundError or PermissionError, one line that names the file. Refused are CMYK and
    other inks, floats and files of several pictures, of which something would be lost, and more than Pillow's
    179 megapixels.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(25)  # a PNG's bits a channel are the last of these
        tiff = _read_tiff(path) if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") else None
        if tiff is not None and tiff.pixels.dtype == np.uint16:
            return tiff
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning), \
                Image.open(path, formats=FORMATS) as image:  # fmt: skip
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise ValueError(f"{image.n_frames} pictures in one file; save them one by one")
            if image.format == "PNG" and head[24] == 16:
                pixels = imagecodecs.png_decode(path.read_bytes())  # of colour, Pillow keeps eight bits
            elif tiff is not None:
                return replace(tiff, exif=_exif(image))
            else:
                mode = MODES.get(image.mode)
                if mode is None:
                    raise ValueError(f"{image.mode} pixels, expected grey or RGB of 8 or 16 bits; convert it first")
                if "transparency" in image.info and "A" not in mode:
                    mode = "LA" if mode == "L" else "RGBA"
                pixels = np.asarray(image.convert(mode))
            other = {key: image.info[key] for key in ("dpi", "xmp") if key in image.info}
            about = dict(icc=image.info.get("icc_profile"), exif=_exif(image), other=other)
    except PermissionError:
        raise PermissionError(f"{shown(path)} may not be read, expected a picture; chmod u+r") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {shown(path)}, expected a picture; check the path") from None
    except Exception as error:  # Pillow lets everything out, from SyntaxError to zlib.error
        why = f"no {', '.join(FORMATS)} in it" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise ValueError(f"{shown(path)} cannot be read ({why})") from None
    return _photo(pixels, **about)


def without_previews(photo: Photo) -> Photo:
    """The photo without anything in its metadata that may hold a picture of itself: XMP, the EXIF thumbnail, the
    maker's notes, and every other tag of more than SMALL bytes.

    What is left of the EXIF block, names and places among it, is written anew; one that cannot be read is dropped.
    """
    other, exif = {name: value for name, value in photo.other.items() if name != "xmp"}, photo.exif
    if exif:
        tags = Image.Exif()
        try:
            tags.load(exif)
            for block in (tags, *(tags.get_ifd(tag) for tag in BLOCK_TAGS if tag in tags)):
                sized = {tag: value for tag, value in block.items() if isinstance(value, Sized)}
                # a number takes up to eight bytes
                large = {t for t, v in sized.items() if len(v) * (1 if isinstance(v, (str, bytes)) else 8) > SMALL}
                for tag in large | (PICTURE_TAGS & set(block)):
                    del block[tag]
            exif = tags.tobytes()  # without the second directory, the thumbnail's
        except UNREADABLE:
            exif = None
    return replace(photo, exif=exif, other=other)


def check_target(path: Path, photo: Photo) -> None:
    """ValueError where the format of the suffix cannot hold the photo: known before any work is done."""
    suffix = _suffix(path)
    if photo.pixels.dtype == np.uint16 and suffix not in DEEP:
        raise ValueError(f"{shown(path)} would hold 8 bits, the picture has 16; name it .png or .tif")
    if photo.alpha is not None and suffix not in ALPHA:
        raise ValueError(f"{shown(path)} cannot hold the picture's alpha; name it .png, .webp or .tif")
    if suffix == ".bmp" and _orientation(photo) != 1:
        raise ValueError(f"{shown(path)} cannot hold the EXIF orientation, it would lie on its side; name it .png")


def _orientation(photo: Photo) -> int:
    exif = Image.Exif()
    with contextlib.suppress(*UNREADABLE):
        exif.load(photo.exif or b"")
    return exif.get(274, 1)


def write_photo(path: str | Path, photo: Photo) -> None:
    """Write it in the format of the suffix, whole or not at all. JPEG and WebP at quality 95.

    Of the EXIF a TIFF of 16 bits keeps what is in PLAIN_TAGS: tifffile writes no EXIF block. BMP keeps no metadata.
    Raises ValueError where that format cannot hold it, OSError where the place cannot be written.
    """
    path = Path(path)
    check_target(path, photo)
    suffix = _suffix(path)
    channels = [*photo.pixels] + ([photo.alpha] if photo.alpha is not None else [])
    pixels = np.stack(channels, axis=-1) if len(channels) > 1 else photo.pixels[0]  # [H, W, C], or [H, W]
    with replacing(path) as part:
        try:
            if photo.pixels.dtype == np.uint8:
                _save_8_bits(part, suffix, pixels, photo)
            elif suffix == ".png":
                Path(part).write_bytes(_deep_png(pixels, photo))
            else:
                _save_deep_tiff(part, pixels, photo)
        except (OSError, ValueError, RuntimeError, SyntaxError, struct.error) as error:
            if getattr(error, "errno", None) is not None:  # of the disk; Pillow's own have none
                raise
            fix = "try .tif" if suffix == ".png" else "name it .png"
            raise ValueError(f"{shown(path)} cannot be written as {suffix[1:]} ({reason(error)}); {fix}") from None


def _save_8_bits(part: str, suffix: str, pixels: np.ndarray, photo: Photo) -> None:
    settings = dict(photo.other)
    if suffix in (".jpg", ".jpeg"):
        settings |= dict(quality=95, subsampling=0)
    if suffix == ".webp":
        settings |= dict(quality=95)
    if photo.icc:
        settings["icc_profile"] = photo.icc
    if photo.exif:
        settings["exif"] = photo.exif
    if suffix in (".tif", ".tiff"):
        exif = Image.Exif()
        exif.load(photo.exif or b"")
        blocks = [tag for tag in BLOCK_TAGS if tag in exif]
        for tag in set(exif) - {*PLAIN_TAGS, *BLOCK_TAGS}:  # those that describe another picture's pixels
            del exif[tag]
        # libtiff, which compresses for Pillow, writes no blocks of tags
        settings |= dict(exif=exif, compression=None if blocks else "tiff_adobe_deflate")
    Image.fromarray(pixels).save(part, format=Image.registered_extensions()[suffix], **settings)


def _save_deep_tiff(part: str, pixels: np.ndarray, photo: Photo) -> None:
    exif = Image.Exif()
    exif.load(photo.exif or b"")
    tags = [(34675, 7, len(photo.icc), photo.icc, True)] if photo.icc else []
    for tag, value in _plain(exif).items():
        text = value.encode() + b"\0" if isinstance(value, str) else None
        tags.append((tag, 2, len(text), text, True) if text else (tag, 3, 1, value, True))
    tifffile.imwrite(
        part, pixels, compression="zlib", photometric="rgb" if len(photo.pixels) == 3 else "minisblack",
        planarconfig="contig", extrasamples=["unassalpha"] if photo.alpha is not None else None, extratags=tags,
        resolution=photo.other.get("dpi"), resolutionunit="INCH" if "dpi" in photo.other else None, metadata=None,
        software=False,
    )  # fmt: skip


@contextlib.contextmanager
def replacing(path: Path):
    """Yield another name in the same folder; what is written there takes the place of `path` if all went well."""
    handle = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}~", suffix=path.suffix)
        os.close(handle)
        os.chmod(part, 0o666 & ~_umask())  # mkstemp makes files that their owner alone may read
        yield part
        with open(part, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(f"{shown(path)} cannot be written ({why}); what was there is kept, free or allow it") from None
    finally:
        if handle is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def each(inputs: list[str], output: str, overwrite: bool, work: Callable[[Path, Path], str], doing: str) -> int:
    """work(source, target) for each picture of the inputs, files or folders; returns the exit code.

    What it returns, what was done in a few words, is printed where no bar is.

    output: a file for one picture; a folder (there already, or ending with a slash) for several, which keeps their
    names and class folders. What is wrong with one picture is printed in a line, the others are done all the same.
    """
    try:
        pairs = _pairs(inputs, output, overwrite)
    except (ValueError, OSError, RuntimeError) as error:  # a loop of links is the last
        print(f"error: {error}", file=sys.stderr)
        return 1
    failed = 0
    bar = tqdm(pairs, doing, unit="picture", file=sys.stdout, disable=len(pairs) < 3)
    for source, target in bar:
        try:
            done = work(source, target)
            if bar.disable:
                print(f"{shown(target)}: {done}")
        except KeyboardInterrupt:
            bar.close()
            print("stopped; the pictures done so far are kept", file=sys.stderr)
            return 130
        except (ValueError, OSError, MemoryError, RuntimeError) as error:  # torch's lack of memory is the last
            why = str(error).strip().splitlines() or ["out of memory"]
            bar.write(f"error: {why[0]}", file=sys.stderr)
            failed += 1
    if failed and len(pairs) > 1:
        print(f"error: {failed} of {len(pairs)} pictures could not be done, see above", file=sys.stderr)
    return 1 if failed else 0


def _pairs(inputs: list[str], place: str, overwrite: bool) -> list[tuple[Path, Path]]:
    """(source, target) of all pictures; ValueError where one would overwrite an input or another's output."""
    pairs, output = [], Path(place)
    if len(inputs) > 1 and output.suffix.lower() in SUFFIXES and not output.is_dir():
        raise ValueError(f"{shown(output)} is a name for one picture, got {len(inputs)} inputs; name a folder for them")
    folder = len(inputs) > 1 or output.is_dir() or Path(inputs[0]).is_dir() or place.endswith(("/", os.sep))
    for name in map(Path, inputs):
        if name.is_dir():
            pairs += [(name / file, output / file) for file, *_ in list_images(name)]
        elif not name.exists():
            raise FileNotFoundError(f"no file {shown(name)}, expected a picture or a folder of them; check the path")
        else:
            pairs.append((name, output / name.name if folder else output))
    if folder and output.exists() and not output.is_dir():
        raise ValueError(f"{shown(output)} is a file, expected a folder for several pictures; name another output")
    for name in map(Path, inputs):
        if name.is_dir() and name.resolve() in output.resolve().parents:
            raise ValueError(f"{shown(output)} lies in the input folder {shown(name)}; name a folder elsewhere")
    sources = {source.resolve() for source, _ in pairs}
    seen = set()
    for _, target in pairs:
        if target.resolve() in sources:
            raise ValueError(f"{shown(target)} is one of the inputs, which are never overwritten; name another output")
        if target.resolve() in seen:
            raise ValueError(f"{shown(target)} would be written twice; name each of these folders by itself")
        _suffix(target)
        if target.exists() and not overwrite:
            raise ValueError(f"{shown(target)} is there already; name another output, or add --overwrite")
        seen.add(target.resolve())
    return pairs


def _photo(pixels: np.ndarray, **about) -> Photo:
    """A Photo of [H, W] or [H, W, C], whose last channel of an even number is alpha."""
    pixels = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)  # [C, H, W]
    colours = len(pixels) - (len(pixels) % 2 == 0)
    alpha = np.ascontiguousarray(pixels[-1]) if len(pixels) > colours else None
    return Photo(np.require(pixels[:colours], requirements=["C", "W"]), alpha, **about)  # torch wants it writable


# of a TIFF's tags those that say nothing of its pixels: description, make, model, orientation, date, artist, copyright
PLAIN_TAGS = (270, 271, 272, 274, 306, 315, 33432)
BLOCK_TAGS = (34665, 34853)  # where the EXIF and GPS blocks are
PICTURE_TAGS = {330, 513, 514, 37500, 40965}  # further directories, a thumbnail and its length, the maker's notes
SMALL = 256  # bytes, in which there is no room for a picture


def _plain(tags: dict) -> dict:
    return {tag: tags[tag] for tag in PLAIN_TAGS if isinstance(tags.get(tag), (int, str))}


def _exif(image: Image.Image) -> bytes | None:
    """Its EXIF block as it is; a TIFF's is gathered from its tags, with its EXIF and GPS parts."""
    if image.format != "TIFF":
        return image.info.get("exif")
    exif = image.getexif()
    for tag in set(exif) - {*PLAIN_TAGS, *BLOCK_TAGS}:
        del exif[tag]
    return exif.tobytes() if len(exif) else None


def _read_tiff(path: Path) -> Photo | None:
    """A TIFF of 8 or 16 bits, grey or RGB, as it lies in the file; None for the other kinds.

    Of 16 bits in colour Pillow keeps 8, and those of 8 it turns as their orientation says, some of them.
    """
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        plain = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK)
        if page.dtype not in (np.uint8, np.uint16) or page.bitspersample % 8 or (not plain and page.dtype == np.uint8):
            return None
        if len(file.pages) > 1:
            raise ValueError(f"{len(file.pages)} pictures in one file; save them one by one")
        if not plain:
            raise ValueError(f"{page.photometric!r}, expected grey or RGB; convert it first")
        if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples or page.samplesperpixel > 4:
            raise ValueError("colours multiplied by their alpha, or more than four channels; convert it first")
        pixels, exif, icc = page.asarray(), Image.Exif(), page.tags.get(34675)
        if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = pixels.transpose(1, 2, 0)
        for tag, value in _plain({tag.code: tag.value for tag in page.tags}).items():
            exif[tag] = int(value) if isinstance(value, int) else value
        other = _resolution({tag: page.tags[tag].value for tag in (282, 283, 296) if tag in page.tags})
    return _photo(pixels, icc=icc.value if icc else None, exif=exif.tobytes() if len(exif) else None, other=other)


def _resolution(tags: dict) -> dict:
    """{"dpi": (across, down)} of a TIFF's tags, whose unit is the inch (2) or the centimetre (3); {} without."""
    parts, unit = [tags.get(tag, (0, 0)) for tag in (282, 283)], {2: 1, 3: 2.54}.get(tags.get(296, 2))
    if unit is None or not all(n and d for n, d in parts):
        return {}
    return {"dpi": tuple(n / d * unit for n, d in parts)}


def _deep_png(pixels: np.ndarray, photo: Photo) -> bytes:
    """A PNG of 16 bits, which Pillow cannot write in colour, with its metadata behind the header (W3C, PNG 3, 2025)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    data, about = imagecodecs.png_encode(pixels, level=4), b""
    if photo.icc:
        about += chunk(b"iCCP", b"icc\0\0" + zlib.compress(photo.icc))
    if "dpi" in photo.other:
        about += chunk(b"pHYs", struct.pack(">IIB", *(round(d / 0.0254) for d in photo.other["dpi"]), 1))
    if photo.exif:
        about += chunk(b"eXIf", photo.exif.removeprefix(b"Exif\0\0"))
    end = 33  # of the signature and the header chunk
    return data[:end] + about + data[end:]


def _suffix(path: Path) -> str:
    """Its suffix in small letters; ValueError if that is no format of ours."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{shown(path)} must end in one of {' '.join(SUFFIXES)}; name the output photo.png, say")
    return suffix


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
