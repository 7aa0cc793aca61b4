"""Things that are no hand, drawn as cut-outs, and pages of text: what a hand finder must leave alone.

    thing = draw_thing(np.random.default_rng(7), size=128)     # uint8 [128, 128, 5]; the last channel is 0

Faces, animals, arms, food, tools, branches and lumps are made of the capsules and the shading of hands.py, many in the
colours of skin: a hand must be known by its shape. The same seed gives the same bytes on every machine: see textures.py
for the rules that ensure it.
"""

import numpy as np

from src.datasets.finger_numbers import draw_hand, draw_person, skin_noise
from src.datasets.hands import TONES, Layer, paint
from src.datasets.textures import GREENS, MATERIALS, WOODS, half, pick, pink_noise, smooth, turn, uniform
from src.files import whole_number

UNIT = 3.2  # units of the drawing along the image's side
FURS = ((60, 44, 34), (120, 84, 54), (176, 128, 84), (206, 170, 130), (232, 220, 204), (128, 124, 120), (40, 38, 38))
FOODS = ((214, 60, 40), (236, 190, 60), (224, 140, 60), (150, 180, 70), (196, 140, 84), (224, 186, 140), (150, 90, 60))


def draw_thing(rng, size=128):
    """A thing that is no hand: uint8 [size, size, 5], RGB, cover, and 0 as the mask of a hand.

    Args: rng, np.random.Generator; size, side in pixels, 16 to 512.
    """
    size = whole_number("size", size, 16, 512)
    side = 2 * size
    scale = side / UNIT
    (c, s), mirror = turn(uniform(rng, -50, 50)), pick(rng, (-1, 1))
    dx = (np.arange(side, dtype=np.float32)[None] - 0.5 * side) * (mirror / scale)
    dy = (0.5 * side - np.arange(side, dtype=np.float32)[:, None]) / scale
    x, y = dx * c + dy * s, dy * c - dx * s
    groups = pick(rng, (face, face, animal, animal_face, arm, arm, prongs, prongs, food, branch, lump, lump))(rng, x, y)
    light = any_light(rng)[1]
    mottle, grain = skin_noise(rng, side)
    rough = pick(rng, (1, 1, 3, 10))
    noise = mottle * rough, grain * (rough * 2)
    colour, cover = np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.float32)
    drop = round(-light[1] * 0.05 * scale), round(-light[0] * 0.05 * scale)
    for tone, layers in groups:
        front, alpha = paint(layers, scale, drop, light, tone, noise)
        cover = alpha + cover * (1 - alpha)
        colour += (np.sqrt(np.clip(front, 0, 1)) - colour) * alpha[..., None]
    return cut_out(half(colour * 255), half(cover), np.zeros((size, size), np.float32))


def draw_hand_cut_out(rng, size=128, any_pose=False, grip=False):
    """A hand with its arm or sleeve: uint8 [size, size, 5], RGB, cover of all of it, and cover of the skin alone.

    any_pose: in any pose from any side (hand_poses.py) instead of one of the ten numbers. grip: thumb and fingers form
    a ring, seen from the side.
    """
    size = whole_number("size", size, 16, 2048)
    person, number = draw_person(rng), 0 if grip else None if any_pose else 1 + int(rng.integers(10))
    colour, cover, skin, _ = draw_hand(rng, number, person, rng, size, any_light)
    return cut_out(colour / np.maximum(cover, 1 / 255)[..., None], cover, skin)


def cut_out(colour, cover, skin):
    """uint8 [H, W, 5] of a colour in 0..255, and of cover and skin in [0, 1]."""
    channels = np.concatenate([colour, cover[..., None] * 255, skin[..., None] * 255], axis=2)
    return (np.clip(channels, 0, 255) + 0.5).astype(np.uint8)


def any_light(rng, lamp=None):
    """As finger_numbers.draw_light, from all sides, flatter or steeper, dimmer, brighter and in more colours."""
    lx, ly = turn(uniform(rng, 0, 360))
    tilt = uniform(rng, 0.25, 2.0)
    norm = np.float32(1 / np.sqrt(1 + tilt * tilt))
    warm, gain = uniform(rng, -0.15, 0.25), uniform(rng, 0.5, 1.4)
    light = lx * norm, ly * norm, tilt * norm, gain * (1 + warm), gain, gain * (1 - warm)
    return (lx, ly), [float(v) for v in light]


def tone_of(rng, *palettes):
    """Linear albedo float32 [3] of one colour of the palettes, jittered; those of skin are among them all."""
    colour = np.array(pick(rng, pick(rng, (TONES, *palettes))), np.float32) / 255
    colour = np.minimum(colour * (0.85 + 0.25 * rng.random(3, dtype=np.float32)), 1)
    return colour * colour


def spot(x, y, at, radius, long=1.001):
    """A layer that is a small round or lying shape."""
    px, py = at
    return Layer(x, y, (at,)).bone((px - (long - 1) * radius, py), (px + (long - 1) * radius, py), radius, radius)


def face(rng, x, y):
    """A head with hair, eyes, brows, nose and mouth, on a neck or on shoulders in cloth."""
    skin, hair, cloth = tone_of(rng), tone_of(rng, FURS), tone_of(rng, MATERIALS)
    wide, turned = uniform(rng, 0.5, 0.75), uniform(rng, -0.25, 0.25)
    head = Layer(x, y).bone((0, -0.35), (0, 0.4), wide * uniform(rng, 0.6, 0.85), wide)
    head.bone((0, -0.4), (0, -3), 0.36, 0.36, 0.1)
    for ear in (-1, 1):
        head.bone((ear * wide, 0.1), (ear * wide, 0.25), 0.09, 0.12, 0.05)
    head.bone((turned, 0.35), (turned * 1.3, 0.02), 0.05, 0.13, 0.12, wide - 0.02)  # nose
    mouth, broad = -0.32 + uniform(rng, -0.05, 0.05), uniform(rng, 0.15, 0.28)
    head.crease(((turned - broad, mouth), (turned, mouth - uniform(rng, -0.05, 0.1)), (turned + broad, mouth)), 0.03, 1)
    eyes, whites = [], []
    for sign in (-1, 1):
        at = turned + sign * uniform(rng, 0.2, 0.28), 0.28
        head.crease(((at[0] - 0.14, 0.44), (at[0], 0.48), (at[0] + 0.14, 0.44)), 0.03, 1)
        whites.append(spot(x, y, at, 0.06, 2))
        eyes.append(spot(x, y, at, 0.055))
    head.red = np.maximum(head.red, 0.5 * smooth(1 - np.abs(y + 0.05)))
    top = Layer(x, y).bone((0, 0.35), (0, 0.75), wide + 0.12, wide * 0.8).bone((-wide, 0.3), (-wide, -0.4), 0.2, 0.1)
    top.bone((wide, 0.3), (wide, -uniform(rng, 0, 1)), 0.2, 0.1)
    fringe = Layer(x, y).bone((-0.5, 0.85), (0.5, uniform(rng, 0.7, 0.95)), 0.25, 0.25)
    body = Layer(x, y).bone((-0.9, -1.5), (0.9, -1.5), 0.45, 0.45).bone((0, -1.4), (0, -3), 0.9, 1.0)
    bald = [] if rng.random() < 0.2 else [(hair, [top])]
    parts = [*bald, (skin, [head]), (np.full(3, 0.75, np.float32), whites), (np.full(3, 0.02, np.float32), eyes)]
    return parts + ([(hair, [fringe])] if bald and rng.random() < 0.8 else []) + [(cloth, [body])][: rng.integers(2)]


def animal(rng, x, y):
    """A body on four legs with neck, head, ears and tail."""
    fur, long, thick, legs = tone_of(rng, FURS), uniform(rng, 0.4, 0.8), uniform(rng, 0.2, 0.42), uniform(rng, 0.3, 0.9)
    body = Layer(x, y).bone((-long, 0), (long, 0.05), thick, thick * uniform(rng, 0.7, 1))
    behind = Layer(x, y)
    for at in (-long, long):
        for part, off in ((body, 0.08), (behind, -0.12)):
            foot = at + off + uniform(rng, -0.25, 0.25), -thick - legs
            part.bone((at + off, -0.1), foot, thick * 0.4, uniform(rng, 0.05, 0.1), 0.15)
    head = long + uniform(rng, 0.1, 0.5), uniform(rng, 0.1, 0.7)
    body.bone((long, 0.05), head, thick * 0.6, thick * 0.5, 0.15)
    body.bone(head, (head[0] + uniform(rng, 0.1, 0.4), head[1] - 0.1), thick * 0.55, thick * 0.3, 0.1)
    body.bone((head[0] - 0.1, head[1] + 0.1), (head[0] - 0.15, head[1] + thick), 0.08, 0.04)
    body.bone((-long, 0.1), (-long - uniform(rng, 0.2, 0.7), uniform(rng, -0.5, 0.6)), 0.1, 0.04)
    eye = spot(x, y, (head[0] + 0.05, head[1] + 0.05), 0.03)
    return [(fur, [behind, body]), (np.full(3, 0.02, np.float32), [eye])]


def animal_face(rng, x, y):
    """A round head with two pointed or hanging ears, eyes and a snout, as of a cat, a dog or a bear."""
    fur, wide, ear = tone_of(rng, FURS, FURS), uniform(rng, 0.55, 0.8), uniform(rng, 0.5, 1.3)
    head = Layer(x, y).bone((-0.15, 0), (0.15, 0), wide, wide).bone((0, -0.2), (0, -3), wide * 0.8, wide * 1.3, 0.2)
    for sign in (-1, 1):
        head.bone((sign * wide * 0.7, 0.4), (sign * wide * uniform(rng, 0.7, 1.3), ear), 0.28, 0.03, 0.05)
    snout = spot(x, y, (0, -0.25), uniform(rng, 0.15, 0.3), 1.4)
    eyes = [spot(x, y, (sign * 0.3, 0.12), uniform(rng, 0.07, 0.12)) for sign in (-1, 1)]
    nose = [spot(x, y, (0, -0.15), 0.08, 1.5)]
    dark, iris = np.full(3, 0.02, np.float32), tone_of(rng, FOODS)
    return [(fur, [head]), (tone_of(rng, FURS), [snout]), (iris, eyes), (dark, nose + [spot(x, y, (0.3, 0.12), 0.04)])]


def arm(rng, x, y):
    """One to three long pieces in skin that end out of sight or in nothing: arms, legs, a torso."""
    skin, layers = tone_of(rng), []
    for _ in range(int(rng.integers(1, 4))):
        at, bend = (uniform(rng, -0.8, 0.8), 3 * pick(rng, (0, 1)) - 1.5), uniform(rng, -0.9, 0.9)
        knee, thick = (at[0] + bend, uniform(rng, -0.4, 0.4)), uniform(rng, 0.15, 0.45)
        end = knee[0] + uniform(rng, -0.9, 0.9), -at[1] * uniform(rng, 0.4, 2)
        one = Layer(x, y).bone((at[0], 2 * at[1]), knee, thick, thick * 0.8, 0.1)
        layers.append(one.bone(knee, end, thick * 0.85, thick * uniform(rng, 0.4, 0.9), 0.1))
    return [(skin, layers)]


def prongs(rng, x, y):
    """Two to nine bars beside each other: forks, rakes, combs, pencils, candles, carrots, sausages, folds of cloth."""
    tone, count, fan = tone_of(rng, MATERIALS, FOODS), int(rng.integers(2, 10)), uniform(rng, 0, 12)
    gap, thick = uniform(rng, 0.12, 0.4), uniform(rng, 0.35, 1.05)
    alone, even = rng.random() < 0.4, pick(rng, (0, 0, 0.4))
    base, layers = Layer(x, y), []
    for i in range(count):
        at, r = (i - (count - 1) / 2) * gap, gap * 0.5 * thick
        (c, s), long = turn(90 - (i - (count - 1) / 2) * fan), uniform(rng, 0.9 - even, 1 + even) * 1.3
        one = Layer(x, y) if alone else base
        one.bone((at, -0.3), (at + long * c, -0.3 + long * s), r, r * uniform(rng, 0.5, 1), 0.02)
        layers += [one] if alone else []
    if not alone:
        half_wide = (count - 1) / 2 * gap
        base.bone((-half_wide, -0.3), (half_wide, -0.3), gap * 0.5, gap * 0.5, 0.03)
        base.bone((0, -0.3), (0, -3), gap * 0.5, gap * uniform(rng, 0.3, 0.8), 0.05)
    return [(tone, layers or [base])]


def food(rng, x, y):
    """Balls, loaves and bent fruit in a heap."""
    parts = []
    for _ in range(int(rng.integers(1, 8))):
        at, r, long = (uniform(rng, -0.8, 0.8), uniform(rng, -0.8, 0.8)), uniform(rng, 0.15, 0.6), uniform(rng, 0, 0.8)
        (c, s), bend = turn(uniform(rng, 0, 360)), uniform(rng, -0.3, 0.3) * long
        a, b = (at[0] - c * long, at[1] - s * long), (at[0] + c * long, at[1] + s * long)
        middle = at[0] - s * bend, at[1] + c * bend
        parts.append((tone_of(rng, FOODS), [Layer(x, y).bone(a, middle, r * 0.8, r).bone(middle, b, r, r * 0.8, 0.1)]))
    return parts


def branch(rng, x, y):
    """A stem with twigs or leaves to both sides: branches, coral, antlers, cactuses, ferns."""
    tone, one = tone_of(rng, [MATERIALS[i] for i in WOODS + GREENS]), Layer(x, y)
    (at, direction), thick = ((0.0, -1.6), 90.0), uniform(rng, 0.06, 0.22)
    for _ in range(int(rng.integers(2, 6))):
        direction += uniform(rng, -25, 25)
        c, s = turn(direction)
        to = at[0] + 0.6 * c, at[1] + 0.6 * s
        one.bone(at, to, thick, thick * 0.85, 0.05)
        for sign in (-1, 1):
            (c, s), long = turn(direction + sign * uniform(rng, 20, 80)), uniform(rng, 0.2, 1.0)
            one.bone(to, (to[0] + long * c, to[1] + long * s), thick * 0.7, thick * uniform(rng, 0.3, 0.9), 0.05)
        at, thick = to, thick * 0.8
    return [(tone, [one])]


def lump(rng, x, y):
    """Some pieces of any size joined in any way, mostly in skin: a body in an odd posture, dough, clay, roots."""
    tone, at = tone_of(rng, FOODS), (uniform(rng, -0.6, 0.6), uniform(rng, -0.6, 0.6))
    one, r = Layer(x, y), uniform(rng, 0.15, 0.6)
    for _ in range(int(rng.integers(1, 7))):
        to, then = (uniform(rng, -1.1, 1.1), uniform(rng, -1.1, 1.1)), uniform(rng, 0.1, 0.6)
        one.bone(at, to, r, then, uniform(rng, 0.05, 0.25))
        at, r = to, then
    one.red = np.maximum(one.red, 0.3 * smooth(x + 0.5))
    return [(tone, [one])]


def draw_page(rng, size=128):
    """Lines of text on paper, now and then with a picture, uint8 [size, size, 3]."""
    size = whole_number("size", size, 16, 512)
    side = 2 * size
    paper = np.array(pick(rng, ((246, 244, 238), (255, 255, 255), (236, 226, 204), (216, 212, 206))), np.float32)
    slope = 1 + uniform(rng, -0.15, 0.15) * (np.arange(side, dtype=np.float32) / side - 0.5)
    page = paper * (uniform(rng, 0.75, 1) * slope)[:, None, None] * np.ones((1, side, 1), np.float32)
    margin, high, columns = uniform(rng, 0.02, 0.12) * side, uniform(rng, 3, 12), pick(rng, (1, 1, 2))
    ink = uniform(rng, 0.1, 0.5)
    wide = (side - margin) / columns
    lines = np.arange(margin, side - margin - high, high * uniform(rng, 1.3, 2.2))
    for top in lines.tolist():
        for column in range(columns):
            x, end = margin + column * wide, margin + column * wide + (wide - margin) * pick(rng, (1, 1, 1, 0.6, 0.2))
            while x < end and rng.random() < 0.98:
                word = high * uniform(rng, 0.8, 5)
                rows, places = slice(int(top), int(top + high)), slice(int(x), int(min(x + word, end)))
                strokes = rng.random((page[rows].shape[0], page[0, places].shape[0], 1)) < 0.55
                page[rows, places] *= np.where(strokes, np.float32(ink), np.float32(1))
                x += word + high * 0.6
    if rng.random() < 0.3:
        high, wide = int(uniform(rng, 0.15, 0.5) * side), int(uniform(rng, 0.2, 0.9) * side)
        top, left = int(rng.integers(side - high)), int(rng.integers(side - wide))
        patch = pink_noise(rng)[:high, :wide, None] if side <= 512 else np.zeros((1, 1, 1), np.float32)
        colour = pick(rng, MATERIALS) * (1 + 0.3 * patch)
        page[top : top + high, left : left + wide] = colour
    return (np.clip(half(page), 0, 255) + 0.5).astype(np.uint8)
