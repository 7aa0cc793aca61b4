"""PSNR and SSIM against closed forms and scikit-image."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from src import psnr, ssim


def pair(channels=3, size=(40, 31), noise=0.1):
    draw = torch.Generator().manual_seed(0)
    clean = torch.rand(4, channels, *size, generator=draw)
    return (clean + noise * torch.randn(clean.shape, generator=draw)).clamp(0, 1), clean


def test_psnr_of_equal_images_is_infinite():
    clean = torch.rand(1, 3, 8, 8)
    assert psnr(clean, clean).isinf().all()


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


def test_a_transposed_picture_is_noticed():
    """The 2021 bug: the loss was low while the picture lay on its side."""
    image, clean = pair(size=(40, 40), noise=0.01)
    assert (psnr(image, clean) > 35).all() and (psnr(image.transpose(2, 3), clean) < 15).all()
