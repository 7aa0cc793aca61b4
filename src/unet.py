"""The UNet: a contracting and an expanding path, joined by skips at each level (Ronneberger et al. 2015)."""

from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.files import whole_number


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), both convolutions 3x3, no normalisation (EDSR, Lim et al. 2017)."""

    def __init__(self, width: int):
        super().__init__()
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
        self.body = nn.Sequential(convolutions[0], nn.ReLU(inplace=True), convolutions[1])

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += x  # in place: a further copy of the features costs memory at 20 megapixels, and no gradient needs y
        return y


class UNet(nn.Module):
    """Predict a correction and add it: float [B, channels, H, W] of any size from 1x1 up -> the same, not clamped.

    channels: 3 for RGB, 1 for grey. widths: channels of each level, finest first. blocks: residual blocks a level and
    path; the finest level has none on the way down (they took an eighth of the time and gained nothing). seed: of the
    initial weights. The last convolution starts at zero: an untrained network returns its input. The input is padded to
    a multiple of `stride`; an output pixel sees `receptive_radius` pixels far.
    """

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (24, 48, 96, 128), blocks: int = 1, seed: int = 0):
        super().__init__()
        channels, blocks = whole_number("channels", channels, 1), whole_number("blocks", blocks, 1)
        widths = [whole_number("each of widths", width, 1) for width in [*widths] or [None]]
        self.config = dict(channels=channels, widths=widths, blocks=blocks, seed=whole_number("seed", seed))
        self.stride, self.receptive_radius = 2 ** (len(widths) - 1), receptive_radius(len(widths), blocks)
        steps = list(pairwise(widths))
        with seeded(seed):
            self.head = nn.Conv2d(channels, widths[0], 3, padding=1)
            counts = [0, *[blocks] * len(steps)] if steps else [blocks]  # the bottleneck last
            self.encoder = nn.ModuleList(stage(width, count) for width, count in zip(widths, counts))
            self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
            self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in steps)
            self.decoder = nn.ModuleList(stage(a, blocks) for a, _ in steps)
            self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight), nn.init.zeros_(self.tail.bias)

    def forward(self, noisy: Tensor) -> Tensor:
        padded = pad_to_multiple(check_input(noisy, self.head), self.stride)
        x = self.head(padded - 0.5)  # [B, widths[0], H, W]; the weights start out for values around 0
        skips = []
        for encode, down in zip(self.encoder, self.down):
            skips.append(encode(x))
            x = down(skips[-1])  # [B, 2C, H/2, W/2]
        x = self.encoder[-1](x)  # the bottleneck: zip stopped at the last halving
        for up, decode in zip(reversed(self.up), reversed(self.decoder)):
            x = decode(up(x).add_(skips.pop()))  # [B, C/2, 2H, 2W]
        # the sum in float32 also under bfloat16 autocast: 8 bits of mantissa are too few for an image
        denoised = padded + self.tail(x).to(noisy.dtype)
        return denoised[..., : noisy.shape[2], : noisy.shape[3]]


def stage(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def receptive_radius(levels: int, blocks: int) -> int:
    """In pixels: a 3x3 convolution at level l adds 2^l, the halving below it 2^l; head and tail one each."""
    stages = [1 if level in (0, levels - 1) else 2 for level in range(levels)]
    return 2 + sum(2 * blocks * n * 2**level for level, n in enumerate(stages)) + 2 ** (levels - 1) - 1


def check_input(noisy: Tensor, head: nn.Conv2d) -> Tensor:
    """noisy; ValueError unless it is float [B, C, H, W] as the network's first convolution takes it, H and W >= 1."""
    shaped = noisy.ndim == 4 and noisy.shape[1] == head.in_channels and 0 not in noisy.shape[2:]
    if not shaped or not noisy.is_floating_point() or (noisy.dtype == torch.float64 != head.weight.dtype):
        raise ValueError(
            f"the network takes float32 [B, {head.in_channels}, H, W] in [0, 1], got {noisy.dtype} "
            f"{list(noisy.shape)}; one image needs image[None], 8 bits become floats by x / 255"
        )
    return noisy


def pad_to_multiple(noisy: Tensor, multiple: int) -> Tensor:
    """[B, C, H, W] with its right and lower border repeated up to the next multiple of both sides."""
    return F.pad(noisy, (0, -noisy.shape[3] % multiple, 0, -noisy.shape[2] % multiple), mode="replicate")


@contextmanager
def seeded(seed: int):
    """Initial weights from this seed, without reading or moving the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(whole_number("seed", seed, 0, 2**64 - 1))
        yield
