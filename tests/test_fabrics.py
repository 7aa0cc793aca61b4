"""The drawn fabrics: how often a pattern repeats, by shifts and by Fourier transform, and what is fine in it."""

import numpy as np
import pytest

from src.datasets.fabrics import KINDS, Cloth, draw_fabric, pattern, zigzag
from src.datasets.textures import TILE


def peak(tile):
    """Row and column frequency with most power."""
    power = np.abs(np.fft.fft2(tile - tile.mean()))[: TILE // 2, : TILE // 2]
    return tuple(int(n) for n in np.unravel_index(power.argmax(), power.shape))


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
@pytest.mark.parametrize("count", [16, 64])
def test_each_kind_repeats_after_eight_periods(kind, count):
    for seed in range(6):
        tile = pattern(np.random.default_rng(seed), kind, count)
        assert tile.shape == (TILE, TILE) and tile.dtype == np.float32 and tile.std() > 0.05
        assert tile.min() >= -1.5 and tile.max() <= 1
        for axis in (0, 1):
            np.testing.assert_allclose(np.roll(tile, 8 * TILE // count, axis), tile, atol=1e-4)


@pytest.mark.parametrize("kind, expected", [("stripes", {(64, 0)}), ("twill", {(64, 64), (64, 128)})])
def test_two_tones_have_their_period_as_frequency(kind, expected):
    tiles = [pattern(np.random.default_rng(seed), kind, 64) for seed in range(12)]
    found = [peak(tile) for tile in tiles]
    assert set(found) >= expected and sum(place in expected for place in found) >= 5  # the others have more tones


def test_a_zigzag_is_a_triangle_wave():
    np.testing.assert_allclose(zigzag(np.array([-1, -0.75, 0, 0.25, 0.5, 0.75, 1.1])), [1, 0.5, 1, 0.5, 0, 0.5, 0.8])


def test_most_surfaces_have_a_fine_pattern():
    """Periods of 3 to 25 pixels, in four of five surfaces: power there against that of coarser things."""
    fine = 0
    for seed in range(20):
        place = Cloth(np.random.default_rng(seed), 32)
        for _, tone in place.surfaces:
            power = np.abs(np.fft.fft2(tone - tone.mean())) ** 2
            frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE)))
            fine += (power[frequency > 1 / 30].sum() / power.sum() > 0.5) / len(place.surfaces) / 20
    assert 0.65 < fine <= 0.95


def test_images_of_any_size():
    assert draw_fabric(np.random.default_rng(0), 16).shape == (16, 16, 3)
