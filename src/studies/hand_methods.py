"""Three ways to find a hand, and how well one of them does: for 08_object_blur_out.

Segmentation is `src.photos.hand_finder.find_objects`. Here are reconstruction (an autoencoder that has seen no hand is
wrong where a hand is) and skin colour (a threshold).
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from skimage.color import rgb2lab, rgb2ycbcr
from skimage.filters import threshold_otsu
from skimage.measure import label
from torch import Tensor, nn

from src.images import ImageSet
from src.noise import GaussianNoiseDataset
from src.photos.denoiser import denoise
from src.photos.hand_finder import Found, box_mask, find_objects, objects_in, shrink

SEGMENTATION, RECONSTRUCTION, COLOUR = "segmentation", "reconstruction", "skin colour"

Method = Callable[[Tensor], list[Found]]  # float32 [3, H, W] in [0, 1] -> the hands, the best guess first


def reconstruct(image: Tensor, model: nn.Module) -> tuple[Tensor, np.ndarray]:
    """The autoencoder's output at the finder's resolution, float [3, h, w], and its error, float32 [h, w].

    The error is the mean over the channels of the absolute difference, smoothed over about five pixels.
    """
    small = shrink(image)
    with torch.no_grad():
        output = model(small[None])[0].clamp(0, 1)
    return output, ndimage.gaussian_filter((output - small).abs().mean(dim=0).numpy(), 2)


def skin_colour_map(image: Tensor) -> np.ndarray:
    """float32 [h, w], 1 where the colour is that of skin: Cb in 77..127 and Cr in 133..173 (Chai and Ngan 1999)."""
    blue, red = rgb2ycbcr(shrink(image).clamp(0, 1).permute(1, 2, 0).numpy()).transpose(2, 0, 1)[1:]
    skin = (blue >= 77) & (blue <= 127) & (red >= 133) & (red <= 173)
    return ndimage.median_filter(skin.astype(np.float32), 5)


def find_by_reconstruction(image: Tensor, model: nn.Module, threshold: float) -> list[Found]:
    """Where an autoencoder that knows no hands is wrong by more than the threshold."""
    return objects_in(reconstruct(image, model)[1], tuple(image.shape[1:]), threshold, threshold)


def find_by_colour(image: Tensor) -> list[Found]:
    """Where the colour is that of skin."""
    return objects_in(skin_colour_map(image), tuple(image.shape[1:]))


def find_denoised(image: Tensor, method: Method, denoiser: nn.Module) -> list[Found]:
    """What a method finds in the denoised image."""
    return method(denoise(image, denoiser))


def find_methods(finder: nn.Module, rebuilder: nn.Module, threshold: float) -> dict[str, Method]:
    """The three methods by their names in the tables."""
    return {
        SEGMENTATION: partial(find_objects, model=finder),
        RECONSTRUCTION: partial(find_by_reconstruction, model=rebuilder, threshold=threshold),
        COLOUR: find_by_colour,
    }


def hand_before_wall(photo: np.ndarray) -> np.ndarray:
    """bool [H, W]: the hand in a photo, uint8 [3, H, W], before a plain background.

    The background is the median colour (a, b of CIELAB) along the upper edge and the upper parts of both sides. Otsu's
    threshold of the distance from it divides the image, and the largest piece is the hand.
    """
    lab = rgb2lab(photo.transpose(1, 2, 0))[..., 1:]
    high, wide = lab.shape[0] // 8, lab.shape[1] // 16
    upper = lab[: lab.shape[0] * 2 // 5]
    edge = np.concatenate([part.reshape(-1, 2) for part in (lab[:high], upper[:, :wide], upper[:, -wide:])])
    distance = np.linalg.norm(lab - np.median(edge, axis=0), axis=2)
    pieces = label(ndimage.binary_opening(distance > threshold_otsu(distance)))
    return pieces == np.bincount(pieces.ravel())[1:].argmax() + 1


def as_float(pixels: np.ndarray) -> Tensor:
    """float32 [3, H, W] in [0, 1] of uint8 [3 or 4, H, W]."""
    return torch.from_numpy(pixels[:3] / np.float32(255))


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, w, h) of the True pixels of a bool [H, W]."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]


def box_iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (x, y, w, h)."""
    width, height = (max(0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def covered(found: list[Found], mask: np.ndarray, box: bool = False) -> float:
    """Fraction of a hand's pixels that would be hidden along its outline, or with `box` under its box."""
    hidden = [box_mask(one.mask) if box else one.mask for one in found]
    return float(np.any([mask & area for area in hidden], axis=0).sum() / mask.sum()) if found else 0.0


def evaluate_method(method: Method, scenes: np.ndarray, sigma: float, seed: int) -> dict[str, float | None]:
    """Means over uint8 [N, 4, H, W] with noise of sigma from a seed.

    iou     box IoU of the first object found and the hand; 0 where nothing was found
    recall  fraction of the hands with an IoU of at least 0.5
    pixels  fraction of a hand's pixels that is hidden along its outline; boxed: under its box
    alarms  fraction of the images without a hand in which something was found; None where there are none
    seconds an image, on this machine
    """
    noisy = GaussianNoiseDataset(ImageSet.from_pixels(torch.from_numpy(scenes[:, :3])), sigma, seed, fixed=True)
    ious, pixels, boxed, alarms, seconds = [], [], [], [], 0.0
    for index, mask in enumerate(scenes[:, 3] > 127):
        image, _ = noisy[index]
        start = time.perf_counter()
        found = method(image)
        seconds += time.perf_counter() - start
        if mask.any():
            ious.append(box_iou(found[0].box, box_of(mask)) if found else 0.0)
            pixels.append(covered(found, mask))
            boxed.append(covered(found, mask, box=True))
        else:
            alarms.append(bool(found))
    recall = np.array(ious) >= 0.5
    result = {name: np.mean(x) for name, x in dict(iou=ious, recall=recall, pixels=pixels, boxed=boxed).items()}
    result |= dict(alarms=np.mean(alarms) if alarms else None, seconds=seconds / len(scenes))
    return {name: None if value is None else round(float(value), 5) for name, value in result.items()}
