"""Start a deep network from a trained shallow one."""

import torch
from torch import Tensor, nn

from src.unet import ResidualBlock


def deepened(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights of a network with fewer residual blocks as weights of `model`, which then computes the same.

    The further blocks end in a convolution of zeros, so they add nothing until they are trained.
    """
    own, added = model.state_dict(), {}
    for name, block in model.named_modules():
        if isinstance(block, ResidualBlock) and not any(key.startswith(f"{name}.") for key in weights):
            added |= {key: value for key, value in own.items() if key.startswith(f"{name}.")}
            added |= {f"{name}.body.2.{key}": torch.zeros_like(p) for key, p in block.body[2].named_parameters()}
    return weights | added
