"""Drawn photos: images with the statistics of photos, which the shipped denoiser is trained on. No photo is used.

    python -m src.datasets drawn_photos        # writes data/drawn_photos/00000.png ..., 2,000 images

scenes.py piles up objects. Here are landscapes and the camera: closer objects, more area of one surface,
textures of every roughness, pale colours, and colour that is blurred where brightness is not, as by demosaicing
and JPEG. Each was measured (PROGRESS.md).
The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import numpy as np
from PIL import Image, ImageFilter

from src.datasets.drawn_set import draw_numbered
from src.datasets.scenes import Painter, draw_scene, finished
from src.datasets.textures import (
    CLOUD,
    FIBRE,
    GREENS,
    MARBLE,
    ROUGH,
    TILE,
    WALLS,
    WOODS,
    pick,
    pink_noise,
    smooth,
    turn,
    uniform,
    window,
)
from src.files import whole_number

VERSION = 1  # raise it whenever a change alters a pixel


def draw_photo(rng, size=256):
    """One image, uint8 [size, size, 3]. Args: rng, np.random.Generator; size, side in pixels, 16 to 512."""
    size = whole_number("size", size, 16, TILE)
    # A closer object is larger and has less detail: most images are enlarged parts of scenes.
    zoom = 1 + 1.5 * rng.random() * rng.random() if rng.random() < 0.7 else 1.0
    drawn, texture = max(16, round(size / zoom)), 1.1 * rng.random()
    image = outdoors(rng, drawn, texture) if rng.random() < 0.3 else draw_scene(rng, drawn, texture=texture)
    if drawn < size:
        image = window(image, 0.0, 0.0, (drawn - 1) / size, size)
    image = image.astype(np.float32)
    if rng.random() < 0.5:
        image = grained(rng, image)
    return camera(rng, image)


def outdoors(rng, size, texture):
    """Sky, hills, water or ground, trees and grass, uint8 [size, size, 3]."""
    side = 2 * size
    canvas, y = Painter(rng, side, texture), uniform(rng, 0.15, 0.75) * side
    pale = np.array((150, 180, 215), np.float32) * uniform(rng, 0.6, 1.15)
    canvas.paint("box", y / 2, side / 2, side, side, 90, CLOUD, uniform(rng, 0, 0.25), pale, zoom=uniform(rng, 0.5, 1))
    canvas.blur(int(rng.integers(2, 9)))
    for _ in range(int(rng.integers(1, 5))):
        kind, at = pick(rng, ("blob", "ellipse", "polygon")), uniform(rng, 0, 1) * side
        high, wide = uniform(rng, 0.05, 0.4) * side, uniform(rng, 0.2, 0.9) * side
        canvas.paint(kind, y + 0.5 * high, at, wide, high, 0, pick(rng, (CLOUD, ROUGH, MARBLE, FIBRE)), None,
                     canvas.colour(GREENS + WALLS), zoom=uniform(rng, 0.8, 2.5))  # fmt: skip
    canvas.blur(round(max(0.0, uniform(rng, -0.5, 0.5)) * side / 60))
    ground = pick(rng, ((ROUGH, GREENS), (FIBRE, GREENS), (CLOUD, WALLS), (ROUGH, WALLS), (FIBRE, WALLS)))
    plane = y + side, side / 2, 2 * side, side, uniform(rng, -2, 2)
    canvas.paint("box", *plane, ground[0], uniform(rng, 0.05, 0.5), canvas.colour(ground[1]), horizon=y - 0.1 * side)
    for _ in range(int(rng.integers(0, 4))):
        tree(canvas, y)
    canvas.clutter(uniform(rng, 0, 80), 3, 0.3 * side, low=y / side)
    if rng.random() < 0.6:
        strokes(canvas, y)
    return finished(canvas, size)


def tree(canvas, y):
    """A trunk and a crown of some hundred leaves; or the crown alone, a bush."""
    rng, side = canvas.rng, canvas.side
    foot, x = y + uniform(rng, 0, 0.3) * side, rng.random() * side
    tall, crown = uniform(rng, 0.05, 0.35) * side, uniform(rng, 0.08, 0.35) * side
    if rng.random() < 0.7:
        canvas.paint("line", foot - tall, x, 1.3 * tall, 0.06 * tall, 90, FIBRE, 0.3, canvas.colour(WOODS))
    leaf, green = uniform(rng, 2, 9), canvas.colour(GREENS)
    for _ in range(int(rng.integers(150, 500))):
        (c, s), far = turn(uniform(rng, 0, 360)), crown * (1 - rng.random() * rng.random())
        light = 0.7 + 0.5 * rng.random() - 0.25 * s * far / crown
        at = foot - 2 * tall + 0.8 * far * s, x + far * c, leaf, leaf * uniform(rng, 0.3, 0.9), uniform(rng, 0, 360)
        canvas.paint("ellipse", *at, ROUGH, 0.1, green * light)


def strokes(canvas, y):
    """Grass, hair, reeds or twigs: many thin lines of about one direction and colour."""
    rng, side = canvas.rng, canvas.side
    lean, spread, colour = uniform(rng, 0, 180), uniform(rng, 5, 40), canvas.colour(GREENS + WOODS + WALLS)
    long, thin = uniform(rng, 0.02, 0.1) * side, uniform(rng, 0.8, 2.5)
    left, wide = uniform(rng, -0.3, 0.7) * side, uniform(rng, 0.2, 1) * side
    for _ in range(int(rng.integers(200, 900))):
        at = uniform(rng, y, 1.05 * side), left + wide * rng.random(), long * uniform(rng, 0.4, 1), thin
        light = 0.5 + 0.8 * rng.random()
        canvas.paint("line", *at, lean + spread * uniform(rng, -1, 1), CLOUD, 0.05, colour * light)


def grained(rng, image):
    """Fine textures laid over parts of an image, darkening and lightening it; float32 [H, W, 3]."""
    y, x = np.arange(len(image), dtype=np.float32)[:, None], np.arange(len(image), dtype=np.float32)[None]
    for _ in range(int(rng.integers(1, 4))):
        kind, falloff = int(rng.integers(4)), uniform(rng, 0.7, 1.5)
        stretch = 2 ** int(rng.integers(0, 4)) if kind == 1 else 1  # 1: fibres
        grain = pink_noise(rng, 1, 2 ** int(rng.integers(2, 6)), stretch, falloff)
        grain = np.abs(grain) * 1.5 - 1 if kind == 2 else grain  # 2: ridges
        grain = np.clip(grain * 2, -1, 1) if kind == 3 else grain  # 3: patches
        (c, s), zoom = turn(uniform(rng, 0, 360)), uniform(rng, 0.7, 1.6)
        i = np.floor((y * c - x * s) * zoom + 64 * TILE).astype(np.int32) & (TILE - 1)
        j = np.floor((x * c + y * s) * zoom + 64 * TILE).astype(np.int32) & (TILE - 1)
        where = pink_noise(rng, 32, 128, falloff=0.8)[: len(image), : len(image)] * 3 + uniform(rng, -1, 1)
        strength = 0.25 * rng.random() * rng.random()
        image = image * (1 + smooth(where) * grain[i, j] * strength)[..., None]
    return image


def camera(rng, image):
    """float32 [H, W, 3] in [0, 255] to uint8: its colours made paler and blurred by up to two pixels."""
    grey = image[..., 0] * np.float32(0.299) + image[..., 1] * np.float32(0.587) + image[..., 2] * np.float32(0.114)
    colour, radius, pale = image - grey[..., None], int(rng.integers(0, 3)), np.float32(uniform(rng, 0.15, 1))
    if radius:
        chroma = Image.fromarray((np.clip(colour + 128, 0, 255) + 0.5).astype(np.uint8))
        colour = np.asarray(chroma.filter(ImageFilter.BoxBlur(radius))).astype(np.float32) - 128
    return (np.clip(grey[..., None] + pale * colour, 0, 255) + 0.5).astype(np.uint8)


def make(folder="data/drawn_photos", seed=0, count=2000, size=256, workers=None):
    """Draw the images into a folder, unless they are there already; see drawn_set.draw_numbered. Returns its Path."""
    return draw_numbered(folder, draw_photo, VERSION, "drawing photos", seed, count, size, workers)
