"""Figures: grids of images, a run's curves, the noise. The only file of the core that imports matplotlib."""

import matplotlib.pyplot as plt
import torch
from matplotlib import font_manager
from matplotlib.figure import Figure
from torch import Tensor

from src.files import printable
from src.metrics import psnr

DPI = 100  # a panel of P pixels is P screen pixels wide
PAGE = 1150  # pixels that a notebook's page holds side by side


def show_grid(
    columns: dict[str, Tensor],
    rows: list[int] | None = None,
    reference: str = "clean",
    residual: bool = False,
    zoom: int | None = None,
    titles: list[str] | None = None,
    scale: int | None = None,
) -> Figure:
    """Columns side by side (clean, noisy, denoised), a row an image, PSNR under each panel.

    columns: title -> float [N, C, H, W], shown from 0 (black) to 1 (white). rows: which images; None: the first four.
    reference: the column that PSNR is measured against. residual: add noisy minus the last column, 0 as mid-grey.
    zoom: below each row its middle, this many pixels wide, enlarged. titles: a text for each row, at its left.
    scale: screen pixels an image pixel; None: as many as the page holds, at most 256 a panel, at least 1.
    Returns the Figure. Raises ValueError if the columns' shapes differ or are not 4-d.
    """
    shapes = {name: list(image.shape) for name, image in columns.items()}
    if reference not in columns or len({len(s) for s in shapes.values()} | {4}) > 1 or len({*map(str, shapes.values())}) > 1:
        raise ValueError(f"columns must be {reference!r} and others of one shape [N, C, H, W], got {shapes}; check them")
    if residual:
        columns = {**columns, "removed": 0.5 + columns["noisy"] - list(columns.values())[-1]}
    count, _, height, width = columns[reference].shape
    rows = range(min(4, count)) if rows is None else rows
    scale = scale or max(1, min(256 // width, (PAGE - 60) // (len(columns) * (width + 8))))
    lines = [[image[row] for image in columns.values()] for row in rows]
    labels = [[f"{psnr(image[row : row + 1].cpu(), columns[reference][row : row + 1].cpu()).item():.2f} dB"
               if name not in (reference, "removed") else "" for name, image in columns.items()] for row in rows]  # fmt: skip
    names = [plain(titles[place]) if titles else "" for place, _ in enumerate(rows)]
    if zoom is not None:
        high = max(1, min(height, round(zoom * height / width)))
        top, left = (height - high) // 2, (width - zoom) // 2
        zoomed = [[panel[:, top : top + high, left : left + zoom] for panel in line] for line in lines]
        lines = [line for pair in zip(lines, zoomed) for line in pair]
        labels = [line for label in labels for line in ([""] * len(columns), label)]
        names = [text for name in names for text in (name, "zoomed")]
    return _panels(lines, list(columns), labels, names, (width * scale, height * scale))


def show_images(images: Tensor, titles: list[str], columns: int = 5, scale: int | None = None) -> Figure:
    """A contact sheet: float [N, C, H, W] in [0, 1] with a title each, `columns` in a row, `scale` as in show_grid."""
    height, width = images.shape[2:]
    scale = scale or max(1, min(256 // width, (PAGE - 60) // (columns * (width + 8))))
    lines = [list(images[first : first + columns]) for first in range(0, len(images), columns)]
    labels = [[plain(title) for title in titles[first : first + columns]] for first in range(0, len(images), columns)]
    return _panels(lines, [], labels, [""] * len(lines), (width * scale, height * scale))


def _panels(lines: list[list[Tensor]], heads: list[str], labels, names, size: tuple[int, int]) -> Figure:
    """Rows of panels of `size` screen pixels, a title over each column, a label under each panel, a name left of rows."""
    left, gap, head, foot = 24 if any(names) else 4, 8, 24 if heads else 4, 22
    width = left + max(map(len, lines)) * (size[0] + gap)
    heights = [size[1] + (foot if any(label) else gap) for label in labels]
    figure, y = plt.figure(figsize=(width / DPI, (head + sum(heights)) / DPI), dpi=DPI), head
    total = head + sum(heights)
    for place, line in enumerate(lines):
        for column, panel in enumerate(line):
            x = left + column * (size[0] + gap)
            axis = figure.add_axes((x / width, 1 - (y + size[1]) / total, size[0] / width, size[1] / total))
            pixels = panel.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
            axis.set_xticks([]), axis.set_yticks([])
            axis.set_xlabel(labels[place][column], fontsize=9, labelpad=3)
            if place == 0 and heads:
                axis.set_title(plain(heads[column]), fontsize=10, pad=4)
            if column == 0:
                axis.set_ylabel(names[place], fontsize=9)
        y += heights[place]
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure


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
    axis.hist((noisy - clean).flatten().numpy(), 101, (-edge, edge), density=True, color="C0", alpha=0.5, label="measured")
    if sigma > 0:
        x = torch.linspace(-edge, edge, 200)
        density = torch.exp(-((x / sigma) ** 2) / 2) / (sigma * (2 * torch.pi) ** 0.5)
        axis.plot(x, density, color="black", linewidth=1, label=f"normal, sigma {sigma:g}")
    axis.set(xlabel="noisy - clean, images in [0, 1]", ylabel="density", title="The noise follows the normal density")
    axis.legend(fontsize=8)
    plt.close(figure)
    return figure


def plain(text: str) -> str:
    """A user's text as matplotlib shows it: `$` starts no formula, and what the font lacks is a question mark."""
    glyphs = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in glyphs else "?" for c in printable(text)).replace("$", r"\$")
