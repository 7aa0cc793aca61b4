"""Image folders: every kind of file, the cache, groups, the split."""

import io
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.files import ROOT, find_folder
from src.files.decoding import list_images
from src.images import ImageSet, load_images, split_images


def noise(h=8, w=8, channels=3, seed=0):
    shape = (h, w, channels) if channels > 1 else (h, w)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes of three images 12x10 (width x height)."""
    for i, name in enumerate(["er/1", "er/2", "er/10", "yi/1", "yi/2", "yi/10"]):
        save(tmp_path / "photos" / f"{name}.png", noise(10, 12, seed=i))
    return tmp_path / "photos"


@pytest.fixture
def load(tmp_path):
    """load_images with a cache of the test's own."""
    return lambda folder, *a, **k: load_images(folder, *a, **{"cache": tmp_path / "cache"} | k)


def read_one(load, path, **options):
    return load(path.parent, **options).pixels[0].permute(1, 2, 0).numpy()  # [H, W, C]


# ---- what is read -------------------------------------------------------------------------


def test_class_folders(photos, load):
    images = load(photos)
    assert images.shape == (6, 3, 10, 12) and len(images) == 6
    assert images.pixels.dtype == torch.uint8
    natural = ("er/1.png", "er/2.png", "er/10.png", "yi/1.png", "yi/2.png", "yi/10.png")
    assert images.names == natural == images.groups
    assert images.labels == ("er",) * 3 + ("yi",) * 3
    for i in range(6):
        assert np.array_equal(images.pixels[i].permute(1, 2, 0), noise(10, 12, seed=i))
    assert repr(images) == "ImageSet(6 images 3x10x12, 2 labels, 6 groups)"


def test_flat_folder_every_suffix_and_what_is_ignored(tmp_path, load):
    folder = tmp_path / "flat"
    suffixes = ["png", "PNG", "bmp", "TIF", "tiff", "jpg", "JPEG", "WebP"]
    for i, suffix in enumerate(suffixes):
        save(folder / f"p{i}.{suffix}", noise(seed=i))
    for name in ["about.json", "LICENSE", "README.md", "._p0.png", ".hidden.png"]:
        (folder / name).write_text("not an image")
    save(folder / ".ipynb_checkpoints" / "p0-checkpoint.png", noise())
    (folder / "empty_class").mkdir()
    images = load(folder)
    assert images.names == tuple(f"p{i}.{suffix}" for i, suffix in enumerate(suffixes))
    assert set(images.labels) == {""}
    for i in range(5):  # the lossless ones
        assert np.array_equal(images.pixels[i].permute(1, 2, 0), noise(seed=i))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey(tmp_path, load, suffix):
    grey = noise(channels=1)
    path = save(tmp_path / "a" / f"g.{suffix}", grey)
    assert np.array_equal(read_one(load, path), np.repeat(grey[..., None], 3, 2))
    assert np.array_equal(read_one(load, path, channels=1)[..., 0], grey)


def test_colour_to_grey_is_luma_601(tmp_path, load):
    path = save(tmp_path / "a" / "c.png", noise())
    luma = noise() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_one(load, path, channels=1)[..., 0] - luma).max() <= 0.51


def test_black_and_white_and_palette(tmp_path, load):
    bits = noise(channels=1) > 127
    path = save(tmp_path / "one" / "b.png", Image.fromarray(bits))
    assert np.array_equal(read_one(load, path), np.repeat(bits[..., None] * 255, 3, 2))
    palette = Image.fromarray(noise(channels=1) % 4, "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    path = save(tmp_path / "pal" / "p.png", palette)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
    assert np.array_equal(read_one(load, path), colours[noise(channels=1) % 4])


# ---- size ---------------------------------------------------------------------------------


@pytest.mark.parametrize("h, w", [(20, 20), (20, 31), (33, 20)])
def test_size_of_the_short_side_crops_exactly(tmp_path, load, h, w):
    path = save(tmp_path / "a" / "s.png", noise(h, w))
    top, left = (h - 20) // 2, (w - 20) // 2
    crop = noise(h, w)[top : top + 20, left : left + 20]
    assert np.array_equal(read_one(load, path, size=20), crop)


def test_size_resizes_without_aliasing(tmp_path, load):
    stripes = np.zeros((256, 384, 3), np.uint8)
    stripes[:, ::2] = 255  # far above what 32 pixels can hold: must become even grey
    path = save(tmp_path / "a" / "s.png", stripes)
    got = read_one(load, path, size=32)
    assert got.shape == (32, 32, 3)
    assert np.abs(got.astype(int) - 127.5).max() < 8


def test_size_keeps_the_centre_and_enlarges(tmp_path, load):
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 200
    path = save(tmp_path / "a" / "s.png", wide)
    assert (read_one(load, path, size=20)[:, 2:-2] > 190).all()
    assert read_one(load, path, size=101).shape == (101, 101, 3)


def test_large_jpeg_is_as_good_when_decoded_at_part_scale(tmp_path, load):
    y, x = np.mgrid[:960, :1280] / 960
    smooth = np.stack([x * 180, y * 250, 127 + 120 * np.sin(9 * x + 7 * y)], 2).astype(np.uint8)
    path = save(tmp_path / "a" / "j.jpg", smooth, quality=95)
    whole = Image.open(path).crop((160, 0, 1120, 960)).resize((64, 64), Image.Resampling.LANCZOS)
    difference = read_one(load, path, size=64).astype(int) - np.asarray(whole)
    assert np.abs(difference).mean() < 1.0


# ---- order, cache, memory -----------------------------------------------------------------


def test_order_does_not_depend_on_the_file_system(photos, load, monkeypatch):
    names, listdir = load(photos).names, os.listdir

    def shuffled(folder):
        return random.Random(1).sample(found := listdir(folder), len(found))

    monkeypatch.setattr(os, "listdir", shuffled)
    assert load(photos).names == names


def test_order_is_natural_and_ignores_case(tmp_path, load):
    names = ("a1.png", "A2.png", "a10.png", "B1.png", "b01.png", "c.png")
    for name in names[::-1]:
        save(tmp_path / "a" / name, noise())
    assert load(tmp_path / "a").names == names


def no_decoding(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(Image, "open", fail)


def test_cache_saves_decoding(photos, load, monkeypatch, capsys):
    first = load(photos, size=8)
    assert "reading photos" in capsys.readouterr().out
    no_decoding(monkeypatch)
    again = load(photos, size=8)
    assert capsys.readouterr() == ("", "")
    assert torch.equal(first.pixels, again.pixels) and first.digests == again.digests
    assert first.names == again.names and first.digest == again.digest
    with pytest.raises(ValueError, match="an image was decoded"):
        load(photos, size=9)
    with pytest.raises(ValueError, match="an image was decoded"):
        load(photos, size=8, channels=1)


def test_cache_is_rebuilt_on_change(photos, load):
    before = load(photos)
    save(photos / "yi/2.png", noise(10, 12, seed=99))
    changed = load(photos)
    assert [a == b for a, b in zip(before.digests, changed.digests, strict=True)] == [
        True, True, True, True, False, True,
    ]  # fmt: skip
    assert np.array_equal(changed.pixels[4].permute(1, 2, 0), noise(10, 12, seed=99))
    save(photos / "yi/3.png", noise(10, 12, seed=50))
    assert load(photos).names[5] == "yi/3.png"
    (photos / "yi/3.png").unlink()
    assert load(photos).digest == changed.digest
    # The same size in bytes, only the time differs.
    old = (photos / "yi/1.png").stat()
    (photos / "yi/2.png").write_bytes((photos / "yi/1.png").read_bytes())
    os.utime(photos / "yi/1.png", ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert load(photos).digests[3] == load(photos).digests[4] == before.digests[3]


@pytest.mark.parametrize("damage", ["npy gone", "npy cut", "json cut", "json alien", "json of fewer"])
def test_a_damaged_cache_is_rebuilt(photos, load, tmp_path, damage):
    before = load(photos, cache=tmp_path / "other")  # a mapped file that is cut would change under it
    load(photos)
    (npy,) = (tmp_path / "cache").rglob("*.npy")
    (record,) = (tmp_path / "cache").rglob("*.json")
    if damage == "npy gone":
        npy.unlink()
    elif damage == "npy cut":
        npy.write_bytes(npy.read_bytes()[:-5])
    elif damage == "json cut":
        record.write_text(record.read_text()[:-5])
    else:
        record.write_text("[1]" if damage == "json alien" else '["a", "b"]')
    assert torch.equal(load(photos).pixels, before.pixels)
    assert load(photos).digests == before.digests
    assert len(list((tmp_path / "cache").rglob("*.*"))) == 2


def test_the_cache_sees_an_edit_that_restores_size_and_time(photos, load, monkeypatch):
    """As `touch` then `exiftool -P -n -Orientation=6` do: ctime and inode tell."""
    before, path = load(photos).digest, photos / "yi/2.png"
    old = path.stat()
    replacement = noise(10, 12, seed=77)
    save(photos.parent / "new.png", replacement, compress_level=0)
    save(path, noise(10, 12, seed=4), compress_level=0)  # same pixels, a file of the new one's length
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert load(photos).digest == before
    path.write_bytes((photos.parent / "new.png").read_bytes())
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == (photos.parent / "new.png").stat().st_size
    assert np.array_equal(load(photos).pixels[4].permute(1, 2, 0), replacement)
    # another file of the same length and times moved to its place: another inode
    save(photos.parent / "other.png", noise(10, 12, seed=78), compress_level=0)
    os.utime(photos.parent / "other.png", ns=(old.st_atime_ns, old.st_mtime_ns))
    os.replace(photos.parent / "other.png", path)
    assert np.array_equal(load(photos).pixels[4].permute(1, 2, 0), noise(10, 12, seed=78))


def test_the_stamp_holds_ctime_and_inode(photos):
    for name, *stamp in list_images(photos):
        info = (photos / name).stat()
        assert stamp == [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


@pytest.mark.filterwarnings("error")  # torch warns of arrays that cannot be written to
def test_mapped_equals_in_memory(photos, load, tmp_path, monkeypatch):
    small = load(photos, cache=photos / "er/1.png" / "nowhere")  # no cache can be there, so in memory
    mapped = load(photos)
    for _ in range(2):  # written, then read
        assert torch.equal(mapped.pixels, small.pixels) and mapped.digests == small.digests
        assert torch.equal(mapped[[4, 1]][[1, 0]].pixels, small.pixels[[1, 4]])
        mapped.pixels.zero_()  # must not reach the cache
        no_decoding(monkeypatch)
        mapped = load(photos)
    assert torch.equal(load(photos).pixels, small.pixels)
    assert sorted(p.suffix for p in (tmp_path / "cache").rglob("*.*")) == [".json", ".npy"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the memory from")
def test_large_set_does_not_enter_memory(tmp_path, load):
    def own():  # memory of the process that is no file's, in MiB
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

    save(tmp_path / "big" / "0.png", Image.new("RGB", (1024, 1024), (1, 2, 3)))
    for i in range(1, 64):
        os.link(tmp_path / "big" / "0.png", tmp_path / "big" / f"{i}.png")
    before = own()
    images = load(tmp_path / "big")  # 192 MiB
    train, held_out = split_images(images)
    assert (train[[3, 1]].pixels[:, 2] == 3).all() and (held_out[[0]].pixels[:, 0] == 1).all()
    assert own() - before < 100
    whole = images.pixels + 0
    assert own() - before > 150 and len(whole) == 64  # the measure does see 192 MiB


def test_readers_at_the_same_time_agree(photos, tmp_path):
    def work(_):
        return load_images(photos, cache=tmp_path / "c").digest

    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(work, range(12)))
    assert digests == {load_images(photos, cache=tmp_path / "other").digest}
    assert sorted(p.suffix for p in (tmp_path / "c").rglob("*.*")) == [".json", ".npy"]


# ---- ImageSet -----------------------------------------------------------------------------


def test_selection(photos, load):
    images = load(photos)
    chosen = images[torch.tensor([5, 0, 3])]
    assert chosen.names == ("yi/10.png", "er/1.png", "yi/1.png")
    assert chosen.labels == ("yi", "er", "yi") and len(chosen) == 3
    assert torch.equal(chosen.pixels, images.pixels[[5, 0, 3]])
    assert chosen.digests == tuple(images.digests[i] for i in (5, 0, 3))
    again = chosen[1:]
    assert again.names == ("er/1.png", "yi/1.png")
    assert torch.equal(again.pixels, images.pixels[[0, 3]])
    assert torch.equal(again[[1]].pixels, images.pixels[3:4])
    assert torch.equal(again[np.array([-1, 0])].pixels, images.pixels[[3, 0]])
    assert torch.equal(images[1:3].pixels, images.pixels[1:3])
    assert images[::-1].names == images.names[::-1]
    assert images[[n.startswith("yi") for n in images.names]].names == images.names[3:]
    assert images[2].names == ("er/10.png",)
    assert images[[]].shape == (0, 3, 10, 12) and images[[]].pixels.shape == (0, 3, 10, 12)
    assert chosen.store is images.store
    for wrong in ([6], [-7], [0.5]):
        with pytest.raises(IndexError):
            images[wrong]


def test_digest_is_of_pixels_shape_and_order(photos, load):
    images = load(photos)
    assert images.digest != images[::-1].digest and images[:].digest == images.digest
    flat = ImageSet.from_pixels(torch.zeros(1, 3, 2, 8, dtype=torch.uint8))
    tall = ImageSet.from_pixels(torch.zeros(1, 3, 8, 2, dtype=torch.uint8))
    assert flat.digest != tall.digest and len(flat.digests[0]) == 16
    remade = ImageSet.from_pixels(images.pixels, images.names, images.labels)
    assert (remade.digest, remade.groups) == (images.digest, images.groups)


def test_relative_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_folder("data") == ROOT / "data"  # not here: the project's
    (tmp_path / "data").mkdir()
    assert find_folder("data").resolve() == (tmp_path / "data").resolve()
    assert find_folder(tmp_path) == tmp_path


# ---- groups.csv ---------------------------------------------------------------------------


def write_groups(photos, rows):
    (photos / "groups.csv").write_text("file,group\n" + "".join(f"{r}\n" for r in rows))


def test_groups(photos, load):
    names = load(photos).names
    write_groups(photos, [f"{n},{n[:4]}" for n in reversed(names)])
    groups = ("er/1", "er/2", "er/1", "yi/1", "yi/2", "yi/1")
    assert load(photos).groups == groups
    text = (photos / "groups.csv").read_text()
    (photos / "groups.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load(photos).groups == groups  # as Excel writes it


# ---- the split ----------------------------------------------------------------------------


def made(groups, labels=None):
    pixels = torch.zeros(len(groups), 1, 1, 1, dtype=torch.uint8)
    names = [f"n{i}" for i in range(len(groups))]
    return ImageSet.from_pixels(pixels, names, labels, groups)


def classes(scenes=10, views=3, count=10):
    """Like finger_numbers: every group within one label."""
    cells = [(c, s) for c in range(count) for s in range(scenes) for _ in range(views)]
    return made([f"c{c}/scene{s}" for c, s in cells], [f"c{c}" for c, _ in cells])


@pytest.mark.parametrize("seed", range(20))
def test_split_of_classes(seed):
    images = classes()
    train, held_out = split_images(images, 0.2, seed)
    assert len(train) == 240 and len(held_out) == 60
    assert not set(train.groups) & set(held_out.groups)
    assert sorted(train.names + held_out.names) == sorted(images.names)
    for label in set(images.labels):
        assert held_out.labels.count(label) == 6 and train.labels.count(label) == 24
    for side in (train, held_out):
        positions = [images.names.index(name) for name in side.names]
        assert positions == sorted(positions)


def test_split_is_pinned():
    """A change of the rule would silently change every published number."""
    _, held_out = split_images(made([f"person_{i}" for i in range(10)]), 0.3, seed=0)
    assert held_out.groups == ("person_0", "person_1", "person_5")
    differing = {split_images(classes(), seed=s)[1].names for s in range(5)}
    assert len(differing) == 5


def test_split_touches_no_random_state():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    split_images(classes())
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_the_fraction_is_met_with_uneven_classes():
    """Rounding in one class is made up for in the next: 10 x 12 images, 0.2 is 24, not 20."""
    _, held_out = split_images(classes(scenes=12, views=1), 0.2)
    assert len(held_out) == 24


def test_split_of_one_group_a_class():
    images = made(list("abcde"), list("abcde"))
    train, held_out = split_images(images, 0.4)
    assert len(held_out) == 2 and len(train) == 3


def test_split_passes_over_a_giant_group():
    groups = ["giant"] * 90 + [f"g{i}" for i in range(10)]
    for seed in range(10):
        assert "giant" in split_images(made(groups), 0.1, seed)[0].groups


def test_import_prints_and_makes_nothing(tmp_path):
    program = (
        "import random, numpy, torch; a = random.getstate(), torch.get_rng_state();"
        "import src, src.images, src.train, src.evaluation;"
        "assert random.getstate() == a[0] and (torch.get_rng_state() == a[1]).all()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_sample_takes_as_many_of_each_label():
    labels = ["a"] * 10 + ["b"] * 3 + ["c"] * 7
    pixels = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    images = ImageSet.from_pixels(pixels, labels=labels)
    some = images.sample(9, seed=1)
    assert [some.labels.count(label) for label in "abc"] == [3, 3, 3]
    assert [images.sample(11).labels.count(label) for label in "abc"] == [4, 3, 4]
    assert some.pixels.flatten().tolist() == sorted(some.pixels.flatten().tolist())
    mirrored = images[list(range(19, -1, -1))].sample(9, seed=1)
    assert set(mirrored.names) == set(some.names) != set(images.sample(9, seed=2).names)
    assert images.sample(99).names == images.names


# ---- what is left out -----------------------------------------------------------------------


def test_what_is_not_read_is_named(tmp_path, load, capsys):
    """HEIC, GIF and deeper folders are counted and named; what nobody misses beside images is not."""
    save(tmp_path / "flat" / "a.png", noise())
    for name in ["b.HEIC", "c.gif", "notes.txt", "about.json", "groups.md", ".hidden.heic"]:
        (tmp_path / "flat" / name).write_bytes(b"x")
    load(tmp_path / "flat")
    lines = [line for line in capsys.readouterr().out.splitlines() if "not read" in line]
    assert lines == ["2 files or folders not read: b.HEIC, c.gif"]
    (tmp_path / "flat" / "c.gif").unlink()
    load(tmp_path / "flat")
    assert "1 file not read: b.HEIC\n" in capsys.readouterr().out
    save(tmp_path / "classes" / "yi" / "a.png", noise())
    save(tmp_path / "classes" / "yi" / "deeper" / "b.png", noise(seed=1))
    (tmp_path / "classes" / "er").mkdir()
    (tmp_path / "classes" / "er" / "c.heic").write_bytes(b"x")
    assert load(tmp_path / "classes").names == ("yi/a.png",)
    lines = [line for line in capsys.readouterr().out.splitlines() if "not read" in line]
    assert lines == ["2 files or folders not read: er/c.heic, yi/deeper"]
    load(tmp_path / "classes")
    assert "not read" in capsys.readouterr().out  # also when the pixels come from the cache


def test_what_is_left_out_is_named_on_any_terminal(tmp_path, load, monkeypatch):
    save(tmp_path / "flat" / "a.png", noise())
    (tmp_path / "flat" / "фото.heic").write_bytes(b"x")
    for stream in (io.TextIOWrapper(io.BytesIO(), "cp1252"), io.TextIOWrapper(io.BytesIO(), "ascii")):
        monkeypatch.setattr(sys, "stdout", stream)
        assert load(tmp_path / "flat").names == ("a.png",)
    stream.close()
    assert load(tmp_path / "flat").names == ("a.png",)  # on a closed one, too
