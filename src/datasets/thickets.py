"""Drawn thickets: twigs, blades of grass, leaves, flowers and drops before lit surfaces. No photo is used.

    python -m src.datasets thickets       # writes data/thickets/00000.png ..., 2,000 images

reliefs has surfaces and round bodies, drawn_photos flat shapes. Neither has plants: hundreds of thin, sharp
things that overlap, each lit on its own. Some are dark against a bright sky, others bright against a dark one.
The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import math
from itertools import pairwise

import numpy as np

from src.datasets.drawn_set import draw_numbered
from src.datasets.reliefs import Place
from src.datasets.textures import TILE, pick, smooth, turn, uniform
from src.files import whole_number

VERSION = 1  # raise it whenever a change alters a pixel
KINDS = ("twigs", "twigs", "blades", "blades", "leaves", "leaves", "flowers", "drops")


def around(rng, spread):
    """A number around 0, at most 2 * spread away."""
    return (rng.random() + rng.random() - rng.random() - rng.random()) * spread


class Thicket(Place):
    """A Place, see reliefs.py, with layers of plants or drops. A layer has one style, which `layer` draws.

    edge    width of the outlines in pixels; gloss: contrast of the light across a thing; rib: brightness of ribs
    tones   two colours, between which those of the things lie
    angle   main direction in degrees; scale: of all sizes, 1 for an image of 256 pixels
    """

    edge, gloss, rib, tones, angle, scale = 1.0, 0.0, 0.0, (), 0.0, 1.0

    def layer(self, kind):
        """Draw one layer of a kind over the image."""
        rng = self.rng
        self.edge, self.gloss = uniform(rng, 1, 1.8), uniform(rng, 0, 0.7)
        self.tones = [self.colour() * pick(rng, (0.15, 0.5, 1, 1, 1.4)) for _ in range(2)]
        self.angle, self.scale = uniform(rng, 0, 360), self.size / 256 * uniform(rng, 0.5, 1) * uniform(rng, 0.7, 2)
        getattr(self, kind)()

    def tone(self):
        """A colour of the layer, float32 [3]."""
        first, second = self.tones
        return (first + (second - first) * np.float32(self.rng.random())) * np.float32(uniform(self.rng, 0.7, 1.3))

    def point(self):
        return uniform(self.rng, -0.1, 1.1) * self.size, uniform(self.rng, -0.1, 1.1) * self.size

    def near(self, at, reach):
        """Rows and columns of the pixels around a point and their slices; no pixel where it is outside."""
        top, left = max(math.floor(at[0] - reach), 0), max(math.floor(at[1] - reach), 0)
        part = slice(top, max(math.ceil(at[0] + reach) + 1, 0)), slice(left, max(math.ceil(at[1] + reach) + 1, 0))
        return self.y[part] - np.float32(at[0]), self.x[part] - np.float32(at[1]), part

    def paint(self, part, d, colour):
        """Lay a colour [3] or [h, w, 3] over a part, where the distance d to the thing is below 0."""
        cover = np.clip(0.5 - d / self.edge, 0, 1)[..., None]
        self.pixels[part] += cover * (np.clip(colour, 0, 400) - self.pixels[part])

    def rod(self, start, end, radii, colour):
        """A piece of a twig or blade between two points, lit as a round one; radii: at its start and end."""
        dy, dx = end[0] - start[0], end[1] - start[1]
        length = max(math.sqrt(dy * dy + dx * dx), 0.01)
        middle = start[0] + dy / 2, start[1] + dx / 2
        y, x, part = self.near(middle, length / 2 + max(radii) + 2)
        if not y.size:
            return
        along = np.clip((y * (dy / length) + x * (dx / length)) / length + 0.5, 0, 1)
        off_y, off_x = y - (along - 0.5) * dy, x - (along - 0.5) * dx
        radius = radii[0] + (radii[1] - radii[0]) * along
        lit = (off_y * self.light[0] + off_x * self.light[1]) / np.maximum(radius, 0.5)
        shade = np.maximum(1 + self.gloss * np.clip(lit, -1, 1), 0.1)
        self.paint(part, np.sqrt(off_y * off_y + off_x * off_x) - radius, colour * shade[..., None])

    def curve(self, at, angle, bend, step, radii, colour):
        """Rods in a row, each turned by `bend` degrees: the points [(y, x, angle)] between them."""
        points = []
        for near, far in pairwise(radii):
            (c, s), angle = turn(angle), angle + bend
            end = at[0] + s * step, at[1] + c * step
            self.rod(at, end, (near, far), colour)
            points.append((*end, angle))
            at = end
        return points

    def twigs(self):
        """Branches of branches, each thinner than its parent."""
        rng, spread = self.rng, uniform(self.rng, 20, 70)
        rough, thick, budget = uniform(rng, 0, 25), self.scale * uniform(rng, 0.8, 4), int(rng.integers(60, 500))
        tips = [(*self.point(), self.angle + around(rng, 60), thick) for _ in range(int(rng.integers(2, 9)))]
        while tips and budget > 0:
            *at, angle, radius = tips.pop(int(rng.integers(len(tips))))
            count, step = int(rng.integers(3, 8)), self.scale * uniform(rng, 2, 9) * (0.3 + 0.7 * radius / thick)
            radii = [radius * (1 - 0.4 * n / count) for n in range(count + 1)]
            points = self.curve(at, angle, around(rng, rough), step, radii, self.tone())
            budget -= count
            if radius > 0.3:
                tips.append((*points[-1], radii[-1]))
                for (y, x, ahead), near in zip(points, radii, strict=False):
                    if rng.random() < 0.5:
                        side = ahead + pick(rng, (-1, 1)) * spread + around(rng, 20)
                        tips.append((y, x, side, near * uniform(rng, 0.4, 0.8)))

    def blades(self):
        """Grass, needles, fur or straw: bent, tapered, about parallel."""
        rng, wild = self.rng, uniform(self.rng, 5, 60)
        length, radius = self.scale * uniform(rng, 5, 14), self.scale * uniform(rng, 0.3, 1) * uniform(rng, 0.8, 3)
        for _ in range(int(rng.integers(40, 400))):
            size = uniform(rng, 0.5, 1.2)
            radii = [radius * size * (1 - n / 5) + 0.1 for n in range(5)]
            self.curve(self.point(), self.angle + around(rng, wild), around(rng, 15), length * size, radii, self.tone())

    def leaf(self, at, angle, length, width, colour):
        """A lens with a rib, whose halves have different lights."""
        y, x, part = self.near(at, length + 2)
        if not y.size:
            return
        c, s = turn(angle)
        u, v = (x * c + y * s) / length, y * c - x * s
        half_width = np.maximum(1 - u * u, 0) * width
        slope = (c * self.light[0] - s * self.light[1]) * self.gloss
        shade = np.clip(1 + np.clip(v, -1, 1) * slope + 0.25 * self.gloss * u, 0.1, 2)
        rib = self.rib * np.clip(1 - np.abs(v), 0, 1)
        outside = np.maximum(np.abs(v) - half_width, (np.abs(u) - 1) * length)
        self.paint(part, outside, colour * (shade + rib)[..., None])

    def leaves(self):
        """Leaves in clusters, from dark ones behind to bright ones before."""
        rng = self.rng
        length, narrow = self.scale * uniform(rng, 3, 8) * uniform(rng, 0.7, 2), uniform(rng, 0.15, 0.7)
        self.rib, count = uniform(rng, -0.3, 0.4), int(rng.integers(60, 500))
        clusters, wild = [self.point() for _ in range(int(rng.integers(2, 12)))], pick(rng, (20, 180))
        for n in range(count):
            (y, x), size = pick(rng, clusters), length * uniform(rng, 0.6, 1.2)
            at = y + around(rng, 0.15) * self.size, x + around(rng, 0.15) * self.size
            width, dark = size * narrow * uniform(rng, 0.6, 1), np.float32(0.4 + 0.6 * n / count)
            self.leaf(at, self.angle + around(rng, wild), size, width, self.tone() * dark)

    def flowers(self):
        """Petals around a middle, all of one kind."""
        rng = self.rng
        petals, length, narrow = int(rng.integers(4, 14)), self.scale * uniform(rng, 3, 12), uniform(rng, 0.2, 0.6)
        self.rib, middle = uniform(rng, -0.2, 0.2), self.colour()
        for _ in range(int(rng.integers(8, 60))):
            (y, x), size, start, colour = self.point(), uniform(rng, 0.5, 1) * length, uniform(rng, 0, 360), self.tone()
            for n in range(petals):
                angle = start + 360 * n / petals
                (c, s), light = turn(angle), np.float32(uniform(rng, 0.8, 1.1))
                self.leaf((y + s * size, x + c * size), angle, size, size * narrow, colour * light)
            self.rod((y, x), (y + 0.1, x), (size * 0.3, size * 0.3), middle)

    def drops(self):
        """Drops, sparks, berries or pebbles: small discs, most of them tiny."""
        rng = self.rng
        for _ in range(int(rng.integers(60, 500))):
            radius, (y, x) = self.scale * (0.3 + 3 * rng.random() * rng.random() * rng.random()), self.point()
            self.rod((y, x), (y + around(rng, 1), x + around(rng, 1)), (radius, radius), self.tone())


def draw_thicket(rng, size=256):
    """One image, uint8 [size, size, 3]. Args: rng, np.random.Generator; size, side in pixels, 16 to 512."""
    size = whole_number("size", size, 16, TILE)
    place = Thicket(rng, size)
    if rng.random() < 0.4:  # a plain background, dark or bright
        ramp = smooth(0.5 + place.noise(place.soft) * uniform(rng, 0, 0.5))[..., None]
        sky = np.float32(pick(rng, (5, 25, 150, 190))) + 0.15 * place.colour()
        place.pixels = sky + ramp * (place.colour() * 0.2)
    for _ in range(int(rng.integers(0, 3))):
        place.body()
    if rng.random() < 0.5:
        place.blur(uniform(rng, 0, 1) * uniform(rng, 1, 10))
    for n in range(int(rng.integers(1, 5)), -1, -1):
        place.layer(pick(rng, KINDS))
        if n and rng.random() < 0.3:
            place.blur(uniform(rng, 0.3, 4))
    return place.photo(1.4)


def make(folder="data/thickets", seed=0, count=2000, size=256, workers=None):
    """Draw the images into a folder, unless they are there already; see drawn_set.draw_numbered. Returns its Path."""
    return draw_numbered(folder, draw_thicket, VERSION, "drawing thickets", seed, count, size, workers)
