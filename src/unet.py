"""The UNet: one class for this project's network and for the one of 2021.

A contracting path halves the picture level by level while the channels widen; an
expanding path climbs back, and at each level a skip connection hands over the features
that the contracting path saw there (Ronneberger, Fischer, Brox, MICCAI 2015).

    UNet()                                               ours, 0.9 million parameters
    UNet(widths=(64, 128, 256, 512, 1024), block="double", norm="batch",
         residual=False)                                 the student project's of 2021
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.networks.noise_level import estimate_sigma
from src.noise import check_sigma

REFERENCE, QUIETEST = 25 / 255, 2 / 255  # of a conditioned network: the sigma it sees, and that of its largest gain


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), both convolutions 3x3; [B, C, H, W] stays [B, C, H, W].

    The EDSR block (Lim and others 2017), which drops batch normalisation: its noise of
    the batch statistics costs more than it brings where the target is the picture itself.
    """

    def __init__(self, width: int, norm: str | None):
        super().__init__()
        self.body = nn.Sequential(*_conv(width, width, norm), nn.ReLU(inplace=True), *_conv(width, width, norm))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += x  # in place, as at 20 megapixels a further copy of the features is time and memory; no gradient needs y
        return y


class UNet(nn.Module):
    """Estimate the clean picture from a noisy one.

    channels  of the input and, without `outputs`, of the output: 3 for RGB, 1 for grey
    widths    channels of each level, finest first; len(widths) - 1 halvings
    blocks    residual blocks a level, on the way down and on the way up. The finest level has none
              on the way down: they took an eighth of the time and gained nothing (PROGRESS.md)
    block     "residual": residual blocks, strided convolutions down, skips added (as in
              DRUNet, Zhang and others 2021). "double": two convolutions with a ReLU each,
              max pooling down, skips concatenated (Ronneberger and others 2015)
    norm      None or "batch"
    skip      False cuts the skip connections: what is left is an autoencoder
    seed      of the initial weights; the global generator is neither read nor moved
    residual  True: the network predicts the noise and the input is added to its output.
              The last convolution then starts at zero, so an untrained network returns
              its input
    outputs   channels of the output where it is no picture but, say, a mask; then residual must be False
    conditioned  True: the network works in units of the noise. What it sees is (noisy - 0.5) * gain and what it
              predicts is divided by it, gain = (25/255) / sigma, so noise always looks as loud and only the picture's
              contrast varies: a specialist of one sigma for all of them. (A sigma under 2/255 is taken for 2/255.)
              sigma is the second argument of the call or, without it, what `estimate_sigma` makes of each picture;
              residual must be True

    Takes float [B, C, H, W] of any size from 1x1 up and, if conditioned, sigma, a number or [B] in [0, 1] units;
    returns the same or, with `outputs`, [B, outputs, H, W]. The picture is padded by repeating its border to the next
    multiple of `stride` and cropped back. Values are meant to lie in [0, 1] but for the noise; the output is not
    clamped.

    Raises ValueError for a wrong argument, an input of another channel count, or a sigma that is none.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: tuple[int, ...] = (24, 48, 96, 128),
        blocks: int = 1,
        block: str = "residual",
        norm: str | None = None,
        skip: bool = True,
        residual: bool = True,
        seed: int = 0,
        outputs: int | None = None,
        conditioned: bool = False,
    ):
        super().__init__()
        counts = [channels, blocks, *(widths if isinstance(widths, (tuple, list)) else [None])]
        if len(counts) < 3 or not all(isinstance(c, int) and c >= 1 for c in counts):
            raise ValueError(
                "channels, blocks and each of widths must be a whole number, at least 1, "
                f"got {channels!r}, {blocks!r}, {widths!r}; try UNet(channels=3, widths=(24, 48, 96, 128))"
            )
        widths = tuple(widths)
        if block not in ("residual", "double"):
            raise ValueError(f'block must be "residual" or "double", got {block!r}')
        if norm not in (None, "batch"):
            raise ValueError(f'norm must be None or "batch", got {norm!r}')
        if not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number, got {seed!r}; try seed=0")
        if outputs is not None and (not isinstance(outputs, int) or outputs < 1):
            raise ValueError(f"outputs must be a whole number, at least 1, got {outputs!r}; leave it out for a picture")
        if residual and outputs not in (None, channels):
            raise ValueError(f"the input cannot be added to {outputs} outputs of {channels} channels; residual=False")
        if conditioned and not residual:
            raise ValueError("conditioned needs residual=True: it is the noise that is predicted in units of sigma")
        # what it was built from: goes into a run's record, and UNet(**config) builds it again
        self.config = {
            "channels": channels,
            "widths": list(widths),
            "blocks": blocks,
            "block": block,
            "norm": norm,
            "skip": skip,
            "residual": residual,
            "seed": seed,
            **({"outputs": outputs} if outputs is not None else {}),  # runs from before it have the same key
            **({"conditioned": True} if conditioned else {}),
        }
        self.stride = 2 ** (len(widths) - 1)
        self.reach = self._reach(len(widths), blocks)
        self.skip, self.residual, self.concatenate = skip, residual, block == "double"
        self.conditioned = conditioned
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(channels, outputs or channels, widths, blocks, norm)

    def _build(self, channels: int, outputs: int, widths: tuple[int, ...], blocks: int, norm: str | None) -> None:
        double = self.concatenate

        def stage(c_in: int, c_out: int, count: int) -> nn.Sequential:
            if double:
                relu = nn.ReLU(inplace=True)
                return nn.Sequential(*_conv(c_in, c_out, norm), relu, *_conv(c_out, c_out, norm), relu)
            return nn.Sequential(*(ResidualBlock(c_out, norm) for _ in range(count)))

        steps = list(pairwise(widths))
        self.head = nn.Identity() if double else nn.Conv2d(channels, widths[0], 3, padding=1)
        counts = [0 if steps else blocks] + [blocks] * len(steps)  # none at the finest level
        self.encoder = nn.ModuleList(stage(*ab, n) for ab, n in zip([(channels, widths[0]), *steps], counts))
        self.down = nn.ModuleList(nn.MaxPool2d(2) if double else nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in steps)
        self.decoder = nn.ModuleList(stage(2 * a if self.skip else a, a, blocks) for a, _ in steps)
        self.tail = nn.Conv2d(widths[0], outputs, 1) if double else nn.Conv2d(widths[0], outputs, 3, padding=1)
        if self.residual:
            nn.init.zeros_(self.tail.weight)
            nn.init.zeros_(self.tail.bias)

    def _reach(self, levels: int, blocks: int) -> int:
        """How far away, in pixels, the furthest input may lie that an output depends on: `denoise` works in tiles."""
        convolutions = 2 * (1 if self.config["block"] == "double" else blocks)  # of 3x3 in a stage; each reaches 1
        reach = 2  # the first and the last convolution
        for level in range(levels):
            stages = 1 if level == levels - 1 or (level == 0 and self.config["block"] != "double") else 2
            # a pixel of a level is 2^level wide; halving and doubling see the pixels of one coarser pixel
            reach += stages * convolutions * 2**level + (2 * 2**level if level < levels - 1 else 0)
        return reach

    def forward(self, noisy: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        padded = checked_and_padded(noisy, self.config["channels"], self.stride, self.tail.weight.dtype)
        x = padded - 0.5  # weights start out for values around 0
        if self.conditioned:
            sigma = estimate_sigma(noisy) if sigma is None else _levels(sigma, len(noisy))
            gain = (REFERENCE / sigma.to(noisy).clamp(min=QUIETEST)).reshape(-1, 1, 1, 1)
            x = x * gain
        elif sigma is not None:
            raise ValueError(f"this network takes no sigma, got {sigma!r}; leave it out, or build a conditioned one")
        x = self.head(x)  # [B, widths[0], H, W]
        skips = []
        for level, encode in enumerate(self.encoder):
            x = encode(x)
            if level < len(self.down):
                skips.append(x)
                x = self.down[level](x)  # [B, ., H/2, W/2]
        for level in reversed(range(len(self.up))):
            x = self.up[level](x)  # [B, widths[level], 2H, 2W]
            if self.skip:
                x = torch.cat([x, skips.pop()], dim=1) if self.concatenate else x.add_(skips.pop())
            x = self.decoder[level](x)
        # the sum in float32 also under bfloat16 autocast: 8 bits of mantissa are too few for a picture
        x = self.tail(x).to(noisy.dtype)
        x = x / gain if self.conditioned else x
        x = padded + x if self.residual else x
        return x[..., : noisy.shape[2], : noisy.shape[3]]


def deepened(weights: dict[str, Tensor], model: UNet) -> dict[str, Tensor]:
    """The weights of a network with fewer blocks as weights of `model`, which then does just what that one did.

    The further residual blocks end in a convolution of zeros, so they add nothing until they are trained.
    """
    own, added = model.state_dict(), {}
    for name, block in model.named_modules():
        if isinstance(block, ResidualBlock) and not any(key.startswith(f"{name}.") for key in weights):
            added |= {key: value for key, value in own.items() if key.startswith(f"{name}.")}
            final = f"{name}.body.{len(block.body) - 1}"
            added |= {f"{final}.{key}": torch.zeros_like(p) for key, p in block.body[-1].named_parameters()}
    return weights | added


def _levels(sigma: float | Tensor, count: int) -> Tensor:
    """sigma as a tensor of one number or one a picture."""
    if not torch.is_tensor(sigma):
        return torch.tensor(check_sigma(sigma))
    if sigma.numel() not in (1, count):
        raise ValueError(f"sigma must be one number or one for each of {count} pictures, got {list(sigma.shape)}")
    return sigma


def checked_and_padded(noisy: Tensor, channels: int, stride: int, dtype: torch.dtype) -> Tensor:
    """The pictures with their border repeated to the next multiple of stride; ValueError where they are none.

    noisy: float [B, channels, H, W], float64 if and only if dtype, that of the network, is.
    """
    if noisy.ndim != 4 or noisy.shape[1] != channels:
        raise ValueError(
            f"the network takes [B, {channels}, H, W], got {list(noisy.shape)}; "
            "one picture needs a batch axis: image[None]"
        )
    if not noisy.is_floating_point() or (noisy.dtype == torch.float64 != dtype):
        raise ValueError(
            f"the network takes float32 in [0, 1], got {noisy.dtype}; 8 bits become it with x / 255, "
            "other floats with x.float()"
        )
    if 0 in noisy.shape[2:]:
        raise ValueError(f"the network takes pictures of 1x1 up, got {list(noisy.shape)}; drop the empty ones")
    padding = (0, -noisy.shape[3] % stride, 0, -noisy.shape[2] % stride)
    return F.pad(noisy, padding, mode="replicate") if any(padding) else noisy


def _conv(c_in: int, c_out: int, norm: str | None) -> list[nn.Module]:
    """A 3x3 convolution, and its batch normalisation where asked for."""
    if norm is None:
        return [nn.Conv2d(c_in, c_out, 3, padding=1)]
    return [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out)]
