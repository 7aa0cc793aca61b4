"""The optimizer's parts: Muon for wide convolutions, the learning-rate schedule, and the EMA of the weights."""

import math

import torch
from torch import Tensor

from src.device import precision


def learning_rate_factor(config, step: int, steps: int) -> float:
    """Factor of a TrainConfig's learning rates at optimizer step `step` (from 1) of `steps` in the run.

    A linear warmup, then 1 / sqrt(1 + step / decay), whatever `steps` is: 100 epochs are the first part of 2000.
    "cosine": half a cosine to 0 over all steps instead. cooldown: over the last epochs the rates fall to 0 besides.
    """
    factor = 1 / math.sqrt(1 + step / config.decay)
    if config.schedule == "cosine":
        factor = (1 + math.cos(math.pi * min(1, step / steps))) / 2
    if config.cooldown:
        factor *= min(1.0, max(0.0, 1 - step / steps) * config.epochs / config.cooldown)
    return min(1.0, step / max(1, config.warmup)) * factor


def ema_exponent(relative_std: float) -> float:
    """The power g of an average of weights, weighted by step^g, whose standard deviation is relative_std of its length.

    Karras et al. 2024 (arXiv 2312.02696) give it as sqrt((g + 1) / (g + 3)) / (g + 2): solved by halving.
    """
    low, high = 0.0, 1e6
    for _ in range(60):
        g = (low + high) / 2
        low, high = (g, high) if math.sqrt((g + 1) / (g + 3)) / (g + 2) > relative_std else (low, g)
    return low


def orthogonalise(matrices: Tensor, iterations: int = 4) -> Tensor:
    """About U V^T of each matrix U S V^T: singular values come out mostly between 0.6 and 1.3.

    matrices: float [N, R, C]. Returns float32 [N, R, C]. Newton-Schulz iteration with Jordan's quintic, for each
    singular value x -> 3.4445 x - 4.775 x^3 + 2.0315 x^5, in bfloat16, whose rounding is harmless here, where fast.
    """
    x = matrices.to(precision(matrices.device))
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(iterations):
        square = x @ x.mT  # [N, R, R] of the shorter side
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Step each weight by -lr * 0.2 * sqrt(max(R, C)) * orthogonalise(momentum), R x C its matrix.

    A convolution's weight is a matrix [C_out, C_in * 3 * 3]. Adam scales each of its numbers alone; Muon replaces the
    momentum G = U S V^T by U V^T, so that every direction of the matrix moves equally far (Jordan et al. 2024,
    kellerjordan.github.io/posts/muon). The factor 0.2 * sqrt(...) gives steps of Adam's size (Liu et al. 2025,
    arXiv 2502.16982). One epoch with it gains what two to three with Adam do (PROGRESS.md).
    params: weights of 2 or more dimensions, the first one the rows. momentum: Nesterov's.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple, list] = {}  # one chain of products for all weights of a shape
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(tuple(p.shape), []).append(p)
            for weights in by_shape.values():
                self._step_weights(weights, group["lr"], group["momentum"])

    def _step_weights(self, weights: list[Tensor], lr: float, momentum: float) -> None:
        for p in weights:
            if not self.state[p]:
                self.state[p]["mean"] = torch.zeros_like(p)
        gradients, momenta = [p.grad for p in weights], [self.state[p]["mean"] for p in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, momenta, momentum)
        # channels last: how a convolution's weight mostly lies in memory, so flattening copies nothing
        matrices = torch.stack([g.movedim(1, -1).flatten(1) for g in nesterov])  # [N, R, C]
        step_size = lr * 0.2 * max(matrices.shape[1:]) ** 0.5
        for p, direction in zip(weights, orthogonalise(matrices)):
            shape = p.movedim(1, -1).shape
            p.sub_(direction.view(shape).movedim(-1, 1), alpha=step_size)
