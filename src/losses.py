"""The losses a denoiser can be trained with: a name in TrainConfig(loss=...), or a function of your own.

    "mse"      mean (denoised - clean)^2, the default: what PSNR measures
    "l1"       mean |denoised - clean|
    "psnr"     mean over images of ln(1 + MSE / 1e-5): a decibel counts the same at low noise as at high
    "ssim"     1 - SSIM
    "ms_ssim"  1 - MS-SSIM, by as many scales as the crop holds: 5 from 176 pixels, 3 at 64, 1 under 22
    "mix"      0.84 (1 - MS-SSIM) + 0.16 L1; "mix:0.025" with another weight

Mix is the best loss of Zhao, Gallo, Frosio and Kautz (IEEE Transactions on Computational Imaging 3(1), 2017); their
Gaussian-weighted L1 is plain L1 once it is averaged over all patches. Each takes denoised and clean, float32
[B, C, H, W] in [0, 1], and returns a scalar, 0 for equal images. The structural ones need 11x11 pixels and mirror the
image at its border: crops would hardly be trained there otherwise, which cost over 1 dB (PROGRESS.md).
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from src.metrics import check_window, ms_ssim_of, ssim_factors

Loss = Callable[[Tensor, Tensor], Tensor]


def psnr_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    return torch.log1p((denoised - clean).square().mean(dim=(1, 2, 3)) / 1e-5).mean()


def ssim_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    check_window(clean.shape)
    luminance, contrast = ssim_factors(denoised, clean, mirrored=True)
    return 1 - (luminance * contrast).mean()


def ms_ssim_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    check_window(clean.shape)
    return 1 - ms_ssim_of(denoised, clean, mirrored=True).mean()


def mix_loss(denoised: Tensor, clean: Tensor, weight: float = 0.84) -> Tensor:
    return weight * ms_ssim_loss(denoised, clean) + (1 - weight) * F.l1_loss(denoised, clean)


LOSSES: dict[str, Loss] = {
    "mse": F.mse_loss, "l1": F.l1_loss, "psnr": psnr_loss, "ssim": ssim_loss, "ms_ssim": ms_ssim_loss, "mix": mix_loss,
}  # fmt: skip


def loss_function(loss: str | Loss) -> Loss:
    """The function of a name above, or the function itself; ValueError for what is neither."""
    name, _, weight = str(loss).partition(":")
    if callable(loss):
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    try:
        if name == "mix" and 0 <= float(weight) <= 1:
            return partial(mix_loss, weight=float(weight))
    except ValueError:
        pass
    raise ValueError(
        f"loss must be one of {', '.join(LOSSES)}, mix:WEIGHT with a weight in [0, 1], or a function "
        f'(denoised, clean) -> scalar, got {loss!r}; the default is "mse"'
    )
