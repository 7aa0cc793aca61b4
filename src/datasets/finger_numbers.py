"""The default data set: 300 pictures of a hand showing 1 to 10 the Chinese way, drawn by code, no photo.

    python -m src.data finger_numbers   # writes data/finger_numbers/<yi ... shi>/scene00_0.png ...

Ten scenes a class, three shots a scene: one scene is one room and one person (the *group*, listed in
groups.csv), its shots differ in pose, angle, framing and light. The hand (src/hands.py), often in a
sleeve, stands in front of a room (src/scenes.py) and casts its shadow on it.
The same seed gives the same bytes on every machine: see src/textures.py for the rules that ensure it.
"""

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from src.datasets.drawn_set import check, draw_set, save
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

CLASSES = ("yi", "er", "san", "si", "wu", "liu", "qi", "ba", "jiu", "shi")
VERSION = 2  # raise it whenever a change alters a pixel


@functools.lru_cache(maxsize=1)  # the three shots of a scene are drawn one after the other
def backdrop(number, scene, seed, size):
    """The room behind the hand, wider than the picture so that the camera can move, uint8 [W, W, 3]."""
    rng = np.random.default_rng([seed, number, scene, 0])
    room, focus = rng.random() < 0.9, max(0.0, uniform(rng, -0.1, 0.5))
    # At arm's length behind a hand, walls and tables show little of their grain (PROGRESS.md).
    return draw_scene(rng, round(1.3 * size), room, focus, texture=0.2, litter=0.7)


def draw(number, scene, shot, seed=0, size=224):
    """One picture of a hand showing a number.

    Args: number, 1..10, the class; scene, >= 0, which room, person and way of showing the number; shot,
    >= 0, pose, framing and light within that scene; seed, >= 0, of the whole set; size, side in pixels.
    Returns: image, uint8 [size, size, 3], RGB; mask, bool [size, size], where skin covers half a pixel.
    Raises ValueError for arguments outside these ranges.
    """
    check(number=(number, 1, 10), scene=(scene, 0, 2**31), shot=(shot, 0, 2**31))
    check(seed=(seed, 0, 2**63), size=(size, 16, 2048))
    # Seed lists are padded with zeros: [seed, number, scene] is the backdrop's stream, so shots count from 1.
    owner = np.random.default_rng([seed, number, scene, 0, 1])
    rng = np.random.default_rng([seed, number, scene, shot + 1])
    side = 2 * size  # drawn at twice the size, then averaged 2 x 2
    tone = np.array(pick(owner, TONES), np.float32) * (0.94 + 0.1 * owner.random(3, dtype=np.float32)) / 255
    tone = tone * tone  # linear light; the square root at the end undoes it: a gamma of 2, exactly rounded
    mirror = 1 if owner.random() < 0.5 else -1
    lean, lamp = uniform(owner, -35, 35), uniform(owner, 200, 340)
    sleeve = owner.random() < 0.65
    cuff, cloth = uniform(owner, -0.75, -0.2), pick(owner, MATERIALS) / 255
    wall = owner.random()  # 0: the hand is close to what is behind it, 1: far from it

    scale = uniform(rng, 0.27, 0.36) * side
    pixel = 1 / scale
    c, s = turn(lean + uniform(rng, -10, 10))
    low_x, low_y = 0.05 * mirror * scale, (1.05 + uniform(rng, -0.1, 0.1)) * scale  # the palm's middle is the pivot
    dx = np.arange(side, dtype=np.float32)[None] - (0.5 + uniform(rng, -0.08, 0.08)) * side - low_x
    dy = np.arange(side, dtype=np.float32)[:, None] - (0.52 + uniform(rng, -0.06, 0.06)) * side
    x, y = (dx * c + dy * s) * (mirror * pixel), (low_y - (dy * c - dx * s)) * pixel
    arm = uniform(rng, -0.3, 0.3)
    layers = pose(number, arm, np.random.default_rng([seed, number, scene, 0, 2]), rng, x, y)

    lx, ly = turn(lamp + uniform(rng, -15, 15))
    tilt = uniform(rng, 0.6, 1.3)
    norm = math.sqrt(1 + tilt * tilt)
    warm, gain = uniform(rng, -0.06, 0.12), uniform(rng, 0.85, 1.15)
    light = [float(v) for v in (lx / norm, ly / norm, tilt / norm, gain * (1 + warm), gain, gain * (1 - warm))]
    mottle, grain = pink_noise(rng, 2, 64, falloff=0.85), value_noise(rng, 2, 2) + value_noise(rng, 4, 4)
    wrap = np.arange(side) & (TILE - 1)
    noise = mottle[wrap][:, wrap], grain[wrap][:, wrap]

    drop = round(0.05 * scale)
    colour, cover = paint(layers, scale, (round(-ly * drop), round(-lx * drop)), light, tone, noise)
    skin = cover
    if sleeve:
        across = x - (0.15 - y) * (arm / 3.15)
        band = np.maximum(np.abs(across) - 0.43 + 0.012 * noise[0] + 0.05 * y, y - cuff + 0.006 * noise[0])
        alpha = np.clip(0.5 - band * scale, 0, 1)
        weave = 1 + 0.05 * noise[1] + 0.08 * noise[0]
        q = across / 0.5 - lx * mirror * 0.4
        body = (weave * (1.05 - 0.7 * q * q) * (0.75 + 0.25 * smooth((cuff - y) / 0.05)))[..., None] * (cloth * cloth)
        colour *= 1 - 0.5 * smooth(1 - band / 0.08)[..., None]
        cover, skin = alpha + cover * (1 - alpha), skin * (1 - alpha)
        share = alpha / np.maximum(cover, 1e-6)
        colour += (body * np.array(light[3:], np.float32) - colour) * share[..., None]
    colour = np.sqrt(np.clip(colour, 0, 1)) * (255 * cover)[..., None]
    colour, cover, skin = half(colour), half(cover), half(skin)

    room = backdrop(number, scene, seed, size)
    step, spare = uniform(rng, 1.02, 1.18), len(room) - 2
    free = max(0.0, spare - step * size)
    scene_pixels = window(room, free * rng.random(), free * rng.random(), step, size) * uniform(rng, 0.85, 1.1)
    # The hand's own shadow on the room: its outline, moved away from the lamp and blurred with the distance.
    blur = max(1, round((0.01 + 0.05 * wall) * size))
    shadow = Image.fromarray((cover * 255 + 0.5).astype(np.uint8))
    for _ in range(3):
        shadow = shadow.filter(ImageFilter.BoxBlur(blur))
    away = (0.03 + 0.12 * wall) * size
    shadow = shifted(np.asarray(shadow).astype(np.float32), round(-ly * away), round(-lx * away)) / 255
    scene_pixels *= (1 - (0.6 - 0.35 * wall) * shadow)[..., None]
    image = sharpen(scene_pixels * (1 - cover)[..., None] + colour, uniform(rng, 0.7, 1.7))
    return (np.clip(image, 0, 255) + 0.5).astype(np.uint8), skin >= 0.5


def draw_files(folder, number, scene, shots, seed, size):
    """Draw and save the shots of one scene; returns the sha256 of each one's pixels. Runs in a worker."""
    return [
        save(
            draw(number, scene, shot, seed, size)[0],
            Path(folder) / CLASSES[number - 1] / f"scene{scene:02d}_{shot}.png",
        )
        for shot in range(shots)
    ]


def make(folder="data/finger_numbers", seed=0, scenes=10, shots=3, size=224, workers=None):
    """Draw the data set into a folder, unless it is there already; all or nothing.

    Args: folder, relative to the project's root or absolute; seed; scenes a class and shots a scene, so
    10 * scenes * shots pictures; size, side in pixels; workers, processes (None: one a core, at most 8).
    Returns: the folder's Path. It holds <class>/scene<scene>_<shot>.png, groups.csv (file,group) and
    about.json (seed, version, count, sha256 of the pictures' sha256 ...).
    Raises: ValueError for wrong arguments, FileExistsError if the folder holds anything else, OSError if it
    cannot be written.
    """
    check(seed=(seed, 0, 2**63), scenes=(scenes, 1, 100), shots=(shots, 1, 10), size=(size, 16, 2048))
    seed, scenes, shots, size = int(seed), int(scenes), int(shots), int(size)
    count = len(CLASSES) * scenes * shots
    wanted = dict(seed=seed, version=VERSION, scenes=scenes, shots=shots, size=size, count=count)
    jobs = [(number, scene, shots, seed, size) for number in range(1, len(CLASSES) + 1) for scene in range(scenes)]
    groups = [f"{CLASSES[number - 1]}/scene{scene:02d}" for number, scene, *_ in jobs]
    groups = [(f"{group}_{shot}.png", group) for group in groups for shot in range(shots)]
    return draw_set(folder, wanted, draw_files, jobs, "drawing hands", workers, groups)
