"""hand_finder.py: what is hidden cannot come back, and what is found is where it is."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.draw import polygon2mask
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import block_reduce, label
from skimage.morphology import dilation, disk

from src.datasets.hand_scenes import test_scene
from src.photos.hand_finder import (
    LEAST_BLUR,
    MARGIN,
    MOST_BLOCKS,
    SIDES,
    Found,
    blur_out,
    box_mask,
    dilate,
    find_objects,
    hide,
    join_diagonals,
    label_regions,
    load_finder,
    objects_in,
    score_map,
)
from src.photos.photo_files import Photo
from src.studies.hand_methods import box_iou, box_of


@pytest.fixture(scope="module")
def hands():
    """Four hands in rooms and two rooms without, uint8 [6, 4, 224, 224], of scenes never trained on."""
    return np.stack([test_scene(index, 1000) for index in range(6)])


def random_pixels(channels=3, size=(50, 70), deep=False):
    top, kind = (65536, np.uint16) if deep else (256, np.uint8)
    return np.random.default_rng(1).integers(0, top, (channels, *size)).astype(kind)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_are_their_means(channels, deep):
    pixels, where = random_pixels(channels, deep=deep), np.zeros((50, 70), bool)
    where[10:26, 20:44] = True  # two by three blocks of eight
    hidden = hide(pixels, where, 8)
    means = block_reduce(pixels[:, 10:26, 20:44].astype(float), (1, 8, 8), np.mean).round()
    np.testing.assert_array_equal(hidden[:, 10:26, 20:44], means.repeat(8, axis=1).repeat(8, axis=2))
    np.testing.assert_array_equal(hidden[:, ~where], pixels[:, ~where])
    assert hidden.dtype == pixels.dtype


@pytest.mark.parametrize("smooth", [False, True])
def test_of_a_block_nothing_is_left_but_its_mean(smooth):
    """Whatever the order of the pixels in each block, the result is the same: no shuffle that could be undone."""
    pixels, where = random_pixels(size=(48, 64)), np.zeros((48, 64), bool)
    where[3:41, 5:58] = np.random.default_rng(0).random((38, 53)) > 0.99  # a few: each touches its block
    where[3, 5] = True
    hidden, again, random = hide(pixels, where, 8, smooth), pixels.copy(), np.random.default_rng(2)
    for top in range(3, 43, 8):
        for left in range(5, 61, 8):
            block = (slice(top, min(48, top + 8)), slice(left, min(64, left + 8)))
            if where[block].any():
                for channel in again:
                    channel[block] = random.permutation(channel[block].ravel()).reshape(channel[block].shape)
    assert (again != pixels).any()
    np.testing.assert_array_equal(hide(again, where, 8, smooth), hidden)
    assert not smooth or len(np.unique(hidden)) > 200


def test_a_block_at_the_edge_is_as_large_as_any():
    """One that the edge would cut off, down to a single pixel that stays as it was, belongs to its neighbour."""
    pixels, where = random_pixels(), np.zeros((50, 70), bool)
    where[45, 66] = True
    hidden = hide(pixels, where, 16)
    for channel, before in zip(hidden, pixels):
        assert (channel[34:, 54:] == before[34:, 54:].mean().round()).all()
    assert (hidden[:, :34] == pixels[:, :34]).all() and (hide(pixels, where & False, 8) == pixels).all()
    where[1, 2:] = True  # five blocks of 16 and 4 pixels more across
    row = hide(pixels, where, 16)[0, 1]
    assert (row[50:] == pixels[0, 1:17, 50:].mean().round()).all() and len(np.unique(row[2:])) <= 4


def test_an_image_smaller_than_its_map():
    """No spot is missed, and a margin is left."""
    scores = np.zeros((128, 128), np.float32)
    scores[40:48, 60:70] = 1
    for side in (1, 4, 8, 20, 64):
        (found,) = objects_in(scores, (side, side))
        x, y, w, h = found.box
        assert found.mask[y : y + h, x : x + w].all() and box_mask(found.mask).sum() >= found.mask.sum() > 0


def test_the_finest_that_is_allowed_is_not_found_again(hands):
    for scene in hands[[0, 1, 3, 4]]:
        found = find_objects(torch.from_numpy(scene[:3] / np.float32(255)))
        for settings in (dict(blocks=MOST_BLOCKS), dict(smooth=LEAST_BLUR), dict(smooth=LEAST_BLUR, mask=True)):
            hidden = blur_out(Photo(scene[:3]), found, **settings).pixels
            again = find_objects(torch.from_numpy(hidden / np.float32(255)))
            assert all(box_iou(one.box, box_of(scene[3] > 127)) < 0.5 for one in again)


def test_pieces_of_a_hand_are_hidden_as_coarsely_as_the_largest():
    pixels, masks = random_pixels(size=(64, 64)), np.zeros((2, 64, 64), bool)
    masks[0, :, :40], masks[1, 10:14, 50:54] = True, True
    found = [Found((0, 0, 40, 64), masks[0], 1.0), Found((50, 10, 4, 4), masks[1], 1.0)]
    small = blur_out(Photo(pixels), found, blocks=4).pixels[0, 10:26, 48:64]
    assert len(np.unique(small)) == 1


def test_objects_are_found_where_they_are():
    scores = np.zeros((96, 128), np.float32)
    scores[10:30, 20:60] = 0.81
    scores[70:96, 100:128] = 0.9  # at the corner
    scores[50:52, 5:7] = 1.0  # too small
    found = objects_in(scores, (960, 1280))
    assert [one.box for one in found] == [(200, 100, 400, 200), (1000, 700, 280, 260)]
    assert [one.confidence for one in found] == [pytest.approx(0.81), pytest.approx(0.9)]
    for one in found:
        x, y, w, h = one.box
        assert one.mask[y : y + h, x : x + w].all()
        left, top, wide, high = box_of(one.mask)
        assert 0 <= x - left <= 10 * (MARGIN + 1) and 0 <= y - top <= 10 * (MARGIN + 1)
        assert wide >= w and high >= h
    assert objects_in(scores, (96, 128), threshold=0.85)[0].box == (100, 70, 28, 26)


def test_an_object_extends_from_what_is_sure_to_what_is_likely():
    scores = np.zeros((64, 64), np.float32)
    scores[10:50, 20:40] = scores[10:50, 55:60] = 0.5
    scores[12, 25] = 0.9
    assert [one.box for one in objects_in(scores, (64, 64), 0.8, 0.4)] == [(20, 10, 20, 40)]
    assert objects_in(scores, (64, 64), 0.95, 0.4) == []


def test_parts_beside_each_other_are_one_object():
    """A hand with a bracelet."""
    scores = np.zeros((64, 64), np.float32)
    scores[10:30, 20:40] = scores[30 + 2 * MARGIN - 1 : 50, 20:40] = 1
    assert [one.box for one in objects_in(scores, (64, 64))] == [(20, 10, 20, 40)]
    scores[30 + 2 * MARGIN - 1 : 33 + 2 * MARGIN] = 0
    assert len(objects_in(scores, (64, 64))) == 2


def test_the_largest_mean_of_two_neighbouring_sides_counts():
    class Side(torch.nn.Module):
        """The score of every pixel depends on the image's longer side alone."""

        def __init__(self, scores):
            super().__init__()
            self.weight, self.scores = torch.nn.Parameter(torch.ones(1)), scores

        def forward(self, x):
            return torch.full_like(x, self.scores[max(x.shape[2:])])[:, :1] * self.weight

    image = torch.rand(3, 100, 200)
    for scores in ((0.9, 0.1, 0.3), (0.1, 0.4, 0.8), (0.2, 0.3, 0.2)):
        expected = max((a + b) / 2 for a, b in pairwise(scores))
        scores_found = score_map(image, Side(dict(zip(SIDES, scores))))
        assert scores_found.shape == (80, 160) and np.unique(scores_found) == pytest.approx(expected, abs=0.01)
    twice = score_map(image, Side(dict(zip((*SIDES, 2 * SIDES[-1]), (0, 0, 0.5, 0.7)))), scales=2)
    assert twice.shape == (160, 320) and twice.max() == pytest.approx(0.6, abs=0.01)


def test_the_shipped_finder_finds_hands_and_nothing_else(hands):
    model = load_finder()
    for scene in hands:
        image, mask = torch.from_numpy(scene[:3] / np.float32(255)), scene[3] > 127
        found = find_objects(image, model)
        if mask.any():
            assert box_iou(found[0].box, box_of(mask)) > 0.7
            assert (found[0].mask & mask).sum() > 0.95 * mask.sum()
        else:
            assert not found
    tall = torch.nn.functional.interpolate(image[None], size=(400, 150))[0]
    assert find_objects(tall, model) == [] and find_objects(torch.full((1, 1, 1), 0.3), model) == []
    with pytest.raises(ValueError, match=r"image must be float32 \[3, H, W\].*got torch.uint8"):
        find_objects(torch.zeros(3, 8, 8, dtype=torch.uint8), model)


def test_what_is_hidden_is_not_found_again(hands):
    """The box is gone for the finder, and no pixel of the hand is as it was but by chance."""
    for scene in hands[[0, 1]]:
        mask = scene[3] > 127
        found = find_objects(torch.from_numpy(scene[:3] / np.float32(255)))
        hidden = blur_out(Photo(scene[:3]), found).pixels
        assert find_objects(torch.from_numpy(hidden / np.float32(255))) == []
        same = (hidden == scene[:3]).all(axis=0)
        assert same[mask].mean() < 0.02 and same[scene[3] < 1].mean() > 0.3


def test_alpha_is_hidden_too():
    """Or the outline of what was cut out would show it."""
    alpha = (polygon2mask((60, 60), [(10, 30), (50, 10), (50, 50)]) * 255).astype(np.uint8)
    mask = np.ones((60, 60), bool)
    hidden = blur_out(Photo(random_pixels(size=(60, 60)), alpha), [Found((0, 0, 60, 60), mask, 1.0)], blocks=3)
    means = block_reduce(alpha.astype(float), (20, 20), np.mean).round()
    np.testing.assert_array_equal(hidden.alpha, means.repeat(20, axis=0).repeat(20, axis=1))


def test_regions_against_scikit_image():
    """Hysteresis with 4-connected regions, a disk, and regions that touch at corners: random maps and full ones."""
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.3, 0.6, 1.0):
        scores = rng.random((50, 70)).astype(np.float32) * density / 0.6
        kept = label_regions(scores > 0.25)
        inside = np.isin(kept, np.setdiff1d(kept[scores > 0.55], 0))
        np.testing.assert_array_equal(inside, apply_hysteresis_threshold(scores, 0.25, 0.55))
        np.testing.assert_array_equal(dilate(inside, 3), dilation(inside, disk(3)))
        for mask in (inside, rng.random((50, 70)) < density):
            found, expected = join_diagonals(label_regions(mask)), label(mask)
            pairs = set(zip(found.ravel().tolist(), expected.ravel().tolist()))
            assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
