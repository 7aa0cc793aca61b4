"""Train and evaluate what finds a hand, for 08_object_blur_out.

    python -m src.studies.hand_finding --train --publish                     # three seeds; publishes an autoencoder
    python -m src.studies.hand_finding --evaluate --photos data/sign_digits  # on held-out scenes and photos

The three methods are in hand_methods.py. Segmentation is a UNet with one output channel, trained on drawn hands and
their masks; reconstruction an autoencoder, trained on scenes without a hand. The shipped finder starts from this one:
src/photos/train_finder.py.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from src.checkpoint import load
from src.config import TrainConfig
from src.datasets.hand_scenes import draw_scenes, test_scene, training_scene
from src.device import environment
from src.files import exit_code, say, write_json
from src.images import ImageSet, load_images
from src.networks import Autoencoder, MaskUNet
from src.noise import GaussianNoiseDataset
from src.photos.denoiser import load_denoiser
from src.photos.hand_finder import FINDER, blur_out, find_objects, objects_in
from src.photos.photo_files import Photo
from src.photos.publishing import publish
from src.studies.hand_methods import (
    Method,
    as_float,
    box_iou,
    box_of,
    evaluate_method,
    find_denoised,
    find_methods,
    hand_before_wall,
    reconstruct,
)
from src.train import fit

RUNS = "08_object_blur_out"
REBUILDER = FINDER.parent / "08_object_blur_out"
TRAINING_SIGMAS = {"finder": (0.0, 55 / 255), "noiseless": 0.0, "rebuilder": 0.0}
EPOCHS, LATENT = 18, 14
NOISE = 0.2  # sigma of the noise in the evaluation, in [0, 1]


class MaskDataset(GaussianNoiseDataset):
    """Pairs (noisy [3, H, W], mask [1, H, W]) of images whose fourth channel is the mask."""

    @property
    def config(self) -> dict:
        return super().config | dict(target="mask")

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        noisy, clean = super().batch(indices)
        return noisy[:, :3].contiguous(), clean[:, 3:].contiguous()


def network(name: str, seed: int) -> nn.Module:
    """An untrained "finder", "noiseless" or "rebuilder"."""
    if name == "rebuilder":
        return Autoencoder(latent=LATENT, seed=seed)
    return MaskUNet(out_channels=1, widths=(16, 32, 64, 96), seed=seed)


def train(seed: int, runs: str, epochs: int = EPOCHS, count: int = 1600) -> None:
    """Train the three networks of a seed into checkpoints/<runs>/; finished ones are not trained again.

    count: training scenes of the finders; the autoencoder has half as many, all without a hand.
    """
    for name, sigma in TRAINING_SIGMAS.items():
        hand, n = (False, count // 2) if name == "rebuilder" else (None, count)
        channels, dataset = (3, GaussianNoiseDataset) if name == "rebuilder" else (4, MaskDataset)
        train_scenes = draw_scenes(partial(training_scene, seed=seed, hand=hand), n)[:, :channels]
        held_out = draw_scenes(partial(training_scene, seed=seed + 500, hand=hand), min(60, count))[:, :channels]
        train_set = dataset(image_set(train_scenes), sigma, seed, crop_size=96, augment=True)
        test_set = dataset(image_set(held_out), sigma, seed + 1, fixed=True)
        config = TrainConfig(epochs=epochs, batch_size=min(8, n), schedule="cosine", seed=seed)
        say(f"{name}-{seed}")
        fit(network(name, seed), train_set, test_set, config, run=f"{runs}/{name}-{seed}")


def image_set(pixels: np.ndarray) -> ImageSet:
    return ImageSet.from_pixels(torch.from_numpy(np.ascontiguousarray(pixels)))


def calibrate(rebuilder: nn.Module, seed: int, count: int = 60) -> float:
    """The threshold of the autoencoder's error with the best mean box IoU on drawn scenes with a hand.

    The scenes are of another seed than those of the evaluation. The autoencoder alone could not know this.
    """
    scenes = [scene for scene in draw_scenes(partial(test_scene, seed=seed + 700), count) if scene[3].any()]
    errors = [reconstruct(as_float(scene), rebuilder)[1] for scene in scenes]

    def mean_iou(threshold: float) -> float:
        found = [objects_in(error, scene.shape[1:], threshold, threshold) for error, scene in zip(errors, scenes)]
        return np.mean([box_iou(f[0].box, box_of(s[3] > 127)) if f else 0.0 for f, s in zip(found, scenes)])

    return max(np.quantile(np.stack(errors), np.linspace(0.5, 0.99, 25)).round(4).tolist(), key=mean_iou)


def hand_photos(folder: str | Path, count: int) -> np.ndarray:
    """uint8 [N, 4, 100, 100] of sign_digits: the photo, and the mask that `hand_before_wall` finds."""
    pixels = load_images(folder, size=100).sample(count).pixels.numpy()
    return np.stack([np.concatenate([photo, hand_before_wall(photo)[None] * np.uint8(255)]) for photo in pixels])


def compare(methods: dict[str, Method], scenes: np.ndarray, seed: int, denoiser: nn.Module) -> dict:
    """method -> condition -> [result of `evaluate_method`]: clean, noisy (NOISE), and noisy but denoised first."""
    result = {}
    for name, method in methods.items():
        first = partial(find_denoised, method=method, denoiser=denoiser)
        for condition, tool, sigma in (("clean", method, 0.0), ("noisy", method, NOISE), ("denoised", first, NOISE)):
            result.setdefault(name, {})[condition] = [evaluate_method(tool, scenes, sigma, seed)]
    return result


def recall_by_size(finder: nn.Module, count: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Number of scales -> (relative size, recall): drawn hands of a relative size, with a room around them.

    The relative size is the side of the hand's own image over that of the whole image.
    """
    points = {"1": [], "2": []}
    for size in (1.0, 0.7, 0.5, 0.35, 0.25, 0.18):
        hits = {scales: [] for scales in points}
        for index in range(count):
            hand, room = test_scene(3 * index, seed, 112), test_scene(3 * index + 2, seed, round(112 / size))
            left = (index * 37) % (room.shape[2] - 112 + 1)
            room[:, -112:, left : left + 112] = np.where(hand[3] > 127, hand, room[:, -112:, left : left + 112])
            box = box_of(room[3] > 127)
            for scales, hit in hits.items():
                found = find_objects(as_float(room), finder, scales=int(scales))
                hit.append(any(box_iou(one.box, box) >= 0.5 for one in found))
        for scales, hit in hits.items():
            points[scales].append((size, round(float(np.mean(hit)), 3)))
    return points


def images_per_second(pixels: np.ndarray, finder: nn.Module) -> float:
    """Hands found and hidden in uint8 [N, 3, H, W], one image at a time."""
    start = time.perf_counter()
    for image in pixels:
        blur_out(Photo(image), find_objects(as_float(image), finder))
    return len(pixels) / (time.perf_counter() - start)


def evaluate(seeds: list[int], runs: str, photos: str | None, count: int = 300) -> dict:
    """What is published: "scenes" and "photos" as `compare` gives them with an entry a seed, "speed", "by_size"."""
    kinds = {"scenes": draw_scenes(partial(test_scene, seed=1000), count)}
    if photos is not None:
        kinds["photos"] = hand_photos(photos, count * 5 // 3)
    denoiser, result = load_denoiser(), {}
    for seed in seeds:
        finder, noiseless, rebuilder = (load(f"{runs}/{name}-{seed}") for name in TRAINING_SIGMAS)
        methods = find_methods(finder, rebuilder, calibrate(rebuilder, seed, min(60, count)))
        methods["segmentation, never saw noise"] = partial(find_objects, model=noiseless)
        for kind, scenes in kinds.items():
            for name, conditions in compare(methods, scenes, 1000 + seed, denoiser).items():
                for condition, found in conditions.items():
                    say(f"{seed} {kind} {name} {condition} {found}")
                    result.setdefault(kind, {}).setdefault(name, {}).setdefault(condition, []).extend(found)
    scenes, first = kinds["scenes"], load(f"{runs}/finder-{seeds[0]}")
    speeds = sorted(images_per_second(scenes[:, :3], first) for _ in range(3))
    speed = dict(images_a_second=round(speeds[1], 1), side=scenes.shape[-1], **environment())
    return result | {"speed": speed, "by_size": recall_by_size(first, max(1, count * 24 // 300), 3000)}


def publish_first(seed: int, runs: str, folder: Path, count: int) -> None:
    """Copy the autoencoder of a seed to folder/08_object_blur_out."""
    command = f"python -m src.studies.hand_finding --train --publish --seeds {seed}"
    threshold = calibrate(load(f"{runs}/rebuilder-{seed}"), seed, min(60, count))
    publish(f"{runs}/rebuilder-{seed}", folder / REBUILDER.name, command, {"threshold": threshold})


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.studies.hand_finding", description="Train and evaluate what finds the hands.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--train", action="store_true", help="train the three networks of each seed")
    parser.add_argument("--publish", action="store_true", help="copy the first seed's autoencoder to --to")
    parser.add_argument("--evaluate", action="store_true", help="write scores.json beside the finder of --to")
    parser.add_argument("--photos", help="folder of sign_digits, to evaluate on photos too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--train-scenes", type=int, default=1600)
    parser.add_argument("--test-scenes", type=int, default=300)
    parser.add_argument("--runs", default=RUNS, help="folder of the runs below checkpoints/, or an absolute one")
    parser.add_argument("--to", type=Path, default=FINDER.parent, help="folder of the published networks")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: work(arguments))


def work(arguments: argparse.Namespace) -> None:
    for seed in arguments.seeds if arguments.train else ():
        train(seed, arguments.runs, arguments.epochs, arguments.train_scenes)
    if arguments.publish:
        publish_first(arguments.seeds[0], arguments.runs, arguments.to, arguments.test_scenes)
    if arguments.evaluate:
        scores = evaluate(arguments.seeds, arguments.runs, arguments.photos, arguments.test_scenes)
        write_json(arguments.to / "finder" / "scores.json", scores)


if __name__ == "__main__":
    sys.exit(main())
