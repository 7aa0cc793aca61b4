"""How near a training comes to what the machine can do, and how its time and memory grow, for 09_speed."""

import copy
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import torch
from src.studies.speed import clock
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from src import GaussianNoiseDataset, ImageSet, TrainConfig, UNet, train
from src.device import device, memory_format

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes into a notebook's stderr that there is no GPU


def flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of forward and backward on a batch [B, C, H, W], a product with a sum as two, of all
    convolutions and matrix products; counted by torch on a copy without data, which computes nothing."""
    shadow = copy.deepcopy(model).to("meta").train()
    with FlopCounterMode(display=False) as counter:
        shadow(torch.empty(shape, device="meta")).sum().backward()
    return counter.get_total_flops()


def fastest(function: Callable, repeats: int) -> float:
    """Seconds of the fastest of so many calls, after one that warms up: for peaks, where anything slower is a delay."""
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


def roofline(widths: tuple[int, ...], side: int, batch: int, dtype: torch.dtype, repeats: int) -> list[tuple]:
    """(operations a byte, GFLOP/s) of each level's 3x3 convolution, forward, finest first.

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
        points.append((work / (2 * x.nbytes + layer.weight.nbytes), work / seconds / 1e9))
    return points


def operations(model: nn.Module, train_set: GaussianNoiseDataset, config: TrainConfig, most: int = 7) -> dict:
    """Name of an operation -> its share of the time in one epoch of `train`, what it calls left out; the rest last."""
    on_gpu = device().type == "cuda"
    epochs = train(model, train_set, None, replace(config, epochs=2))
    next(epochs)
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as seen:
        next(epochs)
    spent = {}
    for event in seen.key_averages():
        if event.device_type == torch.autograd.DeviceType.CPU:  # a GPU's kernels count under what started them
            name = event.key.removeprefix("aten::")
            spent[name] = spent.get(name, 0) + (event.self_device_time_total if on_gpu else event.self_cpu_time_total)
    ranked = sorted(spent, key=spent.get, reverse=True)
    top = {name: spent[name] / sum(spent.values()) for name in ranked[:most]}
    return top | {"others": 1 - sum(top.values())}


def cost(count: int, side: int, crop: int, width: int, threads: int, epochs: int, batch: int) -> dict[str, float]:
    """What `epochs` of `train` take: seconds, of them in drawing pairs where nothing else runs, peak memory in MB.

    `count` rows are chosen again and again from a store of at most 300 random pictures: what is in them changes
    no time. The network has three levels: width, 2 width, 4 width. Memory is what came on top of the imports.
    """
    torch.set_num_threads(threads)
    batch = min(batch, count)
    process = psutil.Process()
    before, peak, done = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)  # does not keep a process alive that failed
    watcher.start()
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (min(count, 300), 3, side, side), dtype=torch.uint8, generator=draw)
    images = ImageSet.from_pixels(pixels)[np.arange(count) % len(pixels)]
    train_set = GaussianNoiseDataset(images, crop=crop or None, flip=True)
    start = time.perf_counter()
    for first in range(0, count, batch):
        train_set.batch(list(range(first, min(first + batch, count))))
    data = time.perf_counter() - start
    few = GaussianNoiseDataset(images[:batch], crop=crop or None, flip=True)
    model = UNet(widths=(width, 2 * width, 4 * width))
    list(train(model, few, None, TrainConfig(epochs=2, batch=batch)))  # warms up
    start = clock()
    list(train(model, train_set, None, TrainConfig(epochs=epochs, batch=batch)))
    seconds = clock() - start
    done.set()
    watcher.join()
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak - before
    return dict(seconds=seconds, data=data * epochs, memory=memory / 1e6)


def grow(name: str, values: list, **others) -> dict[str, list[tuple[float, float]]]:
    """`cost` at each value of one of its arguments: "seconds", "data", "memory" -> points (value, figure).

    others: the rest of its arguments. Each value in a process of its own, as a process does not give back all of
    what it once took.
    """
    able = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if able else "spawn")
    if able:
        # imported once, not by each process, where it would count as memory: the last is what an optimizer imports
        context.set_forkserver_preload(["src", "limits", "torch._dynamo"])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        found = [pool.submit(cost, **others | {name: value}).result() for value in values]
    return {kind: [(value, row[kind]) for value, row in zip(values, found)] for kind in found[0]}


def slope(points: list[tuple[float, float]]) -> float:
    """Of a straight line through the points on logarithmic axes: 1 for proportional, 0 for flat."""
    if len(points) < 2:
        return float("nan")
    return np.polyfit(*np.log(np.array(points)).T, 1)[0]
