"""Drawn pictures with and without a hand, and the hand's mask, for 08_object_blur_out: to learn from and to judge by."""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from src.photos.hand_finder import LOOK
from src.datasets.drawn_photos import draw_photo
from src.datasets.drawn_set import start_worker
from src.datasets.finger_numbers import draw
from src.noise import LUMA
from src.datasets.scenes import draw_scene


def scene(index: int, seed: int, size: int = 224) -> np.ndarray:
    """uint8 [4, size, size] to judge by: a drawn scene, and as the fourth channel 255 where a hand's skin covers it.

    Two of three hold a hand, as the default data set has it; every third is a room without one.
    """
    if index % 3 < 2:
        return _with_mask(*draw(1 + index % 10, index, 0, seed, size))
    return _with_mask(_room(np.random.default_rng([seed, index, 8]), size))


def lesson(index: int, seed: int, hand: bool | None = None, size: int = LOOK) -> np.ndarray:
    """The same to learn from: also before plain walls, outdoors and dead leaves, smaller, in all lights and cameras.

    hand: whether there is one; None: in seven of ten. Trained on `scene` alone, the finder knew the hands of drawn
    rooms only: PROGRESS.md.
    """
    rng = np.random.default_rng([seed, index, 9])
    hand = rng.random() < 0.7 if hand is None else hand
    kind = rng.integers(6)
    if kind < 2:
        image, mask = draw(1 + index % 10, index, 1, seed, size) if hand else (_room(rng, size), None)
        return _with_mask(_developed(image, rng), mask)
    if kind < 4:
        image = _plain_wall(rng, size)
    elif kind == 4:
        image = draw_scene(rng, size, texture=0.2 + 0.8 * rng.random(), litter=0.7)
    else:
        image = draw_photo(rng, size)
    mask = np.zeros((size, size), bool)
    if hand:
        # a smaller one reaches into the picture from its lower edge, as arms do; `flip` turns that to all sides
        side = int(size * (0.35 + 0.65 * rng.random()))
        own, skin = draw(1 + index % 10, index, 1, seed, side)
        left, top = int(rng.integers(size - side + 1)), size - side
        mask[top:, left : left + side] = skin
        # the hand's shadow, which falls sideways, and its outline, as soft as a camera's
        cast = ndimage.gaussian_filter(mask.astype(np.float32), size * (0.01 + 0.03 * rng.random()))
        cast = ndimage.shift(cast, size * 0.06 * rng.standard_normal(2), order=1)
        image = image * (1 - 0.6 * rng.random() * cast)[..., None]
        cover = ndimage.gaussian_filter(mask.astype(np.float32), 0.6)[..., None]
        front = np.zeros_like(image)
        front[top:, left : left + side] = own
        image = image * (1 - cover) + _developed(front, rng) * cover
    return _with_mask(_developed(image, rng), mask)


def _room(rng: np.random.Generator, size: int) -> np.ndarray:
    """What the default data set has behind its hands: one in ten is dead leaves."""
    return draw_scene(rng, size, rng.random() < 0.9, texture=0.2, litter=0.7)


def _plain_wall(rng: np.random.Generator, size: int) -> np.ndarray:
    """float [size, size, 3], 0..255: one colour, mostly pale, that darkens to one side and towards the corners."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    colour = 255 * (1 - rng.random() * (0.3 if rng.random() < 0.7 else 1.0) * rng.random(3) - 0.3 * rng.random())
    slope = 0.25 * rng.standard_normal(2)
    light = 1 + slope[0] * x + slope[1] * y - 0.3 * rng.random() * (x * x + y * y)
    folds = ndimage.gaussian_filter(rng.standard_normal((size, size)), size * 0.06) * size * 0.2
    return colour * np.clip(light + 0.03 * rng.random() * folds, 0, 1.2)[..., None]


def _developed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float [H, W, 3], 0..255: white balance, saturation, gamma and sharpness as another camera would have them."""
    x = image.clip(0, 255) / 255 * np.exp(0.12 * rng.standard_normal(3))
    grey = x @ LUMA
    x = grey[..., None] + (x - grey[..., None]) * (0.4 + rng.random())
    x = x.clip(0, 1) ** np.exp(0.35 * rng.standard_normal())
    return 255 * ndimage.gaussian_filter(x, (*2 * [max(0.0, 1.6 * rng.random() - 0.6)], 0))


def _with_mask(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    mask = np.zeros(image.shape[:2], bool) if mask is None else mask
    pixels = (image.clip(0, 255) + 0.5).astype(np.uint8)
    return np.concatenate([pixels, mask[..., None] * np.uint8(255)], axis=2).transpose(2, 0, 1)


def drawn(draw_one: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """uint8 [count, 4, size, size] of draw_one(0 ... count - 1); where it is worth starting them, by a process a core."""
    if count <= 100:
        return np.stack([draw_one(index) for index in range(count)])
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"), initializer=start_worker) as pool:
        jobs = pool.map(draw_one, range(count), chunksize=4)
        return np.stack(list(tqdm(jobs, "drawing", count, file=sys.stdout, disable=None)))
