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
    """Training loss and held-out PSNR against epochs, with a level line for each baseline; the titles are findings.

    history: records of `fit`. levels: label -> PSNR in dB, such as {"noisy": 13.98}. Returns the Figure.
    """
    losses, points = ([(r["epoch"], r[name]) for r in history if name in r] for name in ("train_mse", "psnr"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), dpi=DPI, layout="constrained")
    left.plot(*zip(*losses), color="0.3")
    left.set(xlabel="epoch", ylabel="training loss (mean squared error)", yscale="log")
    left.set_title(f"The training loss falls by a factor of {losses[0][1] / losses[-1][1]:.1f}")
    if points:
        right.plot(*zip(*points), marker="o", markersize=4, color="#0072b2")
    for name, value in (levels or {}).items():
        right.axhline(value, color="0.45", linestyle="--", linewidth=1)
        right.annotate(f"{plain(name)} {value:.2f}", (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 2),
                       textcoords="offset points", ha="right", fontsize=8, color="0.3")  # fmt: skip
    right.set(title=plain(passed(points, levels or {})), xlabel="epoch", ylabel="held-out PSNR (dB), EMA weights")
    right.margins(y=0.1)
    for axis in (left, right):
        axis.grid(alpha=0.25)
    plt.close(figure)
    return figure


def passed(points: list[tuple[int, float]], levels: dict[str, float]) -> str:
    """The highest level that a curve of (epoch, PSNR) ends above, and the epoch: "Above BM3D from epoch 20 on"."""
    below = [name for name in sorted(levels, key=levels.get) if points and points[-1][1] > levels[name]]
    if not below:
        return "Held-out PSNR"
    last = max([epoch for epoch, value in points if value <= levels[below[-1]]], default=0)
    return f"Above {below[-1]} from epoch {next(epoch for epoch, _ in points if epoch > last)} on"


def share_of_gain(history: list[dict], before: float, epoch: int) -> float:
    """Fraction of the run's whole gain over `before`, a PSNR in dB, that the last evaluation up to an epoch has."""
    points = [(record["epoch"], record["psnr"]) for record in history if "psnr" in record]
    until = [value for at, value in points if at <= epoch]
    return (until[-1] - before) / (points[-1][1] - before)


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


def gain_finding(history: list[dict], before: float, epoch: int) -> str:
    """Whether a run has more than half of its gain over `before`, a PSNR in dB, after some epochs."""
    if len(history) <= epoch:
        return f"a run of {len(history)} epochs does not test the prediction, one of more than {epoch} does"
    share = share_of_gain(history, before, epoch)
    return f"{share:.0%} of the gain after {epoch} epochs: the prediction is {'right' if share > 0.5 else 'wrong'}"


def correlation_finding(detail: Tensor, psnr: Tensor) -> str:
    """Whether two float [N] have a correlation below -0.7."""
    value = torch.corrcoef(torch.stack([detail, psnr]))[0, 1].item()
    return f"correlation of detail and PSNR {value:.2f}: the prediction is {'right' if value < -0.7 else 'wrong'}"
