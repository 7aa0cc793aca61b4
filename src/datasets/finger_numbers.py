"""The default data set: 300 images of a hand showing 1 to 10 the Chinese way, drawn by code, without any photo.

    python -m src.datasets finger_numbers   # writes data/finger_numbers/<yi ... shi>/scene00_0.png ...

Ten scenes a class, three shots a scene. A scene is one room and one person (the *group*, listed in groups.csv);
its shots differ in pose, angle, framing and light. The hand (hands.py), often in a sleeve, stands in front of a
room (scenes.py) and casts its shadow on it.
The same seed gives the same bytes on every machine: see textures.py for the rules that ensure it.
"""

import functools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from src.datasets.drawn_set import draw_set, save_png
from src.datasets.hand_poses import any_pose
from src.datasets.hands import TONES, paint, pose
from src.datasets.scenes import draw_scene
from src.datasets.textures import (
    MATERIALS,
    TILE,
    half,
    pick,
    pink_noise,
    sharpen,
    shifted,
    smooth,
    turn,
    uniform,
    value_noise,
    window,
)
from src.files import whole_number

CLASSES = ("yi", "er", "san", "si", "wu", "liu", "qi", "ba", "jiu", "shi")
VERSION = 2  # raise it whenever a change alters a pixel


class Person(NamedTuple):
    """What the shots of one scene have in common, besides the room."""

    tone: np.ndarray  # of the skin, linear light [3]
    mirror: int  # -1: the other hand
    lean: float  # of the arm, in degrees
    lamp: float  # direction towards it, in degrees
    has_sleeve: bool
    cuff: float  # height of the sleeve's end, in hand units
    cloth: np.ndarray  # colour of the sleeve [3]
    distance: float  # from the hand to what is behind it: 0 close, 1 far


def draw_person(rng):
    """A Person, drawn from a generator."""
    tone = np.array(pick(rng, TONES), np.float32) * (0.94 + 0.1 * rng.random(3, dtype=np.float32)) / 255
    return Person(
        tone=tone * tone,  # linear light; the square root at the end undoes it: a gamma of 2, exactly rounded
        mirror=1 if rng.random() < 0.5 else -1,
        lean=uniform(rng, -35, 35),
        lamp=uniform(rng, 200, 340),
        has_sleeve=rng.random() < 0.65,
        cuff=uniform(rng, -0.75, -0.2),
        cloth=pick(rng, MATERIALS) / 255,
        distance=rng.random(),
    )


@functools.lru_cache(maxsize=1)  # the three shots of a scene are drawn one after the other
def draw_room(number, scene, seed, size):
    """The room behind the hand, wider than the image so that the camera can move, uint8 [W, W, 3]."""
    rng = np.random.default_rng([seed, number, scene, 0])
    room, focus = rng.random() < 0.9, max(0.0, uniform(rng, -0.1, 0.5))
    # At arm's length behind a hand, walls and tables show little of their texture (PROGRESS.md).
    return draw_scene(rng, round(1.3 * size), room, focus, texture=0.2, litter=0.7)


def draw(number, scene, shot, seed=0, size=224):
    """One image of a hand showing a number.

    Args: number, 1..10, the class; scene, >= 0, which room, person and way of showing the number; shot,
    >= 0, pose, framing and light within that scene; seed, >= 0, of the whole set; size, side in pixels.
    Returns: image, uint8 [size, size, 3], RGB; mask, bool [size, size], where skin covers half a pixel.
    Raises ValueError for arguments outside these ranges.
    """
    number, scene = whole_number("number", number, 1, 10), whole_number("scene", scene, 0, 2**31)
    shot, seed = whole_number("shot", shot, 0, 2**31), whole_number("seed", seed, 0, 2**63)
    size = whole_number("size", size, 16, 2048)
    # Seed lists are padded with zeros: [seed, number, scene] is the room's stream, so shots count from 1.
    person = draw_person(np.random.default_rng([seed, number, scene, 0, 1]))
    rng = np.random.default_rng([seed, number, scene, shot + 1])
    owner = np.random.default_rng([seed, number, scene, 0, 2])
    colour, cover, skin, lamp = draw_hand(rng, number, person, owner, size)

    image = lit_room(rng, draw_room(number, scene, seed, size), cover, person.distance, lamp)
    image = sharpen(image * (1 - cover)[..., None] + colour, uniform(rng, 0.7, 1.7))
    return (np.clip(image, 0, 255) + 0.5).astype(np.uint8), skin >= 0.5


def draw_hand(rng, number, person, owner, size, light_of=None):
    """The hand alone, with its sleeve: colour times cover, float32 [size, size, 3] in 0..255; cover and skin in [0, 1],
    float32 [size, size]; (x, y) towards the lamp.

    number: 1..10, 0 for a grip from the side, or None for any pose from any side (hand_poses.py)
    rng, owner: generators of what a shot changes and of what a person keeps; light_of: as draw_light, the default.
    """
    side = 2 * size  # drawn at twice the size, then averaged 2 x 2
    scale = uniform(rng, 0.27, 0.36) * side  # pixels in a hand unit
    x, y = hand_coordinates(rng, person, scale, side)
    arm = uniform(rng, -0.3, 0.3)
    layers = pose(number, arm, owner, rng, x, y) if number else any_pose(arm, rng, x, y, grip=number == 0)
    lamp, light = (light_of or draw_light)(rng, person.lamp)
    noise = skin_noise(rng, side)
    drop = round(0.05 * scale)
    colour, cover = paint(layers, scale, (round(-lamp[1] * drop), round(-lamp[0] * drop)), light, person.tone, noise)
    skin = cover
    if person.has_sleeve:
        colour, cover, skin = add_sleeve(colour, cover, person, x, y, arm, scale, lamp, light, noise)
    colour = np.sqrt(np.clip(colour, 0, 1)) * (255 * cover)[..., None]
    return half(colour), half(cover), half(skin), lamp


def skin_noise(rng, side):
    """(mottle, grain) for hands.paint, float32 [side, side] each."""
    mottle, fine = pink_noise(rng, 2, 64, falloff=0.85), value_noise(rng, 2, 2) + value_noise(rng, 4, 4)
    wrap = np.arange(side) & (TILE - 1)
    return mottle[wrap][:, wrap], fine[wrap][:, wrap]


def hand_coordinates(rng, person, scale, side):
    """x, y of every pixel in hand units, float32 [side, side] each, for a random framing."""
    pixel = 1 / scale
    c, s = turn(person.lean + uniform(rng, -10, 10))
    # the palm's middle is the pivot
    low_x, low_y = 0.05 * person.mirror * scale, (1.05 + uniform(rng, -0.1, 0.1)) * scale
    dx = np.arange(side, dtype=np.float32)[None] - (0.5 + uniform(rng, -0.08, 0.08)) * side - low_x
    dy = np.arange(side, dtype=np.float32)[:, None] - (0.52 + uniform(rng, -0.06, 0.06)) * side
    return (dx * c + dy * s) * (person.mirror * pixel), (low_y - (dy * c - dx * s)) * pixel


def draw_light(rng, lamp):
    """(x, y) towards the lamp in the image plane, and the light as hands.shade takes it."""
    lx, ly = turn(lamp + uniform(rng, -15, 15))
    tilt = uniform(rng, 0.6, 1.3)
    norm = math.sqrt(1 + tilt * tilt)
    warm, gain = uniform(rng, -0.06, 0.12), uniform(rng, 0.85, 1.15)
    light = lx / norm, ly / norm, tilt / norm, gain * (1 + warm), gain, gain * (1 - warm)
    return (lx, ly), [float(v) for v in light]


def add_sleeve(colour, cover, person, x, y, arm, scale, lamp, light, noise):
    """Lay a sleeve over the arm: colour and cover with it, and cover of the skin that is left."""
    across = x - (0.15 - y) * (arm / 3.15)
    edge = np.maximum(np.abs(across) - 0.43 + 0.012 * noise[0] + 0.05 * y, y - person.cuff + 0.006 * noise[0])
    alpha = np.clip(0.5 - edge * scale, 0, 1)
    weave = 1 + 0.05 * noise[1] + 0.08 * noise[0]
    q = across / 0.5 - lamp[0] * person.mirror * 0.4
    shade = weave * (1.05 - 0.7 * q * q) * (0.75 + 0.25 * smooth((person.cuff - y) / 0.05))
    body = shade[..., None] * (person.cloth * person.cloth)
    colour *= 1 - 0.5 * smooth(1 - edge / 0.08)[..., None]
    cover, skin = alpha + cover * (1 - alpha), cover * (1 - alpha)
    weight = alpha / np.maximum(cover, 1e-6)
    colour += (body * np.array(light[3:], np.float32) - colour) * weight[..., None]
    return colour, cover, skin


def lit_room(rng, room, cover, distance, lamp):
    """The part of the room that the camera sees, float32 [size, size, 3], with the shadow of the hand on it."""
    size = len(cover)
    step, spare = uniform(rng, 1.02, 1.18), len(room) - 2
    free = max(0.0, spare - step * size)
    pixels = window(room, free * rng.random(), free * rng.random(), step, size) * uniform(rng, 0.85, 1.1)
    # The shadow is the hand's outline, moved away from the lamp and blurred with the distance.
    blur = max(1, round((0.01 + 0.05 * distance) * size))
    shadow = Image.fromarray((cover * 255 + 0.5).astype(np.uint8))
    for _ in range(3):
        shadow = shadow.filter(ImageFilter.BoxBlur(blur))
    away = (0.03 + 0.12 * distance) * size
    shadow = shifted(np.asarray(shadow).astype(np.float32), round(-lamp[1] * away), round(-lamp[0] * away)) / 255
    pixels *= (1 - (0.6 - 0.35 * distance) * shadow)[..., None]
    return pixels


def draw_files(folder, number, scene, shots, seed, size):
    """Draw and save the shots of one scene; returns the sha256 of the pixels of each. Runs in a worker."""
    paths = [Path(folder) / CLASSES[number - 1] / f"scene{scene:02d}_{shot}.png" for shot in range(shots)]
    return [save_png(draw(number, scene, shot, seed, size)[0], path) for shot, path in enumerate(paths)]


def make(folder="data/finger_numbers", seed=0, scenes=10, shots=3, size=224, workers=None):
    """Draw the data set into a folder, unless it is there already; complete or not at all.

    Args: folder, relative to the project's root or absolute; seed; scenes a class and shots a scene, so
    10 * scenes * shots images; size, side in pixels; workers, processes (None: one a core, at most 8).
    Returns: the folder's Path. It holds <class>/scene<scene>_<shot>.png, groups.csv (file,group) and
    about.json (seed, version, count, sha256 of the images' sha256 ...).
    Raises: ValueError for wrong arguments, FileExistsError if the folder holds anything else, OSError if it
    cannot be written.
    """
    seed, size = whole_number("seed", seed, 0, 2**63), whole_number("size", size, 16, 2048)
    scenes, shots = whole_number("scenes", scenes, 1, 100), whole_number("shots", shots, 1, 10)
    count = len(CLASSES) * scenes * shots
    about = dict(seed=seed, version=VERSION, scenes=scenes, shots=shots, size=size, count=count)
    jobs = [(number, scene, shots, seed, size) for number in range(1, len(CLASSES) + 1) for scene in range(scenes)]
    names = [f"{name}/scene{scene:02d}" for name in CLASSES for scene in range(scenes)]
    groups = {f"{name}_{shot}.png": name for name in names for shot in range(shots)}
    return draw_set(folder, about, draw_files, jobs, "drawing hands", workers, groups)
