"""The autoencoder has 2021's latent grids, keeps sizes, and knows nothing that did not pass through the grid."""

import pytest
import torch

from src import Autoencoder, GaussianNoiseDataset, TrainConfig, train


@pytest.mark.parametrize("latent, width", [(7, 256), (14, 128), (28, 64)])
def test_latent_grid_of_a_picture_of_2021(latent, width):
    with torch.no_grad():
        assert Autoencoder(latent=latent).encoder(torch.rand(1, 3, 224, 224)).shape == (1, width, latent, latent)


def test_parameters_are_those_counted_by_hand():
    down = sum(9 * a * b + b for a, b in [(3, 16), (16, 32), (32, 64)])
    up = sum(4 * a * b + b for a, b in [(64, 32), (32, 16), (16, 16)])
    model = Autoencoder(latent=28)
    assert sum(p.numel() for p in model.parameters()) == down + up + 9 * 16 * 3 + 3


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (64, 64), (100, 77)])
def test_any_size_comes_back(size):
    with torch.no_grad():
        assert Autoencoder(channels=1, latent=7)(torch.rand(2, 1, *size)).shape == (2, 1, *size)


def test_a_cell_is_all_it_knows():
    """Decoder and tail see neighbouring cells only, so a far change of the input changes nothing here."""
    model, x = Autoencoder(latent=28), torch.rand(1, 3, 96, 96)
    y = x.clone()
    y[..., 64:, 64:] = 0.5
    with torch.no_grad():
        a, b = model(x), model(y)
    assert torch.equal(a[..., :32, :32], b[..., :32, :32]) and not torch.equal(a[..., 64:, 64:], b[..., 64:, 64:])


def test_seed_decides_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (Autoencoder(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters()))
    again = Autoencoder(**a.config)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), again.parameters()))


def test_it_learns_in_our_loop():
    clean = torch.linspace(0.2, 0.8, 32).expand(8, 3, 32, 32)
    sets = GaussianNoiseDataset(clean, 0.2, 0), GaussianNoiseDataset(clean[:2], 0.2, 1, fixed=True)
    history = list(train(Autoencoder(latent=28), *sets, TrainConfig(epochs=60, batch=4)))
    assert history[-1]["psnr"] > 13.98 + 5


@pytest.mark.parametrize("wrong, words", [
    (dict(latent=8), "latent must be 7, 14 or 28, got 8"),
    (dict(channels=0), "channels must be a whole number >= 1, got 0"),
    (dict(seed=1.5), "seed must be a whole number, got 1.5"),
])  # fmt: skip
def test_wrong_arguments_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Autoencoder(**wrong)


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match=r"takes \[B, 3, H, W\], got \[3, 32, 32\]"):
        Autoencoder()(torch.rand(3, 32, 32))
