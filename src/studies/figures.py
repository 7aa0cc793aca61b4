"""The figures of the studies: curves, dots, bars, paired differences, a heat map.

Each returns a Figure as wide as the page. A method has one colour and one marker in all of them (STYLES); curves are
labelled at their ends; colours are those of Okabe and Ito, told apart by the colour-blind, and markers in grey print.
"""

import re

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from src.plots import DPI, plain
from src.studies.results import Results

BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, RED, PINK = "#0072b2", "#d55e00", "#cc79a7"
STYLES = {  # method -> colour, marker
    "ours": (BLUE, "o"), "UNet": (BLUE, "o"), "noisy": ("0.6", "x"), "NLM": (GREEN, "v"), "BM3D": (ORANGE, "^"),
    "DnCNN": (RED, "s"), "2021": (PINK, "D"), "MSE": (BLUE, "o"), "L1": (ORANGE, "s"), "SSIM": (GREEN, "^"),
    "Mix": (BLACK, "X"), "MS-SSIM": (PINK, "v"), "sign_digits": (BLUE, "o"), "finger_numbers": (ORANGE, "s"),
    "latent 7x7": (SKY, "v"), "latent 14x14": (SKY, "^"), "latent 28x28": (SKY, "s"), "no skip": (GREEN, "o"),
    "no residual": (ORANGE, "o"), "no skip, no residual": (BLACK, "o"), "BatchNorm": (RED, "o"),
    "2021, no BatchNorm": (PINK, "o"), "frozen noise": (SKY, "h"), "300 images": (BLUE, "P"),
    "30 images": (PINK, "p"), "4 images": (GREEN, "d"), "SwinIR (published)": ("0.75", "*"),
}  # fmt: skip
OTHERS = [(c, m) for m, c in zip("<hXPv*pd>8HPX", [SKY, PINK, GREEN, RED, BLACK, ORANGE, BLUE] * 2)]
WIDTH = 9.6  # inches: 960 pixels


def style(name: str, names: list[str]) -> tuple[str, str]:
    """(colour, marker) of a method; what STYLES does not name gets a pair of its own in this figure.

    A method with an addition, such as "DnCNN (published)" or "2021, on photos", looks like the method if it is alone.
    """
    base = re.split(r", | \(", name)[0]
    alone = [other for other in names if re.split(r", | \(", other)[0] == base] == [name]
    free = [other for other in names if other not in STYLES]
    return STYLES.get(name) or (STYLES.get(base) if alone else None) or OTHERS[free.index(name) % len(OTHERS)]


def zoomed(columns: dict[str, Tensor], row: int | None = None) -> dict[str, Tensor]:
    """The middle half of one image of each column, [1, C, H/2, W/2], for `show_grid`. row: None for the middle one."""
    count, _, height, width = next(iter(columns.values())).shape
    row = count // 2 if row is None else row
    part = (slice(row, row + 1), ..., slice(height // 4, height - height // 4), slice(width // 4, width - width // 4))
    return {name: images[part] for name, images in columns.items()}


def plot_lines(
    panels: dict[str, dict[str, list[tuple[float, ...]]]],
    y: str,
    title: str = "",
    levels: dict[str, float] | None = None,
    log: str = "",
    shade: tuple[float, float] | None = None,
    names_at: float | None = None,
    dashed: tuple[str, ...] = (),
) -> Figure:
    """Curves, a panel for each kind of x axis side by side; a curve of one point is a marker with its name beside it.

    panels: label of the x axis -> name of a curve -> its points (x, y) or (x, y, standard deviation), drawn as a band.
    y: label of the y axis, which the panels share. levels: name -> y of a level line, such as {"BM3D": 29.87}.
    log: "", "x", "y" or "xy", the logarithmic axes. shade: a range of x in grey, such as the sigmas trained on.
    names_at: an x where each curve is labelled, for curves with a common end. dashed: curves that may cover others.
    """
    if set(log) - {"x", "y"}:
        raise ValueError(f'log must be "", "x", "y" or "xy", got {log!r}; leave it out')
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 4), dpi=DPI, squeeze=False, sharey=True, layout="constrained"
    )
    figure.suptitle(plain(title), fontsize=12)
    for axis, (label, curves) in zip(axes.flat, panels.items()):
        for name, points in curves.items():
            _draw_curve(axis, points, *style(name, names), "--" if name in dashed else "-")
        if shade is not None:
            axis.axvspan(*shade, color="0.92", zorder=0)
        for index, value in enumerate((levels or {}).values()):
            axis.axhline(value, color="0.45", linestyle=["--", ":", "-.", (0, (5, 1))][index % 4], linewidth=1)
        axis.set(xlabel=label, xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
        axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel(y)
    axes[0, 0].margins(y=0.12 if any(len(c[n]) == 1 for c in panels.values() for n in c) else 0.05)
    for axis in [axes[0, 0].yaxis] * ("y" in log) + [axis.xaxis for axis in axes.flat] * ("x" in log):
        low, high = axis.get_view_interval()
        # powers of ten would be all that the default labels, nothing at all on a short axis
        axis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5), numticks=20))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    everything = list(panels.values())[-1] | {n: c[n] for c in panels.values() for n in c}
    if names_at is None:
        _label_ends(axes[0, -1], everything, levels or {})
    else:
        _label_on_curves(axes[0, -1], everything, names_at)
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure


def _draw_curve(axis, points: list[tuple[float, ...]], colour: str, marker: str, line: str) -> None:
    xs, ys, *deviations = zip(*points)
    if deviations:
        low, high = ([y + sign * d for y, d in zip(ys, deviations[0])] for sign in (-1, 1))
        axis.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
    marker = marker if len(points) < 60 else ""  # more would run into a band
    single = len(points) == 1
    axis.plot(xs, ys, color=colour, marker=marker, markersize=8 if single else 5, linewidth=1.6, linestyle=line)


def _label_ends(axis, curves: dict[str, list[tuple[float, ...]]], levels: dict[str, float]) -> None:
    """Each name at the height of its curve's last point, right of the axes; those too close are pushed apart."""
    lines = {name: points for name, points in curves.items() if len(points) > 1}
    ends = {name: points[-1][1] for name, points in lines.items()} | {f"{n} {v:.2f}": v for n, v in levels.items()}
    colours = {name: style(name, list(curves))[0] for name in lines}
    to_fraction = axis.transData + axis.transAxes.inverted()
    x = axis.get_xlim()[1]
    _label_points(axis, {name: points[0][:2] for name, points in curves.items() if name not in lines}, to_fraction)
    heights = {name: float(to_fraction.transform((x, value))[1]) for name, value in ends.items()}
    for name, height in _spread_out(heights, 0.062).items():
        axis.annotate(
            plain(name), (1, heights[name]), (1.03, height), xycoords="axes fraction", textcoords="axes fraction",
            fontsize=9, va="center", color=colours.get(name, "0.3"), annotation_clip=False,
            arrowprops=dict(arrowstyle="-", color=colours.get(name, "0.6"), linewidth=0.6, shrinkA=0, shrinkB=0),
        )  # fmt: skip


def _label_on_curves(axis, curves: dict[str, list[tuple[float, ...]]], x: float) -> None:
    """Each name on its curve, at the point nearest to x."""
    axis.get_xlim(), axis.get_ylim()  # the scales are found when they are asked for
    to_fraction = axis.transData + axis.transAxes.inverted()
    points = {name: min(points, key=lambda point: abs(point[0] - x))[:2] for name, points in curves.items()}
    places = {name: to_fraction.transform(point) for name, point in points.items()}
    for name, height in _spread_out({name: float(place[1]) for name, place in places.items()}, 0.066).items():
        axis.text(
            places[name][0], height, plain(name), transform=axis.transAxes, fontsize=9, ha="center", va="center",
            color=style(name, list(curves))[0], bbox=dict(facecolor="white", edgecolor="none", pad=1.5),
        )  # fmt: skip


def _label_points(axis, points: dict[str, tuple[float, float]], to_fraction) -> None:
    """Each name right of its point, left near the right edge; those of neighbouring points are pushed apart."""
    places = {name: to_fraction.transform(point) for name, point in points.items()}
    columns = []  # of neighbours, a tenth of the width apart or less
    for name in sorted(places, key=lambda name: places[name][0]):
        if not columns or places[name][0] - places[columns[-1][-1]][0] > 0.1:
            columns.append([])
        columns[-1].append(name)
    for column in columns:
        for name, height in _spread_out({name: float(places[name][1]) for name in column}, 0.07).items():
            side = -1 if places[name][0] > 0.8 else 1
            axis.annotate(
                plain(name), places[name], (places[name][0] + side * 0.02, height), xycoords="axes fraction",
                textcoords="axes fraction", fontsize=9, va="center", ha="left" if side > 0 else "right",
                arrowprops=dict(arrowstyle="-", linewidth=0.5), bbox=dict(facecolor="white", edgecolor="none", pad=1),
            )  # fmt: skip


def _spread_out(heights: dict[str, float], gap: float) -> dict[str, float]:
    """The heights moved as little as it takes for neighbours to be `gap` apart."""
    placed, groups = {}, []
    for name in sorted(heights, key=heights.get):
        groups.append([name])
        while len(groups) > 1:
            lower, upper = (sum(heights[n] for n in g) / len(g) for g in groups[-2:])
            if upper - lower >= gap * (len(groups[-2]) + len(groups[-1])) / 2:
                break
            groups[-2:] = [groups[-2] + groups[-1]]
    for group in groups:
        middle = sum(heights[name] for name in group) / len(group)
        for place, name in enumerate(group):
            placed[name] = middle + (place - (len(group) - 1) / 2) * gap
    return placed


def plot_paired_differences(
    results: Results, against: str, metric: str = "psnr", test_set: str = "held_out", title: str = "",
    cases: list[str] | None = None, unit: str = "dB",
) -> Figure:  # fmt: skip
    """A row a case: its score less that of the case `against` with the same seed; mean, standard deviation, each seed.

    Filled markers are the first data set, hollow ones further ones. cases: which, and their order; None: all.
    """
    cases = [case for case in cases or results.cases if case != against]
    means = [results.difference(data, c, against, metric, test_set)[0] for data in results.data for c in cases]
    decimals = 4 if unit != "dB" else 2 if max(map(abs, means)) >= 0.05 else 3
    figure, axis = plt.subplots(figsize=(WIDTH, 1.4 + 0.6 * len(cases)), dpi=DPI, layout="constrained")
    for number, data in enumerate(results.data):
        for row, case in enumerate(cases):
            colour, marker = style(case, cases)
            values = results.differences(data, case, against, metric, test_set)
            mean, deviation = results.difference(data, case, against, metric, test_set)
            place = row + 0.26 * (number - (len(results.data) - 1) / 2)
            axis.plot(values, [place] * len(values), "|", color=colour, alpha=0.5, markersize=9)
            axis.errorbar(
                mean, place, xerr=deviation, fmt=marker, color=colour, markersize=7, capsize=4,
                markerfacecolor=colour if number == 0 else "white",
            )  # fmt: skip
            text = f"{round(mean, decimals) + 0.0:+.{decimals}f}"  # + 0.0: no "-0.00"
            right = max([mean + deviation, *values])
            axis.annotate(text, (right, place), (8, 0), fontsize=8, va="center", textcoords="offset points",
                          bbox=dict(facecolor="white", edgecolor="none", pad=0.5))  # fmt: skip
    axis.axvline(0, color="0.3", linewidth=1)
    axis.set(yticks=range(len(cases)), yticklabels=[plain(case) for case in cases], title=plain(title))
    axis.set_xlabel(f"difference from {against}" + f" in {unit}" * bool(unit) + _which(results.data))
    axis.set_ylim(len(cases) - 0.4, -0.7)  # the first case on top
    axis.margins(x=0.12)
    axis.grid(alpha=0.25)
    plt.close(figure)
    return figure


def _which(data: list[str]) -> str:
    return f"   (filled: {data[0]}, hollow: {', '.join(data[1:])})" if len(data) > 1 else ""


def plot_dots(
    rows: dict[str, dict[str, tuple[float, float]]],
    x: str,
    title: str = "",
    levels: dict[str, float] | None = None,
    form: str = "{:z.2f}",  # z: no "-0.00"
    shared: bool = False,
) -> Figure:
    """A row a name, on it a dot for each series with its standard deviation as a line: to compare small differences.

    rows: name of a row -> name of a series -> (mean, standard deviation); a series has its own panel, and its own scale
    unless `shared`. x: label of the axes. form: how a mean is written. levels: name -> an x to mark in the first panel.
    """
    series = list(dict.fromkeys(name for values in rows.values() for name in values))
    figure, axes = plt.subplots(
        1, len(series), figsize=(WIDTH, 1.3 + 0.36 * len(rows)), dpi=DPI, squeeze=False, sharex=shared, sharey=True,
        layout="constrained",
    )  # fmt: skip
    figure.suptitle(plain(title), fontsize=12)
    for axis, name in zip(axes.flat, series):
        for place, (row, values) in enumerate(rows.items()):
            if name in values:
                (middle, deviation), (colour, marker) = values[name], style(row, list(rows))
                axis.errorbar(middle, place, xerr=deviation, fmt=marker, color=colour, markersize=6, capsize=3)
                axis.annotate(form.format(middle), (middle, place), (0, 6), textcoords="offset points", ha="center",
                              fontsize=8)  # fmt: skip
        for word, value in (levels or {}).items() if name == series[0] else ():
            axis.axvline(value, color="0.45", linestyle="--", linewidth=1)
            axis.annotate(plain(word), (value, 1), (2, -9), xycoords=("data", "axes fraction"),
                          textcoords="offset points", fontsize=8, color="0.3")  # fmt: skip
        axis.set(xlabel=x, yticks=range(len(rows)), yticklabels=[plain(row) for row in rows])
        axis.set_title(plain(name) if len(series) > 1 else "", fontsize=10)
        axis.grid(alpha=0.25)
        axis.margins(x=0.14)
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.8)  # the first row on top
    plt.close(figure)
    return figure


def plot_bars(bars: dict[str, dict[str, float]], x: str, title: str = "", form: str = "{:.2f}") -> Figure:
    """Horizontal bars, each of parts set end to end, with a part's value in it where there is room.

    bars: name of a bar -> name of a part -> its value >= 0; a part has one colour in all bars. x: label of the axis.
    """
    parts = list(dict.fromkeys(part for values in bars.values() for part in values))
    height = 1.1 + max(0.42 * len(bars), 0.2 * len(parts) if len(parts) > 1 else 0)
    figure, axis = plt.subplots(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    longest = max(sum(values.values()) for values in bars.values())
    for name, values in bars.items():
        left = 0.0
        for part, value in values.items():
            colour = plt.colormaps["tab20"](parts.index(part) % 20) if len(parts) > 1 else style(name, list(bars))[0]
            label = f" {part}" if part.startswith("_") else part  # matplotlib leaves such names out of a legend
            axis.barh(plain(name), value, left=left, color=colour, label=label, height=0.6, alpha=0.8)
            if value > 0.08 * longest:
                axis.text(left + value / 2, plain(name), form.format(value), ha="center", va="center", fontsize=9,
                          color="white" if colour == BLACK else "black")  # fmt: skip
            left += value
    axis.set(xlabel=x, title=plain(title))
    axis.invert_yaxis()  # the first bar on top
    axis.grid(alpha=0.25, axis="x")
    axis.set_axisbelow(True)
    if len(parts) > 1:
        shown = {text: bar for bar, text in zip(*axis.get_legend_handles_labels())}
        figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize=9)
    plt.close(figure)
    return figure


def plot_heat_map(table: pd.DataFrame, x: str, y: str, title: str = "", form: str = "{:.1f}") -> Figure:
    """The numbers of a table as colours and figures, the best of a column in bold. x, y: what columns and rows are."""
    figure, axis = plt.subplots(figsize=(WIDTH, 1.4 + 0.42 * len(table)), dpi=DPI, layout="constrained")
    image = axis.imshow(table.to_numpy(), cmap="cividis", aspect="auto")
    low, high = image.get_clim()
    for row, name in enumerate(table.index):
        for column, value in enumerate(table.loc[name]):
            best = value == table.iloc[:, column].max()
            axis.text(column, row, form.format(value), ha="center", va="center", fontsize=10,
                      color="black" if value > (low + high) / 2 else "white",
                      weight="bold" if best else "normal")  # fmt: skip
    axis.set(xlabel=x, ylabel=y, title=plain(title))
    axis.set_xticks(range(len(table.columns)), [plain(str(name)) for name in table.columns])
    axis.set_yticks(range(len(table)), [plain(str(name)) for name in table.index])
    plt.close(figure)
    return figure
