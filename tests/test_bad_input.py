"""Bad input, as a table: what is given, what is done with it, and what must come of it.

A row is refused, with one line that names the value or file, what was expected and the fix; or it is
handled, and gives a value known from elsewhere. Either way the files that were there stay as they were,
byte for byte, and nothing is left half-written. `python tests/test_bad_input.py` counts the rows.
"""

import contextlib
import functools
import io
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from src.checkpoint import load_snapshot
from src.config import TrainConfig
from src.datasets.__main__ import main
from src.datasets.finger_numbers import make
from src.files import ROOT
from src.images import ImageSet, load_images, split_images
from src.metrics import psnr, ssim
from src.noise import GaussianNoiseDataset
from src.train import fit
from src.unet import UNet


@dataclass(frozen=True)
class Gives:
    """The row is handled: `done` returns this value, numbers to within so much."""

    value: object
    within: float = 0


@dataclass(frozen=True)
class Row:
    """given(place) lays out the files in an empty folder, done(place) is what is tried.

    expected: an exception's class, EXIT_1 (done returns (code, stdout, stderr)) or Gives(value).
    words: what the one line of the error must contain.
    """

    id: str
    given: Callable
    done: Callable
    expected: object
    words: tuple[str, ...] = ()


EXIT_1 = "exit code 1 and one line on stderr"

# ---- what the rows are made of ----------------------------------------------------------------


def noise(height=8, width=8, channels=3, seed=0, dtype=np.uint8):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def half(content):
    return content[: len(content) // 2]


def png_by_hand(width, height, depth, colour, lines, extra=b""):
    """A PNG of any header, also of one that no encoder writes. colour: 0 grey, 2 RGB."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


def transparent_level(level):
    body = struct.pack(">H", level)
    return struct.pack(">I", 2) + b"tRNS" + body + struct.pack(">I", zlib.crc32(b"tRNS" + body))


def transparent_colour(levels):
    body = struct.pack(">HHH", *levels)
    return struct.pack(">I", 6) + b"tRNS" + body + struct.pack(">I", zlib.crc32(b"tRNS" + body))


def packed(levels, bits):
    """The lines of a grey PNG or TIFF of 2, 4 or 12 bits a pixel, [H, W] -> [H, bytes]."""
    ones = (levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(levels), -1).astype(np.uint8), axis=1)


def tif_by_hand(lines, width, bits, white_is_zero=False):
    """An uncompressed grey TIFF, little-endian, also of kinds that no encoder here writes."""
    body = b"".join(line.tobytes() for line in lines)
    tags = [(256, 4, width), (257, 4, len(lines)), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1),
            (273, 4, 8), (277, 3, 1), (278, 4, len(lines)), (279, 4, len(body))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def write(place, files):
    """{name: bytes, a link's target as str, or None for a folder} below place/photos."""
    (place / "photos").mkdir(exist_ok=True)
    for name, content in files.items():
        path = place / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def files(contents):
    return lambda place: write(place, contents)


def nothing(place):
    pass


def load(place, folder="photos", **options):
    return load_images(place / folder, **{"cache": place.parent / "cache"} | options)


def pixels(place, **options):
    """The only image of place/photos, [H, W, C]."""
    (image,) = load(place, **options).pixels
    return image.permute(1, 2, 0).numpy()


def command(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def nobody():
    """Permission bits do not bite root, so root steps down meanwhile; others need not."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no permission bits here")
    Image.init()  # Pillow imports its formats when it needs them, and nobody may not read root's files
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
    except OSError:
        pytest.skip("runs as root and cannot become another user")
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@contextlib.contextmanager
def small_disk(place, kib, options=""):
    """A real disk of so many KiB at place/disk; whatever happened on it, nothing may be left there."""
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=755{options}", "tmpfs", str(disk)]
    try:
        mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        disk.rmdir()
        pytest.skip("only root on Linux can mount a small disk")
    try:
        yield disk
    finally:
        left = [path.name for path in disk.rglob("*")]
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()
        assert left == []


@contextlib.contextmanager
def small_files(place, kib):
    """The same where nothing can be mounted: no file may grow beyond so many KiB (EFBIG)."""
    resource = pytest.importorskip("resource")
    disk = place / "disk"
    disk.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(kib * 1024), hard))  # Python ignores SIGXFSZ by itself
    try:
        yield disk
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        left = [path.name for path in disk.rglob("*")]
        shutil.rmtree(disk)
        assert left == []


# ---- files -----------------------------------------------------------------------------------

RGB = noise()
DEEP = noise(dtype=np.uint16, seed=1)
DEEP[0, 0, 0], DEEP[0, 1, 0], DEEP[0, 2, 0] = 0, 300, 65535  # 300 would be clipped to 255
GREY = DEEP[..., 0]
RGBA = noise(channels=4)
RGBA[0, 0, 3], RGBA[0, 1, 3] = 0, 255
FRAMES = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
PHOTO = noise(64, 64)
PALETTE = Image.frombytes("P", (8, 8), (noise(channels=1) % 2).tobytes())
PALETTE.putpalette([255, 0, 0, 0, 0, 255])
SMOOTH = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
CYAN = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
LONG = noise(1, 10_000)


def over_white(pixels):
    alpha = pixels[..., -1:] / 255
    return pixels[..., :-1] * alpha + 255 * (1 - alpha)


def flipped(content, at):
    """One bit of the packed pixels changed: 41 bytes are signature, header and the name IDAT."""
    return content[: 41 + at] + bytes([content[41 + at] ^ 16]) + content[42 + at :]


def a_file(id, name, content, expected, *words, **options):
    words = (f"{name} ", *words) if not isinstance(expected, Gives) else ()
    return Row(id, files({name: content}), lambda place: pixels(place, **options), expected, words)


def refused(id, name, content, *words, **options):
    return a_file(id, name, content, ValueError, "cannot be decoded", *words, "replace or remove", **options)


TURNS = [
    lambda p: p, lambda p: p[:, ::-1], lambda p: p[::-1, ::-1], lambda p: p[::-1],
    lambda p: p.transpose(1, 0, 2), lambda p: np.rot90(p, -1),
    lambda p: p.transpose(1, 0, 2)[::-1, ::-1], lambda p: np.rot90(p, 1),
]  # fmt: skip

FLAT = np.full((16, 16, 3), 90, np.uint8)  # which JPEG keeps to a level
PAGES = dict(save_all=True, append_images=FRAMES[1:])
FIRST = Gives(np.asarray(FRAMES[0]))
FROM_16_BIT = Gives(GREY[..., None] / 257, 0.5)
BLACK_TO_WHITE = Gives(np.where(GREY == 0, 255, GREY / 257)[..., None], 0.5)
RED_AND_WHITE = np.array([[255, 0, 0], [255, 255, 255]])[noise(channels=1) % 2]
RED_AND_PALE_BLUE = np.array([[255, 0, 0], [127, 127, 255]])[noise(channels=1) % 2]
TURQUOISE = Gives(np.broadcast_to([0, 255, 255], (16, 16, 3)), 3)

WIDE = noise(6, 9, channels=4, seed=5)
WIDE[..., 3] = 255
FLAGS = Image.fromarray(noise(6, 9, channels=1) % 3, "P")
FLAGS.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
TIFFS = {  # an image, and what is read of it lying as it is stored
    "grey": (Image.fromarray(WIDE[..., 0]), np.repeat(WIDE[..., :1], 3, axis=2)),
    "RGB": (Image.fromarray(WIDE[..., :3]), WIDE[..., :3]),
    "RGBA": (Image.fromarray(WIDE), WIDE[..., :3]),
    "palette": (FLAGS, np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])[noise(6, 9, channels=1) % 3]),
    "16-bit grey": (Image.fromarray(WIDE[..., 0].astype(np.uint16) * 257), np.repeat(WIDE[..., :1], 3, axis=2)),
}
TWELVE = DEEP[..., 1] >> 4
FEW = {bits: (noise(channels=1, seed=2).astype(int) % 2**bits).astype(np.uint8) for bits in (1, 2, 4, 8)}
FEW[8][2, 3] = 7
HOLED = np.where((DEEP[3, 4] == DEEP).all(-1, keepdims=True), 65535, DEEP)

FILES = [
    refused("png cut in half", "x.png", half(encoded(PHOTO)), "runcated"),
    refused("png without its last 20 bytes", "x.png", encoded(PHOTO)[:-20]),
    refused("jpg cut in half", "x.jpg", half(encoded(PHOTO, "JPEG")), "truncated"),
    refused("jpg cut in half, read at part scale", "x.jpg", half(encoded(PHOTO, "JPEG")), size=8),
    refused("webp cut in half", "x.webp", half(encoded(PHOTO, "WEBP"))),
    refused("bmp cut in half", "x.bmp", half(encoded(PHOTO, "BMP")), "truncated"),
    refused("tif cut in half", "x.tif", half(encoded(PHOTO, "TIFF")), "truncated"),
    *(
        refused(f"png with a bit of packed byte {at} flipped", "x.png", flipped(encoded(SMOOTH), at))
        for at in (5, 28, 35)  # the latter two decode without complaint, to other pixels
    ),
    refused("empty png", "x.png", b"", "no PNG, JPEG, WEBP, BMP, TIFF in it"),
    refused("text called png", "x.png", b"hello", "no PNG"),
    refused("web page called jpg", "x.jpg", b"<!DOCTYPE html><title>404</title>", "no PNG"),
    refused("gif called png", "x.png", encoded(PHOTO, "GIF"), "no PNG"),
    refused("PostScript called png, which Pillow would run", "x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", "no PNG"),
    refused("png that declares 50,000x50,000", "x.png", png_by_hand(50_000, 50_000, 8, 2, []), "2500000000 pixels"),
    refused("png that declares 0x5", "x.png", png_by_hand(0, 5, 8, 2, [])),
    refused("float tif", "x.tif", encoded(np.zeros((8, 8), np.float32), "TIFF"), "float pixels"),
    refused("float tif of NaN", "x.tif", encoded(np.full((8, 8), np.nan, np.float32), "TIFF"), "float pixels"),
    refused("32-bit tif below 0", "x.tif", encoded(np.full((8, 8), -5, np.int32), "TIFF"), "-5..-5 outside 0..65535"),
    a_file("png called jpg", "x.jpg", encoded(RGB), Gives(RGB)),
    a_file("jpg called png", "x.png", encoded(FLAT, "JPEG"), Gives(FLAT, 1)),
    a_file("webp called TIF", "x.TIF", encoded(RGB, "WEBP", lossless=True), Gives(RGB)),
    a_file("16-bit grey png", "x.png", encoded(GREY), FROM_16_BIT, channels=1),
    a_file("16-bit grey tif", "x.tif", encoded(GREY, "TIFF"), FROM_16_BIT, channels=1),
    a_file("16-bit grey png as RGB", "x.png", encoded(GREY), Gives(np.stack([GREY] * 3, 2) / 257, 0.5)),
    a_file("16-bit grey png, turned", "x.png", encoded(GREY[:5], exif=exif(6)),
           Gives(np.rot90(GREY[:5], -1)[..., None] / 257, 0.5), channels=1),
    a_file("16-bit grey png, black transparent", "x.png",
           png_by_hand(8, 8, 16, 0, GREY.astype(">u2"), transparent_level(0)), BLACK_TO_WHITE, channels=1),
    a_file("16-bit RGB png", "x.png", png_by_hand(8, 8, 16, 2, DEEP.astype(">u2")), Gives(DEEP / 257, 1)),
    a_file("CMYK jpg", "x.jpg", encoded(CYAN, "JPEG"), TURQUOISE),
    a_file("CMYK tif", "x.tif", encoded(CYAN, "TIFF"), TURQUOISE),
    a_file("palette with a transparent colour", "x.png", encoded(PALETTE, transparency=1), Gives(RED_AND_WHITE)),
    a_file("palette with a half transparent colour", "x.png", encoded(PALETTE, transparency=bytes([255, 128])),
           Gives(RED_AND_PALE_BLUE, 1)),
    a_file("RGBA png", "x.png", encoded(RGBA), Gives(over_white(RGBA), 1)),
    a_file("RGBA webp", "x.webp", encoded(RGBA, "WEBP", lossless=True, exact=True), Gives(over_white(RGBA), 1)),
    a_file("grey with transparency", "x.png", encoded(Image.fromarray(RGBA[..., 2:], "LA")),
           Gives(over_white(RGBA[..., 2:]), 1), channels=1),
    *(
        a_file(f"EXIF orientation {n}", "x.png", encoded(noise(6, 9), exif=exif(n)), Gives(turn(noise(6, 9))))
        for n, turn in enumerate(TURNS, 1)
    ),
    *(
        a_file(f"{kind} TIFF, {compression or 'uncompressed'}, orientation {n}", "x.tif",
               encoded(image, "TIFF", compression=compression, tiffinfo={274: n}), Gives(turn(colours), 1))
        for kind, (image, colours) in TIFFS.items()
        for compression in (None, "tiff_deflate")
        for n, turn in enumerate(TURNS, 1)
        if n >= 5 or compression is None
    ),
    a_file("32-bit TIFF of 16-bit levels", "x.tif", encoded(GREY.astype(np.int32), "TIFF"), FROM_16_BIT, channels=1),
    a_file("12-bit TIFF", "x.tif", tif_by_hand(packed(TWELVE, 12), 8, 12), Gives(TWELVE[..., None] / 4095 * 255, 0.51),
           channels=1),
    a_file("16-bit TIFF, white is zero", "x.tif", tif_by_hand(GREY.astype("<u2"), 8, 16, white_is_zero=True),
           Gives((65535 - GREY[..., None].astype(int)) / 257, 0.51), channels=1),
    a_file("16-bit TIFF by hand, black is zero", "x.tif", tif_by_hand(GREY.astype("<u2"), 8, 16),
           Gives(GREY[..., None] / 257, 0.51), channels=1),
    a_file("8-bit TIFF, white is zero", "x.tif", tif_by_hand(RGB[..., 0], 8, 8, white_is_zero=True),
           Gives(255 - RGB[..., :1].astype(int)), channels=1),
    *(
        a_file(f"{bits}-bit grey png, level 1 transparent", "x.png",
               png_by_hand(8, 8, bits, 0, packed(FEW[bits], bits), transparent_level(1)),
               Gives(np.where(FEW[bits] == 1, 255, FEW[bits] * (255 // (2**bits - 1)))[..., None]), channels=1)
        for bits in (1, 2, 4)
    ),
    a_file("8-bit grey png, level 7 transparent", "x.png", png_by_hand(8, 8, 8, 0, FEW[8], transparent_level(7)),
           Gives(np.where(FEW[8] == 7, 255, FEW[8])[..., None]), channels=1),
    a_file("16-bit RGB png with a transparent colour", "x.png",
           png_by_hand(8, 8, 16, 2, DEEP.astype(">u2"), transparent_colour(DEEP[3, 4])), Gives(HOLED / 257, 1)),
    a_file("8-bit RGB png with a transparent colour", "x.png",
           png_by_hand(8, 8, 8, 2, RGB, transparent_colour(RGB[3, 4])),
           Gives(np.where((RGB[3, 4] == RGB).all(-1, keepdims=True), 255, RGB))),
    a_file("EXIF orientation 77, which is none", "x.png", encoded(RGB, exif=exif(77)), Gives(RGB)),
    a_file("jpg with damaged EXIF", "x.jpg", encoded(FLAT, "JPEG", exif=b"Exif\0\0garbage"), Gives(FLAT, 1)),
    a_file("animated webp: the first image", "x.webp", encoded(FRAMES[0], "WEBP", lossless=True, **PAGES), FIRST),
    a_file("animated png: the first image", "x.png", encoded(FRAMES[0], **PAGES), FIRST),
    a_file("tif of three pages: the first", "x.tif", encoded(FRAMES[0], "TIFF", **PAGES), FIRST),
    a_file("1x1", "x.png", encoded(RGB[:1, :1]), Gives(RGB[:1, :1])),
    a_file("1x1 enlarged", "x.png", encoded(RGB[:1, :1]), Gives(np.broadcast_to(RGB[:1, :1], (8, 8, 3))), size=8),
    a_file("10,000x1", "x.png", encoded(LONG), Gives(LONG)),
    a_file("10,000x1 cut to its middle", "x.png", encoded(LONG),
           Gives(np.broadcast_to(LONG[:, 4999:5000], (4, 4, 3))), size=4),
    a_file("1x10,000", "x.bmp", encoded(LONG.transpose(1, 0, 2), "BMP"), Gives(LONG.transpose(1, 0, 2))),
]  # fmt: skip

# ---- folders ---------------------------------------------------------------------------------

PNG = encoded(RGB)
SIX = {f"{label}/{number}.png": encoded(noise(10, 12, seed=number)) for label in ("er", "yi") for number in (1, 2, 10)}
NAMES = ("er/1.png", "er/2.png", "er/10.png", "yi/1.png", "yi/2.png", "yi/10.png")


def names(place, **options):
    return load(place, **options).names


def with_groups(text):
    return files(SIX | {"groups.csv": text if isinstance(text, bytes) else ("file,group\n" + text).encode()})


def groups(place):
    return load(place).groups


def rows(*without):
    return "".join(f"{name},a\n" for name in NAMES if name not in without)


def wrong_groups(id, text, *words):
    return Row(f"groups.csv {id}", with_groups(text), groups, ValueError, ("groups.csv ", *words))


def a_folder(id, contents, expected, *words, done=names, **options):
    return Row(id, files(contents), lambda place: done(place, **options), expected, words)


def as_nobody(mode, path, done=names):
    """done() by a user for whom place/photos/path has this mode."""

    def act(place):
        target = place / "photos" / path
        before = stat.S_IMODE(target.stat().st_mode)
        target.chmod(mode)
        try:
            with nobody():
                return done(place)
        finally:
            target.chmod(before)

    return act


def while_reading(change):
    """Loads, and change(path) happens after the listing, just before the file x2.png is opened."""

    def act(place):
        honest, left = Image.open, [1]

        def opened(path, *args, **kwargs):
            if path.name.endswith("x2.png") and left:
                left.clear()
                change(Path(path.name))
            return honest(path, *args, **kwargs)

        with mock.patch.object(Image, "open", opened):
            return load(place)

    return act


def vanishes(place):
    """The files are put back, as the row is about what load_images does."""
    path = place / "photos" / "x2.png"
    try:
        while_reading(Path.unlink)(place)
    finally:
        path.write_bytes(PNG)


def changes(place):
    """The pixels of the second load: those kept by the first must not be taken for the new file's."""
    path, new = place / "photos" / "x2.png", noise(seed=7)

    def change(path):
        # of another length, as a file system's clock may not tell two writes in a row apart
        path.write_bytes(encoded(new, compress_level=0))

    try:
        while_reading(change)(place)
        images = load(place)
        return images.pixels[images.names.index("x2.png")].permute(1, 2, 0).numpy()
    finally:
        path.write_bytes(PNG)


def odd_name(name, done=names):
    """A name that a file system or another may not take."""

    def given(place):
        try:
            write(place, {name: PNG})
        except OSError:
            pytest.skip("this file system does not take the name")

    return given, done


def split_and_sample(place):
    """Names that are no UTF-8 also go through the hashes."""
    images = load(place)
    train, held_out = split_images(images, 0.5)
    return sorted(train.names + held_out.names), len(images.sample(1))


def pipe(place):
    write(place, SIX)
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(place / "photos" / "yi" / "pipe.png")


def to_ascii_only(place):
    """The bar names the folder, on a stdout that cannot show the name."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "ascii")):
        return names(place, folder="фото")


LATIN = os.fsdecode(b"caf\xe9.png")  # Latin-1, as old archives have it
ROOTS_OWN = {"x.png": PNG, "x2.png": PNG}

FOLDERS = [
    Row("no such folder", nothing, load, FileNotFoundError, ("no folder ", "photos, expected one", "check the path")),
    *(
        Row(f"{name} before it is made", nothing, lambda place, name=name: load(place, f"data/{name}"),
            FileNotFoundError, ("no folder ", f"make it with `python -m src.datasets {name}`"))
        for name in ("finger_numbers", "sign_digits", "thickets")
    ),
    Row("folder below a file", files({"x.png": PNG}), lambda place: load(place, "photos/x.png/y"),
        FileNotFoundError, ("no folder ", "check the path")),
    Row("file instead of a folder", files({"x.png": PNG}), lambda place: load(place, "photos/x.png"),
        ValueError, ("x.png is a file, expected a folder of images; try ", "photos")),
    Row("unknown ~user", nothing, lambda place: load_images("~no_such_user_/x"), FileNotFoundError,
        ("~no_such_user_", "check the path")),
    Row("folder's name of 5000 letters", nothing, lambda place: load(place, "x" * 5000), FileNotFoundError,
        ("no folder ", "check the path")),
    a_folder("empty folder", {}, FileNotFoundError, "photos holds no images", ".webp", "put some there"),
    a_folder("empty class folders", {"a": None, "b": None}, FileNotFoundError, "holds no images"),
    a_folder("images two levels down", {"a/b/x.png": PNG}, FileNotFoundError, "holds no images", "class folders"),
    a_folder("no images among the files", {"a.txt": b"x", ".x.png": PNG}, FileNotFoundError, "holds no images"),
    a_folder("images at the top and in classes", SIX | {"top.png": PNG}, ValueError,
             "at its top and in class folders", "expected one or the other", "move"),
    a_folder("two sizes", SIX | {"yi/2.png": PNG}, ValueError, "er/1.png is [3, 10, 12]", "yi/2.png is [3, 8, 8]",
        "size=128"),
    a_folder("two sizes, with size=", SIX | {"yi/2.png": PNG}, Gives(NAMES), size=8),
    a_folder("folder called x.png in a class", SIX | {"yi/x.png": None}, ValueError, "is not a file", "rename"),
    a_folder("folder called x.png at the top is a class", {"x.png/1.png": PNG}, Gives(("x.png/1.png",))),
    Row("pipe called x.png, which would wait for ever", pipe, names, ValueError, ("pipe.png is not a file", "rename")),
    a_folder("dead link", SIX | {"yi/dead.png": "nowhere.png"}, OSError, "dead.png cannot be read (No such file",
             "remove it"),
    a_folder("link to itself", SIX | {"yi/me.png": "me.png"}, OSError, "me.png cannot be read (Too many levels",
        "remove"),
    a_folder("folder that links to itself", {"loop": "loop"}, FileNotFoundError, "no folder ", "loop, expected",
             done=load, folder="photos/loop"),
    a_folder("links back to the folders above", SIX | {"loop": ".", "yi/loop": "../yi"}, Gives(NAMES)),
    a_folder("link to an image", {"x.png": PNG, "y.png": "x.png"}, Gives(("x.png", "y.png"))),
    Row("file not readable", files(ROOTS_OWN), as_nobody(0, "x2.png"), OSError,
        ("x2.png cannot be read (Permission denied)", "expected an image", "check it")),
    Row("folder not listable", files(ROOTS_OWN), as_nobody(0o711, "."), PermissionError,
        ("photos may not be listed", "chmod u+rx")),
    Row("folder not enterable", files(ROOTS_OWN), as_nobody(0o744, "."), OSError, ("(Permission denied)",)),
    Row("class folder not listable", files(SIX), as_nobody(0o711, "yi"), PermissionError,
        ("yi may not be listed", "chmod u+rx")),
    Row("class folder not enterable", files(SIX), as_nobody(0o744, "yi"), OSError,
        ("yi/1.png cannot be read (Permission denied)",)),
    Row("groups.csv not readable", with_groups(rows()), as_nobody(0, "groups.csv"), OSError,
        ("groups.csv cannot be read", "expected file,group", "delete the file")),
    Row("file vanishes while reading", files(ROOTS_OWN), vanishes, OSError,
        ("x2.png cannot be read (No such file", "expected an image", "check it")),
    Row("file changes while reading", files(ROOTS_OWN), changes, Gives(noise(seed=7))),
    Row("names with spaces and of many scripts", files({"一 二/ñ é.png": PNG, "一 二/🙂.png": PNG}), names,
        Gives(("一 二/ñ é.png", "一 二/🙂.png"))),
    Row("name with a line break", *odd_name("a\nb.png"), Gives(("a\nb.png",))),
    Row("name that is no UTF-8", *odd_name(LATIN), Gives((LATIN,))),
    Row("name that is no UTF-8, split", lambda place: [odd_name(n)[0](place) for n in (LATIN, "x.png")],
        split_and_sample, Gives((sorted(["x.png", LATIN]), 1))),
    a_folder("damaged file with a line break in its name", {"a\nb.png": b"x"}, ValueError, r"a\nb.png cannot be"),
    Row("stdout that cannot show the folder's name", lambda place: write(place, {"../фото/x.png": PNG}), to_ascii_only,
        Gives(("x.png",))),
    wrong_groups("misses an image", rows("er/1.png"), "misses er/1.png", "expected one row file,group an image",
        "correct that row"),
    wrong_groups("names what is not there", rows() + "er/7.png,x\n", "names er/7.png, which is not there",
        "correct that row"),
    wrong_groups("names an image twice", rows() + "er/1.png,b\n", "names er/1.png twice", "correct that row"),
    wrong_groups("with a row of one column", rows("er/1.png") + "er/1.png\n", "has the row ['er/1.png']",
        "correct that row"),
    wrong_groups("with a row of three", rows("er/1.png") + "er/1.png,a,b\n", "has the row ['er/1.png', 'a', 'b']"),
    wrong_groups("with an empty group", rows("er/1.png") + "er/1.png,\n", "has the row ['er/1.png', '']",
        "correct that row"),
    wrong_groups("with backslashes", rows().replace("/", "\\"), "misses er/1.png"),
    wrong_groups("without a header", b"er/1.png,a\n", "begins with ['er/1.png', 'a']", "expected one row file,group"),
    wrong_groups("with semicolons", b"file;group\ner/1.png;a\n", "begins with ['file;group']",
        "expected one row file,group"),
    wrong_groups("of a spreadsheet's UTF-16", ("file,group\n" + rows()).encode("utf-16"), "begins with", "file,group"),
    wrong_groups("empty", b"", "begins with []", "expected one row file,group"),
    a_folder("groups.csv with a quote that is never closed", SIX | {"groups.csv": b'file,group\n"' + b"x" * 200_000},
             OSError, "groups.csv cannot be read (field larger", "expected file,group"),
    a_folder("groups.csv is a folder", SIX | {"groups.csv": None}, OSError, "groups.csv cannot be read", "delete"),
    a_folder("groups.csv is a dead link", SIX | {"groups.csv": "gone"}, OSError, "groups.csv cannot be read"),
    Row("groups.csv as Excel writes it", with_groups(b"\xef\xbb\xbf" + b"file,group\r\n" +
        rows().replace("\n", "\r\n").encode()), groups, Gives(("a",) * 6)),
    Row("groups.csv with a name that is no UTF-8", lambda place: [odd_name(LATIN)[0](place),
        write(place, {"groups.csv": b"file,group\ncaf\xe9.png,a\n"})], groups, Gives(("a",))),
]  # fmt: skip

# ---- arguments -------------------------------------------------------------------------------


def argument(id, call, *words):
    return Row(id, nothing, lambda place: call(), ValueError, words)


def given(count=2, **arguments):
    """GaussianNoiseDataset of good images and these arguments."""
    images = ImageSet.from_pixels(torch.zeros(count, 3, 8, 16, dtype=torch.uint8))
    return lambda: GaussianNoiseDataset(images, **arguments)


def of(images):
    return lambda: GaussianNoiseDataset(images)


def made(groups, **fields):
    return ImageSet.from_pixels(torch.zeros(len(groups), 1, 1, 1, dtype=torch.uint8), groups=groups, **fields)


def loading(**options):
    def done(place):
        write(place, {"x.png": PNG})
        try:
            return load(place, **options)
        finally:
            shutil.rmtree(place / "photos")

    return done


def shapes(measure, image, clean):
    return lambda: measure(torch.rand(image), torch.rand(clean))


NAN = torch.full((2, 3, 8, 8), 0.5)
NAN[1, 0, 0, 0] = float("nan")
X = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SMALL = dict(widths=(4, 8))

ARGUMENTS = [
    *(
        Row(f"load_images size={size!r}", nothing, loading(size=size), ValueError,
            ("size must be a whole number from 1 to 16384", f"got {size!r}", "size=128"))
        for size in (0, -3, 12.5, "128", True, (8, 8), 10**9)
    ),
    *(
        Row(f"load_images channels={channels!r}", nothing, loading(channels=channels), ValueError,
            ("channels must be 1 (grey) or 3 (RGB)", f"got {channels!r}", "channels=3"))
        for channels in (0, 2, 4, "RGB", None)
    ),
    *(
        argument(f"load_images folder={folder!r}", lambda folder=folder: load_images(folder), "folder must be a path",
                 f"got {folder!r}", "data/finger_numbers")
        for folder in (None, 7, "", ["a", "b"])
    ),
    *(
        argument(f"split_images held_out={fraction!r}", lambda fraction=fraction: split_images(made("ab"), fraction),
                 "held_out must be a fraction between 0 and 1", f"got {fraction!r}", hint)
        for fraction, hint in [(0, "0.2"), (1, "0.2"), (-0.1, "0.2"), (1.5, "0.2"), (20, "20 % is 0.2"),
            (float("nan"), "0.2"),
                            ("x", "0.2"), (None, "0.2")]
    ),
    *(
        argument(f"split_images of {len(groups)} in one group", lambda groups=groups: split_images(made(groups)),
                 "two or more groups, got 1", "check groups.csv")
        for groups in ("a", "aaa")
    ),
    argument("split_images of a folder", lambda: split_images("photos"), "must be an ImageSet, got str", "load_images"),
    argument("split_images of a tensor", lambda: split_images(X), "must be an ImageSet, got Tensor", "load_images"),
    *(
        argument(f"sample {count!r}", lambda count=count: made("abc").sample(count),
                 "count must be a whole number at least 1", f"got {count!r}", "try count=1")
        for count in (0, -1, 2.5, "x", float("nan"), True)
    ),
    Row("sample of more than there are", nothing, lambda place: made("abc").sample(99).groups, Gives((*"abc",))),
    argument("ImageSet of floats", lambda: ImageSet.from_pixels(X), "uint8 [N, C, H, W]", "got torch.float32",
             "(x * 255).round().byte()"),
    argument("ImageSet of one image", lambda: ImageSet.from_pixels(X[0].byte()), "[N, C, H, W], got torch.uint8 [3"),
    argument("ImageSet of a list", lambda: ImageSet.from_pixels([1]), "pixels must be uint8", "got list"),
    argument("ImageSet without pixels", lambda: ImageSet.from_pixels(torch.zeros(2, 3, 0, 8, dtype=torch.uint8)),
             "pixels must be uint8 [N, C, H, W], got torch.uint8 [2, 3, 0, 8]"),
    *(
        argument(f"ImageSet of 3 images and 2 {field}", lambda field=field: ImageSet.from_pixels(
            torch.zeros(3, 1, 1, 1, dtype=torch.uint8), **{field: "ab"}), f"{field} must be one for each of 3", "got 2")
        for field in ("names", "labels", "groups")
    ),
    argument("sigma=25", given(sigma=25),
        "sigma must be in [0, 1], the unit of the images, got 25; 8-bit levels need / 255"),
    argument("sigma=-1", given(sigma=-1), "sigma must be in [0, 1], the unit of the images, got -1",
        "8-bit levels need / 255"),
    argument("sigma=nan", given(sigma=float("nan")), "sigma must be in [0, 1], the unit of the images, got nan",
        "8-bit levels need / 255"),
    argument("sigma=inf", given(sigma=float("inf")), "sigma must be in [0, 1], the unit of the images, got inf",
        "8-bit levels need / 255"),
    *(
        argument(f"sigma={sigma!r}", given(sigma=sigma), "sigma must be in [0, 1]", "got ", "8-bit levels")
        for sigma in ("x", None, torch.tensor([0.1, 0.3]))
    ),
    argument("sigma from 0.3 to 0.1", given(sigma=(0.3, 0.1)), "(lowest, highest), got (0.3, 0.1)", "try sigma="),
    *(
        argument(f"noise seed={seed!r}", given(seed=seed), "seed must be a whole number at least 0", f"{seed!r}",
            "seed=0")
        for seed in (-1, 1.5, "x", None)
    ),
    *(
        argument(f"crop_size={crop!r}", given(crop_size=crop), "crop_size must be a whole number from 1 to 8",
            f"got {crop!r}",
                 "try crop_size=8", "shorter side")
        for crop in (9, 0, -2, 2.5, "x", float("nan"))
    ),
    *(
        argument(f"set_epoch({epoch!r})", lambda epoch=epoch: given()().set_epoch(epoch),
                 "epoch must be a whole number at least 0", f"got {epoch!r}")
        for epoch in (-1, 0.5, "x")
    ),
    argument("noise on no images", of(torch.zeros(0, 3, 8, 8)), "no images, expected at least one", "check"),
    argument("noise on images in 0..255", of(X * 255), "float [N, C, H, W] in [0, 1], got torch.float32", "/ 255"),
    argument("noise on NaN", of(NAN), "in [0, 1], got torch.float32 [2, 3, 8, 8], nan"),
    argument("noise on infinity", of(NAN.nan_to_num(float("inf"))), "in [0, 1], got torch.float32", "to inf"),
    argument("noise on whole numbers", of(X.long()), "an ImageSet (see load_images) or float", "got torch.int64"),
    argument("noise on a numpy array", of(X.numpy()), "an ImageSet (see load_images) or float", "got float32"),
    argument("noise on a folder's name", of("photos"), "an ImageSet (see load_images) or float", "got str"),
    argument("noise on one image", of(X[0]), "float [N, C, H, W] in [0, 1], got torch.float32 [3, 16, 16]"),
    Row("a pair beyond the last", nothing, lambda place: given()()[2], IndexError, ()),
    *(
        argument(f"UNet {name}={value!r}", lambda name=name, value=value: UNet(**{name: value}),
                 f"{name} must be a whole number at least 1, got {value!r}")
        for name, value in [("channels", 0), ("channels", 2.5), ("channels", "3"), ("channels", True), ("blocks", 0)]
    ),
    *(
        argument(f"UNet widths={value!r}", lambda value=value: UNet(widths=value), "widths", *words)
        for value, *words in [((),), ((8, 0), "whole number at least 1, got 0"), ((8.5,), "got 8.5"), ("64", "got '6'")]
    ),
    argument("UNet seed", lambda: UNet(seed="x"), "seed must be a whole number", "'x'"),
    argument("UNet of one image", lambda: UNet(**SMALL)(X[0]),
        "takes float32 [B, 3, H, W] in [0, 1], got torch.float32 [3, 16, 16]", "image[None]"),
    argument("UNet of one channel", lambda: UNet(**SMALL)(X[:, :1]),
        "takes float32 [B, 3, H, W] in [0, 1], got torch.float32 [1, 1, 16, 16]"),
    argument("UNet of 8 bits", lambda: UNet(**SMALL)((X * 255).byte()), "takes float32", "uint8", "x / 255"),
    argument("UNet of float64", lambda: UNet(**SMALL)(X.double()), "takes float32", "got torch.float64"),
    argument("UNet of no pixels", lambda: UNet(**SMALL)(X[:, :, :0]), "[1, 3, 0, 16]"),
    *(
        argument(f"{measure.__name__} of {image} and {clean}", shapes(measure, image, clean),
                 "expected two float [B, C, H, W] of one shape", "image[None]")
        for measure in (psnr, ssim)
        for image, clean in [((3, 16, 16), (1, 3, 16, 16)), ((1, 3, 16, 16), (2, 3, 16, 16)), ((3, 16, 16),) * 2]
    ),
    *(
        argument(f"{measure.__name__} {id}", lambda measure=measure, pair=pair: measure(*pair), *words)
        for measure in (psnr, ssim)
        for id, pair, words in [
            ("in 0..255", (X * 255, X * 255), ("the second in [0, 1], got ", "x / 255")),
            ("of a noisy image as clean", (X, X - 0.5), ("the second in [0, 1]", "-0.")),
            ("of 8 bits", ((X * 255).byte(),) * 2, ("expected two float", "got torch.uint8")),
        ]
    ),
    *(
        Row(f"{measure.__name__} of NaN is NaN", nothing, lambda place, measure=measure: bool(
            measure(X.where(X > 0.1, torch.nan), X).isnan()), Gives(True))
        for measure in (psnr, ssim)
    ),
    argument("ssim of 10x20", shapes(ssim, (1, 3, 10, 20), (1, 3, 10, 20)), "11x11", "got [10, 20]", "crop less"),
    Row("psnr of 1x1", nothing, lambda place: psnr(X[..., :1, :1] * 0 + 1, X[..., :1, :1] * 0).tolist(), Gives([0])),
    *(
        Row(f"finger_numbers {name}={value!r}", nothing, lambda place, name=name, value=value: make(
            place / "set", **{name: value}), ValueError, (f"{name} must be a whole number ", f"got {value!r}", "try"))
        for name, value in [("shots", 0), ("scenes", 101), ("size", 8), ("size", 2.5), ("seed", -3), ("workers", 0)]
    ),
]  # fmt: skip

# ---- archives --------------------------------------------------------------------------------

JPEGS = {f"{digit}/IMG_{1000 + digit}.JPG": encoded(noise(16, 16, seed=digit), "JPEG") for digit in range(10)}
MEMBERS = {f"Top/Dataset/{name}": content for name, content in JPEGS.items()} | {"Top/LICENSE": b"Apache"}
LAST = "Top/Dataset/9/IMG_1009.JPG"


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes) pairs, or dicts of them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of doubles
        for member in members:
            for name, content in member.items() if isinstance(member, dict) else [member]:
                archive.writestr(name, content)
    return file.getvalue()


def doctored(content, name, field, value, width=2):
    """A zip whose directory says something else of a member. field: offset in the directory's entry."""
    entry = content.rindex(name.encode()) - 46
    assert content[entry : entry + 4] == b"PK\x01\x02"
    at = entry + field
    return content[:at] + value.to_bytes(width, "little") + content[at + width :]


def spoilt(content, name):
    """A zip with bytes in the middle of one member's packed data turned around."""
    at = content.index(name.encode()) + len(name) + 30
    return content[:at] + bytes(byte ^ 255 for byte in content[at : at + 60]) + content[at + 60 :]


def link():
    info = zipfile.ZipInfo("Top/Dataset/0/IMG_1.JPG")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def fetched(place, source="a.zip"):
    source = place / source if source else ""
    return command("sign_digits", "--from", source, "--to", place / "to" / "sign_digits")


def archive(id, content, *words, name="a.zip"):
    """fetch of a zip, which stays; nothing is made but the folder that was to hold the data set."""

    def lay(place):
        (place / "to").mkdir()
        (place / name).write_bytes(content)

    return Row(id, lay, lambda place: fetched(place, name), EXIT_1, ("--from FILE", *words))


def outside(id, member):
    words = (f"the member {getattr(member, 'filename', member)!r}", "expected plain files", "do not trust")
    return archive(id, zipped(MEMBERS, (member, b"../../evil")), *words)


def run_as_a_command(place):
    """As a process of its own, whose stderr is all that the user sees."""
    command = [
        sys.executable,
        "-m",
        "src.datasets",
        "sign_digits",
        "--from",
        place / "a.zip",
        "--to",
        place / "to" / "x",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def into(name):
    def lay(place):
        (place / "a.zip").write_bytes(zipped(MEMBERS))
        write(place, {"0/mine.jpg": b"mine", "file": b"x"})

    return lay, lambda place: command("sign_digits", "--from", place / "a.zip", "--to", place / "photos" / name)


def unpack_elsewhere(place):
    """Where nobody may write, so that the zip is what is in the way."""
    with tempfile.TemporaryDirectory() as folder:
        return command("sign_digits", "--from", place / "a.zip", "--to", Path(folder) / "x")


SOUND = "a.zip is not a sound zip"
ARCHIVES = [
    outside("member above the archive", "../evil.JPG"),
    outside("member above, in the middle of its path", "Top/Dataset/0/../../../evil.JPG"),
    outside("member with an absolute path", "/tmp/evil.JPG"),
    outside("member on another drive", "C:/evil.JPG"),
    outside("member above, by backslashes", "..\\evil.JPG"),
    outside("member that is a link", link()),
    archive("zip that unpacks to 2 GB", doctored(zipped(MEMBERS, ("zeros", bytes(9**6))), "zeros", 24, 2 * 10**9, 4),
            "would unpack to 2,000", "expected at most 1,073,741,824", "do not trust it"),
    archive("member that announces less than it holds", doctored(zipped(MEMBERS), LAST, 24, 100, 4), SOUND),
    archive("photo that declares 50,000x50,000", zipped(MEMBERS, {LAST.replace("1009", "2009"): png_by_hand(
        50_000, 50_000, 8, 2, [])}), "IMG_2009.JPG in ", "2500000000 pixels", "expected a photo"),
    archive("zip cut in half", half(zipped(MEMBERS)), SOUND),
    archive("empty zip file", b"", SOUND),
    archive("web page called zip", b"<html>404</html>", SOUND),
    archive("zip without members", zipped(), "no photos of 0, 1, 2", "expected the ten folders 0 to 9"),
    archive("zip of something else", zipped(("readme.txt", b"x")), "no photos of 0, 1, 2", "expected the ten folders"),
    archive("zip without two classes", zipped({n: c for n, c in MEMBERS.items() if "/3/" not in n and "/7/" not in n}),
            "no photos of 3, 7", "expected the ten folders 0 to 9"),
    archive("photo cut in half", zipped(MEMBERS | {LAST: half(MEMBERS[LAST])}), f"{LAST} in ", "cannot be decoded"),
    archive("text called JPG", zipped(MEMBERS | {LAST: b"x"}), f"{LAST} in ", "cannot be decoded", "expected a photo"),
    archive("bad photo with a line break in its name", zipped(MEMBERS, ("0/a\nb.JPG", b"x")), r"0/a\nb.JPG in "),
    archive("member named twice", zipped(MEMBERS, (LAST, MEMBERS[LAST])), "IMG_1009.JPG twice, expected it once"),
    archive("photo twice, in two folders", zipped(MEMBERS, ("copy/3/IMG_1003.JPG", MEMBERS[LAST])), "JPG twice"),
    archive("spoilt member, deflate", spoilt(zipped(MEMBERS), LAST), SOUND),
    archive("spoilt member, bzip2", spoilt(zipped(MEMBERS, method=zipfile.ZIP_BZIP2), LAST), SOUND),
    archive("spoilt member, lzma", spoilt(zipped(MEMBERS, method=zipfile.ZIP_LZMA), LAST), SOUND),
    archive("encrypted member", doctored(zipped(MEMBERS), LAST, 8, 1), SOUND, "is encrypted"),
    archive("member packed in an unknown way", doctored(zipped(MEMBERS), LAST, 10, 98), SOUND),
    archive("member whose name is no UTF-8 though it says so", doctored(zipped(MEMBERS), LAST, 8, 0x800).replace(
        b"IMG_1009", b"IMG_\xff009"), SOUND),
    archive("zip with a line break in its name", b"x", r"a\nb.zip is not a sound zip", name="a\nb.zip"),
    Row("no such zip", nothing, lambda place: command("sign_digits", "--from", place / "a.zip", "--to", place / "x"),
        EXIT_1, ("error: no ", "a.zip, expected a zip, a folder or an http(s) URL")),
    Row("--from an unset variable", nothing, lambda place: command("sign_digits", "--from", "", "--to", place / "x"),
        EXIT_1, ("no name given, expected a zip",)),
    Row("folder of something else", files({"readme.txt": b"x"}), lambda place: command(
        "sign_digits", "--from", place / "photos", "--to", place / "x"), EXIT_1, ("no photos of 0, 1", "ten folders")),
    Row("--to a folder of the user's", *into("."), EXIT_1, ("exists but is not a complete", "move it away", "--to")),
    Row("--to a file", *into("file"), EXIT_1, ("file exists but is not a complete", "move it away")),
    Row("--to below a file", *into("file/x/y"), EXIT_1, ("cannot write ", "file/x/y (Not a directory)",
        "name another place")),
    Row("zip not readable", into("x")[0], lambda place: as_nobody(0, "../a.zip", unpack_elsewhere)(place), EXIT_1,
        ("a.zip cannot be read (Permission denied)", "--from FILE")),
    Row("a process of its own", archive("", b"x").given, run_as_a_command, EXIT_1, (SOUND, "--from FILE")),
]  # fmt: skip

# ---- environment -----------------------------------------------------------------------------

TINY = dict(scenes=1, shots=1, size=32, workers=1)
PLAIN = {f"{number}.png": encoded(noise(80, 80, seed=number)) for number in range(3)}
EXPECTED = np.stack([noise(80, 80, seed=number).transpose(2, 0, 1) for number in range(3)])


def cached(limit, kib, **options):
    """The pixels of place/photos when the cache has so little room."""

    def done(place):
        with limit(place, kib) as disk:
            return load(place, cache=disk, **options).pixels.numpy()

    return done


def drawn(limit, kib):
    def done(place):
        with limit(place, kib) as disk:
            return make(disk / "set", **TINY)

    return done


def unpacked(limit, kib):
    def done(place):
        with limit(place, kib) as disk:
            return command("sign_digits", "--from", place / "a.zip", "--to", disk / "sign_digits")

    return done


def to_read_only(done):
    def act(place):
        (place / "closed").mkdir()
        (place / "closed").chmod(0o555)
        try:
            with nobody():
                return done(place)
        finally:
            (place / "closed").rmdir()

    return act


def zip_there(place):
    (place / "a.zip").write_bytes(zipped(MEMBERS))


ROOM = ("cannot write ", "what was there is kept", "free some space, or name another place")

ENVIRONMENT = [
    *(
        row
        for how, limit, kib in [("disk full", small_disk, 16), ("file size limit", small_files, 0.25)]
        for row in [
            Row(f"{how}: cache of load_images", files(PLAIN), cached(limit, 16), Gives(EXPECTED)),
            Row(f"{how}: drawing of finger_numbers", nothing, drawn(limit, kib), OSError, ROOM),
            Row(f"{how}: unpacking of sign_digits", zip_there, unpacked(limit, kib), EXIT_1, ROOM),
        ]
    ),
    Row("disk full: room for the pixels, not for their record", files(PLAIN), cached(small_disk, 60), Gives(EXPECTED)),
    Row("read-only disk: cache of load_images", files(PLAIN), cached(
        lambda place, kib: small_disk(place, kib, ",ro"), 999), Gives(EXPECTED)),
    Row("read-only disk: drawing of finger_numbers", nothing, drawn(
        lambda place, kib: small_disk(place, kib, ",ro"), 999), OSError, ROOM),
    Row("read-only disk: unpacking of sign_digits", zip_there, unpacked(
        lambda place, kib: small_disk(place, kib, ",ro"), 999), EXIT_1, ROOM),
    Row("read-only folder: cache of load_images", files(PLAIN), to_read_only(
        lambda place: load(place, cache=place / "closed").pixels.numpy()), Gives(EXPECTED)),
    Row("read-only folder: drawing of finger_numbers", nothing, to_read_only(
        lambda place: make(place / "closed" / "set", **TINY)), OSError, ("closed/set", *ROOM)),
    Row("read-only folder: unpacking of sign_digits", zip_there, to_read_only(lambda place: command(
        "sign_digits", "--from", place / "a.zip", "--to", place / "closed" / "x")), EXIT_1, ("closed/", *ROOM)),
    Row("cache below a file", files(PLAIN), lambda place: load(
        place, cache=place / "photos" / "0.png" / "cache").pixels.numpy(), Gives(EXPECTED)),
    Row("drawing below a file", files(PLAIN), lambda place: make(place / "photos" / "0.png" / "set", **TINY),
        OSError, ROOM),
]  # fmt: skip

# ---- checkpoints and training -------------------------------------------------------------------


def training(place, run="run", epochs=3, widths=(4, 8), sigma=0.2, crop_size=None, snapshots=(), **config):
    """The history of a tiny training kept in place/run, times aside."""
    images = ImageSet.from_pixels(torch.from_numpy(noise(16, 16 * 6).reshape(6, 16, 16, 3)).permute(0, 3, 1, 2))
    sets = [GaussianNoiseDataset(part, sigma=sigma, crop_size=crop_size, fixed=fixed) for part, fixed in
            ((images[:4], False), (images[4:], True))]  # fmt: skip
    config = TrainConfig(epochs=epochs, **{"batch_size": 2} | config)
    history = fit(UNet(3, widths), *sets, config, run=place / run if run else run, snapshots=snapshots)
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


@functools.cache
def trained(epochs):
    """The files of such a training, name -> bytes."""
    with tempfile.TemporaryDirectory() as folder:
        training(Path(folder), epochs=epochs)
        return {path.name: path.read_bytes() for path in (Path(folder) / "run").iterdir()}


def a_run(epochs=1, **changed):
    """A trained run whose state.pt, state_before.pt are what `changed` makes of their bytes (None: gone)."""

    def given(place):
        (place / "run").mkdir()
        names = {f"{name.replace('_', '-')}.pt": change for name, change in changed.items()}
        for name, content in trained(epochs).items():
            content = names[name](content) if name in names else content
            if content is not None:
                (place / "run" / name).write_bytes(content)

    return given


def a_state(id, change, *words, epochs=1, **options):
    return Row(f"state: {id}", a_run(epochs, state=change), lambda place: training(place, **options), ValueError, words)


def flipped_in_the_middle(content):
    return flipped(content, len(content) // 2)


def saved_as(change):
    """state.pt as another program, or another version of ours, might have written it."""

    def act(content):
        file = io.BytesIO()
        torch.save(change(torch.load(io.BytesIO(content), weights_only=True)), file)
        return file.getvalue()

    return act


def with_fingerprint(change):
    def act(saved):
        fingerprint = json.loads(saved["fingerprint"])
        change(fingerprint)
        return saved | {"fingerprint": json.dumps(fingerprint)}

    return saved_as(act)


class Evil:
    def __reduce__(self):
        return exec, ("open('evil', 'w').write('evil')",)


def in_place(done):
    """With place as the working directory: what a pickle would write shows up there."""

    def act(place):
        with contextlib.chdir(place):
            return done(place)

    return act


def goes_on(place):
    """Three epochs, continued in a copy: the table's rows leave what was there as it was."""
    shutil.copytree(place / "run", place.parent / "copy")
    return training(place.parent, run="copy")


def while_another_trains(place):
    lock = str(place / "run/lock")
    code = f"import filelock; lock = filelock.FileLock({lock!r}); lock.acquire(); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        try:
            return training(place)
        finally:
            other.communicate(b"\n")


def without_memory(place):
    """A batch of 1.6 TB: the system's own refusal, not a pretended one."""
    images = ImageSet.from_pixels(torch.zeros(2, 3, 1024, 1024, dtype=torch.uint8))
    sets = [GaussianNoiseDataset(part, sigma=0.2) for part in (images[[0] * 2**19], images[1:])]
    return fit(UNet(3, (4, 8)), *sets, TrainConfig(epochs=1, batch_size=2**19), run=place.parent / "new")


def on_disk(limit, kib):
    def done(place):
        with limit(place, kib) as disk:
            try:
                return training(disk)
            finally:  # a run of no epoch yet is whole; half a state.pt would be found by the limit's own check
                with contextlib.suppress(OSError):
                    (disk / "run/lock").unlink()
                    (disk / "run/record.json").unlink()
                    (disk / "run").rmdir()

    return done


def first_epochs(epochs):
    """What an undisturbed run has after so many epochs; drawn up when the row runs."""
    return lambda: [
        {name: value for name, value in record.items() if name != "seconds"}
        for record in json.loads(trained(epochs)["record.json"])["history"]
    ]


OURS, DELETE = "is damaged or no checkpoint of this version", "delete it to train anew, or name another run"
NAME = "name another run"
CHECKPOINTS = [
    a_state("cut in half", half, OURS, DELETE),
    a_state("empty", lambda content: b"", OURS, DELETE),
    a_state("one flipped bit", flipped_in_the_middle, OURS, "check sum", DELETE),
    a_state("text", lambda content: b"weights", OURS, "not a zip", DELETE),
    a_state("zip of something else", lambda content: zipped(("readme.txt", b"x")), OURS, DELETE),
    a_state("weights alone, of another program", saved_as(lambda saved: saved["model"]), OURS, DELETE),
    a_state("a tensor", saved_as(lambda saved: torch.zeros(3)), OURS, DELETE),
    *(
        a_state(f"{name} missing", saved_as(lambda saved, name=name: {n: saved[n] for n in saved if n != name}), OURS,
            DELETE)
        for name in ("fingerprint", "ema_model", "history", "model", "optimizers", "environments", "test_set", "step")
    ),
    a_state("whole network pickled", saved_as(lambda saved: UNet(3, (4, 8))), OURS, "(Weights only load failed)"),
    Row("state: malicious pickle", a_run(state=saved_as(lambda saved: saved | {"fingerprint": Evil()})),
        in_place(training),
        ValueError, (OURS, "(Weights only load failed)", DELETE)),
    Row("state: damaged, and the epoch before it too", a_run(2, state=half, state_before=half), training, ValueError,
        (OURS, DELETE)),
    a_state("of another architecture", bytes, "network.widths is [4, 8], not [4, 6]", NAME, widths=(4, 6)),
    a_state("of another sigma", bytes, "train_set.sigma is 0.2, not 0.1. It is left as it is", NAME, sigma=0.1),
    a_state("of another learning rate", bytes, "config.lr is 0.0015, not 0.01", NAME, lr=0.01),
    a_state("of a newer version", with_fingerprint(lambda it: it.update(version=999)), "version is 999, not", NAME),
    a_state("of code without a setting", with_fingerprint(lambda it: it["config"].pop("beta2")),
            "config.beta2 is None, not 0.95", NAME),
    a_state("of code with another setting", with_fingerprint(lambda it: it["config"].update(dropout=0.1)),
            "config.dropout is 0.1, not None", NAME),
    Row("state: of more epochs than asked for", a_run(2), lambda place: training(place, epochs=1),
        Gives(first_epochs(1))),
    Row("state: of more epochs, and of those asked for no weights", a_run(4), lambda place: training(place, epochs=3),
        ValueError, ("holds 4 epochs, 3 were asked for", "[1, 2, 4]", NAME)),
    Row("state: a folder of that name", files({"../run/lock": b"", "../run/state.pt": None}), training,
        OSError, ("state.pt (Is a directory)", NAME)),
    Row("state: damaged, the epoch before it whole", a_run(2, state=flipped_in_the_middle), goes_on,
        Gives(first_epochs(3))),
    Row("state: gone, and the epoch before it damaged", a_run(2, state=lambda content: None, state_before=half),
        training, ValueError, ("state-before.pt is damaged", DELETE)),
    Row("state: gone, killed between two renames", a_run(2, state=lambda content: None), goes_on,
        Gives(first_epochs(3))),
    Row("state: the epoch before it damaged", a_run(2, state_before=half), goes_on, Gives(first_epochs(3))),
    Row("state: written by another torch on another machine", a_run(2, state=saved_as(
        lambda saved: saved | {"environments": [saved["environments"][0] | {"torch": "2.9.0", "threads": 64}]})),
        goes_on, Gives(first_epochs(3))),
    Row("record.json gone", lambda place: (a_run(2)(place), (place / "run/record.json").unlink()), goes_on,
        Gives(first_epochs(3))),
    Row("record.json is no JSON", lambda place: (a_run(2)(place), (place / "run/record.json").write_text("{")), goes_on,
        Gives(first_epochs(3))),
    Row("left by a kill: half a file under a temporary name", lambda place: (
        a_run(2)(place), (place / "run/state.pt.part").write_bytes(b"x")), goes_on, Gives(first_epochs(3))),
    Row("run while another process trains it", a_run(), while_another_trains, BlockingIOError,
        ("another process is training", "wait for it, or name another run")),
    Row("run without a name", nothing, lambda place: training(place, run=""), ValueError,
        ("run must be a name such as", "got ''")),
    Row("run below a file", files({"x.png": PNG}), lambda place: training(place, run="photos/x.png/run"), OSError,
        ("Not a directory", *ROOM)),
    Row("run on a full disk", nothing, on_disk(small_disk, 16), OSError, ("No space left", *ROOM)),
    Row("run on a read-only disk", nothing, on_disk(lambda place, kib: small_disk(place, kib, ",ro"), 999), OSError,
        ("Read-only file system", *ROOM)),
    Row("run beyond the file size limit", nothing, on_disk(small_files, 8), OSError, ("File too large", *ROOM)),
    Row("run in a folder without permission", nothing, to_read_only(lambda place: training(place / "closed")), OSError,
        ("Permission denied", *ROOM)),
    Row("batch larger than the set", nothing, lambda place: training(place, batch_size=5), ValueError,
        ("batch_size 5 exceeds the 4 training images", "try batch_size=4")),
    Row("epochs 0", nothing, lambda place: training(place, epochs=0), ValueError, ("epochs must be",
        "at least 1, got 0")),
    Row("rate of another unit", nothing, lambda place: training(place, lr=2), ValueError,
        ("lr must lie in (0, 1), got 2",)),
    Row("optimizer unknown", nothing, lambda place: training(place, optimizer="sgd"), ValueError,
        ("optimizer must be one of ('muon', 'adam')", "got 'sgd'")),
    Row("snapshot that was not kept", a_run(), lambda place: load_snapshot(place / "run", 7), FileNotFoundError,
        ("no weights of epoch 7", "ask for one of [1]")),
    Row("snapshot cut in half", files({"../run/epoch-1.pt": b"PK"}), lambda place: load_snapshot(place / "run", 1),
        ValueError, ("epoch-1.pt is damaged", "delete it")),
    Row("network that no memory can hold", nothing, without_memory, MemoryError,
        ("not enough memory for batch_size 524288", "Try batch_size=262144")),
]  # fmt: skip

TABLE = {
    "files": FILES, "folders": FOLDERS, "arguments": ARGUMENTS, "archives": ARCHIVES, "environment": ENVIRONMENT,
    "checkpoints": CHECKPOINTS,
}  # fmt: skip

# ---- the test --------------------------------------------------------------------------------


def snapshot(place):
    """All that is below a folder: bytes, targets of links, None for folders and pipes."""
    found = {}
    for path in sorted(place.rglob("*")):
        link, plain = path.is_symlink(), path.is_file()
        found[str(path.relative_to(place))] = os.readlink(path) if link else path.read_bytes() if plain else None
    return found


@pytest.fixture
def place():
    """An empty folder that any user may enter, which pytest's tmp_path is not."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(folder), Path(folder) / "place"):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        yield Path(folder) / "place"


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{kind}: {row.id}") for kind in TABLE for row in TABLE[kind]])
def test_row(row, place):
    row.given(place)
    before = snapshot(place)
    if isinstance(row.expected, Gives):
        got = row.done(place)
        if row.expected.within or isinstance(row.expected.value, np.ndarray):
            expected = np.asarray(row.expected.value)
            assert np.shape(got) == expected.shape
            assert np.abs(np.asarray(got, float) - expected).max() <= row.expected.within
        else:
            expected = row.expected.value
            assert got == (expected() if callable(expected) else expected)
    else:
        if row.expected == EXIT_1:
            code, _, text = row.done(place)
            assert code == 1 and text.startswith("error: ") and text.endswith("\n")
            text = text[:-1]
        else:
            with pytest.raises(row.expected) as caught:
                row.done(place)
            text = str(caught.value)
        assert "\n" not in text and "Traceback" not in text
        for word in row.words:
            assert word in text, text
        left = [path for path in place.parent.glob("cache/*")]
        assert left == []  # nor is anything kept of what was refused
    assert snapshot(place) == before


def test_ids_are_unique():
    ids = [row.id for rows in TABLE.values() for row in rows]
    assert len(ids) == len(set(ids))


if __name__ == "__main__":
    for kind, rows in TABLE.items():
        handled = sum(isinstance(row.expected, Gives) for row in rows)
        print(f"{kind:12} {len(rows):4} rows: {len(rows) - handled} refused, {handled} handled")
    print(f"{'in all':12} {sum(map(len, TABLE.values())):4} rows")
