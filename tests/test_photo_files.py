"""photo_files.py: what goes in comes out again, for every depth, alpha and kind of metadata."""

import io
import os
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.io import imread

from src.photos.photo_files import Photo, each, read_photo, replacing, write_photo

ICC = b"a colour profile, as far as a file format cares" * 9


def pixels(channels=3, deep=False, size=(24, 17)):
    top = 65536 if deep else 256
    return np.random.default_rng(channels).integers(0, top, (channels, *size)).astype(np.uint16 if deep else np.uint8)


def photo(channels=3, deep=False, alpha=False):
    """As a camera writes it: a size that is no longer true, exposure and place in blocks of their own, an accent."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0100], exif[0x8298] = "a camera", 6, 4000, "José"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    exif.get_ifd(0x8825)[1] = "N"
    other = dict(dpi=(300, 300))
    return Photo(pixels(channels, deep), pixels(1, deep)[0] if alpha else None, ICC, exif.tobytes(), other)


CASES = [
    (suffix, channels, deep, alpha)
    for suffix in (".png", ".tif", ".webp", ".jpg", ".bmp")
    for channels in (1, 3)
    for deep in (False, True)
    for alpha in (False, True)
    if not (deep and suffix not in (".png", ".tif")) and not (alpha and suffix in (".jpg", ".bmp"))
]


@pytest.mark.parametrize("suffix, channels, deep, alpha", CASES)
def test_what_is_written_is_read(tmp_path, suffix, channels, deep, alpha):
    path, wanted = tmp_path / f"a{suffix}", photo(channels, deep, alpha)
    write_photo(path, wanted if suffix != ".bmp" else replace(wanted, exif=None))
    found = read_photo(path)
    assert found.pixels.dtype == wanted.pixels.dtype
    assert (found.alpha is None) == (wanted.alpha is None)
    tags = Image.Exif()
    tags.load(found.exif or b"")
    if suffix in (".png", ".tif", ".bmp"):  # without loss; WebP makes grey RGB besides
        np.testing.assert_array_equal(found.pixels, wanted.pixels)
        if alpha:
            np.testing.assert_array_equal(found.alpha, wanted.alpha)
    if suffix != ".bmp":
        assert found.icc == ICC
        assert tags[0x010F] == "a camera" and "Jos" in tags[0x8298] and tags[0x0112] == 6
        if not (deep and suffix == ".tif"):
            assert tags.get_ifd(0x8769)[0x829A] == 0.01 and tags.get_ifd(0x8825)[1] == "N"
        if suffix != ".webp":
            assert found.other["dpi"] == pytest.approx((300, 300), rel=1e-3)
    assert sorted(os.listdir(tmp_path)) == [path.name]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_against_other_readers(tmp_path, channels, suffix):
    # Pillow reads the high bytes of 16-bit colour
    deep = pixels(channels, deep=True)
    alpha = None if channels % 2 else deep[-1]
    write_photo(tmp_path / f"a{suffix}", Photo(deep[: channels - (channels % 2 == 0)], alpha))
    if suffix == ".tif":
        stored = tifffile.imread(tmp_path / "a.tif")
        np.testing.assert_array_equal(stored.reshape(24, 17, -1).transpose(2, 0, 1), deep)
    else:
        with Image.open(tmp_path / "a.png") as image:
            image.verify()
        if channels == 1:
            np.testing.assert_array_equal(imread(tmp_path / "a.png"), deep[0])
        if channels == 3:  # Pillow keeps the high bytes
            with Image.open(tmp_path / "a.png") as image:
                np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), deep >> 8)


@pytest.mark.parametrize("compression, big", [(None, False), ("zlib", False), ("lzw", False), (None, True)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_deep_tiffs_of_others(tmp_path, compression, big, planar):
    deep = pixels(3, deep=True)
    stored = deep if planar == "separate" else deep.transpose(1, 2, 0)
    options = dict(photometric="rgb", planarconfig=planar, compression=compression, bigtiff=big)
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, deep)


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


def test_a_phones_jpeg_with_a_second_picture_in_it(tmp_path):
    good, small = (Image.new("RGB", size, "teal") for size in ((24, 16), (12, 8)))
    good.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO" and image.n_frames == 2
    found = read_photo(tmp_path / "a.jpg")
    assert found.pixels.shape == (3, 16, 24)
    write_photo(tmp_path / "b.jpg", found)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"


def bad(name):
    data = io.BytesIO()
    good = Image.fromarray(pixels(3).transpose(1, 2, 0))
    if name == "cmyk":
        good.convert("CMYK").save(data, "JPEG")
    elif name == "two pages":
        good.save(data, "TIFF", save_all=True, append_images=[good])
    elif name == "half":
        good.save(data, "PNG")
        return data.getvalue()[: len(data.getvalue()) // 2]
    elif name == "text":
        return b"no picture"
    elif name == "float":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(data, "TIFF")
    elif name == "multiplied":
        stored = pixels(4, True).transpose(1, 2, 0)
        tifffile.imwrite(data, stored, photometric="rgb", extrasamples=["assocalpha"])
    elif name == "half of 16 bits":
        return imagecodecs.png_encode(np.ascontiguousarray(pixels(3, True).transpose(1, 2, 0)))[:400]
    return data.getvalue()


@pytest.mark.parametrize(
    "name", ["cmyk", "two pages", "half", "text", "float", "empty", "half of 16 bits", "multiplied"]
)
def test_what_cannot_be_kept_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "a.png").write_bytes(b"" if name == "empty" else bad(name))
    with pytest.raises(ValueError, match=r"a\.png cannot be read") as error:
        read_photo(tmp_path / "a.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, given, words",
    [
        ("a.gif", photo(), "must end in"),
        ("a.jpg", photo(deep=True), "8 bits"),
        ("a.jpg", photo(alpha=True), "alpha"),
        ("a.bmp", photo(), "on its side"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, name, given, words):
    with pytest.raises(ValueError, match=words):
        write_photo(tmp_path / name, given)
    assert os.listdir(tmp_path) == []


def test_a_picture_too_wide_for_its_format(tmp_path):
    with pytest.raises(ValueError, match=r"a\.webp cannot be written as webp") as error:
        write_photo(tmp_path / "a.webp", Photo(np.zeros((3, 1, 17000), np.uint8)))
    assert "\n" not in str(error.value) and os.listdir(tmp_path) == []


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "unit, resolution, dpi", [(2, 300, 300), (3, 100, 254), (1, 300, None), (2, 0, None), (None, 300, 300)]
)
def test_the_resolution_of_a_tiff(tmp_path, deep, unit, resolution, dpi):
    """Told in inches or centimetres (TIFF 6.0, section 8: without a unit, inches); 0 tells nothing."""
    stored = pixels(3, deep).transpose(1, 2, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", resolution=(resolution,) * 2, resolutionunit=unit or 2
    )
    if unit is None:
        data = (tmp_path / "a.tif").read_bytes()  # tag 296, SHORT, one value: an unknown tag instead
        (tmp_path / "a.tif").write_bytes(data.replace(struct.pack("<HHI", 296, 3, 1), struct.pack("<HHI", 297, 3, 1)))
    if resolution == 0:
        data = (tmp_path / "a.tif").read_bytes()
        (tmp_path / "a.tif").write_bytes(data.replace(struct.pack("<II", 0, 1), struct.pack("<II", 0, 0)))
    found = read_photo(tmp_path / "a.tif").other.get("dpi")
    assert found == (dpi and pytest.approx((dpi, dpi), rel=1e-6))


def test_a_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "a.png").write_bytes(b"precious")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.png") as part:
        with open(part, "wb") as file:
            file.write(b"half")
        1 / 0  # noqa: B018
    assert (tmp_path / "a.png").read_bytes() == b"precious" and os.listdir(tmp_path) == ["a.png"]


def copy(source, target):
    write_photo(target, read_photo(source))
    return "copied"


@pytest.fixture
def folder(tmp_path):
    for name in ("in/a/1.png", "in/a/2.jpg", "in/b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(3).transpose(1, 2, 0)).save(tmp_path / name)
    return tmp_path


def test_the_stop_button_keeps_what_is_done(folder, capsys):
    def work(source, target):
        if source.name == "2.jpg":
            raise KeyboardInterrupt
        return copy(source, target)

    assert each([str(folder / "in")], str(folder / "out"), False, work, "copying") == 130
    assert [p.name for p in (folder / "out").rglob("*.*")] == ["1.png"]
    assert capsys.readouterr().err == "stopped; the pictures done so far are kept\n"


def test_a_folder_keeps_its_names(folder, capsys):
    assert each([str(folder / "in")], str(folder / "out"), False, copy, "copying") == 0
    found = sorted(str(p.relative_to(folder / "out")) for p in (folder / "out").rglob("*.*"))
    assert found == ["a/1.png", "a/2.jpg", "b/1.png"]
    assert "3/3" in capsys.readouterr().out


def test_a_slash_makes_a_folder_for_one_picture(folder, capsys):
    assert each([str(folder / "in/a/1.png")], f"{folder}/new/", False, copy, "copying") == 0
    assert (folder / "new/1.png").exists()


def test_one_bad_picture_does_not_stop_the_others(folder, capsys):
    (folder / "in/a/1.png").write_bytes(b"no picture")
    assert each([str(folder / "in")], str(folder / "out"), False, copy, "copying") == 1
    assert "1.png cannot be read" in (said := capsys.readouterr()).err and "1 of 3" in said.err
    assert (folder / "out/a/2.jpg").exists() and (folder / "out/b/1.png").exists()


@pytest.mark.parametrize(
    "inputs, output, words",
    [
        (["in/a/1.png"], "in/a/1.png", "never overwritten"),
        (["in"], "in", "never overwritten"),
        (["in/a/1.png"], "in/a/2.jpg", "there already"),
        (["in/a/1.png", "in/b/1.png"], "out", "written twice"),
        (["in/a/1.png", "in/a/2.jpg"], "in/b/1.png", "name a folder"),
        (["in/a/1.png", "in/a/2.jpg"], "new.png", "name a folder"),
        (["in"], "in/b/1.png", "expected a folder"),
        (["in/nothing.png"], "out.png", "check the path"),
        (["in"], "in/a/out", "lies in the input folder"),
        (["in/a/1.png"], "out", "must end in"),
    ],
)
def test_nothing_is_overwritten(folder, capsys, inputs, output, words):
    before = {p: p.read_bytes() for p in folder.rglob("*.*")}
    assert each([str(folder / name) for name in inputs], str(folder / output), False, copy, "copying") == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.rglob("*.*")} == before


def test_overwrite_replaces_outputs_but_never_inputs(folder, capsys):
    target = folder / "in/b/1.png"
    target.write_bytes(b"old")
    assert each([str(folder / "in/a/1.png")], str(target), True, copy, "copying") == 0
    np.testing.assert_array_equal(read_photo(target).pixels, read_photo(folder / "in/a/1.png").pixels)
    (folder / "link.jpg").symlink_to(folder / "in/a/2.jpg")
    before = (folder / "in/a/2.jpg").read_bytes()
    assert each([str(folder / "in/a/2.jpg")], str(folder / "link.jpg"), True, copy, "copying") == 1
    assert (folder / "in/a/2.jpg").read_bytes() == before
