"""The pictures. The only file that imports matplotlib."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator
from torch import Tensor

from src.metrics import psnr

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
    if not isinstance(columns, dict) or not columns:
        raise ValueError(
            f'columns must be {{title: pictures}}, got {columns!r:.60}; try {{"clean": clean, "noisy": noisy}}'
        )
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
    if not rows or not all(0 <= row < count for row in rows):
        raise ValueError(f"rows must be some of 0 to {count - 1}, got {rows}; leave it out for the first six")
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


def show_images(images: Tensor, titles: list[str], columns: int = 10, panel: float = 0.85) -> Figure:
    """A contact sheet: float [N, C, H, W] in [0, 1] with a title each, `columns` in a row of `panel` inches each."""
    rows = -(-len(images) // columns)
    height, width = images.shape[2:]
    size = (panel * columns, (panel * height / width + 0.22) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=DPI, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow(image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure


def plot_history(history: list[dict], lines: dict[str, float] | None = None) -> Figure:
    """Train loss and held-out PSNR against epochs, with a level line for each baseline.

    history: records of `fit`. lines: label -> PSNR in dB, such as {"noisy": 13.98}. Returns the Figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), dpi=DPI, layout="constrained")
    epochs = [record["epoch"] for record in history]
    left.plot(epochs, [record["train_mse"] for record in history], color="tab:blue")
    left.set(title="train loss", xlabel="epoch", ylabel="mean squared error", yscale="log")
    seen = [(record["epoch"], record["psnr"]) for record in history if "psnr" in record]
    right.plot(*zip(*seen), marker="o", markersize=3, color="tab:orange")
    _levels(right, lines or {})
    right.set(title="held-out PSNR, averaged weights", xlabel="epoch", ylabel="dB")
    for axis in (left, right):
        axis.grid(alpha=0.25)
    plt.close(figure)
    return figure


def plot_noise(noisy: Tensor, clean: Tensor, sigma: float) -> Figure:
    """The distribution of noisy - clean, float [B, C, H, W] both, against the normal density that it should follow.

    sigma: its standard deviation in [0, 1] units. Returns the Figure.
    """
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


def _levels(axis, levels: dict[str, float]) -> None:
    """A level line for each name, which stands on it at the right; under it where another lies close above."""
    for index, value in enumerate(levels.values()):
        value = round(value, 2)  # drawn where its label says
        axis.axhline(value, color="0.45", linestyle=["--", ":", "-.", (0, (5, 1))][index % 4], linewidth=1)
    low, high = axis.get_ylim()
    above, crowd = float("inf"), 0
    for name, value in sorted(levels.items(), key=lambda level: -level[1]):
        crowd = crowd + 1 if above - value < 0.07 * (high - low) else 0
        axis.annotate(
            f"{name} {value:.2f}", (1 - 0.25 * max(0, crowd - 1), value), xycoords=("axes fraction", "data"),
            xytext=(-4, -3 if crowd else 2), textcoords="offset points", va="top" if crowd else "baseline",
            ha="right", fontsize=8, color="0.3",
        )  # fmt: skip
        above = value


def plot_lines(
    panels: dict[str, dict[str, list[tuple[float, ...]]]],
    y: str,
    title: str = "",
    levels: dict[str, float] | None = None,
    log: str = "",
    shade: tuple[float, float] | None = None,
) -> Figure:
    """Curves, a panel for each kind of x axis side by side; a curve of one point is a bare marker.

    panels  label of the x axis -> name of a curve -> its points (x, y) or (x, y, deviation), which is drawn as a
            band; a name has one colour in all panels, and these one y axis
    y       label of the y axis
    levels  name -> y of a level line, such as {"bm3d": 29.87}
    log     "", "x", "y" or "xy": the logarithmic axes
    shade   a range of x marked in grey, such as the sigmas that a network was trained on

    Returns the Figure. Raises ValueError for another `log`.
    """
    if set(log) - {"x", "y"}:
        raise ValueError(f'log must be "", "x", "y" or "xy", got {log!r}')
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    size = (2.2 + max(4.4, 1.9 * len(panels)), 3.4)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, dpi=DPI, squeeze=False, sharey=True, layout="constrained"
    )  # one scale: what is flat looks flat
    figure.suptitle(title, fontsize=11)
    for axis, (label, curves) in zip(axes.flat, panels.items()):
        for name, points in curves.items():
            look = names.index(name)
            single = len(points) == 1
            xs, ys, *deviations = zip(*points)
            for (deviation,) in [deviations] if deviations else []:
                low, high = ([y + sign * d for y, d in zip(ys, deviation)] for sign in (-1, 1))
                axis.fill_between(xs, low, high, color=f"C{look % 10}", alpha=0.2, linewidth=0)
            marker = "osD^vP*X<>hp"[look % 12] if len(points) < 200 else ""  # more would run into a band
            axis.plot(
                xs, ys, label=name, color=f"C{look % 10}", marker=marker,
                markersize=7 if single else 4, linestyle="none" if single else "-", linewidth=1.3,
            )  # fmt: skip
        if shade is not None:
            axis.axvspan(*shade, color="0.9", zorder=0)
        _levels(axis, levels or {})
        axis.set(xlabel=label, xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
        axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel(y)
    for axis in [axes[0, 0].yaxis] * ("y" in log) + [axis.xaxis for axis in axes.flat] * ("x" in log):
        low, high = axis.get_view_interval()
        # 10 to a power would be all that the default labels, nothing at all on a short axis
        axis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5), numticks=20))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    shown = {text: line for axis in axes.flat for line, text in zip(*axis.get_legend_handles_labels())}
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize=8)
    plt.close(figure)
    return figure


def plot_bars(bars: dict[str, dict[str, float]], x: str, title: str = "", form: str = "{:.2f}") -> Figure:
    """Lying bars, each of parts set end to end, with a part's value in it where there is room.

    bars: name of a bar -> name of a part -> its value >= 0; a part has one colour in all bars.
    x: label of the axis. form: how a value is written. Returns the Figure.
    """
    parts = list(dict.fromkeys(part for values in bars.values() for part in values))
    figure, axis = plt.subplots(
        figsize=(8.4, 1.1 + max(0.4 * len(bars), 0.19 * len(parts))), dpi=DPI, layout="constrained"
    )
    longest = max(sum(values.values()) for values in bars.values())
    for name, values in bars.items():
        left = 0.0
        for part, value in values.items():
            look = parts.index(part)
            label = f" {part}" if part.startswith("_") else part  # matplotlib leaves such names out of a legend
            axis.barh(name, value, left=left, color=plt.colormaps["tab20"](look % 20), label=label, height=0.6)
            if value > 0.08 * longest:
                axis.text(left + value / 2, name, form.format(value), ha="center", va="center", fontsize=8)
            left += value
    axis.set(xlabel=x, title=title)
    axis.invert_yaxis()  # the first bar on top
    axis.grid(alpha=0.25, axis="x")
    axis.set_axisbelow(True)
    if len(parts) > 1:
        shown = {text: bar for bar, text in zip(*axis.get_legend_handles_labels())}
        figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize=8)
    plt.close(figure)
    return figure


def plot_dots(
    rows: dict[str, dict[str, tuple[float, float]]],
    x: str,
    title: str = "",
    levels: dict[str, float] | None = None,
    form: str = "{:.2f}",
    shared: bool = False,
) -> Figure:
    """A row a name, on it a dot for each series with its deviation as a line: to compare what differs by little.

    rows: name of a row -> name of a series -> (mean, deviation); a series has one colour and its own
    panel, and its own scale unless `shared`. x: label of the axes. form: how a mean is written.
    levels: name -> an x to mark in the first panel, such as {"bm3d": 29.87}.
    Returns the Figure.
    """
    series = list(dict.fromkeys(name for values in rows.values() for name in values))
    size = (2.4 + 3.6 * len(series), 1.0 + 0.3 * len(rows))
    figure, axes = plt.subplots(
        1, len(series), figsize=size, dpi=DPI, squeeze=False, sharex=shared, sharey=True, layout="constrained"
    )
    figure.suptitle(title, fontsize=11)
    for look, (axis, name) in enumerate(zip(axes.flat, series)):
        for place, values in enumerate(rows.values()):
            if name in values:
                middle, deviation = values[name]
                axis.errorbar(middle, place, xerr=deviation, fmt="o", color=f"C{look}", markersize=4, capsize=3)
                axis.annotate(form.format(middle), (middle, place), xytext=(0, 5), textcoords="offset points",
                              ha="center", fontsize=7)  # fmt: skip
        for word, value in (levels or {}).items() if look == 0 else ():
            axis.axvline(value, color="0.45", linestyle="--", linewidth=1)
            axis.annotate(word, (value, 1), xycoords=("data", "axes fraction"), xytext=(2, -8),
                          textcoords="offset points", fontsize=7, color="0.3")  # fmt: skip
        axis.set(xlabel=x, title=name if len(series) > 1 else "", yticks=range(len(rows)), yticklabels=list(rows))
        axis.grid(alpha=0.25)
        axis.margins(x=0.12)
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.8)  # the first row on top
    plt.close(figure)
    return figure
