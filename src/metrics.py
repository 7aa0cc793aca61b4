"""PSNR, SSIM and MS-SSIM, one value an image, for images in [0, 1] (data range 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from src.files import described

MAX_PSNR = 100.0  # dB, of equal images too: a mean or a record cannot hold infinity
WINDOW = 11  # side in pixels of SSIM's window
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, finest scale first
FLOOR = 0.01  # a factor of MS-SSIM below it is replaced, see _positive


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, -10 * log10(mean((image - clean)^2)), at most MAX_PSNR.

    image, clean: float [B, C, H, W], clean in [0, 1]; image is not clamped. Returns float32 [B]: average these, not the
    squared errors. ValueError for shapes that differ, integers, or a range of 0 to 255.
    """
    _check(image, clean)
    error = (image.double() - clean.double()).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp(min=10 ** (-MAX_PSNR / 10)).log10().float()


def ssim(image: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004), 1 for equal images.

    Means m, variances v and covariance of each channel under an 11x11 Gaussian window of standard deviation 1.5 give

        SSIM = (2 m1 m2 + C1) (2 cov + C2) / ((m1^2 + m2^2 + C1) (v1 + v2 + C2)),  C1 = 0.01^2, C2 = 0.03^2,

    averaged over channels and the pixels whose window lies inside the image. Equal to scikit-image's with
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False to about 1e-6. image, clean: float [B, C, H, W] in
    [0, 1], at least 11x11. Returns float32 [B].
    """
    _check(image, clean)
    check_window(image.shape)
    luminance, contrast = ssim_factors(image.double(), clean.double())  # differences of squares need the digits
    return (luminance * contrast).mean(dim=(1, 2, 3)).float()


def ms_ssim(image: Tensor, clean: Tensor) -> Tensor:
    """SSIM over several scales (Wang, Simoncelli, Bovik 2003), 1 for equal images.

    prod_j s_j^w_j * S^w_M, with s_j the mean contrast-and-structure factor at scale j (each averaged over 2x2 pixels of
    the one before) and S the mean SSIM at the coarsest. Images under 176 pixels have fewer than five scales; the
    weights are divided by their sum. image, clean: float [B, C, H, W] in [0, 1], at least 11x11. Returns float32 [B].
    """
    _check(image, clean)
    check_window(image.shape)
    return ms_ssim_of(image.double(), clean.double()).float()


def ms_ssim_of(x: Tensor, y: Tensor, mirrored: bool = False) -> Tensor:
    """MS-SSIM [B] in the precision of its float arguments [B, C, H, W], with a gradient."""
    weights = SCALE_WEIGHTS[: int(min(x.shape[2:]) // WINDOW).bit_length()]  # scales that hold an 11x11 window
    product = 1.0
    for scale, weight in enumerate(weights, start=1):
        luminance, contrast = ssim_factors(x, y, mirrored)
        factor = contrast if scale < len(weights) else luminance * contrast
        product = product * _positive(factor.mean(dim=(2, 3))) ** (weight / sum(weights))  # [B, C]
        if scale < len(weights):
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)  # [B, C, H/2, W/2]
    return product.mean(dim=1)


def ssim_factors(x: Tensor, y: Tensor, mirrored: bool = False) -> tuple[Tensor, Tensor]:
    """SSIM's two factors at every window: luminance, and contrast with structure.

    x, y: float [B, C, H, W]. mirrored False: windows inside the image, two of [B, C, H - 10, W - 10]. True: a window
    around every pixel, the image mirrored at its border (scikit-image's `full` map), two of [B, C, H, W].
    """
    rows, columns = (_window(side, mirrored, x) for side in x.shape[2:])
    # two products with a band of weights: nine times faster than a convolution of single channels
    mean_x, mean_y, xx, yy, xy = rows @ torch.stack([x, y, x * x, y * y, x * y]) @ columns.mT
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (var_x + var_y + c2)


def _window(side: int, mirrored: bool, like: Tensor) -> Tensor:
    """SSIM's Gaussian window at each of its places along a side: [places, side]."""
    offset = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-offset.square() / (2 * 1.5**2))
    weights /= weights.sum()
    margin = 0 if mirrored else WINDOW // 2
    pixels = torch.arange(margin, side - margin)[:, None] + offset.long()  # [places, 11]
    pixels = torch.where(pixels < 0, -1 - pixels, torch.where(pixels >= side, 2 * side - 1 - pixels, pixels))
    band = torch.zeros(len(pixels), side, dtype=torch.float64)
    return band.scatter_add_(1, pixels, weights.expand_as(pixels)).to(like)


def check_window(shape: tuple[int, ...]) -> None:
    if min(shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW}x{WINDOW} pixels, got {list(shape[-2:])}; crop less")


def _positive(x: Tensor) -> Tensor:
    """x above FLOOR; below, FLOOR^2 / (2 FLOOR - x), which goes on smoothly: the power of a negative is no number."""
    return torch.where(x > FLOOR, x, FLOOR**2 / (2 * FLOOR - x.clamp(max=FLOOR)))


def _check(image: Tensor, clean: Tensor) -> None:
    floats = image.is_floating_point() and clean.is_floating_point()
    if image.shape != clean.shape or image.ndim != 4 or not floats or not ((clean >= 0) & (clean <= 1)).all():
        expected = "expected two float [B, C, H, W] of one shape, the second in [0, 1]"
        raise ValueError(f"{expected}, got {described(image)} and {described(clean)}; try image[None], or x / 255")
