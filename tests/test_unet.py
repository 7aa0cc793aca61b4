"""The UNet keeps sizes, starts as the identity, and expresses the network of 2021."""

from itertools import pairwise

import pytest
import torch

from src import UNet, estimate_sigma
from src.unet import deepened

OF_2021 = dict(widths=(64, 128, 256, 512, 1024), block="double", norm="batch", residual=False)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (33, 47), (64, 64), (100, 100)])
@pytest.mark.parametrize("block", ["residual", "double"])
def test_any_size_comes_back(size, block):
    model = UNet(channels=3, widths=(4, 8, 12), block=block)
    with torch.no_grad():
        assert model(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_network_of_2021_has_the_parameters_counted_by_hand():
    def double(a, b):  # two 3x3 convolutions without bias, each with a BatchNorm's scale and shift
        return 9 * a * b + 2 * b + 9 * b * b + 2 * b

    steps = list(pairwise([64, 128, 256, 512, 1024]))
    down = double(3, 64) + sum(double(a, b) for a, b in steps)
    up = sum(4 * b * a + a + double(2 * a, a) for a, b in steps)
    expected = down + up + 64 * 3 + 3
    model = UNet(**OF_2021)
    assert sum(p.numel() for p in model.parameters()) == expected == 31_037_763


def test_seed_decides_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = UNet(widths=(4, 8), seed=1), UNet(widths=(4, 8), seed=1), UNet(widths=(4, 8), seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters()))


def test_gradients_reach_every_parameter():
    model = UNet(widths=(4, 8, 12))
    torch.nn.init.ones_(model.tail.weight)  # at zero it would block the first step's gradient
    model(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_skip_false_is_an_autoencoder():
    """Without skips every path runs through the coarsest level, so its zeroing makes the output flat."""
    model = UNet(widths=(4, 8), skip=False, residual=False)
    torch.nn.init.zeros_(model.up[0].weight)
    out = model(torch.rand(1, 3, 32, 32))[..., 8:-8, 8:-8]
    assert out.std(dim=(2, 3)).max() < 1e-6


def test_outputs_are_channels_of_their_own():
    mask = UNet(3, (4, 8), residual=False, outputs=1)
    assert mask(torch.rand(2, 3, 9, 14)).shape == (2, 1, 9, 14)
    assert UNet(**mask.config).tail.weight.shape == (1, 4, 3, 3)
    assert "outputs" not in UNet(3, (4, 8)).config  # or no run from before it would be found again
    with pytest.raises(ValueError, match=r"added to 1 outputs of 3 channels; residual=False"):
        UNet(3, (4, 8), outputs=1)
    for wrong in (0, 2.5, "1"):
        with pytest.raises(ValueError, match=f"outputs must be a whole number, at least 1, got {wrong!r}"):
            UNet(3, (4, 8), outputs=wrong, residual=False)


def conditioned(**more):
    model = UNet(widths=(4, 8, 12), conditioned=True, **more)
    torch.nn.init.normal_(model.tail.weight, generator=torch.Generator().manual_seed(0))
    return model.eval()


@torch.no_grad()
def test_a_conditioned_network_works_in_units_of_the_noise():
    """At the reference it is the plain network; contrast and sigma doubled double what it takes away."""
    model, noisy = conditioned(), torch.rand(2, 3, 16, 16)
    plain = UNet(widths=(4, 8, 12))
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(noisy, 25 / 255), plain(noisy))
    removed = model(noisy, 0.1) - noisy
    doubled = 0.5 + 2 * (noisy - 0.5)
    torch.testing.assert_close(model(doubled, 0.2) - doubled, 2 * removed)
    assert (model(noisy, 0.2) - noisy - removed).abs().max() > 0.01  # which sigma matters


@torch.no_grad()
def test_sigma_of_each_picture_is_told_or_estimated():
    model = conditioned()
    noisy = torch.rand(2, 3, 40, 40) * torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1)
    both = model(noisy, torch.tensor([0.1, 0.2]))
    for picture, sigma, expected in zip(noisy, (0.1, 0.2), both):
        torch.testing.assert_close(model(picture[None], sigma)[0], expected)
    assert torch.equal(model(noisy), model(noisy, estimate_sigma(noisy)))
    assert model(torch.rand(1, 3, 1, 1)).isfinite().all() and torch.equal(model(noisy, 0.0), model(noisy, 2 / 255))
    assert model(torch.rand(0, 3, 8, 8)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    "sigma, message",
    [(25, "did you mean 25/255"), (-1, "must be in"), (float("nan"), "must be in"), ("loud", "must be a number"),
     (torch.ones(3) / 10, r"one for each of 2 pictures, got \[3\]")],
)  # fmt: skip
def test_sigma_must_be_one(sigma, message):
    with pytest.raises(ValueError, match=message):
        conditioned()(torch.rand(2, 3, 8, 8), sigma)
    with pytest.raises(ValueError, match=r"takes no sigma, got 0\.1"):
        UNet(widths=(4, 8))(torch.rand(2, 3, 8, 8), 0.1)


def test_conditioned_is_for_what_predicts_the_noise():
    with pytest.raises(ValueError, match="conditioned needs residual=True"):
        UNet(widths=(4, 8), conditioned=True, residual=False)
    assert "conditioned" not in UNet(widths=(4, 8)).config and conditioned().config["conditioned"]


@pytest.mark.parametrize("more", [dict(), dict(conditioned=True), dict(norm="batch")])
@torch.no_grad()
def test_deeper_it_does_the_same_at_first(more):
    shallow, deep = UNet(widths=(4, 8, 12), seed=1, **more), UNet(widths=(4, 8, 12), blocks=3, seed=2, **more)
    torch.nn.init.normal_(shallow.tail.weight)
    deep.load_state_dict(deepened(shallow.state_dict(), deep))
    noisy = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(deep.eval()(noisy), shallow.eval()(noisy))
    with pytest.raises(RuntimeError, match="Missing key"):
        deep.load_state_dict(deepened({k: v for k, v in shallow.state_dict().items() if "down" not in k}, deep))
    assert sum(p.numel() for p in deep.parameters()) > 2 * sum(p.numel() for p in shallow.parameters())
