"""What 05_noise and 06_pitfalls put in place of fresh noise: each has the property it is named for."""

import numpy as np
import pytest
import torch
from src.studies.corruptions import Doodles, FrozenNoise, NoisyTargets, TwoShots, doodled, gaussian, residual_figures
from src.studies.pitfalls import (
    MEAN,
    STD,
    Normalised,
    TrainingMode,
    TransposedTargets,
    Turned,
    Unnormalised,
    psnr_of_the_mean,
    split_by_file,
    upside_down,
)
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from src import GaussianNoiseDataset, ImageSet, UNet, psnr

KINDS = [FrozenNoise, NoisyTargets, TwoShots, Doodles, TransposedTargets, Normalised]


@pytest.fixture(scope="module")
def images():
    """Twelve smooth pictures of their own colours, two a group."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(12, 3, 4, 4, generator=draw)
    clean = nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic").clamp(0, 1)
    return ImageSet.from_pixels((clean * 255).round().to(torch.uint8), groups=[str(i // 2) for i in range(12)])


def pairs(images, **more):
    return GaussianNoiseDataset(images, **(dict(sigma=0.2, seed=3, crop=24, flip=True) | more))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_a_function_of_seed_epoch_and_index(kind, images):
    one, two = kind(pairs(images)), kind(pairs(images))
    for part in (one, two):
        part.set_epoch(4)
    torch.manual_seed(1)
    together = one.batch([2, 9, 5])
    torch.manual_seed(2)
    for alone, whole in zip(two.batch([5]), together):
        assert torch.equal(alone[0], whole[2])
    assert len(one) == 12 and one.shape == (3, 24, 24) and together[0].shape == (3, 3, 24, 24)
    one.set_epoch(5)
    assert not torch.equal(one.batch([2])[0], together[0][:1])
    assert one.config["kind"] == kind.__name__ and one.config["sigma"] == 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_is_the_inner_sets(kind, images):
    inner = pairs(images, sigma=0)
    noisy, target = kind(inner).batch([1, 6])
    clean = inner.batch([1, 6])[1]
    if kind is Normalised:
        clean = (clean - MEAN) / STD
    assert torch.allclose(noisy, clean, atol=1e-6)
    assert torch.allclose(target, clean.transpose(2, 3) if kind is TransposedTargets else clean, atol=1e-6)


def test_frozen_noise_is_the_same_at_every_epoch_on_the_same_pixels(images):
    whole = FrozenNoise(pairs(images, crop=None, flip=False))
    first = torch.sub(*whole.batch([0, 1]))
    whole.set_epoch(7)
    assert torch.allclose(torch.sub(*whole.batch([0, 1])), first, atol=1e-6)
    assert first.std().item() == pytest.approx(0.2, rel=0.03) and not torch.allclose(first[0], first[1])
    cut = FrozenNoise(pairs(images))
    for epoch in range(3):
        cut.set_epoch(epoch)
        expected = cut.inner.cut(0, first[0].numpy())
        assert torch.allclose(
            torch.sub(*cut.batch([0]))[0], torch.from_numpy(np.ascontiguousarray(expected)), atol=1e-6
        )


def test_noisy_targets_have_independent_noise_of_the_same_strength(images):
    for kind in (NoisyTargets, TwoShots):
        inner = pairs(images, crop=None, flip=False)
        noisy, target = kind(inner).batch(list(range(12)))
        clean = inner.batch(list(range(12)))[1]
        a, b = (noisy - clean).flatten(), (target - clean).flatten()
        assert a.std().item() == pytest.approx(0.2, rel=0.02) and b.std().item() == pytest.approx(0.2, rel=0.02)
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.02


@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_doodles_have_the_squared_error_of_the_noise_and_leave_the_rest(images, sigma):
    strokes = doodled(images, 0, sigma)
    noisy, clean = strokes.batch(list(range(12)))
    error = (noisy - clean).square().mean(dim=(1, 2, 3))
    assert torch.allclose(error, torch.full((12,), sigma**2), rtol=0.02 if sigma > 0.1 else 0.15)
    under = strokes.mask(list(range(12)))
    assert 0 < under.float().mean() < 0.7 and noisy.min() >= 0 and noisy.max() <= 1
    assert torch.equal(noisy[~under.expand_as(noisy)], clean[~under.expand_as(noisy)])


def test_held_out_noise_of_another_kind(images):
    noisy, clean = gaussian(images, 0, 0.4).batch(list(range(12)))
    clipped, _ = gaussian(images, 0, 0.4, clip=True).batch(list(range(12)))
    assert (noisy - clean).std().item() == pytest.approx(0.4, rel=0.02)
    assert torch.equal(clipped, noisy.clamp(0, 1))


def test_residual_figures_know_noise_from_picture(images):
    noisy, clean = gaussian(images, 0, 0.2).batch(list(range(12)))
    words = residual_figures(noisy - clean, clean).replace(",", "").split()
    deviation, across, down, edges = (float(words[i]) for i in (1, 3, 5, 10))
    assert deviation == pytest.approx(0.2, abs=0.003) and abs(across) < 0.03 and abs(down) < 0.03
    assert edges == pytest.approx(1, abs=0.05)
    hard = (clean > 0.5).float()
    taken = hard - nn.functional.avg_pool2d(hard, 3, stride=1, padding=1, count_include_pad=False)
    taken += noisy - clean
    assert float(residual_figures(taken, hard).split()[-1]) > 1.2  # a blur takes the edges along


def test_a_network_judged_as_a_mistake_has_it(images):
    model = UNet(widths=(4, 8), norm="batch").eval()
    nn.init.normal_(model.tail.weight, generator=torch.Generator().manual_seed(0), std=0.05)
    noisy, _ = gaussian(images, 0, 0.2).batch([0, 1, 2])
    with torch.no_grad():
        assert torch.equal(Turned(model)(noisy), model(noisy).transpose(2, 3))
        assert torch.allclose(Unnormalised(model)(noisy), model((noisy - MEAN) / STD) * STD + MEAN, atol=1e-5)
        averages = model.encoder[1][0].body[1].running_mean.clone()
        alone = TrainingMode(model)(noisy)
        assert torch.allclose(alone[1:2], TrainingMode(model)(noisy[1:2]), atol=1e-5)  # one picture at a time
        assert not torch.allclose(alone, model(noisy), atol=1e-3)
        assert torch.equal(model.encoder[1][0].body[1].running_mean, averages) and not model.training


def test_a_split_by_file_has_the_same_groups_on_both_sides(images):
    trained, held_out = split_by_file(images, seed=0)
    assert len(trained) == 10 and len(held_out) == 2 and not set(trained.names) & set(held_out.names)
    assert set(held_out.groups) <= set(trained.groups)


def test_the_wrong_sign_rewards_what_ssim_punishes(images):
    noisy, clean = gaussian(images, 0, 0.2).batch([0])
    assert upside_down(noisy, clean) < upside_down(clean, clean) == 1
    _, windows = structural_similarity(
        clean[0].double().numpy(), noisy[0].double().numpy(), data_range=1, channel_axis=0, full=True,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert upside_down(noisy, clean).item() == pytest.approx(windows.mean(), abs=1e-4)


def test_psnr_of_the_mean_is_scikit_images_of_the_whole_batch(images):
    noisy, clean = gaussian(images, 0, 0.2).batch([0, 1, 2])
    noisy = torch.lerp(clean, noisy, torch.tensor([0.2, 1.0, 1.0])[:, None, None, None])
    for data_range in (1, 2, 255):
        expected = peak_signal_noise_ratio(clean.numpy(), noisy.numpy(), data_range=data_range)
        assert psnr_of_the_mean(noisy, clean, data_range) == pytest.approx(expected, abs=1e-3)
    assert psnr_of_the_mean(noisy, clean) < psnr(noisy, clean).mean() - 1  # the logarithm is concave
