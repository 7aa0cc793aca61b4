"""The drawn photos: the same bytes everywhere, endless, and with some of the statistics of photographs."""

import hashlib

import numpy as np
import pytest
from skimage import data
from skimage.restoration import estimate_sigma

from src import load_images
from src.datasets.drawn_photos import draw_photo, make, outdoors
from src.datasets.fabrics import draw_fabric
from src.datasets.reliefs import draw_relief
from src.datasets.textured import BELOW, draw_textured
from src.datasets.textures import pick
from src.datasets.thickets import draw_thicket

EXPECTED = {  # of the images of VERSION 1
    draw_photo: "32005873e0576612bf81f6d3eaac9b938627af9190bfeea01d2fcf48d601810b",
    draw_relief: "9e4daa43a9d74654f7f4410dab144401402de75880baa38f07779f96eb09c423",
    draw_fabric: "eb6e89b8536d52208cfcbfe35781510e91cff75822446e41f6080124c951c3d8",
    draw_textured: "8d1207c6b7a8b2ea75e36d17d9baa3a46ec9ac402777929fcbe6d3e35c605b35",
    draw_thicket: "7a135686853ac9a7ecc0375ac0e696cea6aea77ecb648a3560de0229402cfef2",
}


def photos(count=12, size=96, seed=3, draw=draw_photo):
    return [draw(np.random.default_rng([seed, i]), size) for i in range(count)]


@pytest.mark.parametrize("draw", EXPECTED)
def test_the_same_seed_gives_these_bytes(draw):
    drawn = b"".join(image.tobytes() for image in photos(draw=draw))
    assert hashlib.sha256(drawn).hexdigest() == EXPECTED[draw], "raise VERSION with the images"


@pytest.mark.parametrize(
    "draw, contrast", [(draw_photo, 8), (draw_relief, 0), (draw_thicket, 0), (draw_fabric, 0), (draw_textured, 0)]
)  # walls may be dark
def test_images_differ_and_fill_their_range(draw, contrast):
    drawn = np.stack(photos(draw=draw))
    assert drawn.shape == (12, 96, 96, 3) and drawn.dtype == np.uint8
    assert len({image.tobytes() for image in drawn}) == 12
    assert all(image.std() > contrast for image in drawn) and np.median([image.std() for image in drawn]) > 15


def spectrum(image):
    """Slope of log power over log frequency between 1/32 and 1/4 of a 96 x 96 part's brightness."""
    grey = image[:96, :96].astype(float) @ [0.299, 0.587, 0.114]
    window = np.hanning(96)[:, None] * np.hanning(96)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96))
    inside = (frequency > 1 / 32) & (frequency < 1 / 4)
    return np.polyfit(np.log(frequency[inside]), np.log(power[inside] + 1e-9), 1)[0]


def chroma(image):
    """Energy of the colour's edges over that of the brightness's."""
    x = image.astype(float)
    grey = x @ [0.299, 0.587, 0.114]
    colour = x - grey[..., None]
    return (np.diff(colour, axis=1) ** 2).sum() / (np.diff(grey, axis=1) ** 2).sum()


def test_statistics_beside_photographs():
    """The power of a natural image falls about as 1/f^2 (Field 1987), and its edges are mostly in the brightness."""
    real = [data.astronaut()[50:], data.chelsea()[40:, 60:], data.coffee()[100:, 100:], data.rocket()[:, 200:]]
    drawn = photos(24)
    assert abs(np.mean([*map(spectrum, drawn)]) - np.mean([*map(spectrum, real)])) < 0.8
    assert np.median([*map(chroma, drawn)]) < 2.5 * np.median([*map(chroma, real)])


def test_outdoors_has_a_smooth_sky_over_a_rough_ground():
    """The differences of neighbours, over 16 images: the highest rows against the lowest."""
    images = [outdoors(np.random.default_rng(i), 96, 1.0).astype(float) for i in range(16)]
    rough = lambda rows: np.mean([np.abs(np.diff(image[rows], axis=1)).mean() for image in images])  # noqa: E731
    assert rough(slice(0, 12)) < 0.6 * rough(slice(84, 96))


def test_fine_texture_is_what_it_adds():
    """As noise, scikit-image estimates more of it than in the image below; coarse brightness stays as it was."""
    finer, coarse = [], []
    for seed in range(24):
        rng = np.random.default_rng([3, seed])
        below, image = pick(rng, BELOW)(rng, 96), draw_textured(np.random.default_rng([3, seed]), 96)
        finer.append(estimate_sigma(image, channel_axis=-1, average_sigmas=True)
                     > estimate_sigma(below, channel_axis=-1, average_sigmas=True))  # fmt: skip
        coarse.append(np.corrcoef(*(x.reshape(6, 16, 6, 16, 3).mean((1, 3)).ravel() for x in (below, image)))[0, 1])
    assert np.mean(finer) > 0.8 and np.median(coarse) > 0.99


def test_a_set_is_written_whole_and_only_once(tmp_path):
    folder = make(tmp_path / "set", count=3, size=32, workers=1)
    assert len(load_images(folder, cache=tmp_path / "cache")) == 3
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert make(tmp_path / "set", count=3, size=32, workers=1) == folder
    with pytest.raises(FileExistsError, match="another set"):
        make(tmp_path / "set", count=4, size=32, workers=1)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("size", [15, 513, 20.5])
def test_sizes_it_cannot_draw(size):
    with pytest.raises(ValueError, match="size must be a whole number"):
        draw_photo(np.random.default_rng(0), size)
