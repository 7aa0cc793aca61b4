"""Each kind of pair that 05_noise puts in place of fresh noise has the property it is named for."""

import numpy as np
import pytest
import torch
from torch import nn

from src.images import ImageSet
from src.noise import GaussianNoiseDataset
from src.studies.corruptions import (
    DoodleDataset,
    FrozenNoiseDataset,
    NoisyTargetDataset,
    TwoNoisyCopiesDataset,
    doodle_test_set,
    gaussian_test_set,
    residual_statistics,
    squared_error_by_place,
)
from src.studies.pitfalls import MEAN, STD, TransposedTargetDataset, WrongNormalisationDataset

KINDS = [
    FrozenNoiseDataset, NoisyTargetDataset, TwoNoisyCopiesDataset, DoodleDataset, TransposedTargetDataset,
    WrongNormalisationDataset,
]  # fmt: skip
CROPS = dict(sigma=0.2, seed=3, crop_size=24, augment=True)


@pytest.fixture(scope="module")
def images():
    """Twelve smooth images of their own colours."""
    coarse = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return ImageSet.from_floats(nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic").clamp(0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_a_function_of_seed_epoch_and_index(kind, images):
    one, two = kind(images, **CROPS), kind(images, **CROPS)
    for pairs in (one, two):
        pairs.set_epoch(4)
    torch.manual_seed(1)
    together = one.batch([2, 9, 5])
    torch.manual_seed(2)
    for alone, whole in zip(two.batch([5]), together):
        assert torch.equal(alone[0], whole[2])
    assert len(one) == 12 and one.shape == (3, 24, 24) and together[0].shape == (3, 3, 24, 24)
    one.set_epoch(5)
    assert not torch.equal(one.batch([2])[0], together[0][:1])


def test_each_kind_has_a_fingerprint_of_its_own(images):
    configs = [kind(images, **CROPS).config for kind in (GaussianNoiseDataset, *KINDS)]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_both_sides_are_the_image(kind, images):
    noisy, target = kind(images, **CROPS | dict(sigma=0)).batch([1, 6])
    clean = GaussianNoiseDataset(images, **CROPS).batch([1, 6])[1]
    if kind is WrongNormalisationDataset:
        clean = (clean - MEAN) / STD
    assert torch.allclose(noisy, clean, atol=1e-6)
    assert torch.allclose(target, clean.transpose(2, 3) if kind is TransposedTargetDataset else clean, atol=1e-6)


def test_frozen_noise_is_the_same_at_every_epoch_on_the_same_pixels(images):
    whole = FrozenNoiseDataset(images, sigma=0.2, seed=3)
    first = torch.sub(*whole.batch([0, 1]))
    whole.set_epoch(7)
    assert torch.allclose(torch.sub(*whole.batch([0, 1])), first, atol=1e-6)
    assert first.std().item() == pytest.approx(0.2, rel=0.03) and not torch.allclose(first[0], first[1])
    crops = FrozenNoiseDataset(images, **CROPS)
    for epoch in range(3):
        crops.set_epoch(epoch)
        expected = np.ascontiguousarray(crops.transform(0, first[0].numpy()))
        assert torch.allclose(torch.sub(*crops.batch([0]))[0], torch.from_numpy(expected), atol=1e-6)


@pytest.mark.parametrize("kind", [NoisyTargetDataset, TwoNoisyCopiesDataset])
def test_noisy_targets_have_independent_noise_of_the_same_sigma(kind, images):
    noisy, target = kind(images, sigma=0.2, seed=3).batch(list(range(12)))
    clean = images.pixels / 255
    a, b = (noisy - clean).flatten(), (target - clean).flatten()
    assert a.std().item() == pytest.approx(0.2, rel=0.02) and b.std().item() == pytest.approx(0.2, rel=0.02)
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.02


@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_doodles_have_the_squared_error_of_the_noise_and_leave_the_rest(images, sigma):
    strokes, everything = doodle_test_set(images, 0, sigma), list(range(12))
    noisy, clean = strokes.batch(everything)
    error = (noisy - clean).square().mean(dim=(1, 2, 3))
    assert torch.allclose(error, torch.full((12,), sigma**2), rtol=0.02 if sigma > 0.1 else 0.15)
    under = strokes.mask(everything)
    assert 0 < under.float().mean() < 0.7 and noisy.min() >= 0 and noisy.max() <= 1
    assert torch.equal(noisy[~under.expand_as(noisy)], clean[~under.expand_as(noisy)])
    places = squared_error_by_place(strokes, {"before": noisy})["before"]
    assert places["MSE elsewhere"] == 0
    assert places["MSE under strokes"] * under.float().mean().item() == pytest.approx(error.mean().item(), rel=1e-4)


def test_the_noise_of_a_test_set(images):
    noisy, clean = gaussian_test_set(images, 0, 0.4).batch(list(range(12)))
    clipped, _ = gaussian_test_set(images, 0, 0.4, clip=True).batch(list(range(12)))
    assert (noisy - clean).std().item() == pytest.approx(0.4, rel=0.02)
    assert torch.equal(clipped, noisy.clamp(0, 1))


def test_residual_statistics_tell_noise_from_image(images):
    noisy, clean = gaussian_test_set(images, 0, 0.2).batch(list(range(12)))
    found = residual_statistics(noisy - clean, clean)
    assert found["standard deviation"] == pytest.approx(0.2, abs=0.003)
    assert abs(found["correlation across"]) < 0.03 and abs(found["correlation down"]) < 0.03
    assert found["standard deviation, edges / flat"] == pytest.approx(1, abs=0.05)
    hard = (clean > 0.5).float()
    blurred = nn.functional.avg_pool2d(hard, 3, stride=1, padding=1, count_include_pad=False)
    assert (
        residual_statistics(hard - blurred + noisy - clean, hard)["standard deviation, edges / flat"] > 1.2
    )  # a blur takes edges
