"""What the code before the redesign gave: split, drawn images, pairs, weights, the shipped networks' outputs.

The constants were recorded with that code (commit 313b6cb), in float32 on one thread. Bits of sums differ between
processors and versions of torch, so weights are compared to the bit only where CANARY is the same: a convolution, its
gradient, a product and norms by plain torch.
"""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.checkpoint import load
from src.config import TrainConfig
from src.datasets.drawn_set import save_png
from src.datasets.finger_numbers import CLASSES, draw, make
from src.images import ImageSet, load_images, split_images
from src.loop import training_loop
from src.networks import Autoencoder, BatchNormUNet, DnCNN, MaskUNet, NoResidualUNet, NoSkipUNet, UNet2021
from src.noise import GaussianNoiseDataset
from src.unet import UNet

CANARY = "df21ce24fd62c4e3"


@pytest.fixture(autouse=True)
def float32_on_one_thread(monkeypatch):
    for module in ("src.device", "src.optim"):
        monkeypatch.setattr(f"{module}.precision", lambda where: torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sha256(*parts):
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part if isinstance(part, bytes) else part.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def weights_sha256(model):
    return sha256(*(part for name, value in model.state_dict().items() for part in (name.encode(), value)))


def bits_are_the_same_here():
    """On processors that sum in the order of those on which the hashes were made."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":  # the width of a vector decides the order of sums
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 8, 32, 32, generator=generator).to(memory_format=torch.channels_last)
    w = torch.randn(16, 8, 3, 3, generator=generator, requires_grad=True)
    y = F.conv2d(x, w, padding=1)
    (y * y).mean().backward()
    matrices = torch.randn(3, 24, 216, generator=generator)
    norms = torch.randn(8, 16, 72, generator=generator).norm(dim=(-2, -1))  # torch 2.6 sums these in another order
    return sha256(y, w.grad, matrices @ matrices.mT, norms).startswith(CANARY)


# ---- the default data set ---------------------------------------------------------------------

NAMES = [
    f"{label}/scene{scene:02d}_{shot}.png" for label in sorted(CLASSES) for scene in range(10) for shot in range(3)
]


def split_of_names():
    labels, groups = [name.split("/")[0] for name in NAMES], [name[:-6] for name in NAMES]
    blank = torch.zeros(len(NAMES), 1, 1, 1, dtype=torch.uint8)
    return split_images(ImageSet.from_pixels(blank, NAMES, labels, groups), held_out=0.2, seed=0)


def test_the_split_holds_out_the_same_images():
    train, held_out = split_of_names()
    assert (len(train), len(held_out)) == (240, 60)
    expected = "2c6f153c4c595671621cf131fee0e0389a825ab6e7007ef55a391842f3a3a48c"
    assert hashlib.sha256("\n".join(held_out.names).encode()).hexdigest() == expected


def drawn(folder, names):
    """These images of the default data set, drawn into a folder; sha256 over the bytes of their files."""
    folder.mkdir()
    for name in names:
        label, scene, shot = name[:-4].replace("/scene", "_").split("_")
        image, _ = draw(CLASSES.index(label) + 1, int(scene), int(shot))
        save_png(image, folder / name)
    return sha256(*((folder / name).read_bytes() for name in names))


@pytest.fixture(scope="module")
def first_sixteen(tmp_path_factory):
    """The first 16 training images: (sha256 of their files, the ImageSet at 128x128)."""
    folder = tmp_path_factory.mktemp("drawn") / "finger_numbers"
    bytes_sha256 = drawn(folder, split_of_names()[0].names[:16])
    return bytes_sha256, load_images(folder, size=128, cache=folder.parent / "cache")


def test_images_are_drawn_and_read_to_the_same_bytes(first_sixteen):
    assert first_sixteen[0] == "d948359821e54418a33896b26507ec74677961995b9d28722b9f4430bb6a2eda"
    assert first_sixteen[1].digest == "9fe1c518890dee09bd94fbb44ed7ed3d3aa82267c950b3bd8eee93beea996d22"


@pytest.mark.parametrize("options, epoch, indices, expected", [
    (dict(sigma=0.2, seed=0, crop_size=32, augment=True), 0, [0, 1, 2],
     "809c02f2697811adfa1ca4fc4db1a4e6c2a2d9acdf5751b21531e5acfa5e60ae"),
    (dict(sigma=0.2, seed=0, crop_size=32, augment=True), 3, [0, 5, -1],
     "be36830945d505e67c361e3d3dcd73fee600f34c6921fb02bf8b8c4ab689aaf2"),
    (dict(sigma=(0, 0.2), seed=3, clip=True), 0, [1, 2],
     "e8f430625ef65684f4b6477775032101e336c2292e7de9e73d628e14169acd88"),
])  # fmt: skip
def test_pairs_are_drawn_to_the_same_bits(first_sixteen, options, epoch, indices, expected):
    pairs = GaussianNoiseDataset(first_sixteen[1], **options)
    pairs.set_epoch(epoch)
    assert sha256(*pairs.batch(indices)) == expected


# ---- weights ----------------------------------------------------------------------------------


def test_the_default_network_starts_from_the_same_weights():
    assert weights_sha256(UNet(channels=3)) == "7225ec2dba7cb168d9214c6a92889bdc74342bab41a951e5a6b83688d7e2ba69"


SHORT = dict(epochs=2, cooldown=1)
RUNS = {  # settings, sha256 of the weights, train_mse of each epoch, sum of the weights' sizes
    "mse": (SHORT, "c7a2b125087e69ea", [0.04004314914345741, 0.03745922073721886], 1118.033599732259),
    "l1": (SHORT, "8dd4caa62203442c", [0.040057405829429626, 0.03755536302924156], 1117.9412435895624),
    "psnr": (SHORT, "d004a9d750bcc846", [0.040042828768491745, 0.0374579057097435], 1118.0309376125815),
    "ssim": (SHORT, "3cbe75effb4a78b6", [0.04027894139289856, 0.039892278611660004], 1117.1685895197127),
    "ms_ssim": (SHORT, "5d85e4535851ed72", [0.04019704461097717, 0.03882494941353798], 1117.4748818117755),
    "mix": (SHORT, "749b09e571a812d2", [0.04017939418554306, 0.038614481687545776], 1117.5863850538324),
    "mix:0.025": (SHORT, "e28cad5d29791144", [0.04005597159266472, 0.037539977580308914], 1117.9673400136664),
    "mse, cosine and Adam": (
        dict(epochs=3, schedule="cosine", optimizer="adam", adam_lr=1e-3), "76d38b8f63237b58",
        [0.040447358042001724, 0.03996630012989044, 0.039259009063243866], 1116.1923613122756,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_short_run_ends_with_the_same_weights(first_sixteen, name):
    settings, expected, errors, size = RUNS[name]
    train_set = GaussianNoiseDataset(first_sixteen[1], sigma=0.2, seed=0, crop_size=32, augment=True)
    model = UNet(channels=3, widths=(8, 16, 24))
    config = TrainConfig(batch_size=4, loss=name.partition(",")[0], **settings)
    history = list(training_loop(model, train_set, None, config))
    if bits_are_the_same_here():
        assert weights_sha256(model).startswith(expected)
    assert [record["train_mse"] for record in history] == pytest.approx(errors, rel=1e-4)
    assert sum(float(value.double().abs().sum()) for value in model.state_dict().values()) == pytest.approx(
        size, rel=1e-4
    )


NETWORKS = [  # network, sha256 of its initial weights, sum of its output once these were moved
    (lambda: UNet(blocks=2, widths=(8, 16)), "c8d1cdcd0c4abb42", 2436.6847824057913),
    (lambda: UNet2021(widths=(8, 16, 24)), "9957893a4cd55a29", 100.74528933718102),
    (lambda: NoSkipUNet(widths=(8, 16)), "11a3e4557a8589e1", 2563.2905288154725),
    (lambda: NoResidualUNet(widths=(8, 16)), "6fbbf74279fa4d23", 117.62461327997153),
    (lambda: BatchNormUNet(widths=(8, 16)), "77aa6edadf4ef3e2", 2485.7959450546186),
    (lambda: MaskUNet(widths=(8, 16)), "20d3c4dd40b21d6c", -177.4638727318379),
    (lambda: Autoencoder(latent=14), "28ff76d5bcafdf5a", 2449.329676389694),
    (lambda: DnCNN(depth=5, width=16), "f2c9401690dbf320", 2505.724981844425),
]


@pytest.mark.parametrize("network, expected, output", NETWORKS)
def test_the_compared_networks_are_the_same(network, expected, output):
    model = network().eval()
    assert weights_sha256(model).startswith(expected)
    rng, noisy = np.random.default_rng(1), np.random.default_rng(0).random((1, 3, 37, 45), dtype=np.float32)
    with torch.no_grad():
        if not isinstance(model, (Autoencoder, DnCNN)):  # whose last layer does not start at zero
            for p in model.parameters():
                p.add_(torch.from_numpy(0.01 * rng.standard_normal(p.shape, dtype=np.float32)))
        found = model(torch.from_numpy(noisy))
    assert float(found.double().sum()) == pytest.approx(output, abs=found.numel() * 1e-6)


# ---- the shipped networks ---------------------------------------------------------------------


def fixed_images():
    """Three images, float32 [1, 3, H, W]: waves and noise."""
    rng = np.random.default_rng(5)
    for height, width in [(96, 128), (65, 70), (200, 40)]:
        noise = torch.from_numpy(rng.random((3, height, width), dtype=np.float32))
        y, x = np.mgrid[0:height, 0:width]
        waves = torch.from_numpy((0.4 + 0.3 * np.sin(x / 9) * np.cos(y / 7)).astype(np.float32))
        yield (noise * 0.2 + waves).clamp(0, 1)[None]


SHIPPED = {  # of each image: the sum of the output, and three of its pixels
    "published/finder": [
        (6828.860708127196, [0.000175062712514773, 0.5557065010070801, 0.000702704070135951]),
        (2892.9887508757074, [0.00023600220447406173, 0.6357651948928833, 4.43300414190162e-05]),
        (5560.713050840031, [0.0005596515838988125, 0.6945080161094666, 1.3199338354752399e-05]),
    ],
}
TOLERANCE = {"published/finder": 1e-5}  # of a pixel


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_networks_give_the_same_output(name):
    model, tolerance = load(name).cpu(), TOLERANCE[name]
    for image, (total, pixels) in zip(fixed_images(), SHIPPED[name], strict=True):
        with torch.no_grad():
            out = model(image)
        found = [float(out[0, channel, y, x]) for channel, y, x in ((0, 0, 0), (-1, 7, 11), (0, -1, -1))]
        assert found == pytest.approx(pixels, abs=tolerance)
        assert float(out.double().sum()) == pytest.approx(total, abs=out.numel() * tolerance)


# ---- all of it --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_data_set_and_two_epochs_of_the_default_network(tmp_path):
    folder = make(tmp_path / "finger_numbers")
    files = sorted(folder.rglob("*.png"))
    assert len(files) == 300
    expected = "8f5c59f98e77741166c43a8fc7e7f37485efd36ed66bbf58916d0091210afce2"
    assert sha256(*(path.read_bytes() for path in files)) == expected
    images = load_images(folder, size=128, cache=tmp_path / "cache")
    assert images.digest == "f8b2c2a0c30457456b0e37e126efab659923be7e5d7f9211056b6f4312fa161f"
    train_images, held_out = split_images(images, held_out=0.2, seed=0)
    train_set = GaussianNoiseDataset(train_images, sigma=0.2, seed=0, crop_size=64, augment=True)
    test_set = GaussianNoiseDataset(held_out, sigma=0.2, seed=1, fixed=True)
    assert sha256(*train_set.batch([0, 1, 2])) == "4906eb07fa00161826996609d3d715088436450fe269746d675afea3e0e9c92d"
    model = UNet(channels=3)
    history = list(training_loop(model, train_set, test_set, TrainConfig(epochs=2)))
    if bits_are_the_same_here():
        assert weights_sha256(model) == "dbf3749d061da1c3b17b3485cb1581cadc24194a9a772bfad49228ab68e81934"
    assert [record["train_mse"] for record in history] == pytest.approx([0.01562092105, 0.0045673007766], rel=1e-3)
    assert [record["psnr"] for record in history] == pytest.approx([23.221891403, 24.185405731], abs=0.02)
