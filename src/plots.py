"""Grids of images. The only file of the core that imports matplotlib; curves are in studies/figures.py."""

import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.figure import Figure
from torch import Tensor

from src.files import printable, whole_number
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
    """Columns side by side (clean, noisy, denoised), a row an image, PSNR of the whole image under each panel.

    columns: title -> float [N, C, H, W], shown from 0 (black) to 1 (white). rows: which images; None: the first four.
    reference: the column that PSNR is measured against. residual: add noisy minus the last column, 0 as mid-grey.
    zoom: below each row its middle, this many pixels wide, enlarged. titles: a text for each row, at its left. scale:
    screen pixels an image pixel, at least 1; None: what the page holds. ValueError if shapes differ or are not 4-d.
    """
    shapes = {name: list(image.shape) for name, image in columns.items()}
    if reference not in columns or any(shape != shapes[reference] or len(shape) != 4 for shape in shapes.values()):
        raise ValueError(f"columns must be {reference!r} and others of one shape [N, C, H, W], got {shapes}")
    if residual:
        columns = {**columns, "removed": 0.5 + columns["noisy"] - list(columns.values())[-1]}
    count, _, height, width = columns[reference].shape
    rows = range(min(4, count)) if rows is None else rows
    scale = scale or max(1, min(256 // width, (PAGE - 60) // (len(columns) * (width + 8))))
    lines = [[image[row] for image in columns.values()] for row in rows]
    decibels = {name: psnr(image.cpu(), columns[reference].cpu()) for name, image in columns.items()}
    labels = [["" if name in (reference, "removed") else f"{decibels[name][row]:.2f} dB" for name in columns]
              for row in rows]  # fmt: skip
    names = [plain(titles[place]) if titles else "" for place, _ in enumerate(rows)]
    if zoom is not None:
        zoom = whole_number("zoom", zoom, 1, width)
        high = max(1, min(height, round(zoom * height / width)))
        top, left = (height - high) // 2, (width - zoom) // 2
        zoomed = [[panel[:, top : top + high, left : left + zoom] for panel in line] for line in lines]
        lines = [line for pair in zip(lines, zoomed) for line in pair]
        labels = [line for label in labels for line in (label, [""] * len(columns))]
        names = [text for name in names for text in (name, "zoomed")]
    return panels(lines, list(columns), labels, names, (width * scale, height * scale))


def panels(lines: list[list[Tensor]], heads: list[str], labels, names, size: tuple[int, int]) -> Figure:
    """Panels of `size` screen pixels, a title over each column, a label under each panel, a name left of each row."""
    left, y, gap = 12 + 7 * max(map(len, names)) if any(names) else 4, 24 if heads else 4, 8
    width = left + max(map(len, lines)) * (size[0] + gap)
    heights = [size[1] + (22 if any(label) else gap) for label in labels]
    total = y + sum(heights)
    figure = plt.figure(figsize=(width / DPI, total / DPI), dpi=DPI)
    for place, line in enumerate(lines):
        for column, panel in enumerate(line):
            x = left + column * (size[0] + gap)
            axis = figure.add_axes((x / width, 1 - (y + size[1]) / total, size[0] / width, size[1] / total))
            pixels = panel.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(labels[place][column], fontsize=9, labelpad=3)
            if place == 0 and heads:
                axis.set_title(plain(heads[column]), fontsize=10, pad=4)
            if column == 0:
                axis.set_ylabel(names[place], fontsize=9, rotation=0, ha="right", va="center")
        y += heights[place]
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure


def plain(text: str) -> str:
    """A user's text as matplotlib shows it: `$` starts no formula, and what the font lacks is a question mark."""
    glyphs = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in glyphs else "?" for c in printable(text)).replace("$", r"\$")
