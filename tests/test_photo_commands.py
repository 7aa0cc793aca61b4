"""folders.py, commands.py, contact_sheet.py: no input or output is lost, one bad file does not stop the others."""

import io
import json
import os
import struct
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets.hand_scenes import test_scene
from src.files import exit_code
from src.metrics import psnr
from src.photos import exif
from src.photos.__main__ import main
from src.photos.commands import blur_out_main, denoise_main
from src.photos.denoiser import CAMERA, denoise, load_denoiser
from src.photos.folders import MOST_THREADS, each, list_photos, loaded_ahead
from src.photos.hand_finder import FINDER
from src.photos.photo_files import Photo, read_photo, write_photo
from src.studies.hand_methods import box_of


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, 20, 30)).astype(np.uint8)


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed).transpose(1, 2, 0)).save(path)


def copy(source, target, check):
    write_photo(target, read_photo(source), check)
    return "copied"


def copy_all(inputs, output, overwrite=False, work=copy):
    return exit_code(lambda: each([str(name) for name in inputs], str(output), overwrite, work))


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("in/a/1.png", "in/a/2.jpg", "in/b/1.png")):
        save(tmp_path / name, seed)
    return tmp_path


def written(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


# folders


def test_a_folder_keeps_its_names_at_any_depth(folder, capsys):
    save(folder / "in/b/deeper/still/10.png")
    save(folder / "in/b/deeper/still/9.webp")
    save(folder / "in/0.png")
    assert copy_all([folder / "in"], folder / "out") == 0
    expected = ["0.png", "a/1.png", "a/2.jpg", "b/1.png", "b/deeper/still/10.png", "b/deeper/still/9.webp"]
    assert written(folder / "out") == expected
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 6 and out[0] == f"1/6 {folder / 'out/0.png'}: copied"
    assert out[-1].startswith(f"6/6 {folder / 'out/b/deeper/still/10.png'}")  # 9 before 10


def test_what_is_not_read_is_named(folder, capsys):
    for name in ("a/c.heic", "a/d.gif", "b/notes.txt", "e.gif", ".hidden.png", "b/.thumbnails/x.png"):
        (folder / "in" / name).parent.mkdir(exist_ok=True)
        (folder / "in" / name).write_bytes(b"GIF89a")
    (folder / "in/loop").symlink_to(folder / "in")
    assert copy_all([folder / "in"], folder / "out") == 0
    error = capsys.readouterr().err
    assert "1 file not read (.heic): a/c.heic" in error
    assert "2 files not read (.gif): a/d.gif, e.gif" in error
    assert "1 file not read (.txt): b/notes.txt" in error and "loop is a link to a folder" in error
    assert "hidden" not in error and error.count("\n") == 4


def test_a_folder_that_may_not_be_listed_is_named(folder, monkeypatch):
    """The tests may run as root, who may list anything."""
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("in/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    photos, lines = list_photos(folder / "in")
    assert [path.as_posix() for path in photos] == ["a/1.png", "a/2.jpg"]
    assert len(lines) == 1 and "in/b cannot be listed (Permission denied)" in lines[0]


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_pipes_dead_links_and_bad_files_do_not_stop_the_others(folder, capsys):
    """A pipe that nobody writes to would be waited for, for ever."""
    os.mkfifo(folder / "in/a/pipe.png")
    (folder / "in/a/dead.jpg").symlink_to(folder / "nowhere")
    (folder / "in/a/text.png").write_bytes(b"no image")
    (folder / "in/a/folder.png").mkdir()
    assert copy_all([folder / "in"], folder / "out") == 1
    error = capsys.readouterr().err
    assert "pipe.png cannot be read (not a regular file)" in error and "dead.jpg" in error
    assert "text.png cannot be read (no PNG, JPEG" in error and "3 of 6 images could not be done" in error
    assert written(folder / "out") == ["a/1.png", "a/2.jpg", "b/1.png"]
    assert copy_all([folder / "in/a/pipe.png"], folder / "x.png") == 1
    assert "not a regular file" in capsys.readouterr().err and not (folder / "x.png").exists()


def test_the_stop_button_keeps_what_is_done(folder, capsys):
    def work(source, target, check):
        if source.name == "2.jpg":
            raise KeyboardInterrupt
        return copy(source, target, check)

    assert copy_all([folder / "in"], folder / "out", work=work) == 130
    assert written(folder / "out") == ["a/1.png"] and capsys.readouterr().err == "stopped\n"


def test_a_slash_makes_a_folder_for_one_image(folder):
    assert copy_all([folder / "in/a/1.png"], f"{folder}/new/") == 0
    assert (folder / "new/1.png").exists()


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
        (["empty"], "out", "no photo in"),
    ],
)
def test_nothing_is_overwritten(folder, capsys, inputs, output, words):
    (folder / "empty").mkdir()
    before = {name: (folder / name).read_bytes() for name in written(folder)}
    assert copy_all([folder / name for name in inputs], folder / output) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert {name: (folder / name).read_bytes() for name in written(folder)} == before


def test_overwrite_replaces_outputs_but_never_inputs(folder):
    target = folder / "in/b/1.png"
    target.write_bytes(b"old")
    assert copy_all([folder / "in/a/1.png"], target, True) == 0
    np.testing.assert_array_equal(read_photo(target).pixels, read_photo(folder / "in/a/1.png").pixels)


@pytest.mark.parametrize("kind", ["symbolic", "hard", "folder"])
def test_an_input_under_a_second_name_is_not_overwritten(folder, capsys, kind):
    """As on a file system that ignores letter case, or below a bind mount: other name, same file."""
    source = folder / "in/a/2.jpg"
    before, target = source.read_bytes(), folder / "second.jpg"
    if kind == "symbolic":
        target.symlink_to(source)
    elif kind == "hard":
        os.link(source, target)
    else:
        (folder / "second").symlink_to(folder / "in/a")
        target = folder / "second/2.jpg"
    assert copy_all([source], target, True) == 1
    assert "one of the inputs" in capsys.readouterr().err and source.read_bytes() == before


def test_an_output_that_becomes_an_input_is_not_overwritten(folder, capsys):
    """While the work goes on: it is looked at again just before the file takes its name."""
    source, target = folder / "in/a/2.jpg", folder / "out.jpg"
    before = source.read_bytes()

    def work(source, target, check):
        os.link(source, target)
        return copy(source, target, check)

    assert copy_all([source], target, True, work) == 1
    assert "one of the inputs" in capsys.readouterr().err and source.read_bytes() == before


def test_two_outputs_that_are_one_file_leave_the_first(folder, capsys):
    """A.png and a.png, where the file system takes them for one: here the second name is a link to the first."""
    save(folder / "in/c/A.png", 1)
    save(folder / "in/c/a.png", 2)

    def work(source, target, check):
        done = copy(source, target, check)
        if source.name == "A.png":
            target.with_name("a.png").symlink_to(target)
        return done

    assert copy_all([folder / "in/c"], folder / "out", True, work) == 1
    assert "another image's output under a second name" in capsys.readouterr().err
    np.testing.assert_array_equal(read_photo(folder / "out/A.png").pixels, pixels(1))


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "closed"])
def test_a_failed_print_is_no_failed_image(folder, monkeypatch, encoding):
    terminal = Terminal("ascii" if encoding == "closed" else encoding)
    if encoding == "closed":
        terminal.close()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert copy_all([folder / "in"], folder / "手") == 0
    assert len(written(folder / "手")) == 3


def test_without_chmod_files_are_written_all_the_same(folder, monkeypatch):
    """As on FAT: the mode cannot be changed."""

    def refuse(*arguments, **options):
        raise PermissionError(1, "Operation not permitted")

    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    assert copy_all([folder / "in"], folder / "out") == 0 and len(written(folder / "out")) == 3


# denoise


def noisy_photo():
    from skimage.data import chelsea

    clean = torch.from_numpy(chelsea()[50:242, 100:292].transpose(2, 0, 1).copy()).float() / 255
    noise = 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return clean, ((clean + noise).clamp(0, 1) * 255).round().byte().numpy()


def camera_block(iso, name=b"a camera\0"):
    tags = {0: {exif.MAKE: (2, name)} if name else {}, exif.EXIF: {}}
    if iso:
        tags[exif.EXIF][exif.ISO] = 3, struct.pack("<H", iso)
    return exif.block(tags)


@pytest.fixture
def photo(tmp_path):
    write_photo(tmp_path / "noisy.png", Photo(noisy_photo()[1]))
    return tmp_path / "noisy.png"


def test_a_file(photo, capsys):
    target, before = photo.with_name("clean.png"), photo.read_bytes()
    assert denoise_main([str(photo), str(target)]) == 0
    line = capsys.readouterr().out
    assert "clean.png: Gaussian, as its EXIF names no camera with an ISO: found 2" in line
    assert "removed 2" in line and "--noise camera is for photos" in line
    found = torch.from_numpy(read_photo(target).pixels).float() / 255
    assert psnr(found[None], noisy_photo()[0][None]).item() > 28 and photo.read_bytes() == before
    assert denoise_main([str(photo), str(photo)]) == 1 and "never overwritten" in capsys.readouterr().err
    assert denoise_main([str(photo), str(target)]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main(["denoise", str(photo), str(target), "--overwrite", "--strength", "0"]) == 0
    np.testing.assert_array_equal(read_photo(target).pixels, read_photo(photo).pixels)


@pytest.mark.parametrize(
    "block, options, words, level",
    [
        (camera_block(3200), [], "camera, ISO 3200 (a camera), level 16/255: removed ", 16),
        (camera_block(6400), [], "camera, ISO 6400 (a camera), level 22/255: removed ", 22),
        (camera_block(25600), ["--level", "10/255"], "camera, ISO 25600 (a camera), level 10/255: removed ", 10),
        (None, ["--noise", "camera"], "camera, as asked, level not given: removed ", 16),
        (camera_block(12800), ["--noise", "camera"], "camera, as asked, level 28/255: removed ", 28),
        (camera_block(3200), ["--noise", "gaussian"], "Gaussian, as asked: removed ", None),
        (camera_block(0), [], "Gaussian, as its EXIF names no camera with an ISO: found ", None),
        (camera_block(3200, b""), [], "Gaussian, as its EXIF names no camera with an ISO: found ", None),
        (b"Exif\0\0damaged", [], "Gaussian, as its EXIF names no camera with an ISO: found ", None),
    ],
    ids=["ISO 3200", "ISO 6400", "level", "asked", "asked, ISO 12800", "gaussian", "no ISO", "no name", "damaged"],
)
def test_the_noise_is_chosen_by_exif_and_the_line_says_why(tmp_path, capsys, block, options, words, level):
    small = noisy_photo()[1][:, :40, :40]
    write_photo(tmp_path / "a.png", Photo(small, exif=block))
    assert denoise_main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--passes", "2", *options]) == 0
    assert words in (line := capsys.readouterr().out)
    noise = {} if level is None else dict(noise="camera", level=level / 255)
    expected = denoise(torch.from_numpy(small), load_denoiser(), **noise)
    found = torch.from_numpy(read_photo(tmp_path / "b.png").pixels)
    assert torch.equal(found, expected)
    removed = (expected.float() - torch.from_numpy(small).float()).square().mean().sqrt()
    assert f"removed {removed:.1f}" in line


def test_one_pass_needs_the_camera_network(tmp_path, photo, capsys, monkeypatch):
    monkeypatch.setattr("src.photos.commands.CAMERA", tmp_path / "none")
    options = ["--noise", "camera", "--passes", "1"]
    assert denoise_main([str(photo), str(tmp_path / "b.png"), *options]) == 1
    assert "no run in" in capsys.readouterr().err and not (tmp_path / "b.png").exists()


@pytest.mark.skipif(not (CAMERA / "weights.pt").exists(), reason="no camera network is published")
def test_the_camera_network_is_the_default(tmp_path, photo):
    small = noisy_photo()[1][:, :40, :40]
    write_photo(tmp_path / "a.png", Photo(small))
    assert denoise_main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--noise", "camera"]) == 0
    expected = denoise(torch.from_numpy(small), load_denoiser(CAMERA), noise="camera")
    assert torch.equal(torch.from_numpy(read_photo(tmp_path / "b.png").pixels), expected)


def test_tiles_and_self_ensemble_of_the_command(photo):
    for name, options in [("a", []), ("b", ["--tile", "64"]), ("c", ["--self-ensemble"])]:
        assert denoise_main([str(photo), str(photo.with_name(f"{name}.png")), *options]) == 0
    a, b, c = (read_photo(photo.with_name(f"{name}.png")).pixels.astype(int) for name in "abc")
    # bfloat16 rounds what is in the network: a level or two where shapes differ
    assert np.abs(a - b).max() <= 3 and np.abs(a - b).mean() < 0.1 and 0 < np.abs(a - c).mean() < 3


@pytest.mark.parametrize(
    "options, words",
    [
        (["--strength", "2"], "strength must be"),
        (["--sigma", "25"], "8-bit levels need / 255"),
        (["--level", "25"], "8-bit levels need / 255"),
        (["--noise", "gaussian", "--level", "0.1"], "'camera' with level"),
        (["--tile", "0"], "tile must"),
        (["--weights", str(FINDER)], "expected an image of the same shape"),
        (["--weights", "no-such-run"], "no run in"),
    ],
)
def test_wrong_options_are_said_once(photo, capsys, options, words):
    save(photo.with_name("second.png"))
    assert denoise_main([str(photo), str(photo.with_name("second.png")), str(photo.parent / "out"), *options]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (photo.parent / "out").exists()


def test_a_run_of_ones_own(photo, trained):
    assert denoise_main([str(photo), str(photo.with_name("b.png")), "--weights", str(trained)]) == 0
    expected = denoise(torch.from_numpy(noisy_photo()[1]), load_denoiser(trained))
    assert torch.equal(torch.from_numpy(read_photo(photo.with_name("b.png")).pixels), expected)


# blur-out


@pytest.fixture(scope="module")
def hands():
    """Two hands in rooms and a room without, uint8 [3, 4, 224, 224]."""
    return np.stack([test_scene(index, 1000) for index in range(3)])


@pytest.fixture
def scenes(tmp_path, hands):
    """in/rooms/a.png, in/people/b.jpg with an EXIF block and on its side, in/people/empty.png without a hand."""
    (tmp_path / "in/people").mkdir(parents=True), (tmp_path / "in/rooms").mkdir()
    write_photo(tmp_path / "in/rooms/a.png", Photo(hands[0, :3]))
    tags = {0: {exif.MAKE: (2, "Zoë\0".encode()), exif.ORIENTATION: (3, b"\6\0")}, exif.GPS: {1: (2, b"N\0")}}
    write_photo(tmp_path / "in/people/b.jpg", Photo(hands[1, :3], exif=exif.block(tags)))
    write_photo(tmp_path / "in/people/empty.png", Photo(hands[2, :3]))
    return tmp_path


def test_a_folder_by_the_command(scenes, capsys):
    """Two images are hidden; that without a hand is named and not copied, nor is what is not read."""
    (scenes / "in/people/c.heic").write_bytes(b"a hand")
    assert main(["blur-out", str(scenes / "in"), str(scenes / "out"), "--json"]) == 1
    error = capsys.readouterr().err
    assert "empty.png" in error and "no hand was found" in error and "1 of 3 images" in error and "c.heic" in error
    expected = ["people/b.jpg", "people/b.jpg.json", "rooms/a.png", "rooms/a.png.json"]
    assert written(scenes / "out") == expected
    found = json.loads((scenes / "out/rooms/a.png.json").read_text())
    assert found["image"] == "a.png" and found["size"] == [224, 224]
    x, y, w, h = found["objects"][0]["box"]
    before, after = (read_photo(scenes / place / "rooms/a.png").pixels for place in ("in", "out"))
    assert ((before == after).all(axis=0)[y : y + h, x : x + w]).mean() < 0.02
    kept = exif.parse(read_photo(scenes / "out/people/b.jpg").exif)
    assert kept[0][exif.MAKE] == (2, "Zoë\0".encode()) and kept[exif.GPS][1] == (2, b"N\0")
    assert read_photo(scenes / "out/people/b.jpg").orientation == 6
    assert blur_out_main([str(scenes / "in/rooms/a.png"), str(scenes / "out/rooms/a.png")]) == 1  # there already
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--mask"], ["--box", "--mosaic", "3"], ["--mask", "--blur", "0.3"]])
def test_ways_to_hide(scenes, more, hands):
    assert blur_out_main([str(scenes / "in/rooms/a.png"), str(scenes / "a.png"), *more]) == 0
    after, mask = read_photo(scenes / "a.png").pixels, hands[0, 3] > 127
    changed = (after != hands[0, :3]).any(axis=0)
    assert changed[mask].mean() > 0.97
    if "--mosaic" in more:
        x, y, w, h = box_of(changed)
        assert len(np.unique(after[:, y : y + h, x : x + w].reshape(3, -1), axis=1).T) <= 4 * 4


@pytest.mark.parametrize(
    "more, words",
    [
        (["--mosaic", "10"], "the mosaic must have 1 to 6 blocks, got 10; more would show the object"),
        (["--blur", "0"], "the blur must be 0.3 to 1 of the object's longer side, got 0; less would show it"),
        (["--threshold", "1.5"], "threshold must lie between 0 and 1, got 1.5"),
        (["--from", "nothing.json"], "no file nothing.json, expected found.json"),
        (["--weights", "no-such-run"], "no run in"),
    ],
)
def test_what_would_show_the_object_is_refused(scenes, capsys, more, words):
    assert blur_out_main([str(scenes / "in/rooms/a.png"), str(scenes / "a.png"), *more]) == 1
    assert words in capsys.readouterr().err and not (scenes / "a.png").exists()


def test_json_that_is_there_is_kept(scenes, capsys):
    (scenes / "a.png.json").write_text("mine")
    assert blur_out_main([str(scenes / "in/rooms/a.png"), str(scenes / "a.png"), "--json"]) == 1
    assert "a.png.json is there already" in capsys.readouterr().err and not (scenes / "a.png").exists()
    assert blur_out_main([str(scenes / "in/rooms/a.png"), str(scenes / "a.png"), "--json", "--overwrite"]) == 0
    assert json.loads((scenes / "a.png.json").read_text())["objects"]


def test_a_json_that_cannot_be_written_leaves_the_image(scenes, capsys, monkeypatch):
    def refuse(path, content):
        raise OSError(f"cannot write {path} (No space left on device)")

    monkeypatch.setattr("src.photos.commands.write_json", refuse)
    assert blur_out_main([str(scenes / "in/rooms/a.png"), str(scenes / "a.png"), "--json"]) == 1
    error = capsys.readouterr().err
    assert "a.png is written, but not what was found" in error and error.count("\n") == 1
    assert (read_photo(scenes / "a.png").pixels != read_photo(scenes / "in/rooms/a.png").pixels).any()


def test_sixteen_bits_and_grey(scenes, hands):
    grey = np.asarray(Image.fromarray(hands[0, :3].transpose(1, 2, 0)).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(scenes / "grey.png")
    assert blur_out_main([str(scenes / "grey.png"), str(scenes / "out.png")]) == 0
    hidden = read_photo(scenes / "out.png").pixels
    assert hidden.dtype == np.uint16 and hidden.shape == (1, 224, 224)
    assert (hidden[0] != grey)[hands[0, 3] > 127].mean() > 0.97


def test_bytes_of_the_jpeg_hold_no_second_image(scenes):
    """Whatever lay in the file besides the image is gone: one start of image, one end."""
    thumbnail = io.BytesIO()
    Image.open(scenes / "in/people/b.jpg").resize((64, 64)).save(thumbnail, "JPEG")
    data = (scenes / "in/people/b.jpg").read_bytes() + thumbnail.getvalue()
    (scenes / "two.jpg").write_bytes(data)
    assert blur_out_main([str(scenes / "two.jpg"), str(scenes / "one.jpg")]) == 0
    assert data.count(b"\xff\xd8\xff") == 2 and (scenes / "one.jpg").read_bytes().count(b"\xff\xd8\xff") == 1


# photos loaded ahead


def test_photos_are_loaded_two_at_a_time_and_come_in_order(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    together = threading.Barrier(2, timeout=30)  # broken unless two loads run at once

    def load(source):
        together.wait()
        if source == "b":
            raise ValueError("bad file")
        return source.upper()

    futures = list(loaded_ahead(load, ["a", "b", "c", "d"]))
    assert [f.exception() is not None or f.result() for f in futures] == ["A", True, "C", "D"]
    assert str(futures[1].exception()) == "bad file"


def test_loading_ahead_stops_early_and_leaves_the_threads_of_torch_as_they_were():
    threads, calls = torch.get_num_threads(), []
    for ready in loaded_ahead(lambda source: calls.append(source), list(range(100))):
        ready.result()
        break
    assert torch.get_num_threads() == threads and len(calls) <= 2 * MOST_THREADS


# dry run, and what a person left in


def test_a_dry_run_writes_a_sheet_and_a_list(scenes, capsys):
    assert blur_out_main([str(scenes / "in"), str(scenes / "check"), "--dry-run"]) == 0
    assert written(scenes / "check") == ["contact_sheet.jpg", "found.json"]
    assert "in 2 of 3 images" in capsys.readouterr().out
    images = json.loads((scenes / "check/found.json").read_text())["images"]
    best = [max((one["confidence"] for one in image["objects"]), default=0) for image in images]
    assert best == sorted(best, reverse=True) and images[-1]["file"].endswith("empty.png")
    with Image.open(scenes / "check/contact_sheet.jpg") as sheet:
        assert sheet.width == 3 * 252 and sheet.height == 284
    assert blur_out_main([str(scenes / "in"), str(scenes / "check"), "--dry-run"]) == 1
    assert "there already" in capsys.readouterr().err


def test_the_box_is_drawn_where_it_will_be_seen(scenes, hands):
    """The thumbnail is upright, though the file lies on its side."""
    assert blur_out_main([str(scenes / "in/people/b.jpg"), str(scenes / "check"), "--dry-run"]) == 0
    (image,) = json.loads((scenes / "check/found.json").read_text())["images"]
    boxes = np.array([one["box"] for one in image["objects"]])
    x, y = boxes[:, :2].min(axis=0)  # around all boxes
    w, h = (boxes[:, :2] + boxes[:, 2:]).max(axis=0) - (x, y)
    with Image.open(scenes / "check/contact_sheet.jpg") as sheet:
        pixels = np.asarray(sheet).astype(int)[6 : 6 + 240, 6 : 6 + 240]
    upright = np.rot90(hands[1, :3].transpose(1, 2, 0), -1)
    changed = np.abs(pixels[:224, :224] - upright).sum(axis=2) > 200  # white or red lines
    rows, columns = (np.flatnonzero(changed.sum(axis=axis) > 20) for axis in (1, 0))
    assert abs(rows[0] - x) <= 2 and abs(rows[-1] - (x + w - 1)) <= 2  # a quarter turn clockwise: x becomes y
    assert abs(columns[0] - (224 - y - h)) <= 2 and abs(columns[-1] - (223 - y)) <= 2


def test_exactly_what_was_left_in_is_hidden(scenes, capsys, hands):
    """An object that was deleted stays visible, a box that was added is hidden, and no network is asked."""
    assert blur_out_main([str(scenes / "in"), str(scenes / "check"), "--dry-run"]) == 0
    path = scenes / "check/found.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["objects"] = [dict(box=[10, 20, 50, 40])] if image["file"].endswith("empty.png") else image["objects"]
        if image["file"].endswith("b.jpg"):
            image["objects"] = []
    path.write_text(json.dumps(content))
    assert blur_out_main([str(scenes / "in"), str(scenes / "out"), "--from", str(path)]) == 1
    assert "b.jpg has no object in found.json, so nothing was written" in capsys.readouterr().err
    assert written(scenes / "out") == ["people/empty.png", "rooms/a.png"]
    before, after = (read_photo(scenes / place / "people/empty.png").pixels for place in ("in", "out"))
    changed = (before != after).any(axis=0)
    assert changed[20:60, 10:60].mean() > 0.8  # some pixels have the mean of their block
    changed[20:60, 10:60] = False
    assert not changed.any()
    before, after = (read_photo(scenes / place / "rooms/a.png").pixels for place in ("in", "out"))
    assert (before != after).any(axis=0)[hands[0, 3] > 127].mean() > 0.97


@pytest.mark.parametrize(
    "box, words",
    [
        ([10, 20, 500, 40], "lies outside the image of 224x224"),
        ([10, 20, 0, 40], "lies outside"),
        ([1.5, 2, 3, 4], "whole pixels"),
        ([1, 2, 3], "whole pixels"),
        (None, "whole pixels"),
    ],
)
def test_wrong_boxes_are_one_line(scenes, capsys, box, words):
    entry = dict(file=str(scenes / "in/rooms/a.png"), size=[224, 224], objects=[dict(box=box)])
    (scenes / "found.json").write_text(json.dumps(dict(images=[entry])))
    command = [str(scenes / "in/rooms/a.png"), str(scenes / "a.png"), "--from", str(scenes / "found.json")]
    assert blur_out_main(command) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (scenes / "a.png").exists()
    (scenes / "found.json").write_text("[]")
    assert blur_out_main(command) == 1 and "is not what --dry-run writes" in capsys.readouterr().err
    entry |= dict(size=[9, 9])
    (scenes / "found.json").write_text(json.dumps(dict(images=[entry])))
    assert blur_out_main(command) == 1 and "listed as [9, 9]" in capsys.readouterr().err


def test_a_finder_of_ones_own(scenes, capsys):
    """Any network with one output channel, in a run or a published folder."""
    assert blur_out_main([str(scenes / "in/rooms/a.png"), str(scenes / "a.png"), "--weights", str(FINDER)]) == 0
    assert replace(read_photo(scenes / "a.png"), exif=None)
