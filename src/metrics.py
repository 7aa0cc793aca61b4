"""PSNR and SSIM, per image, for images in [0, 1] (data range 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
    if min(image.shape[2:]) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels for its window, got {list(image.shape[2:])}; crop less")
    offset = torch.arange(-5, 6, device=image.device, dtype=torch.float64)
    window = torch.exp(-offset.square() / (2 * 1.5**2))
    window = window / window.sum()
    x, y = image.double(), clean.double()  # variances as differences of squares need the digits
    moments = torch.stack([x, y, x * x, y * y, x * y])  # [5, B, C, H, W]
    moments = moments.flatten(0, 2)[:, None]  # [5 * B * C, 1, H, W]
    moments = F.conv2d(F.conv2d(moments, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    mean_x, mean_y, xx, yy, xy = moments.view(5, *x.shape[:2], *moments.shape[2:])
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean(dim=(1, 2, 3)).float()


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
