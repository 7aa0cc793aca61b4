"""estimate.py against what was added: pure noise, photos with noise, and what a file does to it."""

import numpy as np
import pytest
import torch
from skimage import data

from src import estimate, estimate_sigma


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def photo(name):
    pixels = np.atleast_3d(getattr(data, name)()).transpose(2, 0, 1)
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


@pytest.mark.parametrize(
    "size, tolerance", [((512, 512), 0.02), ((128, 128), 0.06), ((40, 300), 0.06), ((20, 20), 0.25)]
)
@pytest.mark.parametrize("sigma", [5 / 255, 0.1, 0.5])
def test_pure_noise_has_its_deviation(sigma, size, tolerance):
    """Noise without a photo lacks the grain that is taken off."""
    found = estimate_sigma(0.5 + sigma * noise(4, 3, *size)) + estimate.GRAIN
    assert found.shape == (4,)
    torch.testing.assert_close(found, torch.full((4,), sigma), rtol=tolerance, atol=0)


PHOTOS = ["astronaut", "camera", "chelsea", "coffee", "rocket"]


@pytest.mark.parametrize("sigma", [15, 25, 50])
@pytest.mark.parametrize("name", PHOTOS)
def test_photos_do_not_pass_for_noise(name, sigma):
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


def test_a_slope_and_edges_hold_no_noise():
    rows, columns = torch.meshgrid(torch.linspace(0.1, 0.9, 90), torch.linspace(0.2, 0.8, 70), indexing="ij")
    picture = torch.where(rows > columns, rows, columns / 2)[None, None]
    assert float(estimate_sigma(picture)) == 0


def test_each_picture_has_its_own_and_turning_changes_little():
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
        monkeypatch.setattr(estimate, "STRIP", strip)
        assert torch.equal(estimate_sigma(tall), whole)


def test_clipped_places_are_passed_over():
    """Half of the picture burnt out: its noise is gone, and it is the quietest there is."""
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


def test_a_black_bar_is_no_picture_without_noise():
    dark = (0.1 + 25 / 255 * noise(1, 3, 256, 256)).clamp(0, 1)
    dark[..., :40, :] = 0
    assert float(estimate_sigma((dark * 255).round().to(torch.uint8))) * 255 > 12


def test_autocast_makes_no_difference():
    noisy = photo("chelsea") + 0.1 * noise(1, 3, 300, 451)
    with torch.autocast("cpu", torch.bfloat16):
        found = estimate_sigma(noisy)
    assert found.dtype == torch.float32 and torch.equal(found, estimate_sigma(noisy))


@pytest.mark.parametrize("size", [(3, 40), (10, 12), (17, 17), (17, 90), (90, 6)])
def test_of_a_small_picture_it_is_that_of_the_whole(size):
    """In the mean square, as a few pixels tell little."""
    found = estimate_sigma(0.5 + 0.1 * noise(400, 3, *size)) + estimate.GRAIN
    assert found.shape == (400,) and float(found.square().mean().sqrt()) == pytest.approx(0.1, rel=0.05)


def test_next_to_nothing_is_no_noise():
    assert estimate_sigma(noise(2, 3, 2, 50)).tolist() == [0, 0]
    assert estimate_sigma(noise(0, 3, 50, 50)).shape == (0,)
    with pytest.raises(ValueError, match=r"must be \[B, C, H, W\], got \[3, 50, 50\]; one picture needs"):
        estimate_sigma(noise(3, 50, 50))
