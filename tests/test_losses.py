"""The losses against scikit-image and the published definition; zero at the goal, with a way there from anywhere."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d, gaussian_filter
from skimage.metrics import structural_similarity

from src.config import TrainConfig
from src.losses import LOSSES, loss_function
from src.metrics import FLOOR, _positive, ms_ssim, psnr

NAMES = [*LOSSES, "mix:0.025"]
SIZES = [(11, 11), (23, 17), (64, 64), (100, 47)]


def images(size=(64, 64), seed=0, count=2):
    """Smooth colours, as photos have them: float32 [count, 3, H, W] in [0, 1]."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=draw)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def others(clean):
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(clean.shape, generator=draw)
    return {
        "constant": torch.full_like(clean, 0.3),
        "black": torch.zeros_like(clean),
        "inverted": 1 - clean,
        "random": torch.rand(clean.shape, generator=draw),
        "noisy": clean + 0.2 * noise,
        "nearly": clean + 1e-3 * noise,
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_zero_for_equal_images_and_positive_with_a_gradient_for_others(name, size):
    loss, clean = loss_function(name), images(size)
    equal = clean.clone().requires_grad_()
    value = loss(equal, clean)
    value.backward()
    # at the goal a loss is lowest, so that its gradient is zero; to be finite is all there is to ask
    assert value.item() == 0 and equal.grad.isfinite().all() and equal.grad.abs().max() < 1e-5
    for what, image in others(clean).items():
        image = image.clone().requires_grad_()
        value = loss(image, clean)
        value.backward()
        assert value.isfinite() and value > 0, what
        assert image.grad.isfinite().all() and image.grad.abs().max() > 1e-9, what


@pytest.mark.parametrize("name", NAMES)
def test_both_images_constant(name):
    """Where nothing varies every structural term has a zero in it; the difference of the means must still pull."""
    image = torch.full((1, 3, 64, 64), 0.3, requires_grad=True)
    value = loss_function(name)(image, torch.full((1, 3, 64, 64), 0.7))
    value.backward()
    assert value > 0 and image.grad.isfinite().all() and (image.grad.sum() < 0)  # brighter is nearer


@pytest.mark.parametrize("start", ["noisy", "random"])
@pytest.mark.parametrize("name", NAMES)
def test_descends_to_the_target(name, start):
    clean = images((24, 24), count=1)
    image = others(clean)[start].clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.02)
    loss = loss_function(name)
    first, before = loss(image, clean).item(), psnr(image.detach(), clean).mean()
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 300)
        optimizer.zero_grad()
        loss(image, clean).backward()
        optimizer.step()
    assert loss(image, clean).item() < 0.1 * first
    # the structural ones are nearly blind to the mean of a channel, the pixelwise ones to nothing
    assert psnr(image.detach(), clean).mean() > before + (20 if name in ("mse", "l1") else 3)


def by_scipy(image, clean, mirrored=False):
    """MS-SSIM by the published formulas, on numpy arrays [H, W] in float64, by other code than ours."""
    offset = np.arange(-5, 6)
    window = np.exp(-(offset**2) / (2 * 1.5**2))
    window /= window.sum()

    def blurred(x):
        for axis in (0, 1):
            x = convolve1d(x, window, axis=axis)  # mirrors at the border
        return x if mirrored else x[5:-5, 5:-5]

    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
    count = sum(min(image.shape) // 2**level >= 11 for level in range(5))
    weights, result = weights[:count] / weights[:count].sum(), 1.0
    for level, weight in enumerate(weights):
        mx, my = blurred(image), blurred(clean)
        vx, vy, cov = blurred(image**2) - mx**2, blurred(clean**2) - my**2, blurred(image * clean) - mx * my
        structure = (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
        if level == count - 1:
            structure = structure * (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        result *= structure.mean() ** weight
        height, width = (side // 2 * 2 for side in image.shape)
        image, clean = (
            x[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for x in (image, clean)
        )
    return result, count


@pytest.mark.parametrize("size, expected", [((11, 11), 1), ((21, 40), 1), ((22, 22), 2), ((64, 64), 3), ((100, 90), 4),
                                            ((175, 300), 4), ((176, 176), 5), ((400, 400), 5)])  # fmt: skip
def test_ms_ssim_is_the_published_one_by_as_many_scales_as_fit(size, expected):
    clean = images(size)
    image = others(clean)["noisy"].clamp(0, 1)
    for mirrored in (False, True):
        pairs = [
            [by_scipy(image[i, c].double().numpy(), clean[i, c].double().numpy(), mirrored) for c in range(3)]
            for i in range(len(clean))
        ]
        means = [np.mean([value for value, _ in three]) for three in pairs]
        assert {count for three in pairs for _, count in three} == {expected}
        if mirrored:  # what is trained with
            assert LOSSES["ms_ssim"](image, clean).item() == pytest.approx(1 - np.mean(means), abs=1e-5)
        else:
            assert ms_ssim(image, clean).tolist() == pytest.approx(means, abs=1e-5)


@pytest.mark.parametrize("size", [(11, 11), (64, 64), (30, 47)])
def test_ssim_loss_is_one_less_the_mean_of_scikit_images_map(size):
    clean = images(size)
    image = others(clean)["noisy"]
    maps = [
        structural_similarity(c.double().numpy(), i.double().numpy(), data_range=1, channel_axis=0, full=True,
                              gaussian_weights=True, sigma=1.5, use_sample_covariance=False)[1]
        for i, c in zip(image, clean)
    ]  # fmt: skip
    assert LOSSES["ssim"](image, clean).item() == pytest.approx(1 - np.mean(maps), abs=1e-5)


def test_what_is_kept_positive_is_continuous_positive_and_rising():
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64, requires_grad=True)
    positive = _positive(x)
    slope = torch.autograd.grad(positive.sum(), x)[0]
    assert (positive > 0).all() and (slope > 0).all() and slope.diff().abs().max() < 0.3
    assert torch.equal(positive[x > FLOOR], x[x > FLOOR])


def test_psnr_loss_falls_as_psnr_rises_whatever_the_noise():
    clean = images()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    loud, quiet = LOSSES["psnr"](clean + 0.2 * noise, clean), LOSSES["psnr"](clean + 0.02 * noise, clean)
    decibel = psnr(clean + 0.02 * noise, clean).mean() - psnr(clean + 0.2 * noise, clean).mean()
    # a decibel is ln(10) / 10 of it, but for the 1e-5 that keep it finite: 2.5 % of the quiet image's error
    assert (loud - quiet).item() == pytest.approx(decibel.item() * np.log(10) / 10, abs=0.05)


def test_mix_is_its_parts():
    clean = images()
    image = others(clean)["noisy"]
    for weight in (0, 0.025, 0.84, 1):
        expected = weight * LOSSES["ms_ssim"](image, clean) + (1 - weight) * LOSSES["l1"](image, clean)
        assert loss_function(f"mix:{weight}")(image, clean).item() == pytest.approx(expected.item(), abs=1e-7)
    assert loss_function("mix")(image, clean) == loss_function("mix:0.84")(image, clean)


def test_l1_under_the_gaussian_of_the_coarsest_scale_around_every_pixel_is_l1():
    """What mix's second part is in the paper, by scipy: the weights around all centres sum to one."""
    clean = images()
    image = others(clean)["noisy"]
    weighted = gaussian_filter((image - clean).abs().double().numpy(), sigma=8, axes=(2, 3))
    assert LOSSES["l1"](image, clean).item() == pytest.approx(weighted.mean(), rel=1e-4)


@pytest.mark.parametrize("loss", ["mae", "mix:", "mix:2", "mix:x", "l1:0.5", None, 3])
def test_unknown_losses_are_refused(loss):
    with pytest.raises(ValueError, match="loss must be one of mse, l1, psnr, ssim, ms_ssim, mix"):
        TrainConfig(loss=loss)


def test_too_small_for_the_window():
    for name in ("ssim", "ms_ssim", "mix"):
        with pytest.raises(ValueError, match="11x11"):
            loss_function(name)(torch.zeros(1, 3, 10, 30), torch.zeros(1, 3, 10, 30))


def test_a_function_of_ones_own_is_taken_as_it_is():
    def own(denoised, clean):
        return (denoised - clean).abs().mean()

    assert loss_function(own) is own and TrainConfig(loss=own).loss is own


def test_losses_keep_their_precision_under_a_default_of_float64():
    clean = images(count=1)
    image = others(clean)["noisy"]
    expected = {name: loss_function(name)(image, clean) for name in NAMES}
    torch.set_default_dtype(torch.float64)
    try:
        for name in NAMES:
            assert torch.equal(loss_function(name)(image, clean), expected[name]), name
    finally:
        torch.set_default_dtype(torch.float32)
