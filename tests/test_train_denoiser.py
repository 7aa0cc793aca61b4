"""python -m src.photos.train_denoiser, as its help and the records name it, with tiny parameters."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from src.checkpoint import load, run_folder
from src.datasets.drawn_photos import make
from src.images import load_images, split_images
from src.networks import NoiseLevelNormalised
from src.photos.train_denoiser import RECIPE, STAGES, load_all, main, parsed
from src.unet import UNet

TINY = ["--size", "32", "--crop-size", "16", "--widths", "4", "8", "--batch-size", "4", "--epochs", "2", "--held-out",
        "0.25"]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return str(make(tmp_path_factory.mktemp("photos") / "set", count=16, size=32, workers=1))


def test_the_recipe_of_the_shipped_network_and_one_that_starts_from_it(photos, tmp_path, capsys):
    first, grey = str(tmp_path / "denoiser"), str(tmp_path / "grey")
    assert main(["--data", photos, "--run", first, *TINY]) == 0
    assert "held-out PSNR" in capsys.readouterr().out
    record = json.loads((run_folder(first) / "record.json").read_text())
    train_set, config = (record["fingerprint"][name] for name in ("train_set", "config"))
    assert train_set["grey_fraction"] == 0.25 and train_set["sigma"] == [0.0, pytest.approx(55 / 255)]
    assert config["loss"] == "psnr" and config["cooldown"] == 1
    assert type(load(first)) is UNet

    options = ["--grey-fraction", "1", "--min-scale", "0.75", "--blocks", "2", "--noise-level-normalised", "--vivid",
               "--teacher", first]  # fmt: skip
    assert main(["--data", photos, "--run", grey, "--start", first, *options, *TINY]) == 0
    model = load(grey)
    assert isinstance(model, NoiseLevelNormalised) and model.unet.config["blocks"] == 2
    assert main(["--data", photos, "--run", str(tmp_path / "blind"), "--start", grey, "--blocks", "2", *TINY]) == 1
    assert "is noise-level normalised; add --noise-level-normalised" in capsys.readouterr().err


def test_pairs_made_on_the_device_are_part_of_the_run(photos, tmp_path, capsys):
    """A run goes on with the draws that it began with, whatever the machine."""
    words = ["--data", photos, "--run", str(tmp_path / "run"), *TINY, "--min-scale", "0.75"]
    assert main([*words, "--device-data"]) == main([*words, "--device-data", "--epochs", "2"]) == 0
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["fingerprint"]["train_set"]["class"].endswith("DeviceNoiseDataset")
    assert record["fingerprint"]["train_set"]["grey_fraction"] == 0.25 and "class" not in record["test_set"]
    assert main([*words, "--no-device-data"]) == 1
    assert "class is src.datasets.device_noise.DeviceNoiseDataset, not None" in capsys.readouterr().err
    assert parsed([]).device_data == torch.cuda.is_available()


def test_defaults_are_the_recipe_of_the_shipped_network():
    arguments = parsed([])
    assert (arguments.epochs, arguments.batch_size, arguments.loss) == tuple(RECIPE.values()) == (264, 16, "psnr")
    assert arguments.widths == [32, 64, 128, 192] and arguments.grey_fraction == 0.25


@pytest.mark.parametrize(
    "options, message",
    [
        (["--widths", "8", "16"], r"has widths \[4, 8\], got \[8, 16\]; name those"),
        (["--start", "no-such-run"], "no run in"),
        (["--min-scale", "0.1"], "need 160 pixels, the images have 32"),
        (["--sigma", "0.2", "0.1"], "a range of sigma must be"),
        (["--cooldown", "3"], "cooldown must be a whole number from 0 to 2"),
    ],
)
def test_what_does_not_fit_is_one_line(options, message, photos, tmp_path, capsys):
    start = [] if "--start" in options or "--widths" not in options else ["--start", tiny_run(photos, tmp_path)]
    assert main(["--data", photos, "--run", str(tmp_path / "run"), *TINY, *start, *options]) == 1
    err = capsys.readouterr().err
    line = err.splitlines()[-1]
    assert line.startswith("error: ") and re.search(message, line), err


def tiny_run(photos, tmp_path):
    assert main(["--data", photos, "--run", str(tmp_path / "first"), *TINY[:-4], "--epochs", "1", *TINY[-2:]]) == 0
    return str(tmp_path / "first")


def test_the_nine_runs_start_from_one_another():
    first, deeper, vivid, sharp, reliefs, thickets, symmetric, fabrics, last = (
        parsed(options.split()) for options in STAGES
    )
    assert first.start is None and deeper.start == first.run and vivid.start == deeper.run
    assert sharp.start == vivid.run and sharp.sharp and sharp.vivid and not vivid.sharp
    assert reliefs.start == sharp.run and reliefs.data == [*first.data, "data/reliefs"] and reliefs.sharp
    assert thickets.start == reliefs.run and set(reliefs.data) < set(thickets.data) and thickets.sharp
    assert symmetric.start == symmetric.teacher == thickets.run and not set(symmetric.data) & set(thickets.data)
    assert fabrics.start == fabrics.teacher == "published/denoiser" and not set(fabrics.data) & set(symmetric.data)
    assert last.start == "published/denoiser" and last.data == ["data/textured"] and not last.teacher
    assert not deeper.vivid and vivid.vivid and deeper.blocks == vivid.blocks == 2


def test_a_folder_of_ones_own_photos(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(8):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    assert main(["--data", str(tmp_path), "--run", str(tmp_path / "run"), *TINY, "--sigma", "25/255"]) == 0


def test_images_of_two_folders_are_held_out_from_both(photos, tmp_path):
    """Files of one name in two folders stay two images; a folder alone gives the set that load_images gives."""
    other = str(make(tmp_path / "other", seed=1, count=8, size=32, workers=1))
    images = load_all([photos, other], 32)
    assert torch.equal(images.pixels, torch.cat([load_images(folder, size=32).pixels for folder in (photos, other)]))
    train_images, held_out = split_images(images, 0.25)
    assert sorted(held_out.labels) == ["0"] * 4 + ["1"] * 2 and not set(held_out.groups) & set(train_images.groups)
    assert load_all([photos], 32).digest == load_images(photos, size=32).digest
    assert main(["--data", photos, other, "--run", str(tmp_path / "run"), *TINY]) == 0
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["fingerprint"]["train_set"]["count"] == 18 and record["test_set"]["count"] == 6
