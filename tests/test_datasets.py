"""The command, the folders that are complete or absent, scenes with hands, grey and shrunk pairs."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.datasets import LUMA, drawn_photos, fabrics, finger_numbers, reliefs, textured, thickets
from src.datasets.__main__ import main
from src.datasets.device_noise import DeviceNoiseDataset
from src.datasets.drawn_set import draw_set
from src.datasets.grey_and_shrink import GreyShrinkDataset, photo_sharpness, shrunk, vivid_colours
from src.datasets.hand_scenes import draw_scenes, test_scene, training_scene
from src.files import ROOT
from src.images import ImageSet
from src.noise import GaussianNoiseDataset

# --- the command ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [finger_numbers, drawn_photos, reliefs, thickets, fabrics, textured])
def test_the_command_draws_a_set(module, tmp_path, monkeypatch, capsys):
    name, make = module.__name__.rpartition(".")[2], module.make
    settings = dict(scenes=1, shots=1) if module is finger_numbers else dict(count=2)
    monkeypatch.setattr(module, "make", lambda *defaults: make(tmp_path / name, size=32, workers=1, **settings))
    assert main([name]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / name)
    (tmp_path / name / "about.json").unlink()
    assert main([name]) == 1  # one line, and what is there stays
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and "no readable about.json" in err


def test_an_interrupted_command_says_so_in_one_line(tmp_path):
    code = (
        "import sys, time; from src.datasets import finger_numbers as f; from src.datasets.__main__ import main\n"
        f"make = f.make; f.make = lambda: make({str(tmp_path / 'set')!r}, workers=1)\n"
        "print('begins', flush=True); sys.exit(main(['finger_numbers']))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err.splitlines()[-1] == "stopped" and "Traceback" not in err
    assert not list(tmp_path.iterdir())


# --- complete or absent ------------------------------------------------------------------------------


def draw_nothing(folder, index):
    return ["digest"]


def die(folder, index):
    os._exit(1)


def test_a_worker_that_dies_is_an_error_of_one_line(tmp_path):
    with pytest.raises(ChildProcessError, match=r"a drawing process died, expected .*; try workers=1"):
        draw_set(tmp_path / "set", dict(count=2), die, [(0,), (1,)], "drawing", workers=2)
    assert not list(tmp_path.iterdir()) and not multiprocessing.active_children()


def test_an_empty_folder_is_filled_and_a_file_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert draw_set(tmp_path / "empty", dict(count=0), draw_nothing, [(0,)], "drawing", workers=1).is_dir()
    assert (tmp_path / "empty" / "about.json").is_file()
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match=r"no readable about\.json"):
        draw_set(tmp_path / "file", dict(count=0), draw_nothing, [(0,)], "drawing", workers=1)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write .*file/set \(.*\); what was there is kept") as error:
        draw_set(tmp_path / "file" / "set", dict(count=0), draw_nothing, [(0,)], "drawing", workers=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 257, 1.0, True])
def test_wrong_workers(workers, tmp_path):
    with pytest.raises(ValueError, match="workers must be a whole number from 1 to 256"):
        finger_numbers.make(tmp_path / "set", workers=workers)


# --- scenes with hands -------------------------------------------------------------------------------


def test_scenes_of_a_seed_are_the_same_and_every_third_has_no_hand():
    scenes = draw_scenes(lambda index: test_scene(index, 5, 48), 6)
    assert scenes.shape == (6, 4, 48, 48) and scenes.dtype == np.uint8
    assert [bool(mask.any()) for mask in scenes[:, 3]] == [True, True, False] * 2
    assert set(np.unique(scenes[:, 3])) == {0, 255}
    assert np.array_equal(scenes[4], test_scene(4, 5, 48)) and not np.array_equal(scenes[4], test_scene(4, 6, 48))


def test_training_scenes_have_a_hand_if_asked():
    with_hand = draw_scenes(lambda index: training_scene(index, 1, True, 64), 12)
    without = draw_scenes(lambda index: training_scene(index, 1, False, 64), 12)
    assert (with_hand[:, 3] > 0).any(axis=(1, 2)).all() and not without[:, 3].any()
    # skin has more red than blue, whatever the camera
    red, blue = (with_hand[:, channel][with_hand[:, 3] > 0].astype(float).mean() for channel in (0, 2))
    assert red > 1.1 * blue
    some = [training_scene(index, 1, None, 48)[3].any() for index in range(20)]
    assert 9 <= sum(some) <= 19  # seven in ten


# --- grey and shrunk pairs ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 48, 48), dtype=np.uint8)
    return ImageSet.from_pixels(torch.from_numpy(pixels))


def test_without_grey_and_shrinking_pairs_are_those_of_the_core(images):
    settings = dict(sigma=(0.0, 0.2), seed=3, crop_size=24, augment=True)
    ours, core = GreyShrinkDataset(images, **settings), GaussianNoiseDataset(images, **settings)
    for epoch in (0, 5):
        ours.set_epoch(epoch)
        core.set_epoch(epoch)
        for a, b in zip(ours.batch([0, 7, -1]), core.batch([0, 7, -1])):
            assert torch.equal(a, b)


BOTH = pytest.mark.parametrize("kind", [GreyShrinkDataset, DeviceNoiseDataset])


@BOTH
def test_grey_pairs_are_luma_with_one_noise_in_all_channels(images, kind):
    plain = GaussianNoiseDataset(images, 0.1, seed=4)
    grey = kind(images, 0.1, seed=4, grey_fraction=1.0)
    noisy, clean = (x.cpu() for x in grey.batch(list(range(12))))
    _, colour = plain.batch(list(range(12)))
    luma = torch.tensordot(torch.from_numpy(LUMA), colour, dims=([0], [1]))
    assert torch.allclose(clean, luma[:, None].expand(-1, 3, -1, -1), atol=1e-6)
    noise = noisy - clean
    assert torch.allclose(noise, noise[:, :1].expand(-1, 3, -1, -1), atol=1e-6)
    assert float(noise[:, 0].std()) == pytest.approx(0.1, rel=0.02)


@BOTH
def test_the_fraction_of_grey_pairs(images, kind):
    pairs, grey = kind(images, 0.1, grey_fraction=0.25), 0
    for epoch in range(40):
        pairs.set_epoch(epoch)
        _, clean = pairs.batch(list(range(12)))
        grey += int((clean[:, 0] == clean[:, 1]).all(dim=(1, 2)).sum())
    assert 0.18 < grey / 480 < 0.32


@BOTH
def test_shrunk_crops_are_the_image_made_smaller(images, kind):
    """One in four is a plain crop. The others, of noise, are smoother: their standard deviation is smaller."""
    pairs = kind(images, 0.0, seed=1, crop_size=20, min_scale=0.5)
    deviations = []
    for epoch in range(20):
        pairs.set_epoch(epoch)
        noisy, clean = pairs.batch(list(range(12)))
        assert torch.equal(noisy, clean) and clean.shape == (12, 3, 20, 20) and 0 <= clean.min() < clean.max() <= 1
        deviations += clean.std(dim=(1, 2, 3)).tolist()
    plain = np.array(deviations) > 0.27  # of uniform noise 0.289
    assert 0.15 < plain.mean() < 0.45 and min(deviations) < 0.22
    image = images.array(0)
    expected = F.interpolate(torch.from_numpy(image[None].astype(np.float32)), size=(12, 12), mode="area")[0].numpy()
    assert np.corrcoef(shrunk(image, 12).ravel(), expected.ravel())[0, 1] > 0.85
    with pytest.raises(ValueError, match=r"transform (needs crops that are not shrunk|draws its crop by)"):
        pairs.transform(0, image)


def test_vivid_colours_of_one_colour_by_hand():
    """Chroma times 0.8 + 2.4 * draw, 8/255 brighter, times the light; a mean has no contrast, a plane no blur."""
    colour = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1).expand(2, 3, 6, 6)
    draws = torch.tensor([[0.5, 0.9, 0.0, 0.0, 0.0], [0.0, 0.1, 1.0, 0.5, 0.0]])
    luma = 0.299 * 0.5 + 0.587 * 0.4 + 0.114 * 0.3
    vivid = vivid_colours(colour, draws)
    for i, (gain, light) in enumerate([(2.0, (1, 1, 1)), (0.8, (1.2, 0.75, 0.3))]):
        for channel, value in enumerate((0.5, 0.4, 0.3)):
            expected = light[channel] * (luma + 8 / 255 + gain * (value - luma))
            assert torch.allclose(vivid[i, channel], torch.tensor(expected), atol=1e-6)


def test_vivid_colours_raise_contrast_and_leave_grey_grey():
    grey = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(1, 3, 16, 16) * 0.5 + 0.2
    vivid = vivid_colours(grey, torch.tensor([[0.7, 0.5, 0.1, 0.2, 0.3]]))
    assert torch.allclose(vivid[:, 0], vivid[:, 2], atol=1e-6)
    assert float(vivid.std() / grey.std()) == pytest.approx(1.1, abs=1e-4)


@pytest.mark.parametrize("fy, fx", [(0, 0), (0, 0.125), (0.25, 0.25), (0.5, 0), (0.5, 0.5)])
def test_photo_sharpness_of_a_plane_wave_is_its_transfer_function(fy, fx):
    """A wave of luma keeps its shape; its amplitude is that of the kernel's Fourier transform. The border is left."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    wave = 0.1 * torch.cos(2 * math.pi * (fy * y + fx * x))
    sharp = photo_sharpness((0.5 + wave).expand(1, 3, 24, 24))[0, 1] - 0.5
    laplacian = math.sin(math.pi * fy) ** 2 + math.sin(math.pi * fx) ** 2
    expected = (1 - 0.435 * laplacian) * (1 + 0.72 * laplacian) * wave
    assert torch.allclose(sharp[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-6)


@BOTH
def test_sharp_pairs_are_those_of_photo_sharpness(kind):
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    _, clean = kind(ImageSet.from_pixels(pixels), 0.1, sharp=True).batch([0, 1, 2, 3])
    assert torch.allclose(clean, photo_sharpness(pixels / 255), atol=1e-6)
    assert not torch.allclose(clean, pixels / 255, atol=0.05)


@BOTH
def test_a_fifth_of_vivid_pairs_have_a_coloured_light(kind):
    pairs = kind(ImageSet.from_pixels(torch.full((12, 3, 8, 8), 100, dtype=torch.uint8)), 0.0, seed=2, vivid=True)
    coloured = 0
    for epoch in range(60):
        pairs.set_epoch(epoch)
        _, clean = pairs.batch(list(range(12)))
        coloured += int((clean.std(dim=1) > 1e-3).all(dim=(1, 2)).sum())
    assert abs(coloured / 720 - 0.2) < 4 * (0.2 * 0.8 / 720) ** 0.5
    assert pairs.config["vivid"] is True


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(grey_fraction=1.5), r"grey_fraction must be in \[0, 1\], got 1.5"),
        (dict(min_scale=0), "min_scale must be above 0"),
        (dict(min_scale=0.5), "needs a crop_size, got None"),
        (dict(min_scale=0.5, crop_size=40), "need 80 pixels, the images have 48; try min_scale=0.84"),
        (dict(crop_size=49), "crop_size must be a whole number from 1 to 48"),
    ],
)
@BOTH
def test_wrong_settings(images, wrong, message, kind):
    with pytest.raises(ValueError, match=message) as error:
        kind(images, **wrong)
    assert "\n" not in str(error.value)


def test_grey_and_vivid_pairs_need_colour(images):
    with pytest.raises(ValueError, match="vivid needs images of 3 channels, got 1; try vivid=False"):
        GreyShrinkDataset(ImageSet.from_pixels(images.pixels[:, :1]), vivid=True)
    with pytest.raises(ValueError, match="sharp needs images of 3 channels, got 1; try sharp=False"):
        GreyShrinkDataset(ImageSet.from_pixels(images.pixels[:, :1]), sharp=True)
    with pytest.raises(ValueError, match="grey_fraction needs images of 3 channels, got 1"):
        GreyShrinkDataset(ImageSet.from_pixels(images.pixels[:, :1]), grey_fraction=0.5)


def test_what_decides_the_pairs_is_in_the_config(images):
    one = GreyShrinkDataset(images, crop_size=16, grey_fraction=0.25, min_scale=0.5)
    assert one.config == GaussianNoiseDataset(images, crop_size=16).config | dict(grey_fraction=0.25, min_scale=0.5)
