"""The training loop: a loss between the denoised and the clean picture, Muon, averaged weights.

    for record in train(model, train_set, test_set, TrainConfig(epochs=100)):
        print(record)

`fit` in train.py is this loop with a progress bar and with checkpoints.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import distributed as parallel
from src.device import autocast, device, memory_format, precision, to_device
from src.evaluation import denoise_batches
from src.losses import Loss, loss_function
from src.metrics import psnr
from src.optim import Muon
from src.noise import GaussianNoiseDataset

VERSION = 1  # raise it whenever a change here, in noise.py, unet.py or muon.py alters the weights a run ends with
PATIENCE = 3  # steps in a row with a gradient that is not finite before training stops


@dataclass(frozen=True)
class TrainConfig:
    """Everything about a training but its data and its network. The defaults were measured: PROGRESS.md.

    epochs          passes over the training set, each with fresh noise
    batch           pairs a step
    optimizer       "muon": Muon for the wide convolutions, Adam for the rest. "adam": all by Adam
    lr              learning rate of Muon
    adam_lr         learning rate of Adam
    warmup          steps over which the rates rise to these, along a line
    decay           at step t the rates are divided by sqrt(1 + t / decay). That does not depend on
                    `epochs`: a run of 100 is the first part of a run of 2000
    beta2           Adam's memory of squared gradients is 1 / (1 - beta2) steps. The usual 0.999
                    notices a steep place too late: at these rates it diverged in 3 of 6 tries
    ema             share of the training, counted back from any step, over which the weights
                    are averaged (roughly): a running mean whose memory grows with the step
                    does for every length what a decaying rate does for one
    evaluate_every  epochs between looks at the held-out pictures; also after epochs 1, 2, 5 and the last
    seed            of the order of the pictures; the command's is that of the split, noise and initial weights too
    loss            "mse" or another name of losses.py, or a function (denoised, clean) -> scalar of your own; of
                    that, a run's key holds the name only
    loss_after      (50, "l1"): from epoch 51 on, this loss
    schedule        "sqrt": as `decay` says. "cosine": the rates fall to 0 along half a cosine over `epochs`, so a
                    run of 100 is no longer the first part of one of 2000, and cannot be continued to it
    cooldown        the last epochs, over which the rates fall to 0 besides, along a line: the end that a long training
                    wants. Up to there the run is that without a cooldown, bit by bit; it cannot be continued
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
    loss: str | Loss = "mse"
    loss_after: tuple[int, str | Loss] | None = None
    schedule: str = "sqrt"
    cooldown: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "decay", "evaluate_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        for name in ("warmup", "seed", "cooldown"):
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
        loss_function(self.loss)
        if self.loss_after is not None:
            after = self.loss_after if isinstance(self.loss_after, (tuple, list)) else ()
            if len(after) != 2 or not isinstance(after[0], int) or after[0] < 1:
                raise ValueError(f'loss_after must be (epoch, loss), got {self.loss_after!r}; try (50, "l1")')
            loss_function(after[1])
        if self.cooldown > self.epochs:
            raise ValueError(f"cooldown must be at most the {self.epochs} epochs, got {self.cooldown}; try a quarter")
        if self.schedule not in ("sqrt", "cosine"):
            raise ValueError(f'schedule must be "sqrt" or "cosine", got {self.schedule!r}')

    def loss_of(self, epoch: int) -> Loss:
        """The loss of an epoch, counted from 1."""
        later = self.loss_after is not None and epoch > self.loss_after[0]
        return loss_function(self.loss_after[1] if later else self.loss)

    def rate(self, step: int, steps: int) -> float:
        """What the learning rates are multiplied by at a step, counted from 1, of so many."""
        falling = 1 / math.sqrt(1 + step / self.decay)
        if self.schedule == "cosine":
            falling = (1 + math.cos(math.pi * min(1, step / steps))) / 2
        if self.cooldown:
            falling *= min(1.0, max(0.0, 1 - step / steps) * self.epochs / self.cooldown)
        return min(1.0, step / max(1, self.warmup)) * falling

    def key(self) -> dict:
        """What of it decides the weights after an epoch, as plain numbers and strings: goes into a run's key."""
        settings = asdict(self)
        if self.schedule == "sqrt" and not self.cooldown:
            del settings["epochs"]  # see `decay`
        if not self.cooldown:
            del settings["cooldown"]  # runs from before it have the same key
        named = lambda loss: getattr(loss, "__name__", loss)  # noqa: E731
        settings["loss"] = named(self.loss)
        settings["loss_after"] = self.loss_after and [self.loss_after[0], named(self.loss_after[1])]
        return settings


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
    def new(cls, model: nn.Module, config: TrainConfig, layout=torch.channels_last) -> "TrainState":
        model.to(device(), memory_format=layout)
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

    A record holds epoch, train_mse (of the stepped weights, during the epoch), train_loss (if it is another),
    seconds, and where the held-out pictures were looked at, psnr in dB: the mean over their images of the
    averaged weights' output, clamped to [0, 1]. `model` holds the averaged weights at every
    yield. Pass `state` to continue one.

    A conditioned network (see UNet) is told the deviation of noisy - clean of each pair while it learns, so its targets
    must be clean; on the held-out pictures it makes its own estimate.

    A step whose gradient is not finite is not taken, and the record's `skipped` counts it.
    Raises FloatingPointError after PATIENCE such steps in a row, or an epoch of fewer, ValueError if the batch exceeds
    the set.

    Among several processes (parallel.py) each computes its share of every batch, the first
    one alone looks at test_set, and a BatchNorm's running statistics are those of the first one's share.
    """
    check_batch(train_set, config)
    where, layout = device(), memory_format(train_set.shape)
    state = state or TrainState.new(model, config, layout)
    raw = state.raw
    forward = parallel.averaging(raw)
    # listed once: to walk through the modules took half a millisecond a step
    parameters, buffers = list(raw.parameters()), list(raw.buffers())
    averaged, stepped = [p.data for p in state.model.parameters()], [p.data for p in parameters]
    memory = _exponent(config.ema) + 1
    in_a_row = 0
    for epoch in range(len(state.history), config.epochs):
        start = time.perf_counter()
        train_set.set_epoch(epoch)
        measure = config.loss_of(epoch + 1)
        order = np.random.default_rng([config.seed, epoch]).permutation(len(train_set)).tolist()
        batches = [order[first : first + config.batch] for first in range(0, len(order), config.batch)]
        errors, losses = torch.zeros(2, device=where)
        seen, skipped = 0, 0
        for batch in batches:
            mine, count = parallel.share(batch)
            noisy, clean = (to_device(x, where, layout) for x in train_set.batch(mine))
            statistics = [b.clone() for b in buffers]  # a BatchNorm's, moved by the forward pass
            told = [(noisy - clean).std(dim=(1, 2, 3), correction=0)] if getattr(raw, "conditioned", False) else []
            with autocast(where):
                denoised = forward(noisy, *told)
            loss = measure(denoised, clean)
            for p in parameters:
                p.grad = None
            # the mean over processes of these is the mean over the batch's pictures
            (loss * (count * parallel.world() / len(batch))).backward()
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if not math.isfinite(norm):
                skipped, in_a_row = skipped + 1, in_a_row + 1
                if in_a_row >= min(PATIENCE, len(batches)):
                    raise FloatingPointError(
                        f"the gradient of epoch {epoch + 1} was {norm:g} {in_a_row} times in a row, expected a finite "
                        f"number; the {epoch} epochs before it are kept. Lower lr and adam_lr"
                        + (", or train in float32" if precision(where) != torch.float32 else "")
                    )
                for now, before in zip(buffers, statistics):
                    now.copy_(before)
                continue
            in_a_row = 0
            state.step += 1
            share = config.rate(state.step, config.epochs * len(batches))
            for optimizer in state.optimizers:
                optimizer.param_groups[0]["lr"] = share * optimizer.defaults["lr"]
                optimizer.step()
            # Karras and others 2024, equation 5: a mean weighted by step^exponent
            torch._foreach_lerp_(averaged, stepped, 1 - (1 - 1 / state.step) ** memory)
            losses += loss.detach() * count
            if measure is not F.mse_loss:
                errors += F.mse_loss(denoised.detach(), clean) * count
            seen += count
        for average, now in zip(state.model.buffers(), buffers):
            average.copy_(now)  # running statistics of a BatchNorm are averages already
        error, value, seen = parallel.total(torch.stack([errors, losses, torch.full_like(errors, seen)])).tolist()
        record = dict(epoch=epoch + 1, train_mse=(value if measure is F.mse_loss else error) / seen)
        if measure is not F.mse_loss:
            record["train_loss"] = value / seen
        if skipped:
            record["skipped"] = skipped
        looks = epoch + 1 in (1, 2, 5, config.epochs) or (epoch + 1) % config.evaluate_every == 0
        if test_set is not None and looks and parallel.rank() == 0:
            record["psnr"] = float(torch.cat([psnr(d, c) for _, c, d in denoise_batches(state.model, test_set)]).mean())
        record["seconds"] = time.perf_counter() - start
        state.history.append(record)
        yield record


def check_batch(train_set: GaussianNoiseDataset, config: TrainConfig) -> None:
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
