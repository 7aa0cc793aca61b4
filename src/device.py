"""The processor or GPU that networks run on, and the precision: the machine's affair, never part of a config."""

import os
import platform
import timeit
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

# 2 MiB pages for large tensors: with 4 KiB, page faults take a tenth of the time at 20 megapixels (PROGRESS.md)
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether bfloat16 products are fast here, measured once a process: some processors report and emulate them."""
    x, y = (torch.ones(256, 256, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    rounds = [(timeit.timeit(lambda: x @ x, number=1), timeit.timeit(lambda: y @ y, number=1)) for _ in range(9)]
    float32, bfloat16 = (min(seconds) for seconds in zip(*rounds[1:]))  # in turn and the fastest: others may be busy
    return bfloat16 < 0.9 * float32


def precision(where: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32. MPS: float32 (bfloat16 is untested there)."""
    native = where.type == "cpu" and cpu_multiplies_bfloat16()
    if where.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def autocast(where: torch.device) -> AbstractContextManager:
    """Convolutions in `precision`; weights, sums and losses stay float32."""
    dtype = precision(where)
    return nullcontext() if dtype == torch.float32 else torch.autocast(where.type, dtype)


def memory_format(shape: tuple[int, int, int]) -> torch.memory_format:
    """Channels last, but first for images (C, H, W) above 128x128 in float32 on a CPU, where the weight gradient is
    otherwise two to four times slower (PROGRESS.md)."""
    where = device()
    channels_first = where.type == "cpu" and precision(where) == torch.float32 and shape[1] * shape[2] > 128 * 128
    return torch.contiguous_format if channels_first else torch.channels_last


def to_device(x: Tensor, where: torch.device, layout: torch.memory_format = torch.channels_last) -> Tensor:
    return x.to(where, memory_format=layout, non_blocking=True)


def environment() -> dict[str, str | int]:
    """Where a run takes place: recorded, never part of its fingerprint."""
    where = device()
    cpu = getattr(torch.cpu, "get_capabilities", dict)()  # absent from torch 2.6
    name = torch.cuda.get_device_name() if where.type == "cuda" else cpu.get("cpu_name", "")
    return dict(
        device=where.type, processor=name.strip() or platform.machine(), threads=torch.get_num_threads(),
        precision=str(precision(where)).removeprefix("torch."), torch=str(torch.__version__),
        python=platform.python_version(), system=platform.system(),
    )  # fmt: skip
