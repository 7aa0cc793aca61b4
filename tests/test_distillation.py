"""distillation.py: targets against the denoiser's own self-ensemble, and what a network learns from them."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from src.checkpoint import load, run_folder
from src.config import TrainConfig
from src.datasets.distillation import DistillationDataset, flip_and_turn, turned_outputs
from src.images import ImageSet
from src.noise import GaussianNoiseDataset
from src.photos.denoiser import denoise
from src.train import fit
from src.unet import UNet


@pytest.fixture(scope="module")
def pairs():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 6, 6)).repeat(8, 2).repeat(8, 3).astype(np.uint8)
    images = ImageSet.from_pixels(torch.from_numpy(pixels), [str(i) for i in range(6)])
    return GaussianNoiseDataset(images, 0.1, seed=3, crop_size=32, augment=True)


@pytest.fixture
def teacher():
    model = UNet(widths=(4, 8), seed=1)
    for p in model.parameters():  # a new UNet returns its input: its last convolution is 0
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    return model


@pytest.mark.parametrize("turn", range(8))
def test_flips_and_turns_are_undone(turn):
    image = torch.rand(3, 5, 5)
    assert torch.equal(flip_and_turn(flip_and_turn(image, turn), turn, back=True), image)


def test_the_eight_turns_differ():
    image = torch.arange(9).reshape(1, 3, 3)
    assert len({tuple(flip_and_turn(image, turn).flatten().tolist()) for turn in range(8)}) == 8


def test_eight_members_are_the_self_ensemble(pairs, teacher):
    noisy, target = DistillationDataset(pairs, teacher, members=8).batch([0, 1, 2])
    assert torch.equal(noisy, pairs.batch([0, 1, 2])[0]) and not target.requires_grad
    expected = denoise(noisy, teacher, self_ensemble=True)
    torch.testing.assert_close(target.clamp(0, 1), expected, atol=0.01, rtol=0)  # bfloat16, where there is some
    assert (denoise(noisy, teacher) - expected).abs().max() > 0.02  # one output is something else


def test_a_target_between_the_mean_and_the_clean_image(pairs, teacher):
    mean, clean = DistillationDataset(pairs, teacher).batch([2, 5])[1], pairs.batch([2, 5])[1]
    target = DistillationDataset(pairs, teacher, clean_weight=0.25).batch([2, 5])[1]
    torch.testing.assert_close(target, 0.75 * mean + 0.25 * clean, atol=0.005, rtol=0)


def test_a_teacher_that_no_turn_changes_gives_its_output_for_any_members(pairs):
    blur = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
    blur.weight.data[:] = 1 / 9
    noisy, target = DistillationDataset(pairs, blur, members=3).batch([4, 5])
    torch.testing.assert_close(target, blur(noisy).detach(), atol=0.01, rtol=0)  # three roundings to bfloat16


def test_a_target_depends_on_seed_epoch_and_index_alone(pairs, teacher):
    dataset = DistillationDataset(pairs, teacher)
    together = dataset.batch([0, 1, 2, 3])[1]
    torch.testing.assert_close(dataset.batch([-3])[1][0], together[3], atol=0.005, rtol=0)
    torch.testing.assert_close(dataset.batch([3, 0])[1], together[[3, 0]], atol=0.005, rtol=0)
    assert [dataset.turns(3) for _ in range(2)] == [dataset.turns(3)] * 2
    drawn = []
    for epoch in range(1000):
        dataset.set_epoch(epoch)
        drawn.append(dataset.turns(3))
    dataset.set_epoch(0)
    counts = np.bincount(np.ravel(drawn), minlength=8)
    assert all(len(set(turns)) == 2 for turns in drawn) and abs(counts - 250).max() < 60  # 4 standard deviations


def test_a_network_learns_the_self_ensemble(pairs, teacher, tmp_path):
    """Its distance to the teacher's mean over all symmetries falls, and its outputs for them come closer together."""
    dataset, model = DistillationDataset(pairs, teacher), UNet(widths=(4, 8))
    noisy, mean = DistillationDataset(pairs, teacher, members=8).batch(list(range(6)))
    start = {name: value.clone() for name, value in teacher.state_dict().items()}
    fit(model, dataset, None, TrainConfig(epochs=30, batch_size=2, cooldown=30), run=tmp_path / "run", start=start)
    before, after = turned_outputs(teacher, noisy, [0] * 6), turned_outputs(model, noisy, [0] * 6)
    flipped_before, flipped_after = turned_outputs(teacher, noisy, [5] * 6), turned_outputs(model, noisy, [5] * 6)
    assert (after - mean).square().mean() < 0.5 * (before - mean).square().mean()
    assert (after - flipped_after).square().mean() < 0.5 * (before - flipped_before).square().mean()
    assert all(torch.equal(value, start[name]) for name, value in teacher.state_dict().items())


def test_a_run_goes_on_with_its_own_teacher_only(pairs, teacher, tmp_path):
    config, run = TrainConfig(epochs=1, batch_size=3), tmp_path / "run"
    fit(UNet(widths=(4, 8)), DistillationDataset(pairs, teacher), None, config, run=run)
    fit(UNet(widths=(4, 8)), DistillationDataset(pairs, teacher), None, TrainConfig(epochs=2, batch_size=3), run=run)
    whole = tmp_path / "whole"
    fit(UNet(widths=(4, 8)), DistillationDataset(pairs, teacher), None, TrainConfig(epochs=2, batch_size=3), run=whole)
    assert all(torch.equal(a, b) for a, b in zip(load(run).parameters(), load(whole).parameters()))
    assert json.loads((run_folder(run) / "record.json").read_text())["fingerprint"]["train_set"]["members"] == 2
    with pytest.raises(ValueError, match=r"teacher is .*, not .*name another run"):
        fit(UNet(widths=(4, 8)), DistillationDataset(pairs, UNet(widths=(4, 8))), None, config, run=run)


def test_what_cannot_be_turned_or_averaged_is_refused(teacher):
    wide = GaussianNoiseDataset(torch.rand(2, 3, 16, 24))
    with pytest.raises(ValueError, match="must be square to be turned, got 16x24 pixels; give them a crop_size"):
        DistillationDataset(wide, teacher)
    for members in (0, 9, 1.5):
        with pytest.raises(ValueError, match="members must be a whole number from 1 to 8"):
            DistillationDataset(GaussianNoiseDataset(torch.rand(2, 3, 16, 16)), teacher, members)
    for weight in (-0.1, 1, math.nan):
        with pytest.raises(ValueError, match=r"clean_weight must be from 0 to below 1, got .*; 1 needs no teacher"):
            DistillationDataset(GaussianNoiseDataset(torch.rand(2, 3, 16, 16)), teacher, clean_weight=weight)
