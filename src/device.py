"""The processor or GPU that networks run on, and the precision: the machine's affair, never part of a config."""

import os
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

# Large tensors in pages of 2 MiB, read by torch when it first allocates. With Linux's 4 KiB a tenth of the time of a
# 20 megapixel image was page faults on a processor without bfloat16 (PROGRESS.md).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether bfloat16 products are faster than float32 ones here, measured once a process.

    Names mislead: some processors emulate bfloat16 that they report, hundreds of times slower.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(256, 256, dtype=dtype)
        x @ x
        start = time.perf_counter()
        for _ in range(3):
            x @ x
        seconds[dtype] = time.perf_counter() - start
        if seconds[dtype] > 0.5:
            break
    return seconds.get(torch.bfloat16, float("inf")) < 1.2 * seconds[torch.float32]


def precision(where: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32. MPS: float32 (bfloat16 is untested there)."""
    if where.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = where.type == "cpu" and cpu_multiplies_bfloat16()
    return torch.bfloat16 if native else torch.float32


def autocast(where: torch.device) -> AbstractContextManager:
    """Convolutions in `precision`; weights, sums and losses stay float32."""
    dtype = precision(where)
    return nullcontext() if dtype == torch.float32 else torch.autocast(where.type, dtype)


def memory_format(shape: tuple[int, int, int]) -> torch.memory_format:
    """Memory format of a run on images of this shape (C, H, W).

    bfloat16 units want channels last. In float32 on a CPU channels last makes the weight gradient of large images two
    to four times slower (PROGRESS.md), so images above 128x128 stay channels first there.
    """
    where = device()
    channels_first = where.type == "cpu" and precision(where) == torch.float32 and shape[1] * shape[2] > 128 * 128
    return torch.contiguous_format if channels_first else torch.channels_last


def to_device(x: Tensor, where: torch.device, layout: torch.memory_format = torch.channels_last) -> Tensor:
    """[B, C, H, W] on the device, in that memory format."""
    return x.to(where, memory_format=layout, non_blocking=True)


def environment() -> dict[str, str | int]:
    """Where a run takes place: recorded, never part of its fingerprint."""
    where = device()
    name = torch.cuda.get_device_name() if where.type == "cuda" else torch.cpu.get_capabilities().get("cpu_name", "")
    return dict(
        device=where.type, processor=name.strip() or platform.machine(), threads=torch.get_num_threads(),
        precision=str(precision(where)).removeprefix("torch."), torch=str(torch.__version__),
        python=platform.python_version(), system=platform.system(),
    )  # fmt: skip
