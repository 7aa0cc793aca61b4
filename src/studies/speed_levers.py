"""What makes training fast: variants with one lever switched off, timed in turns, and where an epoch's time goes.

The levers: bfloat16, channels last, fused operations, a whole batch drawn in one call. Each is switched off from the
outside, as the training loop has no options for being slow.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from src.config import TrainConfig
from src.device import device, precision
from src.loop import training_loop
from src.networks import UNet2021
from src.noise import GaussianNoiseDataset
from src.studies.speed import FileDataset, clock, loop_2021
from src.unet import UNet


@contextmanager
def float32():
    """No bfloat16, neither in the convolutions nor in Muon."""
    with ExitStack() as undo:
        for module in ("device", "optim"):
            undo.enter_context(mock.patch(f"src.{module}.precision", lambda where: torch.float32))
        yield


@contextmanager
def channels_first():
    """Tensors in torch's default layout (NCHW), whatever the hardware prefers."""
    with mock.patch("src.loop.memory_format", lambda shape: torch.contiguous_format):
        yield


@contextmanager
def unfused():
    """Adam and the EMA as loops over the parameters, one small operation after another."""
    adam = torch.optim.Adam

    def plain_adam(*arguments, **options):
        return adam(*arguments, **options | dict(fused=False, foreach=False))

    def plain_lerp(ema_params, params, weight):
        for mean, now in zip(ema_params, params):
            mean.lerp_(now, weight)

    with mock.patch("torch.optim.Adam", plain_adam), mock.patch("torch._foreach_lerp_", plain_lerp):
        yield


@contextmanager
def pair_by_pair():
    """A batch put together from pairs drawn one at a time, as a DataLoader does with a plain data set."""
    batch = GaussianNoiseDataset.batch

    def one_by_one(self, indices):
        return tuple(torch.cat(part) for part in zip(*(batch(self, [index]) for index in indices)))

    with mock.patch.object(GaussianNoiseDataset, "batch", one_by_one):
        yield


LEVERS = {"float32": float32, "channels first": channels_first, "unfused": unfused, "pair by pair": pair_by_pair}


def under(context: Callable, epochs: Iterator) -> Iterator:
    """The same epochs, each within context(), which does not hold for what runs between them."""
    while True:
        with context():
            record = next(epochs, None)
        if record is None:
            return
        yield record


def in_turns(runs: dict[str, Iterator], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each next() of the runs, taken in turn A B A B ...; the first of each warms up and is left out."""
    seconds = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            next(run)
            seconds[name].append(clock() - start)
    for run in runs.values():
        run.close()  # frees the networks
    return {name: np.array(taken[1:]) for name, taken in seconds.items()}


def lever_times(train_set: GaussianNoiseDataset, config: TrainConfig, repeats: int) -> pd.DataFrame:
    """Seconds an epoch of the default training, and with one lever switched off at a time."""
    config, channels = replace(config, epochs=repeats + 1), train_set.shape[0]
    runs = {"default": training_loop(UNet(channels), train_set, None, config)}
    runs |= {
        name: under(lever, training_loop(UNet(channels), train_set, None, config)) for name, lever in LEVERS.items()
    }
    seconds = in_turns(runs, repeats)
    rows = {
        name: {"seconds an epoch": np.median(taken), "times slower": np.median(taken / seconds["default"])}
        for name, taken in seconds.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").round(3).sort_values("times slower", ascending=False)


def old_and_new(files: FileDataset, sigma: float, repeats: int) -> pd.DataFrame:
    """Images a second of the network of 2021, in its own loop and in ours: whole images, batches of 4, Adam."""
    clean = torch.stack([files[index] for index in range(len(files))])
    train_set = GaussianNoiseDataset(clean, sigma)
    config = TrainConfig(epochs=repeats + 1, batch_size=4, optimizer="adam", adam_lr=2e-4)
    runs = {
        "2021": loop_2021(UNet2021(), files, sigma, steps=len(files) // 4),
        "ours": training_loop(UNet2021(), train_set, None, config),
    }
    if precision(device()) != torch.float32:
        runs["ours, float32"] = under(float32, training_loop(UNet2021(), train_set, None, config))
    seconds = in_turns(runs, repeats)
    rows = {
        name: {"images a second": len(files) / np.median(taken), "times 2021": np.median(seconds["2021"] / taken)}
        for name, taken in seconds.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def epoch_parts(
    model: nn.Module, train_set: GaussianNoiseDataset, config: TrainConfig, repeats: int
) -> dict[str, float]:
    """Seconds of an epoch by part, means over `repeats`; the parts add up to the epoch.

    data: drawing the pairs. rest: EMA, check of the gradient, loss. On a GPU the clock waits at every part, so the
    epoch is a little slower than without it.
    """
    spent, started = dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0), {}

    def begin(part: str) -> None:
        started[part] = clock()

    def end(part: str) -> None:
        spent[part] += clock() - started[part]

    def timed(part: str, function: Callable) -> Callable:
        def call(*arguments, **options):
            begin(part)
            try:
                return function(*arguments, **options)
            finally:
                end(part)

        return call

    # the loop trains a copy of the network, which takes the hooks along
    model.register_forward_pre_hook(lambda *_: begin("forward"))
    model.register_forward_hook(lambda *_: end("forward"))
    epochs = training_loop(model, train_set, None, replace(config, epochs=repeats + 1))
    with ExitStack() as undo:
        undo.callback(register_optimizer_step_pre_hook(lambda *_: begin("optimizer")).remove)
        undo.callback(register_optimizer_step_post_hook(lambda *_: end("optimizer")).remove)
        next(epochs)  # warms up
        for owner, name, part in ((train_set, "batch", "data"), (Tensor, "backward", "backward")):
            undo.enter_context(mock.patch.object(owner, name, timed(part, getattr(owner, name))))
        spent.update(dict.fromkeys(spent, 0.0))
        start = clock()
        list(epochs)
        total = clock() - start
    spent["rest"] = total - sum(spent.values())
    return {part: seconds / repeats for part, seconds in spent.items()}
