"""The UNet keeps sizes, starts as the identity, sees as far as it says, and leaves the global generator alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from src.files import ROOT
from src.unet import ResidualBlock, UNet, pad_to_multiple, seeded


def moved(model, seed=0):
    """The model with its last convolution, zero at first, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(model.tail.weight, std=0.1, generator=generator)
    return model.eval()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (33, 47), (64, 64), (100, 100)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_any_size_comes_back(size, blocks):
    model = UNet(channels=3, widths=(4, 8, 12), blocks=blocks)
    with torch.no_grad():
        assert model(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_an_empty_batch_comes_back():
    assert UNet(widths=(4, 8))(torch.rand(0, 3, 8, 8)).shape == (0, 3, 8, 8)


def test_the_parameters_are_those_counted_by_hand():
    """The default network: 3x3 convolutions with bias, 2x2 ones between the levels."""

    def convolution(a, b, side=3):
        return side * side * a * b + b

    widths, steps = [24, 48, 96, 128], [(24, 48), (48, 96), (96, 128)]
    head_and_tail = convolution(3, 24) + convolution(24, 3)
    down_and_up = sum(convolution(a, b, 2) + convolution(b, a, 2) for a, b in steps)
    encoder = sum(2 * convolution(width, width) for width in widths[1:])  # none at the finest
    decoder = sum(2 * convolution(width, width) for width in widths[:-1])
    assert sum(p.numel() for p in UNet().parameters()) == head_and_tail + down_and_up + encoder + decoder


def test_seed_decides_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = UNet(widths=(4, 8), seed=1), UNet(widths=(4, 8), seed=1), UNet(widths=(4, 8), seed=2)
    with seeded(3):
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters()))


def test_a_seed_beyond_64_bits_is_refused_in_one_line():
    assert UNet(widths=(4,), seed=2**64 - 1).config["seed"] == 2**64 - 1
    with pytest.raises(ValueError, match=r"^seed must be a whole number from 0 to .*, got 118"):
        UNet(widths=(4,), seed=2**70)


def test_numpys_numbers_become_pythons_in_the_config():
    config = UNet(np.int64(1), np.array([4, 8]), np.int8(1), seed=np.int64(3)).config
    assert json.loads(json.dumps(config)) == dict(channels=1, widths=[4, 8], blocks=1, seed=3)


def test_gradients_reach_every_parameter():
    model = UNet(widths=(4, 8, 12))
    torch.nn.init.ones_(model.tail.weight)  # at zero it would block the first step's gradient
    model(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("widths, blocks", [((4,), 1), ((4, 8), 1), ((4, 8, 12), 1), ((4, 8), 3)])
def test_no_pixel_beyond_the_receptive_radius_matters_and_the_farthest_within_does(widths, blocks):
    model = moved(UNet(1, widths, blocks)).double()
    for name, weight in model.named_parameters():  # all positive, so that no influence cancels or is cut off by a ReLU
        torch.nn.init.constant_(weight, 0.1 if name.endswith("weight") else 1.0)
    radius, side = model.receptive_radius, 2 * model.receptive_radius + 4 * model.stride + 1
    farthest = 0
    for shift in range(model.stride):  # where a pixel lies within its coarsest cell matters
        x = torch.full((1, 1, 1, side), 0.5, dtype=torch.float64, requires_grad=True)
        model(x)[..., side // 2 + shift].sum().backward()
        reached = x.grad[0, 0, 0].nonzero().flatten() - side // 2 - shift
        farthest = max(farthest, int(reached.abs().max()))
    assert farthest <= radius and farthest >= radius - model.stride


def test_a_residual_block_adds_its_body():
    block, x = ResidualBlock(4), torch.rand(1, 4, 5, 6)
    assert torch.allclose(block(x.clone()), x + block.body(x.clone()))


def test_padding_repeats_the_border_and_is_cut_off():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert pad_to_multiple(x, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert torch.equal(pad_to_multiple(x, 1), x)
    model, noisy = moved(UNet(widths=(4, 8, 12))), torch.rand(1, 3, 21, 30)
    with torch.no_grad():
        padded = model(torch.nn.functional.pad(noisy, (0, 2, 0, 3), mode="replicate"))
        torch.testing.assert_close(model(noisy), padded[..., :21, :30])


def test_float64_under_a_default_of_float64():
    """torch.set_default_dtype(float64) makes a network of float64, which takes float64."""
    torch.set_default_dtype(torch.float64)
    try:
        out = UNet(widths=(4, 8))(torch.rand(1, 3, 9, 9))
    finally:
        torch.set_default_dtype(torch.float32)
    assert out.dtype == torch.float64


def test_importing_the_unet_loads_what_a_unet_needs():
    program = (
        "import sys, random, torch; before = random.getstate(), torch.get_rng_state(); import src.unet;"
        "assert random.getstate() == before[0] and (torch.get_rng_state() == before[1]).all();"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'src'))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "['src', 'src.files', 'src.unet']"
