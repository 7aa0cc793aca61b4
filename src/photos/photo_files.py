"""Photos as they come: read and written back with their depth, alpha, colour profile and metadata.

libvips decodes and encodes (pyvips); BMP goes through Pillow. Two things libvips does not do stand here: EXIF in TIFF,
and the colour chunks of PNG.
"""

import io
import logging
import mmap
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image

from src.files import one_line, printable, write_atomically
from src.photos import exif as exif_blocks

logging.getLogger("pyvips").setLevel(logging.ERROR)  # libvips warns of harmless faults on stderr
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
FORMATS = {  # by the first bytes, whatever the name: nothing else is ever decoded
    PNG_SIGNATURE: "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"BM": "bmp",
    b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff",
}  # fmt: skip
LOADERS = dict(png="pngload_source", jpeg="jpegload_source", tiff="tiffload_source", webp="webpload_source",
               avif="heifload_source")  # fmt: skip
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif", ".bmp")
SAVING = {  # options of libvips
    ".jpg": dict(Q=95, subsample_mode="off"), ".jpeg": dict(Q=95, subsample_mode="off"), ".png": {},
    ".tif": dict(compression="deflate", predictor="horizontal", resunit="inch"),
    ".tiff": dict(compression="deflate", predictor="horizontal", resunit="inch"),
    ".webp": dict(Q=95), ".avif": dict(Q=90, effort=2),
}  # fmt: skip
HOLDS_16_BITS, HOLDS_ALPHA = (".png", ".tif", ".tiff", ".avif"), (".png", ".tif", ".tiff", ".avif", ".webp")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip - what makes an EXIF orientation upright
MOST_PIXELS = 200_000_000
KINDS = {"b-w": (1, 2), "grey16": (1, 2), "srgb": (3, 4), "rgb16": (3, 4), "rgb": (3, 4)}  # to their channels
BLOBS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data"}
COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
SRGB_GAMMA, SRGB_PRIMARIES = 45455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # of gAMA and cHRM


@dataclass(frozen=True)
class Photo:
    """pixels: uint8 or uint16 [C, H, W], C = 1 or 3, as stored: the EXIF orientation is not applied.

    alpha: [H, W] of the same dtype. icc, exif, xmp, iptc: blocks of metadata. dpi: across and down. chunks: the colour
    chunks of a PNG without a profile. lossless: it came from a lossless WebP.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: bytes = b""
    lossless: bool = False

    @property
    def orientation(self) -> int:
        """EXIF's, 1 to 8."""
        found = exif_blocks.number(self.exif, 0, exif_blocks.ORIENTATION)
        return found if found in range(1, 9) else 1


def read_photo(path: str | Path) -> Photo:
    """A PNG, JPEG, TIFF, WebP, AVIF or BMP file, known by its content. Grey stays grey, 16 bits stay 16 bits.

    A palette becomes RGB, one to four bits become eight, AVIF of 10 and 12 bits 16. Of a phone's JPEG with a second
    image in it (MPO, gain map) it is the first. Raises OSError or ValueError of one line: for CMYK, floats, TIFFs of
    9 to 15 bits, files of several images, damage, and for more than 200 megapixels, before they are decoded.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a named pipe would wait for ever
            raise ValueError("not a regular file")
        with open(path, "rb") as file, open(path, "rb", buffering=0) as for_libvips:
            kind = _format_of(file.read(12))
            return _read_bmp(file) if kind == "bmp" else _read(file, kind, for_libvips)
    except PermissionError:
        raise PermissionError(f"{printable(path)} may not be read, expected an image; try chmod u+r") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {printable(path)}, expected an image; check the path") from None
    except Exception as error:  # of the libraries, Pillow lets everything out, from SyntaxError to zlib.error
        why = getattr(error, "strerror", None) or one_line(error)
        raise ValueError(f"{printable(path)} cannot be read ({why}), expected a photo; convert or replace it") from None


def _read(file, kind: str, for_libvips) -> Photo:
    source = pyvips.Source.new_from_descriptor(for_libvips.fileno())
    image = getattr(pyvips.Image, LOADERS[kind])(source, access="sequential", fail_on="error")
    _check_header(image)
    about = {name: image.get(blob) for name, blob in BLOBS.items() if image.get_typeof(blob)}
    about["dpi"] = (image.xres * 25.4, image.yres * 25.4) if image.xres != 1 else None  # 1: libvips knows none
    if kind == "png":
        about["chunks"] = _png_chunks(file)
    elif kind == "tiff":
        about |= _tiff_blocks(file)
    elif kind == "webp":
        about["lossless"] = _is_lossless(file)
    elif kind == "avif" and "exif" in about:
        about["exif"] = exif_blocks.upright(about["exif"])  # libvips has turned the pixels
    elif kind == "jpeg" and image.get_typeof("iptc-data"):
        about["iptc"] = exif_blocks.iptc_of(image.get("iptc-data"))
    return _photo(image.numpy(), **about)


def _format_of(head: bytes) -> str:
    kind = next((kind for magic, kind in FORMATS.items() if head.startswith(magic)), None)
    if head[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1"):
        kind = "avif"
    if kind is None or (kind == "webp" and head[8:12] != b"WEBP"):
        raise ValueError("no PNG, JPEG, TIFF, WebP, AVIF or BMP in it")
    return kind


def _check_header(image: pyvips.Image) -> None:
    """ValueError for what is too large or cannot be kept, before a pixel is decoded."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels, at most {MOST_PIXELS // 1_000_000} megapixels are read")
    if image.get_typeof("n-pages") and image.get("n-pages") > 1:
        raise ValueError(f"{image.get('n-pages')} images in one file; save them one by one")
    if image.format not in ("uchar", "ushort") or image.bands not in KINDS.get(image.interpretation, ()):
        raise ValueError(f"{image.bands} channels {image.interpretation} {image.format}, expected grey or RGB of 8 or "
                         "16 bits")  # fmt: skip


def _photo(pixels: np.ndarray, **about) -> Photo:
    """A Photo of [H, W] or [H, W, C], whose last channel of an even number is alpha."""
    pixels = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)  # [C, H, W]
    colours = len(pixels) - (len(pixels) % 2 == 0)
    alpha = np.ascontiguousarray(pixels[-1]) if len(pixels) > colours else None
    return Photo(np.require(pixels[:colours], requirements=["C", "W"]), alpha, **about)  # torch wants it writable


def _read_bmp(file) -> Photo:
    with warnings.catch_warnings(action="ignore"), Image.open(file, formats=["BMP"]) as image:  # Pillow checks its size
        mode = {"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")
        return _photo(np.asarray(image.convert(mode)), dpi=image.info.get("dpi"))


def _png_chunks(file) -> bytes:
    """The colour chunks before the pixels, each whole; ValueError for an animation."""
    found = b""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        body = file.read(struct.unpack(">I", head[:4])[0] + 4)
        if head[4:] == b"acTL" and body[:4] != b"\0\0\0\1":
            raise ValueError("several images in one file; save them one by one")
        found += head + body if head[4:] in COLOUR_CHUNKS else b""
    return found


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _tiff_blocks(file) -> dict[str, bytes | None]:
    """{"exif", "iptc"}; ValueError for two kinds that libvips would read wrongly."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        tags = exif_blocks.parse(data)
    extra, planes, samples = (int.from_bytes(tags[0].get(tag, (3, b""))[1][:2], "little") for tag in (338, 284, 277))
    if extra == 1:  # ExtraSamples; libvips takes it for plain alpha
        raise ValueError("colours multiplied by their alpha; save them unmultiplied")
    if (planes, samples) == (2, 2):  # libvips mixes up grey and alpha
        raise ValueError("grey and alpha in separate planes; save them interleaved")
    return exif_blocks.from_tiff(tags)


def _is_lossless(file) -> bool:
    """Whether the pixels of a WebP are in a VP8L chunk."""
    file.seek(12)
    while len(head := file.read(8)) == 8 and head[:4] not in (b"VP8 ", b"VP8L"):
        length = struct.unpack("<I", head[4:])[0]
        file.seek(length + length % 2, os.SEEK_CUR)
    return head[:4] == b"VP8L"


def without_previews(photo: Photo) -> Photo:
    """The photo without what in its metadata may hold an image of itself; names and places stay.

    Of the EXIF block the thumbnail, the maker's notes and all larger tags go; XMP and IPTC go whole.
    """
    return replace(photo, exif=exif_blocks.without_images(photo.exif), xmp=None, iptc=None)


def suffix_of(path: Path) -> str:
    """Its suffix in small letters; ValueError if that is no format of ours."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{printable(path)} must end in one of {' '.join(SUFFIXES)}; name the output photo.png, say")
    return suffix


def check_target(path: Path, photo: Photo) -> None:
    """ValueError where the format of the suffix cannot hold the photo: known before any work is done."""
    suffix = suffix_of(path)
    if photo.pixels.dtype == np.uint16 and suffix not in HOLDS_16_BITS:
        raise ValueError(f"{printable(path)} would hold 8 bits, the image has 16; name it .png or .tif")
    if photo.alpha is not None and suffix not in HOLDS_ALPHA:
        raise ValueError(f"{printable(path)} cannot hold the image's alpha; name it .png, .webp or .tif")
    if suffix != ".png" and not photo.icc and not _means_srgb(photo.chunks):
        raise ValueError(f"{printable(path)} cannot hold the colours of a PNG with gAMA, cHRM or cICP; name it .png")


def _means_srgb(chunks: bytes) -> bool:
    """Whether a PNG's colour chunks say no more than sRGB, which other formats mean without saying it."""
    at = 0
    while at < len(chunks):
        length = struct.unpack_from(">I", chunks, at)[0]
        name, body = chunks[at + 4 : at + 8], chunks[at + 8 : at + 8 + length]
        at += 12 + length
        if name == b"cICP" and body[:2] != b"\1\r":  # BT.709 primaries, sRGB curve
            return False
        if name in (b"gAMA", b"cHRM") and len(body) % 4 == 0:
            given, srgb = np.frombuffer(body, ">u4"), SRGB_GAMMA if name == b"gAMA" else SRGB_PRIMARIES
            if not np.allclose(given.astype(float), srgb, rtol=0.02):
                return False
    return True


def write_photo(path: str | Path, photo: Photo, check: Callable[[], None] = lambda: None) -> None:
    """Write it in the format of the suffix, whole or not at all. JPEG and WebP at quality 95, AVIF at 90.

    A lossless WebP stays lossless. BMP keeps no metadata and is written upright; 16 bits become 12 in AVIF. check: is
    called just before the file takes its name, and may raise. Raises ValueError where that format cannot hold the
    photo, OSError where the place cannot be written.
    """
    path = Path(path)
    check_target(path, photo)
    suffix = suffix_of(path)
    try:
        data = _bmp_bytes(photo) if suffix == ".bmp" else _encoded(photo, suffix)
    except (pyvips.Error, OSError, ValueError) as error:
        fix = "try .tif" if suffix == ".png" else "name it .png"
        why = one_line(error)
        raise ValueError(f"{printable(path)} cannot be written as {suffix[1:]} ({why}); {fix}") from None

    def write(file) -> None:
        file.write(data)
        check()

    write_atomically(path, write)


def _encoded(photo: Photo, suffix: str) -> bytes:
    channels = [*photo.pixels] + ([photo.alpha] if photo.alpha is not None else [])
    pixels = np.ascontiguousarray(np.stack(channels, axis=-1))  # [H, W, C]
    deep = pixels.dtype == np.uint16
    kind = ("grey16" if deep else "b-w") if len(photo.pixels) == 1 else ("rgb16" if deep else "srgb")
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels, width, height, bands, "ushort" if deep else "uchar")
    across, down = photo.dpi or (72, 72)
    image = image.copy(interpretation=kind, xres=across / 25.4, yres=down / 25.4)
    for name in ("icc", "xmp"):
        if getattr(photo, name):
            image.set_type(pyvips.GValue.blob_type, BLOBS[name], getattr(photo, name))
    kept = [name for name in ("icc", "xmp") if getattr(photo, name)]
    if photo.exif and suffix in (".webp", ".avif"):
        kept.append("exif")
        _set_exif(image, photo.exif)
    settings = dict(SAVING[suffix], keep=":".join(kept) or "none")
    if suffix == ".webp" and photo.lossless:
        settings = dict(settings, lossless=True, exact=True)
    if suffix == ".avif" and deep:
        settings["bitdepth"] = 12
    return _with_blocks(image.write_to_buffer(suffix, **settings), suffix, photo)


def _with_blocks(data: bytes, suffix: str, photo: Photo) -> bytes:
    """The file with the blocks that libvips would write anew or not at all, byte by byte as they came."""
    if suffix in (".tif", ".tiff"):
        return exif_blocks.into_tiff(data, photo.exif, photo.iptc)
    if suffix in (".jpg", ".jpeg"):
        return exif_blocks.into_jpeg(data, photo.exif, photo.iptc, photo.dpi)
    if suffix == ".png":
        end = 33  # of the signature and IHDR
        exif = _chunk(b"eXIf", photo.exif.removeprefix(b"Exif\0\0")) if photo.exif else b""
        return data[:end] + photo.chunks + exif + data[end:]
    return data


def _set_exif(image: pyvips.Image, block: bytes) -> None:
    """Give libvips the block and its tags as it names them, by way of a PNG of one pixel: it writes only both."""
    png = pyvips.Image.black(1, 1).write_to_buffer(".png", keep="none")
    png = png[:33] + _chunk(b"eXIf", block.removeprefix(b"Exif\0\0")) + png[33:]
    carrier = pyvips.Image.new_from_buffer(png, "")
    for name in carrier.get_fields():
        if name.startswith("exif-") or name in ("orientation", "jpeg-thumbnail-data"):
            image.set_type(carrier.get_typeof(name), name, carrier.get(name))


def _bmp_bytes(photo: Photo) -> bytes:
    image = Image.fromarray(photo.pixels[0] if len(photo.pixels) == 1 else photo.pixels.transpose(1, 2, 0).copy())
    if photo.orientation in TURNS:
        image = image.transpose(TURNS[photo.orientation])
    file = io.BytesIO()
    image.save(file, "BMP", **({"dpi": photo.dpi} if photo.dpi else {}))
    return file.getvalue()
