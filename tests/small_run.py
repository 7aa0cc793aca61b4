"""A run so small that an epoch takes hundredths of a second: for tests of training, checkpoints and fingerprints."""

import numpy as np
import torch
from torch import nn

from src.config import TrainConfig
from src.images import ImageSet
from src.noise import GaussianNoiseDataset
from src.unet import UNet

# 2.6 cannot write ONNX; what lies between was not tried
NO_ONNX = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 15)


def small(seed=0, widths=(4, 8), **config):
    """A network, two data sets and a config: 8 images to train on and 2 held out, ramps of 24x24."""
    ramp = np.linspace(0, 255, 24)
    rng = np.random.default_rng(0)
    pixels = np.stack([np.add.outer(ramp * a, ramp * b) / 2 for a, b in rng.random((10, 2))])
    images = ImageSet.from_pixels(torch.from_numpy(pixels[:, None].astype(np.uint8)))
    train_set = GaussianNoiseDataset(images[:8], sigma=0.2, seed=seed, crop_size=16, augment=True)
    test_set = GaussianNoiseDataset(images[8:], sigma=0.2, seed=9, fixed=True)
    settings = dict(epochs=2, batch_size=4, seed=seed, evaluate_every=1) | config
    return UNet(1, widths, seed=seed), train_set, test_set, TrainConfig(**settings)


class Normalised(nn.Module):
    """A network of a user's own, with a BatchNorm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))

    def forward(self, noisy):
        return noisy - self.body(noisy)


def same(a, b):
    """Whether two networks hold the same weights, bit by bit."""
    a, b = (model.state_dict() for model in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def figures(history):
    """The records of a history without their times."""
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def spoil(train_set, *calls):
    """From now on these calls of batch, counted from 1, give images of NaN."""
    batch, count = train_set.batch, iter(range(1, 10**6))

    def spoilt(indices):
        factor = float("nan") if next(count) in calls else 1.0
        return tuple(x * factor for x in batch(indices))

    train_set.batch = spoilt
