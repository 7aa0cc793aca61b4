"""The drawn data set: the same bytes everywhere, hands that differ by class, the statistics of photographs."""

import hashlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from src.datasets import finger_numbers
from src.datasets.finger_numbers import CLASSES, draw, make
from src.datasets.scenes import draw_scene
from src.files import ROOT

SAMPLE = ((1, 0, 0), (5, 3, 1), (7, 1, 2), (10, 4, 0))
PINNED = "e3fbdb07570f765de32b1122ab63ca14406e6a4df77e7a28e7e7c606f97fb42a"
PINNED_SCENES = "054155871f486af36214612b7f0eab5dfda54377782dce78b1ad1eb0fa58bb9f"


def digest(arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def drawn_here():
    return [digest(draw(*which, size=96)[0] for which in SAMPLE), digest(scenes(2))]


def scenes(count):
    return [draw_scene(np.random.default_rng([0, n]), 64, room=n % 2 == 0) for n in range(count)]


@pytest.fixture(scope="module")
def small_set():
    """Ten classes, four scenes, the first shot: (number, scene) -> (image, mask) of 64 x 64."""
    return {(number, scene): draw(number, scene, 0, size=64) for number in range(1, 11) for scene in range(4)}


# --- the same bytes ---------------------------------------------------------------------------------


def test_bytes_are_pinned():
    assert drawn_here() == [PINNED, PINNED_SCENES]


def test_bytes_do_not_depend_on_the_simd_units_of_the_cpu():
    """Drawn again in a process whose numpy may use none of the optional instruction sets."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    features = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    if not features:
        pytest.skip("this CPU has none of numpy's optional instruction sets")
    code = (
        "from numpy._core._multiarray_umath import __cpu_features__ as f\n"
        f"assert not any(f[name] for name in {features}), 'still switched on'\n"
        "from tests.test_finger_numbers import drawn_here; print(*drawn_here())"
    )
    env = dict(os.environ, NPY_DISABLE_CPU_FEATURES=" ".join(features))
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == [PINNED, PINNED_SCENES]


def test_order_and_neighbours_change_nothing():
    first, _ = draw(3, 1, 2, size=64)
    draw(4, 1, 2, size=64)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again, _ = draw(3, 1, 2, size=64)
    assert np.array_equal(first, again)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    others = [draw(3, 1, 1, size=64), draw(3, 2, 2, size=64), draw(2, 1, 2, size=64), draw(3, 1, 2, 1, 64)]
    assert all(np.abs(first.astype(int) - other).mean() > 5 for other, _ in others)


# --- hands ------------------------------------------------------------------------------------------


def test_shapes_and_masks(small_set):
    for image, mask in small_set.values():
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert mask.shape == (64, 64) and mask.dtype == bool
        assert 0.06 < mask.mean() < 0.5
        assert mask[16:48, 16:48].mean() > 1.2 * mask.mean()  # near the middle
    assert draw(5, 0, 0, size=37)[0].shape == (37, 37, 3)


def test_masks_lie_on_skin(small_set):
    """Skin of every tone has red > green > blue under our lamps; rooms seldom have."""
    inside = [(image[mask][:, 0] > image[mask][:, 2]).mean() for image, mask in small_set.values()]
    outside = [(image[~mask][:, 0] > image[~mask][:, 2]).mean() for image, mask in small_set.values()]
    assert min(inside) > 0.8 and np.mean(inside) > 0.97
    assert np.mean(outside) < np.mean(inside) - 0.2


def silhouette(mask, degrees=0):
    """A mask without place, size and side: turned, cut at its edges, 24 x 24, [as seen, mirrored]."""
    mask = np.asarray(Image.fromarray(mask).rotate(degrees))
    y, x = np.nonzero(mask)
    top, left, right = y.min(), x.min(), x.max() + 1
    crop = Image.fromarray(mask[top : top + 2 * (right - left), left:right]).resize((24, 24), Image.BILINEAR)
    return np.stack([np.asarray(crop, float), np.asarray(crop, float)[:, ::-1]])


def test_classes_can_be_told_apart_by_the_silhouette(small_set):
    """The nearest silhouette in another scene is mostly of the same number (by chance: 1 time in 10)."""
    keys = list(small_set)
    shapes = np.stack([silhouette(mask) for _, mask in small_set.values()])
    far = np.full((len(keys), len(keys)), np.inf)
    for degrees in range(-60, 61, 10):  # the query is turned, as no pose is given
        turned = np.stack([silhouette(mask, degrees)[0] for _, mask in small_set.values()])
        far = np.minimum(far, np.abs(turned[:, None, None] - shapes[None]).sum(axis=(3, 4)).min(axis=2))
    hits = 0
    for i, (number, scene) in enumerate(keys):
        others = [j for j, key in enumerate(keys) if key[1] != scene]
        hits += keys[min(others, key=far[i].__getitem__)][0] == number
    assert hits / len(keys) > 0.5


def test_three_shots_of_a_scene_are_alike_but_not_equal():
    """Alike: the colours of one room and person, nearer to each other than to any other scene's."""

    def colours(image):
        levels = image.reshape(-1, 3) // 64
        return np.bincount(levels @ [16, 4, 1], minlength=64) / len(levels)

    shots = {(n, s): [draw(n, s, k, size=64) for k in range(3)] for n in (2, 6) for s in range(3)}
    seen = {key: [colours(image) for image, _ in group] for key, group in shots.items()}
    within, between = [], []
    for key, group in shots.items():
        assert not np.array_equal(group[0][0], group[1][0])
        assert (group[0][1] != group[1][1]).mean() > 0.01  # the pose or the framing moved
        within += [np.abs(seen[key][0] - seen[key][k]).sum() for k in (1, 2)]
        between += [np.abs(seen[key][0] - seen[other][0]).sum() for other in shots if other != key]
    assert np.mean(within) < 0.7 * np.mean(between)


# --- statistics of photographs ----------------------------------------------------------------------


def spectrum_slope(images):
    """Slope of log power against log frequency, radially averaged, Hann window, 4 cycles to 0.4 per pixel."""
    side = images[0].shape[0]
    window = np.hanning(side)[:, None] * np.hanning(side)
    grey = [image.astype(float).mean(axis=2) for image in images]
    power = np.mean([np.abs(np.fft.fft2((g - g.mean()) * window)) ** 2 for g in grey], axis=0)
    f = np.fft.fftfreq(side) * side
    radius = np.sqrt(f[:, None] ** 2 + f**2).round().astype(int).ravel()
    radial = np.bincount(radius, power.ravel()) / np.bincount(radius)
    k = np.arange(4, int(0.4 * side))
    return np.polyfit(np.log(k), np.log(radial[k]), 1)[0]


def gradient_kurtosis(images):
    grey = [image.astype(float).mean(axis=2) for image in images]
    steps = np.concatenate([np.diff(g, axis=axis).ravel() for g in grey for axis in (0, 1)])
    return (steps**4).mean() / (steps**2).mean() ** 2


def test_hands_have_the_statistics_of_photographs():
    """Photos have about 1/f^2 power (40 of CBSD68 measured the same way: -2.3) and heavy-tailed edges (15)."""
    images = [draw(number, number - 1, 0)[0] for number in range(1, 11)]
    assert -2.7 < spectrum_slope(images) < -1.5
    assert gradient_kurtosis(images) > 8
    noise = np.random.default_rng(0).normal(size=(2, 224, 224, 3))
    assert abs(spectrum_slope(noise)) < 0.2 and abs(gradient_kurtosis(noise) - 3) < 0.2  # the measures measure


@pytest.mark.parametrize("room", [True, False])
def test_scenes_have_the_statistics_of_photographs(room):
    images = [draw_scene(np.random.default_rng([1, n]), 128, room=room) for n in range(12)]
    assert -2.7 < spectrum_slope(images) < -1.5
    assert gradient_kurtosis(images) > 8
    brightness = [image.mean() for image in images]
    assert min(brightness) > 20 and max(brightness) < 225 and np.std(brightness) > 10


# --- the folder -------------------------------------------------------------------------------------

SMALL = dict(scenes=1, shots=2, size=32)


def test_make_writes_the_set_and_finds_it_again(tmp_path, capsys):
    folder = make(tmp_path / "one", workers=1, **SMALL)
    assert "20/20" in capsys.readouterr().out
    assert sorted(p.name for p in folder.iterdir()) == sorted((*CLASSES, "about.json", "groups.csv"))
    rows = (folder / "groups.csv").read_text().split()
    assert rows[0] == "file,group" and rows[1] == "yi/scene00_0.png,yi/scene00" and len(rows) == 21
    assert all((folder / row.split(",")[0]).is_file() for row in rows[1:])
    image = np.asarray(Image.open(folder / "wu" / "scene00_1.png"))
    assert np.array_equal(image, draw(5, 0, 1, size=32)[0])
    assert json.loads((folder / "about.json").read_text())["count"] == 20

    start = time.perf_counter()
    assert make(folder, **SMALL) == folder
    assert time.perf_counter() - start < 1
    assert capsys.readouterr().out == ""  # nothing was drawn

    two = make(tmp_path / "two", workers=2, **SMALL)  # the number of processes changes nothing
    for path in folder.rglob("*.*"):
        assert (two / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_another_set_is_an_error_not_a_loss(tmp_path):
    folder = make(tmp_path / "one", workers=1, **SMALL)
    with pytest.raises(FileExistsError, match=r"another set: .*'seed': 0.*expected.*'seed': 1.*delete the folder"):
        make(folder, seed=1, **SMALL)
    for text in ("[]", None):
        (folder / "about.json").write_text(text) if text else (folder / "about.json").unlink()
        with pytest.raises(FileExistsError, match=r"no readable about\.json"):
            make(folder, **SMALL)
    assert (folder / "yi" / "scene00_0.png").is_file()


def test_a_set_that_lost_an_image_is_not_taken_for_whole(tmp_path):
    folder = make(tmp_path / "one", workers=1, **SMALL)
    (folder / "yi" / "scene00_0.png").unlink()
    with pytest.raises(FileExistsError, match=r"holds 19 images, expected 20; delete the folder"):
        make(folder, **SMALL)


def test_an_interrupted_drawing_leaves_nothing_and_the_next_completes(tmp_path, monkeypatch):
    def break_off(folder, number, *rest):
        if number == 3:
            raise KeyboardInterrupt
        return finger_numbers_draw_files(folder, number, *rest)

    finger_numbers_draw_files = finger_numbers.draw_files
    monkeypatch.setattr(finger_numbers, "draw_files", break_off)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "one", workers=1, **SMALL)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(list(make(tmp_path / "one", workers=1, **SMALL).rglob("*.png"))) == 20


def test_leftovers_of_the_dead_are_removed_and_of_the_living_kept(tmp_path):
    dead, living = tmp_path / ".one~dead", tmp_path / ".one~living"
    for folder in (dead, living):
        (folder / "yi").mkdir(parents=True)
    os.utime(dead, (time.time() - 120,) * 2)
    make(tmp_path / "one", workers=1, **SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".one~living", "one"]


def test_a_faster_second_process_is_left_alone(tmp_path, monkeypatch):
    """While this one draws, another finishes the same set: its files stay as they are."""
    other = make(tmp_path / "other", workers=1, **SMALL)
    draw_files = finger_numbers.draw_files

    def overtaken(folder, number, *rest):
        if number == 10:
            other.rename(tmp_path / "one")
        return draw_files(folder, number, *rest)

    monkeypatch.setattr(finger_numbers, "draw_files", overtaken)
    folder = make(tmp_path / "one", workers=1, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["one"]
    assert len(list(folder.rglob("*.png"))) == 20


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(number=0), "number must be a whole number from 1 to 10, got 0"),
        (dict(number="yi"), "got 'yi'"),
        (dict(scene=-1), "scene must be .* got -1"),
        (dict(shot=1.5), "shot must be .* got 1.5"),
        (dict(seed=-3), "seed must be .* got -3"),
        (dict(size=8), "size must be a whole number from 16"),
        (dict(size=True), "got True"),
    ],
)
def test_wrong_arguments_give_one_clear_line(wrong, message):
    with pytest.raises(ValueError, match=message) as error:
        draw(**{"number": 1, "scene": 0, "shot": 0, **wrong})
    assert "\n" not in str(error.value)


def test_make_and_draw_scene_name_a_wrong_argument(tmp_path):
    with pytest.raises(ValueError, match=r"shots must be .* got 0"):
        make(tmp_path / "one", shots=0)
    with pytest.raises(ValueError, match=r"size must be .* got 2\.5"):
        draw_scene(np.random.default_rng(0), 2.5)
    assert list(tmp_path.iterdir()) == []
