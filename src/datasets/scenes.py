"""Endless images with the statistics of photos, drawn from a seed without any photo (palette included).

    image = draw_scene(np.random.default_rng(7), size=128)     # uint8 [128, 128, 3]

An image is a pile of occluding shapes, back to front ("dead leaves": Matheron 1968; Lee, Mumford and
Huang, "Occlusion models for natural images", 2001): radii follow a power law with exponent 3, which
gives a natural image's scale-free edges and its 1/f^2 power. As Achddou, Gousseau and Ladjal (2021,
2025) found for denoisers, the shapes need 1/f textures inside, shading and a blur that grows with
depth; we add a furnished room and choose colours from a short table instead of taking them from photos.

The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import math

import numpy as np

from src.datasets.textures import (
    BRICKS,
    CLOUD,
    DOTS,
    FIBRE,
    GREENS,
    MARBLE,
    MATERIALS,
    ROUGH,
    STRIPES,
    TEXT,
    TILE,
    WALLS,
    WEAVE,
    WOOD,
    WOODS,
    defocused,
    half,
    make_textures,
    pick,
    sharpen,
    smooth,
    turn,
    uniform,
)
from src.files import whole_number

KINDS = ("ellipse", "box", "polygon", "blob", "line")


def distance(kind, u, v, a, b, k):
    """Signed distance in pixels, negative inside, to a shape of half axes a, b; k: 16 numbers that vary it."""
    if kind == "ellipse":
        return (np.sqrt(u * u / (a * a) + v * v / (b * b)) - 1) * min(a, b)
    if kind == "box":
        corner = min(a, b) * 0.3 * k[0]
        p, q = np.abs(u) - (a - corner), np.abs(v) - (b - corner)
        out_p, out_q = np.maximum(p, 0), np.maximum(q, 0)
        return np.sqrt(out_p * out_p + out_q * out_q) + np.minimum(np.maximum(p, q), 0) - corner
    if kind == "polygon":
        sides, d = 3 + int(5 * k[0]), -1e9
        for i in range(sides):
            c, s = turn((i + 0.6 * k[i + 1] - 0.3) * 360 / sides)
            d = np.maximum(d, (u * (c / a) + v * (s / b) - (0.55 + 0.45 * k[i + 8])) * min(a, b))
        return d
    if kind == "blob":  # a circle whose radius carries the harmonics 2, 3 and 4: leaves, petals, stains
        u, v = u / a, v / b
        uu, vv = u * u, v * v
        rr = uu + vv + 1e-6
        edge = 0.8 + (0.7 * (k[0] - 0.5) * (uu - vv) + 0.6 * (k[1] - 0.5) * u * (uu - 3 * vv) / np.sqrt(rr)) / rr
        fourth = 0.4 * (k[2] - 0.5) * (uu * uu - 6 * uu * vv + vv * vv) / (rr * rr)
        return (np.sqrt(rr) - edge - fourth) * (0.8 * min(a, b))
    return np.maximum(np.abs(v - (k[0] - 0.5) / a * u * u) - b, np.abs(u) - a)  # "line": a bent strip


class Painter:
    """A canvas float32 [H, H, 3] in [0, 255] with this scene's textures, colours, shapes and light."""

    def __init__(self, rng, side, texture):
        self.rng, self.side, self.textures, self.strength = rng, side, make_textures(rng), texture
        self.pixels = np.zeros((side, side, 3), np.float32)
        self.palette = [pick(rng, range(len(MATERIALS))) for _ in range(8)]  # few materials and shapes:
        self.kinds = [pick(rng, KINDS) for _ in range(4)]  # a place has a style
        self.light = turn(uniform(rng, 200, 340))  # towards the lamp; y points down

    def colour(self, among=None):
        """A colour of this scene, or one of these MATERIALS, jittered in brightness and a little in hue, [3]."""
        base = MATERIALS[pick(self.rng, among or self.palette)] * uniform(self.rng, 0.6, 1.2)
        return base * (0.92 + 0.16 * self.rng.random(3, dtype=np.float32))

    def paint(
        self, kind, y, x, a, b, angle=0, texture=None, contrast=None, colour=None, shadow=0, zoom=None, bulge=0,
        horizon=None,
    ):  # fmt: skip
        """Lay one textured, shaded, anti-aliased shape, and before it its soft shadow, over the canvas.

        y, x: centre; a, b: half axes in pixels; shadow: its length; bulge: darkening of a round body's far
        side; horizon: a height at which the texture, lying on a plane, would vanish.
        """
        rng, (c, s), k = self.rng, turn(angle), self.rng.random(16).tolist()
        texture = int(rng.integers(10)) if texture is None else texture
        contrast = 0.06 + 0.6 * rng.random() * rng.random() if contrast is None else contrast
        contrast = contrast * self.strength
        base, other = self.colour() if colour is None else colour, self.colour()
        zoom, soft = uniform(rng, 0.8, 1.8) if zoom is None else zoom, shadow * uniform(rng, 0.3, 1)
        flow, shift = turn(angle + 90 * int(rng.integers(4))), rng.integers(0, TILE, 2) + 64 * TILE
        slope, steep = turn(uniform(rng, 0, 360)), uniform(rng, 0, 0.3)
        margin, thick = shadow + soft + 2, max(b, a * 0.55) if kind == "line" else b
        wide, high = abs(c) * a + abs(s) * thick + margin, abs(s) * a + abs(c) * thick + margin
        top, bottom = max(0, math.floor(y - high)), min(self.side, math.ceil(y + high))
        left, right = max(0, math.floor(x - wide)), min(self.side, math.ceil(x + wide))
        if bottom <= top or right <= left:
            return
        dy = np.arange(top, bottom, dtype=np.float32)[:, None] - y
        dx = np.arange(left, right, dtype=np.float32)[None] - x
        u, v = dx * c + dy * s, dy * c - dx * s
        view = self.pixels[top:bottom, left:right]
        if shadow:
            away_u, away_v = -self.light[0] * c - self.light[1] * s, self.light[0] * s - self.light[1] * c
            d = distance(kind, u - away_u * shadow, v - away_v * shadow, a, b, k)
            view *= (1 - 0.55 * smooth(0.5 - d / (2 * soft + 1)))[..., None]
        cover = np.clip(0.5 - distance(kind, u, v, a, b, k), 0, 1)
        below = None if horizon is None else y - horizon
        pattern = self.pattern(self.textures[texture], dy, dx, flow, zoom, shift, below)
        shade = 1 + u * (slope[0] * steep / a) + v * (slope[1] * steep / max(b, 0.2 * a))
        if bulge:
            q = v / b + 0.35
            shade = shade - bulge * q * q
        shade, mix = shade * (1 + contrast * pattern), pattern * (contrast * 0.6)
        for channel in range(3):
            value = shade * float(base[channel]) + mix * float(other[channel] - base[channel])
            view[..., channel] += cover * (value - view[..., channel])

    def pattern(self, texture, dy, dx, flow, zoom, shift, below=None):
        """A periodic texture at these offsets from a shape's centre; below: of a plane, how far below its horizon."""
        if below is not None:
            zoom = zoom * (0.5 * self.side) / np.maximum(dy + below, 1)
            i, j = zoom * (0.7 * self.side), dx * zoom
        else:
            i, j = (dy * flow[0] - dx * flow[1]) * zoom, (dx * flow[0] + dy * flow[1]) * zoom
        i, j = np.floor(i + int(shift[0])).astype(np.int32), np.floor(j + int(shift[1])).astype(np.int32)
        return texture[i & (TILE - 1), j & (TILE - 1)]

    def blur(self, radius):
        """Defocus everything painted so far."""
        self.pixels = defocused(self.pixels, radius)

    def clutter(self, count, smallest, largest, low=0.0):
        """Dead leaves: `count` shapes below the height `low`, density of the radius ~ r^-3 on [smallest, largest]."""
        rng, side, ratio = self.rng, self.side, smallest / largest
        for _ in range(round(count * side * side / 313600)):  # the counts are for a side of 560
            r = smallest / math.sqrt(1 - rng.random() * (1 - ratio * ratio))
            kind = pick(rng, self.kinds)
            squash, long = (uniform(rng, 0.02, 0.12), 2.2) if kind == "line" else (uniform(rng, 0.35, 1), 1)
            y, x, a, b = uniform(rng, low, 1) * side, rng.random() * side, r * long, max(r * squash, 0.8)
            shadow = min(0.25 * r, 14) if r > 6 and rng.random() < 0.7 else 0
            bulge = max(0, uniform(rng, -0.5, 0.35))
            self.paint(kind, y, x, a, b, uniform(rng, 0, 360), shadow=shadow, bulge=bulge)

    def wall(self):
        texture, contrast = pick(self.rng, ((CLOUD, 0.1), (ROUGH, 0.09), (STRIPES, 0.08), (BRICKS, 0.18)))
        self.paint("box", self.side / 2, self.side / 2, self.side, self.side, 0, texture, contrast, zoom=1)

    def shelf(self):
        """A board with a row of books on it."""
        rng, side = self.rng, self.side
        y, x, end = (uniform(rng, *span) * side for span in ((0.15, 0.7), (-0.2, 0.5), (0.6, 1.2)))
        self.paint("box", y, (x + end) / 2, (end - x) / 2 + 5, 0.015 * side, 0, WOOD, 0.2, self.colour(WOODS), 8)
        while x < end:
            wide, tall = uniform(rng, 0.012, 0.045) * side, uniform(rng, 0.12, 0.24) * side
            book = y - tall / 2, x + wide / 2, tall / 2, wide / 2, 90 + uniform(rng, -2, 2)
            if rng.random() < 0.85:
                self.paint("box", *book, pick(rng, (FIBRE, TEXT, WEAVE, ROUGH)), shadow=3, bulge=0.3)
            x += wide

    def window(self):
        """A pane or poster in a frame."""
        rng, side = self.rng, self.side
        y, x, a, b = (uniform(rng, *span) * side for span in ((0.1, 0.5), (0, 1), (0.08, 0.3), (0.1, 0.25)))
        self.paint("box", y, x, a + 0.02 * side, b + 0.02 * side, 0, WOOD, 0.15, self.colour(WOODS), 9)
        self.paint("box", y, x, a, b, 0, pick(rng, (CLOUD, MARBLE, DOTS)))

    def plant(self):
        """Some dozens of leaves around a point."""
        rng, side = self.rng, self.side
        y, x = uniform(rng, 0.1, 0.7) * side, rng.random() * side
        for _ in range(36):
            angle, far, r = uniform(rng, 0, 360), uniform(rng, 0, 0.2) * side, uniform(rng, 0.02, 0.06) * side
            (c, s), narrow, droop = turn(angle), uniform(rng, 0.25, 0.5), uniform(rng, -30, 30)
            at = y + far * s, x + far * c, r, r * narrow, angle + droop
            self.paint("ellipse", *at, FIBRE, 0.12, self.colour(GREENS), shadow=5)

    def table(self, y):
        """A plane from the height y down, its texture drawn together towards the back, with a paper on it."""
        rng, side = self.rng, self.side
        top = pick(rng, ((WOOD, 0.25), (WOOD, 0.15), (CLOUD, 0.08), (WEAVE, 0.12), (FIBRE, 0.2)))
        plane = y + side, side / 2, 2 * side, side, uniform(rng, -4, 4)
        self.paint("box", *plane, *top, self.colour(WOODS + WALLS), 6, 1, horizon=y - 0.25 * side)
        paper = y + uniform(rng, 0.15, 0.4) * side, rng.random() * side, 0.2 * side, 0.14 * side, uniform(rng, 0, 180)
        if rng.random() < 0.6:
            self.paint("box", *paper, TEXT, uniform(rng, 0.2, 0.5), (228, 226, 218), 3)

    def things(self, y):
        """Mugs, bottles, boxes and fruit that stand around the height y, the nearest last."""
        rng, side = self.rng, self.side
        for foot in sorted(y + uniform(rng, 0, 0.2) * side for _ in range(int(rng.integers(4, 11)))):
            x, tall, wide = rng.random() * side, uniform(rng, 0.03, 0.14) * side, uniform(rng, 0.025, 0.08) * side
            if rng.random() < 0.25:
                self.paint("ellipse", foot - wide, x, wide, wide, 30, ROUGH, 0.08, bulge=0.4, shadow=10)
                continue
            base, lid = self.colour(), uniform(rng, 0.5, 1.2)
            self.paint("box", foot - tall, x, tall, wide, 90, colour=base, shadow=10, bulge=uniform(rng, 0.1, 0.5))
            if rng.random() < 0.5:  # seen from above: a round top
                self.paint("ellipse", foot - 2 * tall, x, wide, 0.25 * wide, 0, CLOUD, 0.05, base * lid)


def draw_scene(rng, size=128, room=None, focus=None, texture=1, litter=1):
    """One scene of occluding, textured, shaded and partly defocused things.

    Args: rng, np.random.Generator (its state decides the image); size, side in pixels, >= 8; room, True
    for a furnished room, False for dead leaves alone, None for a draw between the two; focus, from 0, all
    sharp, to 1, a far blurred background, None for a draw; texture, contrast of the patterns inside the shapes,
    relative to a close-up's; litter, how many small things lie on a room's table, and how small they may be.
    Returns: uint8 [size, size, 3], RGB. Raises ValueError for a size below 8.
    """
    size = whole_number("size", size, 8)
    side = 2 * size  # drawn at twice the size, then averaged 2 x 2
    room = rng.random() < 0.4 if room is None else room
    focus = max(0.0, uniform(rng, -0.4, 0.6)) if focus is None else focus
    canvas, far = Painter(rng, side, texture), round(focus * side / 60)
    canvas.wall()
    if room:
        for _ in range(int(rng.integers(2, 6))):
            pick(rng, (canvas.window, canvas.shelf, canvas.plant))()
        canvas.clutter(25, 5, 0.25 * side)
        canvas.blur(far)
        y = uniform(rng, 0.5, 0.85) * side
        canvas.table(y)
        canvas.things(y)
        canvas.clutter(80 * litter, 3 / litter, 0.12 * side, low=y / side)
        canvas.blur(far // 3)
        canvas.clutter(25 * litter, 3 / litter, 0.08 * side, low=y / side)
    else:
        smallest = uniform(rng, 2, 7)
        canvas.clutter(150, 0.04 * side, 0.6 * side)
        canvas.blur(far)
        canvas.clutter(350, smallest, 0.35 * side)
        canvas.blur(far // 3)
        canvas.clutter(200, smallest, 0.2 * side)
    return finished(canvas, size)


def finished(canvas, size):
    """The canvas, drawn at twice the size, as a camera sees it: uint8 [size, size, 3]."""
    rng = canvas.rng
    p = sharpen(half(canvas.pixels), uniform(rng, 0.3, 1.1))
    # Light falls off across the image; tint and exposure are the lamp's and the camera's.
    (c, s), fall, at = canvas.light, uniform(rng, 0.1, 0.7) / size, np.arange(size, dtype=np.float32) - size / 2
    warm, gain = uniform(rng, -0.12, 0.16), uniform(rng, 0.65, 1.2)
    tint = np.array((gain * (1 + warm), gain, gain * (1 - warm)), np.float32)
    return (np.clip(p * (1 + fall * (at * c + at[:, None] * s))[..., None] * tint, 0, 255) + 0.5).astype(np.uint8)
