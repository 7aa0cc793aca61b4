"""denoiser.py: tiles that leave no seam, every dtype and channel count, camera mode, and the shipped weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from src.checkpoint import run_folder
from src.metrics import psnr
from src.networks import Autoencoder, BatchNormUNet, DnCNN, NoiseLevelNormalised, NoSkipUNet, estimate_sigma
from src.networks.level_unet import LevelUNet
from src.networks.noise_level import with_sigma_channel
from src.photos.denoiser import LARGEST_SIGMA, SHIPPED, denoise, flips, level_of_iso, load_denoiser
from src.studies.photo_noise import camera_photos
from src.unet import UNet


def moved(model, scale=0.3):
    """Random weights in all layers: an untrained network returns its input, and tiles would be no test."""
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=generator) * (
            scale / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1
        )
    return model.eval()


def random_image(channels=3, size=(150, 203), seed=0):
    return torch.rand(channels, *size, generator=torch.Generator().manual_seed(seed))


NETWORKS = {
    "UNet": lambda: UNet(widths=(8, 12, 16)),
    "no skip": lambda: NoSkipUNet(widths=(4, 8, 8)),
    "two blocks": lambda: UNet(widths=(4, 8), blocks=2),
    "normalised": lambda: NoiseLevelNormalised(UNet(widths=(8, 12, 16))),
    "level": lambda: LevelUNet(widths=(8, 12, 16)),
    "batchnorm": lambda: BatchNormUNet(widths=(4, 8, 8)),
    "dncnn": lambda: DnCNN(depth=6, width=8),
}


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr("src.device.precision", lambda where: torch.float32)


@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}, {"noise": "camera"}], ids=["once", "x8", "camera"])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_give_the_whole_image_to_rounding(name, options):
    model, image = moved(NETWORKS[name](), 1.0), random_image(size=(90, 121))
    whole = denoise(image, model, **options)
    assert (whole - image).abs().mean() > 0.01
    for tile in (40,) if options else (16, 40, 121):
        torch.testing.assert_close(denoise(image, model, tile=tile, **options), whole, rtol=0, atol=2e-5)


def test_the_result_is_a_tensor_like_any_other():
    result = denoise(random_image(size=(20, 20)), UNet(widths=(4, 8)))
    result += 0.1
    (result * torch.ones(1, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("normalised", "level")])
def test_receptive_radius_holds_all_that_matters_and_little_more(name):
    """Positive weights everywhere: what has a gradient is what an output depends on."""
    model = NETWORKS[name]().double().eval()
    for p in model.parameters():
        nn.init.uniform_(p, 0.1, 1)
    stride = getattr(model, "stride", 1)
    side = -(-2 * (model.receptive_radius + 2 * stride) // stride) * stride
    furthest = 0
    for at in range(side // 2, side // 2 + stride):
        image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(image)[0, :, at, at].sum(), image)
        rows = (gradient.abs().sum(dim=(0, 1)) > 0).any(dim=1).nonzero().flatten()
        furthest = max(furthest, int((rows - at).abs().max()))
    assert furthest <= model.receptive_radius <= furthest * 1.2 + 4


def test_tiles_need_a_receptive_radius():
    model = Autoencoder(latent=28)
    assert not hasattr(model, "receptive_radius")
    with pytest.raises(ValueError, match="has no receptive_radius"):
        denoise(random_image(size=(64, 64)), model, tile=32)


def test_a_normalised_network_gets_one_sigma_of_the_whole_image():
    """Its own estimate, or what the caller knows; in tiles, turned, in grey and in a batch the same."""
    model = moved(NoiseLevelNormalised(UNet(widths=(4, 8))))
    uneven = torch.linspace(0, 0.4, 150)[:, None] * random_image() + 0.3  # each tile would have another sigma

    def expected(x, sigma):
        return model(with_sigma_channel(x, sigma)).detach().clamp(0, 1)

    sigma = estimate_sigma(uneven[None])
    torch.testing.assert_close(
        denoise(uneven, model, tile=40)[:, :140, :190], expected(uneven[None], sigma)[0, :, :140, :190]
    )
    seen = []
    model.register_forward_pre_hook(lambda model, given: seen.append(given[0]))
    denoise(uneven, model, sigma=0.2, tile=64, self_ensemble=True)
    assert len(seen) == 12 * 8 and all((x[:, 3] == 0.2).all() for x in seen)
    batch = torch.stack([uneven, random_image()])
    torch.testing.assert_close(denoise(batch, model)[1], denoise(batch[1], model))
    assert torch.equal(denoise(uneven, model, sigma=0.0), uneven)
    grey = uneven[:1, :144, :200]
    torch.testing.assert_close(
        denoise(grey, model),
        expected(grey.expand(3, -1, -1)[None], estimate_sigma(grey[None]))[0].mean(0, keepdim=True),
    )


@pytest.mark.parametrize("dtype, top", [(torch.uint8, 255), (torch.uint16, 65535)])
@pytest.mark.parametrize("noise", ["gaussian", "camera"])
def test_whole_numbers_are_the_floats_rounded(dtype, top, noise):
    model = moved(UNet(widths=(4, 8)))
    stored = (random_image() * top).round().to(dtype)
    expected = (denoise(stored.float() / top, model, noise=noise) * top).round()
    found = denoise(stored, model, noise=noise)
    assert found.dtype == dtype and (found.float() - expected).abs().max() <= 1


@pytest.mark.parametrize("noise", ["gaussian", "camera"])
def test_a_batch_is_its_images(noise):
    model, batch = moved(UNet(widths=(4, 8))), torch.stack([random_image(seed=1), random_image(seed=2)])
    both = denoise(batch, model, noise=noise)
    assert both.shape == batch.shape
    torch.testing.assert_close(both[1], denoise(batch[1], model, noise=noise), rtol=0, atol=1e-6)


def test_grey_is_three_equal_channels_averaged():
    model, grey = moved(UNet(widths=(4, 8))), random_image(1, (150, 202))
    denoised = model(grey.expand(3, -1, -1)[None]).detach().mean(dim=1).clamp(0, 1)
    torch.testing.assert_close(denoise(grey, model), denoised, rtol=0, atol=1e-6)
    assert denoise(grey, moved(UNet(1, widths=(4, 8)))).shape == grey.shape


def test_strength_mixes():
    model, image = moved(UNet(widths=(4, 8))), random_image()
    full = denoise(image, model)
    assert torch.equal(denoise(image, model, strength=0), image)
    torch.testing.assert_close(denoise(image, model, strength=0.25), image + 0.25 * (full - image))
    assert not torch.equal(full, image)


class Shift(nn.Conv2d):
    """Shifts the image by one pixel to the right."""

    def __init__(self):
        super().__init__(3, 3, 3, padding=1, padding_mode="circular", bias=False)
        self.weight.data = torch.zeros(3, 3, 3, 3)
        self.weight.data[[0, 1, 2], [0, 1, 2], 1, 0] = 1


def test_the_self_ensemble_is_the_mean_of_the_outputs_turned_back():
    """A network that shifts the image shifts it every way when it is turned: the mean is symmetric."""
    dot = torch.zeros(3, 9, 9)
    dot[:, 4, 4] = 1
    found = denoise(dot, Shift(), self_ensemble=True)
    expected = torch.zeros(3, 9, 9)
    expected[:, [3, 5, 4, 4], [4, 4, 3, 5]] = 0.25
    torch.testing.assert_close(found, expected)
    assert len([*flips(Shift(), dot[None])]) == 8


@pytest.mark.parametrize("tile", [None, 40])
def test_no_more_than_sigma_is_removed(tile):
    """Two images, each by its own: what is removed has the standard deviation sigma, or the network's."""
    model = moved(UNet(widths=(4, 8)), 0.3)
    image = 0.3 + 0.4 * torch.stack([random_image(), 0.5 * random_image()])
    free = (denoise(image, model) - image).square().mean(dim=(1, 2, 3)).sqrt()
    between = float(free.mean())
    bound = (denoise(image, model, sigma=between, tile=tile) - image).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(bound, free.clamp(max=between), rtol=1e-3, atol=1e-5)
    assert torch.equal(denoise(image, model, sigma=0.0), image)


# noise="camera"


class Recorder(nn.Module):
    """The identity, which keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.weight, self.receptive_radius, self.stride, self.seen = nn.Parameter(torch.ones(1)), 8, 8, []

    def forward(self, noisy):
        self.seen.append(noisy.clone())
        return noisy * self.weight


def test_noise_is_added_and_subtracted():
    """Of the level that was asked for, by default 16/255; white; the same at every call, for every image."""
    model, image = Recorder(), torch.full((3, 256, 256), 0.5)
    torch.testing.assert_close(denoise(image, model, noise="camera"), image)
    added, subtracted = (x[0] - image for x in model.seen)
    torch.testing.assert_close(added, -subtracted, rtol=0, atol=1e-6)
    assert float(added.std() * 255) == pytest.approx(16, rel=0.01) and abs(float(added.mean()) * 255) < 0.1
    white = added[:, :-1].flatten(), added[:, 1:].flatten()
    assert abs(float(torch.corrcoef(torch.stack(white))[0, 1])) < 0.01
    denoise(torch.zeros(1, 3, 256, 256), model, noise="camera", level=32 / 255)
    torch.testing.assert_close(model.seen[2][0], 2 * added, rtol=0, atol=1e-6)


def test_the_noise_depends_on_the_position_in_the_whole_image():
    model, image = Recorder(), torch.full((3, 64, 96), 0.5)
    denoise(image, model, noise="camera")
    denoise(image, model, noise="camera", tile=32)
    whole, last = model.seen[0], model.seen[-2]  # the last tile, and what is around it
    torch.testing.assert_close(last, whole[..., 64 - last.shape[2] :, 96 - last.shape[3] :])


def test_a_network_with_a_level_takes_one_pass_and_its_bound():
    model = moved(LevelUNet(widths=(4, 8)))
    image, calls = random_image(size=(24, 32)), []
    model.register_forward_pre_hook(lambda model, given: calls.append(given[0]))
    found = denoise(image, model, noise="camera", level=20 / 255, tile=16)
    assert len(calls) == 4 and all((x[:, 3] == 20 / 255).all() for x in calls)
    torch.testing.assert_close(found, model(image[None], 20 / 255)[0].detach().clamp(0, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(denoise(image, model, noise="camera"), model(image[None])[0].detach().clamp(0, 1))


def test_a_cameras_noise_needs_camera_mode():
    """The JPEG file of a simulated camera in a dim room."""
    noisy, clean = camera_photos(noisy_photo()[0][None], shot=2e-3)
    before, gaussian, camera = (
        float(psnr(x, clean))
        for x in (noisy, denoise(noisy, load_denoiser()), denoise(noisy, load_denoiser(), noise="camera"))
    )
    assert gaussian < before + 1 and camera > max(gaussian, before + 1)


def test_levels_by_iso():
    found = [round(level_of_iso(iso) * 255) for iso in (50, 3200, 6399, 6400, 12799, 12800, 204800)]
    assert found == [16, 16, 16, 22, 22, 28, 28]


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(image=np.zeros((4, 4, 3), np.float32)), "image must be a tensor"),
        (dict(image=torch.rand(4, 4)), r"image must be \[C, H, W\]"),
        (dict(image=torch.rand(8, 8, 3)), "C = 1 or 3"),
        (dict(image=torch.rand(3, 0, 8)), r"image must be \[C, H, W\]"),
        (dict(image=torch.rand(3, 8, 8).double()), "must be float32"),
        (dict(image=torch.full((3, 8, 8), float("nan"))), "NaN"),
        (dict(image=torch.full((3, 8, 8), float("inf"))), "infinity"),
        (dict(sigma=25), "8-bit levels need / 255"),
        (dict(noise="camera", level=25), "8-bit levels need / 255"),
        (dict(level=0.1), "'camera' with level"),
        (dict(noise="poisson"), "got 'poisson'"),
        (dict(tile=0), "tile must be"),
        (dict(tile=7.5), "tile must be"),
        (dict(strength=1.5), "strength must be"),
        (dict(image=random_image() * 255), "did you mean image / 255"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(change, words):
    arguments = dict(image=random_image(size=(16, 16)), model=UNet(widths=(4, 8))) | change
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


@pytest.mark.parametrize("size", [(185, 187), (184, 184)])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_band_of_noise_is_left_at_the_border(size, channels):
    """Sizes that are no multiple of the network's 8: the last 24 rows and columns come out as well as the first."""
    clean = torch.full((channels, *size), 0.4)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0)).expand(channels, -1, -1)
    error = (denoise(clean + 50 / 255 * noise) - clean).square()
    first, last = error[:, :24].mean() + error[:, :, :24].mean(), error[:, -24:].mean() + error[:, :, -24:].mean()
    assert last < 3 * first and error.mean() < 1e-3


def test_the_shipped_network_leaves_a_clean_image_nearly_alone():
    clean, _ = noisy_photo()
    assert psnr(denoise(clean)[None], clean[None]).item() > 40


def test_what_is_shipped_is_small_and_has_its_record():
    record = json.loads((SHIPPED / "record.json").read_text())
    assert (SHIPPED / "weights.pt").stat().st_size < 16e6
    assert record["fingerprint"]["train_set"]["sigma"] == [0.0, LARGEST_SIGMA]
    assert len(record["history"]) == record["epochs"]


@pytest.mark.parametrize("damage", ["gone", "no record", "flipped", "record", "shape"])
def test_broken_weights_are_one_clear_line(tmp_path, damage):
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
        record["fingerprint"]["network"]["widths"] = [4, 8]
        (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_denoiser(folder)
    assert "\n" not in str(error.value)


def test_weights_of_16_bits_are_loaded_into_32(tmp_path):
    import hashlib

    record = json.loads((SHIPPED / "record.json").read_text())
    weights = torch.load(SHIPPED / "weights.pt", map_location="cpu", weights_only=True)
    torch.save({name: value.half() for name, value in weights.items()}, tmp_path / "weights.pt")
    record["sha256"] = hashlib.sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    (tmp_path / "record.json").write_text(json.dumps(record))
    half, whole = load_denoiser(tmp_path), load_denoiser()
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    _, noisy = noisy_photo()
    torch.testing.assert_close(denoise(noisy, half), denoise(noisy, whole), rtol=0, atol=0.01)


def test_a_run_of_ones_own_denoises(trained, monkeypatch):
    """What `fit` keeps is what `load_denoiser` reads: by its folder, absolute or seen from here."""
    image = random_image(size=(24, 24))
    expected = denoise(image, load_denoiser(trained))
    monkeypatch.chdir(trained.parent)
    assert torch.equal(denoise(image, load_denoiser(trained.name)), expected)


def test_shipped_folders():
    assert run_folder("published/denoiser") == SHIPPED and (SHIPPED / "weights.pt").is_file()
