"""Other things than fresh Gaussian noise on clean targets, for 05_noise and 06_pitfalls.

Each takes a GaussianNoiseDataset and gives pairs in its place to `train` and `denoise_batches`, drawn like its own
from (seed, epoch, index) alone.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from src import GaussianNoiseDataset, ImageSet


class Pairs:
    """What `train` asks of a data set, passed on to the one within; a kind of corruption overrides `batch`."""

    def __init__(self, inner: GaussianNoiseDataset):
        self.inner, self.shape, self.images = inner, inner.shape, inner.images

    @property
    def config(self) -> dict:
        return self.inner.config | dict(kind=type(self).__name__)

    def set_epoch(self, epoch: int) -> None:
        self.inner.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.inner.batch(indices)

    def random(self, index: int, *more: int) -> np.random.Generator:
        """A generator for one pair, of other numbers than those of its noise and crop."""
        inner = self.inner
        return np.random.default_rng([inner.seed, 0 if inner.fixed else 1 + inner.epoch, index % len(inner), 1, *more])


class FrozenNoise(Pairs):
    """One draw of noise for each picture, the same at every epoch, as in 2021; crops and flips stay fresh.

    The noise is drawn for whole pictures and cut along with them.
    """

    def batch(self, indices):
        _, clean = self.inner.batch(indices)
        return clean + self.frozen(indices, 0), clean

    def frozen(self, indices: list[int], copy: int) -> Tensor:
        """Draw number `copy` of the noise, float32 [B, C, H, W], cut as the pictures are in this epoch."""
        noise = []
        for index in indices:
            random = np.random.default_rng([self.inner.seed, 0, index % len(self), 1, copy])
            whole = random.standard_normal(self.images.shape[1:], dtype=np.float32)
            noise.append(self.inner.cut(index, whole))
        return float(self.inner.sigma) * torch.from_numpy(np.stack(noise))


class NoisyTargets(Pairs):
    """Noise2Noise (Lehtinen and others 2018): the target is the same picture with other noise, fresh like the first."""

    def batch(self, indices):
        noisy, clean = self.inner.batch(indices)
        other = [self.random(index).standard_normal(self.shape, dtype=np.float32) for index in indices]
        return noisy, clean + float(self.inner.sigma) * torch.from_numpy(np.stack(other))


class TwoShots(FrozenNoise):
    """Noise2Noise from two noisy shots of each picture and nothing else: both draws are frozen."""

    def batch(self, indices):
        _, clean = self.inner.batch(indices)
        return clean + self.frozen(indices, 0), clean + self.frozen(indices, 1)


class Doodles(Pairs):
    """Strokes of random colour in place of noise, with the squared error that noise of sigma would have.

    Strokes are drawn over the whole picture, until their squared error reaches sigma^2 times its pixels.
    """

    def batch(self, indices):
        _, clean = self.inner.batch(indices)
        return torch.from_numpy(np.stack([self.inner.cut(i, self._doodled(i)) for i in indices])), clean

    def mask(self, indices: list[int]) -> Tensor:
        """bool [B, 1, H, W]: where the strokes are. For the judge; no network sees it."""
        noisy, clean = self.batch(indices)
        return (noisy != clean).any(dim=1, keepdim=True)

    def _doodled(self, index: int) -> np.ndarray:
        clean = self.images[[index % len(self)]].pixels[0].numpy() / np.float32(255)  # [C, H, W]
        doodled, random = clean.copy(), self.random(index)
        missing = float(self.inner.sigma) ** 2 * clean.size
        while missing > 0:
            colour = random.random((len(clean), 1), dtype=np.float32)
            ys, xs = _stroke(random, *clean.shape[1:])
            under, drawn = clean[:, ys, xs], doodled[:, ys, xs]
            # what each pixel of the stroke adds to the squared error
            added = np.cumsum(((colour - under) ** 2 - (drawn - under) ** 2).sum(axis=0))
            reached = np.flatnonzero(added >= missing)
            count = reached[0] + 1 if len(reached) else len(added)  # the last stroke ends where the error is reached
            if count:
                doodled[:, ys[:count], xs[:count]] = colour
                missing -= added[count - 1]
        return doodled


def _stroke(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a crooked line of one to four bends, within half the picture, 2 to 6 pixels wide."""
    canvas = Image.new("1", (width, height))
    points = (random.random((int(random.integers(3, 7)), 2)) + random.random(2)) / 2 * (width, height)
    line = [tuple(point) for point in points]
    ImageDraw.Draw(canvas).line(line, fill=1, width=int(random.integers(2, 7)), joint="curve")
    return np.nonzero(np.asarray(canvas))


def gaussian(held_out: ImageSet, seed: int, sigma: float, clip: bool = False) -> GaussianNoiseDataset:
    """Held-out pictures with noise of another sigma than a study's, or clipped."""
    return GaussianNoiseDataset(held_out, sigma, seed + 1, fixed=True, clip=clip)


def doodled(held_out: ImageSet, seed: int, sigma: float) -> Doodles:
    """Held-out pictures with doodles of the squared error of that sigma."""
    return Doodles(gaussian(held_out, seed, sigma))


def residual_figures(removed: Tensor, clean: Tensor) -> str:
    """What tells noise from picture in noisy - denoised, float [N, C, H, W]: its deviation; the correlation of horizontal
    and of vertical neighbours, 0 for white noise; and its deviation on the tenth of the pixels where the clean picture
    changes most against that on the half where it changes least, 1 for noise alone."""
    centred = removed - removed.mean()
    variance = centred.square().mean()
    across = (centred[..., 1:] * centred[..., :-1]).mean() / variance
    down = (centred[..., 1:, :] * centred[..., :-1, :]).mean() / variance
    change = clean.diff(dim=3)[..., :-1, :].abs() + clean.diff(dim=2)[..., :-1].abs()  # [N, C, H - 1, W - 1]
    order, inner = change.flatten().argsort(), removed[..., :-1, :-1].flatten()
    edges, flat = inner[order[int(0.9 * len(order)) :]].std(), inner[order[: len(order) // 2]].std()
    return (
        f"deviation {variance.sqrt():.4f}, neighbours {across:+.3f} and {down:+.3f}, "
        f"edges over flat parts {edges / flat:.3f}"
    )
