"""Pairs for a denoiser of any photo: some of them grey, some of images made smaller before the noise is added."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.datasets import LUMA
from src.images import ImageSet
from src.noise import GaussianNoiseDataset, random_square


class GreyShrinkDataset(GaussianNoiseDataset):
    """Pairs (noisy, clean) as of GaussianNoiseDataset, of which some are grey and some are shrunk.

    grey_fraction  fraction in [0, 1] of the pairs that are grey: luma (ITU-R 601) in all three channels, with the same
                   noise in them. A network trained on some denoises colour and grey images
    min_scale      0.5: three in four of the crops are of the image made smaller, by a factor drawn evenly from 0.5 to
                   1, so that edges are as sharp as in small images. 1: none. crop_size / min_scale must fit into the
                   images

    The other arguments and the errors are those of GaussianNoiseDataset.
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
        grey_fraction: float = 0.0,
        min_scale: float = 1.0,
    ):
        super().__init__(images, sigma, seed, fixed, clip, crop_size, augment)
        channels, shorter = self.images.shape[1], min(self.images.shape[2:])
        if not 0 <= grey_fraction <= 1:
            raise ValueError(f"grey_fraction must be in [0, 1], got {grey_fraction!r}; try grey_fraction=0.25")
        if grey_fraction and channels != 3:
            raise ValueError(f"grey_fraction needs images of 3 channels, got {channels}; try grey_fraction=0")
        if not 0 < min_scale <= 1:
            raise ValueError(f"min_scale must be above 0 and at most 1, got {min_scale!r}; try min_scale=0.5")
        if min_scale < 1 and self.crop_size is None:
            raise ValueError(f"min_scale={min_scale} needs a crop_size, got None; try crop_size=64")
        if min_scale < 1 and round(self.crop_size / min_scale) > shorter:
            raise ValueError(
                f"crops of {self.crop_size} at min_scale={min_scale} need {round(self.crop_size / min_scale)} pixels, "
                f"the images have {shorter}; try min_scale={math.ceil(100 * self.crop_size / shorter) / 100}"
            )
        self.grey_fraction, self.min_scale = grey_fraction, min_scale

    @property
    def config(self) -> dict:
        """What decides the pairs besides the epoch: part of a run's fingerprint."""
        return super().config | dict(grey_fraction=self.grey_fraction, min_scale=self.min_scale)

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        """Write pair `index` into two float32 [C, H, W]."""
        rng = self.rng(index)
        np.divide(self.augmented(rng, self.images.array(index)), np.float32(255), out=clean)
        sigma = rng.uniform(*self.sigma) if isinstance(self.sigma, tuple) else self.sigma
        grey = self.grey_fraction > 0 and rng.random() < self.grey_fraction
        rng.standard_normal(dtype=np.float32, out=noisy)
        if grey:
            clean[:], noisy[1:] = np.tensordot(LUMA, clean, 1), noisy[0]
        noisy *= np.float32(sigma)
        noisy += clean

    def crop(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        """A random square of crop_size, of the image or of the image made smaller."""
        scale = rng.uniform(self.min_scale, 1) if self.min_scale < 1 and rng.random() < 0.75 else 1
        square = random_square(rng, image, round(self.crop_size / scale))
        return square if square.shape[1] == self.crop_size else shrunk(square, self.crop_size)

    def transform(self, index: int, image: np.ndarray) -> np.ndarray:
        """As of GaussianNoiseDataset; ValueError where crops are shrunk, which changes a mask or noise."""
        if self.min_scale < 1:
            raise ValueError(f"transform needs crops that are not shrunk, got min_scale={self.min_scale}; use 1")
        return super().transform(index, image)


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """A square uint8 [C, H, H] at [C, side, side], bicubic with antialiasing."""
    smaller = F.interpolate(
        torch.from_numpy(image.astype(np.float32))[None], size=(side, side), mode="bicubic", antialias=True
    )
    return smaller[0].round().clamp(0, 255).numpy().astype(np.uint8)
