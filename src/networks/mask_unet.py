"""UNets whose output is added to nothing: for a mask, or to see what the residual output is good for."""

from itertools import pairwise

import torch
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
        return self.decoded(*self.encoded(noisy), noisy)

    def encoded(self, noisy: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The coarsest features, [B, widths[-1], H / stride, W / stride], and those of each finer level."""
        x = self.head(pad_to_multiple(check_input(noisy, self.head), self.stride) - 0.5)  # [B, widths[0], H, W]
        skips = []
        for encode, down in zip(self.encoder, self.down):
            skips.append(encode(x))
            x = down(skips[-1])  # [B, 2C, H/2, W/2]
        return self.encoder[-1](x), skips

    def decoded(self, x: Tensor, skips: list[Tensor], noisy: Tensor) -> Tensor:
        """The output, of the size and type of `noisy`."""
        for up, decode in zip(reversed(self.up), reversed(self.decoder)):
            x = decode(self.merge(up(x), skips.pop()))  # [B, C/2, 2H, 2W]
        return self.tail(x).to(noisy.dtype)[..., : noisy.shape[2], : noisy.shape[3]]

    def merge(self, x: Tensor, skip: Tensor) -> Tensor:
        return x + skip


class FinderUNet(MaskUNet):
    """float [B, channels, H, W] in [0, 1] -> [B, 2, H, W] in [0, 1]: the score of each pixel, and that of the image.

    Channel 1 is the probability that the image shows an object at all, the same at every pixel. It comes from the mean
    and the maximum of the coarsest features. Channel 0 is the mask's probability times it.
    """

    def __init__(
        self, channels: int = 3, widths: tuple[int, ...] = (16, 32, 64, 96, 128), blocks: int = 1, seed: int = 0
    ):
        super().__init__(channels, 1, widths, blocks, seed)
        del self.config["out_channels"]
        with seeded(seed + 1):
            self.present = nn.Sequential(nn.Linear(2 * widths[-1], 64), nn.ReLU(), nn.Linear(64, 1))
        nn.init.constant_(self.tail.bias, -2.0)  # most pixels are none of an object's

    def forward(self, noisy: Tensor) -> Tensor:
        x, skips = self.encoded(noisy)
        present = self.present(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))  # [B, 1]
        present = present.float().sigmoid()[..., None, None].to(noisy.dtype)
        score = self.decoded(x, skips, noisy).float().sigmoid().to(noisy.dtype) * present
        return torch.cat([score, present.expand_as(score)], dim=1)  # [B, 2, H, W]


def finder_weights(model: FinderUNet, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict for `model` that begins with the weights of another FinderUNet, or of a MaskUNet of fewer levels.

    A MaskUNet's output is a probability p, so the last convolution is scaled to give the logit 8 (p - 1/2). Levels that
    it does not have begin as if they were not there.
    """
    result = model.state_dict() | weights
    if "present.0.weight" not in weights:
        result["tail.weight"], result["tail.bias"] = 8 * weights["tail.weight"], 8 * (weights["tail.bias"] - 0.5)
        for name in [name for name in result if name not in weights]:
            if name.startswith("up.") or (name.startswith("decoder.") and ".body.2." in name):
                result[name] = torch.zeros_like(result[name])
    return result
