"""Muon: momentum whose step is made orthogonal, for the convolutions of a network.

A convolution's weight is a matrix [C_out, C_in * 3 * 3]. Adam scales each of its numbers alone;
Muon replaces the momentum G = U S V^T by U V^T, so that every direction of the matrix moves
equally far, the rare ones too (Jordan and others 2024, kellerjordan.github.io/posts/muon). Here
one epoch with it is worth about three with Adam: PROGRESS.md.
"""

import torch
from torch import Tensor

from src.device import precision


def orthogonalise(matrices: Tensor, steps: int = 4) -> Tensor:
    """U V^T of each matrix U S V^T, about: singular values come out mostly between 0.6 and 1.3.

    matrices: float [N, R, C]. Returns float32 [N, R, C]. Newton-Schulz iteration with Jordan's
    quintic, x -> 3.4445 x - 4.775 x^3 + 2.0315 x^5 for every singular value, steep at 0: singular
    values below about a hundredth of the norm need more steps. In bfloat16, whose rounding does not
    matter here, where that is the cheapest.
    """
    x = matrices.to(precision(matrices.device))
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        square = x @ x.mT  # [N, R, R] of the shorter side
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Step each weight by -lr * 0.2 * sqrt(max(R, C)) * orthogonalise(momentum), R x C its matrix.

    params: weights of 2 or more dimensions, the first one the rows. lr: the factor 0.2 * sqrt(...)
    gives the step Adam's typical size (Liu and others 2025, arXiv 2502.16982), so its rates are
    of Adam's order. momentum: of Nesterov's kind, a running mean of the gradients.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            # weights of one shape together: one chain of products instead of many small ones
            alike: dict[tuple, list] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(tuple(p.shape), []).append(p)
            for weights in alike.values():
                for p in weights:
                    if not self.state[p]:
                        self.state[p]["mean"] = torch.zeros_like(p)
                gradients = [p.grad for p in weights]
                means = [self.state[p]["mean"] for p in weights]
                torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, means, group["momentum"])
                # channels last: how a convolution's weight lies in memory here, so flattening copies nothing
                matrices = torch.stack([g.movedim(1, -1).flatten(1) for g in ahead])  # [N, R, C]
                size = group["lr"] * 0.2 * max(matrices.shape[1:]) ** 0.5
                for p, direction in zip(weights, orthogonalise(matrices)):
                    shape = p.movedim(1, -1).shape
                    p.sub_(direction.view(shape).movedim(-1, 1), alpha=size)
