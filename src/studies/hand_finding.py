"""Three ways to find a hand, for 08_object_blur_out: what they are trained on and how they are judged.

python notebooks/objects.py --train --ship                       all networks, three seeds; the first is shipped
python notebooks/objects.py --judge --photos data/sign_digits    on held-out scenes and on photos, into scores.json
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from src.studies.photo_benchmarks import ship
from src.studies.corruptions import Pairs
from src.datasets.hand_scenes import drawn, lesson, scene
from scipy import ndimage
from skimage.color import rgb2lab, rgb2ycbcr
from skimage.filters import threshold_otsu
from skimage.measure import label
from src.studies.study import stated
from torch import Tensor, nn

from src import Autoencoder, GaussianNoiseDataset, ImageSet, TrainConfig, UNet, denoise, fit, load_denoiser, load_images
from src.photos.hand_finder import FINDER, Found, blur_out, boxed_in, find, looked_at, objects
from src.checkpoint import folder, load_last, write_json
from src.photos.denoiser import LOUDEST
from src.device import environment
from src.photos.photo_files import Photo

STUDY = "08_object_blur_out"
REBUILDER = folder("published/rebuilder")
SIGMAS = {"finder": (0.0, LOUDEST), "noiseless": 0.0, "rebuilder": 0.0}  # of the noise that a network learns with
LESSONS = {None: 1600, False: 800}  # with hands and without, and without alone
EPOCHS, LATENT = 18, 14
NOISE = 0.2  # sigma of the noise that the ways are judged in, in [0, 1] units

Way = Callable[[Tensor], list[Found]]


class ToMask(Pairs):
    """Pairs (noisy scene, mask) of pictures whose fourth channel is the mask."""

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        noisy, clean = self.inner.batch(indices)
        return noisy[:, :3].contiguous(), clean[:, 3:].contiguous()


def rebuilt(image: Tensor, model: nn.Module) -> tuple[Tensor, np.ndarray]:
    """An autoencoder's try at the picture as it is looked at, float [3, h, w], and how wrong it is, float32 [h, w]: the
    mean over the channels of the absolute error, smoothed over about five pixels."""
    given = looked_at(image)
    with torch.no_grad():
        back = model(given[None])[0].clamp(0, 1)
    return back, ndimage.gaussian_filter((back - given).abs().mean(dim=0).numpy(), 2)


def skin_coloured(image: Tensor) -> np.ndarray:
    """float32 [h, w], 1 where the colour is that of skin: Cb in 77..127 and Cr in 133..173 (Chai and Ngan 1999)."""
    blue, red = rgb2ycbcr(looked_at(image).clamp(0, 1).permute(1, 2, 0).numpy()).transpose(2, 0, 1)[1:]
    skin = (blue >= 77) & (blue <= 127) & (red >= 133) & (red <= 173)
    return ndimage.median_filter(skin.astype(np.float32), 5)


def by_reconstruction(image: Tensor, model: nn.Module, threshold: float) -> list[Found]:
    """Where an autoencoder that knows no hands is wrong by more than the threshold."""
    return objects(rebuilt(image, model)[1], tuple(image.shape[1:]), threshold, threshold)


def by_colour(image: Tensor) -> list[Found]:
    """Where the colour is that of skin."""
    return objects(skin_coloured(image), tuple(image.shape[1:]))


def denoised_first(image: Tensor, way: Way, model: nn.Module) -> list[Found]:
    """What a way finds in the denoised picture."""
    return way(denoise(image, model))


def plain_truth(photo: np.ndarray) -> np.ndarray:
    """bool [H, W]: the hand in a photo, uint8 [3, H, W], before a plain background, by its distance from that in colour.

    The background is the median colour (a, b of CIELAB) along the upper edge and the upper parts of both sides; Otsu's
    threshold of the distance from it divides the picture, and the largest piece is the hand.
    """
    lab = rgb2lab(photo.transpose(1, 2, 0))[..., 1:]
    high, wide = lab.shape[0] // 8, lab.shape[1] // 16
    upper = lab[: lab.shape[0] * 2 // 5]
    edge = np.concatenate([part.reshape(-1, 2) for part in (lab[:high], upper[:, :wide], upper[:, -wide:])])
    distance = np.linalg.norm(lab - np.median(edge, axis=0), axis=2)
    pieces = label(ndimage.binary_opening(distance > threshold_otsu(distance)))
    return pieces == np.bincount(pieces.ravel())[1:].argmax() + 1


def photos(place: str, count: int) -> np.ndarray:
    """uint8 [N, 4, 100, 100] of sign_digits: the photo and the hand's mask as `plain_truth` sees it."""
    pixels = load_images(place, size=100).sample(count).pixels.numpy()
    return np.stack([np.concatenate([photo, plain_truth(photo)[None] * np.uint8(255)]) for photo in pixels])


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, w, h) of the True ones in a bool [H, W]."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (x, y, w, h)."""
    shared = [max(0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    both = shared[0] * shared[1]
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def judged(way: Way, pictures: np.ndarray, sigma: float, seed: int) -> dict[str, float | None]:
    """Means over pictures, uint8 [N, 4, H, W], with noise of sigma (in [0, 1] units) from a seed.

    iou     of the largest object's box with the hand's, 0 where nothing was found
    recall  share of the hands with an iou of 0.5 at least
    pixels  share of a hand's pixels that lies in what would be hidden: what was found and a margin; boxed: or its box
    alarms  share of the pictures without a hand in which something was found; None where there are none
    seconds a picture, on this machine
    """
    noisy = GaussianNoiseDataset(ImageSet.from_pixels(torch.from_numpy(pictures[:, :3])), sigma, seed, fixed=True)
    ious, pixels, boxed, alarms, spent = [], [], [], [], 0.0
    for index, mask in enumerate(pictures[:, 3] > 127):
        image, _ = noisy[index]
        start = time.perf_counter()
        found = way(image)
        spent += time.perf_counter() - start
        if mask.any():
            ious.append(overlap(found[0].box, box_of(mask)) if found else 0.0)
            for shares, covers in (
                (pixels, [one.mask for one in found]),
                (boxed, [boxed_in(one.mask) for one in found]),
            ):
                shares.append(np.any([mask & cover for cover in covers], axis=0).sum() / mask.sum() if found else 0.0)
        else:
            alarms.append(bool(found))
    result = dict(iou=np.mean(ious), recall=np.mean(np.array(ious) >= 0.5), pixels=np.mean(pixels))
    result["boxed"] = np.mean(boxed)
    result |= dict(alarms=np.mean(alarms) if alarms else None, seconds=spent / len(pictures))
    return {name: None if value is None else round(float(value), 5) for name, value in result.items()}


COLUMNS = {"iou": "box IoU", "recall": "recall", "pixels": "pixels", "boxed": "in boxes", "alarms": "false alarms"}


def table(result: dict[str, dict[str, list[dict]]], title: str, seconds: bool = False) -> str:
    """way -> condition -> one entry a seed, as text: mean ± standard deviation over the seeds; seconds: ms too."""
    columns = COLUMNS | ({"seconds": "ms a picture"} if seconds else {})
    lines = [f"{title:42s}" + "".join(f"{name:>15s}" for name in columns.values())]
    for way, conditions in result.items():
        for condition, runs in conditions.items():
            cells = []
            for column in columns:
                values = [run[column] * (1000 if column == "seconds" else 1) for run in runs if run[column] is not None]
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                cells.append(stated(np.mean(values), spread, 1 if column == "seconds" else 3) if values else "-")
            lines.append(f"{f'{way}, {condition}':42s}" + "".join(f"{cell:>15s}" for cell in cells))
    return "\n".join(lines)


def spreads(measured: dict, column: str) -> dict[str, dict[str, tuple[float, float]]]:
    """way -> kind of pictures -> (mean, standard deviation) over the seeds of a figure without noise, for `plot_dots`."""
    rows = {}
    for kind in ("scenes", "photos"):
        for way, conditions in measured[kind].items():
            values = [run[column] for run in conditions["clean"]]
            rows.setdefault(way, {})[kind] = (float(np.mean(values)), float(np.std(values, ddof=1)))
    return rows


def train(seed: int) -> None:
    """The three networks of a seed, kept in checkpoints/08_object_blur_out/; one that is there is not trained again."""
    taught = {hand: drawn(partial(lesson, seed=seed, hand=hand), LESSONS[hand]) for hand in (None, False)}
    others = {hand: drawn(partial(lesson, seed=seed + 500, hand=hand), 60) for hand in (None, False)}
    for name, sigma in SIGMAS.items():
        hand = False if name == "rebuilder" else None
        wrap = (lambda pairs: pairs) if name == "rebuilder" else ToMask
        pairs = []
        for pictures, fixed in ((taught[hand], False), (others[hand], True)):
            pixels = torch.from_numpy(pictures if hand is None else np.ascontiguousarray(pictures[:, :3]))
            crop = dict() if fixed else dict(crop=96, flip=True)
            images = ImageSet.from_pixels(pixels)
            pairs.append(wrap(GaussianNoiseDataset(images, sigma, seed + fixed, fixed=fixed, **crop)))
        config = TrainConfig(epochs=EPOCHS, batch=8, schedule="cosine", seed=seed)
        print(f"{name}-{seed}: ", end="")
        fit(network(name, seed), *pairs, config, run=f"{STUDY}/{name}-{seed}")


def network(name: str, seed: int) -> nn.Module:
    """An untrained one: "finder", "noiseless" or "rebuilder"."""
    if name == "rebuilder":
        return Autoencoder(latent=LATENT, seed=seed)
    return UNet(widths=(16, 32, 64, 96), residual=False, outputs=1, seed=seed)


def trained(name: str, seed: int) -> nn.Module:
    """The same as `train` has left it."""
    model = network(name, seed)
    model.load_state_dict(load_last(f"{STUDY}/{name}-{seed}"))
    return model.eval()


def calibrated(model: nn.Module, seed: int, count: int = 60) -> float:
    """The error from which on an autoencoder's picture is taken for an object: that of the best mean box IoU over drawn
    scenes with a hand, of another seed than those it is judged on. More than it could know by itself."""
    pictures = [picture for picture in drawn(partial(scene, seed=seed + 700), count) if picture[3].any()]
    maps = [rebuilt(torch.from_numpy(picture[:3] / np.float32(255)), model)[1] for picture in pictures]

    def mean_overlap(threshold: float) -> float:
        found = [objects(error, picture.shape[1:], threshold, threshold) for error, picture in zip(maps, pictures)]
        return np.mean([overlap(f[0].box, box_of(p[3] > 127)) if f else 0.0 for f, p in zip(found, pictures)])

    return max(np.quantile(np.stack(maps), np.linspace(0.5, 0.99, 25)).round(4).tolist(), key=mean_overlap)


def ways(finder: nn.Module, rebuilder: nn.Module, threshold: float) -> dict[str, Way]:
    """The three, by their names in the tables."""
    return {
        "segmentation": partial(find, model=finder),
        "reconstruction": partial(by_reconstruction, model=rebuilder, threshold=threshold),
        "skin colour": by_colour,
    }


def compared(known: dict[str, Way], pictures: np.ndarray, seed: int, denoiser: nn.Module) -> dict:
    """way -> condition -> what `judged` found, a list of one: clean, with noise of NOISE, and with that denoised first."""
    result = {}
    for name, way in known.items():
        first = partial(denoised_first, way=way, model=denoiser)
        for condition, tool, sigma in (("clean", way, 0.0), ("noisy", way, NOISE), ("denoised", first, NOISE)):
            result.setdefault(name, {})[condition] = [judged(tool, pictures, sigma, seed)]
    return result


def by_size(finder: nn.Module, count: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Looks -> (share, recall at an IoU of 0.5): drawn hands whose own picture has this share of the whole one's side,
    with a room around it."""
    points = {"1": [], "2": []}
    for share in (1.0, 0.7, 0.5, 0.35, 0.25, 0.18):
        hits = {looks: [] for looks in points}
        for index in range(count):
            hand, room = scene(3 * index, seed, 112), scene(3 * index + 2, seed, round(112 / share))
            left = (index * 37) % (room.shape[2] - 112 + 1)
            room[:, -112:, left : left + 112] = np.where(hand[3] > 127, hand, room[:, -112:, left : left + 112])
            image, box = torch.from_numpy(room[:3] / np.float32(255)), box_of(room[3] > 127)
            for looks, hit in hits.items():
                hit.append(any(overlap(one.box, box) >= 0.5 for one in find(image, finder, looks=int(looks))))
        for looks, hit in hits.items():
            points[looks].append((share, round(float(np.mean(hit)), 3)))
    return points


def images_a_second(pictures: np.ndarray, finder: nn.Module) -> float:
    """Found and hidden, of uint8 [N, 3, H, W] in memory, one by one."""
    start = time.perf_counter()
    for pixels in pictures:
        blur_out(Photo(pixels), find(torch.from_numpy(pixels / np.float32(255)), finder))
    return len(pictures) / (time.perf_counter() - start)


def judge(seeds: list[int], place: str | None) -> dict:
    """What is published: "scenes" and "photos" as `compared` has them, one entry a seed, and "speed"."""
    kinds = {"scenes": drawn(partial(scene, seed=1000), 300)}
    if place is not None:
        kinds["photos"] = photos(place, 500)
    denoiser, result = load_denoiser(), {}
    for seed in seeds:
        finder, rebuilder = trained("finder", seed), trained("rebuilder", seed)
        known = ways(finder, rebuilder, calibrated(rebuilder, seed))
        known["segmentation, never saw noise"] = partial(find, model=trained("noiseless", seed))
        for kind, pictures in kinds.items():
            for name, conditions in compared(known, pictures, 1000 + seed, denoiser).items():
                for condition, found in conditions.items():
                    print(seed, kind, name, condition, *found, flush=True)
                    result.setdefault(kind, {}).setdefault(name, {}).setdefault(condition, []).extend(found)
    speeds = [images_a_second(kinds["scenes"][:, :3], finder) for _ in range(3)]
    where = environment()
    speed = dict(images_a_second=round(sorted(speeds)[1], 1), side=kinds["scenes"].shape[-1], **where)
    return result | {"speed": speed, "by_size": by_size(trained("finder", seeds[0]), 24, 3000)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="objects.py", description="Train and judge what finds the hands.")
    parser.add_argument("--train", action="store_true", help="the three networks of each seed")
    parser.add_argument("--ship", action="store_true", help="copy the first seed's to where the notebook looks")
    parser.add_argument("--judge", action="store_true", help="write scores.json beside the shipped finder")
    parser.add_argument("--photos", help="folder of sign_digits, to judge on it too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args(argv)
    for seed in arguments.seeds if arguments.train else ():
        train(seed)
    if arguments.ship:
        seed = arguments.seeds[0]
        command = f"python notebooks/objects.py --train --ship --seeds {seed}"
        ship(f"{STUDY}/finder-{seed}", FINDER, command)
        rebuilder = trained("rebuilder", seed)
        ship(f"{STUDY}/rebuilder-{seed}", REBUILDER, command, {"threshold": calibrated(rebuilder, seed)})
    if arguments.judge:
        write_json(FINDER / "scores.json", judge(arguments.seeds, arguments.photos))
    return 0


if __name__ == "__main__":
    sys.exit(main())
