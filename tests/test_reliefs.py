"""The drawn reliefs: geometry as scipy has it; thickets as well: the statistics of photographs."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from skimage import data
from test_drawn_photos import chroma, photos, spectrum

from src.datasets.fabrics import draw_fabric
from src.datasets.reliefs import Place, cells, draw_relief, moved, sample, strands
from src.datasets.textures import TILE
from src.datasets.thickets import draw_thicket


@pytest.mark.parametrize("draw", [draw_relief, draw_thicket, draw_fabric])
@pytest.mark.parametrize("size", [15, 513, 64.5])
def test_a_wrong_size_is_refused(draw, size):
    with pytest.raises(ValueError, match="size must be"):
        draw(np.random.default_rng(0), size)


def test_a_tile_is_sampled_as_scipy_does():
    rng = np.random.default_rng(0)
    tile = rng.random((TILE, TILE), dtype=np.float32)
    i, j = rng.uniform(-700, 1300, (2, 40, 30)).astype(np.float32)
    expected = map_coordinates(tile, np.mod([i, j], TILE), order=1, mode="grid-wrap")
    np.testing.assert_allclose(sample(tile, i, j), expected, atol=2e-4)


@pytest.mark.parametrize("count", [4, 32])
def test_cells_are_those_of_the_nearest_points(count):
    """The two nearest points of the jittered grid, by a k-d tree on a torus."""
    border, centre, tone = cells(np.random.default_rng(5), count)
    points = np.random.default_rng(5).random((count, count, 3), dtype=np.float32)
    places = points[..., :2] + np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), -1)
    tree = cKDTree(places.reshape(-1, 2) % count, boxsize=count)
    at = (np.arange(TILE) + 0.5) * count / TILE
    pixels = np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)
    near, which = tree.query(pixels, k=2)
    # the nearest point can lie outside the 3 x 3 cells around a pixel, and then only in a corner
    right = np.abs(centre.ravel() - near[:, 0]) < 1e-4
    assert right.mean() > 0.99
    np.testing.assert_allclose(border.ravel()[right], (near[:, 1] - near[:, 0])[right], atol=0.35)
    assert np.mean(np.abs(tone.ravel() - (2 * points[..., 2].ravel()[which[:, 0]] - 1)) < 1e-5) > 0.99


def test_strands_are_drawn_out_along_a_direction():
    """Correlation at a distance of 6 pixels: high along the flow, low across it, where plain noise has none."""
    hair = strands(np.random.default_rng(1), 20)
    assert 0.1 < hair.std() < 1.5 and abs(hair.mean()) < 0.2
    correlation = []
    for degrees in range(0, 180, 15):
        dy, dx = np.round(6 * np.sin(np.radians(degrees))), np.round(6 * np.cos(np.radians(degrees)))
        correlation.append(np.corrcoef(hair.ravel(), np.roll(hair, (int(dy), int(dx)), (0, 1)).ravel())[0, 1])
    assert max(correlation) > 0.2 and min(correlation) < 0.1  # the flow bends, so no direction is everywhere along it


def test_a_shadow_lies_on_the_side_away_from_the_lamp():
    at = np.arange(64, dtype=np.float32)
    d = np.sqrt((at[:, None] - 32) ** 2 + (at - 32) ** 2) - 10  # a disc
    shadow = moved(d, (1, 0), 8) < 0  # the lamp is below, at larger rows
    rows, columns = np.nonzero(shadow)
    assert abs(rows.mean() - 24) < 0.6 and abs(columns.mean() - 32) < 0.6


@pytest.mark.parametrize("draw", [draw_relief, draw_thicket])  # stripes of fabrics have no power law
def test_statistics_beside_photographs(draw):
    """Power about as 1/f^2 (Field 1987), and the edges mostly in the brightness."""
    real = [data.astronaut()[50:], data.chelsea()[40:, 60:], data.coffee()[100:, 100:], data.rocket()[:, 200:]]
    drawn = photos(24, draw=draw)
    assert abs(np.mean([*map(spectrum, drawn)]) + 2) < 0.6
    assert np.median([*map(chroma, drawn)]) < 2.5 * np.median([*map(chroma, real)])


def test_a_place_keeps_to_its_palette_and_light():
    """Without a tone and without slopes a surface has one light, so its colours mix three of the palette."""
    place = Place(np.random.default_rng(2), 64)
    flat = np.zeros((TILE, TILE), np.float32)
    place.surfaces = [(flat, flat)]
    pixels = place.material().reshape(-1, 3)
    assert pixels.min() >= 0
    spread = np.linalg.svd(pixels - pixels.mean(0), compute_uv=False)
    assert spread[1] < 1e-3 * max(spread[0], 1)  # on a line between two colours: patches alone differ
