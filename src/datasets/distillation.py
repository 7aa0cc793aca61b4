"""Pairs whose target is the mean of a trained network's outputs over flips and turns, or between it and clean."""

import numpy as np
import torch
from torch import Tensor, nn

from src.device import autocast, to_device
from src.files import whole_number
from src.files.fingerprint import weights_sha256
from src.noise import GaussianNoiseDataset


class DistillationDataset:
    """Pairs (noisy, target) for `fit`, float32 [B, C, H, W]; target: the mean of a teacher's outputs over symmetries.

    A denoiser's mean output over the eight flips and quarter turns is better than each output. A network can learn that
    mean (Radosavovic et al., "Data distillation", CVPR 2018). Clean images hold detail that cannot be predicted from
    the noisy ones, which makes the gradient noisy. The teacher's output holds no such detail.

    pairs    a GaussianNoiseDataset of square images or crops, which gives noisy
    teacher  a denoiser; it stays as it is
    members  number of symmetries in the mean, 1 to 8, drawn anew for each pair and epoch
    clean_weight  fraction of the clean image in the target, 0 to below 1; the rest is the teacher's. It teaches what
             the teacher does not know; the noise of the gradient is multiplied by it

    The draws depend on (seed, epoch, index) alone, as the pairs do. Raises ValueError for wrong arguments.
    """

    def __init__(self, pairs: GaussianNoiseDataset, teacher: nn.Module, members: int = 2, clean_weight: float = 0.0):
        _, height, width = self.shape = pairs.shape
        if height != width:
            raise ValueError(f"pairs must be square to be turned, got {height}x{width} pixels; give them a crop_size")
        self.pairs, self.teacher, self.set_epoch = pairs, teacher.eval(), pairs.set_epoch
        self.members = whole_number("members", members, 1, 8)
        if not 0 <= clean_weight < 1:
            raise ValueError(f"clean_weight must be from 0 to below 1, got {clean_weight}; 1 needs no teacher")
        self.clean_weight = clean_weight

    @property
    def config(self) -> dict:
        """What decides the pairs besides the epoch: part of a run's fingerprint."""
        teacher = weights_sha256(self.teacher.state_dict())
        return self.pairs.config | dict(teacher=teacher, members=self.members, clean_weight=self.clean_weight)

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        noisy, clean = self.pairs.batch(indices)
        turns = [turn for index in indices for turn in self.turns(range(len(self))[index])]
        outputs = turned_outputs(self.teacher, noisy.repeat_interleave(self.members, dim=0), turns)
        mean = outputs.unflatten(0, (len(indices), self.members)).mean(dim=1)
        return noisy, torch.lerp(mean, clean, self.clean_weight)

    def turns(self, index: int) -> list[int]:
        """The symmetries of pair `index` in this epoch: different numbers from 0 to 7."""
        epoch = 0 if self.pairs.fixed else 1 + self.pairs.epoch
        rng = np.random.default_rng([self.pairs.seed, epoch, index, 1])  # 1: other draws than the pair's own
        return rng.permutation(8)[: self.members].tolist()


@torch.no_grad()
def turned_outputs(model: nn.Module, images: Tensor, turns: list[int]) -> Tensor:
    """The model's output for each image in one of its symmetries, undone in the output.

    images: float32 [B, C, H, H]. turns: B numbers from 0 to 7. Returns float32 [B, C, H, H] where the images are.
    """
    where = next(model.parameters()).device
    turned = torch.stack([flip_and_turn(image, turn) for image, turn in zip(images, turns)])
    with autocast(where):
        outputs = model(to_device(turned, where)).float().to(images.device)
    return torch.stack([flip_and_turn(image, turn, back=True) for image, turn in zip(outputs, turns)])


def flip_and_turn(image: Tensor, turn: int, back: bool = False) -> Tensor:
    """One of the eight flips and quarter turns of a square [C, H, H], by its number 0 to 7; back: undone."""
    if back:
        return torch.rot90(image.flip(2) if turn >= 4 else image, -(turn % 4), (1, 2))
    image = torch.rot90(image, turn % 4, (1, 2))
    return image.flip(2) if turn >= 4 else image
