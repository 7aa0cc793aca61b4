"""The support files of 09_speed count right, and their loop of 2021 is a training."""

import time
from math import inf, isnan, nan

from src.studies import hardware_limits as limits
import numpy as np
import pytest
from src.studies import speed
import torch
from PIL import Image
from torch import nn

from src import GaussianNoiseDataset, TrainConfig, UNet, load_images, train
from src.device import device, precision


@pytest.fixture
def pairs():
    """Eight ramps to train on and two to judge by."""
    clean = torch.linspace(0.2, 0.8, 32).expand(8, 3, 32, 32)
    return (
        GaussianNoiseDataset(clean, sigma=0.2, seed=0, crop=16),
        GaussianNoiseDataset(clean[:2], sigma=0.2, seed=1, fixed=True),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty files of ramps, each of its own colour."""
    path = tmp_path_factory.mktemp("ramps")
    ramp = np.linspace(0, 1, 48)[None, :, None].repeat(48, axis=0)
    for index, colour in enumerate(np.random.default_rng(0).uniform(60, 255, (20, 3))):
        Image.fromarray((ramp * colour).astype(np.uint8)).save(path / f"{index}.png")
    return path


def test_operations_of_a_convolution_are_those_of_the_closed_form():
    first = nn.Conv2d(3, 5, 3, padding=1)
    forward = 2 * 9 * 3 * 5 * 2 * 8 * 8  # a product and a sum for each weight at each pixel
    # the backward pass of a first layer owes its input nothing, so it costs what the forward pass does
    assert limits.flops(first, (2, 3, 8, 8)) == 2 * forward
    two = nn.Sequential(first, nn.Conv2d(5, 3, 3, padding=1))
    assert limits.flops(two, (2, 3, 8, 8)) == 2 * forward + 3 * forward


def test_counting_leaves_the_network_alone():
    model = UNet(widths=(4, 8), norm="batch").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert limits.flops(model, (1, 3, 16, 16)) > 0
    assert not model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_loop_of_2021_lowers_the_loss(folder):
    images = load_images(folder, size=48)
    files = speed.Files(folder, images, 32)
    assert len(files) == len(images) == 20
    assert (
        files[0].shape == (3, 32, 32) and files[0].dtype == torch.float32 and 0 <= files[0].min() < files[0].max() <= 1
    )
    model = UNet(widths=(8, 16), block="double", norm="batch", residual=False)
    epochs = speed.train_as_in_2021(model, files, sigma=0.1, steps=5, lr=2e-3)
    losses = [next(epochs) for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.5 * losses[0]


def test_files_are_the_pictures_that_load_images_reads(folder):
    images = load_images(folder, size=48)
    files = speed.Files(folder, images, 48)
    assert torch.equal((files[3] * 255).round().byte(), images[[3]].pixels[0])


def test_shares_add_up_to_the_epoch(pairs):
    config = TrainConfig(batch=4)
    batch, backward = pairs[0].batch, torch.Tensor.backward
    parts = speed.shares(UNet(widths=(4, 8)), pairs[0], config, repeats=2)
    assert list(parts) == ["data", "forward", "backward", "optimizer", "rest"]
    assert all(seconds > 0 for seconds in parts.values())
    whole = sum(parts.values())
    assert sum(seconds / whole for seconds in parts.values()) == pytest.approx(1)
    # nothing that was watched stays so
    assert pairs[0].batch == batch and torch.Tensor.backward is backward


def test_the_parts_are_where_the_time_goes(pairs, monkeypatch):
    slow = pairs[0].batch
    monkeypatch.setattr(pairs[0], "batch", lambda indices: (time.sleep(0.05), slow(indices))[1])
    parts = speed.shares(UNet(widths=(4, 8)), pairs[0], TrainConfig(batch=4), repeats=1)
    assert 0.1 <= parts["data"] < 0.2  # two batches


def test_float32_is_forced_only_while_it_is_that_run_s_turn(pairs, monkeypatch):
    monkeypatch.setattr("src.device.precision", lambda where: torch.bfloat16)
    seen = []

    class Watcher(UNet):
        def forward(self, noisy):
            x = super().forward(noisy)
            seen.append(self.head(noisy).dtype)
            return x

    config = TrainConfig(epochs=3, batch=8)
    runs = {
        "float32": speed.under(speed.float32, train(Watcher(widths=(4, 8)), pairs[0], None, config)),
        "bfloat16": train(Watcher(widths=(4, 8)), pairs[0], None, config),
    }
    taken = speed.interleaved(runs, repeats=2)
    assert seen == [torch.float32, torch.bfloat16] * 3
    assert {name: len(seconds) for name, seconds in taken.items()} == {"float32": 2, "bfloat16": 2}


@pytest.mark.parametrize("lever", [speed.by_channel, speed.unfused, speed.singly])
def test_a_lever_switched_off_changes_the_time_and_not_the_training(pairs, lever):
    config = TrainConfig(epochs=3, batch=4)
    with_it, without = UNet(widths=(16, 24)), UNet(widths=(16, 24))
    expected = list(train(with_it, pairs[0], pairs[1], config))
    found = list(speed.under(lever, train(without, pairs[0], pairs[1], config)))
    assert [entry["psnr"] for entry in found] == pytest.approx([entry["psnr"] for entry in expected], abs=0.05)
    assert torch.optim.Adam.__module__ == "torch.optim.adam" and torch._foreach_lerp_.__name__ == "_foreach_lerp_"


def test_until_counts_training_alone(pairs, monkeypatch):
    model = UNet(widths=(4, 8))
    monkeypatch.setattr(speed, "held_out", lambda *_: time.sleep(0.2) or 20.0)
    start = time.perf_counter()
    points = speed.until(iter(lambda: time.sleep(0.01), 1), model, pairs[1], budget=0.1, looks=2)
    assert 2 <= len(points) <= 4 and 0.1 <= points[-1][0] < 0.2 < 0.4 < time.perf_counter() - start


def test_the_moment_a_level_is_passed():
    points = [(1.0, 20.0), (2.0, 25.0), (3.0, 24.0)]
    assert speed.passed(points, 19) == 1 and speed.passed(points, 24.5) == 2 and speed.passed(points, 30) == inf
    assert isnan(speed.passed(points, nan))


def test_filters_and_networks_are_judged_alike(pairs):
    quality = speed.quality(UNet(widths=(4, 8)), pairs[1], repeats=2)
    same = speed.quality(lambda noisy, sigma: noisy, pairs[1], repeats=1)
    # an untrained network returns its input
    assert quality[0] > 0 and quality[1] == pytest.approx(same[1], abs=0.05)
    found = speed.classical(pairs[1], repeats=1)
    assert {"nlm", "tv"} <= set(found)
    assert all(seconds > 0 and value > same[1] + 3 for seconds, value in found.values())


def test_limits_of_the_machine_are_plausible(pairs):
    dtype = precision(device())
    peak, copying = limits.matmul_peak(dtype, repeats=1), limits.bandwidth(repeats=1)
    assert peak > 1e8 and copying > 1e8
    ((intensity, rate),) = limits.roofline((16,), 16, 2, torch.float32, repeats=1)
    x, weights = 4 * 2 * 16 * 16 * 16, 4 * 9 * 16 * 16
    assert intensity == pytest.approx(2 * 9 * 16 * (x / 4) / (2 * x + weights)) and rate > 0
    found = limits.operations(UNet(widths=(4, 8)), pairs[0], TrainConfig(batch=4), most=3)
    assert len(found) == 4 and list(found)[-1] == "others" and sum(found.values()) == pytest.approx(1)
    assert any("conv" in name for name in found)


def test_growth_is_measured_in_processes_of_their_own():
    small = dict(side=16, crop=8, width=4, threads=1, epochs=1, batch=4)
    found = limits.grow("count", [4, 64], **small)
    assert list(found) == ["seconds", "data", "memory"] and [x for x, _ in found["data"]] == [4, 64]
    assert found["seconds"][1][1] > found["seconds"][0][1] and all(y > 0 for curve in found.values() for _, y in curve)


def test_a_failing_measurement_is_an_error_and_no_standstill():
    small = dict(count=4, side=16, crop=8, width=4, threads=1, batch=4)
    with pytest.raises(ValueError, match="epochs must be a whole number >= 1, got 0"):
        limits.grow("epochs", [0], **small)


def test_slope():
    assert limits.slope([(x, 3 * x**2) for x in (1, 2, 5)]) == pytest.approx(2)
    assert limits.slope([(1, 7), (100, 7)]) == pytest.approx(0, abs=1e-12)
    assert isnan(limits.slope([(1, 7)]))


def test_verdict():
    rows = [("a", "at least", 6, 6.5), ("b", "at least", 6, 5.0), ("c", "at most", 2, 1.0), ("d", "at most", 2, inf),
            ("e", "at most", 2, nan), ("f", "at most", 2, 2)]  # fmt: skip
    lines = speed.verdict(rows).splitlines()
    assert [line.split()[-1] for line in lines] == ["met", "yes", "no", "yes", "no", "-", "yes"]
    assert len({line.index(word) for line, word in zip(lines[1:], ["yes", "no", "yes", "no"])}) == 1
