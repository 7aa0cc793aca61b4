"""Gaussian noise, and the data set of (noisy, clean) pairs that it makes of images.

noisy = clean + sigma * n, with n drawn from a normal distribution of mean 0 and deviation 1
(additive white Gaussian noise). A picture with this noise alone has PSNR = -20 * log10(sigma) dB.
"""

import argparse
import math
import numbers
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from src.images import ImageSet

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # of red, green and blue in grey (ITU-R 601)


def check_sigma(sigma: float) -> float:
    """sigma as a float; ValueError unless it lies in [0, 1], the unit of the images."""
    try:
        sigma = float(sigma)
    except (TypeError, ValueError):
        raise ValueError(f"sigma must be a number in [0, 1], got {sigma!r}; 0.2 is 51/255") from None
    if not 0 <= sigma <= 1:
        hint = f"; did you mean {sigma:g}/255?" if 1 < sigma <= 255 else "; 0.2 is 51/255"
        raise ValueError(f"sigma must be in [0, 1] units, got {sigma:g}{hint}")
    return sigma


def check_sigma_range(sigma: float | tuple[float, float]) -> float | tuple[float, float]:
    """One sigma, or the (lowest, highest) of a range to draw from; ValueError unless both lie in [0, 1]."""
    if not isinstance(sigma, (tuple, list)):
        return check_sigma(sigma)
    if len(sigma) != 2 or check_sigma(sigma[0]) >= check_sigma(sigma[1]):
        raise ValueError(f"a range of sigma must be (lowest, highest), got {sigma!r}; try sigma=(0, 55/255)")
    return check_sigma(sigma[0]), check_sigma(sigma[1])


def number(text: str) -> float:
    """A command line's number: 0.1, or 25/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise argparse.ArgumentTypeError(f"must be a number or a fraction such as 25/255, got {text!r}") from None


class GaussianNoiseDataset(Dataset):
    """Pairs (noisy, clean) of float32 [C, H, W]; noisy = clean + sigma * normal(0, 1).

    images  an ImageSet, or a float tensor [N, C, H, W] in [0, 1] (kept as 8 bits)
    sigma   standard deviation of the noise, in [0, 1] units: 0.2 is 51/255. (lowest, highest): drawn
            evenly from this range for each pair, to train a network that is told no sigma
    seed    whole number >= 0 of the noise
    fixed   True: the same noise at every epoch, for held-out images. False: fresh noise
    clip    True: noisy is clipped to [0, 1], as a camera would; the noise is then neither
            Gaussian nor of mean 0 near black and white
    crop    side in pixels of a square cut out at random, at most H and W; None: the whole image
    flip    True: one of the eight flips and quarter turns, at random. Turning the picture
            before the noise comes is harmless; turning it after would be the bug of 2021
    shrink  0.5: three in four of the crops are of the picture made smaller, by a factor drawn evenly from 0.5 to 1, so
            that edges are as sharp as in small pictures; crop / shrink must fit into the images. 1: none
    grey    share in [0, 1] of the pairs shown as a grey picture is: luma (ITU-R 601) in all three channels,
            and the same noise in them. A network trained on some denoises both kinds

    Everything random about a pair is a function of (seed, epoch, index) alone: not of the
    batch size, the order, the number of workers or processes, or of any global generator.
    `set_epoch` sets the epoch, as `train` does before each; a loop of your own must, or the noise is
    frozen (and a DataLoader's persistent workers do not hear of it). With `fixed` it counts for nothing.

    Raises ValueError for a sigma outside [0, 1], images that are not finite or outside
    [0, 1], a crop larger than the images, and a shrink that needs more than them.
    """

    def __init__(
        self,
        images: ImageSet | Tensor,
        sigma: float | tuple[float, float] = 0.2,
        seed: int = 0,
        fixed: bool = False,
        clip: bool = False,
        crop: int | None = None,
        flip: bool = False,
        grey: float = 0,
        shrink: float = 1,
    ):
        self.images = images if isinstance(images, ImageSet) else ImageSet.from_pixels(_to_uint8(images))
        self.sigma = check_sigma_range(sigma)
        if len(self.images) == 0:
            raise ValueError("there are no images, expected at least one; check the selection")
        if not isinstance(seed, numbers.Integral) or seed < 0:
            raise ValueError(f"seed must be a whole number >= 0, got {seed!r}; try seed=0")
        shortest = min(self.images.shape[2:])
        if crop is not None and not (isinstance(crop, numbers.Integral) and 1 <= crop <= shortest):
            raise ValueError(
                f"crop must be between 1 and {shortest}, the images' shorter side, got {crop!r}; "
                f"try crop={shortest}, or None for the whole image"
            )
        if not isinstance(grey, (int, float)) or not 0 <= grey <= 1:
            raise ValueError(f"grey must be a share in [0, 1], got {grey!r}; try grey=0.25")
        if grey and self.images.shape[1] != 3:
            raise ValueError(
                f"grey is a share of colour pairs, got pictures of {self.images.shape[1]} channel; leave it"
            )
        if not isinstance(shrink, (int, float)) or not 0 < shrink <= 1:
            raise ValueError(f"shrink must be a factor above 0, at most 1, got {shrink!r}; try shrink=0.5")
        if shrink < 1 and crop is None:
            raise ValueError(f"shrink {shrink} needs a crop, or pictures would differ in size; try crop=64")
        if shrink < 1 and round(crop / shrink) > shortest:
            raise ValueError(
                f"crops of {crop} shrunk by {shrink} need {round(crop / shrink)} pixels, the images have {shortest}; "
                f"try shrink={math.ceil(100 * crop / shortest) / 100}"
            )
        self.seed, self.crop = int(seed), None if crop is None else int(crop)
        self.fixed, self.clip, self.flip, self.grey = fixed, clip, flip, grey
        self.shrink = shrink
        self.epoch = 0

    @property
    def config(self) -> dict:
        """What decides the pairs besides the epoch; goes into a run's key."""
        return dict(
            images=self.images.digest, count=len(self), sigma=self.sigma, seed=self.seed,
            fixed=self.fixed, clip=self.clip, crop=self.crop, flip=self.flip,
            **({"grey": self.grey} if self.grey else {}),  # runs from before it have the same key
            **({"shrink": self.shrink} if self.shrink < 1 else {}),
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of each picture as it is given out, cropped or whole."""
        channels, height, width = self.images.shape[1:]
        return (channels, height, width) if self.crop is None else (channels, self.crop, self.crop)

    def set_epoch(self, epoch: int) -> None:
        """Draw the noise, crops and flips of this epoch (a whole number >= 0) from here on."""
        if not isinstance(epoch, int) or epoch < 0:  # -1 would be the noise of fixed=True
            raise ValueError(f"epoch must be a whole number >= 0, got {epoch!r}; try range(epochs)")
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noisy, clean = self.batch([index])
        return noisy[0], clean[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        """A batch in one call: what torch's DataLoader asks for when a data set offers it."""
        return list(zip(*self.batch(indices)))

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """(noisy, clean), each float32 [B, C, H, W] (H = W = crop when cropping)."""
        count = len(self)
        for index in indices:
            if not -count <= index < count:
                raise IndexError(f"image {index} asked for, there are {count}")
        indices = [index % count for index in indices]
        # rows of the store itself: no picture is copied whole for the sake of a crop
        stored = self.images.store.numpy()
        rows = indices if self.images.rows is None else self.images.rows[indices]
        clean = np.empty((len(indices), *self.shape), np.float32)
        normal = np.empty_like(clean)
        sigmas = np.empty((len(indices), 1, 1, 1), np.float32)
        for row, (index, where) in enumerate(zip(indices, rows)):
            sigmas[row] = self._draw(index, stored[where], clean[row], normal[row])
        normal *= sigmas
        normal += clean
        if self.clip:
            np.clip(normal, 0, 1, out=normal)
        return torch.from_numpy(normal), torch.from_numpy(clean)

    def cut(self, index: int, image: np.ndarray) -> np.ndarray:
        """The part of any array [., H, W] that pair `index` shows of its picture in this epoch, turned like it.

        Raises ValueError where crops are shrunk: a mask or noise made smaller is another.
        """
        if self.shrink < 1:
            raise ValueError(f"cut needs crops that are not shrunk, got shrink={self.shrink}; make the set without")
        return self._cut(self._random(index % len(self)), image)

    def _random(self, index: int) -> np.random.Generator:
        # one generator a pair: numpy hashes the three numbers into a stream of its own
        return np.random.default_rng([self.seed, 0 if self.fixed else 1 + self.epoch, index])

    def _cut(self, random: np.random.Generator, image: np.ndarray) -> np.ndarray:
        if self.crop is not None:
            factor = random.uniform(self.shrink, 1) if self.shrink < 1 and random.random() < 0.75 else 1
            side = round(self.crop / factor)
            # drawn from half a crop beyond both ends and pushed back inside, or the picture's
            # border, in few of the crops, would hardly be trained (worth 0.15 dB: PROGRESS.md)
            beyond = side // 2
            top, left = (
                min(max(0, random.integers(-beyond, whole - side + 1 + beyond)), whole - side)
                for whole in image.shape[1:]
            )
            image = image[:, top : top + side, left : left + side]
            if side > self.crop:
                image = shrunk(image, self.crop)
        if self.flip:
            turns = random.integers(8)
            # a rectangle has four symmetries only, a square eight
            if turns & 4 and image.shape[1] == image.shape[2]:
                image = image.transpose(0, 2, 1)
            image = image[:, :: -1 if turns & 1 else 1, :: -1 if turns & 2 else 1]
        return image

    def _draw(self, index: int, image: np.ndarray, clean: np.ndarray, normal: np.ndarray) -> float:
        """Fill clean and normal, float32 [C, H, W], for one pair; returns its sigma."""
        random = self._random(index)
        np.divide(self._cut(random, image), np.float32(255), out=clean)
        sigma = random.uniform(*self.sigma) if isinstance(self.sigma, tuple) else self.sigma
        grey = self.grey > 0 and random.random() < self.grey
        random.standard_normal(dtype=np.float32, out=normal)
        if grey:
            clean[:], normal[1:] = np.tensordot(LUMA, clean, 1), normal[0]
        return sigma


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """A square uint8 [C, H, H] at [C, side, side], bicubic with antialiasing."""
    smaller = F.interpolate(
        torch.from_numpy(image.astype(np.float32))[None], size=(side, side), mode="bicubic", antialias=True
    )
    return smaller[0].round().clamp(0, 255).numpy().astype(np.uint8)


def _to_uint8(images: Tensor) -> Tensor:
    if not torch.is_tensor(images) or not images.is_floating_point():
        raise ValueError(
            "images must be an ImageSet or a float tensor [N, C, H, W] in [0, 1], "
            f"got {getattr(images, 'dtype', type(images).__name__)}; load_images(folder) gives an ImageSet"
        )
    if images.ndim != 4:
        raise ValueError(f"images must be [N, C, H, W], got {list(images.shape)}; one image needs image[None]")
    if not torch.isfinite(images).all():
        bad = [int(i) for i in (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten()[:5]]
        raise ValueError(f"images {bad} hold NaN or infinity, expected numbers in [0, 1]; drop them")
    low, high = (float(edge) for edge in torch.aminmax(images)) if images.numel() else (0, 1)
    if low < 0 or high > 1:
        raise ValueError(f"images must be in [0, 1], got {low:g} to {high:g}; did you mean images / 255?")
    return (images * 255).round().to(torch.uint8)
