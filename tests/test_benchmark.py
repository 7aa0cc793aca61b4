"""The benchmark of real pairs: which files pair up, what their names tell, the figures and the command."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from src.files import ROOT
from src.photos import benchmark
from src.photos.benchmark import camera_in, iso_in, level_of_iso, measure, methods, photo_pairs, table


@pytest.fixture
def folder(tmp_path):
    """Four pairs of 24x32, noise of 10 of 255 on smooth images."""
    rng = np.random.default_rng(0)
    names = ["Nikon_4_80_6400_desk_1", "Nikon_4_80_6400_desk_2", "Sony_5_160_3200_plug_1", "Sony_5_160_3200_plug_10"]
    for name in names:
        clean = np.tile(np.linspace(60, 180, 32), (24, 1))[..., None].repeat(3, 2)
        noisy = clean + 10 * rng.standard_normal(clean.shape)
        Image.fromarray(clean.round().astype(np.uint8)).save(tmp_path / f"{name}_mean.png")
        Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(tmp_path / f"{name}_real.png")
    (tmp_path / "License.txt").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "name, iso",
    [("Canon5D2_5_160_3200_chair_11_real", 3200), ("NikonD800_4_125_12800_wall_3_real", 12800),
     ("d600_iso3200_1_real", 3200), ("5dmark3_ISO-800_2_real", 800), ("photo_7_real", None), ("desk_real", None)],
)  # fmt: skip
def test_iso_is_read_from_names(name, iso):
    assert iso_in(name) == iso


def test_files_pair_up_by_name_in_natural_order(folder):
    pairs = photo_pairs(folder)
    assert [noisy.stem for noisy, _ in pairs][-2:] == ["Sony_5_160_3200_plug_1_real", "Sony_5_160_3200_plug_10_real"]
    assert all(noisy.stem.removesuffix("_real") == clean.stem.removesuffix("_mean") for noisy, clean in pairs)
    pairs[0][1].unlink()
    with pytest.raises(ValueError, match="no reference"):
        photo_pairs(folder)


def test_psnr_is_that_of_the_error_in_8_bits(folder):
    found = measure(lambda noisy, level: noisy, photo_pairs(folder), "noisy")
    for (noisy, clean), figure in zip(photo_pairs(folder), found["psnr"]):
        error = np.float64(Image.open(noisy)) - np.float64(Image.open(clean))
        assert figure == pytest.approx(20 * math.log10(255 / np.sqrt((error**2).mean())), abs=1e-3)


def test_a_method_is_given_the_level_of_the_file(folder):
    given = []
    measure(lambda noisy, level: given.append(level) or noisy, photo_pairs(folder), "")
    assert given == [level_of_iso(6400)] * 2 + [level_of_iso(3200)] * 2


def test_the_table_has_a_column_for_each_camera():
    scores = dict(
        pairs=["A_1", "A_2", "B_1"], methods={"noisy": dict(psnr=[30.0, 32.0, 40.0], seconds_per_megapixel=0)}
    )
    header, row = table(scores).splitlines()
    assert [camera_in(name) for name in scores["pairs"]] == ["A", "A", "B"]
    assert header.split()[3:] == ["all", "3", "A", "2", "B", "1", "s/megapixel"]
    assert row.split()[1:] == ["34.00", "31.00", "40.00", "0.00"]


def test_failures_are_the_pairs_furthest_behind_the_best_other_method():
    figures = {"noisy": [30.0, 40.0, 20.0, 30.0], "camera network": [32.0, 38.0, 20.0, 31.0]}
    figures |= {"camera network, no level": [50.0] * 4, "other": [31.0, 37.0, 21.0, 30.5]}
    scores = dict(pairs=list("abcd"), methods={name: dict(psnr=psnr) for name, psnr in figures.items()})
    found = benchmark.failures(scores, count=2)
    assert [(f["pair"], f["best"], f["best_psnr"]) for f in found] == [("b", "noisy", 40.0), ("c", "other", 21.0)]


def test_opencv_colours_are_swapped_there_and_back():
    pytest.importorskip("cv2")
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    assert torch.equal(benchmark.from_cv2(benchmark.to_cv2(image)), image)
    flat = torch.tensor([200, 90, 30], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 16, 16)
    assert torch.equal(benchmark.bilateral(flat, 0.1), flat)
    assert (benchmark.fast_nl_means(flat, 0.1).int() - flat.int()).abs().max() <= 2  # by way of CIELAB


@pytest.mark.skipif(not (ROOT / "checkpoints/published/camera/weights.pt").exists(), reason="no camera network here")
def test_the_command_measures_prints_and_writes(folder, tmp_path, capsys):
    chosen = ["noisy", "gaussian", "camera mode, 2 passes", "camera network", "camera network, no level"]
    out = tmp_path / "scores.json"
    assert (
        benchmark.main([str(folder), "--limit", "2", "--out", str(out), "--clean", str(folder), "--methods", *chosen])
        == 0
    )
    scores = json.loads(out.read_text())
    assert scores["clean"]["images"] == 4 and scores["clean"]["psnr"]["gaussian"] > 30
    assert list(scores["methods"]) == chosen and len(scores["pairs"]) == 2
    printed = capsys.readouterr().out
    assert all(words in printed for words in ["PSNR in dB", "s/megapixel", *chosen])
    for name in chosen[1:]:
        assert np.mean(scores["methods"][name]["psnr"]) > np.mean(scores["methods"]["noisy"]["psnr"]) + 1


@pytest.mark.skipif(not (ROOT / "checkpoints/published/camera/weights.pt").exists(), reason="no camera network here")
def test_methods_of_packages_that_are_missing_are_left_out(monkeypatch):
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert not any("OpenCV" in name or "BM3D" in name for name in methods())


def test_errors_are_one_line(tmp_path, capsys):
    assert benchmark.main([str(tmp_path)]) == 1
    assert benchmark.main([str(tmp_path / "none")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") for line in lines)
