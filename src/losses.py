"""The losses a denoiser can be trained with: a name in TrainConfig(loss=...).

    "mse"      mean (denoised - clean)^2                             the default: it is what PSNR measures
    "l1"       mean |denoised - clean|
    "psnr"     mean over the pictures of ln(1 + MSE / 1e-5): a decibel counts the same in quiet noise as in loud, of
               which MSE sees little else. Under an error of 0.8 of 255 grey levels it turns into MSE
    "ssim"     1 - SSIM
    "ms_ssim"  1 - MS-SSIM, by as many scales as the crop holds: 5 from 176 pixels, 3 at 64, 1 under 22
    "mix"      0.84 (1 - MS-SSIM) + 0.16 L1; "mix:0.025" with another weight

Mix is the best loss of Zhao, Gallo, Frosio and Kautz, "Loss Functions for Image Restoration With Neural
Networks", IEEE Transactions on Computational Imaging 3(1), 2017. There a scale is a wider Gaussian at
full size, here it is the picture at half the size, as MS-SSIM is defined; and there L1 is weighted by the Gaussian
of the coarsest scale around a patch's centre. Summed over all centres those weights are one for each pixel, so
what is left is L1.

The structural ones put a window around every pixel, mirroring the picture at its border, where the published
figures have those inside alone: a crop's outermost pixels would hardly be trained else, which cost 1.2 dB
(PROGRESS.md). Each takes denoised and clean, float32 [B, C, H, W] in [0, 1], and returns a scalar: 0 for equal
images and positive for all others, so that lower is better (SSIM itself is not a loss, nor is its negative 0 at the
goal). The structural ones raise ValueError under 11x11.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from src.metrics import check_window, multiscale, similarity

Loss = Callable[[Tensor, Tensor], Tensor]


def psnr_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    """ln(1 + MSE / 1e-5) of each picture, averaged: PSNR with its sign turned and its pole filled in."""
    return torch.log1p((denoised - clean).square().mean(dim=(1, 2, 3)) / 1e-5).mean()


def ssim_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    """1 - SSIM, see metrics.ssim."""
    check_window(clean.shape)
    luminance, contrast = similarity(denoised, clean, mirrored=True)
    return 1 - (luminance * contrast).mean()


def ms_ssim_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    """1 - MS-SSIM, see metrics.ms_ssim."""
    check_window(clean.shape)
    return 1 - multiscale(denoised, clean, mirrored=True).mean()


def mix_loss(denoised: Tensor, clean: Tensor, weight: float = 0.84) -> Tensor:
    """weight * (1 - MS-SSIM) + (1 - weight) * L1."""
    return weight * ms_ssim_loss(denoised, clean) + (1 - weight) * F.l1_loss(denoised, clean)


LOSSES: dict[str, Loss] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "psnr": psnr_loss,
    "ssim": ssim_loss,
    "ms_ssim": ms_ssim_loss,
    "mix": mix_loss,
}


def loss_function(loss: str | Loss) -> Loss:
    """The function of a name above, or the function itself; ValueError for what is neither."""
    if callable(loss):
        if not hasattr(loss, "__name__"):  # a partial, say: a run's key could not tell it from another
            raise ValueError(f"a loss of your own needs a name for the run's key, got {loss!r}; write it as a function")
        return loss
    name, colon, weight = str(loss).partition(":")
    try:
        if not colon:
            return LOSSES[name]
        if name == "mix" and 0 <= float(weight) <= 1:
            return partial(mix_loss, weight=float(weight))
    except (KeyError, ValueError):
        pass
    raise ValueError(
        f"loss must be one of {', '.join(LOSSES)}, mix:WEIGHT with a weight in [0, 1], or a function of "
        f'(denoised, clean), got {loss!r}; the default is "mse"'
    )
