"""photo_files.py and exif.py: what goes in comes out, for every depth, alpha, kind of metadata and odd layout.

Files are made and read by Pillow, tifffile and imagecodecs, or byte by byte, never by libvips alone.
"""

import io
import itertools
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from src.photos import exif
from src.photos.photo_files import Photo, read_photo, without_previews, write_photo

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"
IPTC = b"\x1c\x02\x78\x00\x05wave!"
ARTIST, LENS, OWNER = "José 李\0".encode(), "Objektiv für Käse\0".encode(), "Zoë\0".encode()


def pixels(channels=3, deep=False, size=(24, 17)):
    top = 65536 if deep else 256
    return np.random.default_rng(channels).integers(0, top, (channels, *size)).astype(np.uint16 if deep else np.uint8)


def camera_block(orientation=6):
    """As a camera writes it: UTF-8 names, exposure, place, maker's notes, an Interop directory, a size long past."""
    return exif.block(
        {
            0: {
                exif.MAKE: (2, b"a camera\0"),
                exif.ORIENTATION: (3, struct.pack("<H", orientation)),
                315: (2, ARTIST),
                256: (4, struct.pack("<I", 4000)),
            },
            exif.EXIF: {
                0x829A: (5, struct.pack("<II", 1, 100)),
                exif.ISO: (3, struct.pack("<H", 3200)),
                0xA434: (2, LENS),
                0xA430: (2, OWNER),
                exif.MAKER_NOTE: (7, b"maker" * 9),
            },
            exif.GPS: {1: (2, b"N\0"), 2: (5, struct.pack("<6I", 1, 1, 2, 1, 7, 2))},
            exif.INTEROP: {1: (2, b"R98\0")},
        }
    )


def photo(channels=3, deep=False, alpha=False):
    return Photo(pixels(channels, deep), pixels(1, deep)[0] if alpha else None, ICC, camera_block(), XMP, IPTC,
                 (300, 300))  # fmt: skip


# EXIF blocks


def test_a_block_is_read_as_pillow_reads_it():
    tags = Image.Exif()
    tags.load(camera_block())
    assert tags[exif.MAKE] == "a camera" and tags[exif.ORIENTATION] == 6
    assert tags[315].encode("latin-1") == ARTIST[:-1]  # Pillow takes text for Latin-1
    assert tags.get_ifd(exif.EXIF)[0x829A] == 0.01 and tags.get_ifd(exif.EXIF)[exif.ISO] == 3200
    assert tags.get_ifd(exif.GPS)[2] == (1.0, 2.0, 3.5) and tags.get_ifd(exif.INTEROP)[1] == "R98"


def test_both_byte_orders_are_read_alike():
    """Pillow writes big-endian blocks if they were read so."""
    tags = Image.Exif()
    tags[exif.MODEL], tags.get_ifd(exif.EXIF)[exif.ISO], tags.get_ifd(exif.GPS)[2] = "X", 6400, (1.0, 2.0, 3.5)
    found = {}
    for endian in ("<", ">"):
        tags.endian = endian
        found[endian] = exif.parse(tags.tobytes())
    assert tags.tobytes()[6:8] == b"MM" and found["<"] == found[">"]
    assert found["<"][exif.EXIF][exif.ISO] == (3, struct.pack("<H", 6400))


@pytest.mark.parametrize("damage", range(0, 300, 7))
def test_damaged_blocks_are_refused_or_read(damage):
    """Never another error, never an endless loop."""
    block = bytearray(camera_block())
    block[damage % len(block)] ^= 0xFF
    for data in (bytes(block), bytes(block)[: damage + 1]):
        try:
            exif.parse(data)
        except ValueError as error:
            assert "\n" not in str(error)
        assert (exif.number(data, 0, exif.ORIENTATION) or 0) >= 0


# out and in again

SUFFIXES = (".png", ".tif", ".webp", ".jpg", ".avif", ".bmp")
CASES = [
    (suffix, channels, deep, alpha)
    for suffix, channels, deep, alpha in itertools.product(SUFFIXES, (1, 3), (False, True), (False, True))
    if not (deep and suffix not in (".png", ".tif", ".avif")) and not (alpha and suffix in (".jpg", ".bmp"))
]


@pytest.mark.parametrize("suffix, channels, deep, alpha", CASES)
def test_what_is_written_is_read(tmp_path, suffix, channels, deep, alpha):
    path, wanted = tmp_path / f"a{suffix}", photo(channels, deep, alpha)
    write_photo(path, wanted)
    found = read_photo(path)
    assert found.pixels.dtype == wanted.pixels.dtype and (found.alpha is None) == (wanted.alpha is None)
    upright = suffix in (".avif", ".bmp")  # turned as the orientation says
    if suffix in (".png", ".tif", ".bmp"):
        expected = np.rot90(wanted.pixels, -1, (1, 2)) if upright else wanted.pixels
        np.testing.assert_array_equal(found.pixels, expected)
        if alpha:
            np.testing.assert_array_equal(found.alpha, wanted.alpha)
    assert found.orientation == (1 if upright else 6)
    assert found.pixels.shape[1:] == ((17, 24) if upright else (24, 17))
    if suffix != ".bmp":
        tags = exif.parse(found.exif)
        assert found.xmp == XMP and (found.icc == ICC or channels == 1)  # libvips drops a profile of RGB from grey
        assert tags[0][exif.MAKE] == (2, b"a camera\0") and tags[0][315] == (2, ARTIST)
        assert tags[exif.EXIF][0xA434] == (2, LENS) and tags[exif.EXIF][0xA430] == (2, OWNER)
        assert tags[exif.EXIF][0x829A] == (5, struct.pack("<II", 1, 100))
        assert tags[exif.GPS][2] == (5, struct.pack("<6I", 1, 1, 2, 1, 7, 2)) and tags[exif.INTEROP][1] == (2, b"R98\0")
    if suffix in (".jpg", ".tif"):
        assert found.iptc == IPTC
    if suffix in (".jpg", ".tif", ".png"):
        assert found.dpi == pytest.approx((300, 300), rel=1e-3)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_block_goes_through_byte_by_byte(tmp_path, suffix):
    """With its thumbnail, unknown tags, and the offsets in maker's notes."""
    block = camera_block() + b"whatever stands behind the directories"
    write_photo(tmp_path / f"a{suffix}", replace(photo(), exif=block))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.info["exif"].removeprefix(b"Exif\0\0") == block.removeprefix(b"Exif\0\0")


def test_a_photo_without_metadata_gets_none(tmp_path):
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        write_photo(tmp_path / f"a{suffix}", Photo(pixels()))
        found = read_photo(tmp_path / f"a{suffix}")
        assert (found.exif, found.icc, found.xmp, found.iptc) == (None, None, None, None)
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert "exif" not in image.info and image.mode == "RGB"


def test_a_long_block_fits_into_a_jpeg_without_its_thumbnail(tmp_path):
    tags = exif.parse(camera_block())
    tags[0][0x8649] = 7, bytes(70_000)
    write_photo(tmp_path / "a.jpg", replace(photo(), exif=exif.block(tags)))
    found = exif.parse(read_photo(tmp_path / "a.jpg").exif)
    assert 0x8649 not in found[0] and found[0][315] == (2, ARTIST)


@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".tif"])
def test_every_orientation_from_every_format_into_every_other(tmp_path, source, target):
    """Files of Pillow and tifffile, half red: the red half lies where Pillow, or the TIFF's own tag, says."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :, 0] = 255
    stored[8:, 16:, 2] = 255
    for orientation in range(1, 9):
        tags = Image.Exif()
        tags[exif.ORIENTATION] = orientation
        if source == ".tif":
            extra = [(exif.ORIENTATION, 3, 1, orientation, True)]
            tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=extra)
        else:
            options = dict(lossless=True) if source == ".webp" else dict(quality=95, subsampling=0)
            Image.fromarray(stored).save(tmp_path / f"a{source}", exif=tags, **options)
        write_photo(tmp_path / f"b{target}", read_photo(tmp_path / f"a{source}"))
        tags = Image.Exif()
        tags[exif.ORIENTATION] = orientation
        expected = Image.fromarray(stored)
        expected.getexif()[exif.ORIENTATION] = orientation
        expected = np.asarray(ImageOps.exif_transpose(expected)).astype(int)
        with open(tmp_path / f"b{target}", "rb") as file, Image.open(file) as image:  # by name, Pillow shears TIFFs
            found = np.asarray(ImageOps.exif_transpose(image)).astype(int)
        assert found.shape == expected.shape and np.abs(found - expected).mean() < 12, orientation


# sixteen bits, TIFF and PNG against other readers


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_against_other_readers(tmp_path, channels, suffix):
    deep = pixels(channels, deep=True)
    alpha = None if channels % 2 else deep[-1]
    write_photo(tmp_path / f"a{suffix}", Photo(deep[: channels - (channels % 2 == 0)], alpha, exif=camera_block()))
    data = (tmp_path / f"a{suffix}").read_bytes()
    stored = tifffile.imread(tmp_path / "a.tif") if suffix == ".tif" else imagecodecs.png_decode(data)
    np.testing.assert_array_equal(stored.reshape(24, 17, -1).transpose(2, 0, 1), deep)


@pytest.mark.parametrize("big, order", [(False, "<"), (False, ">"), (True, "<"), (True, ">")])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_tiffs_of_others_in_every_layout(tmp_path, compression, big, order):
    """Eight orientations, grey and RGB, with alpha and without, 8 and 16 bits, planes together and apart."""
    orientations = range(1, 9) if order == "<" and compression is None else (6,)
    for orientation, channels, deep, planar in itertools.product(
        orientations, (1, 2, 3, 4), (False, True), ("contig", "separate")
    ):
        if planar == "separate" and channels < 3:
            continue
        stored = pixels(channels, deep, (6, 9))
        tifffile.imwrite(
            tmp_path / "a.tif", stored if planar == "separate" else stored.transpose(1, 2, 0).squeeze(),
            photometric="rgb" if channels > 2 else "minisblack", planarconfig=planar if channels > 1 else None,
            compression=compression, bigtiff=big, byteorder=order, metadata=None,
            extrasamples=None if channels % 2 else ["unassalpha"],
            extratags=[(exif.ORIENTATION, 3, 1, orientation, True), (315, 2, len(ARTIST), ARTIST, True)],
        )  # fmt: skip
        found = read_photo(tmp_path / "a.tif")
        every = np.concatenate([found.pixels] + ([found.alpha[None]] if found.alpha is not None else []))
        np.testing.assert_array_equal(every, stored)
        assert found.orientation == orientation and exif.parse(found.exif)[0][315] == (2, ARTIST)
        write_photo(tmp_path / "b.tif", found)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif").reshape(6, 9, -1), stored.transpose(1, 2, 0))


def test_white_is_zero_and_tables_of_colours(tmp_path):
    deep = pixels(1, True)[0]
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels[0], 65535 - deep)
    image = Image.fromarray(pixels(3).transpose(1, 2, 0)).quantize(16)
    for name in ("a.tif", "a.png"):
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_photo(tmp_path / name).pixels.transpose(1, 2, 0), image.convert("RGB"))


@pytest.mark.parametrize(
    "mode, channels, alpha", [("1", 1, False), ("P", 3, False), ("PA", 3, True), ("LA", 1, True), ("RGBA", 3, True)]
)
def test_modes(tmp_path, mode, channels, alpha):
    image = Image.fromarray(pixels(3).transpose(1, 2, 0)).convert(mode if mode != "PA" else "P")
    image.save(tmp_path / "a.png", **({"transparency": 3} if mode == "PA" else {}))
    found = read_photo(tmp_path / "a.png")
    assert len(found.pixels) == channels and (found.alpha is not None) == alpha
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(24, 17, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(found.pixels, expected)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(depth, kind, rows, *chunks, width=8):
    """A PNG of these packed rows, bytes each, without filters."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_level_of_any_depth(tmp_path, depth):
    """As the PNG standard has it: the level in the file's own bits (W3C, PNG 3, 11.3.1.1)."""
    levels = np.arange(8) % min(2**depth, 8) * (7919 if depth == 16 else 1)
    bits = "".join(f"{level:0{depth}b}" for level in levels)
    row = int(bits, 2).to_bytes(depth, "big")
    (tmp_path / "a.png").write_bytes(png(depth, 0, [row], chunk(b"tRNS", struct.pack(">H", levels[1]))))
    found = read_photo(tmp_path / "a.png")
    top = 65535 if depth == 16 else 255
    np.testing.assert_array_equal(found.pixels[0, 0], levels * (1 if depth >= 8 else top // (2**depth - 1)))
    np.testing.assert_array_equal(found.alpha[0], np.where(levels == levels[1], 0, top))


def test_a_transparent_colour_of_16_bits(tmp_path):
    deep = pixels(3, True, (4, 8)).transpose(1, 2, 0)
    transparent = chunk(b"tRNS", struct.pack(">HHH", *map(int, deep[1, 2])))
    (tmp_path / "a.png").write_bytes(png(16, 2, [row.astype(">u2").tobytes() for row in deep], transparent))
    found = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels.transpose(1, 2, 0), deep)
    assert found.alpha[1, 2] == 0 and (found.alpha == 0).sum() == 1


LINEAR = chunk(b"gAMA", struct.pack(">I", 100_000))
SRGB = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(
    b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
)
WIDE = chunk(b"cICP", bytes([9, 16, 0, 1]))


@pytest.mark.parametrize("name, chunks", [("linear", LINEAR), ("sRGB", SRGB), ("wide", WIDE), ("two", LINEAR + WIDE)])
def test_the_colours_of_a_png_are_kept_or_its_loss_is_refused(tmp_path, name, chunks):
    rows = [row.tobytes() for row in pixels(3, size=(4, 8)).transpose(1, 2, 0)]
    (tmp_path / "a.png").write_bytes(png(8, 2, rows, chunks))
    found = read_photo(tmp_path / "a.png")
    write_photo(tmp_path / "b.png", found)
    data = (tmp_path / "b.png").read_bytes()
    assert chunks in data and data.index(chunks) < data.index(b"IDAT")
    with Image.open(tmp_path / "b.png") as image:
        image.verify()
    if name == "sRGB":
        write_photo(tmp_path / "b.jpg", found)
    else:
        with pytest.raises(ValueError, match="cannot hold the colours of a PNG"):
            write_photo(tmp_path / "b.jpg", found)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_lossless_webp_stays_lossless(tmp_path, alpha):
    stored = pixels(4 if alpha else 3).transpose(1, 2, 0)
    stored[:3, :, 3:] = 0  # invisible pixels keep their colours
    Image.fromarray(stored).save(tmp_path / "a.webp", lossless=True, exact=True)
    write_photo(tmp_path / "b.webp", read_photo(tmp_path / "a.webp"))
    np.testing.assert_array_equal(imagecodecs.webp_decode((tmp_path / "b.webp").read_bytes()), stored)
    Image.fromarray(stored).save(tmp_path / "a.webp", quality=90)
    assert not read_photo(tmp_path / "a.webp").lossless


def test_a_phones_jpeg_with_a_second_image_in_it(tmp_path):
    good, small = (Image.new("RGB", size, "teal") for size in ((24, 16), (12, 8)))
    good.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[small])
    found = read_photo(tmp_path / "a.jpg")
    assert found.pixels.shape == (3, 16, 24)
    write_photo(tmp_path / "b.jpg", found)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"


def test_a_name_that_is_no_utf8_and_one_with_brackets(tmp_path):
    """libvips reads options in brackets out of names, and takes names as UTF-8."""
    for name in (b"\xff\xfe.png", b"a[page=2].png", "手.png".encode()):
        path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        write_photo(path, Photo(pixels()))
        np.testing.assert_array_equal(read_photo(path).pixels, pixels())


def test_a_wrong_suffix_is_no_matter(tmp_path):
    Image.fromarray(pixels(3).transpose(1, 2, 0)).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg").pixels, pixels())


# what is refused


def bad(name):
    data, good = io.BytesIO(), Image.fromarray(pixels(3).transpose(1, 2, 0))
    if name == "cmyk":
        good.convert("CMYK").save(data, "JPEG")
    elif name == "two pages":
        good.save(data, "TIFF", save_all=True, append_images=[good])
    elif name == "animation":
        good.save(data, "PNG", save_all=True, append_images=[Image.new("RGB", good.size)])
    elif name == "moving webp":
        good.save(data, "WEBP", save_all=True, append_images=[Image.new("RGB", good.size)])
    elif name in ("half", "half of 16 bits", "half a jpeg"):
        if name == "half of 16 bits":
            return imagecodecs.png_encode(np.ascontiguousarray(pixels(3, True).transpose(1, 2, 0)))[:400]
        good.save(data, "PNG" if name == "half" else "JPEG")
        return data.getvalue()[: len(data.getvalue()) // 2]
    elif name == "text":
        return b"no image"
    elif name == "svg":
        return b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>"
    elif name == "float":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(data, "TIFF")
    elif name == "12 bits":
        return twelve_bits()
    elif name == "multiplied":
        tifffile.imwrite(data, pixels(4, True).transpose(1, 2, 0), photometric="rgb", extrasamples=["assocalpha"])
    elif name == "planes of grey and alpha":
        tifffile.imwrite(data, pixels(2), photometric="minisblack", planarconfig="separate",
                         extrasamples=["unassalpha"], metadata=None)  # fmt: skip
    return data.getvalue()


def twelve_bits():
    """A grey TIFF of two pixels of 12 bits; tifffile writes none."""
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = {tag: (3, struct.pack("<H", value)) for tag, value in tags.items()}
    at, body = exif.serialise({0: entries}, 12)
    return b"II*\0" + struct.pack("<I", at) + b"\xab\xc1\x23\0" + body


BAD = ["cmyk", "two pages", "animation", "moving webp", "half", "half a jpeg", "half of 16 bits", "text", "svg",
       "float", "12 bits", "multiplied", "planes of grey and alpha", "empty"]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_kept_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "a.png").write_bytes(b"" if name == "empty" else bad(name))
    with pytest.raises(ValueError, match=r"a\.png cannot be read") as error:
        read_photo(tmp_path / "a.png")
    assert "\n" not in str(error.value)


def bomb(kind, side=40_000):
    """A file of some kilobytes that says it has 1,600 megapixels, and of PNG and TIFF really has them."""
    if kind == "png":
        header, packer = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), zlib.compressobj()
        data = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(side)) + packer.flush()
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    if kind == "tiff":
        rows = 400
        strip, strips = zlib.compress(bytes(side // 8 * rows)), side // rows
        tags = {256: (4, side), 257: (4, side), 258: (3, 1), 259: (3, 8), 262: (3, 1), 277: (3, 1), 278: (4, rows)}
        entries = {tag: (type_, struct.pack("<I", v)[: 2 if type_ == 3 else 4]) for tag, (type_, v) in tags.items()}
        entries[273] = 4, struct.pack("<I", 8) * strips  # every strip is the same one
        entries[279] = 4, struct.pack("<I", len(strip)) * strips
        strip += b"\0" * (len(strip) % 2)
        at, body = exif.serialise({0: entries}, 8 + len(strip))
        return b"II*\0" + struct.pack("<I", at) + strip + body
    small = io.BytesIO()
    Image.new("RGB", (16, 16)).save(small, "BMP" if kind == "bmp" else "JPEG")
    data = bytearray(small.getvalue())
    if kind == "bmp":
        data[18:26] = struct.pack("<ii", side, side)
    else:
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg", "bmp"])
def test_a_bomb_is_refused_by_its_header(tmp_path, kind, monkeypatch):
    """Not a pixel is decoded: 1,600 megapixels of RGB would be 4.8 GB."""
    import resource

    data = bomb(kind)
    assert len(data) < 300_000
    (tmp_path / "a.png").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"40000x40000|1600000000 pixels"):
        read_photo(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000  # KiB


@pytest.mark.parametrize(
    "name, given, words",
    [
        ("a.gif", photo(), "must end in"),
        ("a.jpg", photo(deep=True), "8 bits"),
        ("a.jpg", photo(alpha=True), "alpha"),
        ("a.webp", Photo(np.zeros((3, 1, 17000), np.uint8)), r"a\.webp cannot be written as webp"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, name, given, words):
    with pytest.raises(ValueError, match=words) as error:
        write_photo(tmp_path / name, given)
    assert "\n" not in str(error.value) and os.listdir(tmp_path) == []


def test_a_failed_check_leaves_what_was_there(tmp_path):
    (tmp_path / "a.png").write_bytes(b"precious")

    def check():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_photo(tmp_path / "a.png", Photo(pixels()), check)
    assert (tmp_path / "a.png").read_bytes() == b"precious" and os.listdir(tmp_path) == ["a.png"]


def test_thumbnails_are_dropped_and_the_rest_is_kept():
    secret = np.random.default_rng(0).bytes(5000)
    tags = exif.parse(camera_block())
    tags[0][0x8649] = 7, secret  # Photoshop's resources
    tags[exif.EXIF][exif.MAKER_NOTE] = 7, secret[:90]
    block = exif.block(tags)
    # a second directory behind the first: offset and length of a JPEG
    start = 6
    (main,) = struct.unpack_from("<I", block, start + 4)
    link = start + main + 2 + 12 * struct.unpack_from("<H", block, start + main)[0]
    place = len(block) - start
    second = struct.pack("<H", 2) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((0x0201, place + 30), (0x0202, 5000))
    )
    block = block[:link] + struct.pack("<I", place) + block[link + 4 :] + second + bytes(4) + secret
    seen = Image.Exif()
    kept = without_previews(Photo(pixels(), exif=block, xmp=b"<GImage:Data/>", iptc=IPTC, dpi=(72, 72)))
    assert secret[:60] not in kept.exif and secret[100:160] not in kept.exif
    assert kept.xmp is None and kept.iptc is None and kept.dpi == (72, 72)
    seen.load(kept.exif)
    assert seen[exif.MAKE] == "a camera" and seen[exif.ORIENTATION] == 6 and not seen.get_ifd(1)
    assert seen.get_ifd(exif.EXIF)[0x829A] == 0.01 and seen.get_ifd(exif.GPS)[1] == "N"
    assert exif.parse(kept.exif)[0][315] == (2, ARTIST)
    assert without_previews(Photo(pixels(), exif=b"Exif\0\0nonsense")).exif is None
