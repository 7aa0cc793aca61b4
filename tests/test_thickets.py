"""The drawn thickets: areas, paths and light by closed forms."""

import math

import numpy as np
import pytest

from src.datasets.thickets import KINDS, Thicket

SIZE = 64


@pytest.fixture
def empty():
    """A black image, on which things are white, evenly lit and 1 pixel wide at their outlines."""
    place = Thicket(np.random.default_rng(0), SIZE)
    place.pixels[:] = 0
    place.edge, place.gloss, place.rib, place.light = 1, 0, 0, (1, 0)
    place.tone = lambda: np.full(3, 255, np.float32)
    return place


def area(place):
    return place.pixels[..., 0].sum() / 255


@pytest.mark.parametrize("end, radius", [((20, 50), 3), ((44, 17.5), 5), ((20.2, 20.1), 4)])
def test_a_rod_covers_the_area_of_a_capsule(empty, end, radius):
    empty.rod((20, 20), end, (radius, radius), empty.tone())
    assert area(empty) == pytest.approx(2 * radius * math.dist((20, 20), end) + math.pi * radius**2, rel=0.01)


def test_a_tapered_rod_covers_the_area_between_its_radii(empty):
    empty.rod((32, 12), (32, 52), (5, 1), empty.tone())
    assert area(empty) == pytest.approx(40 * 6 + math.pi * (25 + 1) / 2, rel=0.01)


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_a_leaf_covers_the_area_between_two_parabolas(empty, angle):
    empty.leaf((32, 32), angle, 20, 7, empty.tone())
    assert area(empty) == pytest.approx(8 / 3 * 20 * 7, rel=0.03)


def test_a_thing_outside_or_at_the_border_changes_no_other_pixel(empty):
    for at in ((-40, 10), (10, 120), (200, 200)):
        empty.leaf(at, 45, 8, 4, empty.tone())
        empty.rod(at, (at[0] + 3, at[1]), (2, 2), empty.tone())
    assert area(empty) == 0
    empty.rod((-1, 30), (-1, 34), (4, 4), empty.tone())
    assert area(empty) > 0 and empty.pixels[5:].max() == 0


def test_a_curve_that_turns_by_360_degrees_closes(empty):
    points = empty.curve((20, 20), 0, 30, 6, [1.0] * 13, empty.tone())
    assert len(points) == 12 and points[-1][:2] == pytest.approx((20, 20), abs=1e-4)
    width = 6 / math.sin(math.radians(15))  # of a regular polygon of 12 sides
    assert max(y for y, _, _ in points) - 20 == pytest.approx(width * math.cos(math.radians(15)), abs=1e-3)


@pytest.mark.parametrize("side", [1, -1])
def test_the_light_across_a_rod_rises_towards_the_lamp(empty, side):
    empty.light, empty.gloss = (side, 0), 0.5
    empty.rod((32, 5), (32, 59), (6, 6), np.full(3, 100, np.float32))
    at = np.arange(-5, 6)
    np.testing.assert_allclose(empty.pixels[32 + at, 32, 0], 100 * (1 + 0.5 * side * at / 6), rtol=1e-4)


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_each_kind_changes_pixels_and_keeps_them_in_range(kind):
    for seed in range(6):
        place = Thicket(np.random.default_rng(seed), 128)
        place.pixels[:] = 100
        place.layer(kind)
        changed = np.any(place.pixels != 100, axis=2).mean()
        assert 0.002 < changed < 1 and place.pixels.min() >= 0 and place.pixels.max() <= 400
