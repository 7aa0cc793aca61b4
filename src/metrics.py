"""PSNR, SSIM and MS-SSIM, per image, for images in [0, 1] (data range 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11  # side in pixels of SSIM's window
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's scales, finest first (section 3.2 there)
FLOOR = 0.01


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, -10 * log10(mean((image - clean)^2)), in dB.

    image, clean: float [B, C, H, W] in [0, 1]. Returns float32 [B], one figure an image:
    average these, not the squared errors, or the worst image of a batch speaks for all.
    Infinite for equal images. `image` is not clamped: a denoiser's output should be.
    Raises ValueError if the shapes differ: [C, H, W] against [1, C, H, W] would broadcast; if they
    are not floats, or clean is outside [0, 1]: in 0..255 the figure would be 48 dB too low.
    """
    _check(image, clean)
    return -10 * (image.double() - clean.double()).square().mean(dim=(1, 2, 3)).log10().float()


def ssim(image: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004), 1 for equal images.

    Means, variances and covariance of each channel are taken under an 11x11 Gaussian
    window of deviation 1.5, and with C1 = 0.01^2, C2 = 0.03^2

        SSIM = (2 m1 m2 + C1) (2 cov + C2) / ((m1^2 + m2^2 + C1) (v1 + v2 + C2))

    is averaged over the pixels whose window lies inside the image, and over channels.
    Equal to skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1) to about 1e-6.

    image, clean: float [B, C, H, W] in [0, 1], at least 11x11. Returns float32 [B].
    """
    _check(image, clean)
    check_window(image.shape)
    luminance, contrast = similarity(image.double(), clean.double())  # differences of squares need the digits
    return (luminance * contrast).mean(dim=(1, 2, 3)).float()


def ms_ssim(image: Tensor, clean: Tensor) -> Tensor:
    """SSIM over several scales (Wang, Simoncelli, Bovik 2003), 1 for equal images.

    With s_j the mean of SSIM's contrast-and-structure factor at scale j and S the mean SSIM at the
    coarsest, MS-SSIM = prod_j s_j^w_j * S^w_M, a scale being the one before it averaged over 2x2 pixels.
    The five weights w are theirs. Pictures under 176 pixels hold SSIM's window at fewer scales: those there
    are, `scales(shape)`, are used, their weights divided by their sum. A factor below FLOOR
    (an image inverted somewhere) is bent up to stay positive, as its power would not be a number.

    image, clean: float [B, C, H, W] in [0, 1], at least 11x11. Returns float32 [B], the channels' mean.
    """
    _check(image, clean)
    check_window(image.shape)
    return multiscale(image.double(), clean.double()).float()


def scales(shape: tuple[int, ...]) -> int:
    """How many scales of MS-SSIM, five at most, still hold an 11x11 window; [..., H, W] of at least 11x11."""
    return min(len(WEIGHTS), int(min(shape[-2:]) // WINDOW).bit_length())


def multiscale(x: Tensor, y: Tensor, mirrored: bool = False) -> Tensor:
    """MS-SSIM in the precision of its float arguments [B, C, H, W], with a gradient. Returns [B]."""
    count = scales(x.shape)
    weights = [w / sum(WEIGHTS[:count]) for w in WEIGHTS[:count]]
    product = 1.0
    for scale, weight in enumerate(weights):
        luminance, contrast = similarity(x, y, mirrored)
        factor = contrast if scale + 1 < count else luminance * contrast
        product = product * _bent(factor.mean(dim=(2, 3))) ** weight  # [B, C]
        if scale + 1 < count:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)  # [B, C, H/2, W/2]
    return product.mean(dim=1)


def similarity(x: Tensor, y: Tensor, mirrored: bool = False) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM at every window: luminance, and contrast with structure.

    x, y: float [B, C, H, W] of one shape, at least 11x11. mirrored: False, the windows inside the image, as the
    published figure has it: returns two of [B, C, H - 10, W - 10]. True, a window around every pixel, the image
    mirrored at its border (scikit-image's `full` map): [B, C, H, W].
    """
    rows, columns = (_window(side, mirrored, x) for side in x.shape[2:])
    # two products with a band of weights: nine times faster than a convolution of single channels
    moments = rows @ torch.stack([x, y, x * x, y * y, x * y]) @ columns.mT
    mean_x, mean_y, xx, yy, xy = moments
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (var_x + var_y + c2)


def _window(side: int, mirrored: bool, like: Tensor) -> Tensor:
    """The weights of SSIM's window, a Gaussian of deviation 1.5, at each of its places along a side: [places, side]."""
    offset = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-offset.square() / (2 * 1.5**2))
    weights = weights / weights.sum()
    first = 0 if mirrored else WINDOW // 2
    centres = torch.arange(first, side - first)
    seen = centres[:, None] + offset.long()  # [places, 11]
    seen = torch.where(seen < 0, -1 - seen, torch.where(seen >= side, 2 * side - 1 - seen, seen))
    band = torch.zeros(len(centres), side, dtype=torch.float64)
    return band.scatter_add_(1, seen, weights.expand_as(seen)).to(like)


def check_window(shape: tuple[int, ...]) -> None:
    if min(shape[-2:]) < WINDOW:
        size = list(shape[-2:])
        raise ValueError(f"SSIM needs at least {WINDOW}x{WINDOW} pixels for its window, got {size}; crop less")


def _bent(x: Tensor) -> Tensor:
    """x where it is above FLOOR; below, FLOOR^2 / (2 FLOOR - x), which goes on smoothly and stays positive."""
    return torch.where(x > FLOOR, x, FLOOR**2 / (2 * FLOOR - x.clamp(max=FLOOR)))


def _check(image: Tensor, clean: Tensor) -> None:
    if image.shape != clean.shape or image.ndim != 4:
        raise ValueError(
            f"expected two tensors of one shape [B, C, H, W], got {list(image.shape)} and {list(clean.shape)}; "
            "one picture needs a batch axis: image[None]"
        )
    if not (image.is_floating_point() and clean.is_floating_point()):
        raise ValueError(f"expected floats in [0, 1], got {image.dtype} and {clean.dtype}; 8 bits become that by / 255")
    low, high = (float(edge) for edge in torch.aminmax(clean)) if clean.numel() else (0, 1)
    if low < 0 or high > 1:
        raise ValueError(f"clean must be in [0, 1], got {low:g} to {high:g}; did you mean image / 255 and clean / 255?")
