"""The mistakes of 2021, each to be made alone, for 06_pitfalls. See also corruptions.py (FrozenNoiseDataset)."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from src.images import ImageSet
from src.losses import ssim_loss
from src.noise import GaussianNoiseDataset
from src.studies.corruptions import FrozenNoiseDataset

MEAN, STD = 0.5, 0.032  # of 2021: the standard deviation of the images' standard deviations, not of their pixels


class TransposedTargetDataset(GaussianNoiseDataset):
    """Axes 2 and 3 of the target exchanged, as (H, W) and (W, H) are easily; the images must be square."""

    @property
    def config(self) -> dict:
        return super().config | dict(kind="transposed target")

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        super().fill(index, noisy, clean)
        clean[:] = clean.transpose(0, 2, 1).copy()


class WrongNormalisationDataset(GaussianNoiseDataset):
    """Both sides by (x - MEAN) / STD, which leaves them 16 wide where about 4 is meant."""

    @property
    def config(self) -> dict:
        return super().config | dict(kind="wrong normalisation")

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        noisy, clean = super().batch(indices)
        return (noisy - MEAN) / STD, (clean - MEAN) / STD


class TransposedOutput(nn.Module):
    """The network is right, what is shown of it is not: its output with exchanged axes."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, noisy: Tensor) -> Tensor:
        return self.network(noisy).transpose(2, 3)


class NormalisedAsTrained(nn.Module):
    """The right use of a network trained on `WrongNormalisationDataset`: normalise its input, scale its output back."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, noisy: Tensor) -> Tensor:
        return self.network((noisy - MEAN) / STD) * STD + MEAN


class TrainMode(nn.Module):
    """BatchNorm with the statistics of one image at a time, as in training with batch size 1."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, noisy: Tensor) -> Tensor:
        self.network.train()
        return torch.cat([self.network(image[None]) for image in noisy])


# the recipe of 2021 but for its network and number of epochs
PROTOCOL_2021 = dict(
    n_images=4, dataset=FrozenNoiseDataset, crop_size=None, augment=False, batch_size=1, optimizer="adam", adam_lr=2e-4,
    decay=10**9, ema_rel_std=1e-3, evaluate_as=TrainMode, snapshots=(10, 100), evaluate_every=20,
)  # fmt: skip


def ssim_with_wrong_sign(denoised: Tensor, clean: Tensor) -> Tensor:
    """SSIM, minimised: the sign that the loss of 2021 may have had. 1 is its best value, and its worst here."""
    return 1 - ssim_loss(denoised, clean)


def split_by_file(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """80 % and 20 % of the images at random: the same people and scenes on both sides."""
    order = np.random.default_rng([seed, 0]).permutation(len(images))
    first = round(0.8 * len(images))
    return images[np.sort(order[:first])], images[np.sort(order[first:])]


def psnr_of_mean_error(image: Tensor, clean: Tensor, data_range: float = 1.0) -> float:
    """PSNR in dB of the mean squared error over all images, at any data range: two mistakes in one line."""
    return (10 * torch.log10(data_range**2 / (image - clean).square().mean())).item()
