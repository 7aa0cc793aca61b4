"""Gaussian noise, crops and turns made on the device that trains: no pair crosses from the CPU to a GPU.

    train_set = DeviceNoiseDataset(train_images, sigma=0.2, seed=0, crop_size=64, augment=True)

numpy's generators cannot run on a GPU, so the draws come from Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC 2011), a hash of a counter and a key, in tensor operations. A pair still
depends on (seed, epoch, index) alone, and is the same on a CPU and on a GPU up to the rounding of log and cos; it is
another draw than GaussianNoiseDataset's, so a run's fingerprint names the class.
"""

import math

import torch
from torch import Tensor

from src.device import device
from src.images import ImageSet
from src.noise import GaussianNoiseDataset

MULTIPLIERS, WEYL, MASK = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 0xFFFFFFFF
NOISE, CHOICES = 0, 1  # third word of the counter: the noise, and the crop, turn and sigma


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


def normal(words: tuple[Tensor, ...]) -> Tensor:
    """float32 [..., 4], normal with mean 0 and standard deviation 1, of Philox's four words (Box and Muller 1958)."""
    radius = [(-2 * uniform(word).log()).sqrt() for word in words[:2]]
    angle = [2 * math.pi * uniform(word) for word in words[2:]]
    return torch.stack([r * f(a) for r, a in zip(radius, angle) for f in (torch.cos, torch.sin)], dim=-1)


class DeviceNoiseDataset(GaussianNoiseDataset):
    """GaussianNoiseDataset, its images and draws on `where` (None: the device that trains); same arguments and law.

    `batch` returns (noisy, clean), float32 [B, C, H, W] on that device. Images must be square to be turned.
    """

    def __init__(self, images: ImageSet | Tensor, *args, where: torch.device | None = None, **kwargs):
        super().__init__(images, *args, **kwargs)
        self.where = where or device()
        self.pixels = self.images.pixels.to(self.where)  # uint8 [N, C, H, W]
        if self.augment and self.crop_size is None and self.pixels.shape[2] != self.pixels.shape[3]:
            raise ValueError(f"augment needs square images or a crop, got {self.images.shape}; try crop_size=64")

    @property
    def config(self) -> dict:
        return super().config | {"class": "src.datasets.device_noise.DeviceNoiseDataset"}

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([range(len(self))[index] for index in indices], device=self.where)
        crop, turn, sigma = self._choices(rows)
        clean = self._turned(self._cropped(rows, crop), turn).float() / 255  # [B, C, H, W]
        count = -(-clean[0].numel() // 4)
        places = torch.arange(count, device=self.where).expand(len(rows), count)
        words = philox((places, self._epoch(places), torch.full_like(places, NOISE), rows[:, None].expand_as(places)),
                       self._key())  # fmt: skip
        noise = normal(words).flatten(1)[:, : clean[0].numel()].view_as(clean)
        noisy = clean + sigma.view(-1, 1, 1, 1) * noise
        return (noisy.clamp(0, 1) if self.clip else noisy), clean

    def _key(self) -> tuple[int, int]:
        return self.seed & MASK, (self.seed >> 32) & MASK

    def _epoch(self, like: Tensor) -> Tensor:
        return torch.full_like(like, 0 if self.fixed else 1 + self.epoch)

    def _choices(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(top and left as fractions [B, 2], turn 0 to 7 [B], sigma [B]) of each pair."""
        zeros = torch.zeros_like(rows)
        words = philox((zeros, self._epoch(rows), torch.full_like(rows, CHOICES), rows), self._key())
        low, high = self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)
        sigma = low + (high - low) * uniform(words[3])
        return torch.stack([uniform(word) for word in words[:2]], dim=1), words[2] & 7, sigma

    def _cropped(self, rows: Tensor, fraction: Tensor) -> Tensor:
        """uint8 [B, C, side, side]: drawn from half a crop beyond the border and pushed back, see random_square."""
        if self.crop_size is None:
            return self.pixels[rows]
        side, beyond = self.crop_size, self.crop_size // 2
        height, width = self.pixels.shape[2:]
        spans = torch.tensor([height - side, width - side], device=self.where)
        corner = (fraction * (spans + 1 + 2 * beyond)).long() - beyond
        corner = corner.clamp(min=0).minimum(spans)  # [B, 2]
        steps = torch.arange(side, device=self.where)
        ys, xs = corner[:, :1] + steps, corner[:, 1:] + steps  # [B, side]
        return self.pixels[rows[:, None, None], :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)

    def _turned(self, images: Tensor, turn: Tensor) -> Tensor:
        """Each image by its own of the eight flips and quarter turns."""
        if not self.augment:
            return images
        for bit, change in ((4, lambda x: x.transpose(2, 3)), (2, lambda x: x.flip(3)), (1, lambda x: x.flip(2))):
            images = torch.where(((turn & bit) > 0).view(-1, 1, 1, 1), change(images), images)
        return images
