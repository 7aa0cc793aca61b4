"""What is published is complete, belongs together, and gives its figures on any machine."""

import json
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets.finger_numbers import CLASSES, draw
from src.files import ROOT
from src.images import ImageSet, load_images, split_images
from src.loop import denoised_batches
from src.metrics import psnr
from src.noise import GaussianNoiseDataset
from src.studies.records import PUBLISHED, published_runs
from src.unet import UNet

STUDIES = sorted(path.parent.name for path in PUBLISHED.glob("*/runs.jsonl"))
# evaluated otherwise than in training
OTHERWISE = (
    "transposed output", "wrong normalisation", "wrong normalisation, raw input", "2021 protocol",
    "BatchNorm, batch size 1, train mode", "transposed target",
)  # fmt: skip


def test_the_folder_holds_a_study_a_folder_and_few_files():
    assert len([path for path in PUBLISHED.rglob("*") if path.is_file()]) <= 60
    numbers = ["01_denoise", "02_epochs", "03_losses", "04_architectures", "05_noise", "06_pitfalls", "09_speed"]
    assert numbers == STUDIES


@pytest.mark.parametrize("study", STUDIES)
def test_runs_are_complete_and_their_scores_are_those_of_their_history(study):
    runs = published_runs(study)
    assert len({run.name for run in runs}) == len(runs) > 5
    for run in runs:
        config, epochs = run.fingerprint["config"], len(run.history)
        assert [record["epoch"] for record in run.history] == list(range(1, epochs + 1)) and run.seed == config["seed"]
        assert run.environments and run.parameters > 0 and config.get("epochs", epochs) == epochs
        if run.scores and run.case not in OTHERWISE:
            # trained under autocast and evaluated in the same precision: equal but for rounding
            assert abs(run.history[-1]["psnr"] - run.score()) < 0.01, run.name
        if study not in ("01_denoise", "09_speed") and run.data == "sign_digits" and "full width" not in run.case:
            assert [r.seed for r in runs if (r.data, r.case) == (run.data, run.case)] == [0, 1, 2]


def test_every_published_weight_file_belongs_to_a_run():
    names = {f"{run.name}-epoch{epoch}.pt" for s in STUDIES for run in published_runs(s) for epoch in run.scores}
    assert {path.name for s in STUDIES for path in (PUBLISHED / s).glob("*.pt")} <= names
    for folder in ("denoiser", "finder", "08_object_blur_out"):
        record = json.loads((PUBLISHED / folder / "record.json").read_text())
        assert {"fingerprint", "sha256", "command"} <= record.keys()


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Six of the default run's 60 held-out images, drawn anew: position -> uint8 [3, 128, 128]."""
    names = [f"{label}/scene{n:02d}_{shot}.png" for label in sorted(CLASSES) for n in range(10) for shot in range(3)]
    blank = torch.zeros(len(names), 3, 1, 1, dtype=torch.uint8)
    labels, groups = [name.split("/")[0] for name in names], [name[:-6] for name in names]
    _, chosen = split_images(ImageSet.from_pixels(blank, names, labels, groups), held_out=0.2, seed=0)
    chosen = chosen.sample(60, 0).names
    folder = tmp_path_factory.mktemp("drawn")
    places = range(5, 60, 10)
    for place in places:
        label, scene, shot = chosen[place][:-4].replace("/scene", "_").split("_")
        image, _ = draw(CLASSES.index(label) + 1, int(scene), int(shot))
        Image.fromarray(image).save(folder / f"{place}.png")
    return dict(zip(places, load_images(folder, size=128, cache=folder / "cache").pixels))


@pytest.mark.parametrize("threads", [1, 2])
def test_shipped_weights_give_the_published_figures_here(held_out, threads):
    run = next(run for run in published_runs("01_denoise") if run.name == "finger_numbers-default-0")
    model = UNet(**{name: value for name, value in run.fingerprint["network"].items() if name != "class"})
    model.load_state_dict(run.weights())
    pixels = torch.zeros(60, 3, 128, 128, dtype=torch.uint8)
    for place, image in held_out.items():
        pixels[place] = image
    pairs = GaussianNoiseDataset(ImageSet.from_pixels(pixels), sigma=0.2, seed=1, fixed=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = torch.cat([psnr(denoised, clean) for _, clean, denoised in denoised_batches(model, pairs)])
    finally:
        torch.set_num_threads(before)
    expected = run.filters["psnr"]["unet"]["images"]
    for place in held_out:
        assert found[place].item() == pytest.approx(expected[place], abs=0.02)


def test_training_again_elsewhere_gave_the_same_finding():
    """One seed of sign_digits on a processor without bfloat16 units, in float32, beside the three published."""
    runs = [run for run in published_runs("01_denoise") if run.data == "sign_digits"]
    default, elsewhere = runs[:3], runs[3]
    assert elsewhere.environments[0]["precision"] != default[0].environments[0]["precision"]
    assert elsewhere.fingerprint == default[0].fingerprint and elsewhere.test_sets == default[0].test_sets
    finals = [run.history[-1]["psnr"] for run in default]
    assert abs(elsewhere.history[-1]["psnr"] - finals[0]) < 0.15
    assert abs(elsewhere.history[-1]["psnr"] - mean(finals)) < 0.15 + 2 * stdev(finals)
    curves = [{r["epoch"]: r["psnr"] for r in run.history if "psnr" in r} for run in (elsewhere, default[0])]
    apart = [abs(curves[0][epoch] - curves[1][epoch]) for epoch in curves[0].keys() & curves[1].keys() if epoch >= 10]
    assert len(apart) == 10 and np.mean(apart) < 0.1


PHOTOS = ROOT.parent / "shared/data"


@pytest.mark.skipif(not (PHOTOS / "cbsd68").is_dir(), reason="the field's photos are not here")
@pytest.mark.parametrize("name, method", [("CBSD68", "noisy"), ("CBSD68", "ours, drawn"), ("Set12", "ours, drawn")])
def test_the_tables_of_07_are_of_what_is_shipped(name, method, monkeypatch):
    from src.studies import photo_benchmarks as benchmarks

    folder, mode = benchmarks.SETS[name]
    three = list(benchmarks.noisy_pairs(PHOTOS / folder, mode, 25 / 255))[:3]
    monkeypatch.setattr(benchmarks, "noisy_pairs", lambda *_: iter(three))
    tool = benchmarks.network_method(benchmarks.SHIPPED) if method != "noisy" else lambda noisy, sigma: noisy
    found = benchmarks.measure(tool, PHOTOS / folder, mode, 25)
    expected = benchmarks.load_scores()[name]["25"][method]
    assert found["names"] == expected["names"][:3]
    np.testing.assert_allclose(found["psnr"], expected["psnr"][:3], atol=0.02)
