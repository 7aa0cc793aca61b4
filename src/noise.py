"""Gaussian noise: noisy = clean + sigma * normal(0, 1), whose PSNR is -20 * log10(sigma) dB."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.files import whole_number
from src.images import ImageSet


def check_sigma(sigma: float | tuple[float, float]) -> float | tuple[float, float]:
    """sigma, or (lowest, highest) of a range, as floats; ValueError unless in [0, 1], the unit of the images."""
    if isinstance(sigma, (tuple, list)):
        if len(sigma) != 2 or not check_sigma(sigma[0]) < check_sigma(sigma[1]):
            raise ValueError(f"a range of sigma must be (lowest, highest), got {sigma!r}; try sigma=(0, 55/255)")
        return check_sigma(sigma[0]), check_sigma(sigma[1])
    try:
        value = float(sigma)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value <= 1:
        raise ValueError(f"sigma must be in [0, 1], the unit of the images, got {sigma!r}; 8-bit levels need / 255")
    return value


class GaussianNoiseDataset(Dataset):
    """Pairs (noisy, clean), float32 [C, H, W]; noisy = clean + sigma * normal(0, 1).

    images     an ImageSet, or a float tensor [N, C, H, W] in [0, 1] (kept as 8 bits)
    sigma      standard deviation of the noise: 0.2 is 51/255. (lowest, highest): drawn uniformly for each pair
    seed       of the noise, a whole number >= 0
    fixed      True: the same noise at every epoch, for held-out images. False: fresh noise
    clip       True: noisy is clipped to [0, 1], so its noise is not Gaussian near black and white
    crop_size  side in pixels of a random square, at most H and W; None: the whole image
    augment    True: one of the eight flips and quarter turns at random, before the noise is added

    Everything random about a pair is a function of (seed, epoch, index) alone: not of the batch size, the order, the
    number of workers, or any global generator. A loop of your own must call `set_epoch`, as `training_loop` does, or
    every epoch has the same noise. Raises ValueError for wrong arguments.
    """

    def __init__(
        self,
        images: ImageSet | Tensor,
        sigma: float | tuple[float, float] = 0.2,
        seed: int = 0,
        fixed: bool = False,
        clip: bool = False,
        crop_size: int | None = None,
        augment: bool = False,
    ):
        self.images = images if isinstance(images, ImageSet) else ImageSet.from_floats(images)
        if len(self.images) == 0:
            raise ValueError("there are no images, expected at least one; check the selection")
        shorter = min(self.images.shape[2:])
        fix = f"try crop_size={shorter}, the images' shorter side, or None for whole images"
        self.crop_size = None if crop_size is None else whole_number("crop_size", crop_size, 1, shorter, fix)
        self.sigma, self.seed = check_sigma(sigma), whole_number("seed", seed)
        self.fixed, self.clip, self.augment, self.epoch = fixed, clip, augment, 0

    @property
    def config(self) -> dict:
        """What decides the pairs besides the epoch: part of a run's fingerprint."""
        return dict(
            images=self.images.digest, count=len(self), sigma=self.sigma, seed=self.seed, fixed=self.fixed,
            clip=self.clip, crop_size=self.crop_size, augment=self.augment,
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of each image as it is given out, cropped or whole."""
        channels, height, width = self.images.shape[1:]
        return (channels, height, width) if self.crop_size is None else (channels, self.crop_size, self.crop_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = whole_number("epoch", epoch)  # -1 would be the noise of fixed=True

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return tuple(x[0] for x in self.batch([index]))

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """(noisy, clean), each float32 [B, C, H, W] on the CPU; negative indices count from the end."""
        indices = [range(len(self))[index] for index in indices]
        noisy, clean = (np.empty((len(indices), *self.shape), np.float32) for _ in range(2))
        for row, index in enumerate(indices):
            self.fill(index, noisy[row], clean[row])
        if self.clip:
            np.clip(noisy, 0, 1, out=noisy)
        return torch.from_numpy(noisy), torch.from_numpy(clean)

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        """Write pair `index` into two float32 [C, H, W]."""
        rng = self.rng(index)
        np.divide(self.augmented(rng, self.images.array(index)), np.float32(255), out=clean)
        sigma = rng.uniform(*self.sigma) if isinstance(self.sigma, tuple) else self.sigma
        rng.standard_normal(dtype=np.float32, out=noisy)
        noisy *= np.float32(sigma)
        noisy += clean

    def rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 0 if self.fixed else 1 + self.epoch, index])

    def transform(self, index: int, image: np.ndarray) -> np.ndarray:
        """The crop and turn that pair `index` has in this epoch, of any array [., H, W]: a mask, say."""
        return self.augmented(self.rng(range(len(self))[index]), image)

    def augmented(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        if self.crop_size is not None:
            image = self.crop(rng, image)
        if self.augment:
            symmetry = rng.integers(8)
            if symmetry & 4 and image.shape[1] == image.shape[2]:  # a rectangle has four symmetries only
                image = image.transpose(0, 2, 1)
            image = image[:, :: -1 if symmetry & 1 else 1, :: -1 if symmetry & 2 else 1]
        return image

    def crop(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        return random_square(rng, image, self.crop_size)


def random_square(rng: np.random.Generator, image: np.ndarray, side: int) -> np.ndarray:
    """A square of [., H, W], drawn from half a square beyond both ends and pushed back inside.

    Evenly drawn squares hardly ever show the image's border, which is then hardly trained (0.15 dB: PROGRESS.md).
    """
    beyond = side // 2
    top, left = (
        min(max(0, rng.integers(-beyond, whole - side + 1 + beyond)), whole - side) for whole in image.shape[1:]
    )
    return image[:, top : top + side, left : left + side]
