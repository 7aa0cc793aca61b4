"""How near training comes to what the machine can do, and how its time and memory grow.

    python -m src.studies.hardware_limits                                       # about five minutes on two cores
    python -m src.studies.hardware_limits --parts roofline levers --out limits  # two parts, also as CSV files

Variants that are compared take turns (A B A B ...); a figure is the median over the turns. The machine's limits are
measured, not looked up: the rate of a large matrix product and of a copy.
"""

import argparse
import copy
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from src.config import TrainConfig
from src.device import device, environment, memory_format, precision
from src.files import exit_code, say, write_atomically, write_text
from src.images import ImageSet, load_images, split_images
from src.loop import training_loop
from src.networks import UNet2021
from src.noise import GaussianNoiseDataset
from src.studies.figures import plot_lines
from src.studies.speed import FileDataset, clock
from src.studies.speed_levers import epoch_parts, lever_times, old_and_new
from src.unet import UNet

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report on stderr that there is no GPU

CROP, BATCH, SIDE_2021 = 64, 8, 224  # of the default training, and of the images of 2021


def flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of forward and backward on a batch [B, C, H, W]: all convolutions and matrix products.

    A product and a sum are two. Counted by torch on a copy without data, which computes nothing.
    """
    shadow = copy.deepcopy(model).to("meta").train()
    with FlopCounterMode(display=False) as counter:
        shadow(torch.empty(shape, device="meta")).sum().backward()
    return counter.get_total_flops()


def fastest(function: Callable, repeats: int) -> float:
    """Seconds of the fastest call after a warmup: for peaks, where anything slower is a delay."""
    function()
    taken = []
    for _ in range(repeats):
        start = clock()
        function()
        taken.append(clock() - start)
    return min(taken)


def matmul_peak(dtype: torch.dtype, repeats: int = 10) -> float:
    """FLOP/s of a matrix product, 2048x2048; 8192x8192 on a GPU, which the smaller one does not fill."""
    side = 8192 if device().type == "cuda" else 2048
    a, b = (torch.rand(side, side, device=device()).to(dtype) for _ in range(2))
    return 2 * side**3 / fastest(lambda: a @ b, repeats)


def bandwidth(repeats: int = 10) -> float:
    """Bytes/s read and written by a copy of 256 MB, more than any cache holds."""
    source = torch.ones(1 << 26, device=device())
    target = torch.empty_like(source)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), repeats)


def limits_table(repeats: int = 10) -> pd.DataFrame:
    """The machine's peaks: matrix products in GFLOP/s in float32 and in the training's precision, and GB/s copied."""
    dtypes = {"float32": torch.float32, environment()["precision"]: precision(device())}
    peaks = {f"matmul, {name}, GFLOP/s": matmul_peak(dtype, repeats) / 1e9 for name, dtype in dtypes.items()}
    return pd.DataFrame({"measured": peaks | {"copy, GB/s": bandwidth(repeats) / 1e9}}).round(1)


def roofline(widths: tuple[int, ...], side: int, batch: int, dtype: torch.dtype, repeats: int) -> list[tuple]:
    """(operations a byte, FLOP/s) of each level's 3x3 convolution, forward, finest first.

    The bytes are those that must move at least: input, output and weights once.
    """
    points, layout = [], memory_format((3, side, side))
    for level, width in enumerate(widths):
        layer = nn.Conv2d(width, width, 3, padding=1, bias=False).to(device(), dtype, memory_format=layout)
        x = torch.rand(batch, width, max(1, side >> level), max(1, side >> level)).to(device(), dtype)
        x = x.contiguous(memory_format=layout)
        work = 2 * 9 * width * x.numel()
        with torch.inference_mode():
            seconds = fastest(partial(layer, x), repeats)
        points.append((work / (2 * x.nbytes + layer.weight.nbytes), work / seconds))
    return points


def roofline_table(repeats: int = 10) -> pd.DataFrame:
    """Each level's convolution of our network and of the one of 2021, sorted by operations a byte.

    "% of its roof" is relative to the lower of the two limits at that intensity: memory or arithmetic.
    """
    dtype = precision(device())
    peak, copying = matmul_peak(dtype, repeats), bandwidth(repeats)
    networks = {
        "ours": (UNet().config["widths"], CROP, BATCH),
        "2021": (UNet2021().config["widths"], SIDE_2021, 4),
    }
    rows = []
    for name, (widths, side, batch) in networks.items():
        for width, (intensity, rate) in zip(widths, roofline(tuple(widths), side, batch, dtype, repeats)):
            roof = min(peak, copying * intensity)
            limit = "memory" if copying * intensity < peak else "arithmetic"
            rows.append([name, width, intensity, rate / 1e9, roof / 1e9, limit, 100 * rate / roof])
    columns = ["network", "channels", "operations a byte", "GFLOP/s", "roof, GFLOP/s", "limited by", "% of its roof"]
    return pd.DataFrame(rows, columns=columns).sort_values("operations a byte", ignore_index=True).round(0)


def roofline_figure(table: pd.DataFrame) -> Figure:
    """The levels of both networks under their roof, both axes logarithmic."""
    x = "operations a byte"
    curves = {"roof": list(zip(table[x], table["roof, GFLOP/s"]))}
    curves |= {name: list(zip(rows[x], rows["GFLOP/s"])) for name, rows in table.groupby("network", sort=False)}
    return plot_lines({x: curves}, "GFLOP/s", "The 3x3 convolution of each level, under its roof", log="xy")


def operations(model: nn.Module, train_set: GaussianNoiseDataset, config: TrainConfig, most: int = 7) -> dict:
    """Name of an operation -> fraction of the time of one epoch, without what it calls; the rest last."""
    on_gpu = device().type == "cuda"
    epochs = training_loop(model, train_set, None, replace(config, epochs=2))
    next(epochs)
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as profiled:
        next(epochs)
    spent = {}
    for event in profiled.key_averages():
        if event.device_type == torch.autograd.DeviceType.CPU:  # a GPU's kernels count under what started them
            name = event.key.removeprefix("aten::")
            spent[name] = spent.get(name, 0) + (event.self_device_time_total if on_gpu else event.self_cpu_time_total)
    ranked = sorted(spent, key=spent.get, reverse=True)
    top = {name: spent[name] / sum(spent.values()) for name in ranked[:most]}
    return top | {"others": 1 - sum(top.values())}


def peak_fraction(train_set: GaussianNoiseDataset, config: TrainConfig, seconds: float) -> float:
    """Fraction of the matmul peak that an epoch of the default network reaches, optimizer and all."""
    channels, height, width = train_set.shape
    work = flops(UNet(channels), (config.batch_size, channels, height, width)) / config.batch_size * len(train_set)
    return work / seconds / matmul_peak(precision(device()))


def training_cost(
    count: int, side: int, crop_size: int, width: int, threads: int, epochs: int, batch_size: int
) -> dict[str, float]:
    """Of `epochs` of training: seconds, those of drawing the pairs alone, and peak memory above the imports in MB.

    `count` rows are taken again and again from at most 300 random images: their content changes no time. The network
    has three levels: width, 2 width, 4 width. crop_size 0: whole images.
    """
    torch.set_num_threads(threads)
    batch_size, process, done, peaks = min(batch_size, count), psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.002):
            peaks[0] = max(peaks[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)  # does not keep a process alive that failed
    watcher.start()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (min(count, 300), 3, side, side), dtype=torch.uint8, generator=generator)
    images = ImageSet.from_pixels(pixels)[np.arange(count) % len(pixels)]
    train_set, few = (
        GaussianNoiseDataset(part, crop_size=crop_size or None, augment=True) for part in (images, images[:batch_size])
    )
    start = time.perf_counter()
    for first in range(0, count, batch_size):
        train_set.batch(list(range(first, min(first + batch_size, count))))
    data = time.perf_counter() - start
    model = UNet(widths=(width, 2 * width, 4 * width))
    list(training_loop(model, few, None, TrainConfig(epochs=2, batch_size=batch_size)))  # warms up
    start = clock()
    list(training_loop(model, train_set, None, TrainConfig(epochs=epochs, batch_size=batch_size)))
    seconds = clock() - start
    done.set()
    watcher.join()
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peaks[0] - before
    return dict(seconds=seconds, data=data * epochs, memory=memory / 1e6)


def growth(name: str, values: list, settings: dict) -> dict[str, list[tuple[float, float]]]:
    """`training_cost` at each value of one argument: "seconds", "data", "memory" -> points (value, figure).

    settings: the other arguments. A process for each value, as a process does not give back all of its memory.
    """
    able = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if able else "spawn")
    if able:
        # imported once, not by each process, where it would count as memory: the last is what an optimizer imports
        context.set_forkserver_preload(["src.studies.hardware_limits", "torch._dynamo"])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        found = [pool.submit(training_cost, **settings | {name: value}).result() for value in values]
    return {kind: [(value, row[kind]) for value, row in zip(values, found)] for kind in found[0]}


def growth_table(small: bool = False) -> pd.DataFrame:
    """Slope on logarithmic axes (1 proportional, 0 flat) of seconds, of drawing pairs and of peak memory.

    small: tiny values, for a test.
    """
    threads, scale = torch.get_num_threads(), 10 if small else 1
    base = dict(crop_size=16, width=8, threads=threads, epochs=1, batch_size=32, count=64 // scale, side=64)
    cases = {
        "count": ([300 // scale**2, 3000 // scale**2] + ([] if small else [30000]), base),
        "side": ([64 // scale * 4, 128 // scale * 4], base | dict(crop_size=0, width=16, batch_size=8, count=16)),
        "width": ([8, 16], base | dict(crop_size=64 // scale * 4, batch_size=8)),
        "threads": (sorted({1, threads}), base | dict(crop_size=64 // scale * 4, width=24, batch_size=8)),
        "epochs": ([1, 4], base),
    }
    rows = {}
    for name, (values, settings) in cases.items():
        points = growth(name, values, settings)
        rows[name] = {f"slope of {kind}": slope(curve) for kind, curve in points.items()}
        rows[name]["peak memory, MB"] = points["memory"][-1][1]
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def slope(points: list[tuple[float, float]]) -> float:
    """Of a straight line through the points on logarithmic axes; NaN for fewer than two points."""
    return np.polyfit(*np.log(np.array(points)).T, 1)[0] if len(points) > 1 else float("nan")


PARTS = ("limits", "roofline", "2021", "epoch", "levers", "operations", "growth")


def measure(part: str, train_set: GaussianNoiseDataset, files: FileDataset, repeats: int, small: bool) -> pd.DataFrame:
    """One part of the report, by its name in PARTS."""
    config = TrainConfig(batch_size=min(BATCH, len(train_set)))
    if part == "limits":
        return limits_table(repeats)
    if part == "roofline":
        return roofline_table(repeats)
    if part == "2021":
        return old_and_new(files, float(train_set.sigma), repeats)
    if part == "epoch":
        seconds = epoch_parts(UNet(train_set.shape[0]), train_set, config, repeats)
        table = pd.DataFrame({"seconds": seconds, "% of an epoch": seconds}).round(3)
        table["% of an epoch"] = (100 * table["seconds"] / sum(seconds.values())).round(1)
        say(f"{peak_fraction(train_set, config, sum(seconds.values())):.0%} of the matmul peak")
        return table
    if part == "levers":
        return lever_times(train_set, config, repeats)
    if part == "operations":
        fractions = operations(UNet(train_set.shape[0]), train_set, config)
        return pd.DataFrame({"% of the time": fractions}).mul(100).round(1)
    return growth_table(small)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.studies.hardware_limits", description="Measure training against the machine's limits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", default="data/finger_numbers", help="folder of images")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=300, help="images to train on at most")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each measurement")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--small", action="store_true", help="tiny networks and sets, to try the command")
    parser.add_argument("--out", type=Path, help="folder for the tables as CSV and for the figure")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: report(arguments))


def report(arguments: argparse.Namespace) -> None:
    """Print a table for each part and, with --out, write it as CSV."""
    images, _ = split_images(load_images(arguments.data, size=arguments.size))
    images = images.sample(arguments.images)
    train_set = GaussianNoiseDataset(images, crop_size=min(CROP, arguments.size), augment=True)
    side = 32 if arguments.small else SIDE_2021
    files = FileDataset(arguments.data, images[:8], side)
    say("  ".join(f"{name} {value}" for name, value in environment().items()))
    for part in arguments.parts:
        table = measure(part, train_set, files, arguments.repeats, arguments.small)
        say(f"\n{part}\n{table.to_string()}")
        if arguments.out:
            write_text(arguments.out / f"{part}.csv", table.to_csv())
        if arguments.out and part == "roofline":
            write_atomically(arguments.out / "roofline.png", roofline_figure(table).savefig)


if __name__ == "__main__":
    sys.exit(main())
