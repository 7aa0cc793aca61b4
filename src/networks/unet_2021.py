"""The UNet of December 2021: the one of the paper (Ronneberger, Fischer, Brox 2015) with batch normalisation."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from src.files import whole_number
from src.unet import check_input, pad_to_multiple, seeded


class UNet2021(nn.Module):
    """float [B, channels, H, W] of any size from 1x1 -> the same, not clamped. The output is the image itself.

    Two 3x3 convolutions a level, each with BatchNorm and ReLU; max pooling down, transposed convolutions up, and the
    skip connections concatenated. widths: channels of each level, finest first; as they stand, 31 million parameters.
    batch_norm: False leaves the normalisation out. seed: of the initial weights.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: tuple[int, ...] = (64, 128, 256, 512, 1024),
        batch_norm: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        channels, seed = whole_number("channels", channels, 1), whole_number("seed", seed)
        widths = [whole_number("each of widths", width, 1) for width in widths]
        self.config = dict(channels=channels, widths=widths, batch_norm=batch_norm, seed=seed)
        levels = len(widths)
        self.stride = 2 ** (levels - 1)
        # in pixels: two 3x3 convolutions a stage, halving and doubling, and 2 pixels of margin
        self.receptive_radius = 6 * 2 ** (levels - 1) - 2 + 2 * (self.stride - 1)
        steps = list(pairwise(widths))
        with seeded(seed):
            self.encoder = nn.ModuleList(double(a, b, batch_norm) for a, b in [(channels, widths[0]), *steps])
            self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in steps)
            self.decoder = nn.ModuleList(double(2 * a, a, batch_norm) for a, _ in steps)
            self.tail = nn.Conv2d(widths[0], channels, 1)
        self.down = nn.MaxPool2d(2)

    def forward(self, noisy: Tensor) -> Tensor:
        x = pad_to_multiple(check_input(noisy, self.encoder[0][0]), self.stride) - 0.5
        skips = []
        for encode in self.encoder[:-1]:
            skips.append(encode(x))
            x = self.down(skips[-1])  # [B, C, H/2, W/2]
        x = self.encoder[-1](x)
        for up, decode in zip(reversed(self.up), reversed(self.decoder)):
            x = decode(torch.cat([up(x), skips.pop()], dim=1))  # [B, 2C, 2H, 2W] -> [B, C, 2H, 2W]
        return self.tail(x).to(noisy.dtype)[..., : noisy.shape[2], : noisy.shape[3]]


def double(c_in: int, c_out: int, batch_norm: bool) -> nn.Sequential:
    layers = []
    for c in (c_in, c_out):
        layers.append(nn.Conv2d(c, c_out, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(c_out)] * batch_norm + [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
