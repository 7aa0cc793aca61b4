"""PSNR and SSIM against closed forms and scikit-image."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from src.metrics import MAX_PSNR, ms_ssim, psnr, ssim


def pair(channels=3, size=(40, 31), noise=0.1):
    draw = torch.Generator().manual_seed(0)
    clean = torch.rand(4, channels, *size, generator=draw)
    return (clean + noise * torch.randn(clean.shape, generator=draw)).clamp(0, 1), clean


def test_psnr_is_capped_at_100_db():
    """Of equal images and of nearly equal ones, so that a mean and a record can hold it; just below it is itself."""
    clean = torch.rand(3, 3, 8, 8) * 0.5
    nearly = clean + torch.tensor([0.0, 1e-7, 2e-5]).view(3, 1, 1, 1)
    assert psnr(nearly, clean)[:2].tolist() == [MAX_PSNR, MAX_PSNR] == [100, 100]
    assert psnr(nearly, clean)[2].item() == pytest.approx(-20 * math.log10(2e-5), abs=0.05)
    black = torch.zeros(1, 3, 8, 8)
    assert psnr(black, black).isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_is_scikit_images_per_image(channels):
    image, clean = pair(channels)
    expected = [peak_signal_noise_ratio(c.numpy(), i.numpy(), data_range=1) for i, c in zip(image, clean)]
    assert psnr(image, clean).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(11, 11), (40, 31)])
@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_ssim_is_scikit_images(channels, size, noise):
    image, clean = pair(channels, size, noise)
    expected = [
        structural_similarity(
            c.numpy().astype(float), i.numpy().astype(float), data_range=1, channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for i, c in zip(image, clean)
    ]  # fmt: skip
    assert ssim(image, clean).tolist() == pytest.approx(expected, abs=1e-5)


def test_ssim_of_constants_closed_form():
    """Without variance only the means' factor is left: (2ab + C1) / (a^2 + b^2 + C1)."""
    a, b = 0.2, 0.6
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert ssim(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b)).item() == pytest.approx(expected, 1e-5)


def test_a_transposed_image_is_noticed():
    """The 2021 bug: the loss was low while the image lay on its side."""
    image, clean = pair(size=(40, 40), noise=0.01)
    assert (psnr(image, clean) > 35).all() and (psnr(image.transpose(2, 3), clean) < 15).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_figures_are_float32_one_for_each_image(dtype):
    image, clean = (x.to(dtype) for x in pair())
    for measure in (psnr, ssim, ms_ssim):
        figures = measure(image, clean)
        assert figures.shape == (4,) and figures.dtype == torch.float32


def test_figures_are_float32_under_a_default_of_float64():
    image, clean = pair()
    expected = [measure(image, clean) for measure in (psnr, ssim, ms_ssim)]
    torch.set_default_dtype(torch.float64)
    try:
        found = [measure(image, clean) for measure in (psnr, ssim, ms_ssim)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(expected, found))
