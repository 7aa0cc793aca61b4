"""Drawn fabrics: striped, checked, woven and knitted cloth in folds, wicker and nets. No photo is used.

    python -m src.datasets fabrics        # writes data/fabrics/00000.png ..., 2,000 images

The stripes of reliefs are mostly wider than 8 pixels. A denoiser needs finer ones too: it has to tell threads and
slats of 3 to 8 pixels from noise, however they bend.
The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import numpy as np

from src.datasets.drawn_set import draw_numbered
from src.datasets.reliefs import Place, make_surface
from src.datasets.textures import TILE, half, pick, pink_noise, uniform, wave
from src.files import whole_number

VERSION = 1  # raise it whenever a change alters a pixel
KINDS = ("stripes", "stripes", "checks", "twill", "herringbone", "basket", "knit", "net")


def lines(rng, phase, hard):
    """Lines of period 1 along a phase, within [-1, 1]: two tones, or a random sequence of up to 16 that repeats.

    phase: float32 array; the result has its shape. hard: factor before clipping; the larger, the sharper two tones are.
    """
    if rng.random() < 0.6:
        return np.clip((wave(phase) + uniform(rng, -0.6, 0.6)) * hard, -1, 1)
    tones = rng.random(2 ** int(rng.integers(2, 5)), dtype=np.float32) * 2 - 1
    return tones[np.floor(2 * phase).astype(np.int32) % len(tones)]


def zigzag(x):
    """A triangle wave of period 1, within [0, 1]."""
    return np.abs(2 * (x - np.floor(x)) - 1)


def pattern(rng, kind, count):
    """One kind of cloth, within [-1.5, 1], float32 [TILE, TILE]; count, its periods along a side: a multiple of 8."""
    at = (np.arange(2 * TILE, dtype=np.float32) + 0.5) * (0.5 * count / TILE)  # two samples a pixel: smooth edges
    y, x, hard = at[:, None], at[None], uniform(rng, 1, 4)
    if kind == "stripes":
        tone = lines(rng, y, hard) + 0 * x
    elif kind == "checks":
        down, across = lines(rng, y, hard), lines(rng, x, hard)
        tone = down * across if rng.random() < 0.3 else (down + across) / 2
    elif kind == "twill":
        tone = lines(rng, y + int(rng.integers(1, 3)) * x, hard)
    elif kind == "herringbone":  # 4 periods of diagonals to one of their direction
        tone = lines(rng, y + 2 * zigzag(x / 4), hard)
    elif kind == "basket":
        over = (np.floor(y) + np.floor(x)) % 2 < 1  # warp over weft, or under it
        tone = 2 * np.abs(wave(np.where(over, y, x) / 2)) - 1 - uniform(rng, 0, 0.5) * over
    elif kind == "knit":
        tone = np.clip(wave(y + uniform(rng, 0.3, 1) * zigzag(x)) * hard, -1, 1) - 0.5 * (zigzag(x) > 0.9)
    else:
        thread = uniform(rng, 0.1, 0.4)
        tone = np.where(np.minimum(zigzag(y), zigzag(x)) < thread, 1, -1)
    return half(tone.astype(np.float32))


class Cloth(Place):
    """A Place, see reliefs.py, most of whose surfaces are cloth in folds."""

    def surface(self):
        """(height in pixels, tone about [-1, 1]) of a surface, float32 [TILE, TILE], periodic."""
        rng, rough = self.rng, pick(self.rng, self.rough)
        if rng.random() < 0.15:
            return make_surface(rng, rough)
        count = 8 * round(TILE / (24 + 176 * rng.random() * rng.random()))  # periods of 3 to 25 pixels
        tone = pattern(rng, pick(rng, KINDS), count)
        folds = pink_noise(rng, 32, 128, falloff=uniform(rng, 0.4, 0.7))
        if rng.random() < 0.5:
            folds = 1 - 2 * np.abs(folds)  # creases
        height = (
            folds * (uniform(rng, 0, 1) * uniform(rng, 0, 30)) + tone * uniform(rng, -1, 1) + rough * uniform(rng, 0, 1)
        )
        return height, tone + rough * uniform(rng, 0, 0.6)


def draw_fabric(rng, size=256):
    """One image, uint8 [size, size, 3]. Args: rng, np.random.Generator; size, side in pixels, 16 to 512."""
    size = whole_number("size", size, 16, TILE)
    place = Cloth(rng, size)
    for _ in range(int(rng.integers(0, 8))):
        place.body()
        if rng.random() < 0.08:
            place.blur(uniform(rng, 0, 1) * uniform(rng, 0.5, 5))
    return place.photo(1.5)


def make(folder="data/fabrics", seed=0, count=2000, size=256, workers=None):
    """Draw the images into a folder, unless they are there already; see drawn_set.draw_numbered. Returns its Path."""
    return draw_numbered(folder, draw_fabric, VERSION, "drawing fabrics", seed, count, size, workers)
