"""Draws made on the device: Philox by its published vectors, the law of the noise, and the key (seed, epoch, index)."""

import math

import pytest
import torch

from src.config import TrainConfig
from src.datasets.device_noise import DeviceNoiseDataset, philox
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


def test_a_pair_depends_on_seed_epoch_and_index_alone(images):
    options = dict(sigma=(0, 0.3), crop_size=16, augment=True)
    train_set = DeviceNoiseDataset(images, seed=1, **options)
    train_set.set_epoch(4)
    together, alone = train_set.batch([3, 7, -1]), train_set.batch([7])
    assert torch.equal(together[0][1], alone[0][0]) and torch.equal(together[1][1], alone[1][0])
    again = DeviceNoiseDataset(images, seed=1, **options)
    assert not torch.equal(again.batch([7])[0], alone[0])
    again.set_epoch(4)
    assert torch.equal(again.batch([7])[0], alone[0])
    assert not torch.equal(DeviceNoiseDataset(images, seed=2, **options).batch([7])[0], alone[0])


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
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_draws_what_the_cpu_draws(images):
    options = dict(sigma=(0, 0.3), seed=1, crop_size=16, augment=True)
    here, there = (
        DeviceNoiseDataset(images, **options, where=torch.device(w)).batch([0, 5, 11]) for w in ("cpu", "cuda")
    )
    assert torch.equal(here[1], there[1].cpu())
    torch.testing.assert_close(here[0], there[0].cpu(), atol=2e-6, rtol=0)
