"""Images put together to train a finder: masks where the objects are, and nothing random but by seed, epoch, index."""

import numpy as np
import pytest
import torch

from src.datasets import LUMA
from src.datasets.hand_mix import (
    SIDE,
    SMALLEST,
    HandMix,
    halved,
    in_skin_colours,
    other_texture,
    shrunk,
    soft_region,
    stretched,
    striped,
    through_jpeg,
    turned,
)
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


def test_batches_are_shrunk_to_one_of_the_sides(parts):
    plain, pairs = (HandMix(BLACK, parts, 0, 40, empty=0.0, sides=sides) for sides in ((), (48, 64)))
    sizes = set()
    for first in range(8):
        noisy, target = pairs.batch([first, 9])
        sizes.add(noisy.shape[2])
        assert noisy.shape[2:] == target.shape[2:] and set(target.unique().tolist()) <= {0.0, 1.0}
        expected = plain.batch([first, 9])[0].mean(dim=(1, 2, 3))
        torch.testing.assert_close(noisy.mean(dim=(1, 2, 3)), expected, atol=0.01, rtol=0)
    assert sizes == {48, 64} and "sides" not in plain.config and pairs.config["sides"] == [48, 64]


def test_a_mask_that_becomes_too_small_is_none():
    target = torch.zeros(2, 2, 128, 128)
    target[0, 0, :40, :40], target[1, 0, :8, :8], target[:, 1] = 1, 1, 1  # 225 and 9 pixels at 48
    mask, present = shrunk(torch.zeros(2, 3, 128, 128), target, 48)[1].unbind(dim=1)
    assert mask.sum(dim=(1, 2)).tolist() == [225, 0] and present[:, 0, 0].tolist() == [1, 0]


def test_hands_as_in_photos(parts):
    plain, pairs = (HandMix(BLACK, parts, 0, 40, empty=0.0, as_photos=flag) for flag in (False, True))
    assert plain.config != pairs.config and not torch.equal(plain.batch([0])[0], pairs.batch([0])[0])
    assert torch.equal(pairs.batch([3])[0], pairs.batch([3])[0])
    square = parts["hands"][0]
    for narrow, expected in ((True, (98, 35)), (False, (49, 70))):
        rows, columns = np.nonzero(stretched(square, 0.5, narrow)[..., 4] > 127)
        assert (rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min()) == expected and rows.max() == 127
    y, x = np.mgrid[:64, :64].astype(np.float32)
    image = np.stack([0.5 + 0.4 * np.sin(x / 5), y / 64, 0.3 + 0 * x], axis=2).astype(np.float32)
    errors = [float(((through_jpeg(image, quality) - image) ** 2).mean()) for quality in (95, 60, 10)]
    assert errors[0] < 1e-3 and errors == sorted(errors)


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
    more = load_parts(tmp_path, seed=0, count=4, poses=3, grips=2)
    assert len(more["hands"]) == 9 and np.array_equal(more["hands"][:4], parts["hands"]) and set(more) == set(KINDS)


def test_clutter_mixes_backgrounds_and_leaves_the_masks_alone(parts):
    white = np.full_like(BLACK, 255)
    both = np.concatenate([BLACK, white])
    plain, pairs = (HandMix(both, parts, 0, 40, empty=1.0, clutter=flag) for flag in (False, True))
    assert pairs.config == plain.config | dict(clutter=True) and "clutter" not in plain.config
    mixed = 0
    for key in range(40):
        image, mask = pairs.without(key)
        assert image.shape == (SIDE, SIDE, 3) and not mask.any()
        mixed += image.min() < 50 and image.max() > 200  # black beside white
    assert 8 <= mixed <= 32


def test_regions_are_soft_and_cover_a_fifth_to_four_fifths():
    for seed in range(10):
        region = soft_region(np.random.default_rng(seed), 128)
        assert region.dtype == np.float32 and region.min() >= 0 and region.max() <= 1
        assert 0.19 <= (region > 0.5).mean() <= 0.81 and ((region > 0.1) & (region < 0.9)).any()


def test_skin_colours_keep_the_luma():
    image = np.random.default_rng(0).uniform(0, 150, (20, 30, 3)).astype(np.float32)
    tinted = in_skin_colours(image, np.random.default_rng(1))
    np.testing.assert_allclose(tinted @ LUMA, image @ LUMA, rtol=1e-5)
    assert (tinted[..., 0] - tinted[..., 2]).mean() > 10  # redder than blue


def test_another_texture_keeps_mean_and_spread():
    image = np.random.default_rng(0).uniform(50, 150, (40, 40, 3)).astype(np.float32)
    for seed in range(5):
        result = other_texture(image, np.random.default_rng(seed))
        alpha = np.random.default_rng(seed)
        alpha.standard_normal((3, 3, 3, 3), np.float32)
        textured = image + (result - image) / np.float32(alpha.random())  # where nothing is left of the image
        assert textured.mean() == pytest.approx(image.mean(), abs=0.1)
        assert textured.std() == pytest.approx(image.std(), rel=0.01)
    flat = np.full((16, 16, 3), 80, np.float32)
    np.testing.assert_allclose(other_texture(flat, np.random.default_rng(0)), flat, atol=1e-3)


def test_stripes_are_4_to_30_pixels_apart():
    """The strongest frequency of the stripes on a grey image, by the Fourier transform."""
    for seed in range(8):
        stripes = striped(np.full((128, 128, 3), 100, np.float32), np.random.default_rng(seed))
        assert stripes.min() >= 29.9 and stripes.max() <= 170.1
        power = np.abs(np.fft.fft2(stripes[..., 0] - stripes.mean())) ** 2
        y, x = np.unravel_index(power.argmax(), power.shape)
        frequency = np.hypot(np.fft.fftfreq(128)[y], np.fft.fftfreq(128)[x])
        assert 1 / 40 < frequency < 1 / 3.5


def test_halved_is_four_small_copies_with_the_mean_of_the_whole():
    image = np.random.default_rng(0).random((SIDE, SIDE, 3)).astype(np.float32)
    small = halved(image)
    assert np.array_equal(small, small[::-1]) and np.array_equal(small, small[:, ::-1])
    np.testing.assert_allclose(small.mean(axis=(0, 1)), image.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(small[0, 0], image[:2, :2].mean(axis=(0, 1)), rtol=1e-5)
