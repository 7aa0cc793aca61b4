"""Our UNet with one of its parts taken out or put in: what is each of them good for? (04_architectures, 06_pitfalls)"""

from itertools import pairwise

from torch import Tensor, nn

from src.networks.mask_unet import MaskUNet
from src.unet import UNet, check_input, pad_to_multiple, seeded


class NoSkipUNet(UNet):
    """Without skip connections: an autoencoder that still adds its output to its input."""

    def forward(self, noisy: Tensor) -> Tensor:
        padded = pad_to_multiple(check_input(noisy, self.head), self.stride)
        x = self.encoder[0](self.head(padded - 0.5))
        for down, encode in zip(self.down, self.encoder[1:]):
            x = encode(down(x))  # [B, 2C, H/2, W/2]
        for up, decode in zip(reversed(self.up), reversed(self.decoder)):
            x = decode(up(x))  # [B, C/2, 2H, 2W]
        denoised = padded + self.tail(x).to(noisy.dtype)
        return denoised[..., : noisy.shape[2], : noisy.shape[3]]


class NoResidualUNet(MaskUNet):
    """Without the residual output: the network has to draw the whole image, not only the noise."""

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (24, 48, 96, 128), blocks: int = 1, seed: int = 0):
        super().__init__(channels, channels, widths, blocks, seed)
        del self.config["out_channels"]


class NoSkipNoResidualUNet(NoResidualUNet):
    """Without both: all that reaches the output has passed the coarsest level."""

    def merge(self, x: Tensor, skip: Tensor) -> Tensor:
        return x


class BatchNormUNet(UNet):
    """With batch normalisation after each 3x3 convolution of the residual blocks, which then needs no bias."""

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (24, 48, 96, 128), blocks: int = 1, seed: int = 0):
        super().__init__(channels, widths, blocks, seed)
        steps = list(pairwise(self.config["widths"]))
        counts = [0] + [blocks] * len(steps) if steps else [blocks]
        with seeded(seed):  # all layers anew, in UNet's order: each draws its weights from where the last one stopped
            self.head = nn.Conv2d(channels, widths[0], 3, padding=1)
            self.encoder = nn.ModuleList(_stage(width, count) for width, count in zip(widths, counts))
            self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
            self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in steps)
            self.decoder = nn.ModuleList(_stage(a, blocks) for a, _ in steps)


class BatchNormResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, width: int):
        super().__init__()
        parts = [(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)) for _ in range(2)]
        self.body = nn.Sequential(*parts[0], nn.ReLU(inplace=True), *parts[1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _stage(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(BatchNormResidualBlock(width) for _ in range(count)))
