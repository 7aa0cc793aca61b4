"""What a finder's training images are put together from: cut-outs of hands and of other things, pages, rooms, photos.

parts = load_parts("data/hand_parts", seed=0, count=2000)     # drawn once, some minutes, then read
"""

from functools import partial
from pathlib import Path

import numpy as np

from src.datasets.hand_scenes import draw_scenes
from src.datasets.no_hands import draw_hand_cut_out, draw_page, draw_thing
from src.datasets.scenes import draw_scene
from src.files import ROOT, write_atomically

BEHIND = 160  # side of what stands behind, in pixels; cut-outs have 128
KINDS = {"hands": 1.0, "things": 1.25, "pages": 0.08, "rooms": 0.15}  # how many of each, relative to `count`
POSES, GRIPS = "poses", "grips"  # further hands: see `load_parts`


def draw_part(index: int, kind: str, seed: int) -> np.ndarray:
    """One part: uint8 [128, 128, 5] of hands and things (see no_hands.py), [160, 160, 3] of "pages" and "rooms"."""
    rng = np.random.default_rng([seed, index, 20 + [*KINDS, POSES, GRIPS].index(kind)])
    if kind == "rooms":
        return draw_scene(rng, BEHIND, rng.random() < 0.9, texture=0.2 + 0.6 * rng.random(), litter=0.7)
    if kind == "pages":
        return draw_page(rng, BEHIND)
    return draw_thing(rng) if kind == "things" else draw_hand_cut_out(rng, any_pose=kind == POSES, grip=kind == GRIPS)


def load_parts(folder: str | Path, seed: int, count: int, poses: int = 0, grips: int = 0) -> dict[str, np.ndarray]:
    """kind -> uint8 [N, H, W, C], N = count times KINDS; drawn and kept as folder/<kind>-<seed>-<N>.npy at first.

    poses: so many further "hands", in any pose from any side instead of showing a number; grips: so many that grip.
    """
    parts = {}
    numbers = {kind: max(1, round(count * ratio)) for kind, ratio in KINDS.items()}
    numbers |= {kind: number for kind, number in {POSES: poses, GRIPS: grips}.items() if number}
    for kind, number in numbers.items():
        path = ROOT / folder / f"{kind}-{seed}-{number}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = draw_scenes(partial(draw_part, kind=kind, seed=seed), number)
            write_atomically(path, lambda file, drawn=drawn: np.save(file, drawn))
        parts[kind] = np.load(path)
    further = [parts.pop(kind) for kind in (POSES, GRIPS) if kind in parts]
    parts["hands"] = np.concatenate([parts["hands"], *further])
    return parts
