"""Laws that hold for any size, channel count, split and sigma: hypothesis picks the examples.

The profile draws the same examples in every run of the same sources (derandomize): what passes here passes in CI.
"""

import atexit
import math
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.extra.numpy import arrays
from PIL import Image

from src.images import ImageSet, load_images, split_images
from src.metrics import psnr, ssim
from src.noise import GaussianNoiseDataset
from src.unet import UNet

# Hypothesis keeps notes on the sources it tests; here they go with the process, and no .hypothesis is left.
NOTES = tempfile.TemporaryDirectory()
atexit.register(NOTES.cleanup)
set_hypothesis_home_dir(NOTES.name)

# Given to each test and not loaded as a profile, which would be the whole session's.
LAWS = settings(derandomize=True, deadline=None, max_examples=60, database=None)
FEW = settings(LAWS, max_examples=25)

SIDE = st.integers(1, 40)
CHANNELS = st.integers(1, 5)
WIDTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
SEED = st.integers(0, 2**40)


def random_images(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).random(shape, np.float32))


def image_set(seed, *shape, **fields):
    drawn = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return ImageSet.from_pixels(torch.from_numpy(drawn), **fields)


# ---- the network -----------------------------------------------------------------------------


def moved(model):
    """The network with its last convolution, zero at first, drawn at random."""
    torch.nn.init.normal_(model.tail.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


@LAWS
@given(SIDE, SIDE, CHANNELS, WIDTHS, st.integers(1, 2))
def test_the_unet_returns_its_inputs_size(height, width, channels, widths, blocks):
    with torch.no_grad():
        out = moved(UNet(channels, widths, blocks))(random_images(0, 2, channels, height, width))
    assert out.shape == (2, channels, height, width) and out.isfinite().all()


@LAWS
@given(SIDE, SIDE, CHANNELS, WIDTHS, st.integers(1, 2), SEED)
def test_an_untrained_unet_is_the_identity(height, width, channels, widths, blocks, seed):
    noisy = random_images(seed, 1, channels, height, width)
    with torch.no_grad():
        assert torch.equal(UNet(channels, widths, blocks, seed=seed)(noisy), noisy)


@FEW
@given(SIDE, SIDE, WIDTHS, st.integers(0, 3))
def test_an_image_does_not_see_the_others_of_its_batch(height, width, widths, which):
    """What padding and reshaping could mix up; equal but for the sums' order."""
    model, batch = moved(UNet(3, widths)), random_images(1, 4, 3, height, width)
    with torch.no_grad():
        assert torch.allclose(model(batch)[which], model(batch[which : which + 1])[0], atol=1e-5)


# ---- the noise -------------------------------------------------------------------------------


@LAWS
@given(st.data(), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), SEED,
       st.integers(0, 10**6), st.floats(0, 1), st.booleans(), st.booleans(), st.booleans())  # fmt: skip
def test_any_split_into_batches_gives_the_same_pairs(
    data, count, height, width, channels, seed, epoch, sigma, augment, clip, fixed
):
    crop_size = data.draw(st.none() | st.integers(1, min(height, width)), "crop_size")
    images = image_set(0, count, channels, height, width)
    pairs = GaussianNoiseDataset(images, sigma, seed, fixed=fixed, clip=clip, crop_size=crop_size, augment=augment)
    pairs.set_epoch(epoch)
    alone = [pairs[i] for i in range(count)]
    order = data.draw(st.permutations(range(count)), "order")
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, count - 1))), "cuts"))
    for start, stop in zip([0, *cuts], [*cuts, count]):
        noisy, clean = pairs.batch(order[start:stop])
        for row, index in enumerate(order[start:stop]):
            assert torch.equal(noisy[row], alone[index][0]) and torch.equal(clean[row], alone[index][1])


@LAWS
@given(st.floats(0.001, 1), SEED, st.integers(0, 10**6))
def test_the_noise_has_the_standard_deviation_and_the_mean_asked_for(sigma, seed, epoch):
    """Of n normal draws the standard deviation is off by 1/sqrt(2n) of it, the mean by sigma/sqrt(n): six of each."""
    pairs = GaussianNoiseDataset(image_set(1, 4, 3, 32, 32), sigma, seed)
    pairs.set_epoch(epoch)
    noisy, clean = pairs.batch(range(4))
    noise = (noisy.double() - clean.double()).numpy()
    assert abs(noise.std() / sigma - 1) < 6 / math.sqrt(2 * noise.size)
    assert abs(noise.mean()) < 6 * sigma / math.sqrt(noise.size)
    assert psnr(noisy, clean).mean().item() == pytest.approx(-20 * math.log10(sigma), abs=0.4)


@LAWS
@given(st.floats(0, 0.5), SEED)
def test_noise_scales_with_sigma(sigma, seed):
    """The same seed at twice the sigma is the same noise, twice."""
    images = image_set(2, 2, 1, 8, 8)
    (one, clean), (two, _) = (GaussianNoiseDataset(images, s, seed).batch([0, 1]) for s in (sigma, 2 * sigma))
    assert torch.allclose(two - clean, 2 * (one - clean), atol=1e-6)


# ---- PSNR and SSIM ---------------------------------------------------------------------------


@LAWS
@given(st.floats(1e-3, 1), SIDE, SIDE, CHANNELS)
def test_psnr_of_a_constant_offset_is_its_closed_form(offset, height, width, channels):
    clean = torch.zeros(2, channels, height, width)
    for sign in (1, -1):
        assert psnr(clean + sign * offset, clean).tolist() == pytest.approx([-20 * math.log10(offset)] * 2, abs=1e-3)


@LAWS
@given(st.floats(0.01, 1), SEED)
def test_a_tenth_of_the_error_is_20_db_more(scale, seed):
    clean = random_images(seed, 1, 3, 12, 12).double() / 2
    error = scale * (random_images(seed + 1, 1, 3, 12, 12).double() - 0.5)
    assert (psnr(clean + error / 10, clean) - psnr(clean + error, clean)).item() == pytest.approx(20, abs=1e-3)


IMAGES = arrays(np.float32, (1, 2, 13, 11), elements=st.floats(0, 1, width=32))


@LAWS
@given(IMAGES, IMAGES)
def test_ssim_lies_in_minus_1_to_1_and_is_symmetric(one, two):
    one, two = torch.from_numpy(one), torch.from_numpy(two)
    value = ssim(one, two).item()
    assert -1 <= value <= 1 + 1e-6
    assert value == pytest.approx(ssim(two, one).item(), abs=1e-6)
    assert ssim(one, one).item() == pytest.approx(1, abs=1e-6)
    # mirrored or turned alike, two images are as alike as before
    assert ssim(one.flip(3).transpose(2, 3), two.flip(3).transpose(2, 3)).item() == pytest.approx(value, abs=1e-6)


# ---- sets of images --------------------------------------------------------------------------

CELLS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=2, max_size=40)


def cells_as_set(cells, within_labels):
    """Groups that span the labels, as persons do, or lie within one, as scenes do."""
    groups = [f"{label if within_labels else ''}{group}" for label, group in cells]
    names = [f"n{i}" for i in range(len(cells))]
    return image_set(0, len(cells), 1, 1, 1, names=names, labels=[label for label, _ in cells], groups=groups)


@LAWS
@given(st.data(), CELLS, st.booleans(), st.floats(0.01, 0.99), SEED)
def test_a_split_keeps_groups_apart_whatever_their_order(data, cells, within_labels, fraction, seed):
    images = cells_as_set(cells, within_labels)
    if len(set(images.groups)) < 2:
        with pytest.raises(ValueError, match="two or more groups"):
            split_images(images, fraction, seed)
        return
    train, held_out = split_images(images, fraction, seed)
    assert len(train) >= 1 and len(held_out) >= 1
    assert not set(train.groups) & set(held_out.groups)
    assert sorted(train.names + held_out.names) == sorted(images.names)
    labels_of = {}
    for group, label in zip(images.groups, images.labels):
        labels_of.setdefault(group, set()).add(label)
    if any(
        len(labels) > 1 for labels in labels_of.values()
    ):  # split as a whole: as near to the fraction as groups allow
        largest = max(map(images.groups.count, labels_of))
        assert abs(len(held_out) - fraction * len(images)) <= largest
    else:  # split label by label: those of two groups or more are on both sides
        for label in set(images.labels):
            if sum(label in labels for labels in labels_of.values()) > 1:
                assert label in train.labels and label in held_out.labels
    order = data.draw(st.permutations(range(len(cells))), "order")
    again = split_images(images[order], fraction, seed)
    assert [set(side.names) for side in again] == [set(train.names), set(held_out.names)]


@LAWS
@given(CELLS, st.integers(1, 60), SEED)
def test_a_sample_takes_what_was_asked_for_evenly(cells, count, seed):
    images = cells_as_set(cells, within_labels=True)
    some = images.sample(count, seed)
    assert len(some) == min(count, len(images)) == len(set(some.names))
    positions = [images.names.index(name) for name in some.names]
    assert positions == sorted(positions)
    taken = {label: some.labels.count(label) for label in set(images.labels)}
    for label, number in taken.items():  # a label has fewer than another only when it has no more to give
        assert number == images.labels.count(label) or number >= max(taken.values()) - 1


@FEW
@given(st.integers(1, 30), st.integers(1, 30), st.none() | st.integers(1, 40), st.sampled_from([1, 3]),
       st.integers(1, 3), st.sampled_from(["png", "jpg", "bmp", "webp"]))  # fmt: skip
def test_images_of_any_size_load_in_the_shape_asked_for(tmp_path_factory, height, width, size, channels, count, kind):
    folder = tmp_path_factory.mktemp("any")
    level = np.full((height, width, 3), 200, np.uint8)
    for number in range(count):
        Image.fromarray(level).save(folder / f"{number}.{kind}")
    images = load_images(folder, size, channels, cache=folder / "cache")
    assert images.shape == (count, channels, size or height, size or width)
    assert images.pixels.dtype == torch.uint8 and (images.pixels.int() - 200).abs().max() <= 2  # cutting and resizing
