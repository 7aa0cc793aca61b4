"""A hand showing a number, as layers of skin: its skeleton, its poses and how its skin is lit.

A hand is a 2.5D skeleton: tapered capsules, smoothly joined (Quilez, "distance functions", 2D), give a
distance d for the outline and a height h for the shading; folded fingers and thumb are further layers.
The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import math
from itertools import pairwise

import numpy as np

from src.datasets.textures import shifted, smooth, turn, uniform

# Hand units: the palm is 1 wide, the wrist is at (0, 0), the fingers point to +y, the thumb to -x.
# Finger: base x, base y, lengths of the three phalanges, radius at base and tip, direction in degrees.
# fmt: off
FINGERS = (
    (-0.345, 1.18, (0.42, 0.25, 0.17), 0.118, 0.092, 97), (-0.115, 1.25, (0.46, 0.28, 0.18), 0.120, 0.094, 91),
    (0.115, 1.21, (0.43, 0.26, 0.18), 0.114, 0.090, 85), (0.335, 1.07, (0.33, 0.19, 0.16), 0.100, 0.080, 77))
THUMB_RADII = (0.19, 0.145, 0.12, 0.108)  # at the joints, from the wrist to the centre of the tip
THUMB_OUT = ((-0.20, 0.25), (-0.52, 0.56), (-0.82, 0.84), (-1.02, 1.05))
THUMB_ACROSS = ((-0.22, 0.30), (-0.52, 0.66), (-0.27, 0.93), (0.0, 0.97))
PINCH = {0: ((-0.345, 1.18), (-0.50, 1.58), (-0.76, 1.66), (-0.95, 1.55)),
         1: ((-0.115, 1.25), (-0.30, 1.69), (-0.66, 1.79), (-0.97, 1.62)),
         "thumb": ((-0.22, 0.28), (-0.58, 0.68), (-0.84, 1.06), (-0.99, 1.40))}
HOOK = ((-0.345, 1.18), (-0.40, 1.60), (-0.64, 1.72), (-0.77, 1.53))
PALM_LINES = (((-0.42, 0.97), (-0.24, 0.90), (-0.12, 0.66), (-0.11, 0.40), (-0.16, 0.16)),
              ((-0.43, 0.93), (-0.10, 0.80), (0.14, 0.68), (0.30, 0.50)),
              ((0.43, 0.78), (0.22, 0.86), (0.02, 0.97), (-0.10, 1.10)),
              ((-0.28, 0.04), (0.0, 0.01), (0.28, 0.05)))
STRETCHED = {1: (0,), 2: (0, 1), 3: (1, 2, 3), 4: (0, 1, 2, 3), 5: (0, 1, 2, 3), 6: (3,), 7: (0, 1), 8: (0,), 9: (0,),
             10: ()}
TONES = ((243, 207, 184), (234, 190, 162), (224, 174, 142), (204, 152, 116), (176, 124, 90), (146, 98, 70),
         (112, 74, 54), (84, 56, 44))  # of skin, sRGB, chosen by hand
# fmt: on


def smooth_max(a, b, k):
    """max(a, b) with the corner rounded over a width k (polynomial, Quilez)."""
    t = np.clip(0.5 + (a - b) * (0.5 / k), 0, 1)
    return b + (a - b) * t + k * t * (1 - t)


def bell(distance, width):
    """1 at distance 0, falling smoothly to 0: a Gaussian look-alike without exp."""
    q = distance * (1 / width)
    q = 1 / (1 + q * q)
    return q * q


def near(x, y, points, margin):
    """The slices of the image that hold the points and a margin around them, found on a coarse grid."""
    (px, py), x, y = zip(*points), x[::8, ::8], y[::8, ::8]
    inside = (x > min(px) - margin) & (x < max(px) + margin) & (y > min(py) - margin) & (y < max(py) + margin)
    if not inside.any():
        return np.s_[:2, :2]  # outside the image: any small piece will do
    i, j = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return np.s_[8 * i[0] : 8 * i[-1] + 8, 8 * j[0] : 8 * j[-1] + 8]


class Layer:
    """Fields of one piece of skin over a part of the image.

    d, distance to the outline; h, height; red, blood near the surface; dark, creases; nail, distance to the
    nail; pale, 1 on the inside of the hand; fade, where the piece grows out of the one behind it.
    """

    def __init__(self, x, y, points=None):
        self.box = near(x, y, points, 0.4) if points else np.s_[:, :]
        self.x, self.y = x[self.box], y[self.box]
        self.d, self.h, self.nail = (np.full_like(self.x, value) for value in (9, -9, 9))
        self.red, self.dark, self.pale, self.fade = np.zeros_like(self.x), np.zeros_like(self.x), 0.0, 1.0

    def bone(self, a, b, ra, rb, join=0.05, lift=0.0):
        """Join a tapered capsule from a to b; its height is a parabola over the width, negative outside."""
        at = near(self.x, self.y, (a, b), max(ra, rb) + 0.3)
        ux, uy, x, y = b[0] - a[0], b[1] - a[1], self.x[at] - a[0], self.y[at] - a[1]
        t = np.clip((x * ux + y * uy) / (ux * ux + uy * uy), 0, 1)
        x, y, r = x - t * ux, y - t * uy, ra + (rb - ra) * t
        square = x * x + y * y
        self.d[at] = -smooth_max(-self.d[at], r - np.sqrt(square), join)
        self.h[at] = smooth_max(self.h[at], r - square / r + lift, join)
        return self

    def crease(self, points, width, depth):
        """A dark line through the points."""
        line = Layer(self.x, self.y, points)
        for a, b in pairwise(points):
            line.bone(a, b, 0.001, 0.001, 0.001)
        self.dark[line.box] = np.maximum(self.dark[line.box], bell(line.d, width) * depth)

    def finger(self, joints, radii, rng, nail=0.0):
        """Bones through the joints, wrinkles across them, a red tip and, where it faces us, a nail."""
        for a, b, ra, r in zip(joints, joints[1:], radii, radii[1:]):
            self.bone(a, b, ra, r, 0.03)
            ux, uy, x, y = b[0] - a[0], b[1] - a[1], self.x - b[0], self.y - b[1]
            length = math.sqrt(ux * ux + uy * uy)
            ux, uy = ux / length, uy / length
            along, across = x * ux + y * uy, y * ux - x * uy
            if b is joints[-1]:
                break
            for _ in range(2 + int(rng.integers(2))):
                off, bend = uniform(rng, -0.4, 0.4) * r, uniform(rng, -0.2, 0.3) / r
                mark = bell(along - off + bend * across * across, 0.011) * smooth(1.15 - np.abs(across) / r)
                self.dark = np.maximum(self.dark, mark * uniform(rng, 0.4, 1))
            self.red = np.maximum(self.red, 0.5 * bell(x * x + y * y, r * r))
        self.red = np.maximum(self.red, smooth(along / r + 0.7))
        if nail:
            p = np.maximum(np.abs(along - 0.1 * r) - nail * 0.5 * r, 0)
            q = np.maximum(np.abs(across) - 0.3 * r, 0)
            self.nail = np.sqrt(p * p + q * q) - 0.36 * r
        return self


def stretched(finger, angle, bend):
    """The joints of a finger that points in this direction, each phalanx turned further by the bend."""
    x, y, lengths, *_ = FINGERS[finger]
    joints = [(x, y)]
    for n, length in enumerate(lengths):
        c, s = turn(angle + n * bend)
        joints.append((joints[-1][0] + length * c, joints[-1][1] + length * s))
    return joints


def moved(rng, points, size):
    """The points, all but the first moved at random by up to `size`."""
    return [points[0]] + [(px + uniform(rng, -size, size), py + uniform(rng, -size, size)) for px, py in points[1:]]


def pose(number, arm, owner, rng, x, y):
    """The layers of a hand showing `number`, back to front.

    arm: where the arm comes from; owner, rng: generators of what a person keeps and of what a shot changes;
    x, y: pixels in hand units, float32 [H, W].
    """
    back, other_way = number not in (7, 9) and owner.random() < 0.3, owner.random() < 0.4
    up = (0, 1, 2) if other_way and number == 3 else STRETCHED[number]
    crossed = other_way and number == 10
    if crossed:
        up = (0, 1)
    spread = uniform(rng, 0.9, 1.5) if number == 2 else uniform(rng, 0.2, 1.3)
    palm = draw_palm(rng, arm, back, x, y)
    layers, digits = [], []  # in front of the palm; melting into it
    for i in range(len(FINGERS)):
        if i in up:
            one = stretched_finger(rng, i, number, spread, crossed, back, x, y)
            (layers if number == 7 or crossed else digits).append(one)
        elif back:
            digits.append(folded_from_behind(rng, i, x, y))
        else:
            layers.append(folded_from_the_front(rng, i, x, y))
    if number == 7:
        layers[:2] = layers[1::-1]  # the forefinger is in front of the middle finger
    joints = THUMB_OUT if number in (5, 6, 8) else PINCH["thumb"] if number == 7 else THUMB_ACROSS
    joints = moved(rng, joints, 0.04)
    thumb = Layer(x, y, joints).finger(joints, THUMB_RADII, rng, nail=0.0 if number == 7 else 0.9)
    if number in (5, 6, 8):
        digits.append(thumb)
    else:  # it grows out of its ball, part of the palm
        (ax, ay), (bx, by) = joints[:2]
        ux, uy = bx - ax, by - ay
        along = ((thumb.x - ax) * ux + (thumb.y - ay) * uy) / (ux * ux + uy * uy)
        thumb.fade = smooth(along * 1.4 - 0.1)
        layers.insert(0, thumb) if back else layers.append(thumb)
    join(palm, digits)
    behind = 1 if back else 0  # from behind, the folded thumb is on the far side
    return layers[:behind] + [palm] + layers[behind:]


def draw_palm(rng, arm, back, x, y):
    """Arm and palm, with sinews and knuckles or with the lines of the inside."""
    palm = Layer(x, y).bone((arm, -3), (0, 0.15), 0.47, 0.33, 0.1)
    for fx, fy, *_ in FINGERS:
        palm.bone((fx * 0.7, 0.28), (fx, fy - 0.13), 0.20, 0.165 if fx < 0.3 else 0.14, 0.12)
    palm.bone((-0.2, 0.28), (-0.36, 0.62), 0.22, 0.19, 0.12, 0.03).bone((0.22, 0.3), (0.33, 0.72), 0.2, 0.17, 0.12)
    if back:
        for fx, fy, *_ in FINGERS:
            palm.bone((fx * 0.45, 0.3), (fx, fy - 0.25), 0.02, 0.04, 0.12, 0.135)
            palm.bone((fx * 0.98, fy - 0.22), (fx, fy - 0.17), 0.1, 0.1, 0.09, 0.10)
            px, py = x - fx, y - fy + 0.2
            palm.red = np.maximum(palm.red, 0.6 * bell(px * px + py * py, 0.014))
    else:
        palm.pale = smooth(y / 0.3 + 0.5)
        for line in PALM_LINES:
            palm.crease(moved(rng, line, 0.02), 0.013, uniform(rng, 0.4, 0.8))
    return palm


def stretched_finger(rng, i, number, spread, crossed, back, x, y):
    """The layer of finger i, straight but for the 7 and the 9."""
    *_, r, tip, angle = FINGERS[i]
    joints = stretched(i, 90 + (angle - 90) * spread + uniform(rng, -3, 3), uniform(rng, -5, 5))
    if crossed:
        joints = stretched(i, (75, 106)[i] + uniform(rng, -3, 3), 0)
    if number == 7:
        joints = moved(rng, PINCH[i], 0.015)
    if number == 9:
        joints = moved(rng, HOOK, 0.025)
    one = Layer(x, y, joints).finger(joints, (r, r, r * 0.92, tip), rng, nail=back)
    one.pale = 1.0 - back
    return one


def folded_from_behind(rng, i, x, y):
    """Of a folded finger one sees the first phalanx, foreshortened."""
    bx, by, _, r, *_ = FINGERS[i]
    joints = (bx, by - 0.2), (bx * 1.02, by - 0.02 + uniform(rng, 0, 0.05))
    return Layer(x, y, joints).bone(*joints, 0.115, r, 0.03)


def folded_from_the_front(rng, i, x, y):
    """Of a folded finger one sees the other two phalanges, the nail on the palm."""
    bx, by, _, r, *_ = FINGERS[i]
    top = (bx * 0.97, by + uniform(rng, 0.05, 0.12))
    end = (bx * 0.82 - 0.03, by - uniform(rng, 0.36, 0.44) * (0.8 if i == 3 else 1))
    joints = (top, (top[0] * 0.45 + end[0] * 0.55, top[1] * 0.45 + end[1] * 0.55), end)
    return Layer(x, y, joints).finger(joints, (r * 1.12, r * 1.06, r * 0.9), rng, nail=0.7)


def join(palm, digits):
    """Melt stretched digits into the palm, but not into each other: there they shade each other."""
    d, h, others = palm.d.copy(), palm.h.copy(), np.full_like(palm.x, 9)
    for one in digits:
        at = one.box
        between = smooth(1 - np.maximum(one.d, others[at]) / 0.035) * smooth(one.y * 4 - 4.6)
        palm.dark[at] = np.maximum(palm.dark[at], between)
        others[at] = np.minimum(others[at], one.d)
        d[at] = np.minimum(d[at], -smooth_max(-palm.d[at], -one.d, 0.07))
        h[at] = np.maximum(h[at], smooth_max(palm.h[at], one.h + 0.03, 0.08))
        palm.red[at] = np.maximum(palm.red[at], one.red * (one.d < 0.03))
        palm.dark[at] = np.maximum(palm.dark[at], one.dark * (one.d < 0.02))
        palm.nail[at] = np.minimum(palm.nail[at], one.nail)
    palm.d, palm.h = d, h


def shade(layer, pixel, light, tone, noise):
    """Linear light float32 [h, w, 3] of a layer of skin: soft diffuse light, deeper in red, and a faint gloss.

    pixel, the side of a pixel in hand units; light, (x, y, z towards the lamp, red, green, blue); tone, the
    linear albedo [3]; noise, (mottle, grain) over the whole image.
    """
    mottle, grain = noise[0][layer.box], noise[1][layer.box]
    h = layer.h - 0.011 * layer.dark + 0.0006 * grain
    nail = smooth(0.5 - layer.nail / (2 * pixel))
    gx, gy = np.zeros_like(h), np.zeros_like(h)
    gx[:, 1:-1], gy[1:-1] = (h[:, 2:] - h[:, :-2]) * (0.5 / pixel), (h[2:] - h[:-2]) * (0.5 / pixel)
    norm = 1 / np.sqrt(gx * gx + gy * gy + 1)  # the normal is (-gx, -gy, 1) * norm
    lx, ly, lz = light[:3]
    facing = (lz - gx * lx - gy * ly) * norm
    size = math.sqrt(lx * lx + ly * ly + (lz + 1) * (lz + 1))
    gloss = 1 / (1 + 14 * np.clip(1 - (lz + 1 - gx * lx - gy * ly) * norm / size, 0, 2))
    gloss = gloss * gloss * gloss * (0.035 + 0.015 * mottle + 0.15 * nail)
    sky = (0.2 + 0.05 * gy * norm) * (1 - 0.35 * smooth(1 + layer.d / 0.06))  # less where the skin turns away
    out = np.empty(h.shape + (3,), np.float32)
    channels = (0.55, 0.02, 0.28, 0.62), (0.32, 0.2, 0.42, 0.40), (0.25, 0.22, 0.46, 0.31)
    for k, (wrap, red, crease, pale) in enumerate(channels):
        albedo = tone[k] + (0.4 * layer.pale) * np.maximum(pale - tone[k], 0)
        albedo = albedo * (1 + 0.04 * mottle * (0.5 + 3 * red)) * (1 - red * layer.red) * (1 - crease * layer.dark)
        albedo = albedo + nail * (0.15 + 0.25 * tone[k] - 0.04 * (k > 0))
        lit = np.clip((facing + wrap) * (1 / (1 + wrap)), 0, 1)
        out[..., k] = albedo * (sky + 0.95 * light[3 + k] * lit * lit) + gloss
    return out * (1 - 0.4 * bell(layer.nail, 2 * pixel))[..., None]


def paint(layers, scale, drop, light, tone, noise):
    """Lay the layers over one another, back to front: linear light float32 [H, W, 3] and cover [H, W] in [0, 1].

    scale, pixels in a hand unit; drop, (down, right) in pixels, where a layer's shadow falls; the rest as in shade.
    """
    cover = np.zeros_like(noise[0])
    colour = np.zeros(cover.shape + (3,), np.float32)
    for layer in layers:
        view, at = colour[layer.box], layer.box
        alpha = np.clip(0.5 - layer.d * scale, 0, 1) * layer.fade
        dark = smooth(1 - np.maximum(shifted(layer.d, *drop), -0.02) / 0.09)
        dark = np.maximum(dark, 0.8 * smooth(1 - layer.d / 0.04)) * layer.fade  # the shadow on what is behind
        view *= 1 - dark[..., None] * np.array((0.45, 0.55, 0.58), np.float32)
        cover[at] = alpha + cover[at] * (1 - alpha)
        share = alpha / np.maximum(cover[at], 1e-6)
        view += (shade(layer, 1 / scale, light, tone, noise) - view) * share[..., None]
    return colour, cover
