"""Noise, materials, texture tiles and the small pixel operations that scenes and hands are drawn with.

The same seed gives the same bytes on every machine: draws are integers() and random() only, and a pixel
passes through nothing but single IEEE-exact operations (+ - * / sqrt, comparisons, floor, indexing) and
Pillow's integer box blur. No sin, exp, pow, matmul or float sum: their last bit depends on the machine.
These rules hold for every module of this folder that draws images.
"""

import math

import numpy as np
from PIL import Image, ImageFilter

TILE = 512  # texture side in pixels; a power of two, so that `& (TILE - 1)` wraps around
# Colours of common materials, sRGB, chosen by hand: 5 woods, 9 walls and stones, then cloth, plants and paints.
# fmt: off
MATERIALS = np.array([
    (196, 160, 118), (150, 105, 66), (104, 68, 42), (64, 42, 30), (222, 190, 150), (236, 231, 220),
    (214, 212, 206), (168, 166, 160), (120, 119, 116), (74, 74, 77), (188, 198, 206), (222, 204, 176),
    (140, 124, 104), (92, 82, 72), (34, 34, 38), (18, 17, 20), (92, 112, 62), (58, 82, 50), (134, 146, 92),
    (66, 92, 126), (112, 142, 170), (40, 52, 84), (168, 62, 48), (122, 44, 44), (204, 120, 62), (220, 178, 84),
    (176, 132, 138), (86, 120, 118), (246, 244, 238)], np.float32)
# fmt: on
WOODS, WALLS, GREENS = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9, 10, 11, 12, 13), (16, 17, 18)
CLOUD, ROUGH, WOOD, WEAVE, STRIPES, TEXT, DOTS, MARBLE, BRICKS, FIBRE = range(10)  # textures, see make_textures


def uniform(rng, low, high):
    """A float in [low, high). Not rng.uniform: its C code may fuse multiply and add on some CPUs."""
    return low + (high - low) * rng.random()


def pick(rng, options):
    """One of the options."""
    return options[int(rng.integers(len(options)))]


def turn(degrees):
    """(cos, sin) of an angle in degrees; rounded, because the last bit of libm differs between systems."""
    return round(math.cos(math.radians(degrees)), 6), round(math.sin(math.radians(degrees)), 6)


def smooth(x):
    """Smoothstep 3x^2 - 2x^3 of x clipped to [0, 1]."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def wave(x):
    """A sine look-alike with period 1 and range [-1, 1], made of parabolas."""
    t = x - np.floor(x)
    q = 4 * np.where(t < 0.5, t, t - 0.5) - 1  # [-1, 1] in each half period
    return np.where(t < 0.5, 1 - q * q, q * q - 1)


def value_noise(rng, cell_y, cell_x):
    """Random grid values in [-1, 1), interpolated smoothly; periodic; float32 [TILE, TILE]."""
    grid = rng.random((TILE // cell_y, TILE // cell_x), dtype=np.float32) * 2 - 1

    def axis(cell):
        at = np.arange(TILE)
        return at // cell, (at // cell + 1) % (TILE // cell), smooth((at % cell).astype(np.float32) / cell)

    low, high, t = axis(cell_y)
    rows = grid[low] + (grid[high] - grid[low]) * t[:, None]
    low, high, t = axis(cell_x)
    left = np.take(rows, low, axis=1)
    return left + (np.take(rows, high, axis=1) - left) * t


def pink_noise(rng, finest=2, coarsest=128, stretch=1, falloff=1.0):
    """1/f noise of about unit spread, float32 [TILE, TILE]: octaves of value noise, coarse to fine.

    Each octave is `falloff` times the last; 1 gives all the same variance, that is a power of 1/f^2.
    `stretch` widens the cells along x: fibres.
    """
    total, power, gain, cell = np.zeros((TILE, TILE), np.float32), 0.0, 1.0, coarsest
    while cell >= finest:
        total += value_noise(rng, cell, cell * stretch) * gain
        power, gain, cell = power + gain * gain, gain * falloff, cell // 2
    return total * (2.1 / math.sqrt(power))


def sharpen(p, amount):
    """What cameras do after reading the sensor: p + amount * (p - mean of the four neighbours), [H, W, 3]."""
    q = np.concatenate([p[:1], p, p[-1:]])
    q = np.concatenate([q[:, :1], q, q[:, -1:]], axis=1)
    return p + amount * (p - ((q[:-2, 1:-1] + q[2:, 1:-1]) + (q[1:-1, :-2] + q[1:-1, 2:])) * 0.25)


def window(image, top, left, step, size):
    """size x size samples of an image at the given step, bilinear, float32 [size, size, 3]."""

    def line(start):
        at = np.arange(size, dtype=np.float32) * step + start
        low = np.clip(np.floor(at), 0, len(image) - 2).astype(np.intp)
        return low, at - low.astype(np.float32)

    (i, t), (j, s) = line(top), line(left)
    rows = image[i] + (image[i + 1].astype(np.float32) - image[i]) * t[:, None, None]
    return rows[:, j] + (rows[:, j + 1] - rows[:, j]) * s[:, None]


def defocused(pixels, radius):
    """Pixels in [0, 255] out of focus, float32 [H, W, 3]: two passes of Pillow's box blur, in integers; 0: none."""
    image = Image.fromarray((np.clip(pixels, 0, 255) + 0.5).astype(np.uint8))
    for _ in range(2 if radius else 0):
        image = image.filter(ImageFilter.BoxBlur(radius))
    return np.asarray(image).astype(np.float32)


def half(a):
    """float [2h, 2w, ...] -> [h, w, ...]: the mean of every 2 x 2 block."""
    return (a[::2, ::2] + a[1::2, ::2] + (a[::2, 1::2] + a[1::2, 1::2])) * 0.25


def shifted(a, dy, dx):
    """[H, W, ...] moved down by dy and right by dx whole pixels, its border repeated; same shape."""
    i = np.clip(np.arange(a.shape[0]) - dy, 0, a.shape[0] - 1)
    j = np.clip(np.arange(a.shape[1]) - dx, 0, a.shape[1] - 1)
    return a[i][:, j]


def make_textures(rng):
    """The ten surface patterns of a scene, each float32 [TILE, TILE], about [-1, 1] and periodic."""
    y, x = np.arange(TILE, dtype=np.float32)[:, None], np.arange(TILE, dtype=np.float32)[None]
    cloud = pink_noise(rng, falloff=uniform(rng, 0.85, 1.1))
    rough = pink_noise(rng, finest=1, coarsest=16, falloff=1.2)
    fibre = pink_noise(rng, finest=1, coarsest=16, stretch=16, falloff=1.1)
    wood = wave(y * (int(rng.integers(3, 9)) / TILE) + 0.45 * cloud + 0.15 * fibre) * 0.5 + fibre * 0.5
    period = 2 ** int(rng.integers(3, 5))
    over = (np.floor(y / period) + np.floor(x / period)) % 2 < 1  # warp over weft, or under it
    weave = np.abs(wave(np.where(over, y, x) / (2 * period))) * 1.6 - 1 + 0.2 * rough
    stripes = np.clip(wave(x / 2 ** int(rng.integers(4, 7)) + 0.05 * cloud) * 4, -1, 1) * 0.7 + rough * 0.15
    # Text: rows of letters, each a random column of strokes 2 px wide; words end at random gaps.
    ink = (rng.random((32, 8, 256)) < 0.22) | (rng.random((32, 1, 256)) < 0.5)
    ink = ink & (rng.random((32, 1, 256)) < 0.8)
    ink = np.repeat(np.concatenate([ink, np.zeros_like(ink)], axis=1).reshape(TILE, 256), 2, axis=1)
    text = np.where(ink, np.float32(-1.5), np.float32(0)) + rough * 0.06
    dots = np.clip(value_noise(rng, 16, 16) * 6 - 2, -1, 1) * 0.7 + cloud * 0.15
    marble = 1 - np.clip(np.abs(cloud) * 3, 0, 2) + rough * 0.1
    high, wide = 2 ** int(rng.integers(5, 7)), 2 ** int(rng.integers(6, 8))
    row = np.floor(y / high)
    across = x + (row % 2) * (wide / 2)
    joint = np.minimum(np.minimum(y % high, high - y % high), np.minimum(across % wide, wide - across % wide))
    tone = rng.random((TILE // high, TILE // wide + 1), dtype=np.float32)
    bricks = (
        tone[row.astype(np.intp), np.floor(across / wide).astype(np.intp)] - 1.6 * (joint < 2.5) + 0.25 * rough - 0.3
    )
    return [t.astype(np.float32) for t in (cloud, rough, wood, weave, stripes, text, dots, marble, bricks, fibre)]
