"""Pairs other than fresh Gaussian noise on clean targets, for 05_noise and 06_pitfalls.

Each class is a `GaussianNoiseDataset` with another `fill`. Everything random about a pair is a function of
(seed, epoch, index) alone here too. `sigma` must be one number.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from src.images import ImageSet
from src.noise import GaussianNoiseDataset


class FrozenNoiseDataset(GaussianNoiseDataset):
    """One draw of noise for each image, the same at every epoch, as in 2021; crops, flips and rotations stay fresh.

    The noise is drawn for whole images, and cropped and turned along with them.
    """

    @property
    def config(self) -> dict:
        return super().config | dict(kind="frozen noise")

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        np.divide(self.transform(index, self.images.array(index)), np.float32(255), out=clean)
        np.add(clean, self.frozen_noise(index, 0), out=noisy)

    def frozen_noise(self, index: int, draw: int) -> np.ndarray:
        """Draw number `draw` of the noise, float32 [C, H, W], cropped and turned as the image is in this epoch."""
        rng = np.random.default_rng([self.seed, 0, index, 1, draw])
        whole = rng.standard_normal(self.images.shape[1:], dtype=np.float32)
        return np.float32(self.sigma) * self.transform(index, whole)


class TwoNoisyCopiesDataset(FrozenNoiseDataset):
    """Noise2Noise from two noisy copies of each image and nothing else: both draws are frozen."""

    @property
    def config(self) -> dict:
        return super().config | dict(kind="two noisy copies")

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        super().fill(index, noisy, clean)
        clean += self.frozen_noise(index, 1)


class NoisyTargetDataset(GaussianNoiseDataset):
    """Noise2Noise (Lehtinen and others 2018): the target is the same image with other noise, fresh like the first."""

    @property
    def config(self) -> dict:
        return super().config | dict(kind="noisy targets")

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        super().fill(index, noisy, clean)
        clean += np.float32(self.sigma) * _second_rng(self, index).standard_normal(self.shape, dtype=np.float32)


class DoodleDataset(GaussianNoiseDataset):
    """Strokes of random colour in place of noise, with the squared error that noise of sigma would have.

    Strokes are drawn over the whole image until their squared error reaches sigma^2 times its size.
    """

    @property
    def config(self) -> dict:
        return super().config | dict(kind="doodles")

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        whole = self.images.array(index) / np.float32(255)
        clean[:] = self.transform(index, whole)
        noisy[:] = self.transform(index, self._doodled(index, whole))

    def mask(self, indices: list[int]) -> Tensor:
        """bool [B, 1, H, W]: where the strokes are."""
        noisy, clean = self.batch(indices)
        return (noisy != clean).any(dim=1, keepdim=True)

    def _doodled(self, index: int, clean: np.ndarray) -> np.ndarray:
        doodled, rng = clean.copy(), _second_rng(self, index)
        missing = float(self.sigma) ** 2 * clean.size
        while missing > 0:
            colour = rng.random((len(clean), 1), dtype=np.float32)
            ys, xs = _stroke(rng, *clean.shape[1:])
            under, drawn = clean[:, ys, xs], doodled[:, ys, xs]
            # what each pixel of the stroke adds to the squared error
            added = np.cumsum(((colour - under) ** 2 - (drawn - under) ** 2).sum(axis=0))
            reached = np.flatnonzero(added >= missing)
            count = reached[0] + 1 if len(reached) else len(added)  # the last stroke ends where the error is reached
            if count:
                doodled[:, ys[:count], xs[:count]] = colour
                missing -= added[count - 1]
        return doodled


def _second_rng(pairs: GaussianNoiseDataset, index: int) -> np.random.Generator:
    """A generator for one pair, of other numbers than those of its noise and crop."""
    return np.random.default_rng([pairs.seed, 0 if pairs.fixed else 1 + pairs.epoch, index, 1])


def _stroke(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a line with one to four bends, within half the image, 2 to 6 pixels wide."""
    canvas = Image.new("1", (width, height))
    points = (rng.random((int(rng.integers(3, 7)), 2)) + rng.random(2)) / 2 * (width, height)
    line = [tuple(point) for point in points]
    ImageDraw.Draw(canvas).line(line, fill=1, width=int(rng.integers(2, 7)), joint="curve")
    return np.nonzero(np.asarray(canvas))


def gaussian_test_set(held_out: ImageSet, seed: int, sigma: float, clip: bool = False) -> GaussianNoiseDataset:
    """Held-out images with the fixed noise of a study's seed, at any sigma, clipped or not."""
    return GaussianNoiseDataset(held_out, sigma, seed + 1, fixed=True, clip=clip)


def doodle_test_set(held_out: ImageSet, seed: int, sigma: float) -> DoodleDataset:
    """Held-out images with doodles of the squared error of that sigma."""
    return DoodleDataset(held_out, sigma, seed + 1, fixed=True)


def squared_error_by_place(strokes: DoodleDataset, images: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """Name -> mean squared error (MSE) under the strokes and elsewhere, of float [N, C, H, W] images of all pairs."""
    everything = list(range(len(strokes)))
    under, (_, clean) = strokes.mask(everything), strokes.batch(everything)
    places = {"MSE under strokes": under.expand_as(clean), "MSE elsewhere": ~under.expand_as(clean)}
    errors = {name: (image - clean).square() for name, image in images.items()}
    return {name: {p: float(e[where].mean()) for p, where in places.items()} for name, e in errors.items()}


def residual_statistics(removed: Tensor, clean: Tensor) -> dict[str, float]:
    """What tells noise from image content in removed = noisy - denoised, float [N, C, H, W].

    Its standard deviation; the correlation of horizontal and of vertical neighbours, 0 for white noise; and its
    standard deviation where the clean image is steepest (a tenth of the pixels) over that on its flattest half, 1 for
    noise.
    """
    centred = removed - removed.mean()
    variance = centred.square().mean()
    across = (centred[..., 1:] * centred[..., :-1]).mean() / variance
    down = (centred[..., 1:, :] * centred[..., :-1, :]).mean() / variance
    change = clean.diff(dim=3)[..., :-1, :].abs() + clean.diff(dim=2)[..., :-1].abs()  # [N, C, H - 1, W - 1]
    order, inner = change.flatten().argsort(), removed[..., :-1, :-1].flatten()
    edges, flat = inner[order[int(0.9 * len(order)) :]].std(), inner[order[: len(order) // 2]].std()
    names = ("standard deviation", "correlation across", "correlation down", "standard deviation, edges / flat")
    return dict(zip(names, torch.stack([variance.sqrt(), across, down, edges / flat]).tolist()))
