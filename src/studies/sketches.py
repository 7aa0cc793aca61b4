"""Sketches of networks, for 01_denoise and 04_architectures."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from src.plots import DPI, plain
from src.studies.figures import WIDTH, style

COLUMNS = 4  # sketches side by side


def plot_sketches(networks: dict[str, tuple[list[int], bool, bool]], sides: bool = False) -> Figure:
    """A sketch of each network: a bar a stage, lower where its feature maps are smaller, from input to output.

    networks: name -> (divisor of the side at each level, finest first, such as [1, 2, 4]; skip connections or not;
    residual output or not). sides: write the side of a stage's maps below it, as a part of the image's.
    """
    rows, columns = -(-len(networks) // COLUMNS), min(COLUMNS, len(networks))
    size = (WIDTH if columns > 1 else WIDTH / 2, 2.1 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=DPI, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, (divisors, skips, residual)) in zip(axes.flat, networks.items()):
        heights = [divisor**-0.5 for divisor in divisors]  # the square root, so that the smallest can be seen
        path = [*zip(divisors, heights), *zip(divisors[-2::-1], heights[-2::-1])]
        for place, (divisor, height) in enumerate(path):
            axis.bar(place, height, width=0.5, bottom=-height / 2, color=style(name, list(networks))[0])
            if sides:
                text = "1" if divisor == 1 else f"1/{divisor}"
                axis.text(place, -height / 2 - 0.04, text, ha="center", va="top", fontsize=9)
        arrow = dict(arrowstyle="->", linewidth=0.9, shrinkA=0, shrinkB=0, mutation_scale=8)
        for level in range(len(divisors) - 1) if skips else ():
            height = (heights[level] + heights[level + 1]) / 4  # above the stages between
            axis.annotate("", (len(path) - 1.25 - level, height), (level + 0.25, height), arrowprops=arrow)
        if residual:
            axis.annotate("", (len(path) - 1, 0.52), (0, 0.52), arrowprops=arrow | dict(
                connectionstyle="arc3,rad=-0.15", linestyle="--"))  # fmt: skip
        axis.set(xlim=(-0.8, len(path) - 0.2), ylim=(-0.7 if sides else -0.55, 0.85))
        axis.set_title(plain(name), fontsize=10)
    plt.close(figure)
    return figure
