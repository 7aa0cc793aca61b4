"""Simulated camera noise: a clean image passes through the model of a camera and comes out as its JPEG file.

    scene -> lens -> raw values -> shot and read noise -> colour filter array -> demosaicing -> colours and tone
          -> the camera's noise reduction -> sharpening -> resizing -> JPEG

Demosaicing, noise reduction and JPEG make the noise spatially correlated, which a blind denoiser for white Gaussian
noise takes for texture. The way back to raw values and the law of the noise: Brooks and others, "Unprocessing Images
for Learned Raw Denoising", CVPR 2019. The ranges were set by the spectra of real noise.

Each step takes float32 [..., 3, H, W], either linear light or values in [0, 1] as a display takes them, and one number
for each parameter; all but JPEG run on any device. `CameraNoiseDataset` makes (noisy, clean) pairs of an ImageSet.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from src.datasets import LUMA
from src.noise import GaussianNoiseDataset

Rng = np.random.Generator

# Weights of the nearest known pixels: one in four is known of red and blue, one in two of green
BILINEAR = torch.tensor([[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], [[0, 1, 0], [1, 4, 1], [0, 1, 0]],
                         [[1, 2, 1], [2, 4, 2], [1, 2, 1]]]) / 4  # fmt: skip
# Malvar, He, Cutler, "High-quality linear interpolation for demosaicing", ICASSP 2004, figure 2. Green at red and blue;
# then red (blue) at a green pixel of its own row, of its own column, and at blue (red)
MALVAR = torch.tensor([
    [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]],
    [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]],
    [[0, 0, -1, 0, 0], [0, -1, 4, -1, 0], [0.5, 0, 5, 0, 0.5], [0, -1, 4, -1, 0], [0, 0, -1, 0, 0]],
    [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]],
]) / 8  # fmt: skip
MARGIN = 8  # pixels around a crop, so that blurs and demosaicing see what lies beyond it


@dataclass(frozen=True)
class Camera:
    """The settings of one shot.

    exposure        raw value of white; above 1 it is overexposed
    white_balance   gains of red, green and blue
    matrix          3x3, from the sensor's colours to the display's; rows sum to 1, so grey stays grey
    s_curve         whether the tone curve has the smoothstep 3x^2 - 2x^3 after its gamma
    shot, read      variance of the noise of a raw value x is shot * x + read
    malvar          demosaicing of Malvar and others; else bilinear
    corner          row and column (0 or 1) of the first red pixel
    luma_blur       standard deviation in pixels of the noise reduction's blur of luma
    luma_threshold  luma detail is shrunk by so many standard deviations of the noise
    chroma_blur     standard deviation in pixels of the blur of chroma
    chroma_kept     fraction of the chroma that is not blurred
    keeps_edges     the noise of the chroma is blurred, its edges are not (as by an edge-preserving filter)
    sharpening      factor of the unsharp mask
    """

    exposure: float
    white_balance: tuple[float, float, float]
    matrix: np.ndarray
    s_curve: bool
    shot: float
    read: float
    malvar: bool
    corner: tuple[int, int]
    luma_blur: float
    luma_threshold: float
    chroma_blur: float
    chroma_kept: float
    keeps_edges: bool
    sharpening: float

    @classmethod
    def drawn(cls, rng: Rng) -> "Camera":
        """One of the cameras that the training set has; shot and read noise as Brooks and others 2019 fit them."""
        log_shot = rng.uniform(math.log(1e-4), math.log(5e-3))
        mixed = rng.uniform(0.05, 0.45, (3, 3)) * (1 - np.eye(3))  # how much of one colour is taken off another
        return cls(
            exposure=2 ** rng.uniform(-1.5, 0.2),
            white_balance=(rng.uniform(1.4, 2.4), 1.0, rng.uniform(1.3, 2.0)),
            matrix=np.eye(3) + np.diag(mixed.sum(axis=1)) - mixed,
            s_curve=bool(rng.random() < 0.75),
            shot=math.exp(log_shot),
            read=math.exp(2.18 * log_shot + 1.2 + 0.26 * rng.standard_normal()),
            malvar=bool(rng.random() < 0.5),
            corner=(int(rng.integers(2)), int(rng.integers(2))),
            luma_blur=rng.uniform(0, 0.75),
            luma_threshold=rng.uniform(0, 1.5) if rng.random() < 0.5 else 0.0,
            chroma_blur=rng.uniform(0.6, 3.2),
            chroma_kept=rng.uniform(0, 0.25) if rng.random() < 0.5 else 0.0,
            keeps_edges=bool(rng.random() < 0.6),
            sharpening=rng.uniform(0, 0.8) if rng.random() < 0.6 else 0.0,
        )


def expose(image: Tensor, camera: Camera) -> Tensor:
    """Raw values of a sensor that sees an image, [..., 3, H, W] in [0, 1]: `develop` undone, without noise."""
    x = image.clamp(0, 1)
    if camera.s_curve:  # the inverse of 3x^2 - 2x^3 (Brooks and others 2019, section 3.1)
        x = 0.5 - torch.sin(torch.asin(1 - 2 * x) / 3)
    x = times_matrix(x.pow(2.2) * camera.exposure, np.linalg.inv(camera.matrix))
    return (x / per_colour(camera.white_balance, x)).clamp(0, 1)


def develop(raw: Tensor, camera: Camera) -> Tensor:
    """Raw values, all three colours at each pixel -> an image in [0, 1]; the colour filter array is applied here."""
    filters = bayer_filters(*raw.shape[-2:], camera.corner).to(raw)
    return rendered((demosaic_malvar if camera.malvar else demosaic_bilinear)(raw * filters, filters), camera)


def rendered(x: Tensor, camera: Camera) -> Tensor:
    """Linear light of the sensor's colours -> an image in [0, 1]: white balance, colours and tone."""
    x = times_matrix(x * per_colour(camera.white_balance, x), camera.matrix) / camera.exposure
    x = x.clamp(1e-8, 1).pow(1 / 2.2)
    return x * x * (3 - 2 * x) if camera.s_curve else x


def per_colour(gains: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(gains, dtype=like.dtype, device=like.device).reshape(3, 1, 1)


def times_matrix(x: Tensor, matrix: np.ndarray) -> Tensor:
    """The three values of each pixel times a 3x3 matrix."""
    return torch.einsum("ij,...jhw->...ihw", torch.from_numpy(matrix).to(x), x)


def add_shot_and_read_noise(raw: Tensor, shot: float, read: float, rng: Rng) -> Tensor:
    """raw + n, n normal with variance shot * raw + read: counted light, and the electronics that read the count."""
    normal = torch.from_numpy(rng.standard_normal(raw.shape, np.float32)).to(raw)
    return raw + normal * (shot * raw.clamp(min=0) + read).sqrt()


def bayer_filters(height: int, width: int, corner: tuple[int, int]) -> Tensor:
    """[3, H, W], 1 where the colour filter array passes a colour: a quarter red, half green, a quarter blue."""
    filters = torch.zeros(3, height, width)
    filters[0, corner[0] :: 2, corner[1] :: 2] = 1
    filters[2, 1 - corner[0] :: 2, 1 - corner[1] :: 2] = 1
    filters[1] = 1 - filters[0] - filters[2]
    return filters


def demosaic_bilinear(raw: Tensor, filters: Tensor) -> Tensor:
    """Missing colours as means of their neighbours; raw [..., 3, H, W] is zero where filters are."""
    padded = F.pad(raw.flatten(0, -4), (1, 1, 1, 1), mode="reflect")  # mirrored about a pixel, colours stay in place
    return F.conv2d(padded, BILINEAR.to(raw)[:, None], groups=3).reshape(raw.shape)


def demosaic_malvar(raw: Tensor, filters: Tensor) -> Tensor:
    """Bilinear, corrected by the gradient of the measured colour (Malvar and others 2004); raw as above."""
    single = raw.sum(dim=-3, keepdim=True).flatten(0, -4)  # [B, 1, H, W], what the sensor measured
    padded = F.pad(single, (2, 2, 2, 2), mode="reflect")
    green_at_other, in_row, in_column, at_opposite = F.conv2d(padded, MALVAR.to(raw)[:, None]).unbind(1)
    (red, green, blue), single = filters, single[:, 0]
    red_rows, blue_rows = red.amax(dim=1, keepdim=True), blue.amax(dim=1, keepdim=True)
    colours = [
        red * single + green * (red_rows * in_row + blue_rows * in_column) + blue * at_opposite,
        green * single + (red + blue) * green_at_other,
        blue * single + green * (blue_rows * in_row + red_rows * in_column) + red * at_opposite,
    ]
    return torch.stack(colours, dim=1).reshape(raw.shape)


def reduce_noise(noisy: Tensor, clean: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """The camera's own noise reduction of a shot, and what it makes of the same shot without noise."""
    both = torch.stack([noisy, clean])
    luma = luma_of(both)
    chroma = both - luma
    sigma = float((luma[0] - luma[1]).std())
    luma = blurred(luma, camera.luma_blur)
    if camera.luma_threshold:
        smooth = blurred(luma, 1.2)
        luma = smooth + F.softshrink(luma - smooth, camera.luma_threshold * sigma)
    smooth = blurred(chroma, camera.chroma_blur)
    reduced = smooth + camera.chroma_kept * (chroma - smooth)
    if camera.keeps_edges:
        reduced = chroma[1] + reduced - reduced[1]
    noisy, clean = luma + reduced
    return noisy, clean


def sharpened(image: Tensor, amount: float) -> Tensor:
    """Unsharp mask of the luma."""
    luma = luma_of(image)
    return image + amount * (luma - blurred(luma, 1.0)) if amount else image


def luma_of(image: Tensor) -> Tensor:
    """[..., 1, H, W] of [..., 3, H, W] (ITU-R 601)."""
    return torch.einsum("c,...chw->...hw", torch.from_numpy(LUMA).to(image), image).unsqueeze(-3)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [..., C, H, W], standard deviation in pixels; below 0.2 there is nothing to blur."""
    if sigma < 0.2:
        return x
    radius = math.ceil(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(x.dtype)
    planes = F.pad(x.reshape(-1, 1, *x.shape[-2:]), (radius, radius, radius, radius), mode="reflect")
    planes = F.conv2d(F.conv2d(planes, kernel.reshape(1, 1, 1, -1)), kernel.reshape(1, 1, -1, 1))
    return planes.reshape(x.shape)


def resized(image: Tensor, side: int) -> Tensor:
    """A square [..., 3, H, H] at another side, bicubic with antialiasing."""
    if image.shape[-1] == side:
        return image
    planes = image.reshape(-1, *image.shape[-3:])
    planes = F.interpolate(planes, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return planes.reshape(*image.shape[:-2], side, side)


def jpeg(image: Tensor, quality: int, subsampling: int = 2) -> Tensor:
    """[3, H, W] in [0, 1] as a JPEG file holds it; subsampling of the chroma: 0 is 4:4:4, 2 is 4:2:0."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality), subsampling=subsampling)
    with Image.open(file) as saved:
        return torch.from_numpy(np.array(saved).transpose(2, 0, 1)).to(image) / 255


def photograph(scene: Tensor, camera: Camera, rng: Rng) -> tuple[Tensor, Tensor]:
    """(noisy, clean), each [3, H, W] in [0, 1], before resizing and JPEG, of a scene [3, H, W] in [0, 1].

    clean is what the camera shows of the scene without shot and read noise.
    """
    raw = expose(scene, camera)
    shots = torch.stack([add_shot_and_read_noise(raw, camera.shot, camera.read, rng), raw])
    noisy, clean = reduce_noise(*develop(shots, camera), camera)
    noisy, clean = sharpened(torch.stack([noisy, clean]), camera.sharpening).clamp(0, 1)
    return noisy, clean


def stages(scene: Tensor, camera: Camera, rng: Rng) -> dict[str, tuple[Tensor, Tensor]]:
    """(noisy, clean) [3, H, W] after each step that changes the noise of a shot of `scene`, to look at them."""
    raw = expose(scene, camera)
    shots = torch.stack([add_shot_and_read_noise(raw, camera.shot, camera.read, rng), raw])
    found = {"shot and read noise": rendered(shots, camera), "demosaicing": develop(shots, camera)}
    found["noise reduction"] = torch.stack(reduce_noise(*found["demosaicing"], camera))
    noisy, clean = sharpened(found["noise reduction"], camera.sharpening).clamp(0, 1)
    found["JPEG"] = torch.stack([jpeg(noisy, 90), clean])
    return {name: tuple(pair) for name, pair in found.items()}


def camera_pair(rng: Rng, pixels: np.ndarray, crop_size: int) -> tuple[Tensor, Tensor]:
    """(noisy, clean) [3, crop_size, crop_size] of an image, uint8 [3, H, W], taken by a random camera."""
    shrink = rng.uniform(0.55, 1) if rng.random() < 0.25 else 1.0  # the file is smaller than the sensor
    side = math.ceil(crop_size / shrink) + 2 * MARGIN
    scene = square_of(rng, pixels, side, math.exp(rng.uniform(math.log(0.8), math.log(3.2))))
    mean, contrast = scene.mean(), rng.uniform(0.35, 1)
    scene = blurred(mean + contrast * (scene - mean), rng.uniform(0.4, 1.5))  # by the lens
    shots = torch.stack(photograph(scene, Camera.drawn(rng), rng))
    noisy, clean = resized(shots, math.ceil(side * shrink))
    subsampling = 2 if rng.random() < 0.75 else 0
    noisy = jpeg(noisy, rng.integers(85, 100), subsampling)
    first = (noisy.shape[-1] - crop_size) // 2
    window = (..., slice(first, first + crop_size), slice(first, first + crop_size))
    noisy, clean = noisy[window], clean[window]
    if rng.random() < 0.6:  # edited and saved once more
        noisy = jpeg(noisy, rng.integers(60, 98), subsampling)
    return noisy, clean


def gaussian_pair(rng: Rng, pixels: np.ndarray, crop_size: int) -> tuple[Tensor, Tensor]:
    """The same with white Gaussian noise of 1 to 25 8-bit levels, not clipped, on a sharp or a soft image."""
    clean, _ = clean_pair(rng, pixels, crop_size)
    sigma = rng.uniform(1, 25) / 255
    return clean + sigma * torch.from_numpy(rng.standard_normal(clean.shape, np.float32)), clean


def clean_pair(rng: Rng, pixels: np.ndarray, crop_size: int) -> tuple[Tensor, Tensor]:
    """The same without noise, so that a network learns to leave a clean image alone."""
    image = square_of(rng, pixels, crop_size, rng.uniform(0.6, 2) if rng.random() < 0.5 else 1.0)
    image = blurred(image, rng.uniform(0.4, 1.5)) if rng.random() < 0.3 else image
    return image, image


def square_of(rng: Rng, pixels: np.ndarray, side: int, zoom: float) -> Tensor:
    """A random square of uint8 [3, H, W], flipped and turned, enlarged by zoom to [3, side, side] in [0, 1]."""
    part = min(math.ceil(side / zoom), *pixels.shape[1:])
    top, left = (int(rng.integers(0, whole - part + 1)) for whole in pixels.shape[1:])
    square = np.rot90(pixels[:, top : top + part, left : left + part], rng.integers(4), (1, 2))
    square = square[..., ::-1] if rng.random() < 0.5 else square
    return resized(torch.from_numpy(np.ascontiguousarray(square)).float() / 255, side)


class CameraNoiseDataset(GaussianNoiseDataset):
    """Pairs (noisy, clean), float32 [3, crop_size, crop_size]: camera noise, some Gaussian noise, some none.

    Both are in [0, 1], but for Gaussian noise, which is not clipped.

    images     an ImageSet of colour images; sharp ones, as the lens is part of the model
    fractions  of camera noise, Gaussian noise and no noise; they sum to 1
    seed, fixed, crop_size, set_epoch, batch: as for `GaussianNoiseDataset`; the pair depends on (seed, epoch, index)

    Raises ValueError for wrong arguments.
    """

    def __init__(self, images, seed: int = 0, fixed: bool = False, crop_size: int = 96, fractions=(0.74, 0.11, 0.15)):
        super().__init__(images, (1 / 255, 25 / 255), seed, fixed, crop_size=crop_size, augment=True)
        if self.images.shape[1] != 3:
            raise ValueError(f"a camera needs colour images, got {self.images.shape[1]} channel; load with channels=3")
        if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
            raise ValueError(f"fractions must be three numbers that sum to 1, got {fractions!r}; try (1, 0, 0)")
        self.fractions = tuple(fractions)

    @property
    def config(self) -> dict:
        return super().config | dict(noise="camera", fractions=list(self.fractions))

    def fill(self, index: int, noisy: np.ndarray, clean: np.ndarray) -> None:
        rng = self.rng(index)
        make_pair = (camera_pair, gaussian_pair, clean_pair)[rng.choice(3, p=self.fractions)]
        pair = make_pair(rng, self.images.array(index), self.crop_size)
        noisy[:], clean[:] = pair[0].numpy(), pair[1].numpy()
