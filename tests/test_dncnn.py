"""DnCNN has the published shape, keeps sizes, repeats by seed and learns in the project's loop."""

import pytest
import torch

from src import DnCNN, GaussianNoiseDataset, TrainConfig, fit, train


def test_parameters_are_those_counted_by_hand():
    first, last = 9 * 3 * 64 + 64, 9 * 64 * 3
    between = 15 * (9 * 64 * 64 + 2 * 64)  # no bias, a BatchNorm's scale and shift
    model = DnCNN()
    assert sum(p.numel() for p in model.parameters()) == first + between + last == 558_400
    kinds = [type(layer).__name__ for layer in model.body]
    assert kinds == ["Conv2d", "ReLU"] + ["Conv2d", "BatchNorm2d", "ReLU"] * 15 + ["Conv2d"]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 48)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back(size, channels):
    model = DnCNN(channels, depth=4, width=8).eval()
    with torch.no_grad():
        assert model(torch.rand(2, channels, *size)).shape == (2, channels, *size)


def test_what_is_predicted_is_the_noise():
    model = DnCNN(depth=3, width=4).eval()
    noisy = torch.rand(1, 3, 8, 8)
    assert torch.equal(model(noisy), noisy)  # untrained: no noise predicted, none taken away
    torch.nn.init.ones_(model.body[-1].weight)
    assert torch.allclose(noisy - model(noisy), model.body(noisy), atol=1e-6)


def test_seed_decides_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (DnCNN(depth=3, width=4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters()))
    again = DnCNN(**a.config)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), again.parameters()))


def test_it_learns_in_our_loop_and_its_config_keys_the_run(tmp_path):
    clean = torch.linspace(0.2, 0.8, 32).expand(8, 3, 32, 32)
    train_set = GaussianNoiseDataset(clean, sigma=0.2, seed=0)
    test_set = GaussianNoiseDataset(clean[:2], sigma=0.2, seed=1, fixed=True)
    history = list(train(DnCNN(depth=4, width=16), train_set, test_set, TrainConfig(epochs=20, batch=4)))
    assert history[-1]["psnr"] > 13.98 + 3 and history[-1]["train_mse"] < history[0]["train_mse"]
    small = TrainConfig(epochs=1, batch=4)
    fit(DnCNN(depth=3, width=4), train_set, test_set, small, run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"network\.depth is 3, not 4"):
        fit(DnCNN(depth=4, width=4), train_set, test_set, small, run=tmp_path / "run")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(channels=0), "channels must be a whole number >= 1, got 0"),
        (dict(depth=1), "depth must be a whole number >= 2, got 1"),
        (dict(width="64"), "width must be a whole number >= 1, got '64'"),
        (dict(seed=0.5), "seed must be a whole number, got 0.5"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        DnCNN(**arguments)
    with pytest.raises(ValueError, match=r"the network takes \[B, 3, H, W\], got \[3, 8, 8\]"):
        DnCNN(depth=2, width=2)(torch.rand(3, 8, 8))
