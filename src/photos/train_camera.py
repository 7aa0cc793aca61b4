"""Train the camera network: what the camera mode does in two passes, learnt by one network that needs one.

    python -m src.datasets drawn_photos  # 2,000 drawn images
    python -m src.photos.train_denoiser  # a blind denoiser, the teacher: two hours of one processor core
    python -m src.photos.train_camera    # 80 epochs: 92 minutes of one core
    python -m src.photos.train_camera --epochs 80 --publish checkpoints/published/camera

The camera mode adds white Gaussian noise of a known level to a photo, denoises the sum with the network for Gaussian
noise, and takes the mean over that draw and its negative. Spatially correlated noise then drowns in noise that the
denoiser knows. The target is the teacher's output for one draw of noise. A squared error is smallest at the mean over
all draws, so that mean is what the network learns. Its images are drawn, behind a simulated camera
(src/datasets/camera_noise.py). No photo is used.

The chroma of the target comes from the image at half its size, in which the noise of chroma is whiter. A part of the
target is the clean image itself: see `CLEAN_DETAIL` and `CLEAN_REST`.
"""

import argparse
import copy
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src import checkpoint
from src.config import TrainConfig
from src.datasets.camera_noise import CameraNoiseDataset, blurred, luma_of
from src.datasets.distillation import turned_outputs
from src.device import device
from src.files import exit_code, say
from src.files.fingerprint import weights_sha256
from src.images import load_images, split_images
from src.networks.level_unet import LevelUNet, start_weights
from src.photos.publishing import publish
from src.train import fit
from src.unet import UNet

LOWEST, HIGHEST = 4 / 255, 40 / 255  # levels that the network is trained with
LARGEST_RATIO = 8  # of level and true standard deviation
NEEDED_RATIO, USUAL_RATIO = 2.5, 4.5  # the teacher adds at least the first; the second where the level is unknown
UNKNOWN = 0.2  # fraction of the pairs whose level is unknown
CLEAN_DETAIL, CLEAN_REST = 0.2, 0.5  # fraction of the clean image in the target: of fine luma detail, and of all else
HALF_SIZE_LEVEL = 0.6  # level at half the size, of that at full size


class CameraTargets:
    """Pairs (noisy and level, target) for `fit`: float32 [B, 4, H, W], the last channel the level, and [B, 3, H, W].

    pairs    a CameraNoiseDataset
    teacher  the denoiser for Gaussian noise; None: the target is the clean image, for evaluation

    Level and draw depend on (seed, epoch, index) alone, as the pairs do.
    """

    def __init__(self, pairs: CameraNoiseDataset, teacher: nn.Module | None):
        self.pairs, self.teacher, self.set_epoch = pairs, teacher, pairs.set_epoch
        self.crop_size, self.shape = pairs.crop_size, pairs.shape

    @property
    def config(self) -> dict:
        teacher = None if self.teacher is None else weights_sha256(self.teacher.state_dict())
        return dict(
            pairs=self.pairs.config, teacher=teacher, levels=[LOWEST, HIGHEST], unknown=UNKNOWN,
            ratios=[LARGEST_RATIO, NEEDED_RATIO, USUAL_RATIO], clean=[CLEAN_DETAIL, CLEAN_REST], half=HALF_SIZE_LEVEL,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        noisy, clean = self.pairs.batch(indices)
        rngs = [self.rng(index) for index in indices]
        sigmas = [float((n - c).std(correction=0)) for n, c in zip(noisy, clean)]
        given, added = zip(*(levels(rng, sigma) for rng, sigma in zip(rngs, sigmas)))
        level_map = torch.tensor(given).reshape(-1, 1, 1, 1).expand(-1, 1, *noisy.shape[2:])
        inputs = torch.cat([noisy, level_map], dim=1)  # [B, 4, H, W]
        if self.teacher is None:
            return inputs, clean
        return inputs, mixed(self.answers(noisy, added, rngs), clean, added)

    def rng(self, index: int) -> np.random.Generator:
        pairs = self.pairs
        return np.random.default_rng([pairs.seed, 0 if pairs.fixed else 1 + pairs.epoch, range(len(self))[index], 1])

    def answers(self, noisy: Tensor, added: tuple[float, ...], rngs: list[np.random.Generator]) -> Tensor:
        """What the teacher makes of noisy and one draw of more noise: luma at full, chroma at half the size.

        Each image is flipped or turned at random for the teacher, so that the mean is over those as well.
        """
        turns = [int(rng.integers(8)) for rng in rngs]
        full = self.denoised(noisy, added, rngs, turns)
        half = self.denoised(F.avg_pool2d(noisy, 2), [HALF_SIZE_LEVEL * level for level in added], rngs, turns)
        half = F.interpolate(half, size=noisy.shape[2:], mode="bicubic")
        return luma_of(full) + half - luma_of(half)

    def denoised(self, noisy: Tensor, added, rngs: list[np.random.Generator], turns: list[int]) -> Tensor:
        normal = [torch.from_numpy(rng.standard_normal(noisy.shape[1:], np.float32)) for rng in rngs]
        noisier = torch.stack([image + level * n for image, level, n in zip(noisy, added, normal)])
        return turned_outputs(self.teacher, noisier, turns)


def levels(rng: np.random.Generator, sigma: float) -> tuple[float, float]:
    """(level that the network is given, 0 for unknown; level of the noise that the teacher adds).

    sigma: the true standard deviation. An image without noise is left alone where the level is unknown.
    """
    unknown = rng.random() < UNKNOWN
    if sigma == 0:
        level = rng.uniform(LOWEST, 32 / 255)
        return (0.0, 0.0) if unknown else (level, level)
    level = min(max(sigma * math.exp(rng.uniform(0, math.log(LARGEST_RATIO))), LOWEST), HIGHEST)
    if unknown:
        return 0.0, min(USUAL_RATIO * sigma, HIGHEST)
    return level, max(level, min(NEEDED_RATIO * sigma, HIGHEST))


def mixed(answers: Tensor, clean: Tensor, added: tuple[float, ...]) -> Tensor:
    """The target: the teacher's answer, moved a part of the way to the clean image.

    Fine luma detail is moved the least: what tells it from noise differs between drawn images and photos. Coarse luma
    and chroma are moved more, as the teacher leaves noise there. Where nothing was added the target is the clean image.
    """
    error = clean - answers
    luma = luma_of(error)
    detail = luma - blurred(luma, 2.0)
    target = answers + CLEAN_DETAIL * detail + CLEAN_REST * (error - detail)
    return torch.where(torch.tensor(added).reshape(-1, 1, 1, 1) == 0, clean, target)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code. Its defaults are the recipe of the published network."""
    parser = argparse.ArgumentParser(
        prog="python -m src.photos.train_camera", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Train the network that removes a camera's noise in one pass.",
    )  # fmt: skip
    parser.add_argument("--data", default="data/drawn_photos", metavar="DIR", help="folder of sharp colour images")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--max-train", type=int, default=100_000, help="most images to train on")
    parser.add_argument("--teacher", default="denoiser", metavar="RUN", help="a blind UNet for Gaussian noise")
    parser.add_argument("--epochs", type=int, default=80, help="passes over the images")
    parser.add_argument("--cooldown", type=int, default=35, help="last epochs, over which the learning rates fall to 0")
    parser.add_argument("--batch-size", type=int, default=8, help="pairs a step")
    parser.add_argument("--crop-size", type=int, default=96, help="side in pixels of the crops trained on")
    parser.add_argument("--run", default="camera", help="folder below checkpoints/")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="afterwards write float16 weights and record here")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: train_camera(arguments))


def train_camera(arguments: argparse.Namespace) -> int:
    train_images, held_out = split_images(load_images(arguments.data, size=arguments.size), held_out=0.05)
    train_images, held_out = train_images.sample(arguments.max_train), held_out.sample(24)
    teacher = checkpoint.load(arguments.teacher).eval()
    if not isinstance(teacher, UNet):
        fix = "train one by python -m src.photos.train_denoiser"
        raise ValueError(
            f"--teacher must be a blind UNet, whose weights are the start, got {type(teacher).__name__}; {fix}"
        )
    pairs = CameraNoiseDataset(train_images, seed=0, crop_size=arguments.crop_size)
    held_out_pairs = CameraNoiseDataset(held_out, 1, True, arguments.crop_size, fractions=(1, 0, 0))
    model = LevelUNet(widths=tuple(teacher.config["widths"]), blocks=teacher.config["blocks"])
    start = start_weights(model, copy.deepcopy(teacher).cpu().state_dict())
    config = TrainConfig(
        epochs=arguments.epochs, cooldown=arguments.cooldown, batch_size=arguments.batch_size, lr=1e-3, adam_lr=2.5e-3,
        warmup=100, loss="psnr", evaluate_every=5,
    )  # fmt: skip
    train_set, test_set = CameraTargets(pairs, teacher), CameraTargets(held_out_pairs, None)
    history = fit(model, train_set, test_set, config, arguments.run, start=start)
    if len(history) < config.epochs:
        return 130  # stopped
    say(f"held-out PSNR  {history[-1]['psnr']:.2f} dB after {len(history)} epochs, on {device().type}")
    if arguments.publish:
        publish(arguments.run, arguments.publish, f"python -m src.photos.train_camera --epochs {config.epochs}")
        say(f"published in   {arguments.publish}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
