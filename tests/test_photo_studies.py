"""The studies of 07: the field's protocol, tables of the published scores, photos, simulated cameras."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from src.evaluation import Scores
from src.metrics import psnr
from src.photos.denoiser import SHIPPED
from src.photos.publishing import read_record
from src.studies import photo_benchmarks, photo_noise
from src.unet import UNet


@pytest.fixture(scope="module")
def test_sets(tmp_path_factory):
    """Two small photos in each of the folders of the field's sets."""
    root = tmp_path_factory.mktemp("sets")
    for folder, mode in photo_benchmarks.SETS.values():
        (root / folder).mkdir()
        for name in ("astronaut", "chelsea"):
            Image.fromarray(getattr(data, name)()[100:148, 100:164]).convert(mode).save(root / folder / f"{name}.png")
    return root


def test_the_protocol_of_the_field(test_sets):
    """Noise of a known level, unclipped; PSNR as scikit-image has it."""
    pairs = list(photo_benchmarks.noisy_pairs(test_sets / "cbsd68", "RGB", 25 / 255))
    assert [name for name, *_ in pairs] == ["astronaut.png", "chelsea.png"]
    for _, noisy, clean in pairs:
        assert float((noisy - clean).std()) == pytest.approx(25 / 255, rel=0.03) and noisy.max() > 1
    found = photo_benchmarks.measure(lambda noisy, sigma: noisy, test_sets / "cbsd68", "RGB", 25)
    assert np.mean(found["psnr"]) == pytest.approx(-20 * np.log10(25 / 255), abs=0.1)  # of the noise, not clipped
    found = photo_benchmarks.measure(lambda noisy, sigma: noisy.clone(), test_sets / "cbsd68", "RGB", 25)
    expected = [peak_signal_noise_ratio(c.numpy(), n.clamp(0, 1).numpy(), data_range=1) for _, n, c in pairs]
    assert found["psnr"] == pytest.approx(expected, abs=1e-3)
    assert found["rounded"] == pytest.approx(expected, abs=0.05) and found["seconds_per_megapixel"] >= 0


def test_the_command_measures_what_is_missing_and_nothing_twice(test_sets, tmp_path, capsys):
    out = tmp_path / "scores.json"
    command = [str(test_sets), "--out", str(out), "--methods", "noisy", photo_benchmarks.OURS, "--sets", "Set12"]
    assert photo_benchmarks.main(command) == 0
    scores = json.loads(out.read_text())
    assert set(scores["Set12"]) == {"15", "25", "50"} and set(scores["Set12"]["15"]) == {"noisy", "ours, drawn"}
    ours, noisy = (np.mean(scores["Set12"]["25"][name]["psnr"]) for name in ("ours, drawn", "noisy"))
    assert ours > noisy + 5
    before = out.read_bytes()
    capsys.readouterr()
    assert photo_benchmarks.main(command) == 0 and out.read_bytes() == before
    assert f"Set12 25 ours, drawn {ours:.3f}, as scores.json has it" in capsys.readouterr().out
    assert photo_benchmarks.main([str(test_sets), "--out", str(out), "--methods", "none"]) == 1
    assert "--methods must be some of noisy, nlm, bm3d" in capsys.readouterr().err
    assert photo_benchmarks.main([str(tmp_path), "--out", str(out), "--methods", "nlm"]) == 1
    assert re.match(r"error: no .*cbsd68, expected a folder of photos; see data/README.md", capsys.readouterr().err)


def test_a_run_is_published_and_measured(test_sets, tmp_path):
    from src.config import TrainConfig
    from src.images import ImageSet
    from src.noise import GaussianNoiseDataset
    from src.train import fit

    clean = ImageSet.from_pixels(torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8))
    run, target = str(tmp_path / "run"), tmp_path / "published"
    config = TrainConfig(epochs=2, batch_size=4, cooldown=1)
    fit(UNet(widths=(4, 8)), GaussianNoiseDataset(clean), None, config, run=run)
    assert photo_benchmarks.main(["--publish", run, "--to", str(target)]) == 0
    record = read_record(target)
    commands = record["command"].split(" && ")
    assert commands[0] == "python -m src.photos.train_denoiser" and "--start deeper" in commands[2]
    assert commands[-1] == "python -m src.studies.photo_benchmarks --publish textured"
    assert len(record["sha256"]) == 64
    command = [str(test_sets), "--weights", f"mine={target}", "--methods", "mine", "mine, ensemble", "--sets", "CBSD68",
               "--out", str(tmp_path / "scores.json")]  # fmt: skip
    assert photo_benchmarks.main(command) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["CBSD68"]["15"]["mine"]["weights"] == record["sha256"]
    command[2] = f"mine={run}"  # a run that is not published, too
    assert photo_benchmarks.main([*command[:-1], str(tmp_path / "run.json")]) == 0


def test_tables_of_the_published_scores():
    scores = photo_benchmarks.load_scores()
    table = photo_benchmarks.field_table(scores, "CBSD68")
    means = [round(value, 2) for value in photo_benchmarks.mean_psnr(scores, "CBSD68", photo_benchmarks.OURS)]
    assert table.loc["ours"].tolist() == ["measured", *means] and len(table) == 15
    assert table["sigma 15"].is_monotonic_increasing and table.loc["SwinIR", "source"] == "published"
    found = photo_benchmarks.paired_differences(scores, "CBSD68", (("ours, photos", photo_benchmarks.FIRST),))
    assert found.iloc[0].tolist() == ["+0.21 ± 0.09", "+0.21 ± 0.08", "+0.18 ± 0.08"]
    gains = photo_benchmarks.field_gains(scores, "CBSD68", 25, ("bm3d", "ours, drawn"), over="nlm")
    assert list(gains.values()) == sorted(gains.values())
    assert gains["DnCNN (published)"] == pytest.approx(31.24 - 27.77, abs=0.006)
    worst = photo_benchmarks.worst_images(scores, "Set12", "ours, drawn", "bm3d", count=1)
    assert worst.iloc[0].tolist() == ["Set12", "09.png", "BM3D", -0.73, 29.93]
    assert read_record(SHIPPED)["sha256"] == scores["CBSD68"]["25"]["ours, drawn"]["weights"]


def test_photos_to_show():
    images = photo_noise.bundled_photos(("astronaut", "page"), 64)
    assert images.shape == (2, 3, 64, 64) and images.names == ("astronaut", "page")
    whole = photo_noise.bundled_photos(("astronaut",), 64, whole=True).array(0)
    expected = np.asarray(Image.fromarray(data.astronaut()).resize((64, 64), Image.LANCZOS)).transpose(2, 0, 1)
    assert np.array_equal(whole, expected)  # a square photo: all of it
    square = photo_noise.read_square("camera", 100)
    assert square.shape == (1, 100, 100) and 0 <= square.min() < square.max() <= 1


def test_ones_own_photo(tmp_path):
    Image.fromarray(data.astronaut()[:60, :90]).save(tmp_path / "a.png")
    square = photo_noise.read_square(str(tmp_path / "a.png"), 50)
    expected = data.astronaut()[5:55, 20:70].transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(square.numpy(), expected.astype(np.float32))
    assert photo_noise.read_square(str(tmp_path / "a.png"), 500).shape == (3, 60, 90)


def test_camera_noise_is_that_of_a_darker_room_and_correlated():
    clean = photo_noise.bundled_photos(("astronaut", "coffee"), 96).pixels / 255
    noisy, reference = photo_noise.camera_photos(clean, 2e-3)
    dark, _ = photo_noise.camera_photos(clean, 2e-2)
    assert noisy.shape == reference.shape == clean.shape and noisy.min() >= 0 and noisy.max() <= 1
    assert float(psnr(dark, reference).mean()) < float(psnr(noisy, reference).mean()) - 3
    noise = (noisy - reference).mean(dim=1)
    neighbours = torch.corrcoef(torch.stack([noise[..., :-1].flatten(), noise[..., 1:].flatten()]))[0, 1]
    assert neighbours > 0.2
    again, _ = photo_noise.camera_photos(clean, 2e-3)
    assert torch.equal(noisy, again)


def test_gains_of_an_ideal_and_an_idle_method():
    clean = photo_noise.bundled_photos(("astronaut",), 64).pixels / 255
    kinds = photo_noise.noise_kinds(clean, 0.1, 2e-3)
    table = photo_noise.gain_table(kinds, {"idle": lambda x: x})
    assert table["idle"].tolist() == table["noisy"].tolist() and len(table) == len(kinds) == 6
    assert table.loc["Gaussian", "noisy"] == pytest.approx(20, abs=0.4)
    ideal = photo_noise.gain_table({"Gaussian": kinds["Gaussian"]}, {"ideal": lambda x: clean})
    assert ideal.loc["Gaussian", "ideal"] == 100


def test_the_table_of_real_photos(tmp_path):
    methods = {
        "noisy": {"psnr": [30.0, 40.0], "seconds_per_megapixel": 0.0},
        "camera network": {"psnr": [34.0, 39.0], "seconds_per_megapixel": 0.4},
    }
    (tmp_path / "polyu.json").write_text(json.dumps({"methods": methods, "pairs": ["b", "a"]}))
    table = photo_noise.polyu_table(tmp_path / "polyu.json").loc[["noisy", "camera mode"]]
    assert table["PSNR, dB"].tolist() == ["35.00", "36.50"] and table["improved, %"].tolist() == ["0", "50"]
    assert table["PSNR, other 75"].tolist() == ["30.00", "34.00"]  # the level was chosen on the first by name, "a"


def test_the_worst_crops_are_where_the_network_errs_most():
    clean = torch.zeros(3, 3, 40, 40)
    denoised = clean.clone()
    denoised[2, :, 24:, :16] = 0.5
    denoised[1, :, :16, 24:] = 0.2
    scores = Scores(("a", "b", "c"), clean, clean, {"nlm": clean, "unet": denoised}, {}, {})
    crops = photo_noise.worst_crops(scores, side=16, count=2)
    assert list(crops) == ["clean", "noisy", "NLM", "ours"] and crops["ours"].shape == (2, 3, 16, 16)
    assert crops["ours"].mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.5, 0.2])


def test_psnr_in_and_out_of_a_network_that_does_nothing():
    images = photo_noise.bundled_photos(("astronaut",), 48)
    points = photo_noise.psnr_in_and_out(UNet(widths=(4, 8)), images, [0.05, 0.2])
    assert [before for before, _ in points] == pytest.approx([26.02, 13.98], abs=0.3)
    assert all(after == pytest.approx(before, abs=1.5) for before, after in points)  # but for the clamping


def test_spread_of_the_eight_symmetries():
    """A network that adds the row number is wrong by the row, and its eight answers differ."""

    class Rows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.01))

        def forward(self, x):
            return x + self.scale * torch.arange(x.shape[2])[None, None, :, None]

    clean = torch.zeros(1, 3, 6, 6)
    spread, error = photo_noise.symmetry_spread(Rows(), clean, clean)
    assert spread.shape == error.shape == (1, 1, 6, 6)
    # each pixel sees the rows y, 5 - y, x and 5 - x twice: their mean is 2.5
    assert torch.allclose(error, torch.full_like(error, 0.025), atol=1e-6)
    expected = torch.tensor([0.0, 0.0, 5, 5] * 2).mul(0.01).std()
    assert float(spread[0, 0, 0, 0]) == pytest.approx(float(expected), abs=1e-6)
    curve = photo_noise.error_by_spread(spread, error, parts=3)
    assert [x for x, _ in curve] == sorted(x for x, _ in curve)
    assert photo_noise.rank_correlation(spread, 3 * spread) == pytest.approx(1)
