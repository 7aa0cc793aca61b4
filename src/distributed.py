"""Several processes that train one network together; everything here is a no-op for a single one.

`torchrun --nproc-per-node=2 -m src.train -- ...` starts the processes and tells each its rank in
environment variables. Gradients are averaged by torch's DistributedDataParallel; what a picture's
noise, crop and flip are does not depend on who draws them, so each process takes its share of
every batch and the training is that of one process, but for rounding.
"""

import contextlib
import os
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@contextlib.contextmanager
def group():
    """Join the processes that torchrun started, and leave them at the end; nothing without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    local = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise ValueError(f"process {local} found {count} GPUs, expected one each; use --nproc-per-node={count}")
        torch.cuda.set_device(local)
    store, rank, world = next(dist.rendezvous("env://"))
    # The agent's store outlives a killed worker; under a name of their own, the restarted ones do not
    # find the addresses of the dead in it (pytorch issue 135712).
    store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def averaging(model: nn.Module) -> nn.Module:
    """The model with gradients averaged over the processes as they are computed."""
    if world() == 1:
        return model
    return DistributedDataParallel(model, [torch.cuda.current_device()] if torch.cuda.is_available() else None)


def share(batch: list[int]) -> tuple[list[int], int]:
    """This process's part of a batch, and how many of its pictures count.

    A process without a picture gets one that does not count: it must take part in the averaging.
    """
    mine = batch[rank() :: world()]
    return mine or batch[:1], len(mine)


def total(sums: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        dist.all_reduce(sums)
    return sums


def in_turn(function: Callable[[], T]) -> T:
    """Call the function everywhere, but first in one process a machine: the rest find what it has cached."""
    if world() == 1:
        return function()
    leads = os.environ["LOCAL_RANK"] == "0"
    if leads:
        result = function()
    dist.barrier()
    return result if leads else function()


def from_first(function: Callable[[], T]) -> T:
    """Call the function in process 0 alone; every process gets its result.

    Its exception is raised there, where it is reported; the others end with SystemExit.
    """
    if world() == 1:
        return function()
    box = [None]
    try:
        if rank() == 0:
            box = [("result", function())]
    except Exception:
        box = [("failed", None)]
        raise
    finally:
        dist.broadcast_object_list(box)
    how, result = box[0]
    if how == "failed":
        raise SystemExit(1)
    return result
