"""The estimate of sigma against the noise that was added, and the network that works in units of sigma."""

import numpy as np
import pytest
import torch
from skimage import data

from src.config import TrainConfig
from src.loop import training_loop
from src.networks import NoiseLevelNormalised, SigmaChannelDataset, estimate_sigma, noise_level
from src.networks.noise_level import with_sigma_channel
from src.noise import GaussianNoiseDataset
from src.unet import UNet


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def photo(name):
    pixels = np.atleast_3d(getattr(data, name)()).transpose(2, 0, 1)
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


@pytest.mark.parametrize(
    "size, tolerance", [((512, 512), 0.02), ((128, 128), 0.06), ((40, 300), 0.06), ((20, 20), 0.25)]
)
@pytest.mark.parametrize("sigma", [5 / 255, 0.1, 0.5])
def test_pure_noise_has_its_standard_deviation(sigma, size, tolerance):
    """Noise without a photo lacks the floor that is subtracted."""
    found = estimate_sigma(0.5 + sigma * noise(4, 3, *size)) + noise_level.PHOTO_FLOOR
    assert found.shape == (4,)
    torch.testing.assert_close(found, torch.full((4,), sigma), rtol=tolerance, atol=0)


PHOTOS = ["astronaut", "camera", "chelsea", "coffee", "rocket"]


@pytest.mark.parametrize("sigma", [15, 25, 50])
@pytest.mark.parametrize("name", PHOTOS)
def test_texture_of_photos_is_no_noise(name, sigma):
    clean = photo(name)
    found = float(estimate_sigma(clean + sigma / 255 * noise(*clean.shape))) * 255
    assert found == pytest.approx(sigma, rel=0.04)


@pytest.mark.parametrize("name", PHOTOS)
def test_nearer_than_the_finest_wavelets(name):
    """scikit-image's estimate, by Donoho and Johnstone 1994, takes texture for noise."""
    wavelets = pytest.importorskip("skimage.restoration").estimate_sigma
    pytest.importorskip("pywt")
    noisy = photo(name) + 15 / 255 * noise(*photo(name).shape)
    theirs = wavelets(noisy[0].numpy(), channel_axis=0, average_sigmas=True)
    assert abs(float(estimate_sigma(noisy)) - 15 / 255) < abs(theirs - 15 / 255)


def test_slopes_and_edges_are_no_noise():
    rows, columns = torch.meshgrid(torch.linspace(0.1, 0.9, 90), torch.linspace(0.2, 0.8, 70), indexing="ij")
    image = torch.where(rows > columns, rows, columns / 2)[None, None]
    assert float(estimate_sigma(image)) == 0


def test_each_image_has_its_own_and_turning_changes_little():
    clean = photo("chelsea")
    three = torch.cat([clean + sigma * noise(*clean.shape) for sigma in (0.02, 0.1, 0.2)])
    together = estimate_sigma(three)
    for one, found in zip(three, together):
        assert torch.equal(estimate_sigma(one[None])[0], found)
        assert float(estimate_sigma(torch.rot90(one[None], 1, (2, 3)))[0]) == pytest.approx(float(found), rel=0.03)


def test_strips_make_no_difference(monkeypatch):
    tall = photo("chelsea") + 0.1 * noise(1, 3, 300, 451)
    whole = estimate_sigma(tall)
    for strip in (8, 64, 296):
        monkeypatch.setattr(noise_level, "STRIP", strip)
        assert torch.equal(estimate_sigma(tall), whole)


def test_clipped_blocks_are_left_out():
    """Half of the image is overexposed: its noise is gone, and it is the quietest part."""
    half = torch.tensor([0.5, 1.4]).repeat_interleave(100).expand(1, 3, 200, 200)
    assert float(estimate_sigma((half + 0.1 * noise(1, 3, 200, 200)).clamp(0, 1))) == pytest.approx(0.1, rel=0.05)
    assert float(estimate_sigma(torch.ones(1, 1, 50, 50))) == 0


@pytest.mark.parametrize("dtype, top", [(torch.uint8, 255), (torch.uint16, 65535)])
@pytest.mark.parametrize(
    "name, tolerance", [("astronaut", 0.06), ("camera", 0.08), ("chelsea", 0.06), ("coffee", 0.06)]
)
@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_files_hold_clipped_whole_numbers(name, tolerance, sigma, dtype, top):
    clean = photo(name)
    stored = ((clean + sigma / 255 * noise(*clean.shape)).clamp(0, 1) * top).round().to(dtype)
    assert float(estimate_sigma(stored)) * 255 == pytest.approx(sigma, rel=tolerance)


def test_a_black_bar_is_no_image_without_noise():
    dark = (0.1 + 25 / 255 * noise(1, 3, 256, 256)).clamp(0, 1)
    dark[..., :40, :] = 0
    assert float(estimate_sigma((dark * 255).round().to(torch.uint8))) * 255 > 12


def test_autocast_makes_no_difference():
    noisy = photo("chelsea") + 0.1 * noise(1, 3, 300, 451)
    with torch.autocast("cpu", torch.bfloat16):
        found = estimate_sigma(noisy)
    assert found.dtype == torch.float32 and torch.equal(found, estimate_sigma(noisy))


@pytest.mark.parametrize("size", [(3, 40), (10, 12), (17, 17), (17, 90), (90, 6)])
def test_a_small_image_is_one_block(size):
    """In the mean square, as single small images vary."""
    found = estimate_sigma(0.5 + 0.1 * noise(200, 3, *size)) + noise_level.PHOTO_FLOOR
    assert found.shape == (200,) and float(found.square().mean().sqrt()) == pytest.approx(0.1, rel=0.05)


def test_images_under_three_pixels_have_none():
    assert estimate_sigma(noise(2, 3, 2, 50)).tolist() == [0, 0]
    assert estimate_sigma(noise(0, 3, 50, 50)).shape == (0,)
    with pytest.raises(ValueError, match=r"must be \[B, C, H, W\], got \[3, 50, 50\]; one image needs"):
        estimate_sigma(noise(3, 50, 50))


def normalised():
    model = NoiseLevelNormalised(UNet(widths=(4, 8, 12)))
    torch.nn.init.normal_(model.unet.tail.weight, generator=torch.Generator().manual_seed(0))
    return model.eval()


@torch.no_grad()
def test_a_normalised_network_works_in_units_of_the_noise():
    """At the reference it is the plain UNet; contrast and sigma doubled double what it removes."""
    model, noisy = normalised(), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model(with_sigma_channel(noisy, 25 / 255)), model.unet(noisy))
    removed = model(with_sigma_channel(noisy, 0.1)) - noisy
    doubled = 0.5 + 2 * (noisy - 0.5)
    torch.testing.assert_close(model(with_sigma_channel(doubled, 0.2)) - doubled, 2 * removed)
    assert (model(with_sigma_channel(noisy, 0.2)) - noisy - removed).abs().max() > 0.01  # sigma matters


@torch.no_grad()
def test_sigma_of_each_image_is_given_or_estimated():
    model = normalised()
    noisy = torch.rand(2, 3, 40, 40) * torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1)
    both = model(with_sigma_channel(noisy, torch.tensor([0.1, 0.2])))
    for image, sigma, expected in zip(noisy, (0.1, 0.2), both):
        torch.testing.assert_close(model(with_sigma_channel(image[None], sigma))[0], expected)
    assert torch.equal(model(noisy), model(with_sigma_channel(noisy, estimate_sigma(noisy))))
    assert model(torch.rand(1, 3, 1, 1)).isfinite().all() and model(torch.rand(0, 3, 8, 8)).shape == (0, 3, 8, 8)
    assert torch.equal(model(with_sigma_channel(noisy, 0.0)), model(with_sigma_channel(noisy, 2 / 255)))


def test_it_trains_on_the_measured_sigma_of_each_pair():
    clean = torch.linspace(0.2, 0.8, 32).expand(8, 3, 32, 32)
    train_set = SigmaChannelDataset(clean, sigma=(0.02, 0.3), seed=0)
    noisy, target = train_set.batch([0, 5])
    assert noisy.shape == (2, 4, 32, 32) and target.shape == (2, 3, 32, 32)
    sigma = (noisy[:, :3] - target).numpy().std(axis=(1, 2, 3))
    np.testing.assert_allclose(noisy[:, 3, 7, 9].numpy(), sigma, rtol=1e-5)
    assert train_set.config != GaussianNoiseDataset(clean, sigma=(0.02, 0.3), seed=0).config
    test_set = GaussianNoiseDataset(clean[:2], sigma=0.2, seed=1, fixed=True)  # without the channel: estimated
    model = NoiseLevelNormalised(UNet(widths=(4, 8)))
    history = list(training_loop(model, train_set, test_set, TrainConfig(epochs=8, batch_size=4)))
    assert history[-1]["psnr"] > 13.98 + 1
