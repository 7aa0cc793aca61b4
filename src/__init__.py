"""Remove Gaussian noise from photos with a UNet; the notebooks import from here.

from src import *

images = load_images("data/finger_numbers", size=128)
train_images, held_out = split_images(images, held_out=0.2, seed=0)
train_set = GaussianNoiseDataset(train_images, sigma=0.2, seed=0, crop=64, flip=True)
test_set = GaussianNoiseDataset(held_out, sigma=0.2, seed=1, fixed=True)
model = UNet(channels=3)
history = fit(model, train_set, test_set, TrainConfig(epochs=100), run="denoise")
scores = evaluate(model, test_set)
show_grid({"clean": scores.clean, "noisy": scores.noisy, "denoised": scores.denoised["unet"]})
"""

import warnings

# `python -m src.data` finds src.data imported by this file already, and runpy warns of it; the
# commands are made to be run that way, and a user's one line of error should stay one line.
warnings.filterwarnings("ignore", r"'src\.", RuntimeWarning, "runpy")

from src.networks.autoencoder import Autoencoder
from src.checkpoint import load_snapshot
from src.images import ImageSet, load_images, split_images
from src.photos.denoiser import denoise, load_denoiser
from src.networks.dncnn import DnCNN
from src.networks.noise_level import estimate_sigma
from src.evaluation import Scores, evaluate
from src.metrics import ms_ssim, psnr, ssim
from src.noise import GaussianNoiseDataset
from src.plots import plot_bars, plot_dots, plot_history, plot_lines, plot_noise, show_grid, show_images
from src.train import TrainConfig, fit, train
from src.unet import UNet

__all__ = [
    "Autoencoder",
    "DnCNN",
    "GaussianNoiseDataset",
    "ImageSet",
    "Scores",
    "TrainConfig",
    "UNet",
    "denoise",
    "estimate_sigma",
    "evaluate",
    "fit",
    "load_denoiser",
    "load_images",
    "load_snapshot",
    "ms_ssim",
    "plot_bars",
    "plot_dots",
    "plot_history",
    "plot_lines",
    "plot_noise",
    "psnr",
    "show_grid",
    "show_images",
    "split_images",
    "ssim",
    "train",
]
