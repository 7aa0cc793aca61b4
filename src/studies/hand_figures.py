"""The pictures of 08_object_blur_out: what each way sees in a scene, what it finds and what is hidden."""

import numpy as np
import torch
from src.studies.hand_finding import Way, box_of, overlap, rebuilt, skin_coloured
from torch import Tensor, nn

from src.photos.hand_finder import BLOCKS, Found, blur_out, likeness
from src.photos.photo_files import Photo


def outlined(image: Tensor, found: list[Found], colour: tuple[float, float, float] = (1, 0, 0)) -> Tensor:
    """float [3, H, W] with the boxes drawn into it."""
    result, thick = image.clone(), max(1, image.shape[2] // 100)
    for x, y, w, h in (one.box for one in found):
        frame = torch.zeros(image.shape[1:], dtype=torch.bool)
        frame[y : y + h, x : x + w] = True
        frame[y + thick : y + h - thick, x + thick : x + w - thick] = False
        result[:, frame] = torch.tensor(colour, dtype=torch.float32)[:, None]
    return result


def enlarged(values: np.ndarray, size: tuple[int, int]) -> Tensor:
    """A map [h, w] or a picture [3, h, w] as it is looked at -> [3, H, W]."""
    image = torch.from_numpy(np.asarray(values, np.float32))
    return nn.functional.interpolate(image.expand(3, -1, -1)[None], size=size)[0]


def hidden(
    image: Tensor, found: list[Found], mask: bool = False, blocks: int = BLOCKS, smooth: float | None = None
) -> Tensor:
    """float [3, H, W] in [0, 1]: the picture as the command writes it."""
    pixels = (image.clamp(0, 1) * 255).round().byte().numpy()
    return torch.from_numpy(blur_out(Photo(pixels), found, mask, blocks, smooth).pixels / np.float32(255))


def story(image: Tensor, known: dict[str, Way], finder: nn.Module, rebuilder: nn.Module) -> dict[str, Tensor]:
    """title -> float [3, H, W]: a scene, what each way makes of it and finds, and what is published in the end."""
    size, (back, error) = image.shape[1:], rebuilt(image, rebuilder)
    found = {name: way(image) for name, way in known.items()}
    return {
        "scene": image.clamp(0, 1),
        "rebuilt": enlarged(back.numpy(), size),
        "error x 4": enlarged(4 * error, size).clamp(0, 1),
        "box by error": outlined(image, found["reconstruction"]),
        "skin colour": enlarged(skin_coloured(image), size),
        "box by colour": outlined(image, found["skin colour"]),
        "segmentation": enlarged(likeness(image, finder), size),
        "its box": outlined(image, found["segmentation"]),
        "mosaic": hidden(image, found["segmentation"]),
    }


def sheet(stories: list[dict[str, Tensor]]) -> tuple[Tensor, list[str], int]:
    """images, titles and columns for `show_images`: a row a story, the titles above the first."""
    titles = [*stories[0]] + [""] * (len(stories[0]) * (len(stories) - 1))
    return torch.stack([panel for one in stories for panel in one.values()]), titles, len(stories[0])


def failures(known: dict[str, Way], pictures: np.ndarray, count: int) -> tuple[Tensor, list[str], int]:
    """images, titles and columns for `show_images`: a row a way, those of the pictures, uint8 [N, 4, H, W], on which it
    is furthest off: the least box IoU, or the most that is hidden where there is no hand. The hand's box is green."""
    images, titles = [], []
    for name, way in known.items():
        places = []
        for index, picture in enumerate(pictures):
            image, mask = torch.from_numpy(picture[:3] / np.float32(255)), picture[3] > 127
            found, truth = way(image), [Found(box_of(mask), mask, 1.0)] if mask.any() else []
            right = overlap(found[0].box, truth[0].box) if found and truth else float(not found and not truth)
            hides = np.any([one.mask for one in found], axis=0).mean() if found else 0.0
            title = f"{name} {right:.2f}" if truth else f"{name} {hides:.0%}"
            shown = outlined(outlined(image, truth, (0, 1, 0)), found)
            places.append((right if truth else right - hides, index, shown, title))
        for *_, shown, title in sorted(places, key=lambda place: place[:2])[:count]:
            images.append(shown), titles.append(title)
    return torch.stack(images), titles, count
