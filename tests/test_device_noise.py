"""Draws made on the device: Philox by its published vectors, the law of the noise, and the key (seed, epoch, index)."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest, chisquare, kstest

from src.config import TrainConfig
from src.datasets.device_noise import DeviceNoiseDataset, philox, shrinking_matrices
from src.images import ImageSet
from src.loop import training_loop
from src.unet import UNet


@pytest.fixture
def images():
    pixels = torch.randint(0, 256, (12, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet.from_pixels(pixels)


# the known answers that come with the authors' library Random123 (kat_vectors, philox4x32 10)
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, answer):
    words = philox(tuple(torch.tensor([c]) for c in counter), tuple(key))
    assert [int(word) for word in words] == answer


def test_the_noise_is_normal_white_and_of_sigma(images):
    noisy, clean = DeviceNoiseDataset(images, sigma=0.2, seed=3).batch(list(range(12)))
    noise = ((noisy - clean) / 0.2).double()
    count = noise.numel()
    assert abs(noise.mean()) < 4 / count**0.5 and abs(noise.std() - 1) < 4 / (2 * count) ** 0.5
    assert abs((noise**4).mean() - 3) < 4 * (96 / count) ** 0.5  # kurtosis, whose variance is 96 / n
    normals = torch.distributions.Normal(0, 1)
    steps = (normals.cdf(noise.flatten().sort().values) - (torch.arange(count) + 0.5) / count).abs().max()
    assert steps < 1.95 / count**0.5  # Kolmogorov and Smirnov at 0.001
    for dim in (1, 2, 3):
        correlation = (noise.narrow(dim, 1, noise.shape[dim] - 1) * noise.narrow(dim, 0, noise.shape[dim] - 1)).mean()
        assert abs(correlation) < 5 / count**0.5


@pytest.mark.parametrize("more", [{}, dict(grey_fraction=0.5, min_scale=0.6, vivid=True)])
def test_a_pair_depends_on_seed_epoch_and_index_alone(images, more):
    options = dict(sigma=(0, 0.3), crop_size=16, augment=True, **more)
    train_set = DeviceNoiseDataset(images, seed=1, **options)
    train_set.set_epoch(4)
    together, alone = train_set.batch([3, 7, -1]), train_set.batch([7])
    assert torch.equal(together[0][1], alone[0][0]) and torch.equal(together[1][1], alone[1][0])
    again = DeviceNoiseDataset(images, seed=1, **options)
    assert not torch.equal(again.batch([7])[0], alone[0])
    again.set_epoch(4)
    assert torch.equal(again.batch([7])[0], alone[0])
    assert not torch.equal(DeviceNoiseDataset(images, seed=2, **options).batch([7])[0], alone[0])


def test_noise_of_other_seeds_epochs_and_indices_is_independent(images):
    noises = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (2**32, 0)):
        pairs = DeviceNoiseDataset(images, sigma=0.2, seed=seed)
        pairs.set_epoch(epoch)
        noisy, clean = pairs.batch(list(range(12)))
        noises += list((noisy - clean).flatten(1) / 0.2)
    correlation = torch.stack(noises) @ torch.stack(noises).T / len(noises[0])
    assert correlation.fill_diagonal_(0).abs().max() < 5 / len(noises[0]) ** 0.5


def drawn(count, **options):
    """The clean crops of count epochs of 12 images [3, 40, 40] without noise, in whole levels: 5 y, 5 x and 0."""
    rows = 5 * torch.arange(40, dtype=torch.uint8).view(40, 1).expand(40, 40)
    pixels = torch.stack([rows, rows.T, torch.zeros_like(rows)]).expand(12, 3, 40, 40)
    pairs, crops = DeviceNoiseDataset(ImageSet.from_pixels(pixels), sigma=0, **options), []
    for epoch in range(count):
        pairs.set_epoch(epoch)
        crops.append((pairs.batch(list(range(12)))[1] * 255).round())
    return torch.cat(crops)


def test_crops_lie_where_the_closed_form_says():
    """41 places from 8 pixels before the first to 8 after the last, of which 9 each are pushed back to an end."""
    corners = (drawn(300, crop_size=16)[:, :2, 0, 0] / 5).long()  # [3600, 2]
    expected = np.array([9, *[1] * 23, 9]) / 41
    for corner in corners.T:
        assert chisquare(np.bincount(corner, minlength=25), 3600 * expected).pvalue > 1e-3
    ends = (corners > 0).long() + (corners == 24)  # 0 first, 1 between, 2 last
    both = np.outer([9, 23, 9], [9, 23, 9]).ravel() / 41**2
    assert chisquare(np.bincount(3 * ends[:, 0] + ends[:, 1], minlength=9), 3600 * both).pvalue > 1e-3


def test_the_eight_turns_are_equally_frequent():
    images = drawn(150, augment=True)
    corners = images[:, :2, [0, 0, -1], [0, -1, 0]].flatten(1)  # of y and x at three corners: another in each turn
    _, counts = corners.unique(dim=0, return_counts=True)
    assert len(counts) == 8 and chisquare(counts).pvalue > 1e-3


def test_three_in_four_crops_are_shrunk_by_an_even_factor():
    """The side of each square shrunk to 16 pixels, by the slope that it leaves: round(16 / scale)."""
    crops = drawn(500, crop_size=16, min_scale=0.5)
    slopes = torch.stack([crops[:, 0, 12, 8] - crops[:, 0, 3, 8], crops[:, 1, 8, 12] - crops[:, 1, 8, 3]]) / 9
    sides = (16 * slopes / 5).round().long()  # a pixel more is 2.8 levels, rounded twice
    assert torch.equal(sides[0], sides[1])
    edges = np.clip([16 / (side - 0.5) for side in range(16, 34)], 0.5, 1)
    expected = 0.75 * (edges[:-1] - edges[1:]) / 0.5 + 0.25 * (np.arange(16, 33) == 16)
    assert chisquare(np.bincount(sides[0] - 16, minlength=17), 6000 * expected).pvalue > 1e-3


def test_crops_are_shrunk_as_pillow_shrinks():
    rng = np.random.default_rng(0)
    for matrix, side in zip(shrinking_matrices(16, 32), range(16, 33)):
        image = rng.random((32, 32), dtype=np.float32) * 255  # beyond `side` anything may stand
        expected = np.asarray(Image.fromarray(image[:side, :side]).resize((16, 16), Image.Resampling.BICUBIC))
        assert np.abs((matrix @ torch.from_numpy(image) @ matrix.T).numpy() - expected).max() < 0.01


def test_grey_and_sigma_have_their_laws(images):
    pairs = DeviceNoiseDataset(images, sigma=(0.1, 0.3), seed=5, grey_fraction=0.25)
    sigmas, grey = [], []
    for epoch in range(200):
        pairs.set_epoch(epoch)
        noisy, clean = pairs.batch(list(range(12)))
        sigmas += (noisy - clean).std(dim=(1, 2, 3)).tolist()
        grey += (clean[:, 0] == clean[:, 1]).all(dim=(1, 2)).tolist()
    assert binomtest(sum(grey), 2400, 0.25).pvalue > 1e-3
    assert kstest(sigmas, "uniform", (0.1, 0.2)).pvalue > 1e-3
    assert abs(np.corrcoef(sigmas, grey)[0, 1]) < 4 / 2400**0.5


def test_crops_show_the_image_turned(images):
    _, clean = DeviceNoiseDataset(images, sigma=0, crop_size=16, augment=True).batch(list(range(12)))
    for crop, image in zip(clean, images.pixels.float() / 255):
        turned = [torch.rot90(image, k, (1, 2)) for k in range(4)]
        windows = [t.unfold(1, 16, 1).unfold(2, 16, 1) for x in turned for t in (x, x.flip(2))]  # [C, 25, 25, 16, 16]
        assert any((window == crop[:, None, None]).all(dim=(0, 3, 4)).any() for window in windows)


def test_clipped_fixed_and_whole(images):
    test_set = DeviceNoiseDataset(images, sigma=0.5, seed=1, fixed=True, clip=True)
    noisy, clean = test_set.batch([0, 1])
    test_set.set_epoch(9)
    assert torch.equal(test_set.batch([0, 1])[0], noisy) and noisy.min() == 0 and noisy.max() == 1
    assert torch.equal(clean, images.pixels[:2].float() / 255)
    assert "device_noise" in test_set.config["class"]


def test_it_trains(images):
    train_set = DeviceNoiseDataset(images, sigma=0.3, crop_size=16, augment=True)
    records = list(training_loop(UNet(3, (16, 24)), train_set, None, TrainConfig(epochs=8, batch_size=4)))
    assert records[-1]["train_mse"] < records[0]["train_mse"] < 1.2 * 0.3**2
    assert math.isfinite(records[-1]["train_mse"])


@pytest.mark.gpu
@pytest.mark.parametrize("more", [{}, dict(grey_fraction=0.5)])
def test_a_gpu_draws_what_the_cpu_draws(images, more):
    options = dict(sigma=(0, 0.3), seed=1, crop_size=16, augment=True, **more)
    here, there = (
        DeviceNoiseDataset(images, **options, where=torch.device(w)).batch([0, 5, 11]) for w in ("cpu", "cuda")
    )
    torch.testing.assert_close(here[1], there[1].cpu(), atol=2e-7, rtol=0)
    torch.testing.assert_close(here[0], there[0].cpu(), atol=2e-6, rtol=0)


@pytest.mark.gpu
def test_a_gpu_shrinks_what_the_cpu_shrinks(images):
    """But for values of which one is rounded up and the other down."""
    options = dict(sigma=0, seed=1, crop_size=16, min_scale=0.5)
    here, there = (DeviceNoiseDataset(images, **options, where=torch.device(w)).batch([0, 5, 11])[1].cpu()
                   for w in ("cpu", "cuda"))  # fmt: skip
    assert (here - there).abs().max() < 1.01 / 255 and (here != there).float().mean() < 0.01


class Unread(DeviceNoiseDataset):
    """From the second epoch on, to wait for the GPU before an epoch's last batch of three is an error."""

    def batch(self, indices):
        self.asked = getattr(self, "asked", 0) + 1
        torch.cuda.set_sync_debug_mode("error" if self.epoch and self.asked % 3 else "default")
        return super().batch(indices)


@pytest.mark.gpu
def test_no_step_waits_for_the_gpu(images):
    train_set = Unread(images, sigma=0.2, crop_size=16, augment=True, grey_fraction=0.5, min_scale=0.6)
    loop = training_loop(UNet(3, (16, 24)), train_set, None, TrainConfig(epochs=3, batch_size=4, loss="psnr"))
    try:
        assert len(list(loop)) == 3 and train_set.asked == 9
    finally:
        torch.cuda.set_sync_debug_mode("default")
