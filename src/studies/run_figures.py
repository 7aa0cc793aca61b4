"""Figures of one run: a contact sheet, the curves, the noise."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.plots import DPI, PAGE, panels, plain


def show_images(images: Tensor, titles: list[str], columns: int = 5, scale: int | None = None) -> Figure:
    """A contact sheet: float [N, C, H, W] in [0, 1] with a title each, `columns` in a row, `scale` as in show_grid."""
    height, width = images.shape[2:]
    scale = scale or max(1, min(256 // width, (PAGE - 60) // (columns * (width + 8))))
    lines = [list(images[first : first + columns]) for first in range(0, len(images), columns)]
    labels = [[plain(title) for title in titles[first : first + columns]] for first in range(0, len(images), columns)]
    return panels(lines, [], labels, [""] * len(lines), (width * scale, height * scale))


def plot_history(history: list[dict], levels: dict[str, float] | None = None) -> Figure:
    """Training loss and held-out PSNR against epochs, with a level line for each baseline.

    history: records of `fit`. levels: label -> PSNR in dB, such as {"noisy": 13.98}. Returns the Figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), dpi=DPI, layout="constrained")
    left.plot([record["epoch"] for record in history], [record["train_mse"] for record in history], color="C0")
    left.set(title="training loss", xlabel="epoch", ylabel="mean squared error", yscale="log")
    points = [(record["epoch"], record["psnr"]) for record in history if "psnr" in record]
    if points:
        right.plot(*zip(*points), marker="o", markersize=3, color="C1")
    for name, value in (levels or {}).items():
        right.axhline(value, color="0.45", linestyle="--", linewidth=1)
        right.annotate(f"{plain(name)} {value:.2f}", (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 2),
                       textcoords="offset points", ha="right", fontsize=8, color="0.3")  # fmt: skip
    right.set(title="held-out PSNR of the EMA weights", xlabel="epoch", ylabel="dB")
    for axis in (left, right):
        axis.grid(alpha=0.25)
    plt.close(figure)
    return figure


def plot_noise(noisy: Tensor, clean: Tensor, sigma: float) -> Figure:
    """The distribution of noisy - clean, float [B, C, H, W] both, against the normal density of that sigma."""
    figure, axis = plt.subplots(figsize=(6, 3), dpi=DPI, layout="constrained")
    edge = 4 * max(sigma, 1e-6)
    axis.hist(
        (noisy - clean).flatten().numpy(), 101, (-edge, edge), density=True, color="C0", alpha=0.5, label="measured"
    )
    if sigma > 0:
        x = torch.linspace(-edge, edge, 200)
        density = torch.exp(-((x / sigma) ** 2) / 2) / (sigma * (2 * torch.pi) ** 0.5)
        axis.plot(x, density, color="black", linewidth=1, label=f"normal, sigma {sigma:g}")
    axis.set(xlabel="noisy - clean, images in [0, 1]", ylabel="density", title="The noise follows the normal density")
    axis.legend(fontsize=8)
    plt.close(figure)
    return figure
