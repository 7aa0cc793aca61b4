"""Drawn images with and without a hand, and the mask of the hand: to train and to evaluate a hand finder.

images = draw_scenes(partial(training_scene, seed=0), 100)     # uint8 [100, 4, 128, 128]; channel 3 is the mask
"""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from src.datasets import LUMA
from src.datasets.drawn_photos import draw_photo
from src.datasets.drawn_set import start_worker
from src.datasets.finger_numbers import draw
from src.datasets.scenes import draw_scene


def test_scene(index: int, seed: int, size: int = 224) -> np.ndarray:
    """A scene to evaluate on, uint8 [4, size, size]: RGB, and 255 where skin of a hand covers the pixel.

    Two of three hold a hand, drawn as in the default data set. Every third is a room without a hand.
    """
    if index % 3 < 2:
        return _with_mask(*draw(1 + index % 10, index, 0, seed, size))
    return _with_mask(_room(np.random.default_rng([seed, index, 8]), size))


test_scene.__test__ = False  # pytest takes it for a test where it is imported


def training_scene(index: int, seed: int, hand: bool | None = None, size: int = 128) -> np.ndarray:
    """A scene to train on, uint8 [4, size, size]: more backgrounds, sizes, lights and cameras than `test_scene` has.

    hand: whether there is a hand; None: in seven of ten images. A finder trained on `test_scene` alone works in drawn
    rooms only (PROGRESS.md).
    """
    rng = np.random.default_rng([seed, index, 9])
    hand = rng.random() < 0.7 if hand is None else hand
    kind = rng.integers(6)
    if kind < 2:
        image, mask = draw(1 + index % 10, index, 1, seed, size) if hand else (_room(rng, size), None)
        return _with_mask(developed(image, rng), mask)
    if kind < 4:
        image = plain_wall(rng, size)
    elif kind == 4:
        image = draw_scene(rng, size, texture=0.2 + 0.8 * rng.random(), litter=0.7)
    else:
        image = draw_photo(rng, size)
    mask = np.zeros((size, size), bool)
    if hand:
        image, mask = _with_hand(image, index, seed, rng)
    return _with_mask(developed(image, rng), mask)


def draw_scenes(draw_one: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """uint8 [count, 4, size, size] of draw_one(0) ... draw_one(count - 1); a process a core beyond 100 images."""
    if count <= 100:
        return np.stack([draw_one(index) for index in range(count)])
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"), initializer=start_worker) as pool:
        jobs = pool.map(draw_one, range(count), chunksize=4)
        return np.stack(list(tqdm(jobs, "drawing", count, file=sys.stdout, disable=None)))


def _with_hand(image: np.ndarray, index: int, seed: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The image [size, size, 3] with a hand that reaches in from its lower edge, and the mask of the hand.

    The flips of the training turn the lower edge to all sides.
    """
    size = len(image)
    side = int(size * (0.35 + 0.65 * rng.random()))
    drawn, skin = draw(1 + index % 10, index, 1, seed, side)
    left, top = int(rng.integers(size - side + 1)), size - side
    mask = np.zeros((size, size), bool)
    mask[top:, left : left + side] = skin
    shadow = ndimage.gaussian_filter(mask.astype(np.float32), size * (0.01 + 0.03 * rng.random()))
    shadow = ndimage.shift(shadow, size * 0.06 * rng.standard_normal(2), order=1)
    image = image * (1 - 0.6 * rng.random() * shadow)[..., None]
    cover = ndimage.gaussian_filter(mask.astype(np.float32), 0.6)[..., None]  # an outline as soft as a camera's
    front = np.zeros_like(image)
    front[top:, left : left + side] = drawn
    return image * (1 - cover) + developed(front, rng) * cover, mask


def _room(rng: np.random.Generator, size: int) -> np.ndarray:
    """The background of the default data set: one in ten is dead leaves."""
    return draw_scene(rng, size, rng.random() < 0.9, texture=0.2, litter=0.7)


def plain_wall(rng: np.random.Generator, size: int) -> np.ndarray:
    """float [size, size, 3], 0..255: one colour, mostly pale, darker towards one side and the corners."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    colour = 255 * (1 - rng.random() * (0.3 if rng.random() < 0.7 else 1.0) * rng.random(3) - 0.3 * rng.random())
    slope = 0.25 * rng.standard_normal(2)
    light = 1 + slope[0] * x + slope[1] * y - 0.3 * rng.random() * (x * x + y * y)
    folds = ndimage.gaussian_filter(rng.standard_normal((size, size)), size * 0.06) * size * 0.2
    return colour * np.clip(light + 0.03 * rng.random() * folds, 0, 1.2)[..., None]


def developed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float [H, W, 3], 0..255: another camera's white balance, saturation, gamma and sharpness."""
    x = image.clip(0, 255) / 255 * np.exp(0.12 * rng.standard_normal(3))
    grey = x @ LUMA
    x = grey[..., None] + (x - grey[..., None]) * (0.4 + rng.random())
    x = x.clip(0, 1) ** np.exp(0.35 * rng.standard_normal())
    return 255 * ndimage.gaussian_filter(x, (*2 * [max(0.0, 1.6 * rng.random() - 0.6)], 0))


def _with_mask(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """RGB [H, W, 3] and mask [H, W] -> uint8 [4, H, W]."""
    mask = np.zeros(image.shape[:2], bool) if mask is None else mask
    pixels = (image.clip(0, 255) + 0.5).astype(np.uint8)
    return np.concatenate([pixels, mask[..., None] * np.uint8(255)], axis=2).transpose(2, 0, 1)
