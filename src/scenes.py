"""Endless pictures with the statistics of photographs, drawn from a seed, no photo (palette included).

    image = draw_scene(np.random.default_rng(7), size=128)     # uint8 [128, 128, 3]

A picture is a pile of occluding shapes, back to front ("dead leaves": Matheron 1968; Lee, Mumford and
Huang, "Occlusion models for natural images", 2001): radii follow a power law with exponent 3, which
gives a natural image's scale-free edges and its 1/f^2 power. As Achddou, Gousseau and Ladjal (2021,
2025) found for denoisers, the shapes need 1/f textures inside, shading and a blur that grows with
depth; we add a furnished room and choose colours from a short table instead of taking them from photos.

The same seed gives the same bytes on every machine: draws are integers() and random() only, and a pixel
passes through nothing but single IEEE-exact operations (+ - * / sqrt, comparisons, floor, indexing) and
Pillow's integer box blur. No sin, exp, pow, matmul or float sum: their last bit depends on the machine.
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
KINDS = ("ellipse", "box", "polygon", "blob", "line")
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
        return (np.sqrt(rr) - edge - 0.4 * (k[2] - 0.5) * (uu * uu - 6 * uu * vv + vv * vv) / (rr * rr)) * (
            0.8 * min(a, b)
        )
    return np.maximum(np.abs(v - (k[0] - 0.5) / a * u * u) - b, np.abs(u) - a)  # "line": a bent strip


class Painter:
    """A canvas float32 [H, H, 3] in [0, 255] with this scene's textures, colours, shapes and light."""

    def __init__(self, rng, side):
        self.rng, self.side, self.textures = rng, side, make_textures(rng)
        self.pixels = np.zeros((side, side, 3), np.float32)
        self.palette = [pick(rng, range(len(MATERIALS))) for _ in range(8)]  # few materials and shapes:
        self.kinds = [pick(rng, KINDS) for _ in range(4)]  # a place has a style
        self.light = turn(uniform(rng, 200, 340))  # towards the lamp; y points down

    def colour(self, among=None):
        """A colour of this scene, or one of these MATERIALS, jittered in brightness and a little in hue, [3]."""
        base = MATERIALS[pick(self.rng, among or self.palette)] * uniform(self.rng, 0.6, 1.2)
        return base * (0.92 + 0.16 * self.rng.random(3, dtype=np.float32))

    def paint(
        self,
        kind,
        y,
        x,
        a,
        b,
        angle=0,
        texture=None,
        contrast=None,
        colour=None,
        shadow=0,
        zoom=None,
        bulge=0,
        horizon=None,
    ):
        """Lay one textured, shaded, anti-aliased shape, and before it its soft shadow, over the canvas.

        y, x: centre; a, b: half axes in pixels; shadow: its length; bulge: darkening of a round body's far
        side; horizon: a height at which the texture, lying on a plane, would vanish.
        """
        rng, (c, s), k = self.rng, turn(angle), self.rng.random(16).tolist()
        texture = int(rng.integers(10)) if texture is None else texture
        contrast = 0.06 + 0.6 * rng.random() * rng.random() if contrast is None else contrast
        base, other = self.colour() if colour is None else colour, self.colour()
        zoom, soft = uniform(rng, 0.8, 1.8) if zoom is None else zoom, shadow * uniform(rng, 0.3, 1)
        flow, shift = turn(angle + 90 * int(rng.integers(4))), rng.integers(0, TILE, 2) + 64 * TILE
        slope, steep = turn(uniform(rng, 0, 360)), uniform(rng, 0, 0.3)
        reach, thick = shadow + soft + 2, max(b, a * 0.55) if kind == "line" else b
        wide, high = abs(c) * a + abs(s) * thick + reach, abs(s) * a + abs(c) * thick + reach
        top, bottom = max(0, math.floor(y - high)), min(self.side, math.ceil(y + high))
        left, right = max(0, math.floor(x - wide)), min(self.side, math.ceil(x + wide))
        if bottom <= top or right <= left:
            return
        dy = np.arange(top, bottom, dtype=np.float32)[:, None] - y
        dx = np.arange(left, right, dtype=np.float32)[None] - x
        u, v = dx * c + dy * s, dy * c - dx * s
        view = self.pixels[top:bottom, left:right]
        if shadow:
            ou, ov = -self.light[0] * c - self.light[1] * s, self.light[0] * s - self.light[1] * c
            d = distance(kind, u - ou * shadow, v - ov * shadow, a, b, k)
            view *= (1 - 0.55 * smooth(0.5 - d / (2 * soft + 1)))[..., None]
        cover = np.clip(0.5 - distance(kind, u, v, a, b, k), 0, 1)
        if horizon is not None:
            zoom = zoom * (0.5 * self.side) / np.maximum(dy + (y - horizon), 1)
            i, j = zoom * (0.7 * self.side), dx * zoom
        else:
            i, j = (dy * flow[0] - dx * flow[1]) * zoom, (dx * flow[0] + dy * flow[1]) * zoom
        i, j = np.floor(i + int(shift[0])).astype(np.int32), np.floor(j + int(shift[1])).astype(np.int32)
        grain = self.textures[texture][i & (TILE - 1), j & (TILE - 1)]
        shade = 1 + u * (slope[0] * steep / a) + v * (slope[1] * steep / max(b, 0.2 * a))
        if bulge:
            q = v / b + 0.35
            shade = shade - bulge * q * q
        shade, mix = shade * (1 + contrast * grain), grain * (contrast * 0.6)
        for channel in range(3):
            value = shade * float(base[channel]) + mix * float(other[channel] - base[channel])
            view[..., channel] += cover * (value - view[..., channel])

    def blur(self, radius):
        """Defocus everything painted so far: two passes of Pillow's box blur, in integers."""
        image = Image.fromarray((np.clip(self.pixels, 0, 255) + 0.5).astype(np.uint8))
        for _ in range(2 if radius else 0):
            image = image.filter(ImageFilter.BoxBlur(radius))
        self.pixels = np.asarray(image).astype(np.float32)

    def clutter(self, count, smallest, largest, low=0.0):
        """Dead leaves: `count` shapes below the height `low`, density of the radius ~ r^-3 on [smallest, largest]."""
        rng, side = self.rng, self.side
        ratio = smallest / largest
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
        """A pane, poster or picture in a frame."""
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


def draw_scene(rng, size=128, room=None, focus=None):
    """One scene of occluding, textured, shaded and partly defocused things.

    Args: rng, np.random.Generator (its state decides the picture); size, side in pixels, >= 8; room, True
    for a furnished room, False for dead leaves alone, None for a draw between the two; focus, from 0, all
    sharp, to 1, a far blurred background, None for a draw.
    Returns: uint8 [size, size, 3], RGB. Raises ValueError for a size below 8.
    """
    if int(size) != size or size < 8:
        raise ValueError(f"size must be a whole number of pixels, at least 8, got {size}; try size=128")
    size, side = int(size), 2 * int(size)  # drawn at twice the size, then averaged 2 x 2
    room = rng.random() < 0.4 if room is None else room
    focus = max(0.0, uniform(rng, -0.4, 0.6)) if focus is None else focus
    canvas, far = Painter(rng, side), round(focus * side / 60)
    canvas.wall()
    if room:
        for _ in range(int(rng.integers(2, 6))):
            pick(rng, (canvas.window, canvas.shelf, canvas.plant))()
        canvas.clutter(25, 5, 0.25 * side)
        canvas.blur(far)
        y = uniform(rng, 0.5, 0.85) * side
        canvas.table(y)
        canvas.things(y)
        canvas.clutter(80, 3, 0.12 * side, low=y / side)
        canvas.blur(far // 3)
        canvas.clutter(25, 3, 0.08 * side, low=y / side)
    else:
        smallest = uniform(rng, 2, 7)
        canvas.clutter(150, 0.04 * side, 0.6 * side)
        canvas.blur(far)
        canvas.clutter(350, smallest, 0.35 * side)
        canvas.blur(far // 3)
        canvas.clutter(200, smallest, 0.2 * side)
    p = canvas.pixels
    p = sharpen((p[::2, ::2] + p[1::2, ::2] + (p[::2, 1::2] + p[1::2, 1::2])) * 0.25, uniform(rng, 0.3, 1.1))
    # Light falls off across the picture; tint and exposure are the lamp's and the camera's.
    (c, s), fall, at = canvas.light, uniform(rng, 0.1, 0.7) / size, np.arange(size, dtype=np.float32) - size / 2
    warm, gain = uniform(rng, -0.12, 0.16), uniform(rng, 0.65, 1.2)
    tint = np.array((gain * (1 + warm), gain, gain * (1 - warm)), np.float32)
    return (np.clip(p * (1 + fall * (at * c + at[:, None] * s))[..., None] * tint, 0, 255) + 0.5).astype(np.uint8)
