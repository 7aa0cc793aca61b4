"""What 09_speed measures with: the training loop of 2021, clocks on trainings and filters. See also limits.py."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from statistics import median
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.restoration import denoise_tv_chambolle, denoise_wavelet
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, Dataset

from src import GaussianNoiseDataset, ImageSet, TrainConfig, psnr, train
from src.images import find_folder
from src.device import device
from src.evaluation import bm3d, denoise_batches, nlm

TV_WEIGHTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


def clock() -> float:
    """Seconds; what a GPU has queued is waited for first."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Files(Dataset):
    """The files of `images`, each decoded and resized whenever it is asked for: float32 [3, side, side] in [0, 1]."""

    def __init__(self, folder: str, images: ImageSet, side: int):
        self.paths, self.side = [find_folder(folder) / name for name in images.names], side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = np.asarray(Image.open(self.paths[index]).convert("RGB").resize((self.side, self.side)))
        return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def train_as_in_2021(
    model: nn.Module, files: Files, sigma: float, steps: int, batch: int = 4, lr: float = 2e-4, seed: int = 0
) -> Iterator[float]:
    """Train without end, float32 and NCHW, every lever left alone; yield the mean loss after each `steps` steps."""
    model.to(device()).train()
    loader = DataLoader(files, batch, shuffle=True, num_workers=0, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(model.parameters(), lr, foreach=False, fused=False)  # a loop over the weights
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


@contextmanager
def float32():
    """Our loop as it runs where the hardware has no bfloat16: neither in the convolutions nor in Muon."""
    with ExitStack() as undo:
        for module in ("device", "muon"):
            undo.enter_context(mock.patch(f"src.{module}.precision", lambda where: torch.float32))
        yield


@contextmanager
def by_channel():
    """Tensors laid out by channel (NCHW), torch's default, whatever the hardware would like."""
    with mock.patch("src.loop.memory_format", lambda shape: torch.contiguous_format):
        yield


@contextmanager
def unfused():
    """Adam and the mean of the weights as loops over the weights, one small operation after another."""
    adam = torch.optim.Adam

    def plain_adam(*arguments, **options):
        return adam(*arguments, **options | dict(fused=False, foreach=False))

    def plain_lerp(averaged, stepped, share):
        for mean, now in zip(averaged, stepped):
            mean.lerp_(now, share)

    with mock.patch("torch.optim.Adam", plain_adam), mock.patch("torch._foreach_lerp_", plain_lerp):
        yield


@contextmanager
def singly():
    """A batch put together from its pairs, fetched one by one, as a DataLoader does with a plain data set."""
    whole = GaussianNoiseDataset.batch

    def batch(self, indices):
        return tuple(torch.cat(part) for part in zip(*(whole(self, [index]) for index in indices)))

    with mock.patch.object(GaussianNoiseDataset, "batch", batch):
        yield


def under(context: Callable, epochs: Iterator) -> Iterator:
    """The same epochs, each under context(), which the ones of others between them are not."""
    while True:
        with context():
            entry = next(epochs, None)
        if entry is None:
            return
        yield entry


def interleaved(runs: dict[str, Iterator], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each next() of the runs, taken in turn, A B A B ...; the first of each warms up and is left out."""
    seconds = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            next(run)
            seconds[name].append(clock() - start)
    for run in runs.values():
        run.close()  # frees the networks
    return {name: np.array(taken[1:]) for name, taken in seconds.items()}


def shares(model: nn.Module, train_set: GaussianNoiseDataset, config: TrainConfig, repeats: int) -> dict[str, float]:
    """Seconds of an epoch of `train` by part, means over `repeats`; together they are the epoch.

    On a GPU the clock waits at every part, so there the epoch is a little slower than it is without.
    """
    parts = ("data", "forward", "backward", "optimizer")
    spent, started = dict.fromkeys(parts, 0.0), {}

    def begin(part: str, *_) -> None:
        started[part] = clock()

    def end(part: str, *_) -> None:
        spent[part] += clock() - started[part]

    def timed(part: str, function: Callable) -> Callable:
        def call(*args, **options):
            begin(part)
            try:
                return function(*args, **options)
            finally:
                end(part)

        return call

    # the loop steps a copy of the network, which takes the hooks along
    model.register_forward_pre_hook(lambda *_: begin("forward"))
    model.register_forward_hook(lambda *_: end("forward"))
    hooks = [
        register_optimizer_step_pre_hook(lambda *_: begin("optimizer")),
        register_optimizer_step_post_hook(lambda *_: end("optimizer")),
    ]
    watched = [(train_set, "batch", "data"), (Tensor, "backward", "backward")]
    epochs = train(model, train_set, None, replace(config, epochs=repeats + 1))
    with ExitStack() as undo:
        for hook in hooks:
            undo.callback(hook.remove)
        next(epochs)  # warms up
        for owner, name, part in watched:
            undo.enter_context(mock.patch.object(owner, name, timed(part, getattr(owner, name))))
        spent.update(dict.fromkeys(parts, 0.0))
        start = clock()
        list(epochs)
        whole = clock() - start
    spent["rest"] = whole - sum(spent.values())
    return {part: seconds / repeats for part, seconds in spent.items()}


def held_out(model: nn.Module, test_set: GaussianNoiseDataset) -> float:
    """PSNR in dB, mean over the pictures."""
    return torch.cat([psnr(d, c) for _, c, d in denoise_batches(model, test_set)]).mean().item()


def until(
    epochs: Iterator, model: nn.Module, test_set: GaussianNoiseDataset, budget: float, looks: int = 24
) -> list[tuple[float, float]]:
    """Train for `budget` seconds; (seconds so far, held-out PSNR in dB) at about `looks` moments, none of their time in it.

    epochs: what trains `model` whenever it is asked for the next of them.
    """
    points, spent, due = [], 0.0, 0.0
    while spent < budget:
        start = clock()
        next(epochs)
        spent += clock() - start
        if spent >= min(due, budget):
            points.append((spent, held_out(model, test_set)))
            due = spent + budget / looks
    return points


def passed(points: list[tuple[float, float]], level: float) -> float:
    """The first seconds at which a curve of `until` was seen above the level, inf where it never was, nan of nan."""
    never = float("inf") if level == level else level
    return next((seconds for seconds, value in points if value > level), never)


def quality(method: nn.Module | Callable, test_set: GaussianNoiseDataset, repeats: int) -> tuple[float, float]:
    """(seconds a megapixel, PSNR in dB) of a network or of a filter(noisy [C, H, W], sigma); the median of `repeats`."""
    noisy, clean = test_set.batch(list(range(len(test_set))))
    taken = []
    for _ in range(repeats):
        start = clock()
        if isinstance(method, nn.Module):
            result = torch.cat([denoised for *_, denoised in denoise_batches(method, test_set)])
        else:
            result = torch.stack([method(image, test_set.sigma) for image in noisy]).clamp(0, 1)
        taken.append(clock() - start)
    return median(taken) / (clean[:, 0].numel() / 1e6), psnr(result, clean).mean().item()


def classical(test_set: GaussianNoiseDataset, repeats: int) -> dict[str, tuple[float, float]]:
    """`quality` of the filters, which are told sigma: TV at the weight best for these pictures, BM3D and wavelets if
    installed; BM3D, the slow one, once."""
    found = {"nlm": quality(nlm, test_set, repeats)}
    tried = {weight: quality(partial(_tv, weight=weight), test_set, 1)[1] for weight in TV_WEIGHTS}
    found["tv"] = quality(partial(_tv, weight=max(tried, key=tried.get)), test_set, repeats)
    if find_spec("pywt"):
        found["wavelet"] = quality(_wavelet, test_set, repeats)
    if find_spec("bm3d"):
        found["bm3d"] = quality(bm3d, test_set, 1)
    return found


def _tv(noisy: Tensor, sigma: float, weight: float) -> Tensor:
    """Total variation (Chambolle 2004)."""
    return torch.from_numpy(denoise_tv_chambolle(noisy.numpy(), weight=weight, channel_axis=0)).float()


def _wavelet(noisy: Tensor, sigma: float) -> Tensor:
    """BayesShrink (Chang, Yu, Vetterli 2000)."""
    result = denoise_wavelet(noisy.numpy(), sigma, method="BayesShrink", convert2ycbcr=len(noisy) == 3, channel_axis=0)
    return torch.from_numpy(result).float()


def verdict(rows: list[tuple[str, str, float, float]]) -> str:
    """A table of (what, "at least" or "at most", goal, figure); a figure that is nan was not measured here."""
    lines = [f"{'':58s} {'goal':>15s} {'figure':>9s}  met"]
    for what, way, goal, figure in rows:
        met = "-" if figure != figure else "yes" if (figure >= goal) == (way == "at least") or figure == goal else "no"
        lines.append(f"{what:58s} {way:>8s} {goal:6g} {figure:9.3g}  {met}")
    return "\n".join(lines)
