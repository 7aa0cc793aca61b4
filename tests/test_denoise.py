"""denoise.py: tiles that leave no seam, every type and channel count, and a command that loses nothing."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from src import Autoencoder, DnCNN, GaussianNoiseDataset, TrainConfig, UNet, denoise, estimate_sigma, fit, psnr
from src.photos.hand_finder import FINDER
from src.photos.denoiser import LOUDEST, SHIPPED, flips, load_denoiser, main
from src.photos.photo_files import read_photo


def moved(model, scale=0.3):
    """Random weights in all layers: an untrained network returns its input, and tiles would be no test."""
    draw = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=draw) * (scale / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1)
    return model


def picture(channels=3, size=(150, 203), seed=0):
    return torch.rand(channels, *size, generator=torch.Generator().manual_seed(seed))


NETWORKS = {
    "residual": lambda: UNet(widths=(8, 12, 16)),
    "double": lambda: UNet(widths=(4, 8, 8), block="double", residual=False),
    "two blocks": lambda: UNet(widths=(4, 8), blocks=2),
    "conditioned": lambda: UNet(widths=(8, 12, 16), conditioned=True),
    "batchnorm": lambda: UNet(widths=(4, 8, 8), block="double", norm="batch"),
    "dncnn": lambda: DnCNN(depth=6, width=8),
}


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setattr("src.device.precision", lambda where: torch.float32)


@pytest.mark.parametrize("tile, ensemble", [(8, False), (40, False), (64, False), (64, True), (203, False)])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_give_the_whole_picture_to_rounding(name, tile, ensemble, float32):
    model, image = moved(NETWORKS[name](), 1.0), picture()
    whole = denoise(image, model, ensemble=ensemble)
    assert (whole - image).abs().mean() > 0.01
    torch.testing.assert_close(denoise(image, model, tile=tile, ensemble=ensemble), whole, rtol=0, atol=2e-5)


def test_the_result_is_a_tensor_like_any_other(float32):
    result = denoise(picture(), UNet(widths=(4, 8)))
    result += 0.1
    (result * torch.ones(1, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("name", NETWORKS)
def test_reach_holds_all_that_matters_and_little_more(name):
    """Positive weights everywhere: what has a gradient is what an output depends on."""
    model = NETWORKS[name]().double().eval()
    for p in model.parameters():
        nn.init.uniform_(p, 0.1, 1)
    stride = getattr(model, "stride", 1)
    side = -(-2 * (model.reach + 2 * stride) // stride) * stride
    furthest = 0
    for at in range(side // 2, side // 2 + stride):
        image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(image)[0, :, at, at].sum(), image)
        rows = (gradient.abs().sum(dim=(0, 1)) > 0).any(dim=1).nonzero().flatten()
        furthest = max(furthest, int((rows - at).abs().max()))
    assert furthest <= model.reach <= furthest * 1.2 + 4


def test_tiles_need_a_reach():
    model = Autoencoder(latent=28)
    assert not hasattr(model, "reach")
    with pytest.raises(ValueError, match="does not say its reach"):
        denoise(picture(size=(64, 64)), model, tile=32)


def test_a_conditioned_network_is_told_one_sigma_of_the_whole(float32):
    """Its own estimate, or what the caller knows; in tiles, turned, in grey and in a batch the same."""
    model = moved(UNet(widths=(4, 8), conditioned=True)).eval()
    loud = torch.linspace(0, 0.4, 150)[:, None] * picture() + 0.3  # each tile by itself would have another sigma
    expected = lambda x, sigma: model(x, sigma).detach().clamp(0, 1)  # noqa: E731
    sigma = estimate_sigma(loud[None])
    torch.testing.assert_close(
        denoise(loud, model, tile=40)[:, :140, :190], expected(loud[None], sigma)[0, :, :140, :190]
    )
    told = []
    model.register_forward_pre_hook(lambda model, given: told.append(given[1]))
    denoise(loud, model, sigma=0.2, tile=64, ensemble=True)
    assert len(told) == 12 * 8 and all(sigma.tolist() == [pytest.approx(0.2)] for sigma in told)
    batch = torch.stack([loud, picture()])
    torch.testing.assert_close(denoise(batch, model)[1], denoise(batch[1], model))
    assert torch.equal(denoise(loud, model, sigma=0.0), loud)
    grey = loud[:1, :144, :200]
    torch.testing.assert_close(
        denoise(grey, model),
        expected(grey.expand(3, -1, -1)[None], estimate_sigma(grey[None]))[0].mean(0, keepdim=True),
    )
    for turned, one in zip(flips(model, loud[None]), flips(model, loud[None], sigma)):
        assert torch.equal(turned, one)


@pytest.mark.parametrize("dtype, top", [(torch.uint8, 255), (torch.uint16, 65535)])
def test_whole_numbers_are_the_floats_rounded(dtype, top, float32):
    model = moved(UNet(widths=(4, 8)))
    stored = (picture() * top).round().to(dtype)
    expected = (denoise(stored.float() / top, model) * top).round()
    found = denoise(stored, model)
    assert found.dtype == dtype and (found.float() - expected).abs().max() <= 1


def test_a_batch_is_its_pictures(float32):
    model, batch = moved(UNet(widths=(4, 8))), torch.stack([picture(seed=1), picture(seed=2)])
    both = denoise(batch, model)
    assert both.shape == batch.shape
    torch.testing.assert_close(both[1], denoise(batch[1], model), rtol=0, atol=1e-6)


def test_grey_is_three_equal_channels_averaged(float32):
    model, grey = moved(UNet(widths=(4, 8))), picture(1, (150, 202))
    clean = model.eval()(grey.expand(3, -1, -1)[None]).detach().mean(dim=1).clamp(0, 1)
    torch.testing.assert_close(denoise(grey, model), clean, rtol=0, atol=1e-6)
    assert denoise(grey, moved(UNet(1, widths=(4, 8)))).shape == grey.shape


def test_strength_mixes(float32):
    model, image = moved(UNet(widths=(4, 8))), picture()
    full = denoise(image, model)
    assert torch.equal(denoise(image, model, strength=0), image)
    torch.testing.assert_close(denoise(image, model, strength=0.25), image + 0.25 * (full - image))
    assert not torch.equal(full, image)


def test_the_ensemble_is_the_mean_of_the_turned_back(float32):
    """A network that shifts the picture to the right shifts it every way when it is turned: the mean is symmetric."""

    class Shift(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 3, 3, padding=1, padding_mode="circular", bias=False)
            self.weight.data = torch.zeros(3, 3, 3, 3)
            for c in range(3):
                self.weight.data[c, c, 1, 0] = 1

    dot = torch.zeros(3, 9, 9)
    dot[:, 4, 4] = 1
    found = denoise(dot, Shift(), ensemble=True)
    expected = torch.zeros(3, 9, 9)
    expected[:, [3, 5, 4, 4], [4, 4, 3, 5]] = 0.25
    torch.testing.assert_close(found, expected)
    assert len([*flips(Shift(), dot[None])]) == 8


@pytest.mark.parametrize("name", ["residual", "conditioned"])
@pytest.mark.parametrize("grain", [2, 3])
@pytest.mark.parametrize("tile", [None, 24])
def test_blots_are_denoised_as_the_pixels_they_are_of(name, grain, tile, float32):
    """A picture whose pixels were each made a square of grain x grain comes out as the denoised one made so."""
    small = picture(size=(37, 50))
    enlarge = lambda x: x.repeat_interleave(grain, -2).repeat_interleave(grain, -1)  # noqa: E731
    model = moved(NETWORKS[name]())
    found = denoise(enlarge(small), model, grain=grain, tile=tile, strength=0.9)
    torch.testing.assert_close(found, enlarge(denoise(small, model, strength=0.9)), rtol=0, atol=2e-5)


def test_grain_wider_than_the_picture_and_in_whole_numbers(float32):
    model = moved(UNet(widths=(4, 8)))
    byte = (picture(size=(2, 5)) * 255).byte()
    assert denoise(byte, model, grain=4).shape == byte.shape
    batch = torch.stack([picture(size=(9, 11)), picture(size=(9, 11), seed=1)])
    torch.testing.assert_close(denoise(batch, model, grain=2)[1], denoise(batch[1], model, grain=2))


@pytest.mark.parametrize("tile", [None, 40])
def test_no_more_than_sigma_is_taken_away(tile, float32):
    """Two pictures, each by its own: what is removed has the deviation sigma, or the network's."""
    model = moved(UNet(widths=(4, 8)), 0.3)
    image = 0.3 + 0.4 * torch.stack([picture(), 0.5 * picture()])
    free = (denoise(image, model) - image).square().mean(dim=(1, 2, 3)).sqrt()
    between = float(free.mean())
    told = denoise(image, model, sigma=between, tile=tile)
    bound = (told - image).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(bound, free.clamp(max=between), rtol=1e-3, atol=1e-5)
    assert torch.equal(denoise(image, model, sigma=0.0), image)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(image=np.zeros((4, 4, 3), np.float32)), "image must be a tensor"),
        (dict(image=torch.rand(4, 4)), r"image must be \[C, H, W\]"),
        (dict(image=torch.rand(8, 8, 3)), "1 or 3 channels"),
        (dict(image=torch.rand(3, 0, 8)), r"image must be \[C, H, W\]"),
        (dict(image=torch.rand(3, 8, 8).double()), "must be float32"),
        (dict(image=torch.full((3, 8, 8), float("nan"))), "NaN"),
        (dict(sigma=25), "did you mean 25/255"),
        (dict(tile=0), "tile must be"),
        (dict(tile=7.5), "tile must be"),
        (dict(grain=0), "grain must be"),
        (dict(grain=1.5), "grain must be"),
        (dict(strength=1.5), "strength must be"),
        (dict(image=picture() * 255), "did you mean image / 255"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(change, words):
    arguments = dict(image=picture(size=(16, 16)), model=UNet(widths=(4, 8))) | change
    with pytest.raises(ValueError, match=words) as error:
        denoise(**arguments)
    assert "\n" not in str(error.value)


# the shipped weights


def noisy_photo(sigma=25 / 255):
    from skimage.data import chelsea

    clean = torch.from_numpy(chelsea()[50:242, 100:292].transpose(2, 0, 1).copy()).float() / 255
    return clean, clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma, gain", [(15, 7), (25, 9), (50, 12)])
def test_the_shipped_network_denoises_a_photo(sigma, gain):
    clean, noisy = noisy_photo(sigma / 255)
    before, after = psnr(noisy[None], clean[None]).item(), psnr(denoise(noisy)[None], clean[None]).item()
    assert after > before + gain
    grey, grey_noisy = clean.mean(0, keepdim=True), clean.mean(0, keepdim=True) + (noisy - clean)[:1]
    after = psnr(denoise(grey_noisy)[None], grey[None]).item()
    assert after > psnr(grey_noisy[None], grey[None]).item() + gain - 2


def test_blots_go_with_grain_alone():
    clean, _ = noisy_photo()
    draw = torch.randn(clean[:, ::2, ::2].shape, generator=torch.Generator().manual_seed(0))
    noisy = clean + 25 / 255 * draw.repeat_interleave(2, 1).repeat_interleave(2, 2)
    before, as_it_is, by_grain = (
        psnr(x[None], clean[None]).item() for x in (noisy, denoise(noisy), denoise(noisy, grain=2))
    )
    assert as_it_is < before + 3 and by_grain > before + 5


@pytest.mark.parametrize("size", [(185, 187), (184, 184)])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_band_of_noise_is_left_at_the_border(size, channels):
    """Sizes that are no multiple of the network's 8: the last 24 rows and columns come out as well as the first."""
    clean = torch.full((channels, *size), 0.4)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0)).expand(channels, -1, -1)
    error = (denoise(clean + 50 / 255 * noise) - clean).square()
    first, last = error[:, :24].mean() + error[:, :, :24].mean(), error[:, -24:].mean() + error[:, :, -24:].mean()
    assert last < 3 * first and error.mean() < 1e-3


def test_the_shipped_network_leaves_a_clean_picture_nearly_alone():
    clean, _ = noisy_photo()
    assert psnr(denoise(clean)[None], clean[None]).item() > 40


def test_what_is_shipped_is_small_and_says_how_to_make_it():
    record = json.loads((SHIPPED / "record.json").read_text())
    assert (SHIPPED / "weights.pt").stat().st_size < 16e6
    assert record["key"]["train_set"]["sigma"] == [0.0, LOUDEST]
    assert len(record["history"]) == record["epochs"]
    # the command is the one that gives this key
    options = dict(part.partition(" ")[::2] for part in record["command"].split(" --")[1:])
    key = record["key"]
    assert [float(Fraction(s)) for s in options["sigma"].split()] == key["train_set"]["sigma"]
    assert float(options["grey"]) == key["train_set"]["grey"] and int(options["crop"]) == key["train_set"]["crop"]
    for name in ("epochs", "batch", "loss", "cooldown"):
        assert options[name] == str(key["config"][name])
    assert options["widths"] == " ".join(map(str, key["network"]["widths"]))
    assert key["train_set"]["count"] + key["test_set"]["count"] <= 2000 and options["data"] == "data/drawn_photos"


@pytest.mark.parametrize("damage", ["gone", "no record", "flipped", "record", "shape"])
def test_broken_weights_are_one_clear_line(tmp_path, capsys, damage):
    folder = tmp_path / "weights"
    shutil.copytree(SHIPPED, folder)
    if damage == "gone":
        (folder / "weights.pt").unlink()
    elif damage == "no record":
        (folder / "record.json").unlink()
    elif damage == "flipped":
        data = bytearray((folder / "weights.pt").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "weights.pt").write_bytes(data)
    elif damage == "record":
        (folder / "record.json").write_text("{")
    else:
        record = json.loads((folder / "record.json").read_text())
        record["key"]["network"]["widths"] = [4, 8]
        (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises((ValueError, FileNotFoundError)):
        load_denoiser(folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--weights", str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and not (tmp_path / "b.png").exists()


# the command


@pytest.fixture
def photo(tmp_path):
    _, noisy = noisy_photo()
    pixels = (noisy.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "noisy.png")
    return tmp_path / "noisy.png"


def test_a_file(photo, capsys):
    target = photo.with_name("clean.png")
    before = photo.read_bytes()
    assert main([str(photo), str(target)]) == 0
    clean, _ = noisy_photo()
    found = torch.from_numpy(read_photo(target).pixels).float() / 255
    assert psnr(found[None], clean[None]).item() > 28 and photo.read_bytes() == before
    assert main([str(photo), str(photo)]) == 1 and "never overwritten" in capsys.readouterr().err
    assert main([str(photo), str(target)]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([str(photo), str(target), "--overwrite", "--strength", "0"]) == 0
    np.testing.assert_array_equal(read_photo(target).pixels, read_photo(photo).pixels)


def test_tiles_and_ensemble_of_the_command(photo):
    for name, options in [("a", []), ("b", ["--tile", "64"]), ("c", ["--ensemble"])]:
        assert main([str(photo), str(photo.with_name(f"{name}.png")), *options]) == 0
    a, b, c = (read_photo(photo.with_name(f"{name}.png")).pixels.astype(int) for name in "abc")
    # bfloat16 rounds what is in the network: a grey level or two where shapes differ
    assert np.abs(a - b).max() <= 3 and np.abs(a - b).mean() < 0.1 and 0 < np.abs(a - c).mean() < 3


@pytest.mark.parametrize(
    "options, words",
    [
        (["--strength", "2"], "strength must be"),
        (["--sigma", "25"], "did you mean 25/255"),
        (["--tile", "0"], "tile must"),
        (["--grain", "0"], "grain must"),
        (["--weights", str(FINDER)], "expected a picture of the same shape"),
        (["--weights", "README.md"], "expected the network's weights"),
    ],
)
def test_wrong_options(photo, capsys, options, words):
    shutil.copy(photo, photo.with_name("second.png"))  # what is wrong with both is said once
    assert main([str(photo), str(photo.with_name("second.png")), str(photo.parent / "out"), *options]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (photo.parent / "out").exists()


@pytest.mark.parametrize("text", ["1/0", "1e999", "abc"])
def test_numbers_that_are_none(photo, capsys, text):
    with pytest.raises(SystemExit):
        main([str(photo), str(photo.with_name("b.png")), f"--sigma={text}"])
    assert f"must be a number or a fraction such as 25/255, got '{text}'" in capsys.readouterr().err


def test_a_run_of_ones_own_denoises(photo, tmp_path, capsys):
    """What `fit` keeps is what `load_denoiser` reads, with no step between."""
    images = GaussianNoiseDataset(picture(size=(24, 24))[None].repeat(4, 1, 1, 1), sigma=0.1)
    model = UNet(widths=(4, 8))
    fit(model, images, images, TrainConfig(epochs=1, batch=4), tmp_path / "mine")
    own = load_denoiser(tmp_path / "mine")
    assert all(torch.equal(a, b) for a, b in zip(own.state_dict().values(), model.state_dict().values()))
    assert main([str(photo), str(photo.with_name("b.png")), "--weights", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out.endswith("b.png: denoised\n")
