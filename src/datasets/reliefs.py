"""Drawn reliefs: rock, fur, folds, foliage, clouds and water, the surfaces that drawn_photos lacks. No photo is used.

    python -m src.datasets reliefs        # writes data/reliefs/00000.png ..., 2,000 images

drawn_photos piles up flat shapes, each with one colour and one straight pattern. Much of a photo is something else: a
bumpy surface, lit from one side, whose pattern bends with it. Here a surface is a height made of noise, cells, bent
waves or strands along a flow, and its light follows from its slope (Lambert's law). Round bodies with such surfaces
stand before others, some out of focus.
The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import math

import numpy as np

from src.datasets.drawn_photos import camera
from src.datasets.drawn_set import draw_numbered
from src.datasets.scenes import distance
from src.datasets.textures import (
    MATERIALS,
    TILE,
    defocused,
    pick,
    pink_noise,
    sharpen,
    shifted,
    smooth,
    turn,
    uniform,
    value_noise,
    wave,
)
from src.files import whole_number

VERSION = 1  # raise it whenever a change alters a pixel
OUTLINES = ("ellipse", "blob", "blob", "polygon", "line")


def sample(tile, i, j):
    """A periodic tile [TILE, TILE] at rows i and columns j, bilinear; float32 of their shape."""
    tile, low_i, low_j = tile.ravel(), np.floor(i), np.floor(j)
    t, s = (i - low_i).astype(np.float32), (j - low_j).astype(np.float32)
    upper, left = (low_i.astype(np.int32) & (TILE - 1)) * TILE, low_j.astype(np.int32) & (TILE - 1)
    lower, right = (upper + TILE) & (TILE * TILE - 1), (left + 1) & (TILE - 1)
    above = tile[upper + left] * (1 - s) + tile[upper + right] * s
    return above * (1 - t) + (tile[lower + left] * (1 - s) + tile[lower + right] * s) * t


def cells(rng, count):
    """Cells around count x count random points (Worley 1996): (distance to the border, distance to the point, tone).

    float32 [TILE, TILE], periodic; distances in units of a cell's side, the tone in [-1, 1). count: a power of two.
    """
    points = rng.random((count, count, 3), dtype=np.float32)  # row and column within the cell, tone
    side, at = TILE // count, (np.arange(TILE, dtype=np.float32) + 0.5) * (count / TILE)
    inside = at - np.floor(at)
    first = np.full((TILE, TILE), 9, np.float32)
    second, tone = first, np.zeros((TILE, TILE), np.float32)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            near = np.roll(points, (-down, -across), (0, 1)) + np.array((down, across, 0), np.float32)
            y, x, t = (np.repeat(np.repeat(near[..., n], side, 0), side, 1) for n in range(3))
            y, x = y - inside[:, None], x - inside
            d = np.sqrt(y * y + x * x)
            second = np.minimum(second, np.maximum(first, d))
            tone, first = np.where(d < first, t, tone), np.minimum(first, d)
    return second - first, first, 2 * tone - 1


def strands(rng, steps):
    """Hair, grass or streaks of water: noise drawn out along a flow, float32 [TILE, TILE], about [-1, 1].

    Line integral convolution (Cabral and Leedom 1993); steps: half the length of a strand in pixels.
    """
    fine = 1 if rng.random() < 0.6 else 2
    noise = (value_noise(rng, fine, fine) + 0.5 * value_noise(rng, 4, 4)).ravel()
    bend, (c, s) = pink_noise(rng, 32, 128, falloff=0.7) * uniform(rng, 0, 0.9), turn(uniform(rng, 0, 360))
    length = np.sqrt(1 + bend * bend)
    dy, dx = ((s + c * bend) / length).ravel(), ((c - s * bend) / length).ravel()
    total, power, start = noise.copy(), 1.0, np.arange(TILE * TILE, dtype=np.int32)
    for sign in (-1, 1):
        here, y, x = start, (start // TILE).astype(np.float32), (start % TILE).astype(np.float32)
        for step in range(steps):
            y, x = y + sign * dy[here], x + sign * dx[here]
            here = (y.astype(np.int32) & (TILE - 1)) * TILE + (x.astype(np.int32) & (TILE - 1))
            weight = 1 - step / steps
            total += noise[here] * np.float32(weight)
            power += weight * weight
    return (total / np.float32(math.sqrt(power))).reshape(TILE, TILE)


def waves(rng, rough):
    """Folds, ripples or stripes that bend together: (height, tone), see make_surface."""
    count, bend = 2 ** int(rng.integers(2, 7)), uniform(rng, 0.05, 1)
    flow = pink_noise(rng, 16, 128, falloff=uniform(rng, 0.5, 0.8))
    y = np.arange(TILE, dtype=np.float32)[:, None] * np.float32(count / TILE)
    ripple = wave(y + flow * np.float32(bend * count / 16)).astype(np.float32)
    if rng.random() < 0.4:  # stripes
        ripple = np.clip(ripple * uniform(rng, 1, 6), -1, 1)
    return ripple * (0.15 * TILE / count * uniform(rng, 0.2, 1)) + 0.3 * rough, ripple + 0.1 * rough


def panels(rng, rough):
    """Windows, tiles or planks in rows, some with bars, a few of another tone: (height, tone), see make_surface."""
    high, wide = 2 ** int(rng.integers(3, 8)), 2 ** int(rng.integers(3, 8))
    tones = rng.random((TILE // high, TILE // wide), dtype=np.float32) * 2 - 1
    tone = np.repeat(np.repeat(tones, high, 0), wide, 1) * uniform(rng, 0, 0.7)
    at, bars = np.arange(TILE, dtype=np.float32), 2 ** int(rng.integers(0, 3))
    frame, bar = uniform(rng, 0.02, 0.35), uniform(rng, 0, 0.1)
    y, x = np.abs(at % high - high / 2)[:, None], np.abs(at % wide - wide / 2)[None]  # from a panel's middle
    inside = np.minimum(high / 2 * (1 - frame) - y, wide / 2 * (1 - frame) - x)
    part = np.minimum(at % (high / bars), high / bars - at % (high / bars))[:, None] - bar * high / bars
    inside = np.clip(np.minimum(inside, part) + 0.5, 0, 1)
    return inside * uniform(rng, -4, 4) + 0.3 * rough, inside * (tone - uniform(rng, 0, 2)) + uniform(
        rng, 0, 0.3
    ) * rough


def make_surface(rng, rough):
    """(height in pixels, tone about [-1, 1]) of a surface, float32 [TILE, TILE], periodic. rough: pink noise."""
    kind = pick(rng, ("bumps", "ridges", "cells", "facets", "waves", "strands", "strands", "panels"))
    if kind == "bumps":
        return rough * uniform(rng, 1, 8), rough
    if kind == "ridges":
        rough = 1 - 2 * np.abs(rough)
        return rough * uniform(rng, 1, 8), rough
    if kind == "strands":
        hair = strands(rng, int(rng.integers(4, 24)))
        return hair * uniform(rng, 0.2, 1.2), hair
    if kind in ("waves", "panels"):
        return (waves if kind == "waves" else panels)(rng, rough)
    count = 2 ** int(rng.integers(3, 7))
    (border, centre, tone), edge = cells(rng, count), uniform(rng, 0.05, 0.5)
    stones, facets = smooth(border / edge) * edge, (1 - centre) * (1 + tone) * 0.5
    height = (stones if kind == "cells" else facets) * np.float32(TILE / count)
    return height + rough, tone * uniform(rng, 0, 1) + 0.2 * rough


class Place:
    """An image float32 [size, size, 3] in [0, 255] with its surfaces, colours and light: a place has a style."""

    def __init__(self, rng, size):
        self.rng, self.size = rng, size
        self.light = turn(uniform(rng, 0, 360))  # (y, x) towards the lamp
        self.soft = [pink_noise(rng, 16, 128, falloff=uniform(rng, 0.5, 0.8)) for _ in range(2)]
        self.rough = [pink_noise(rng, 1, 2 ** int(rng.integers(3, 8)), falloff=uniform(rng, 0.45, 1)) for _ in range(2)]
        self.surfaces = [self.surface() for _ in range(int(rng.integers(2, 5)))]
        self.palette = [pick(rng, MATERIALS) * uniform(rng, 0.4, 1.4) for _ in range(6)]
        at = np.arange(size, dtype=np.float32)
        self.y, self.x = np.repeat(at[:, None], size, 1), np.repeat(at[None], size, 0)
        self.pixels = self.material()

    def surface(self):
        """(height in pixels, tone about [-1, 1]) of one of the place's surfaces."""
        return make_surface(self.rng, pick(self.rng, self.rough))

    def noise(self, tiles):
        """A part of one of the tiles, turned by a multiple of 90 degrees, float32 [size, size]."""
        tile = np.roll(pick(self.rng, tiles), self.rng.integers(0, TILE, 2), (0, 1))
        return np.rot90(tile, int(self.rng.integers(4)))[: self.size, : self.size]

    def colour(self):
        return pick(self.rng, self.palette) * (0.9 + 0.2 * self.rng.random(3, dtype=np.float32))

    def coordinates(self):
        """Rows and columns of a surface at each pixel: turned, zoomed, bent, in a third of the cases receding."""
        rng, size, y, x = self.rng, self.size, self.y, self.x
        (c, s), zoom = turn(uniform(rng, 0, 360)), uniform(rng, 0.4, 1) * uniform(rng, 1, 1.8)
        at = rng.integers(0, TILE, 2)
        if rng.random() < 0.35:  # a plane, whose horizon is above the image
            far = uniform(rng, 0.1, 1) * size
            depth = (0.5 * size + far) / (y + far)
            y, x = depth * (far * uniform(rng, 1, 3)), (x - 0.5 * size) * depth
        bend = max(0, uniform(rng, -0.4, 1)) * uniform(rng, 0, 24)
        i = (y * c - x * s) * zoom + self.noise(self.soft) * bend + int(at[0])
        return i, (x * c + y * s) * zoom + self.noise(self.soft) * bend + int(at[1])

    def material(self):
        """A lit surface that fills the image, float32 [size, size, 3]."""
        rng, (height, tone), (i, j) = self.rng, pick(self.rng, self.surfaces), self.coordinates()
        h, tone = sample(height, i, j), sample(tone, i, j)
        steep, low = uniform(rng, 0, 1) * uniform(rng, 0, 1.5), uniform(rng, 0.3, 1.5)  # low light shows every bump
        slope_y, slope_x = np.zeros_like(h), np.zeros_like(h)
        slope_y[1:-1], slope_x[:, 1:-1] = (h[2:] - h[:-2]) * (0.5 * steep), (h[:, 2:] - h[:, :-2]) * (0.5 * steep)
        lit = low - self.light[0] * slope_y - self.light[1] * slope_x
        lit = np.maximum(lit / np.sqrt(1 + slope_y * slope_y + slope_x * slope_x), 0) * (0.85 / low) + 0.15
        pattern = smooth(0.5 + tone * uniform(rng, 0.1, 0.7)) * uniform(rng, 0, 1)
        patches = smooth(0.5 + self.noise(self.soft) * uniform(rng, 0.1, 1)) * uniform(rng, 0, 1)
        first, second, third = self.colour(), self.colour(), self.colour()
        albedo = first + (second - first) * pattern[..., None]
        return (albedo + (third - albedo) * patches[..., None]) * lit[..., None]

    def body(self):
        """Lay a round body with a surface of its own over the image, and before it its shadow."""
        rng, size, light = self.rng, self.size, self.light
        kind, k, (c, s) = pick(rng, OUTLINES), rng.random(16).tolist(), turn(uniform(rng, 0, 360))
        a, b = uniform(rng, 0.04, 0.6) * size, uniform(rng, 0.03, 0.45) * size * (0.4 if kind == "line" else 1)
        dy, dx = self.y - rng.random() * size, self.x - rng.random() * size
        u, v = dx * c + dy * s, dy * c - dx * s
        d = distance(kind, u, v, a, b, k).astype(np.float32)
        if (ragged := uniform(rng, -0.4, 0.6)) > 0:  # fur, bark and clouds have no smooth outline
            d = d + self.noise(self.rough) * (ragged * uniform(rng, 2, 16))
        depth = np.clip(1 + d / min(a, b), 0, 1)  # 0 in the middle, 1 at the outline
        lean = v * ((light[0] * c - light[1] * s) / max(b, 1)) + u * ((light[1] * c + light[0] * s) / max(a, 1))
        shade = 1 + uniform(rng, 0, 0.7) * (np.clip(lean, -1.2, 1.2) - 0.4 * depth * depth)
        if rng.random() < 0.6:
            soft = uniform(rng, 2, 30)
            shadow = smooth(0.5 - moved(d, light, soft) / (2 * soft)) * uniform(rng, 0.1, 0.6)
            self.pixels = self.pixels * (1 - shadow)[..., None]
        cover = np.clip(0.5 - d / uniform(rng, 1, 1.8), 0, 1)[..., None]
        self.pixels = self.pixels + cover * (self.material() * np.maximum(shade, 0.05)[..., None] - self.pixels)

    def blur(self, radius):
        """Defocus everything so far."""
        self.pixels = defocused(self.pixels, radius)

    def photo(self, most):
        """The image uint8 [size, size, 3], brighter towards the lamp, sharpened; most: highest gain of the light."""
        rng, (c, s) = self.rng, self.light
        fall, gain = uniform(rng, 0, 0.7) / self.size, uniform(rng, 0.7, most)
        light = gain * (1 + fall * ((self.y - self.size / 2) * c + (self.x - self.size / 2) * s))
        return camera(rng, np.clip(sharpen(self.pixels, uniform(rng, 0, 0.5)) * light[..., None], 0, 255))


def moved(d, light, length):
    """The signed distance to a shadow: that to its body, moved away from the lamp."""
    return shifted(d, -round(light[0] * length), -round(light[1] * length))


def draw_relief(rng, size=256):
    """One image, uint8 [size, size, 3]. Args: rng, np.random.Generator; size, side in pixels, 16 to 512."""
    size = whole_number("size", size, 16, TILE)
    place = Place(rng, size)
    if rng.random() < 0.35:
        place.blur(uniform(rng, 0, 1) * uniform(rng, 1, 8))
    for _ in range(int(rng.integers(0, 9))):
        place.body()
        if rng.random() < 0.2:
            place.blur(uniform(rng, 0, 1) * uniform(rng, 0.5, 5))
    return place.photo(1.5)


def make(folder="data/reliefs", seed=0, count=2000, size=256, workers=None):
    """Draw the images into a folder, unless they are there already; see drawn_set.draw_numbered. Returns its Path."""
    return draw_numbered(folder, draw_relief, VERSION, "drawing reliefs", seed, count, size, workers)
