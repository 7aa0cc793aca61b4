"""The networks that are compared: sizes, parameters counted by hand, the layers that each ablation lacks, seeds."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from src.config import TrainConfig
from src.files.fingerprint import network_fingerprint
from src.loop import training_loop
from src.networks import (
    Autoencoder,
    BatchNormUNet,
    DnCNN,
    MaskUNet,
    NoiseLevelNormalised,
    NoResidualUNet,
    NoSkipNoResidualUNet,
    NoSkipUNet,
    UNet2021,
    deepened,
)
from src.networks.noise_level import with_sigma_channel
from src.noise import GaussianNoiseDataset
from src.unet import UNet

SMALL = {
    "2021": lambda seed=0: UNet2021(3, (4, 8, 12), seed=seed),
    "2021, no BatchNorm": lambda seed=0: UNet2021(3, (4, 8, 12), batch_norm=False, seed=seed),
    "mask": lambda seed=0: MaskUNet(3, 3, (4, 8, 12), seed=seed),
    "no skip": lambda seed=0: NoSkipUNet(3, (4, 8, 12), seed=seed),
    "no residual": lambda seed=0: NoResidualUNet(3, (4, 8, 12), seed=seed),
    "neither": lambda seed=0: NoSkipNoResidualUNet(3, (4, 8, 12), seed=seed),
    "BatchNorm": lambda seed=0: BatchNormUNet(3, (4, 8, 12), blocks=2, seed=seed),
    "autoencoder": lambda seed=0: Autoencoder(latent=28, seed=seed),
    "DnCNN": lambda seed=0: DnCNN(depth=4, width=8, seed=seed),
    "noise-level normalised": lambda seed=0: NoiseLevelNormalised(UNet(3, (4, 8, 12), seed=seed)),
}
each = pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@each
@torch.no_grad()
def test_any_size_comes_back(network):
    model = network().eval()
    for size in [(1, 1), (1, 9), (7, 5), (33, 47), (64, 64)]:
        assert model(torch.rand(2, 3, *size)).shape == (2, 3, *size)
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        model(torch.rand(3, 8, 8))


@each
def test_a_seed_decides_the_weights_and_a_config_builds_them_again(network):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, other = network(seed=1), network(seed=2)
    assert torch.equal(torch.rand(3), expected)  # the global generator is left alone
    again = type(first)(**first.config)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))
    assert network_fingerprint(first) == network_fingerprint(again) != network_fingerprint(other)


@each
def test_an_output_depends_on_nothing_beyond_the_receptive_radius(network):
    model = network().eval()
    if not hasattr(model, "receptive_radius"):
        pytest.skip("no tiles for an autoencoder: it is only compared")
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    size = 4 * model.receptive_radius
    noisy = torch.rand(1, 3, size, size, requires_grad=True)
    given = with_sigma_channel(noisy, 0.1) if isinstance(model, NoiseLevelNormalised) else noisy
    for place in range(size // 2, size // 2 + model.stride):
        noisy.grad = None
        model(given)[..., place].sum().backward(retain_graph=True)
        columns = noisy.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        assert (columns - place).abs().max() <= model.receptive_radius


def test_networks_have_the_parameters_counted_by_hand():
    def double(a, b):  # two 3x3 convolutions without bias, each with a BatchNorm's scale and shift
        return 9 * a * b + 2 * b + 9 * b * b + 2 * b

    steps = list(pairwise([64, 128, 256, 512, 1024]))
    down = double(3, 64) + sum(double(a, b) for a, b in steps)
    up = sum(4 * b * a + a + double(2 * a, a) for a, b in steps)
    assert parameters(UNet2021()) == down + up + 64 * 3 + 3 == 31_037_763
    first, between, last = 9 * 3 * 64 + 64, 15 * (9 * 64 * 64 + 2 * 64), 9 * 64 * 3
    assert parameters(DnCNN()) == first + between + last == 558_400
    down = sum(9 * a * b + b for a, b in [(3, 16), (16, 32), (32, 64)])
    up = sum(4 * a * b + b for a, b in [(64, 32), (32, 16), (16, 16)])
    assert parameters(Autoencoder(latent=28)) == down + up + 9 * 16 * 3 + 3
    assert parameters(NoSkipUNet()) == parameters(NoResidualUNet()) == parameters(UNet())


@pytest.mark.parametrize("latent, width", [(7, 256), (14, 128), (28, 64)])
def test_latent_grid_of_an_image_of_2021(latent, width):
    with torch.no_grad():
        assert Autoencoder(latent=latent).encoder(torch.rand(1, 3, 224, 224)).shape == (1, width, latent, latent)
    with pytest.raises(ValueError, match="latent must be 7, 14 or 28, got 8"):
        Autoencoder(latent=8)


@torch.no_grad()
def test_without_skips_all_passes_the_coarsest_level():
    for model in (SMALL["no skip"](), SMALL["neither"]()):
        torch.nn.init.normal_(model.tail.weight)
        torch.nn.init.zeros_(model.up[0].weight)
        noisy = torch.rand(1, 3, 32, 32)
        drawn = model(noisy) - (noisy if isinstance(model, NoSkipUNet) else 0)
        assert drawn[..., 8:-8, 8:-8].std(dim=(2, 3)).max() < 1e-6
    model = SMALL["no residual"]()  # whose skips go round it
    torch.nn.init.zeros_(model.up[0].weight)
    assert model(torch.rand(1, 3, 32, 32)).std() > 1e-4


@torch.no_grad()
def test_a_residual_output_starts_as_the_identity():
    noisy = torch.rand(2, 3, 16, 16)
    for name in ("no skip", "BatchNorm", "DnCNN", "noise-level normalised"):
        torch.testing.assert_close(SMALL[name]().eval()(noisy), noisy)
    for name in ("2021", "mask", "no residual", "neither", "autoencoder"):
        assert (SMALL[name]().eval()(noisy) - noisy).abs().max() > 0.1


def test_a_mask_has_channels_of_its_own():
    assert MaskUNet(3, 1, (4, 8))(torch.rand(2, 3, 9, 14)).shape == (2, 1, 9, 14)
    with pytest.raises(ValueError, match="out_channels must be a whole number at least 1, got 0"):
        MaskUNet(3, 0)


@pytest.mark.parametrize("network", [UNet, NoResidualUNet])
@torch.no_grad()
def test_a_deepened_network_does_the_same_at_first(network):
    shallow, deep = network(widths=(4, 8, 12), seed=1), network(widths=(4, 8, 12), blocks=3, seed=2)
    torch.nn.init.normal_(shallow.tail.weight)
    deep.load_state_dict(deepened(shallow.state_dict(), deep))
    noisy = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(deep(noisy), shallow(noisy))
    with pytest.raises(RuntimeError, match="Missing key"):
        deep.load_state_dict(deepened({k: v for k, v in shallow.state_dict().items() if "down" not in k}, deep))


@pytest.mark.parametrize("name, epochs", [("autoencoder", 40), ("DnCNN", 20)])
def test_it_learns_in_our_loop(name, epochs):
    clean = torch.linspace(0.2, 0.8, 32).expand(8, 3, 32, 32)
    train_set = GaussianNoiseDataset(clean, sigma=0.2, seed=0)
    test_set = GaussianNoiseDataset(clean[:2], sigma=0.2, seed=1, fixed=True)
    history = list(training_loop(SMALL[name](), train_set, test_set, TrainConfig(epochs=epochs, batch_size=4)))
    assert history[-1]["psnr"] > -20 * np.log10(0.2) + 2
