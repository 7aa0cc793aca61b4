"""Held-out figures: the network's and the baselines', per image."""

import json
import sys

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from src import GaussianNoiseDataset, ImageSet, UNet, evaluate, psnr


@pytest.fixture(scope="module")
def photos():
    """Four 64x64 pieces of scikit-image's astronaut, sigma 0.1."""
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1)
    pieces = torch.stack([photo[:, y : y + 64, 180:244] for y in (0, 64, 128, 192)])
    return GaussianNoiseDataset(ImageSet.from_pixels(pieces), sigma=0.1, seed=1, fixed=True)


@pytest.fixture(scope="module")
def scores(photos):
    return evaluate(UNet(widths=(4, 8)), photos)


def test_the_pictures_are_the_right_way_round(photos, scores):
    """From file to score nothing turns or mirrors: what is compared is what was loaded."""
    assert torch.equal((scores.clean * 255).round().byte(), photos.images.pixels)
    assert (psnr(scores.denoised["unet"], photos.images.pixels / 255) > 19).all()
    assert (psnr(scores.denoised["unet"].transpose(2, 3), scores.clean) < 19).all()


def test_figures_are_scikit_images(scores):
    for name, images in {"noisy": scores.noisy, **scores.denoised}.items():
        for i, image in enumerate(images):
            clean = scores.clean[i].double().numpy()
            image = image.double().numpy()
            assert scores.psnr[name][i] == pytest.approx(peak_signal_noise_ratio(clean, image, data_range=1), abs=1e-3)
            expected = structural_similarity(
                clean, image, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )  # fmt: skip
            assert scores.ssim[name][i] == pytest.approx(expected, abs=1e-5)


def test_noisy_costs_what_the_law_says_and_the_filters_help(scores):
    mean = {name: value.mean().item() for name, value in scores.psnr.items()}
    assert mean["noisy"] == pytest.approx(20, abs=0.1)
    assert mean["noisy"] + 3 < mean["blur"] < mean["nlm"]
    assert all(len(value) == 4 for value in scores.psnr.values())


def test_an_untrained_network_only_clamps(scores):
    assert torch.equal(scores.denoised["unet"], scores.noisy.clamp(0, 1))


def test_the_table_names_each_method_with_its_mean(scores):
    lines = str(scores).splitlines()
    assert "4 held-out images" in lines[0]
    for name, value in scores.psnr.items():
        assert any(line.startswith(name) and f"{value.mean():.2f}" in line for line in lines[1:])


def test_the_record_of_a_run(photos, tmp_path):
    scores = evaluate(UNet(widths=(4, 8)), photos, baselines=False, run=tmp_path / "run")
    record = json.loads((tmp_path / "run/scores.json").read_text())
    assert set(record["psnr"]) == {"noisy", "unet"} and record["test_set"] == photos.config
    assert record["psnr"]["unet"]["mean"] == pytest.approx(scores.psnr["unet"].mean().item(), abs=1e-3)
    assert len(record["ssim"]["noisy"]["images"]) == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_bm3d_joins_when_installed(photos, monkeypatch, channels):
    pytest.importorskip("bm3d", reason="BM3D is not installed")
    grey = GaussianNoiseDataset(photos.images.pixels[:1, :channels] / 255, sigma=0.1, fixed=True)
    scores = evaluate(UNet(channels, widths=(4, 8)), grey)
    assert scores.psnr["bm3d"].mean() > scores.psnr["nlm"].mean()


def test_bm3d_is_not_required(photos, monkeypatch):
    monkeypatch.setattr(sys.modules["src.evaluate"], "find_spec", lambda name: None)
    assert set(evaluate(UNet(widths=(4, 8)), photos).psnr) == {"noisy", "blur", "nlm", "unet"}


def test_the_model_is_asked_in_evaluation_mode_and_left_in_its_own(photos):
    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.modes = []

        def forward(self, x):
            self.modes.append(self.training)
            return x * self.scale

    model = Watch().train()
    evaluate(model, photos, baselines=False)
    assert model.training and not any(model.modes)


def test_images_too_small_for_ssim():
    tiny = GaussianNoiseDataset(torch.full((1, 3, 8, 8), 0.5), fixed=True)
    with pytest.raises(ValueError, match="11x11"):
        evaluate(UNet(widths=(4,)), tiny)
    with pytest.raises(ValueError, match="11x11"):  # before any filter runs
        evaluate(UNet(widths=(4,)), GaussianNoiseDataset(torch.full((1, 3, 32, 32), 0.5), fixed=True, crop=8))


def test_a_record_cannot_hold_an_infinite_psnr(tmp_path):
    silent = GaussianNoiseDataset(torch.full((1, 3, 32, 32), 0.5), sigma=0, fixed=True)
    assert evaluate(UNet(widths=(4,)), silent, baselines=False).psnr["unet"].isinf().all()
    with pytest.raises(ValueError, match="sigma of the test set is 0"):
        evaluate(UNet(widths=(4,)), silent, baselines=False, run=tmp_path / "run")


def test_filters_are_told_one_sigma(photos):
    several = GaussianNoiseDataset(photos.images, sigma=(0.1, 0.3), fixed=True)
    with pytest.raises(ValueError, match=r"must be told one sigma, the test set has the range \(0.1, 0.3\)"):
        evaluate(UNet(widths=(4, 8)), several)
    assert set(evaluate(UNet(widths=(4, 8)), several, baselines=False).psnr) == {"noisy", "unet"}


def test_equal_at_every_call(photos):
    a, b = (evaluate(UNet(widths=(4, 8)), photos, baselines=False) for _ in range(2))
    assert np.array_equal(a.noisy, b.noisy) and torch.equal(a.psnr["unet"], b.psnr["unet"])
