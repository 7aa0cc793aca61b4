"""The training loop: a loss, Muon and Adam, EMA weights. `fit` in train.py adds a progress bar and checkpoints."""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src import distributed
from src.config import TrainConfig
from src.device import autocast, device, memory_format, to_device
from src.losses import Loss, loss_function
from src.metrics import psnr
from src.noise import GaussianNoiseDataset
from src.optim import Muon, ema_exponent, learning_rate_factor

PATIENCE = 3  # steps in a row with a gradient that is not finite before training stops


@dataclass
class TrainState:
    """What the loop carries from step to step, and a checkpoint from process to process.

    ema_model: has the EMA weights, the ones to use. model: being trained. layout: memory format of the batches.
    """

    ema_model: nn.Module
    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    layout: torch.memory_format
    step: int = 0
    skipped_in_a_row: int = 0
    history: list[dict] = field(default_factory=list)

    @classmethod
    def new(cls, ema_model: nn.Module, config: TrainConfig, shape: tuple[int, int, int]) -> "TrainState":
        layout = memory_format(shape)
        ema_model.to(device(), memory_format=layout)
        model = copy.deepcopy(ema_model)
        for module in model.modules():  # `fit` ends in evaluation mode; a BatchNorm that the user froze stays frozen
            trainable = [p.requires_grad for p in module.parameters(recurse=False)] or [True]
            module.training = any(trainable) and (module.training or not ema_model.training)
        # Muon steps matrices; the 3 channels of the first and last convolution make none
        wide = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16 and config.optimizer == "muon"]
        rest = [p for p in model.parameters() if all(p is not w for w in wide)]
        optimizers = [torch.optim.Adam(rest, config.adam_lr, (0.9, config.beta2), fused=True)] if rest else []
        return cls(ema_model, model, optimizers + ([Muon(wide, config.lr)] if wide else []), layout)

    def __post_init__(self):
        # listed once: to walk through the modules took half a millisecond a step
        self.params, self.ema_params = (list(m.parameters()) for m in (self.model, self.ema_model))
        self.buffers, self.ema_buffers = (list(m.buffers()) for m in (self.model, self.ema_model))
        # whether the gradients' norms are read at an epoch's end only: a GPU stands still at every number that is read
        self.check_lags = device().type != "cpu"

    def state_dict(self) -> dict:
        return dict(
            ema_model=self.ema_model.state_dict(), model=self.model.state_dict(), step=self.step, history=self.history,
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers], skipped=self.skipped_in_a_row,
        )  # fmt: skip

    def load_state_dict(self, saved: dict) -> None:
        self.ema_model.load_state_dict(saved["ema_model"])
        self.model.load_state_dict(saved["model"])
        for optimizer, content in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(content)
        self.step, self.skipped_in_a_row, self.history = saved["step"], saved["skipped"], saved["history"]


def training_loop(
    model: nn.Module,
    train_set: GaussianNoiseDataset,
    test_set: GaussianNoiseDataset | None,
    config: TrainConfig,
    state: TrainState | None = None,
) -> Iterator[dict]:
    """Train `model` and yield one record an epoch; `model` holds the EMA weights at every yield.

    A record holds epoch, seconds and
        train_mse   mean squared error during the epoch, of the weights being trained
        train_loss  the loss, if it is another
        psnr        mean over the held-out images in dB, if they were evaluated
        skipped     number of steps without a finite gradient, if any: they are not taken
    state: continue it; its ema_model is `model`. Raises FloatingPointError after PATIENCE such steps in a row, or a
    whole epoch of them. A GPU is asked once an epoch; if a step failed, the epoch is repeated and each step checked.
    """
    state = state or TrainState.new(model, config, train_set.shape)
    network, loss_fn = distributed.averaging(state.model), loss_function(config.loss)
    while (epoch := len(state.history)) < config.epochs:
        start, before = time.perf_counter(), copy.deepcopy(state.state_dict()) if state.check_lags else None
        train_set.set_epoch(epoch)
        batches = shuffled_batches(len(train_set), config.batch_size, (config.seed, epoch))
        sums, skipped = torch.zeros(4, device=device()), 0
        for indices in batches:
            indices, count, weight = distributed.part_of(indices)  # of one process: all, their number, 1
            noisy, clean = (to_device(x, device(), state.layout) for x in train_set.batch(indices))
            buffers = [buffer.clone() for buffer in state.buffers]  # BatchNorm's, which the forward pass moves
            with autocast(device()):
                denoised = network(noisy).float()  # a network may end in autocast's bfloat16
            loss = loss_fn(denoised, clean)
            (loss * weight).backward()
            norm = nn.utils.get_total_norm([p.grad for p in state.params if p.grad is not None])
            if state.check_lags or math.isfinite(norm):
                optimizer_step(state, config, config.epochs * len(batches))
                update_ema(state, config)
                sums += torch.stack([F.mse_loss(denoised, clean), loss, torch.ones_like(loss), norm]).detach() * count
            else:
                skipped += 1
                skip_step(state, buffers, min(PATIENCE, len(batches)))
        totals = distributed.total(sums).tolist()
        if state.check_lags and not math.isfinite(sum(totals)):
            state.load_state_dict(before)
            state.check_lags = False  # the epoch again, each step checked
            continue
        for ema_buffer, buffer in zip(state.ema_buffers, state.buffers):
            ema_buffer.copy_(buffer)  # BatchNorm's running statistics are averages already
        record = dict(epoch=epoch + 1) | epoch_means(totals, loss_fn) | (dict(skipped=skipped) if skipped else {})
        if test_set is not None and config.evaluates(epoch + 1) and distributed.rank() == 0:
            record["psnr"] = held_out_psnr(state.ema_model, test_set)
        record["seconds"] = time.perf_counter() - start
        state.history.append(record)
        yield record


def shuffled_batches(count: int, batch_size: int, key: tuple[int, int]) -> list[list[int]]:
    """The indices 0 to count - 1 in an order that key decides, batch by batch; ValueError for a batch above count."""
    if batch_size > count:
        raise ValueError(f"batch_size {batch_size} exceeds the {count} training images; try batch_size={count}")
    order = np.random.default_rng(key).permutation(count).tolist()
    return [order[first : first + batch_size] for first in range(0, count, batch_size)]


def optimizer_step(state: TrainState, config: TrainConfig, steps: int) -> None:
    """One step of Adam and of Muon, at this step's learning rates."""
    state.step, state.skipped_in_a_row = state.step + 1, 0
    factor = learning_rate_factor(config, state.step, steps)
    for optimizer in state.optimizers:
        optimizer.param_groups[0]["lr"] = factor * optimizer.defaults["lr"]
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def update_ema(state: TrainState, config: TrainConfig) -> None:
    """ema_params <- the average of all params so far, weighted by step^g (Karras et al. 2024, equation 5)."""
    exponent = ema_exponent(config.ema_rel_std) + 1
    torch._foreach_lerp_(state.ema_params, state.params, 1 - (1 - 1 / state.step) ** exponent)


@torch.no_grad()
def skip_step(state: TrainState, buffers: list[Tensor], patience: int) -> None:
    """Put BatchNorm statistics back; FloatingPointError where too many steps in a row had no finite gradient."""
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= patience:
        raise FloatingPointError(
            f"the gradient of epoch {len(state.history) + 1} was not finite {patience} times in a row, expected a "
            "finite number; the epochs before it are kept. Lower lr and adam_lr"
        )
    for optimizer in state.optimizers:
        optimizer.zero_grad()
    for buffer, before in zip(state.buffers, buffers):
        buffer.copy_(before)


def epoch_means(totals: list[float], loss_fn: Loss) -> dict[str, float]:
    error, loss, images, _ = totals
    return dict(train_mse=error / images) | ({} if loss_fn is F.mse_loss else dict(train_loss=loss / images))


@contextmanager
def evaluation_mode(model: nn.Module):
    """The model in evaluation mode, and afterwards each module as it was: a frozen BatchNorm stays frozen."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, training in modes:
            module.training = training


def denoised_batches(model: nn.Module, pairs: GaussianNoiseDataset, batch_size: int = 16) -> Iterator[tuple]:
    """(noisy, clean, denoised) of the pairs in order, float32 [B, C, H, W] on the CPU, denoised clamped to [0, 1]."""
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    with evaluation_mode(model):
        for first in range(0, len(pairs), batch_size):
            noisy, clean = pairs.batch(list(range(first, min(first + batch_size, len(pairs)))))
            with torch.inference_mode(), autocast(where):
                denoised = model(to_device(noisy, where)).clamp(0, 1)
            yield noisy, clean, denoised.float().cpu().contiguous()


def held_out_psnr(model: nn.Module, test_set: GaussianNoiseDataset) -> float:
    """Mean over the images of their PSNR in dB."""
    return float(torch.cat([psnr(denoised, clean) for _, clean, denoised in denoised_batches(model, test_set)]).mean())
