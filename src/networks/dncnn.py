"""DnCNN: the convolutional denoiser that the field compares with; here to be measured against the UNet."""

import torch
from torch import Tensor, nn

from src.unet import checked_and_padded


class DnCNN(nn.Module):
    """Estimate the noise with a stack of 3x3 convolutions at full size, and subtract it.

    conv and ReLU, then depth - 2 times conv, BatchNorm and ReLU, then conv (Zhang, Zuo, Chen, Meng, Zhang
    2017, IEEE Transactions on Image Processing 26(7), figure 2 and section III). A convolution before a
    BatchNorm has no bias, nor has the last one. He-normal weights as there. Differs from theirs in the start of
    the last convolution, at zero as in our UNet, so that an untrained network returns its input.

    channels  of the input and of the output: 3 for RGB, 1 for grey
    depth     convolutions, at least 2: 17 for one known sigma, 20 for a range of them in the paper
    width     channels of the layers between
    seed      of the initial weights; the global generator is neither read nor moved

    Takes and returns float [B, C, H, W] of any size; values are meant to lie in [0, 1] but for the noise.
    Raises ValueError for a wrong argument or an input of another channel count.
    """

    def __init__(self, channels: int = 3, depth: int = 17, width: int = 64, seed: int = 0):
        super().__init__()
        for name, value, least in [("channels", channels, 1), ("depth", depth, 2), ("width", width, 1)]:
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}; try DnCNN(channels=3)")
        if not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number, got {seed!r}; try seed=0")
        self.config = dict(channels=channels, depth=depth, width=width, seed=seed)
        self.reach = depth  # in pixels, one a convolution: `denoise` works in tiles
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(channels, depth, width)

    def _build(self, channels: int, depth: int, width: int) -> None:
        layers = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1, bias=False))
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, noisy: Tensor) -> Tensor:
        noisy = checked_and_padded(noisy, self.config["channels"], 1, self.body[0].weight.dtype)
        # the difference in float32 also under bfloat16 autocast, as in the UNet
        return noisy - self.body(noisy).to(noisy.dtype)
