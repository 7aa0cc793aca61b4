"""The UNet's forerunner of 2021: the image squeezed through a small grid of features, without skip connections."""

from itertools import pairwise

from torch import Tensor, nn

from src.files import whole_number
from src.unet import check_input, pad_to_multiple, seeded

WIDTHS = (16, 32, 64, 128, 256)  # channels after each halving
HALVINGS = {28: 3, 14: 4, 7: 5}  # latent -> halvings of 224


class Autoencoder(nn.Module):
    """float [B, channels, H, W] of any size from 1x1 -> the same, not clamped.

    A convolution, ReLU and max pooling a level down, a transposed convolution and ReLU a level up. latent: side of the
    latent grid of a 224x224 image: 7 (of 256 channels), 14 (of 128) or 28 (of 64). That is 5, 4 or 3 halvings, whatever
    the size of the image, so a cell stands for 32x32, 16x16 or 8x8 pixels. seed: of the initial weights.
    """

    def __init__(self, channels: int = 3, latent: int = 14, seed: int = 0):
        super().__init__()
        channels, seed = whole_number("channels", channels, 1), whole_number("seed", seed)
        if latent not in HALVINGS:
            raise ValueError(f"latent must be 7, 14 or 28, got {latent!r}; try Autoencoder(latent=14)")
        self.config = dict(channels=channels, latent=latent, seed=seed)
        self.stride = 2 ** HALVINGS[latent]
        down = [channels, *WIDTHS[: HALVINGS[latent]]]
        up = down[:0:-1] + [WIDTHS[0]]
        with seeded(seed):
            encoder, decoder = [], []
            for a, b in pairwise(down):
                encoder += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            for a, b in pairwise(up):
                decoder += [nn.ConvTranspose2d(a, b, 2, stride=2), nn.ReLU(inplace=True)]
            self.encoder = nn.Sequential(*encoder)  # [B, C, H, W] -> [B, WIDTHS[.], H/stride, W/stride]
            self.decoder = nn.Sequential(*decoder)  # -> [B, 16, H, W]
            self.tail = nn.Conv2d(WIDTHS[0], channels, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        padded = pad_to_multiple(check_input(noisy, self.encoder[0]), self.stride)
        x = self.tail(self.decoder(self.encoder(padded - 0.5))).to(noisy.dtype) + 0.5
        return x[..., : noisy.shape[2], : noisy.shape[3]]
