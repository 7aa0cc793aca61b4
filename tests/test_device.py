"""The device and its precision are the machine's affair; on this machine they are what they say."""

import time

import pytest
import torch

from src import device as module
from src.device import autocast, device, environment, memory_format, precision, to_device

CPU = torch.device("cpu")


def test_the_device_is_there():
    assert torch.zeros(1, device=device()).device.type == device().type


def test_bfloat16_is_taken_only_where_it_is_not_slower():
    """Names mislead: a processor may report it and emulate it."""
    if precision(CPU) == torch.bfloat16:
        x = torch.ones(512, 512)
        seconds = []
        for dtype in (torch.float32, torch.bfloat16):
            y = x.to(dtype)
            y @ y
            start = time.perf_counter()
            for _ in range(5):
                y @ y
            seconds.append(time.perf_counter() - start)
        assert seconds[1] < 3 * seconds[0]


def test_autocast_is_in_that_precision_and_the_weights_stay_float32(monkeypatch):
    convolution, x = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(module, "precision", lambda where, dtype=dtype: dtype)
        with autocast(CPU):
            assert convolution(x).dtype == dtype
        assert convolution.weight.dtype == torch.float32 and convolution(x).dtype == torch.float32


@pytest.mark.parametrize("kind, dtype, side, expected", [
    ("cpu", torch.float32, 64, torch.channels_last),
    ("cpu", torch.float32, 128, torch.channels_last),
    ("cpu", torch.float32, 256, torch.contiguous_format),  # whose weight gradient would take two to four times as long
    ("cpu", torch.bfloat16, 256, torch.channels_last),
    ("cuda", torch.bfloat16, 256, torch.channels_last),
])  # fmt: skip
def test_the_memory_format_of_a_run(monkeypatch, kind, dtype, side, expected):
    monkeypatch.setattr(module, "device", lambda: torch.device(kind))
    monkeypatch.setattr(module, "precision", lambda where: dtype)
    assert memory_format((3, side, side)) == expected


def test_moving_keeps_values_and_takes_the_format():
    x = torch.rand(2, 3, 4, 5)
    moved = to_device(x, CPU)
    assert torch.equal(moved, x) and moved.is_contiguous(memory_format=torch.channels_last)
    assert to_device(x, CPU, torch.contiguous_format).is_contiguous()


def test_the_environment_is_plain_and_names_what_bits_depend_on():
    found = environment()
    assert {"device", "processor", "threads", "precision", "torch"} <= found.keys()
    assert all(type(value) in (str, int) and value != "" for value in found.values())
    assert found["threads"] == torch.get_num_threads() and found["torch"] == str(torch.__version__)


@pytest.mark.gpu
def test_a_gpu_is_found():
    assert device().type == "cuda" and environment()["device"] == "cuda"
