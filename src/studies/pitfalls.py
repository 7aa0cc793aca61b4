"""The mistakes of 2021, each to be switched on alone, for 06_pitfalls. See also corruptions.py (FrozenNoise)."""

import copy

import numpy as np
import torch
from src.studies.corruptions import Pairs
from torch import Tensor, nn

from src import ImageSet
from src.losses import ssim_loss

MEAN, STD = 0.5, 0.032  # of 2021: the standard deviation of the pictures' standard deviations, not of their pixels


class TransposedTargets(Pairs):
    """The target lies on its side: axes 2 and 3 exchanged, as (H, W) and (W, H) are easily."""

    def batch(self, indices):
        noisy, clean = self.inner.batch(indices)
        return noisy, clean.transpose(2, 3).contiguous()


class Normalised(Pairs):
    """Both sides by (x - MEAN) / STD, which leaves them about 8 wide where 1 is meant."""

    def batch(self, indices):
        return tuple((x - MEAN) / STD for x in self.inner.batch(indices))


class _Judged(nn.Module):
    """A network as a mistake has it used; `network` is a copy."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network)


class Turned(_Judged):
    """Its output turned by the exchange of the axes: the network is right, what is shown of it is not."""

    def forward(self, noisy: Tensor) -> Tensor:
        return self.network(noisy).transpose(2, 3)


class Unnormalised(_Judged):
    """The rightful use of a network trained on `Normalised`: pictures go in and come out by the same rule."""

    def forward(self, noisy: Tensor) -> Tensor:
        return self.network((noisy - MEAN) / STD) * STD + MEAN


class TrainingMode(_Judged):
    """BatchNorm with the statistics of one picture at a time, as in training with batch 1."""

    def forward(self, noisy: Tensor) -> Tensor:
        self.network.train()
        return torch.cat([self.network(image[None]) for image in noisy])


def upside_down(denoised: Tensor, clean: Tensor) -> Tensor:
    """SSIM minimised: the sign that the loss of 2021 may have had. 1 is its worst value, not its best."""
    return 1 - ssim_loss(denoised, clean)


def split_by_file(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """80 % and 20 % of the pictures, whoever or whatever they show: the same people and scenes on both sides."""
    order = np.random.default_rng([seed, 0]).permutation(len(images))
    first = round(0.8 * len(images))
    return images[np.sort(order[:first])], images[np.sort(order[first:])]


def psnr_of_the_mean(image: Tensor, clean: Tensor, data_range: float = 1.0) -> float:
    """PSNR in dB of the mean squared error over a whole batch, at any data range: two mistakes in one line."""
    return (10 * torch.log10(data_range**2 / (image - clean).square().mean())).item()
