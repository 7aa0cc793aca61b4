"""Held-out figures: the network's and the baselines', per image."""

import json

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from src.evaluation import LABELS, evaluate
from src.images import ImageSet
from src.metrics import psnr
from src.noise import GaussianNoiseDataset
from src.unet import UNet


@pytest.fixture(scope="module")
def photos():
    """Four 64x64 pieces of scikit-image's astronaut, sigma 0.1."""
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1)
    pieces = torch.stack([photo[:, y : y + 64, 180:244] for y in (0, 64, 128, 192)])
    return GaussianNoiseDataset(ImageSet.from_pixels(pieces), sigma=0.1, seed=1, fixed=True)


@pytest.fixture(scope="module")
def scores(photos):
    """Without BM3D, which takes seconds an image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.evaluation.find_spec", lambda name: None)
        return evaluate(UNet(widths=(4, 8)), photos)


def test_the_images_are_the_right_way_round(photos, scores):
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


def test_the_table_has_each_method_with_its_mean_the_best_last(scores):
    table = scores.table()
    order = sorted(scores.psnr, key=lambda name: scores.psnr[name].mean())
    assert table.index[0] == "noisy" and list(table.index) == [LABELS.get(name, name) for name in order]
    for name, value in scores.psnr.items():
        expected = [float(x) for x in (value.mean(), value.std(correction=0), scores.ssim[name].mean())]
        assert table.loc[LABELS.get(name, name)].tolist() == pytest.approx(expected, abs=6e-3)
    assert str(scores) == table.to_string()


def test_the_record_of_a_run(photos, tmp_path):
    scores = evaluate(UNet(widths=(4, 8)), photos, baselines=False, run=tmp_path / "run")
    record = json.loads((tmp_path / "run/scores.json").read_text())
    assert set(record["psnr"]) == {"noisy", "unet"} and record["test_set"] == photos.config
    assert record["psnr"]["unet"]["mean"] == pytest.approx(scores.psnr["unet"].mean().item(), abs=1e-3)
    assert len(record["ssim"]["noisy"]["images"]) == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_bm3d_joins_when_installed(photos, monkeypatch, channels):
    pytest.importorskip("bm3d", reason="BM3D is not installed")
    grey = GaussianNoiseDataset(photos.images.pixels[:1, :channels, :32, :32] / 255, sigma=0.1, fixed=True)
    scores = evaluate(UNet(channels, widths=(4, 8)), grey)
    assert scores.psnr["bm3d"].mean() > scores.psnr["nlm"].mean()


def test_bm3d_is_not_required(photos, monkeypatch):
    monkeypatch.setattr("src.evaluation.find_spec", lambda name: None)
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
        evaluate(UNet(widths=(4,)), GaussianNoiseDataset(torch.full((1, 3, 32, 32), 0.5), fixed=True, crop_size=8))


def test_without_noise_psnr_is_100_db_and_the_record_holds_it(tmp_path):
    silent = GaussianNoiseDataset(torch.full((1, 3, 32, 32), 0.5), sigma=0, fixed=True)
    scores = evaluate(UNet(widths=(4,)), silent, baselines=False, run=tmp_path / "run")
    assert scores.psnr["unet"].tolist() == scores.psnr["noisy"].tolist() == [100]
    assert json.loads((tmp_path / "run/scores.json").read_text())["psnr"]["unet"]["mean"] == 100
    assert scores.table().loc["ours", "PSNR (dB)"] == 100


def test_filters_without_noise(monkeypatch):
    monkeypatch.setattr("src.evaluation.find_spec", lambda name: None)
    silent = GaussianNoiseDataset(torch.rand(1, 3, 24, 24), sigma=0, fixed=True)
    assert all(value.isfinite().all() for value in evaluate(UNet(widths=(4,)), silent).psnr.values())


def test_filters_need_one_sigma(photos):
    several = GaussianNoiseDataset(photos.images, sigma=(0.1, 0.3), fixed=True)
    with pytest.raises(ValueError, match=r"the filters need one sigma, got the range \(0.1, 0.3\)"):
        evaluate(UNet(widths=(4, 8)), several)
    assert set(evaluate(UNet(widths=(4, 8)), several, baselines=False).psnr) == {"noisy", "unet"}


def test_equal_at_every_call(photos):
    a, b = (evaluate(UNet(widths=(4, 8)), photos, baselines=False) for _ in range(2))
    assert np.array_equal(a.noisy, b.noisy) and torch.equal(a.psnr["unet"], b.psnr["unet"])


def test_a_network_without_parameters(photos):
    class Halved(nn.Module):
        def forward(self, noisy):
            return noisy / 2

    for model in (Halved(), nn.Identity()):
        scores = evaluate(model, photos, baselines=False)
        assert scores.psnr["unet"].isfinite().all() and len(scores.psnr["unet"]) == 4


def test_a_frozen_batch_norm_is_left_frozen(photos):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, photos, baselines=False)
    assert model.training and model[0].training and not model[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_figures_are_the_same_under_a_default_of_float64(photos, scores, monkeypatch):
    monkeypatch.setattr("src.evaluation.find_spec", lambda name: None)
    model = UNet(widths=(4, 8))
    torch.set_default_dtype(torch.float64)
    try:
        found = evaluate(model, photos)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in scores.psnr.items():
        assert found.psnr[name].tolist() == pytest.approx(value.tolist(), abs=1e-4)


def test_grey_images(monkeypatch):
    monkeypatch.setattr("src.evaluation.find_spec", lambda name: None)
    grey = GaussianNoiseDataset(torch.rand(2, 1, 24, 24), sigma=0.1, fixed=True)
    scores = evaluate(UNet(1, widths=(4, 8)), grey)
    assert all(image.shape == (2, 1, 24, 24) for image in scores.denoised.values())
