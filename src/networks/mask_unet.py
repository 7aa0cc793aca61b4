"""A UNet whose output is added to nothing: for a mask, or to see what the residual output is good for."""

from itertools import pairwise

from torch import Tensor, nn

from src.files import whole_number
from src.unet import check_input, pad_to_multiple, receptive_radius, seeded, stage


class MaskUNet(nn.Module):
    """float [B, channels, H, W] of any size from 1x1 -> [B, out_channels, H, W], of any value (logits of a mask, say).

    Layers as in `UNet`, but the last convolution starts from random weights and its output is the result.
    widths: channels of each level, finest first. blocks: residual blocks a level and path. seed: of initial weights.
    """

    def __init__(
        self,
        channels: int = 3,
        out_channels: int = 1,
        widths: tuple[int, ...] = (24, 48, 96, 128),
        blocks: int = 1,
        seed: int = 0,
    ):
        super().__init__()
        channels, out_channels = whole_number("channels", channels, 1), whole_number("out_channels", out_channels, 1)
        widths = [whole_number("each of widths", width, 1) for width in widths]
        blocks, seed = whole_number("blocks", blocks, 1), whole_number("seed", seed)
        self.config = dict(channels=channels, out_channels=out_channels, widths=widths, blocks=blocks, seed=seed)
        self.stride, self.receptive_radius = 2 ** (len(widths) - 1), receptive_radius(len(widths), blocks)
        steps = list(pairwise(widths))
        with seeded(seed):
            self.head = nn.Conv2d(channels, widths[0], 3, padding=1)
            counts = [0] + [blocks] * len(steps) if steps else [blocks]
            self.encoder = nn.ModuleList(stage(width, count) for width, count in zip(widths, counts))
            self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
            self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in steps)
            self.decoder = nn.ModuleList(stage(a, blocks) for a, _ in steps)
            self.tail = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        x = self.head(pad_to_multiple(check_input(noisy, self.head), self.stride) - 0.5)  # [B, widths[0], H, W]
        skips = []
        for encode, down in zip(self.encoder, self.down):
            skips.append(encode(x))
            x = down(skips[-1])  # [B, 2C, H/2, W/2]
        x = self.encoder[-1](x)
        for up, decode in zip(reversed(self.up), reversed(self.decoder)):
            x = decode(self.merge(up(x), skips.pop()))  # [B, C/2, 2H, 2W]
        return self.tail(x).to(noisy.dtype)[..., : noisy.shape[2], : noisy.shape[3]]

    def merge(self, x: Tensor, skip: Tensor) -> Tensor:
        return x + skip
