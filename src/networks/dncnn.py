"""DnCNN, the convolutional denoiser that the field compares with (Zhang, Zuo, Chen, Meng, Zhang, TIP 26(7), 2017)."""

from torch import Tensor, nn

from src.files import whole_number
from src.unet import check_input, seeded


class DnCNN(nn.Module):
    """float [B, channels, H, W] of any size -> the same, not clamped: a stack of 3x3 convolutions predicts the noise.

    conv and ReLU, then depth - 2 times conv, BatchNorm and ReLU, then conv; He-normal weights (figure 2 and section III
    of the paper). Unlike there the last convolution starts at zero, so that an untrained network returns its input.
    depth: convolutions, at least 2; the paper has 17 for one sigma, 20 for a range. width: channels between them.
    """

    def __init__(self, channels: int = 3, depth: int = 17, width: int = 64, seed: int = 0):
        super().__init__()
        channels, depth = whole_number("channels", channels, 1), whole_number("depth", depth, 2)
        width, seed = whole_number("width", width, 1), whole_number("seed", seed)
        self.config = dict(channels=channels, depth=depth, width=width, seed=seed)
        self.stride, self.receptive_radius = 1, depth  # a pixel a convolution
        with seeded(seed):
            layers = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            for _ in range(depth - 2):
                layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
            self.body = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1, bias=False))
            for layer in self.body:
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(self.body[0].bias)
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy - self.body(check_input(noisy, self.body[0])).to(noisy.dtype)
