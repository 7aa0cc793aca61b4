"""The training loop: MSE between the denoised and the clean picture, Muon, averaged weights.

    history = fit(model, train_set, test_set, TrainConfig(epochs=100), run="denoise")

`train` is the loop itself, a generator that yields one record an epoch; `fit` is that loop
with a progress bar and with checkpoints/<run>/, where it continues what was begun before.
"""

import copy
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from . import checkpoint
from .device import autocast, device, environment, to_device
from .evaluate import denoise_batches
from .metrics import psnr
from .muon import Muon
from .noise import GaussianNoiseDataset


@dataclass(frozen=True)
class TrainConfig:
    """Everything about a training but its data and its network. The defaults were measured: PROGRESS.md.

    epochs          passes over the training set, each with fresh noise
    batch           pairs a step
    optimizer       "muon": Muon for the wide convolutions, Adam for the rest. "adam": all by Adam
    lr, adam_lr     learning rates of the two, after `warmup` steps of linear rise
    decay           at step t the rates are divided by sqrt(1 + t / decay). That does not depend on
                    `epochs`: a run of 100 is the first part of a run of 2000
    beta2           Adam's memory of squared gradients is 1 / (1 - beta2) steps. The usual 0.999
                    notices a steep place too late: at these rates it diverged in 3 of 6 tries
    ema             share of the training, counted back from any step, over which the weights
                    are averaged (roughly): a running mean whose memory grows with the step
                    does for every length what a decaying rate does for one
    evaluate_every  epochs between looks at the held-out pictures; also after epochs 1, 2, 5 and the last
    seed            of the order of the pictures
    """

    epochs: int = 100
    batch: int = 8
    optimizer: str = "muon"
    lr: float = 1.5e-3
    adam_lr: float = 4e-3
    decay: int = 2000
    beta2: float = 0.95
    warmup: int = 10
    ema: float = 0.05
    evaluate_every: int = 10
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "decay", "evaluate_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        for name in ("warmup", "seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number >= 0, got {value!r}")
        if self.optimizer not in ("muon", "adam"):
            raise ValueError(f'optimizer must be "muon" or "adam", got {self.optimizer!r}')
        for name in ("lr", "adam_lr"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}; try 1e-3")
        if not 0 < self.beta2 < 1:
            raise ValueError(f"beta2 must be between 0 and 1, got {self.beta2}; the default is 0.95")
        if not 0 < self.ema < 1:
            raise ValueError(f"ema must be between 0 and 1, a share of the training, got {self.ema}; try 0.05")


@dataclass
class TrainState:
    """What the loop carries from epoch to epoch, and a checkpoint with it.

    `model` holds the averaged weights, the ones to use; `raw` is the network being stepped.
    """

    model: nn.Module
    raw: nn.Module
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    history: list[dict] = field(default_factory=list)

    @classmethod
    def new(cls, model: nn.Module, config: TrainConfig) -> "TrainState":
        model.to(device(), memory_format=torch.channels_last)
        raw = copy.deepcopy(model).train()
        # the first and last convolution see single pictures: 3 channels make no matrix
        wide = [p for p in raw.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16 and config.optimizer == "muon"]
        rest = [p for p in raw.parameters() if all(p is not w for w in wide)]
        optimizers = [torch.optim.Adam(rest, config.adam_lr, (0.9, config.beta2), fused=True)]
        return cls(model, raw, optimizers + ([Muon(wide, config.lr)] if wide else []))

    def state_dict(self) -> dict:
        return dict(
            model=self.model.state_dict(), raw=self.raw.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers], step=self.step, history=self.history,
        )  # fmt: skip

    def load_state_dict(self, saved: dict) -> None:
        for part, content in zip(
            [self.model, self.raw, *self.optimizers], [saved["model"], saved["raw"], *saved["optimizers"]]
        ):
            part.load_state_dict(content)
        self.step, self.history = saved["step"], saved["history"]


def train(
    model: nn.Module,
    train_set: GaussianNoiseDataset,
    test_set: GaussianNoiseDataset | None,
    config: TrainConfig,
    state: TrainState | None = None,
) -> Iterator[dict]:
    """Train `model` on train_set, looking at test_set, and yield one record an epoch.

    A record holds epoch, train_mse (of the stepped weights, during the epoch), seconds, and
    where the held-out pictures were looked at, psnr in dB: the mean over their images of the
    averaged weights' output, clamped to [0, 1]. `model` holds the averaged weights at every
    yield. Pass `state` to continue one. Raises ValueError if the batch exceeds the set.
    """
    _check_batch(train_set, config)
    state = state or TrainState.new(model, config)
    raw, where = state.raw, device()
    pairs = list(zip(state.model.parameters(), raw.parameters()))
    averaged, stepped = ([p.data for p in side] for side in zip(*pairs))
    memory = _exponent(config.ema) + 1
    for epoch in range(len(state.history), config.epochs):
        start = time.perf_counter()
        train_set.set_epoch(epoch)
        order = np.random.default_rng([config.seed, epoch]).permutation(len(train_set)).tolist()
        total = torch.zeros((), device=where)
        for first in range(0, len(order), config.batch):
            noisy, clean = (to_device(x, where) for x in train_set.batch(order[first : first + config.batch]))
            with autocast(where):
                denoised = raw(noisy)
            loss = F.mse_loss(denoised, clean)
            raw.zero_grad(set_to_none=True)
            loss.backward()
            state.step += 1
            share = min(1.0, state.step / max(1, config.warmup)) / math.sqrt(1 + state.step / config.decay)
            for optimizer in state.optimizers:
                optimizer.param_groups[0]["lr"] = share * optimizer.defaults["lr"]
                optimizer.step()
            # Karras and others 2024, equation 5: a mean weighted by step^exponent
            torch._foreach_lerp_(averaged, stepped, 1 - (1 - 1 / state.step) ** memory)
            total += loss.detach() * len(noisy)
        for average, now in zip(state.model.buffers(), raw.buffers()):
            average.copy_(now)  # running statistics of a BatchNorm are averages already
        record = dict(epoch=epoch + 1, train_mse=total.item() / len(order))
        if not math.isfinite(record["train_mse"]):
            raise FloatingPointError(
                f"the loss of epoch {epoch + 1} is {record['train_mse']}, expected a finite number; "
                "the epochs before it are kept. Lower lr and adam_lr"
            )
        looks = epoch + 1 in (1, 2, 5, config.epochs) or (epoch + 1) % config.evaluate_every == 0
        if test_set is not None and looks:
            record["psnr"] = float(torch.cat([psnr(d, c) for _, c, d in denoise_batches(state.model, test_set)]).mean())
        record["seconds"] = time.perf_counter() - start
        state.history.append(record)
        yield record


def fit(
    model: nn.Module,
    train_set: GaussianNoiseDataset,
    test_set: GaussianNoiseDataset,
    config: TrainConfig = TrainConfig(),
    run: str | Path = "denoise",
) -> list[dict]:
    """Train with a progress bar, writing checkpoints/<run>/ after each epoch.

    What decides the result (network, both data sets, config but for the number of epochs) is the
    run's key. Where the folder holds a run of the same key it is loaded and only the missing epochs are trained;
    a run of another key is left alone, and the ValueError names the fields that differ.
    A network that has a `config` starts from the weights this names, whatever it holds now.
    Interrupting (the notebook's stop button) keeps the finished epochs. `model` ends with
    the averaged weights of the last finished epoch, in evaluation mode.

    Returns the history, a list of `train`'s records. run: a name below checkpoints/, or an absolute path.
    Raises ValueError, OSError or FloatingPointError, one line each, with the finished epochs kept.
    """
    _check_batch(train_set, config)
    folder = checkpoint.folder(run)
    key = run_key(model, train_set, test_set, config)
    state = TrainState.new(model, config)
    saved = checkpoint.load(folder, key)
    if saved is not None:
        done = len(saved["history"])
        if done > config.epochs:
            raise ValueError(
                f"{folder} already holds {done} epochs, {config.epochs} were asked for, and its "
                f"weights of then are gone; ask for epochs={done} or more, or name another run"
            )
        state.load_state_dict(saved)
    elif hasattr(model, "config"):
        # From the weights that the key names, not from what an earlier run has left in `model`.
        fresh = type(model)(**model.config).state_dict()
        state.model.load_state_dict(fresh), state.raw.load_state_dict(fresh)
    size = sum(p.numel() for p in model.parameters())
    about = dict(key=key, epochs=config.epochs, parameters=size, environment=environment())
    finished = copy.deepcopy(state.state_dict())
    # before the first epoch: a folder that cannot be written is better known now
    checkpoint.write_json(folder / "record.json", dict(about, history=state.history))
    # The bar as it stays in the notebook has no times, so that a second run prints the same.
    bar = tqdm(
        total=config.epochs, initial=len(state.history), desc="training", file=sys.stdout,
        bar_format="{desc} {percentage:3.0f}% |{bar:24}| {n}/{total} epochs [{remaining}]{postfix}",
    )  # fmt: skip
    try:
        _show(bar, state.history)
        for _ in train(model, train_set, test_set, config, state):
            checkpoint.save(folder, key, state.state_dict())
            checkpoint.write_json(folder / "record.json", dict(about, history=state.history))
            _show(bar, state.history)
            bar.update()
    except KeyboardInterrupt:
        # The epoch in progress has half moved the weights: back to the last finished one.
        state.load_state_dict(checkpoint.load(folder, key) or finished)
        count = len(state.history)
        bar.write(f"stopped; {count} finished epochs are kept, run again to continue")
    finally:
        bar.bar_format = bar.bar_format.replace(" [{remaining}]", "")
        bar.close()
        model.eval()
    return state.history


def run_key(model: nn.Module, train_set: GaussianNoiseDataset, test_set: GaussianNoiseDataset, config) -> dict:
    """What decides the result, as plain numbers and strings. Epochs are left out: see TrainConfig.decay."""
    settings = asdict(config)
    del settings["epochs"]
    network = {"class": type(model).__name__, **getattr(model, "config", {"layers": str(model)})}
    return dict(network=network, train_set=train_set.config, test_set=test_set.config, config=settings)


def _check_batch(train_set: GaussianNoiseDataset, config: TrainConfig) -> None:
    if config.batch > len(train_set):
        raise ValueError(
            f"batch {config.batch} is larger than the training set of {len(train_set)} images; "
            f"expected at most that, try batch={len(train_set)}"
        )


def _exponent(share: float) -> float:
    """The power g of a mean weighted by step^g whose relative deviation is `share`.

    Karras, Aittala and others 2024 (arXiv 2312.02696, section 3.1) give the deviation as
    sqrt(g + 1) / (sqrt(g + 3) * (g + 2)), which falls as g grows: solved by halving.
    """
    low, high = 0.0, 1e6
    for _ in range(60):
        g = (low + high) / 2
        low, high = (g, high) if math.sqrt((g + 1) / (g + 3)) / (g + 2) > share else (low, g)
    return low


def _show(bar: tqdm, history: list[dict]) -> None:
    seen = [record["psnr"] for record in history if "psnr" in record]
    if seen:
        bar.set_postfix_str(f"mse {history[-1]['train_mse']:.5f}, held-out {seen[-1]:.2f} dB", refresh=False)
