"""09_speed and hardware_limits count and time correctly, and the loop of 2021 trains."""

import time
from math import inf, isnan

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from src.config import TrainConfig
from src.device import device, precision
from src.images import load_images
from src.loop import training_loop
from src.networks import UNet2021
from src.noise import GaussianNoiseDataset
from src.studies import hardware_limits, speed, speed_levers
from src.unet import UNet


@pytest.fixture
def pairs():
    """Eight ramps to train on and two to evaluate on."""
    clean = torch.linspace(0.2, 0.8, 32).expand(8, 3, 32, 32)
    return (
        GaussianNoiseDataset(clean, sigma=0.2, seed=0, crop_size=16),
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
    assert hardware_limits.flops(first, (2, 3, 8, 8)) == 2 * forward
    two = nn.Sequential(first, nn.Conv2d(5, 3, 3, padding=1))
    assert hardware_limits.flops(two, (2, 3, 8, 8)) == 2 * forward + 3 * forward


def test_counting_leaves_the_network_alone():
    model = UNet2021(widths=(4, 8)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert hardware_limits.flops(model, (1, 3, 16, 16)) > 0
    assert not model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_files_are_the_images_that_load_images_reads(folder):
    images = load_images(folder, size=48)
    files = speed.FileDataset(folder, images, 48)
    assert len(files) == len(images) == 20
    assert torch.equal((files[3] * 255).round().byte(), images[[3]].pixels[0])


def test_the_loop_of_2021_lowers_the_loss(folder):
    files = speed.FileDataset(folder, load_images(folder, size=48), 32)
    assert files[0].shape == (3, 32, 32) and files[0].dtype == torch.float32
    epochs = speed.loop_2021(UNet2021(widths=(8, 16)), files, sigma=0.1, steps=5, lr=2e-3)
    losses = [next(epochs) for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.5 * losses[0]


def test_the_parts_of_an_epoch_add_up(pairs, monkeypatch):
    batch, backward = pairs[0].batch, torch.Tensor.backward
    monkeypatch.setattr(pairs[0], "batch", lambda indices: (time.sleep(0.05), batch(indices))[1])
    slow = pairs[0].batch
    parts = speed_levers.epoch_parts(UNet(widths=(4, 8)), pairs[0], TrainConfig(batch_size=4), repeats=2)
    assert list(parts) == ["data", "forward", "backward", "optimizer", "rest"]
    assert all(seconds > 0 for seconds in parts.values())
    assert 0.1 <= parts["data"] < 0.2  # two batches: the parts are where the time goes
    assert pairs[0].batch == slow and torch.Tensor.backward is backward  # nothing that was watched stays so


def test_float32_is_forced_only_while_it_is_that_run_s_turn(pairs, monkeypatch):
    monkeypatch.setattr("src.device.precision", lambda where: torch.bfloat16)
    seen = []

    class Watcher(UNet):
        def forward(self, noisy):
            x = super().forward(noisy)
            seen.append(self.head(noisy).dtype)
            return x

    config = TrainConfig(epochs=3, batch_size=8)
    forced = training_loop(Watcher(widths=(4, 8)), pairs[0], None, config)
    runs = {
        "float32": speed_levers.under(speed_levers.float32, forced),
        "bfloat16": training_loop(Watcher(widths=(4, 8)), pairs[0], None, config),
    }
    taken = speed_levers.in_turns(runs, repeats=2)
    assert seen == [torch.float32, torch.bfloat16] * 3
    assert {name: len(seconds) for name, seconds in taken.items()} == {"float32": 2, "bfloat16": 2}


@pytest.mark.parametrize("lever", [speed_levers.channels_first, speed_levers.unfused, speed_levers.pair_by_pair])
def test_a_lever_switched_off_changes_the_time_and_not_the_result(pairs, lever):
    config = TrainConfig(epochs=3, batch_size=4)
    with_it, without = UNet(widths=(16, 24)), UNet(widths=(16, 24))
    expected = list(training_loop(with_it, pairs[0], pairs[1], config))
    found = list(speed_levers.under(lever, training_loop(without, pairs[0], pairs[1], config)))
    assert [record["psnr"] for record in found] == pytest.approx([record["psnr"] for record in expected], abs=0.05)
    assert torch.optim.Adam.__module__ == "torch.optim.adam" and torch._foreach_lerp_.__name__ == "_foreach_lerp_"


def test_quality_over_time_counts_training_alone(pairs, monkeypatch):
    monkeypatch.setattr(speed, "held_out_psnr", lambda *_: time.sleep(0.2) or 20.0)
    start, epochs = time.perf_counter(), iter(lambda: time.sleep(0.01), 1)
    points = speed.quality_over_time(epochs, UNet(widths=(4, 8)), pairs[1], budget=0.1, evaluations=2)
    assert 2 <= len(points) <= 4 and 0.1 <= points[-1][0] < 0.2 < 0.4 < time.perf_counter() - start


def test_the_time_to_a_level():
    curve = [(1.0, 20.0), (2.0, 25.0), (3.0, 24.0)]
    assert speed.seconds_to_reach(curve, 19) == 1 and speed.seconds_to_reach(curve, 24.5) == 2
    assert speed.seconds_to_reach(curve, 30) == inf
    table = speed.time_table({"ours": curve}, {"BM3D": 24.5})
    assert table.loc["ours"].tolist() == [2.0, 24.0]
    assert speed.time_table({"ours": curve}, {"BM3D": 30}).loc["ours"].tolist() == ["not reached", 24.0]


def test_three_networks_are_trained_for_their_time(pairs, folder):
    files = speed.FileDataset(folder, load_images(folder, size=48), 16)
    models, curves = speed.train_three(pairs[0], pairs[1], files, budget=0.01)
    assert list(models) == list(curves) == ["ours", "DnCNN", "2021"]
    assert all(curve[-1][0] >= 0.01 and np.isfinite(curve[-1][1]) for curve in curves.values())


def test_filters_and_networks_are_timed_alike(pairs):
    quality = speed.denoising_speed(UNet(widths=(4, 8)), pairs[1], repeats=2)
    same = speed.denoising_speed(lambda noisy, sigma: noisy, pairs[1], repeats=1)
    assert quality[0] > 0 and quality[1] == pytest.approx(same[1], abs=0.05)  # untrained, it returns its input
    found = speed.classical_speed(pairs[1], repeats=1)
    assert {"NLM", "total variation"} <= set(found)
    assert all(seconds > 0 and value > same[1] + 3 for seconds, value in found.values())
    table = speed.speed_table(found | {"ours": quality})
    assert table["PSNR (dB)"].is_monotonic_increasing and len(table) == len(found) + 1


def test_limits_of_the_machine_are_plausible(pairs):
    peak = hardware_limits.matmul_peak(precision(device()), repeats=1)
    copying = hardware_limits.bandwidth(repeats=1)
    assert peak > 1e8 and copying > 1e8
    ((intensity, rate),) = hardware_limits.roofline((16,), 16, 2, torch.float32, repeats=1)
    x, weights = 4 * 2 * 16 * 16 * 16, 4 * 9 * 16 * 16
    assert intensity == pytest.approx(2 * 9 * 16 * (x / 4) / (2 * x + weights)) and rate > 0
    found = hardware_limits.operations(UNet(widths=(4, 8)), pairs[0], TrainConfig(batch_size=4), most=3)
    assert len(found) == 4 and list(found)[-1] == "others" and sum(found.values()) == pytest.approx(1)
    assert any("conv" in name for name in found)


def test_growth_is_measured_in_processes_of_their_own():
    small = dict(side=16, crop_size=8, width=4, threads=1, epochs=1, batch_size=4)
    found = hardware_limits.growth("count", [4, 64], small)
    assert list(found) == ["seconds", "data", "memory"] and [x for x, _ in found["data"]] == [4, 64]
    assert found["seconds"][1][1] > found["seconds"][0][1] and all(y > 0 for curve in found.values() for _, y in curve)


def test_a_failing_measurement_is_an_error_and_no_standstill():
    small = dict(count=4, side=16, crop_size=8, width=4, threads=1, batch_size=4)
    with pytest.raises(ValueError, match="epochs must be a whole number at least 1, got 0"):
        hardware_limits.growth("epochs", [0], small)


def test_slope():
    assert hardware_limits.slope([(x, 3 * x**2) for x in (1, 2, 5)]) == pytest.approx(2)
    assert hardware_limits.slope([(1, 7), (100, 7)]) == pytest.approx(0, abs=1e-12)
    assert isnan(hardware_limits.slope([(1, 7)]))


def test_the_command(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed_levers, "UNet2021", lambda: UNet2021(widths=(4, 8)))
    options = ["--data", str(folder), "--size", "48", "--images", "8", "--repeats", "1", "--small"]
    parts = [part for part in hardware_limits.PARTS if part != "growth"]  # which has a test of its own
    assert hardware_limits.main([*options, "--parts", *parts, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{part}\n" in out for part in parts)
    assert {path.name for path in tmp_path.iterdir()} == {f"{part}.csv" for part in parts} | {"roofline.png"}
    intensities = [float(line.split(",")[3]) for line in (tmp_path / "roofline.csv").read_text().splitlines()[1:]]
    assert intensities == sorted(intensities)
    assert hardware_limits.main(["--data", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
