"""The UNet with a level: what it starts from, how the level is given, what it refuses."""

import pytest
import torch

from src.networks.level_unet import LevelUNet, start_weights
from src.unet import UNet


@pytest.fixture(scope="module")
def started():
    """(LevelUNet, UNet) of the same weights, which are not those of an untrained network."""
    plain, model = UNet(widths=(8, 12, 16), seed=3), LevelUNet(widths=(8, 12, 16))
    with torch.no_grad():
        plain.tail.weight.normal_(std=0.05)
    model.load_state_dict(start_weights(model, plain.state_dict()))
    return model.eval(), plain.eval()


@pytest.mark.parametrize("level", [None, 0.1, torch.tensor([0.02, 0.3])])
def test_it_starts_as_the_unet_of_its_start_weights_at_every_level(started, level):
    model, plain = started
    noisy = torch.rand(2, 3, 21, 30)
    torch.testing.assert_close(model(noisy, level), plain(noisy))


def test_a_fourth_channel_is_the_level(started):
    model = LevelUNet(widths=(8, 12))
    with torch.no_grad():
        model.unet.head.weight[:, 3:].normal_()
        model.unet.tail.weight.normal_(std=0.1)
    noisy, levels = torch.rand(2, 3, 16, 16), torch.tensor([0.0, 0.1])
    as_channel = torch.cat([noisy, levels.reshape(2, 1, 1, 1).expand(2, 1, 16, 16)], dim=1)
    torch.testing.assert_close(model(as_channel), model(noisy, levels))
    torch.testing.assert_close(model(noisy)[0], model(noisy, levels)[0])  # 0 is unknown
    assert not torch.allclose(model(noisy, 0.1)[0], model(noisy, 0.2)[0])


def test_stride_and_receptive_radius_are_the_unets():
    model, plain = LevelUNet(), UNet(widths=(32, 64, 128, 192))
    assert (model.stride, model.receptive_radius) == (plain.stride, plain.receptive_radius)
    assert type(model)(**model.config).config == model.config


@pytest.mark.parametrize(
    "shape, level, words",
    [((1, 2, 8, 8), None, "last is the level"), ((3, 8, 8), None, "image\\[None\\]"), ((2, 3, 8, 8), 20, "8-bit"),
     ((2, 3, 8, 8), torch.tensor([0.1, 0.1, 0.1]), "one for each of 2")],
)  # fmt: skip
def test_wrong_input_is_named(shape, level, words):
    with pytest.raises(ValueError, match=words):
        LevelUNet(widths=(8, 12))(torch.rand(shape), level)
