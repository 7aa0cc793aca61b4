"""Training a finder: the loss in closed form, one's own objects by the documented command, hard negatives."""

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets.hand_mix import HandMix
from src.networks import FinderUNet, MaskUNet
from src.networks.mask_unet import finder_weights
from src.photos.hand_finder import find_objects, load_finder
from src.photos.train_finder import finder_loss, hard_negatives, main


@pytest.fixture
def own(tmp_path):
    """Four images of a white disc before grey, their masks, and images to stand behind."""
    y, x = np.mgrid[:96, :96]
    for index in range(4):
        disc = (x - 30 - 8 * index) ** 2 + (y - 48) ** 2 < 20**2
        for folder, pixels in dict(images=120 + 100 * disc, masks=255 * disc, behind=60 + x).items():
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{index}.png")
    return tmp_path


def words(own, *more):
    folders = [word for name in ("images", "masks", "behind", "parts") for word in (f"--{name}", str(own / name))]
    return [*folders, "--count", "4", "--epochs", "1", "--run", str(own / "mine"), *more]


def test_one_s_own_objects(own):
    assert main(words(own)) == 0
    model = load_finder(own / "mine")
    assert isinstance(model, FinderUNet)
    assert isinstance(find_objects(torch.rand(3, 60, 80), model, threshold=0.01), list)
    assert main(words(own, "--start", str(own / "mine"), "--hard", "4", "--run", str(own / "second"),
                      "--publish", str(own / "published"))) == 0  # fmt: skip
    published = load_finder(own / "published")
    assert (own / "published/weights.pt").stat().st_size < 8e6  # float16
    difference = [(a - b).abs().max() for a, b in zip(published.parameters(), load_finder(own / "second").parameters())]
    assert max(difference) < 1e-3
    assert main(words(own, "--average", str(own / "second"), "--publish", str(own / "mean"))) == 0
    networks = [load_finder(own / name).state_dict() for name in ("mean", "mine", "second")]
    for mean, one, other in zip(*(weights.values() for weights in networks)):
        torch.testing.assert_close(mean, (one + other) / 2, atol=1e-3, rtol=0)


def test_what_is_wrong_with_the_masks_is_one_line(own, capsys):
    (own / "masks/3.png").rename(own / "masks/4.png")
    assert main(words(own)) == 1
    err = capsys.readouterr().err
    assert "error: each image needs a mask of its name, expected both of '3'" in err and err.count("\n") == 1
    for path in (own / "masks").iterdir():
        Image.new("L", (96, 96)).save(own / "masks" / path.name.replace("4", "3"))
    (own / "masks/4.png").unlink()
    assert main(words(own)) == 1 and "has a white pixel" in capsys.readouterr().err
    assert main(["--images", "x"]) == 1 and "--images needs --masks" in capsys.readouterr().err


def test_the_loss_in_closed_form():
    target = torch.zeros(1, 2, 10, 10)
    target[:, 0, :5], target[:, 1] = 1, 1
    assert float(finder_loss(target.clone(), target)) < 1e-4
    half = torch.full((1, 2, 10, 10), 0.5)
    expected = 1.1 * np.log(2) + 0.5 * (1 - (2 * 25 + 20) / (50 + 50 + 20))
    assert float(finder_loss(half, target)) == pytest.approx(expected, rel=1e-5)


def test_the_surest_images_are_the_hard_ones():
    class Brightness(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x.mean(dim=1, keepdim=True) * self.weight

    walls = np.zeros((1, 128, 128, 3), np.uint8)
    nothing = np.zeros((1, 128, 128, 5), np.uint8)
    pairs = HandMix(walls, dict(hands=nothing, things=nothing, pages=walls, rooms=walls))
    found, means = hard_negatives(Brightness(), pairs, 40), [pairs.without(key)[0].mean() for key in range(40)]
    assert found == sorted(np.argsort(means)[-4:].tolist())
    pairs.sides = [32, 64]  # shrinking leaves the mean of an even wall nearly as it is
    assert hard_negatives(Brightness(), pairs, 40)[-1] in found


def test_a_finder_begins_as_the_mask_network_that_it_starts_from():
    before, model = MaskUNet(3, 1, (4, 8), seed=3), FinderUNet(widths=(4, 8, 12, 16), seed=1)
    model.load_state_dict(finder_weights(model, before.state_dict()))
    image = torch.rand(2, 3, 40, 56)  # no border is added by either
    with torch.no_grad():
        score, present = model(image).unbind(dim=1)
        expected = torch.sigmoid(8 * (before(image)[:, 0] - 0.5)) * present
    torch.testing.assert_close(score, expected, atol=1e-5, rtol=0)
    assert present.flatten(1).std(dim=1).max() < 1e-6 and (score <= present).all()
    again = FinderUNet(widths=(4, 8, 12, 16))
    again.load_state_dict(finder_weights(again, model.state_dict()))
    torch.testing.assert_close(again(image), model(image))
