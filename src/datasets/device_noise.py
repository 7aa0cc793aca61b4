"""Gaussian noise, crops and turns made on the device that trains: only the indices cross from the CPU to a GPU.

    train_set = DeviceNoiseDataset(train_images, sigma=0.2, seed=0, crop_size=64, augment=True)

numpy's generators cannot run on a GPU, so the draws come from Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC 2011), a hash of a counter and a key, in tensor operations. A pair still
depends on (seed, epoch, index) alone, and is the same on a CPU and on a GPU up to the rounding of log and cos; it is
another draw than GreyShrinkDataset's, so a run's fingerprint names the class.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.datasets import LUMA
from src.datasets.grey_and_shrink import GreyShrinkDataset, photo_sharpness, vivid_colours
from src.device import device
from src.images import ImageSet

MULTIPLIERS, WEYL, MASK = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 0xFFFFFFFF
NOISE, CHOICES, COLOURS = 0, 1, 2  # third word of the counter: of the noise; crop, turn, sigma, scale, grey; colours


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words of 32 random bits, int64 tensors of the counter's shape.

    counter: four int64 tensors of one shape, each below 2^32. key: two numbers below 2^32.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # 64 bits, in a signed number
        high0, high1 = (product0 >> 32) & MASK, (product1 >> 32) & MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, product1 & MASK, high0 ^ c3 ^ k1, product0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def uniform(bits: Tensor) -> Tensor:
    """float32 in (0, 1) of 32 random bits: the middles of 2^23 steps, which float32 holds exactly."""
    return ((bits >> 9).float() + 0.5) * 2.0**-23


def normal(words: Tensor) -> Tensor:
    """float32 [..., 4], normal with mean 0 and standard deviation 1, of Philox's four words (Box and Muller 1958)."""
    u = uniform(words)
    radius, angle = (-2 * u[..., :2].log()).sqrt(), 2 * math.pi * u[..., 2:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)


def shrinking_matrices(side: int, largest: int) -> Tensor:
    """float32 [largest - side + 1, side, largest], the weights that shrink side, side + 1, ..., largest pixels to side.

    Bicubic with antialiasing, as `shrunk`: matrices[n] @ image @ matrices[n].mT shrinks the first side + n rows and
    columns of an image [largest, largest].
    """
    matrices = torch.zeros(largest - side + 1, side, largest)
    for matrix, before in zip(matrices, range(side, largest + 1)):
        columns = torch.eye(before)[None, None]
        matrix[:, :before] = F.interpolate(columns, size=(side, before), mode="bicubic", antialias=True)[0, 0]
    return matrices


class DeviceNoiseDataset(GreyShrinkDataset):
    """GreyShrinkDataset, its images and draws on `where` (None: the device that trains); same arguments and law.

    `batch` returns (noisy, clean), float32 [B, C, H, W] on that device, and a GPU's queue never waits for it. Raises
    ValueError besides where images are to be turned that are neither square nor cropped.
    """

    def __init__(self, images: ImageSet | Tensor, *args, where: torch.device | None = None, **kwargs):
        super().__init__(images, *args, **kwargs)
        self.where = where or device()
        self.pixels = self.images.pixels.to(self.where)  # uint8 [N, C, H, W]
        if self.augment and self.crop_size is None and self.pixels.shape[2] != self.pixels.shape[3]:
            raise ValueError(f"augment needs square images or a crop, got {self.images.shape}; try crop_size=64")
        self.luma = torch.from_numpy(LUMA).to(self.where).view(3, 1, 1)
        if self.crop_size is not None:
            self.largest = round(self.crop_size / self.min_scale)
            self.shrinking = shrinking_matrices(self.crop_size, self.largest).to(self.where)

    @property
    def config(self) -> dict:
        return super().config | {"class": "src.datasets.device_noise.DeviceNoiseDataset"}

    def transform(self, index: int, image: np.ndarray) -> np.ndarray:
        raise ValueError("transform draws its crop by numpy, got a set that draws by Philox; use GreyShrinkDataset")

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([range(len(self))[index] for index in indices]).to(self.where, non_blocking=True)
        turn, sigma, grey, _, *square = uniform(self._words(rows, 2, CHOICES)).flatten(1).unbind(1)  # eight of [B]
        clean = self._turned(self._cropped(rows, *square), (8 * turn).long()) / 255  # [B, C, H, W]
        if self.sharp:
            clean = photo_sharpness(clean)
        if self.vivid:
            clean = vivid_colours(clean, uniform(self._words(rows, 2, COLOURS)).flatten(1)[:, :5])
        count = -(-clean[0].numel() // 4)
        noise = normal(self._words(rows, count, NOISE)).flatten(1)[:, : clean[0].numel()].view_as(clean)
        if self.grey_fraction:
            grey = (grey < self.grey_fraction).view(-1, 1, 1, 1)
            clean = torch.where(grey, (self.luma * clean).sum(1, keepdim=True), clean)
            noise = torch.where(grey, noise[:, :1], noise)
        low, high = self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)
        noisy = clean + (low + (high - low) * sigma).view(-1, 1, 1, 1) * noise
        return (noisy.clamp(0, 1) if self.clip else noisy), clean

    def _words(self, rows: Tensor, count: int, purpose: int) -> Tensor:
        """Random bits of each pair: Philox's words at `count` counters, int64 [B, count, 4]."""
        places = torch.arange(count, device=self.where).expand(len(rows), count)
        epoch, purpose = (torch.full_like(places, n) for n in (0 if self.fixed else 1 + self.epoch, purpose))
        key = self.seed & MASK, (self.seed >> 32) & MASK
        return torch.stack(philox((places, epoch, purpose, rows[:, None].expand_as(places)), key), dim=-1)

    def _cropped(self, rows: Tensor, top: Tensor, left: Tensor, shrink: Tensor, scale: Tensor) -> Tensor:
        """float32 [B, C, side, side] in 0..255: squares placed as by random_square, and shrunk as by `shrunk`.

        top, left, shrink, scale: [B], uniform in (0, 1).
        """
        if self.crop_size is None:
            return self.pixels[rows].float()
        scale = torch.where(shrink < 0.75, self.min_scale + (1 - self.min_scale) * scale, 1.0)
        sides = (self.crop_size / scale).round().long().clamp(max=self.largest)  # [B], before shrinking
        window, beyond, places = torch.arange(self.largest, device=self.where), sides // 2, []
        for fraction, whole in zip((top, left), self.pixels.shape[2:]):
            corner = (fraction * (whole - sides + 1 + 2 * beyond)).long() - beyond
            corner = corner.clamp(min=0).minimum(whole - sides)
            places.append((corner[:, None] + window).clamp(max=whole - 1))  # [B, largest]; weight 0 beyond the side
        ys, xs = places
        squares = self.pixels[rows[:, None, None], :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2).float()
        if self.min_scale == 1:
            return squares
        matrices = self.shrinking[sides - self.crop_size][:, None]  # [B, 1, side, largest]
        return (matrices @ squares @ matrices.mT).round().clamp(0, 255)

    def _turned(self, images: Tensor, turn: Tensor) -> Tensor:
        """Each image by its own of the eight flips and quarter turns."""
        if not self.augment:
            return images
        for bit, change in ((4, lambda x: x.transpose(2, 3)), (2, lambda x: x.flip(3)), (1, lambda x: x.flip(2))):
            images = torch.where(((turn & bit) > 0).view(-1, 1, 1, 1), change(images), images)
        return images
