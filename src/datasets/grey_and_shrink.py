"""Pairs for a denoiser of any photo: some grey, some made smaller; colours and sharpness of photos where asked for."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.datasets import LUMA
from src.images import ImageSet
from src.noise import GaussianNoiseDataset, random_square

FOUR_NEIGHBOURS = [[0.0, 0.25, 0.0], [0.25, 0.0, 0.25], [0.0, 0.25, 0.0]]  # a 3x3 kernel: their mean


class GreyShrinkDataset(GaussianNoiseDataset):
    """Pairs (noisy, clean) as of GaussianNoiseDataset, of which some are grey, some shrunk, and all vivid if asked for.

    grey_fraction  fraction in [0, 1] of the pairs that are grey: luma (ITU-R 601) in all three channels, with the same
                   noise in them. A network trained on some denoises colour and grey images
    min_scale      0.5: three in four of the crops are of the image made smaller, by a factor drawn evenly from 0.5 to
                   1, so that edges are as sharp as in small images. 1: none. crop_size / min_scale must fit into the
                   images
    vivid          True: contrast and colours of photos, see `vivid_colours`; for drawn images, whose colours are paler
    sharp          True: the sharpness of photos, see `photo_sharpness`; for drawn images

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
        vivid: bool = False,
        sharp: bool = False,
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
        for name, value in dict(vivid=vivid, sharp=sharp).items():
            if value and channels != 3:
                raise ValueError(f"{name} needs images of 3 channels, got {channels}; try {name}=False")
        self.grey_fraction, self.min_scale, self.vivid, self.sharp = grey_fraction, min_scale, vivid, sharp

    @property
    def config(self) -> dict:
        """What decides the pairs besides the epoch: part of a run's fingerprint."""
        about = dict(grey_fraction=self.grey_fraction, min_scale=self.min_scale)
        chosen = {name: True for name in ("vivid", "sharp") if getattr(self, name)}  # no new word for earlier runs
        return super().config | about | chosen

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        """Write pair `index` into two float32 [C, H, W]."""
        rng = self.rng(index)
        np.divide(self.augmented(rng, self.images.array(index)), np.float32(255), out=clean)
        sigma = rng.uniform(*self.sigma) if isinstance(self.sigma, tuple) else self.sigma
        grey = self.grey_fraction > 0 and rng.random() < self.grey_fraction
        if self.sharp:
            clean[:] = photo_sharpness(torch.from_numpy(clean)[None])[0]
        if self.vivid:
            draws = torch.from_numpy(rng.random(5, dtype=np.float32))[None]
            clean[:] = vivid_colours(torch.from_numpy(clean)[None], draws)[0]
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


def vivid_colours(images: Tensor, draws: Tensor) -> Tensor:
    """Give drawn images the contrast, brightness and colours that photos have; float32 [B, 3, H, W] in [0, 1].

    Half of the colour of the photos of BSD400 is missing in `drawn_photos`, all of it coarse, and a tenth of their
    contrast. So chroma is doubled on average and blurred over 3x3 pixels. In a fifth of the images the light is
    coloured: its red, green and blue are drawn evenly from 0.3 to 1.2.
    draws: [B, 5], uniform in [0, 1): of the chroma's gain, whether the light is coloured, and the light's colour.
    """
    grey, chroma = luma_and_chroma(images)
    gain, coloured, light = (x[..., None, None] for x in draws.split([1, 1, 3], dim=1))
    mean = grey.mean(dim=(2, 3), keepdim=True)
    result = mean + 1.1 * (grey - mean) + 8 / 255 + (0.8 + 2.4 * gain) * blurred(chroma)
    light = torch.where(coloured < 0.2, 0.3 + 0.9 * light, 1.0)
    return (light * result).clamp(0, 1)


def photo_sharpness(images: Tensor) -> Tensor:
    """Give drawn images the power spectrum of photos; float32 [B, 3, H, W] in [0, 1].

    At 0.3 cycles a pixel the luma of BSD400 has 1.4 times the power of `drawn_photos`; at 0.7, the highest diagonal
    frequency, a fifth of it. A camera does both: its sharpening raises the first and its lens removes the second.
    With L = pixel - mean of its four neighbours, luma becomes (1 - 0.435 L)(1 + 0.72 L) luma: a fit to the ratio of
    both spectra. Chroma, smoother in photos too, is blurred over 3x3 pixels.
    """
    luma, chroma = luma_and_chroma(images)
    for amount in (0.72, -0.435):
        neighbours = F.conv2d(bordered(luma), luma.new_tensor(FOUR_NEIGHBOURS)[None, None])
        luma = luma + amount * (luma - neighbours)
    return (luma + blurred(chroma)).clamp(0, 1)


def luma_and_chroma(images: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, H, W] as luma [B, 1, H, W] (ITU-R 601) and what is left of each channel [B, 3, H, W]."""
    luma = (images * torch.as_tensor(LUMA, device=images.device).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    return luma, images - luma


def bordered(images: Tensor) -> Tensor:
    """With the border repeated by one pixel."""
    return F.pad(images, (1, 1, 1, 1), mode="replicate")


def blurred(images: Tensor) -> Tensor:
    """The mean over 3x3 pixels."""
    return F.avg_pool2d(bordered(images), 3, 1)


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """A square uint8 [C, H, H] at [C, side, side], bicubic with antialiasing."""
    smaller = F.interpolate(
        torch.from_numpy(image.astype(np.float32))[None], size=(side, side), mode="bicubic", antialias=True
    )
    return smaller[0].round().clamp(0, 255).numpy().astype(np.uint8)
