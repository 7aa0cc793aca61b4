"""What many tests share: small drawn images and one tiny finished run, made once a process."""

import os
from pathlib import Path

# Before torch is imported: several test processes share the cores, and figures need no window
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch
from PIL import Image

from src.checkpoint import run_folder
from src.config import TrainConfig
from src.images import ImageSet
from src.noise import GaussianNoiseDataset
from src.train import fit
from src.unet import UNet


def pytest_collection_modifyitems(items):
    """Tests marked gpu run where there is one."""
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A folder of 20 drawn images of hands, 64x64: two scenes a class, one shot each."""
    from src.datasets.finger_numbers import make

    return make(tmp_path_factory.mktemp("data") / "finger_numbers", scenes=2, shots=1, size=64)


@pytest.fixture(scope="session")
def image_sets() -> tuple[ImageSet, ImageSet]:
    """12 images to train on and 4 held out, 32x32: smooth colours with an edge each."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(16, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic", align_corners=False).clamp(0, 1)
    for index, image in enumerate(images):
        image[:, 2 * index :, index:] *= 0.5
    return ImageSet.from_floats(images[:12]), ImageSet.from_floats(images[12:])


@pytest.fixture(scope="session")
def trained(image_sets, tmp_path_factory):
    """The folder of a finished run: a tiny UNet, two epochs."""
    train_images, held_out = image_sets
    train_set = GaussianNoiseDataset(train_images, sigma=0.2, seed=0, crop_size=16, augment=True)
    test_set = GaussianNoiseDataset(held_out, sigma=0.2, seed=1, fixed=True)
    folder = run_folder(tmp_path_factory.mktemp("checkpoints") / "tiny")
    fit(UNet(widths=(4, 8)), train_set, test_set, TrainConfig(epochs=2), run=folder)
    return folder


@pytest.fixture(scope="session")
def image_folder(image_sets, tmp_path_factory) -> Path:
    """A folder of 12 PNGs, 32x32, in two classes: the training images of `image_sets`."""
    folder = tmp_path_factory.mktemp("images")
    for index, image in enumerate(image_sets[0].pixels):
        path = folder / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return folder
