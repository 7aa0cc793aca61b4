"""The UNet's forerunner: a picture squeezed through a small grid of features, without skip connections.

    Autoencoder(latent=7)      7x7 cells of 256 channels for a picture of 224x224
    Autoencoder(latent=14)     14x14 of 128
    Autoencoder(latent=28)     28x28 of 64

As the student project of December 2021 had it before it went over to the UNet: a convolution, ReLU and
max pooling a level on the way down, a transposed convolution a level on the way up.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from src.unet import checked_and_padded

WIDTHS = (16, 32, 64, 128, 256)  # channels after each halving
HALVINGS = {28: 3, 14: 4, 7: 5}  # latent -> halvings of 224


class Autoencoder(nn.Module):
    """Estimate the clean picture from what of the noisy one passes through the latent grid.

    channels  of the input and of the output: 3 for RGB, 1 for grey
    latent    7, 14 or 28: side of the latent grid of a picture of 224x224. The network halves the picture 5, 4 or 3
              times, whatever its size, so a cell always stands for 32x32, 16x16 or 8x8 pixels
    seed      of the initial weights; the global generator is neither read nor moved

    Takes and returns float [B, C, H, W] of any size from 1x1 up, padded and cropped back as in the UNet; the
    output is not clamped. Raises ValueError for a wrong argument or an input of another channel count.
    """

    def __init__(self, channels: int = 3, latent: int = 14, seed: int = 0):
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels must be a whole number >= 1, got {channels!r}; try Autoencoder(channels=3)")
        if latent not in HALVINGS:
            raise ValueError(f"latent must be 7, 14 or 28, got {latent!r}; try Autoencoder(latent=14)")
        if not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number, got {seed!r}; try seed=0")
        self.config = dict(channels=channels, latent=latent, seed=seed)
        self.stride = 2 ** HALVINGS[latent]
        down = [channels, *WIDTHS[: HALVINGS[latent]]]
        up = down[:0:-1] + [WIDTHS[0]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder, decoder = [], []
            for a, b in pairwise(down):
                encoder += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            for a, b in pairwise(up):
                decoder += [nn.ConvTranspose2d(a, b, 2, stride=2), nn.ReLU(inplace=True)]
            self.encoder = nn.Sequential(*encoder)  # [B, C, H, W] -> [B, widths[-1], H/stride, W/stride]
            self.decoder = nn.Sequential(*decoder)  # -> [B, 16, H, W]
            self.tail = nn.Conv2d(WIDTHS[0], channels, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        padded = checked_and_padded(noisy, self.config["channels"], self.stride, self.tail.weight.dtype)
        # around 0, as the UNet sees it; what comes out is a picture around 0 too
        x = self.tail(self.decoder(self.encoder(padded - 0.5))).to(noisy.dtype) + 0.5
        return x[..., : noisy.shape[2], : noisy.shape[3]]
