"""Images put together to train a finder: masks where the objects are, and nothing random but by seed, epoch, index."""

import numpy as np
import pytest
import torch

from src.datasets.hand_mix import SIDE, SMALLEST, HandMix, turned
from src.datasets.hand_parts import KINDS, load_parts

BLACK = np.zeros((2, 160, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def parts():
    """White squares for hands, and invisible things, rooms and pages."""
    square, nothing = np.zeros((1, 128, 128, 5), np.uint8), np.zeros((1, 128, 128, 5), np.uint8)
    square[:, 30:, 30:100] = 255
    return dict(hands=square, things=nothing, pages=BLACK, rooms=BLACK)


def test_a_pair_depends_on_seed_epoch_and_index_alone(parts):
    pairs, again = HandMix(BLACK, parts, 5, 20), HandMix(BLACK, parts, 5, 20)
    again.batch([1, 2])
    assert all(torch.equal(a, b) for a, b in zip(pairs.batch([7, 3]), again.batch([7, 3])))
    assert torch.equal(pairs.batch([3])[0][0], pairs.batch([7, 3])[0][1])
    again.set_epoch(1)
    assert not torch.equal(pairs.batch([3])[0], again.batch([3])[0]) and pairs.config == again.config
    fixed = HandMix(BLACK, parts, 5, 20, fixed=True)
    before = fixed.batch([3])[0]
    fixed.set_epoch(1)
    assert torch.equal(before, fixed.batch([3])[0])


def test_the_mask_is_where_the_object_is(parts):
    noisy, target = HandMix(BLACK, parts, 0, 40, empty=0.0).batch(list(range(40)))
    assert noisy.shape == (40, 3, SIDE, SIDE) and target.shape == (40, 2, SIDE, SIDE)
    assert set(target.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(target[:, 1].amax(dim=(1, 2)), (target[:, 0].sum(dim=(1, 2)) >= SMALLEST).float())
    brighter = [float(x[:, m > 0].mean() - x[:, m == 0].mean()) for x, m in zip(noisy, target[:, 0]) if m.any()]
    assert len(brighter) == 40 and np.mean(np.array(brighter) > 0.1) > 0.8  # a few stand before a pale wall


def test_images_without_an_object_and_hard_ones(parts):
    pairs = HandMix(BLACK, parts, 0, 40, empty=1.0)
    assert not pairs.batch(list(range(10)))[1].any()
    hard = HandMix(BLACK, parts, 0, 40, empty=1.0, hard=[11])
    calls = []
    hard.without = lambda key: calls.append(key) or pairs.without(key)
    hard.batch(list(range(40)))
    assert set(calls) == {11} and 3 <= len(calls) <= 20
    assert pairs.config != hard.config and np.array_equal(pairs.without(3)[0], pairs.without(3)[0])


def test_whole_images_with_their_masks(parts):
    scene = np.zeros((1, SIDE, SIDE, 4), np.uint8)
    scene[:, 5:50, 20:90] = 255
    _, target = HandMix(BLACK, parts | dict(scenes=scene), 0, 40, empty=1.0).batch(list(range(40)))
    sizes = target[:, 0].sum(dim=(1, 2)).unique().tolist()
    assert sizes == [0, 45 * 70]


def test_the_eight_symmetries_are_different():
    image = np.arange(9).reshape(3, 3)
    assert len({turned(image, k).tobytes() for k in range(8)}) == 8
    assert np.array_equal(turned(image, 1), np.fliplr(image)) and np.array_equal(turned(image, 4), image.T)


def test_parts_are_drawn_once(tmp_path):
    parts = load_parts(tmp_path, seed=0, count=4)
    assert {kind: len(x) for kind, x in parts.items()} == dict(hands=4, things=5, pages=1, rooms=1)
    assert set(parts) == set(KINDS)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = load_parts(tmp_path, seed=0, count=4)
    assert all(np.array_equal(parts[kind], again[kind]) for kind in parts)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
