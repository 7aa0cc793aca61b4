"""The mistakes of 06_pitfalls are the mistakes they are named for."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from src.images import ImageSet
from src.metrics import psnr
from src.networks import BatchNormUNet
from src.studies.corruptions import gaussian_test_set
from src.studies.pitfalls import (
    MEAN,
    STD,
    NormalisedAsTrained,
    TrainMode,
    TransposedOutput,
    psnr_of_mean_error,
    split_by_file,
    ssim_with_wrong_sign,
)


@pytest.fixture(scope="module")
def images():
    coarse = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    clean = nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic").clamp(0, 1)
    return ImageSet.from_pixels((clean * 255).round().to(torch.uint8), groups=[str(i // 2) for i in range(12)])


def test_a_network_evaluated_as_a_mistake_has_it(images):
    model = BatchNormUNet(widths=(4, 8)).eval()
    nn.init.normal_(model.tail.weight, generator=torch.Generator().manual_seed(0), std=0.05)
    noisy, _ = gaussian_test_set(images, 0, 0.2).batch([0, 1, 2])
    with torch.no_grad():
        assert torch.equal(TransposedOutput(model)(noisy), model(noisy).transpose(2, 3))
        assert torch.allclose(NormalisedAsTrained(model)(noisy), model((noisy - MEAN) / STD) * STD + MEAN, atol=1e-5)
        averages = model.encoder[1][0].body[1].running_mean.clone()
        alone = TrainMode(model)(noisy)
        assert torch.allclose(alone[1:2], TrainMode(model)(noisy[1:2]), atol=1e-5)  # one image at a time
        assert not torch.allclose(alone, model(noisy), atol=1e-3)
        assert torch.equal(model.encoder[1][0].body[1].running_mean, averages) and not model.training


def test_a_split_by_file_has_the_same_groups_on_both_sides(images):
    train_images, held_out = split_by_file(images, seed=0)
    assert len(train_images) == 10 and len(held_out) == 2 and not set(train_images.names) & set(held_out.names)
    assert set(held_out.groups) <= set(train_images.groups)


def test_the_wrong_sign_rewards_what_ssim_punishes(images):
    noisy, clean = gaussian_test_set(images, 0, 0.2).batch([0])
    assert ssim_with_wrong_sign(noisy, clean) < ssim_with_wrong_sign(clean, clean) == 1
    _, windows = structural_similarity(
        clean[0].double().numpy(), noisy[0].double().numpy(), data_range=1, channel_axis=0, full=True,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim_with_wrong_sign(noisy, clean).item() == pytest.approx(windows.mean(), abs=1e-4)


def test_psnr_of_the_mean_error_is_scikit_images_of_the_whole_batch(images):
    noisy, clean = gaussian_test_set(images, 0, 0.2).batch([0, 1, 2])
    noisy = torch.lerp(clean, noisy, torch.tensor([0.2, 1.0, 1.0])[:, None, None, None])
    for data_range in (1, 2, 255):
        expected = peak_signal_noise_ratio(clean.numpy(), noisy.numpy(), data_range=data_range)
        assert psnr_of_mean_error(noisy, clean, data_range) == pytest.approx(expected, abs=1e-3)
    assert psnr_of_mean_error(noisy, clean) < psnr(noisy, clean).mean() - 1  # the logarithm is concave
