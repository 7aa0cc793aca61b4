"""The noise level as an input: its estimate from the image alone, and a UNet that works in units of it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.noise import GaussianNoiseDataset
from src.unet import UNet, check_input

SCALES = {torch.uint8: 255, torch.uint16: 65535}  # what 1.0 is in images of whole numbers
BLOCK, STEP, QUIETEST = 16, 8, 0.02  # side and distance of the blocks in pixels, fraction of them that is believed
QUANTILE = 0.8345  # of sigma 1: where that fraction of the blocks of pure noise lies (tests/test_noise_level.py)
PHOTO_FLOOR = 0.45 / 255  # what photos without noise have in their quietest blocks: CBSD68, BSD68, Set12
STRIP = 128  # rows at a time, so that memory does not grow with the height; a multiple of STEP
REFERENCE, SMALLEST = 25 / 255, 2 / 255  # the sigma that a normalised network sees, and the smallest it is scaled from


@torch.no_grad()
def estimate_sigma(images: Tensor) -> Tensor:
    """Standard deviation of white Gaussian noise in each image, float32 [B], in [0, 1] units.

    images: float [B, C, H, W] in [0, 1] but for the noise, or uint8 or uint16 in their whole range. Second differences
    along both sides remove edges and slopes and leave six times the noise (Immerkaer, Computer Vision and Image
    Understanding 64(2), 1996). Texture is left as well, so they are taken in blocks of 16x16 and the quietest 2 % of
    those count, of the blocks with least clipping at 0 and 1, where the noise is gone.

    Root mean square error 3.5 % at sigma 15/255 and 2 % from 25/255 on CBSD68, BSD68 and Set12. Up to a fifth too high
    below 64 pixels a side or where everything is texture; below 18 pixels the whole image is one block; below 3 the
    result is 0. For noise that varies over the image it gives the quietest part. Raises ValueError for another shape.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be [B, C, H, W], got {list(images.shape)}; one image needs image[None]")
    return torch.stack([_estimate(image) for image in images]) if len(images) else torch.zeros(0, device=images.device)


def _estimate(image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    if min(height, width) < 3:
        return torch.zeros((), device=image.device)
    small = min(height, width) < BLOCK + 2
    block = (height - 2, width - 2) if small else (BLOCK, BLOCK)
    variances, clipped = [], []
    for top in range(0, height - 1 - block[0], STRIP):
        rows = image[:, top : top + STRIP - STEP + block[0] + 2].float() / SCALES.get(image.dtype, 1)
        noise = rows.diff(n=2, dim=1).diff(n=2, dim=2) / 6
        at_limit = ((rows == 0) | (rows == 1)).float()[:, 1:-1, 1:-1]
        variances.append(F.avg_pool2d(noise.square(), block, STEP).flatten())
        clipped.append(F.avg_pool2d(at_limit, block, STEP).flatten())
    variances, clipped = torch.cat(variances), torch.cat(clipped)
    variances = variances[clipped <= _quietest(clipped).clamp(min=0.02)]
    variance = variances.mean() if small else _quietest(variances) / QUANTILE**2
    return (variance.sqrt() - PHOTO_FLOOR).clamp(min=0)


def _quietest(x: Tensor) -> Tensor:
    return x.kthvalue(max(1, round(QUIETEST * len(x)))).values


class NoiseLevelNormalised(nn.Module):
    """A UNet whose input is scaled by 1/sigma: one network is a specialist of every sigma, as only the contrast varies.

    Its UNet sees 0.5 + (noisy - 0.5) * (25/255) / sigma, and the noise it predicts is scaled back. Takes float
    [B, C + 1, H, W] with sigma in [0, 1] as last channel (see `with_sigma_channel`), or [B, C, H, W], whose sigma is
    estimated; returns [B, C, H, W]. A sigma below 2/255 counts as 2/255.
    unet: a UNet, or the config of one. Train on a `SigmaChannelDataset`.
    """

    takes_level = True  # as a further channel

    def __init__(self, unet: UNet | dict):
        super().__init__()
        self.unet = unet if isinstance(unet, UNet) else UNet(**unet)
        self.config = dict(unet=self.unet.config)
        self.stride, self.receptive_radius = self.unet.stride, self.unet.receptive_radius

    def forward(self, noisy: Tensor) -> Tensor:
        channels = self.unet.config["channels"]
        if noisy.ndim == 4 and noisy.shape[1] == channels + 1:
            noisy, sigma = noisy[:, :channels], noisy[:, channels:, 0, 0, None, None]
        else:
            check_input(noisy, self.unet.head)
            sigma = estimate_sigma(noisy).reshape(-1, 1, 1, 1)
        gain = REFERENCE / sigma.to(noisy).clamp(min=SMALLEST)  # [B, 1, 1, 1]
        scaled = 0.5 + (noisy - 0.5) * gain
        return noisy + (self.unet(scaled) - scaled) / gain


def with_sigma_channel(noisy: Tensor, sigma: float | Tensor) -> Tensor:
    """float [B, C, H, W] -> [B, C + 1, H, W] with a last channel of sigma, one number or one for each image."""
    sigma = torch.as_tensor(sigma, dtype=noisy.dtype, device=noisy.device).reshape(-1, 1, 1, 1)
    return torch.cat([noisy, sigma.expand(len(noisy), 1, *noisy.shape[2:])], dim=1)


class SigmaChannelDataset(GaussianNoiseDataset):
    """Pairs whose noisy image has the standard deviation of its own noise as a further channel: [C + 1, H, W]."""

    @property
    def config(self) -> dict:
        return super().config | dict(kind="sigma channel")

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        noisy, clean = super().batch(indices)
        return with_sigma_channel(noisy, (noisy - clean).std(dim=(1, 2, 3), correction=0)), clean
