"""Train a denoiser for photos. The shipped network took nine runs, each from the weights of the one before:

    python -m src.datasets drawn_photos                  # 2,000 drawn images, without any photo
    python -m src.photos.train_denoiser                  # blind, 264 epochs, about two hours on one core
    python -m src.photos.train_denoiser --run deeper --start denoiser --blocks 2 --noise-level-normalised \\
        --crop-size 128 --batch-size 8 --epochs 9 --cooldown 0
    python -m src.photos.train_denoiser --run vivid --start deeper --blocks 2 --noise-level-normalised --vivid \\
        --crop-size 128 --batch-size 8 --epochs 20 --cooldown 13
    python -m src.photos.train_denoiser --run sharp --start vivid --blocks 2 --noise-level-normalised --vivid \\
        --sharp --crop-size 128 --batch-size 8 --epochs 21 --cooldown 14
    python -m src.datasets reliefs                       # 2,000 further images, of another kind
    python -m src.photos.train_denoiser --run reliefs --start sharp --blocks 2 --noise-level-normalised --vivid \\
        --sharp --crop-size 128 --batch-size 8 --data data/drawn_photos data/reliefs --epochs 13 --cooldown 13 \\
        --lr 0.0008 --adam-lr 0.002
    python -m src.datasets thickets                      # 2,000 images of a third kind
    python -m src.datasets reliefs --seed 1 --to data/reliefs_1
    python -m src.photos.train_denoiser --run thickets --start reliefs --blocks 2 --noise-level-normalised --vivid \\
        --sharp --crop-size 128 --batch-size 8 --data data/drawn_photos data/reliefs data/reliefs_1 data/thickets \\
        --epochs 10 --cooldown 10 --lr 0.0008 --adam-lr 0.002
    python -m src.datasets drawn_photos --seed 2 --count 600 --to data/drawn_photos_2
    python -m src.datasets reliefs --seed 2 --count 600 --to data/reliefs_2
    python -m src.datasets thickets --seed 1 --count 600 --to data/thickets_1
    python -m src.photos.train_denoiser --run symmetric --start thickets --teacher thickets --blocks 2 \\
        --noise-level-normalised --vivid --sharp --crop-size 128 --batch-size 8 --min-scale 0.6 --grey-fraction 0.4 \\
        --data data/drawn_photos_2 data/reliefs_2 data/thickets_1 --epochs 9 --cooldown 9 --lr 0.0006 --adam-lr 0.0015
    python -m src.studies.photo_benchmarks --publish symmetric --average thickets     # the mean of the last two
    python -m src.datasets drawn_photos --seed 3 --count 600 --to data/drawn_photos_3
    python -m src.datasets reliefs --seed 3 --count 600 --to data/reliefs_3
    python -m src.datasets thickets --seed 2 --count 600 --to data/thickets_2
    python -m src.datasets fabrics --count 800           # images of a fourth kind
    python -m src.photos.train_denoiser --run fabrics --start published/denoiser --teacher published/denoiser \\
        --members 1 --clean-weight 0.5 --blocks 2 --noise-level-normalised --vivid --sharp --crop-size 128 \\
        --batch-size 8 --data data/drawn_photos_3 data/reliefs_3 data/thickets_2 data/fabrics --epochs 5 --cooldown 5 \\
        --lr 0.0006 --adam-lr 0.0015
    python -m src.studies.photo_benchmarks --publish fabrics --average published/denoiser
    python -m src.datasets textured --count 7500         # all four kinds under fine texture
    python -m src.photos.train_denoiser --run textured --start published/denoiser --blocks 2 --noise-level-normalised \\
        --vivid --sharp --min-scale 0.6 --grey-fraction 0.4 --crop-size 128 --batch-size 8 --data data/textured \\
        --held-out 0.01 --epochs 15 --cooldown 15 --lr 0.0008 --adam-lr 0.002
    python -m src.studies.photo_benchmarks --publish textured

`--teacher RUN` trains towards the mean of that run's outputs over flips and turns, which is better than each of them.
`--grey-fraction 1 --min-scale 0.5` trains a denoiser for grey photos.

`load_denoiser("checkpoints/<run>")` reads the result.

With CUDA the pairs are made on the GPU, by the same law but with other draws than on a CPU. `--device-data` makes the
GPU's draws on any machine, `--no-device-data` the CPU's.
"""

import argparse
import sys
from dataclasses import fields

import torch
from torch import Tensor, nn

from src.checkpoint import load, run_folder
from src.config import TrainConfig
from src.datasets.device_noise import DeviceNoiseDataset
from src.datasets.distillation import DistillationDataset
from src.datasets.grey_and_shrink import GreyShrinkDataset
from src.device import device
from src.files import exit_code, number, say
from src.images import ImageSet, load_images, split_images
from src.networks import NoiseLevelNormalised, deepened
from src.train import fit
from src.unet import UNet

RECIPE = dict(epochs=264, batch_size=16, loss="psnr")  # of the first run, where it differs from TrainConfig
COOLDOWN = 141 / 264  # of the epochs
LATER = "--blocks 2 --noise-level-normalised --crop-size 128 --batch-size 8"
STAGES = (  # options of the shipped network's nine runs
    "",
    f"--run deeper --start denoiser {LATER} --epochs 9 --cooldown 0",
    f"--run vivid --start deeper {LATER} --vivid --epochs 20 --cooldown 13",
    f"--run sharp --start vivid {LATER} --vivid --sharp --epochs 21 --cooldown 14",
    f"--run reliefs --start sharp {LATER} --vivid --sharp --data data/drawn_photos data/reliefs --epochs 13 "
    "--cooldown 13 --lr 0.0008 --adam-lr 0.002",
    f"--run thickets --start reliefs {LATER} --vivid --sharp --data data/drawn_photos data/reliefs data/reliefs_1 "
    "data/thickets --epochs 10 --cooldown 10 --lr 0.0008 --adam-lr 0.002",
    f"--run symmetric --start thickets --teacher thickets {LATER} --vivid --sharp --min-scale 0.6 --grey-fraction 0.4 "
    "--data data/drawn_photos_2 data/reliefs_2 data/thickets_1 --epochs 9 --cooldown 9 --lr 0.0006 --adam-lr 0.0015",
    f"--run fabrics --start published/denoiser --teacher published/denoiser --members 1 --clean-weight 0.5 {LATER} "
    "--vivid --sharp --data data/drawn_photos_3 data/reliefs_3 data/thickets_2 data/fabrics --epochs 5 --cooldown 5 "
    "--lr 0.0006 --adam-lr 0.0015",
    f"--run textured --start published/denoiser {LATER} --vivid --sharp --min-scale 0.6 --grey-fraction 0.4 "
    "--data data/textured --held-out 0.01 --epochs 15 --cooldown 15 --lr 0.0008 --adam-lr 0.002",
)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = parsed(argv)
    return exit_code(lambda: train(arguments))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.photos.train_denoiser",
        description="Train a denoiser for photos and keep it in checkpoints/<run>/.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", default=["data/drawn_photos"], metavar="DIR", help="folder of images, or several")
    add("--size", type=int, default=256, help="side of the images in pixels")
    add("--max-train", type=int, default=100_000, help="most images to train on")
    add("--max-held-out", type=int, default=24, help="most images to evaluate on")
    add("--held-out", type=number, default=0.05, help="fraction of the images held out")
    add("--sigma", type=number, nargs="+", default=[0.0, 55 / 255], help="of the noise, or lowest and highest; 25/255")
    add("--grey-fraction", type=number, default=0.25, help="fraction of the pairs that are grey")
    add("--min-scale", type=number, default=1.0, help="smallest factor by which crops are made smaller")
    add("--vivid", action="store_true", help="give drawn images the contrast and colours of photos")
    add("--sharp", action="store_true", help="give drawn images the sharpness of photos")
    add("--crop-size", type=int, default=64, help="side of the training crops in pixels")
    add("--device-data", action=argparse.BooleanOptionalAction, default=device().type == "cuda",
        help="make crops and noise on the device that trains; a run goes on with what it began with")  # fmt: skip
    add("--widths", type=int, nargs="+", default=[32, 64, 128, 192], help="channels of each level")
    add("--blocks", type=int, default=1, help="residual blocks a level")
    add("--noise-level-normalised", action="store_true", help="scale the input by 1/sigma, estimated or given")
    add("--start", metavar="RUN", help="start from the weights of this run, which may have fewer blocks")
    add("--teacher", metavar="RUN", help="train towards this run's mean output over flips and turns, not clean images")
    add("--members", type=int, default=2, help="flips and turns in that mean, 1 to 8")
    add("--clean-weight", type=number, default=0.0, help="fraction of the clean image in that target")
    add("--run", default="denoiser", help="folder below checkpoints/")
    for field in fields(TrainConfig):
        option, default = f"--{field.name.replace('_', '-')}", RECIPE.get(field.name, field.default)
        if field.name == "cooldown":
            add(option, type=int, help="last epochs, in which the learning rate falls to 0; half of them if left out")
        else:
            add(option, type=type(default), default=default, help=f"see TrainConfig.{field.name}")
    return parser.parse_args(argv)


def train(arguments: argparse.Namespace) -> int:
    """Train as the command line says; 130 if it was stopped."""
    settings = {field.name: getattr(arguments, field.name) for field in fields(TrainConfig)}
    if settings["cooldown"] is None:
        settings["cooldown"] = round(COOLDOWN * arguments.epochs)
    config = TrainConfig(**settings)
    images = load_all(arguments.data, arguments.size)
    train_images, held_out = split_images(images, arguments.held_out, arguments.seed)
    train_images = train_images.sample(arguments.max_train, arguments.seed)
    held_out = held_out.sample(arguments.max_held_out, arguments.seed)
    sigma = arguments.sigma[0] if len(arguments.sigma) == 1 else tuple(arguments.sigma)
    kind = DeviceNoiseDataset if arguments.device_data else GreyShrinkDataset
    train_set = kind(
        train_images, sigma, arguments.seed, crop_size=arguments.crop_size, augment=True,
        grey_fraction=arguments.grey_fraction, min_scale=arguments.min_scale,
        vivid=arguments.vivid, sharp=arguments.sharp,
    )  # fmt: skip
    if arguments.teacher:
        train_set = DistillationDataset(train_set, load(arguments.teacher), arguments.members, arguments.clean_weight)
    test_set = GreyShrinkDataset(held_out, sigma, arguments.seed + 1, fixed=True, grey_fraction=arguments.grey_fraction)
    model, start = network(images.shape[1], arguments)
    history = fit(model, train_set, test_set, config, run=arguments.run, start=start)
    psnrs = [record["psnr"] for record in history if "psnr" in record]
    say(f"held-out PSNR  {psnrs[-1]:.2f} dB after {len(history)} epochs" if psnrs else "no epoch was finished")
    say(f"kept in        {run_folder(arguments.run)}")
    return 0 if len(history) == config.epochs else 130


def load_all(folders: list[str], size: int) -> ImageSet:
    """The images of one folder or of several; held out are some of each."""
    sets = [load_images(folder, size=size) for folder in folders]
    if len(sets) == 1:
        return sets[0]
    labels = [str(n) for n, images in enumerate(sets) for _ in range(len(images))]
    names = [f"{n}/{name}" for n, images in enumerate(sets) for name in images.names]
    groups = [f"{n}/{group}" for n, images in enumerate(sets) for group in images.groups]
    return ImageSet.from_pixels(torch.cat([images.pixels for images in sets]), names, labels, groups)


def network(channels: int, arguments: argparse.Namespace) -> tuple[nn.Module, dict[str, Tensor] | None]:
    """The untrained network and, with --start, the weights that it starts from."""
    unet = UNet(channels, arguments.widths, arguments.blocks, arguments.seed)
    model = NoiseLevelNormalised(unet) if arguments.noise_level_normalised else unet
    if not arguments.start:
        return model, None
    before = load(arguments.start).cpu()
    if isinstance(before, NoiseLevelNormalised):
        if not arguments.noise_level_normalised:
            raise ValueError(f"--start {arguments.start} is noise-level normalised; add --noise-level-normalised")
        before = before.unet
    if not isinstance(before, UNet) or before.config["widths"] != list(arguments.widths):
        found = before.config.get("widths", type(before).__name__)
        raise ValueError(f"--start {arguments.start} has widths {found}, got {arguments.widths}; name those")
    if before.config["blocks"] > arguments.blocks:
        raise ValueError(
            f"--start {arguments.start} has {before.config['blocks']} blocks, got {arguments.blocks}; name no fewer"
        )
    unet.load_state_dict(deepened(before.state_dict(), unet))
    return model, model.state_dict()


if __name__ == "__main__":
    sys.exit(main())
