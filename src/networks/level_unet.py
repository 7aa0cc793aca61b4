"""LevelUNet: a UNet with an upper bound of the noise as second input, for noise whose standard deviation is not known.

A network that is trained with the true sigma as input believes it. Here the number is a bound from one to eight times
the true standard deviation, or is missing, so the network has to look at the image as well. The idea of a constant map
beside the image: FFDNet (Zhang, Zuo, Zhang, IEEE Transactions on Image Processing 27(9), 2018).
"""

import torch
from torch import Tensor, nn

from src.noise import check_sigma
from src.unet import UNet

LEVEL_SCALE = 255 / 25  # brings levels of 10 to 40 8-bit levels near 1, where the weights start


class LevelUNet(nn.Module):
    """Predict a correction and add it, knowing an upper bound of the noise.

    channels: of the image, 3 for RGB. widths, blocks, seed: see `UNet`.

    forward(noisy, level): noisy is float [B, C, H, W] in [0, 1] but for the noise, level a number or [B] in [0, 1]
    units (16/255 for a typical camera), None where it is unknown. Or noisy is [B, C + 1, H, W], whose last channel
    holds the level at each pixel, 0 for unknown. Returns [B, C, H, W], not clamped.

    Raises ValueError for another shape or a level outside [0, 1].
    """

    takes_level = True  # as a further channel

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (32, 64, 128, 192), blocks: int = 1, seed: int = 0):
        super().__init__()
        # two more inputs: the level, and whether it is known. Their outputs are not used
        self.unet = UNet(channels + 2, widths, blocks=blocks, seed=seed)
        self.config = dict(channels=channels, widths=list(widths), blocks=blocks, seed=seed)
        self.stride, self.receptive_radius = self.unet.stride, self.unet.receptive_radius

    def forward(self, noisy: Tensor, level: float | Tensor | None = None) -> Tensor:
        channels = self.config["channels"]
        if noisy.ndim != 4 or noisy.shape[1] not in (channels, channels + 1):
            expected = f"[B, {channels}, H, W], or {channels + 1} channels of which the last is the level"
            raise ValueError(f"the network takes {expected}, got {list(noisy.shape)}; one image needs image[None]")
        if noisy.shape[1] == channels:
            level_map = constant_map(level, noisy)  # [B, 1, H, W]
        else:
            noisy, level_map = noisy[:, :channels], noisy[:, channels:]
        known = (level_map > 0).to(noisy.dtype)
        return self.unet(torch.cat([noisy, level_map * LEVEL_SCALE, known], dim=1))[:, :channels]


def constant_map(level: float | Tensor | None, noisy: Tensor) -> Tensor:
    """[B, 1, H, W] of one level an image, 0 where it is None."""
    level = torch.as_tensor(0.0 if level is None else level, dtype=noisy.dtype, device=noisy.device).reshape(-1)
    if len(level) not in (1, len(noisy)):
        raise ValueError(f"level must be one number or one for each of {len(noisy)} images, got {len(level)}")
    for value in level.tolist():
        check_sigma(value)
    return level.reshape(-1, 1, 1, 1).expand(len(noisy), 1, *noisy.shape[2:])


def start_weights(model: LevelUNet, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict for `model`, which then does what a UNet of these weights does, whatever the level.

    The convolutions that touch the two further channels are filled with zeros there.
    """
    own = model.state_dict()
    for name, value in weights.items():
        target = torch.zeros_like(own[f"unet.{name}"])
        target[tuple(slice(size) for size in value.shape)] = value
        own[f"unet.{name}"] = target
    return own
