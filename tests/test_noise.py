"""The noise is a function of (seed, epoch, index), normal, and nothing else."""

import argparse

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch.utils.data import DataLoader, Dataset

from src.files import number
from src.images import ImageSet
from src.noise import GaussianNoiseDataset, check_sigma


def images(count=12, size=(20, 16), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, *size), np.uint8)
    return ImageSet.from_pixels(torch.from_numpy(pixels))


def all_pairs(pairs, batch, workers=0, order=None):
    order = list(range(len(pairs))) if order is None else order
    loader = DataLoader(pairs, batch_sampler=[order[i : i + batch] for i in range(0, len(order), batch)],
                        num_workers=workers, generator=torch.Generator())  # fmt: skip
    noisy, clean = (torch.cat(part) for part in zip(*loader))
    back = torch.tensor(order).argsort()
    return noisy[back], clean[back]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("extra", [dict(), dict(crop_size=9, augment=True), dict(clip=True, augment=True)])
def test_equal_for_every_batch_size_order_and_worker_count(extra):
    pairs = GaussianNoiseDataset(images(), sigma=0.2, seed=3, **extra)
    pairs.set_epoch(5)
    expected = all_pairs(pairs, 1)
    shuffled = np.random.default_rng(1).permutation(12).tolist()
    for batch, workers, order in [(4, 0, None), (12, 0, shuffled), (5, 0, shuffled), (3, 2, None), (4, 1, shuffled)]:
        for a, b in zip(expected, all_pairs(pairs, batch, workers, order)):
            assert torch.equal(a, b)


def test_single_items_are_the_batch():
    pairs = GaussianNoiseDataset(images(), seed=3, crop_size=8, augment=True)
    noisy, clean = pairs.batch([4, 2])
    assert torch.equal(pairs[2][0], noisy[1]) and torch.equal(pairs[4][1], clean[0])
    assert torch.equal(pairs[-1][0], pairs[11][0])


def test_a_plain_data_set():
    pairs = GaussianNoiseDataset(images())
    noisy, clean = pairs[0]
    assert isinstance(pairs, Dataset) and len(pairs) == 12
    assert noisy.dtype == clean.dtype == torch.float32 and noisy.shape == clean.shape == (3, 20, 16)
    with pytest.raises(IndexError):
        pairs[12]


def test_fresh_every_epoch_unless_fixed():
    fresh, fixed = (GaussianNoiseDataset(images(), seed=0, fixed=f) for f in (False, True))
    seen = {False: [], True: []}
    for epoch in (0, 1, 7, 0):
        for pairs in (fresh, fixed):
            pairs.set_epoch(epoch)
            seen[pairs.fixed].append(pairs.batch(range(12))[0])
    assert all(torch.equal(x, seen[True][0]) for x in seen[True])
    assert torch.equal(seen[False][0], seen[False][3])
    assert not torch.equal(seen[False][0], seen[False][1]) and not torch.equal(seen[False][1], seen[False][2])


def test_seeds_and_images_have_independent_noise():
    same = images(1)[[0, 0]]
    a, b = (GaussianNoiseDataset(same, seed=s) for s in (0, 1))
    (noise_a, noise_b) = (p.batch([0, 1])[0] - p.batch([0, 1])[1] for p in (a, b))
    assert abs(np.corrcoef(noise_a[0].flatten(), noise_a[1].flatten())[0, 1]) < 0.12  # 960 draws: 3.7 deviations
    assert abs(np.corrcoef(noise_a[0].flatten(), noise_b[0].flatten())[0, 1]) < 0.12


@pytest.mark.parametrize("sigma", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("extra", [{}, dict(augment=True), dict(crop_size=28, augment=True)])
def test_normal_of_the_right_mean_and_standard_deviation(sigma, extra):
    """Also with turns and crops: a picture turned without its partner would show (the 2021 bug)."""
    pairs = GaussianNoiseDataset(images(40, (32, 32)), sigma=sigma, **extra)
    noisy, clean = pairs.batch(range(40))
    noise = (noisy.double() - clean).flatten().numpy()
    assert abs(noise.mean()) < 4 * sigma / noise.size**0.5
    assert abs(noise.std() / sigma - 1) < 4 / (2 * noise.size) ** 0.5
    assert kstest(noise[::7] / sigma, "norm").pvalue > 1e-3


def test_sigma_0_is_clean_and_clip_clips():
    pairs = GaussianNoiseDataset(images(), sigma=0)
    assert torch.equal(*pairs.batch([0, 1]))
    free, clipped = (GaussianNoiseDataset(images(), sigma=0.5, clip=c).batch(range(12))[0] for c in (False, True))
    assert free.min() < 0 and free.max() > 1
    assert torch.equal(free.clamp(0, 1), clipped)


def test_crops_are_parts_and_flips_are_the_eight_symmetries():
    picture = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6)
    turned = {
        tuple(np.rot90(f, k).flatten()) for f in (picture[0, 0].numpy(), picture[0, 0].numpy().T) for k in range(4)
    }
    flips = GaussianNoiseDataset(ImageSet.from_pixels(picture), sigma=0, augment=True)
    crops = GaussianNoiseDataset(ImageSet.from_pixels(picture), sigma=0, crop_size=3)
    seen, corners = set(), set()
    for epoch in range(300):
        flips.set_epoch(epoch), crops.set_epoch(epoch)
        seen.add(tuple((flips[0][1] * 255).round().int().flatten().tolist()))
        part = (crops[0][1] * 255).round().int()[0]
        corners.add(part[0, 0].item())
        top, left = divmod(part[0, 0].item(), 6)
        assert torch.equal(part, picture[0, 0, top : top + 3, left : left + 3].int())
    assert seen == {tuple(int(v) for v in t) for t in turned} and len(seen) == 8
    assert corners == {6 * i + j for i in range(4) for j in range(4)}


def test_the_global_generators_are_left_alone():
    def state():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002

    before = state()
    GaussianNoiseDataset(images(), crop_size=8, augment=True).batch(range(12))
    assert state() == before


def test_floats_are_accepted_in_0_to_1():
    pixels = images(3).pixels
    a, b = GaussianNoiseDataset(pixels / 255, seed=1), GaussianNoiseDataset(ImageSet.from_pixels(pixels), seed=1)
    assert torch.equal(a.batch([0, 1, 2])[0], b.batch([0, 1, 2])[0])
    assert a.config["images"] == b.config["images"]


def test_a_range_of_sigma_is_drawn_evenly_for_each_pair():
    clean = torch.full((400, 1, 24, 24), 0.5)
    pairs = GaussianNoiseDataset(clean, sigma=(0.1, 0.4), seed=0)
    noisy, kept = pairs.batch(range(400))
    found = (noisy - kept).std(dim=(1, 2, 3))
    assert kstest(found.numpy(), "uniform", (0.1, 0.3)).pvalue > 0.01
    assert torch.equal(pairs.batch([7])[0][0], noisy[7])
    pairs.set_epoch(1)
    assert not torch.allclose((pairs.batch(range(400))[0] - kept).std(dim=(1, 2, 3)), found, atol=0.01)
    for wrong in ((0.4, 0.1), (0.1, 0.1), (0.1, 25), (0.1,), "ab"):
        with pytest.raises(ValueError, match="sigma"):
            GaussianNoiseDataset(clean, sigma=wrong)


def test_transform_shows_the_same_part_of_another_array():
    pairs = GaussianNoiseDataset(images(), sigma=0, seed=3, crop_size=8, augment=True)
    pairs.set_epoch(2)
    for index in range(12):
        whole = pairs.images.pixels[index].numpy()
        assert np.array_equal(pairs.transform(index, whole) / np.float32(255), pairs[index][1].numpy())
        assert np.array_equal(pairs.transform(index - 12, whole), pairs.transform(index, whole))


def test_the_pairs_of_published_runs_are_drawn_as_ever():
    """Places and turns of seed 3, epoch 2 and the noise's first numbers, as they were when those were trained."""
    pairs = GaussianNoiseDataset(images(), sigma=(0.1, 0.2), seed=3, crop_size=5, augment=True)
    pairs.set_epoch(2)
    where = np.arange(20 * 16).reshape(1, 20, 16)
    assert [pairs.transform(index, where)[0, 0, :2].tolist() for index in range(4)] == [
        [68, 67],
        [251, 267],
        [203, 202],
        [84, 100],
    ]
    noisy, clean = pairs[0]
    assert (noisy - clean)[0, 0, :3].tolist() == pytest.approx([-0.1034652, 0.0946015, 0.0803102], abs=1e-6)


def test_nan_is_no_sigma():
    for wrong in (float("nan"), torch.tensor(float("nan")), (0.1, float("nan")), torch.tensor([0.1, 0.2])):
        with pytest.raises(ValueError, match=r"^sigma must be"):
            GaussianNoiseDataset(images(), sigma=wrong)
    assert check_sigma(torch.tensor(0.25)) == 0.25 and check_sigma([0, 1]) == (0.0, 1.0)


def test_seeds_beyond_64_bits_are_seeds():
    drawn = [GaussianNoiseDataset(images(1), seed=seed).batch([0])[0] for seed in (2**80, 2**80, 2**80 + 1, 0)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[3])


def test_numpys_whole_numbers_are_whole_numbers():
    pairs = GaussianNoiseDataset(images(), seed=np.int64(3), crop_size=np.int16(5))
    assert pairs.config == GaussianNoiseDataset(images(), seed=3, crop_size=5).config
    assert type(pairs.config["seed"]) is int


def test_pairs_stay_float32_under_a_default_of_float64():
    torch.set_default_dtype(torch.float64)
    try:
        noisy, clean = GaussianNoiseDataset(images(), sigma=(0.1, 0.2), crop_size=5, augment=True).batch([0, 1])
    finally:
        torch.set_default_dtype(torch.float32)
    assert noisy.dtype == clean.dtype == torch.float32


def test_numbers_of_a_command_line():
    assert (number("0.1"), number("25/255"), number("1e-3")) == (0.1, 25 / 255, 1e-3)
    for wrong in ("x", "1/0", "", "1e999/1"):
        with pytest.raises(argparse.ArgumentTypeError, match="a fraction such as 25/255, got"):
            number(wrong)


def test_a_wing_may_fill_pairs_in_its_own_way():
    """What `fill` is for: the base draws the epoch's crop and turn, the subclass the noise."""

    class Stripes(GaussianNoiseDataset):
        def fill(self, index, noisy, clean):
            np.divide(self.augmented(self.rng(index), self.images.array(index)), np.float32(255), out=clean)
            noisy[:] = clean
            noisy[:, ::2] = 1

    made, plain = (cls(images(), seed=3, crop_size=6, augment=True) for cls in (Stripes, GaussianNoiseDataset))
    noisy, clean = made.batch([5, -1])
    assert torch.equal(clean, plain.batch([5, 11])[1])
    assert (noisy[:, :, ::2] == 1).all() and torch.equal(noisy[:, :, 1::2], clean[:, :, 1::2])
