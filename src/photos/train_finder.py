"""Train the finder of hands, without any photo; or one of other objects, from images with masks of the same names.

    python -m src.datasets drawn_photos                   # 2,000 images, to stand behind the hands
    python -m src.studies.hand_finding --train --seeds 0  # the finder that the shipped one started from
    python -m src.photos.train_finder --start 08_object_blur_out/finder-0 --size 96 --epochs 40 --empty 0.5
    python -m src.photos.train_finder --start finder --run finder-hard --hard 600 --epochs 8 --cooldown 8
    python -m src.photos.train_finder --start finder-hard --run finder-3 --empty 0.25 --epochs 12 --cooldown 12
    python -m src.photos.train_finder --start finder-3 --run finder-4 --empty 0.25 --hard 2000 --epochs 29 --cooldown 29
    MORE="--poses 3000 --as-photos --sides 48 64 64 96 128 128"
    python -m src.photos.train_finder --start finder-4 --run finder-5 --hard 600 --epochs 30 --empty 0.25 $MORE 128
    python -m src.photos.train_finder --start finder-5 --run finder-6 --hard 3000 --epochs 90 --cooldown 90 \\
        --empty 0.35 $MORE 128                                            # stopped after 33 epochs
    python -m src.photos.train_finder --start finder-5 --run finder-7 --epochs 34 --cooldown 34 --empty 0.3 $MORE \\
        --average finder-5 finder-6 --publish checkpoints/published/finder
    python -m src.datasets drawn_photos --seed 1 --count 4000 --to data/drawn_photos_1
    CROWDED="--seed 1 --count 3000 --poses 4000 --empty 0.2 --as-photos --clutter --behind data/drawn_photos_1 \\
        --sides 48 64 96 96 128 128"
    python -m src.photos.train_finder --start published/finder --run finder-8 --hard 1500 --epochs 30 --cooldown 30 \\
        $CROWDED --empty 0.3                                              # before there were stripes and textures
    python -m src.photos.train_finder --start finder-8 --run finder-9 --hard 1000 --epochs 80 --cooldown 80 $CROWDED
    python -m src.photos.train_finder --start finder-9 --run finder-10 --hard 2000 --grips 900 \\
        --epochs 50 --cooldown 50 $CROWDED
    python -m src.photos.train_finder --start finder-10 --run finder-11 --hard 500 --grips 400 --epochs 18 \\
        --cooldown 18 $CROWDED --seed 2 --count 1000 --poses 1500 --empty 0.15 \\
        --average finder-9 finder-10 --publish checkpoints/published/finder

The mean of the weights of finder-9, -10 and -11 is shipped.

Your own objects, in front of the images of `python -m src.datasets drawn_photos`:
`python -m src.photos.train_finder --images mine/images --masks mine/masks --run mine`, and then
`python -m src.photos blur-out IN OUT --weights mine`.
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.checkpoint import load
from src.config import TrainConfig
from src.datasets.hand_mix import SIDE, HandMix
from src.datasets.hand_parts import load_parts
from src.device import autocast, to_device
from src.files import exit_code, say
from src.images import load_images
from src.networks import FinderUNet
from src.networks.mask_unet import finder_weights
from src.photos.hand_finder import shrink
from src.photos.publishing import publish
from src.train import fit

PAIRS = 1000  # images an epoch
KEPT = 0.1  # fraction of the images without an object that become hard negatives: the worst


def finder_loss(found: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of mask and presence, and a Dice loss of each mask; float [B, 2, H, W] each, see FinderUNet."""
    found = found.clamp(1e-6, 1 - 1e-6)
    mask, true = found[:, 0], target[:, 0]
    total = mask.sum(dim=(1, 2)) + true.sum(dim=(1, 2)) + 20.0  # 20 pixels: where there is none, a few cost little
    dice = 1 - (2 * (mask * true).sum(dim=(1, 2)) + 20.0) / total
    entropy = F.binary_cross_entropy(mask, true) + 0.1 * F.binary_cross_entropy(found[:, 1], target[:, 1])
    return entropy + 0.5 * dice.mean()


@torch.no_grad()
def hard_negatives(model: nn.Module, pairs: HandMix, count: int) -> list[int]:
    """Keys of `HandMix.without`: of `count` images without an object the tenth with the highest scores.

    The finder is run at each of the sides of `pairs`, and the highest score counts.
    """
    where, found = next(model.parameters()).device, []
    for key in range(count):
        image = torch.from_numpy(pairs.without(key)[0] / np.float32(255)).permute(2, 0, 1)
        with autocast(where):
            seen = [shrink(image, side)[None] for side in sorted({*pairs.sides})] or [image[None]]
            found.append(max(float(model(to_device(x, where))[:, 0].float().mean()) for x in seen))
    return sorted(np.argsort(found)[::-1][: max(1, int(count * KEPT))].tolist())


def own_parts(parts: dict[str, np.ndarray], images: str, masks: str) -> dict[str, np.ndarray]:
    """The parts with objects cut out of one's own images in place of hands, and these images whole as "scenes".

    masks: a folder of images with the names of those in `images` (the endings may differ), white where the object is.
    """
    photos, outlines = load_images(images, size=SIDE), load_images(masks, size=SIDE, channels=1)
    stems = [{Path(name).with_suffix("").as_posix(): i for i, name in enumerate(x.names)} for x in (photos, outlines)]
    missing = sorted(stems[0].keys() ^ stems[1].keys())
    if missing:
        raise ValueError(f"each image needs a mask of its name, expected both of {missing[0]!r}; add or remove it")
    pixels = photos.pixels.permute(0, 2, 3, 1).numpy()
    rows = np.array([stems[1][stem] for stem in stems[0]])
    mask = (outlines.pixels.permute(0, 2, 3, 1).numpy()[rows] > 127) * np.uint8(255)
    shown = mask.any(axis=(1, 2, 3))
    if not shown.any():
        raise ValueError(f"no mask in {masks} has a white pixel, expected white where the object is; invert them")
    scenes = np.concatenate([pixels, mask], axis=3)
    return parts | dict(hands=np.concatenate([scenes, mask], axis=3)[shown], scenes=scenes)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.photos.train_finder", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Train a finder of hands, or of the objects in your own images.",
    )  # fmt: skip
    add = parser.add_argument
    add("--images", metavar="DIR", help="your images; without them hands are drawn")
    add("--masks", metavar="DIR", help="their masks, images of the same names, white where the object is")
    add("--behind", default="data/drawn_photos", metavar="DIR", help="images to stand behind cut-out objects")
    add("--parts", default="data/hand_parts", metavar="DIR", help="drawn hands and other things, made at first")
    add("--count", type=int, default=2000, help="drawn hands; other things in proportion")
    add("--poses", type=int, default=0, metavar="N", help="further drawn hands, in any pose from any side")
    add("--grips", type=int, default=0, metavar="N", help="further drawn hands, thumb and fingers in a ring")
    add("--as-photos", action="store_true", help="hands of more shapes; images through JPEG, with less noise")
    add("--clutter", action="store_true", help="crowded backgrounds, with the sharpness and colours of photos")
    add("--sides", type=int, nargs="+", default=[], help="shrink each batch to one of these sides, in pixels")
    add("--epochs", type=int, default=20, help=f"each has {PAIRS} new images")
    add("--size", type=int, default=SIDE, help="side of the images in pixels; 96 trains faster")
    add("--empty", type=float, default=0.4, help="fraction of the images without an object: more of them, fewer alarms")
    add("--cooldown", type=int, default=0, metavar="N", help="last epochs, in which the learning rates fall to 0")
    add("--start", metavar="RUN", help="start from the weights of this run")
    add("--hard", type=int, default=0, metavar="N", help="look for hard negatives in N images with the start's weights")
    add("--seed", type=int, default=0)
    add("--run", default="finder", help="folder below checkpoints/")
    add(
        "--average", nargs="+", default=[], metavar="RUN", help="publish the mean of the weights of these runs and this"
    )
    add("--publish", type=Path, metavar="DIR", help="afterwards write float16 weights and record here")
    arguments = parser.parse_args(argv)
    command = shlex.join(["python", "-m", "src.photos.train_finder", *(sys.argv[1:] if argv is None else argv)])
    return exit_code(lambda: train_finder(arguments, command))


def train_finder(arguments: argparse.Namespace, command: str) -> int:
    needs = (arguments.images is None) != (arguments.masks is None) or (arguments.hard and not arguments.start)
    if needs or (arguments.average and not arguments.publish):
        raise ValueError(
            "--images needs --masks, --hard needs --start, --average needs --publish, expected both; add the other"
        )
    behind = load_images(arguments.behind, size=2 * SIDE).pixels.permute(0, 2, 3, 1).numpy()
    parts = load_parts(arguments.parts, arguments.seed, arguments.count, arguments.poses, arguments.grips)
    if arguments.images:
        parts = own_parts(parts, arguments.images, arguments.masks)
    model, start, hard = FinderUNet(seed=arguments.seed), None, []
    if arguments.start:
        before = load(arguments.start)
        start = finder_weights(model, before.cpu().state_dict())
        pairs = HandMix(behind, parts, arguments.seed, sides=arguments.sides, clutter=arguments.clutter)
        hard = hard_negatives(before, pairs, arguments.hard) if arguments.hard else []
    train_set = HandMix(
        behind, parts, arguments.seed, min(PAIRS, arguments.count), False, arguments.empty, hard, arguments.size,
        arguments.sides, arguments.as_photos, arguments.clutter,
    )  # fmt: skip
    test_set = HandMix(behind, parts, arguments.seed + 1, min(100, arguments.count), fixed=True)
    config = TrainConfig(
        epochs=arguments.epochs, batch_size=min(8, arguments.count), lr=1e-3, adam_lr=2.5e-3, warmup=100,
        loss=finder_loss, seed=arguments.seed, evaluate_every=5, cooldown=arguments.cooldown,
    )  # fmt: skip
    history = fit(model, train_set, test_set, config, arguments.run, start=start)
    if len(history) < config.epochs:
        return 130  # stopped
    say(f"{config.epochs} epochs of {len(train_set)} images, loss {history[-1]['train_loss']:.3f}: {arguments.run}")
    if arguments.publish:
        publish(arguments.run, arguments.publish, command, average=arguments.average)
        say(f"published in {arguments.publish}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
