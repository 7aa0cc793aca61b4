"""The processor or GPU that the networks run on: the machine's affair, never a config's."""

import os
import platform
from contextlib import nullcontext

import torch
from torch import Tensor

# Large tensors in pages of 2 MiB, read by torch when it first allocates: Linux otherwise hands them out by 4 KiB, which
# took a tenth of the time of a 20 megapixel picture on a processor without bfloat16 (PROGRESS.md).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def device() -> torch.device:
    """The GPU if there is one. Never part of a config: a run may move between machines."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(where: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32: emulated, it is 400 times slower."""
    if where.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        native = any(able.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if native else torch.float32


def autocast(where: torch.device):
    """The convolutions in `precision`; weights, sums and losses stay float32."""
    dtype = precision(where)
    return nullcontext() if dtype == torch.float32 else torch.autocast(where.type, dtype)


def memory_format(shape: tuple[int, int, int]) -> torch.memory_format:
    """How the tensors of a training on pictures of this shape (C, H, W) lie in memory: by pixel, or by channel.

    By pixel is what bfloat16 units want. In float32 on a processor it makes the gradient of the weights two
    to four times slower on large pictures (PROGRESS.md), and is a little faster on small ones.
    """
    where = device()
    by_channel = where.type == "cpu" and precision(where) == torch.float32 and shape[1] * shape[2] > 128 * 128
    return torch.contiguous_format if by_channel else torch.channels_last


def to_device(x: Tensor, where: torch.device, layout=torch.channels_last) -> Tensor:
    return x.to(where, memory_format=layout, non_blocking=True)


def environment() -> dict:
    """Where a run took place; recorded, not part of the key."""
    where = device()
    name = torch.cuda.get_device_name() if where.type == "cuda" else torch.cpu.get_capabilities().get("cpu_name", "")
    return dict(
        device=where.type, processor=name.strip() or platform.machine(), threads=torch.get_num_threads(),
        precision=str(precision(where)).removeprefix("torch."), torch=str(torch.__version__),
        python=platform.python_version(), system=platform.system(),
    )  # fmt: skip
