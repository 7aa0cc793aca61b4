"""Several processes that train one network together, started by torchrun; all of it does nothing for a single one.

    torchrun --nproc-per-node=2 -m src.train -- --run denoise

Each takes its part of every batch, and the gradients are averaged: the run of one process, but for rounding.
"""

import os
from collections.abc import Callable
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def process_group():
    """Join the processes that torchrun started, and leave them at the end; nothing without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if 0 < gpus <= local:
        raise ValueError(f"process {local} found {gpus} GPUs, expected one each; use --nproc-per-node={gpus}")
    if gpus:
        torch.cuda.set_device(local)
    store, rank, world = next(dist.rendezvous("env://"))
    # the agent's store outlives a killed worker; restarted ones must not find its address there (pytorch issue 135712)
    store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("nccl" if gpus else "gloo", store=store, rank=rank, world_size=world)
    try:
        yield
        store.set(f"finished {rank}", "")  # one that closed its connections first could cut off another's last message
        store.wait([f"finished {other}" for other in range(world)])
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def averaging(model: nn.Module) -> nn.Module:
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, [torch.cuda.current_device()] if torch.cuda.is_available() else None)


def part_of(batch: list[int]) -> tuple[list[int], int, float]:
    """(indices of this process, how many of them count, factor of their mean loss). With the factor, the gradients
    averaged over the processes are the batch's. A process without an index gets one at factor 0, as all must take part.
    """
    part = batch[rank() :: world_size()]
    return part or batch[:1], len(part), len(part) * world_size() / len(batch)


def total(sums: Tensor) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(sums)
    return sums


def from_first(function: Callable):
    """Call the function in process 0 alone; every process gets its result. Its error, or Ctrl-C, ends them all."""
    if world_size() == 1:
        return function()
    box = [None]
    try:
        if rank() == 0:
            box = [(function(),)]
    finally:
        dist.broadcast_object_list(box)
    if box[0] is None:
        raise SystemExit(1)
    return box[0][0]
