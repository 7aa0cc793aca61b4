"""Remove Gaussian noise from photos with a UNet; the notebooks import from here.

from src import *

images = load_images("data/finger_numbers", size=128)
train_images, held_out = split_images(images, held_out=0.2, seed=0)
train_set = GaussianNoiseDataset(train_images, sigma=0.2, seed=0, crop_size=64, augment=True)
test_set = GaussianNoiseDataset(held_out, sigma=0.2, seed=1, fixed=True)
model = UNet(channels=3)
history = fit(model, train_set, test_set, TrainConfig(epochs=100), run="denoise")
scores = evaluate(model, test_set)
show_grid({"clean": scores.clean, "noisy": scores.noisy, "denoised": scores.denoised["unet"]})
"""

from importlib import import_module

PUBLIC = {
    "images": ("ImageSet", "load_images", "split_images"), "noise": ("GaussianNoiseDataset",), "unet": ("UNet",),
    "metrics": ("psnr", "ssim", "ms_ssim"), "config": ("TrainConfig",), "loop": ("training_loop",), "train": ("fit",),
    "checkpoint": ("load", "load_snapshot"), "evaluation": ("Scores", "evaluate"), "plots": ("show_grid",),
}  # fmt: skip
MODULES = {name: module for module, names in PUBLIC.items() for name in names}
__all__ = list(MODULES)


def __getattr__(name: str):
    """Import a module when a name of it is first used, so that `import src.unet` loads the UNet alone."""
    if name in MODULES:
        return getattr(import_module(f"src.{MODULES[name]}"), name)
    raise AttributeError(f"module 'src' has no attribute {name!r}")
