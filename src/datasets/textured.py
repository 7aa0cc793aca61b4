"""Drawn images under fine texture: any of the other kinds with grain, fibres, ridges or patches over parts. No photo.

    python -m src.datasets textured       # writes data/textured/00000.png ..., 2,000 images

The other drawn sets have smooth areas that photos do not have: a network trained on them alone removes the grain of
film, sand, lawns and plaster. drawn_photos has such textures too, but shrinks its images afterwards.
The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import numpy as np

from src.datasets.drawn_photos import draw_photo, grained
from src.datasets.drawn_set import draw_numbered
from src.datasets.fabrics import draw_fabric
from src.datasets.reliefs import draw_relief
from src.datasets.textures import TILE, pick
from src.datasets.thickets import draw_thicket
from src.files import whole_number

VERSION = 1  # raise it whenever a change alters a pixel
BELOW = (draw_photo, draw_relief, draw_thicket, draw_fabric)


def draw_textured(rng, size=256):
    """One image, uint8 [size, size, 3]. Args: rng, np.random.Generator; size, side in pixels, 16 to 512."""
    size = whole_number("size", size, 16, TILE)
    image = pick(rng, BELOW)(rng, size).astype(np.float32)
    return (np.clip(grained(rng, image), 0, 255) + 0.5).astype(np.uint8)


def make(folder="data/textured", seed=0, count=2000, size=256, workers=None):
    """Draw the images into a folder, unless they are there already; see drawn_set.draw_numbered. Returns its Path."""
    return draw_numbered(folder, draw_textured, VERSION, "drawing textured images", seed, count, size, workers)
