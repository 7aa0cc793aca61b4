"""Time to quality and denoising speed, for 09_speed: the 2021 loop, clocks for training runs and filters.

The machine's limits (roofline, where an epoch's time goes, growth) are in hardware_limits.py.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from statistics import median

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.restoration import denoise_tv_chambolle, denoise_wavelet
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from src.config import TrainConfig
from src.device import device
from src.evaluation import bm3d, nlm
from src.images import ImageSet, find_folder
from src.loop import denoised_batches, held_out_psnr, training_loop
from src.metrics import psnr
from src.networks import DnCNN, UNet2021
from src.noise import GaussianNoiseDataset
from src.unet import UNet

TV_WEIGHTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)

Curve = list[tuple[float, float]]  # (seconds of training, held-out PSNR in dB)


def clock() -> float:
    """Seconds, after waiting for what a GPU has queued."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class FileDataset(Dataset):
    """The files of an ImageSet, decoded and resized at every access: float32 [3, side, side] in [0, 1]."""

    def __init__(self, folder: str, images: ImageSet, side: int):
        self.paths, self.side = [find_folder(folder) / name for name in images.names], side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = np.asarray(Image.open(self.paths[index]).convert("RGB").resize((self.side, self.side)))
        return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def loop_2021(
    model: nn.Module, files: FileDataset, sigma: float, steps: int, batch_size: int = 4, lr: float = 2e-4, seed: int = 0
) -> Iterator[float]:
    """Train without end as in 2021, float32 and channels first; yield the mean loss of every `steps` steps."""
    model.to(device()).train()
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(files, batch_size, shuffle=True, num_workers=0, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr, foreach=False, fused=False)
    losses = []
    while True:
        for clean in loader:
            clean = clean.to(device())
            noisy = clean + sigma * torch.randn_like(clean)
            loss = F.mse_loss(model(noisy), clean)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                yield sum(losses) / steps
                losses.clear()


def quality_over_time(
    epochs: Iterator, model: nn.Module, test_set: GaussianNoiseDataset, budget: float, evaluations: int = 24
) -> Curve:
    """Train for `budget` seconds and evaluate about `evaluations` times; the evaluations do not count as time.

    epochs: trains `model` a little more at every next().
    """
    points, spent, due = [], 0.0, 0.0
    while spent < budget:
        start = clock()
        next(epochs)
        spent += clock() - start
        if spent >= min(due, budget):
            points.append((spent, held_out_psnr(model, test_set)))
            due = spent + budget / evaluations
    return points


def train_three(
    train_set: GaussianNoiseDataset, test_set: GaussianNoiseDataset, files: FileDataset, budget: float, seed: int = 0
) -> tuple[dict[str, nn.Module], dict[str, Curve]]:
    """Networks and curves of "ours", "DnCNN" and "2021" after `budget` seconds of training each."""
    config = TrainConfig(epochs=1_000_000, batch_size=min(8, len(train_set)), seed=seed)
    models = {
        "ours": UNet(train_set.shape[0], seed=seed),
        "DnCNN": DnCNN(train_set.shape[0], seed=seed),
        "2021": UNet2021(train_set.shape[0], seed=seed),
    }
    runs = {name: training_loop(models[name], train_set, None, config) for name in ("ours", "DnCNN")}
    runs["2021"] = loop_2021(models["2021"], files, float(train_set.sigma), steps=4, seed=seed)
    return models, {name: quality_over_time(run, models[name], test_set, budget) for name, run in runs.items()}


def seconds_to_reach(curve: Curve, level: float) -> float:
    """The first seconds at which a curve is above the level; infinity where it never is."""
    return next((seconds for seconds, value in curve if value > level), float("inf"))


def time_table(curves: dict[str, Curve], levels: dict[str, float]) -> pd.DataFrame:
    """Seconds until each curve passes each level, or "not reached", and the PSNR at its end."""
    rows = {}
    for name, curve in curves.items():
        rows[name] = {f"seconds to pass {level}": seconds_to_reach(curve, value) for level, value in levels.items()}
        rows[name]["PSNR at the end (dB)"] = curve[-1][1]
    return pd.DataFrame.from_dict(rows, orient="index").round(2).replace(float("inf"), "not reached")


def denoising_speed(method: nn.Module | Callable, test_set: GaussianNoiseDataset, repeats: int) -> tuple[float, float]:
    """(seconds a megapixel, PSNR in dB) of a network or of a filter(noisy [C, H, W], sigma); median of `repeats`."""
    noisy, clean = test_set.batch(list(range(len(test_set))))
    taken = []
    for _ in range(repeats):
        start = clock()
        if isinstance(method, nn.Module):
            result = torch.cat([denoised for *_, denoised in denoised_batches(method, test_set)])
        else:
            result = torch.stack([method(image, test_set.sigma) for image in noisy]).clamp(0, 1)
        taken.append(clock() - start)
    return median(taken) / (clean[:, 0].numel() / 1e6), psnr(result, clean).mean().item()


def classical_speed(test_set: GaussianNoiseDataset, repeats: int) -> dict[str, tuple[float, float]]:
    """`denoising_speed` of the filters, which are given sigma.

    Total variation has the weight that is best for these images. BM3D and wavelets where they are installed; BM3D,
    which is slow, is timed once.
    """
    found = {"NLM": denoising_speed(nlm, test_set, repeats)}
    tried = {weight: denoising_speed(partial(total_variation, weight=weight), test_set, 1)[1] for weight in TV_WEIGHTS}
    found["total variation"] = denoising_speed(
        partial(total_variation, weight=max(tried, key=tried.get)), test_set, repeats
    )
    if find_spec("pywt"):
        found["wavelets"] = denoising_speed(bayes_shrink, test_set, repeats)
    if find_spec("bm3d"):
        found["BM3D"] = denoising_speed(bm3d, test_set, 1)
    return found


def speed_table(found: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Rows by PSNR; how many times faster than BM3D, where that is installed."""
    table = pd.DataFrame.from_dict(found, orient="index", columns=["seconds a megapixel", "PSNR (dB)"])
    if "BM3D" in found:
        table["times faster than BM3D"] = (found["BM3D"][0] / table["seconds a megapixel"]).round().astype(int)
    return table.sort_values("PSNR (dB)").round({"seconds a megapixel": 3, "PSNR (dB)": 2})


def total_variation(noisy: Tensor, sigma: float, weight: float) -> Tensor:
    """Chambolle 2004."""
    return torch.from_numpy(denoise_tv_chambolle(noisy.numpy(), weight=weight, channel_axis=0)).float()


def bayes_shrink(noisy: Tensor, sigma: float) -> Tensor:
    """Wavelet thresholding (Chang, Yu, Vetterli 2000)."""
    result = denoise_wavelet(noisy.numpy(), sigma, method="BayesShrink", convert2ycbcr=len(noisy) == 3, channel_axis=0)
    return torch.from_numpy(result).float()
