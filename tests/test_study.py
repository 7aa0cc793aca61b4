"""A study trains what is not published, loads what is, and says which; its tables are means over the seeds."""

import json
import shutil
from dataclasses import replace
from math import log10
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from PIL import Image

from src.loop import denoised_batches
from src.metrics import psnr
from src.noise import GaussianNoiseDataset
from src.studies import records, study
from src.studies.records import as_line, publish, published_runs
from src.studies.results import Results, stated
from src.studies.study import Study
from src.unet import UNet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty small images of their own colours."""
    path = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for index in range(20):
        coarse = torch.rand(1, 3, 3, 3, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=(24, 24), mode="bilinear")[0]
        Image.fromarray((image.permute(1, 2, 0) * 255).to(torch.uint8).numpy()).save(path / f"{index}.png")
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "PUBLISHED", tmp_path / "published")
    published_runs.cache_clear()
    yield
    published_runs.cache_clear()


def small(tmp_path, folder, **more):
    settings = dict(seeds=(0, 1), epochs=2, crop_size=16, widths=(4, 8)) | more
    return Study(str(tmp_path / "runs"), {folder: 24}, **settings)


CASES = {"MSE": {}, "L1, plain": {"loss": "l1"}, "few": {"n_images": 4, "epochs": 3}}


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """(study, results) of CASES, with a snapshot after epoch 1."""
    one = small(tmp_path_factory.mktemp("trained"), folder, snapshots=(1,))
    return one, one.run(CASES)


def test_scores_are_those_of_the_network_that_was_kept(trained):
    one, results = trained
    name = results.data[0]
    for case, recipe in CASES.items():
        for run in results[name, case]:
            batches = denoised_batches(one.trained_network(run, recipe), one.held_out(name, run.seed))
            expected = torch.cat([psnr(denoised, clean) for _, clean, denoised in batches]).mean().item()
            assert run.score() == pytest.approx(expected, abs=1e-4)
            assert run.history[-1]["psnr"] == pytest.approx(expected, abs=1e-4)
            assert list(run.scores) == ["1", str(recipe.get("epochs", 2))]
            assert run.score("parameters") == sum(p.numel() for p in UNet(widths=(4, 8)).parameters())
    fingerprint = results[name, "few"][0].fingerprint
    assert fingerprint["train_set"]["count"] == 4 == fingerprint["config"]["batch_size"]  # no batch exceeds the set
    assert results[name, "few"][0].steps_per_epoch == 1
    assert len({run.score() for run in results[name, "MSE"]}) == 2


def test_tables_are_means_and_standard_deviations_over_the_seeds(trained):
    _, results = trained
    name = results.data[0]
    runs, others = results[name, "MSE"], results[name, "L1, plain"]
    values = [run.score("ssim") for run in runs]
    assert results.spread(name, "MSE", "ssim") == (mean(values), stdev(values))
    table = results.table(["ssim", ("psnr", "train"), ("psnr", "held_out", 1)])
    assert list(table.index) == list(CASES)
    assert list(table.columns) == ["SSIM", "PSNR (dB), train", "PSNR (dB), 1 epochs"]
    assert table.loc["MSE", "SSIM"] == f"{mean(values):.4f} ± {stdev(values):.4f}"
    less = [run.score() - other.score() for run, other in zip(others, runs)]
    assert results.difference(name, "L1, plain", "MSE") == (mean(less), stdev(less))
    assert results.table(["psnr"], against="MSE").iloc[0, 0] == f"{mean(less):+.2f} ± {stdev(less):.2f}"
    (first, *_), (last, middle, deviation) = results.curve(name, "MSE")
    assert (first, last) == (1, 2) and (middle, deviation) == results.spread(name, "MSE")
    errors = [run.history[1]["train_mse"] for run in runs]
    decibels = -5 * log10(errors[0]) - 5 * log10(errors[1])
    assert results.history(name, "MSE", "train_psnr")[1][:2] == (2, pytest.approx(decibels))
    assert (results | results.select(["few"])).cases == list(CASES) and results.claim("a title") == ""
    assert (
        stated(31.666, 0.153) == "31.67 ± 0.15" and stated(-0.5, sign="+") == "-0.50" and stated(1e6) == "1,000,000.00"
    )


def test_what_is_published_is_loaded_when_its_fingerprint_matches(tmp_path, folder, trained, monkeypatch, capsys):
    before, one = trained[1], small(tmp_path, folder)
    kept = before[before.data[0], "MSE"][0].name
    publish("runs", before.runs, {kept: (2,)})
    monkeypatch.setattr(study, "fit", None)  # any training would call it
    after = one.run(CASES)
    assert (
        "6 runs, all loaded from checkpoints/published/\n" in capsys.readouterr().out
        and not (tmp_path / "runs").exists()
    )
    for ours, theirs in zip(after.runs, before.runs, strict=True):
        assert (ours.history, ours.scores, ours.environments) == (theirs.history, theirs.scores, theirs.environments)
    assert after.claim("a title") == "a title"
    columns = one.columns(after, CASES, ["MSE"])
    assert {name: x.shape for name, x in columns.items()} == dict.fromkeys(("clean", "noisy", "MSE"), (4, 3, 24, 24))
    torch.testing.assert_close(columns["MSE"], trained[0].columns(before, CASES, ["MSE"])["MSE"])
    with pytest.raises(FileNotFoundError, match="weights of epoch 2 are not published"):
        one.columns(after, CASES, ["L1, plain"])
    # fewer epochs are an earlier stage of the same run
    earlier = small(tmp_path, folder, epochs=1).run({"MSE": {}}).runs[0]
    assert earlier.history == before.runs[0].history[:1] and list(earlier.scores) == ["1"]
    # another noise, another length, or the wish for it, and it would be trained
    for other in (dict(sigma=0.1), dict(epochs=3), dict(retrain=True), dict(widths=(4, 6))):
        with pytest.raises(TypeError, match="not callable"):
            small(tmp_path, folder, **other).run({"MSE": {}})


def test_without_the_images_what_is_published_still_counts(tmp_path, folder, trained, capsys):
    publish("runs", trained[1].runs)
    gone = str(tmp_path / "absent" / Path(folder).name)
    assert len(small(tmp_path, gone).run({"MSE": {}}).runs) == 2
    assert "2 runs, all loaded from checkpoints/published/\n" in capsys.readouterr().out
    assert len(small(tmp_path, gone, retrain=True).run({"MSE": {}}).runs) == 2  # what cannot be trained is shown
    for other, recipe in [({}, {"loss": "l1"}), ({}, {"n_images": 4}), ({"sigma": 0.1}, {}), ({"crop_size": 12}, {})]:
        with pytest.raises(FileNotFoundError, match="no data set of"):
            small(tmp_path, gone, **other).run({"MSE": recipe})


def test_a_data_set_that_is_absent_is_left_out_and_named(tmp_path, folder, capsys):
    one = Study(
        str(tmp_path / "runs"), {"absent/set": 24, folder: 24}, {}, 1, crop_size=16, widths=(4, 8), retrain=True
    )
    results = one.run({"MSE": {}})
    assert results.data == [Path(folder).name] and [run.seed for run in results.runs] == [0]
    assert "left out: absent/set, neither in data/ nor published" in capsys.readouterr().out
    assert "±" not in results.table(["psnr"]).iloc[0, 0]  # one seed


def test_of_a_set_that_has_changed_what_is_published_is_shown_and_named(tmp_path, folder, trained, capsys):
    publish("runs", trained[1].runs)
    other = tmp_path / "grown" / Path(folder).name
    shutil.copytree(folder, other)
    Image.open(other / "0.png").transpose(Image.Transpose.ROTATE_180).save(other / "1.png")
    small(tmp_path, str(other)).run({"MSE": {}})
    assert "2 runs, all loaded from checkpoints/published/ (other images than in" in capsys.readouterr().out


def test_a_case_is_evaluated_and_trained_as_it_says(tmp_path, folder):
    class Black(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, noisy):
            return torch.zeros_like(noisy)

    one = small(tmp_path, folder, seeds=(1,))
    one = replace(
        one, test_sets={"same": lambda held_out, seed: GaussianNoiseDataset(held_out, 0.2, seed + 1, fixed=True)}
    )
    cases = {"black": {"evaluate_as": Black, "optimizer": "adam", "batch_size": 4, "sigma": 0.1, "epochs": 1}}
    run = one.run(cases).runs[0]
    clean = one.held_out(folder, 1).batch(list(range(4)))[1]
    assert run.score("mse") == pytest.approx(clean.square().mean(dim=(1, 2, 3)).mean().item(), abs=1e-6)
    assert run.scores["1"]["same"] == run.scores["1"]["held_out"] != run.scores["1"]["train"]
    config = run.fingerprint["config"]
    assert (config["optimizer"], config["batch_size"], config["seed"]) == ("adam", 4, 1)
    assert run.fingerprint["train_set"]["sigma"] == 0.1 and run.test_sets["held_out"]["sigma"] == 0.2
    again = one.run(cases).runs[0]
    assert again.history == run.history and again.scores == run.scores  # kept here: seconds and all
    with pytest.raises(ValueError, match=r"case 'odd' has \['lose'\], expected"):
        one.run({"odd": {"lose": "l1"}})


def test_a_line_of_runs_jsonl_holds_the_run(trained):
    run = trained[1].runs[0]
    assert json.loads(as_line(run))["history"]["psnr"] == [record.get("psnr") for record in run.history]
    gaps = replace(
        run, history=[{"epoch": 1, "train_mse": 0.1, "seconds": 1.0}, {"epoch": 2, "train_mse": 0.1, "psnr": 20.0}]
    )
    assert records._from_line(json.loads(as_line(gaps)), run.study).history == gaps.history
    assert Results([run]).cases == ["MSE"] and trained[1].runs[2].name.endswith("-l1_plain-0")


def test_a_ranked_table_marks_the_best_and_says_which_way_is_better(trained):
    results = trained[1]
    table = results.ranked(["psnr", "l1"])
    assert list(table.columns) == ["PSNR (dB) ↑", "L1 ↓"] and table.index.name.endswith("2 seeds")
    for column, choose in (("psnr", max), ("l1", min)):
        best = choose(results.cases, key=lambda case: results.mean(results.data[0], case, column))
        stars = [name for name, cell in table.iloc[:, ["psnr", "l1"].index(column)].items() if cell.endswith(" *")]
        assert stars == [best]
