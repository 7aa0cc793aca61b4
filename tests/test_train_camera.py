"""The recipe of the camera network: levels, targets, and the command with tiny parameters."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from src import checkpoint
from src.config import TrainConfig
from src.datasets.camera_noise import CameraNoiseDataset, luma_of
from src.images import ImageSet, load_images
from src.networks.level_unet import LevelUNet
from src.noise import GaussianNoiseDataset
from src.photos import train_camera
from src.photos.train_camera import CameraTargets, levels
from src.train import fit
from src.unet import UNet


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    pixels = np.repeat(np.repeat(rng.integers(0, 256, (8, 3, 20, 20)), 8, 2), 8, 3).astype(np.uint8)
    return CameraNoiseDataset(ImageSet.from_pixels(torch.from_numpy(pixels), [str(i) for i in range(8)]), crop_size=32)


def test_a_level_is_one_to_eight_times_the_true_standard_deviation_or_unknown():
    sigma = 4 / 255
    drawn = [levels(np.random.default_rng(seed), sigma) for seed in range(4000)]
    known = np.array([given for given, _ in drawn if given > 0])
    assert 1 - len(known) / len(drawn) == pytest.approx(0.2, abs=0.02)
    assert known.min() >= sigma and known.max() <= 8 * sigma
    assert np.log(known / sigma).mean() == pytest.approx(math.log(8) / 2, abs=0.05)  # evenly by ratio
    assert all(added >= 2.5 * sigma - 1e-9 for _, added in drawn)
    assert {round(added / sigma, 6) for given, added in drawn if given == 0} == {4.5}


def test_a_clean_image_of_unknown_level_is_left_alone():
    drawn = [levels(np.random.default_rng(seed), 0.0) for seed in range(200)]
    assert all((given == 0) == (added == 0) for given, added in drawn)
    assert 0 < sum(given == 0 for given, _ in drawn) < 100


def test_targets_mix_the_teachers_answer_and_the_clean_image(pairs):
    class Constant(torch.nn.Module):  # a teacher whose answer is known
        def __init__(self):
            super().__init__()
            self.offset = torch.nn.Parameter(torch.tensor(0.25))

        def forward(self, noisy):
            return torch.zeros_like(noisy) + self.offset

    inputs, target = CameraTargets(pairs, Constant()).batch(list(range(8)))
    noisy, clean = pairs.batch(list(range(8)))
    assert inputs.shape == (8, 4, 32, 32) and torch.equal(inputs[:, :3], noisy)
    for image, wanted, level in zip(target, clean, inputs[:, 3, 0, 0]):
        if level == 0 and torch.equal(image, wanted):
            continue
        chroma = wanted - luma_of(wanted)  # the teacher's has none
        torch.testing.assert_close(image - luma_of(image), train_camera.CLEAN_REST * chroma, atol=2e-3, rtol=0)
        mean = 0.25 + train_camera.CLEAN_REST * (float(luma_of(wanted).mean()) - 0.25)
        assert float(luma_of(image).mean()) == pytest.approx(mean, abs=0.02)


def test_batches_depend_on_seed_epoch_and_index_alone(pairs):
    targets = CameraTargets(pairs, UNet(widths=(8, 12)).eval())
    inputs, target = targets.batch([1, 5])
    again = targets.batch([5])
    assert torch.equal(again[0][0], inputs[1])
    torch.testing.assert_close(again[1][0], target[1])
    targets.set_epoch(1)
    assert not torch.equal(targets.batch([5])[0], again[0])
    targets.set_epoch(0)


def test_without_a_teacher_the_target_is_the_clean_image(pairs):
    _, target = CameraTargets(pairs, None).batch([2, 3])
    assert torch.equal(target, pairs.batch([2, 3])[1])


def test_the_command_trains_and_publishes_a_network_that_loads(tmp_path, capsys):
    images, rng = tmp_path / "images", np.random.default_rng(0)
    images.mkdir()
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(images / f"{index}.png")
    gaussian_pairs = GaussianNoiseDataset(load_images(images).sample(4), crop_size=16)
    fit(UNet(widths=(8, 12)), gaussian_pairs, None, TrainConfig(epochs=1, batch_size=2), tmp_path / "teacher")
    arguments = ["--data", str(images), "--size", "80", "--max-train", "4", "--teacher", str(tmp_path / "teacher"),
                 "--epochs", "2", "--cooldown", "1", "--batch-size", "2", "--crop-size", "16",
                 "--run", str(tmp_path / "run"), "--publish", str(tmp_path / "out")]  # fmt: skip
    assert train_camera.main(arguments) == 0
    assert "held-out PSNR" in capsys.readouterr().out
    published, trained = checkpoint.load(tmp_path / "out"), checkpoint.load(tmp_path / "run")
    assert isinstance(published, LevelUNet)
    for a, b in zip(published.parameters(), trained.parameters()):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)  # float16
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["command"].startswith("python -m src.photos.train_camera") and len(record["history"]) == 2


def test_a_missing_folder_is_one_line(capsys):
    assert train_camera.main(["--data", "no/such/folder"]) == 1
    assert "no/such/folder" in capsys.readouterr().err
