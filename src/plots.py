"""The pictures. The only file that imports matplotlib."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .metrics import psnr

DPI = 100


def show_grid(
    columns: dict[str, Tensor],
    rows: list[int] | None = None,
    reference: str = "clean",
    residual: bool = False,
    zoom: int | None = None,
    titles: list[str] | None = None,
    panel: float = 1.5,
) -> Figure:
    """Columns side by side (clean, noisy, denoised), a row an image, PSNR under each panel.

    columns    title -> float [N, C, H, W]; shown on the fixed scale 0 (black) to 1 (white),
               what lies outside is cut off for the eye but counts in the PSNR
    rows       which images; None: the first six
    reference  the column that PSNR is measured against; shown without a figure
    residual   add what the last column took away from the noisy one, 0 shown as mid-grey
    zoom       add, for each column, the middle square of so many pixels, enlarged
    titles     a short text for each row, at its left
    panel      side of a panel in inches

    Returns the Figure. Raises ValueError if the columns' shapes differ or are not 4-d.
    """
    shapes = {name: tuple(image.shape) for name, image in columns.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 4:
        raise ValueError(f"columns must share one shape [N, C, H, W], got {shapes}")
    if reference not in columns:
        raise ValueError(f"reference {reference!r} is not among the columns {list(columns)}")
    if residual and "noisy" not in columns:
        raise ValueError(f"residual needs a column named noisy, got {list(columns)}")
    if zoom is not None and not 1 <= zoom <= min(columns[reference].shape[2:]):
        side = min(columns[reference].shape[2:])
        raise ValueError(f"zoom must be between 1 and {side}, the pictures' shorter side, got {zoom}")
    count, _, height, width = columns[reference].shape
    rows = list(range(min(6, count))) if rows is None else [int(row) for row in rows]
    panels = {name: (image, False) for name, image in columns.items()}
    if residual:
        last = list(columns)[-1]
        panels["removed"] = (0.5 + columns["noisy"] - columns[last], False)
    if zoom is not None:
        panels |= {f"{name}, zoomed": (image, True) for name, image in columns.items()}
    top, left = (height - (zoom or 0)) // 2, (width - (zoom or 0)) // 2

    size = (panel * len(panels), (panel * height / width + 0.28) * len(rows))
    figure, axes = plt.subplots(len(rows), len(panels), figsize=size, dpi=DPI, squeeze=False, layout="constrained")
    for place, (line, row) in enumerate(zip(axes, rows)):
        for axis, (name, (image, zoomed)) in zip(line, panels.items()):
            shown = image[row].detach().float().cpu()
            if zoomed:
                shown = shown[:, top : top + zoom, left : left + zoom]
            axis.imshow(shown.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([]), axis.set_yticks([])
            if place == 0:
                axis.set_title(name, fontsize=min(10, 6.5 * panel))  # side by side without touching
            if name in columns and name != reference:
                value = psnr(image[row : row + 1].cpu(), columns[reference][row : row + 1].cpu()).item()
                axis.set_xlabel(f"{value:.2f} dB", fontsize=9)
            if zoom is not None and name == reference:
                axis.add_patch(Rectangle((left, top), zoom, zoom, fill=False, edgecolor="red", linewidth=1))
        if titles is not None:
            line[0].set_ylabel(titles[place], fontsize=8)
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure


def show_images(images: Tensor, titles: list[str], columns: int = 10) -> Figure:
    """A contact sheet: float [N, C, H, W] in [0, 1] with a title each, `columns` in a row."""
    rows = -(-len(images) // columns)
    height, width = images.shape[2:]
    size = (0.85 * columns, (0.85 * height / width + 0.22) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=DPI, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure


def plot_history(history: list[dict], lines: dict[str, float] | None = None) -> Figure:
    """Train loss and held-out PSNR against epochs, with a level line for each baseline.

    history: records of `fit`. lines: label -> PSNR in dB, such as {"noisy": 13.98}.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), dpi=DPI, layout="constrained")
    epochs = [record["epoch"] for record in history]
    left.plot(epochs, [record["train_mse"] for record in history], color="tab:blue")
    left.set(title="train loss", xlabel="epoch", ylabel="mean squared error", yscale="log")
    seen = [(record["epoch"], record["psnr"]) for record in history if "psnr" in record]
    right.plot(*zip(*seen), marker="o", markersize=3, color="tab:orange")
    for index, (name, value) in enumerate((lines or {}).items()):
        value = round(value, 2)  # drawn where its label says
        right.axhline(value, color="0.45", linestyle=["--", ":", "-.", (0, (5, 1))][index % 4], linewidth=1)
        right.annotate(
            f"{name} {value:.2f}", (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 2),
            textcoords="offset points", ha="right", fontsize=8, color="0.3",
        )  # fmt: skip
    right.set(title="held-out PSNR, averaged weights", xlabel="epoch", ylabel="dB")
    for axis in (left, right):
        axis.grid(alpha=0.25)
    plt.close(figure)
    return figure


def plot_noise(noisy: Tensor, clean: Tensor, sigma: float) -> Figure:
    """The distribution of noisy - clean against the normal density that it should follow."""
    figure, axis = plt.subplots(figsize=(5.2, 2.8), dpi=DPI, layout="constrained")
    noise = (noisy - clean).flatten()
    axis.hist(noise.numpy(), bins=101, range=(-4 * sigma, 4 * sigma), density=True, color="tab:blue", alpha=0.5,
              label="measured")  # fmt: skip
    x = torch.linspace(-4 * sigma, 4 * sigma, 200)
    density = torch.exp(-((x / sigma) ** 2) / 2) / (sigma * (2 * torch.pi) ** 0.5)
    axis.plot(x, density, color="black", linewidth=1, label=f"normal, sigma {sigma:g}")
    axis.set(xlabel="noisy - clean, in [0, 1] units", ylabel="density", title="the noise")
    axis.legend(fontsize=8)
    plt.close(figure)
    return figure
