"""What many tests share: small drawn images and one tiny finished run, made once a process."""

import os

# Before torch is imported: several test processes share the cores, and figures need no window
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

from src.images import ImageSet, load_images, split_images


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
def image_sets(drawn) -> tuple[ImageSet, ImageSet]:
    """The same as ImageSets of 32x32, to train on and held out."""
    return split_images(load_images(drawn, size=32), held_out=0.2, seed=0)


@pytest.fixture(scope="session")
def trained(image_sets, tmp_path_factory):
    """The folder of a finished run: a tiny UNet, two epochs."""
    from src.loop import TrainConfig
    from src.noise import GaussianNoiseDataset
    from src.train import fit
    from src.unet import UNet

    train_images, held_out = image_sets
    train_set = GaussianNoiseDataset(train_images, sigma=0.2, seed=0, crop_size=16, augment=True)
    test_set = GaussianNoiseDataset(held_out, sigma=0.2, seed=1, fixed=True)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    fit(UNet(widths=(4, 8)), train_set, test_set, TrainConfig(epochs=2), run=folder)
    return folder
