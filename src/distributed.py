"""Several processes that train one network together, started by torchrun; all of it does nothing for a single one.

    torchrun --nproc-per-node=2 -m src.train -- --run denoise

Each process takes its part of every batch, and torch's DistributedDataParallel averages the gradients. An image's noise
does not depend on who draws it, so the run is that of one process, but for rounding.
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
    if gpus:
        if local >= gpus:
            raise ValueError(f"process {local} found {gpus} GPUs, expected one each; use --nproc-per-node={gpus}")
        torch.cuda.set_device(local)
    store, rank, world = next(dist.rendezvous("env://"))
    # The agent's store outlives a killed worker; under a name of their own, restarted ones do not find the addresses
    # of the dead in it (pytorch issue 135712).
    store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("nccl" if gpus else "gloo", store=store, rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def averaging(model: nn.Module) -> nn.Module:
    """The model with gradients averaged over the processes as they are computed."""
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, [torch.cuda.current_device()] if torch.cuda.is_available() else None)


def share(batch: list[int]) -> tuple[list[int], int, float]:
    """This process's part of a batch, how many of its images count, and the factor of its loss.

    Scaled by it, the mean over processes of the gradients is the mean over the batch's images. A process without an
    image gets one that does not count: it must take part in the averaging.
    """
    part = batch[rank() :: world_size()]
    return part or batch[:1], len(part), len(part) * world_size() / len(batch)


def total(sums: Tensor) -> Tensor:
    """The sum over all processes."""
    if world_size() > 1:
        dist.all_reduce(sums)
    return sums


def in_turn(function: Callable):
    """Call the function everywhere, but first in one process a machine: the rest find what it has cached.

    An error in any process ends all: it is raised where it happened first, the others end with SystemExit.
    """
    if world_size() == 1:
        return function()
    for leads in (True, False):
        error = None
        if (os.environ["LOCAL_RANK"] == "0") == leads:
            try:
                result = function()
            except Exception as caught:
                error = caught
        failed = [None] * world_size()
        dist.all_gather_object(failed, error is not None)
        if error is not None and rank() == failed.index(True):
            raise error
        if any(failed):
            raise SystemExit(1)
    return result


def from_first(function: Callable):
    """Call the function in process 0 alone; every process gets its result. Its error, or Ctrl-C, ends them all."""
    if world_size() == 1:
        return function()
    box = [("failed", None)]
    try:
        if rank() == 0:
            box = [("result", function())]
    finally:
        dist.broadcast_object_list(box)
    if box[0][0] == "failed":
        raise SystemExit(1)
    return box[0][1]
