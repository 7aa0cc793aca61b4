"""A study trains what is not published, takes what is, and says which."""

import json
import shutil
from math import log10
from pathlib import Path
from statistics import mean, stdev

import pytest
from src.studies import study
import torch
from PIL import Image
from src.studies.study import Study, average, curve, difference, looks, publish, table

from src import TrainConfig, UNet, psnr
from src.evaluation import denoise_batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty small pictures of their own colours."""
    path = tmp_path_factory.mktemp("pictures")
    draw = torch.Generator().manual_seed(0)
    for index in range(20):
        corner = torch.rand(1, 3, 3, 3, generator=draw)
        image = torch.nn.functional.interpolate(corner, size=(24, 24), mode="bilinear")[0]
        Image.fromarray((image.permute(1, 2, 0) * 255).to(torch.uint8).numpy()).save(path / f"{index}.png")
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PUBLISHED", tmp_path / "published")


def small(tmp_path, folder, **more):
    return Study(str(tmp_path / "runs"), {folder: 24}, (0, 1), **(dict(epochs=2, crop=16, widths=(4, 8)) | more))


CASES = {"mse": {}, "l1": dict(config=dict(loss="l1")), "few": dict(count=4, epochs=3)}


def test_scores_are_those_of_the_network_that_was_kept(tmp_path, folder):
    one = small(tmp_path, folder, snapshots=(1,))
    results = one.run(CASES)
    for case, recipe in CASES.items():
        for result in results[folder, case]:
            pairs = one.held_out(folder, result.seed)
            batches = denoise_batches(one.trained(result, recipe), pairs)
            expected = torch.cat([psnr(denoised, clean) for _, clean, denoised in batches]).mean().item()
            assert result.score() == pytest.approx(expected, abs=1e-4)
            assert result.history[-1]["psnr"] == pytest.approx(expected, abs=1e-4)
            assert list(result.scores) == ["1", str(recipe.get("epochs", 2))]
            assert result.parameters == sum(p.numel() for p in UNet(widths=(4, 8)).parameters())
    first = results[folder, "few"][0]
    record = json.loads((first.folder / "record.json").read_text())["key"]
    assert record["train_set"]["count"] == 4 == record["config"]["batch"]  # a batch is no larger than the set
    assert results[folder, "mse"][0].score() != results[folder, "mse"][1].score()


def test_figures_are_means_and_deviations_over_the_seeds(tmp_path, folder):
    results = small(tmp_path, folder, snapshots=(1,)).run(CASES)
    runs, others = results[folder, "mse"], results[folder, "l1"]
    values = [run.score("ssim") for run in runs]
    assert average(runs, "ssim") == mean(values)
    assert f"{mean(values):.4f} ± {stdev(values):.4f}" in table(results, ["ssim"])
    less = [a.score() - b.score() for a, b in zip(runs, others)]
    assert difference(runs, others) == (mean(less), stdev(less))
    (first, *_), (last, middle, spread) = curve(runs)
    assert (first, last) == (1, 2) and middle == average(runs) and spread == stdev(run.score() for run in runs)
    errors = [run.history[1]["train_mse"] for run in runs]
    assert looks(runs, "train_mse")[1][:2] == (2, pytest.approx(-5 * log10(errors[0]) - 5 * log10(errors[1])))


def test_what_is_published_is_loaded_when_its_key_matches(tmp_path, folder, monkeypatch, capsys):
    one = small(tmp_path, folder)
    before = one.run(CASES)
    publish(one.name, {f"{Path(folder).name}-mse-0": (2,)})
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr(study, "fit", None)  # any training would call it
    after = one.run(CASES)
    assert "6 trainings: 6 published" in capsys.readouterr().out and not (tmp_path / "runs").exists()
    for key, runs in before.items():
        assert [(r.history, r.scores) for r in after[key]] == [(r.history, r.scores) for r in runs]
    pairs = one.held_out(folder)
    assert one.denoised(after[folder, "mse"][0], {}, pairs).shape == (len(pairs), 3, 24, 24)
    # another noise, another length, or the wish for it, and it would be trained
    for other in (dict(sigma=0.1), dict(epochs=3), dict(retrain=True), dict(widths=(4, 6)), dict(snapshots=(1,))):
        with pytest.raises(TypeError, match="not callable"):
            small(tmp_path, folder, **other).run({"mse": {}})


def test_without_the_pictures_what_is_published_still_counts(tmp_path, folder, capsys):
    one = small(tmp_path, folder)
    one.run({"mse": {}})
    publish(one.name)
    gone = str(tmp_path / "absent" / Path(folder).name)
    found = small(tmp_path, gone).run({"mse": {}})
    assert "2 published, its pictures not here" in capsys.readouterr().out and len(found[gone, "mse"]) == 2
    # but not for other settings than it was trained with
    for other, recipe in [
        ({}, dict(config=dict(loss="l1"))),
        ({}, dict(count=4)),
        (dict(sigma=0.1), {}),
        (dict(crop=12), {}),
        (dict(retrain=True), {}),
    ]:
        with pytest.raises(FileNotFoundError, match="nothing published that fits 'mse'"):
            small(tmp_path, gone, **other).run({"mse": recipe})


def test_of_a_set_that_has_changed_what_is_published_is_shown_and_named(tmp_path, folder, capsys):
    one = small(tmp_path, folder)
    one.run({"mse": {}})
    publish(one.name)
    other = tmp_path / "grown" / Path(folder).name
    shutil.copytree(folder, other)
    Image.open(other / "0.png").transpose(Image.Transpose.ROTATE_180).save(other / "1.png")
    small(tmp_path, str(other)).run({"mse": {}})
    assert "2 published, on other pictures than are here" in capsys.readouterr().out


def test_a_case_is_judged_as_it_says(tmp_path, folder):
    class Black(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, noisy):
            return torch.zeros_like(noisy)

    one = small(tmp_path, folder, tests={"same": lambda held_out, seed: one.held_out(folder, seed)})
    results = one.run({"black": dict(judge=Black)})
    clean = one.held_out(folder).batch(list(range(4)))[1]
    run = results[folder, "black"][0]
    assert run.score("mse") == pytest.approx(clean.square().mean(dim=(1, 2, 3)).mean().item(), abs=1e-6)
    assert run.scores["2"]["same"] == run.scores["2"]["held_out"] != run.scores["2"]["train"]


def test_the_config_of_a_case_reaches_the_training(tmp_path, folder):
    results = small(tmp_path, folder).run({"adam": dict(config=dict(optimizer="adam", batch=4), noise=dict(sigma=0.1))})
    key = json.loads((results[folder, "adam"][1].folder / "record.json").read_text())["key"]
    assert key["config"] == TrainConfig(epochs=2, optimizer="adam", batch=4, seed=1).key()
    assert key["train_set"]["sigma"] == 0.1 and key["test_set"]["sigma"] == 0.2


def test_more_epochs_continue_what_is_here(tmp_path, folder):
    two = small(tmp_path, folder).run({"mse": {}})[folder, "mse"]
    three = small(tmp_path, folder, epochs=3).run({"mse": {}})[folder, "mse"]
    for shorter, longer in zip(two, three, strict=True):
        assert longer.history[:2] == shorter.history and len(longer.history) == 3  # seconds and all: not trained again


def test_a_data_set_may_have_seeds_of_its_own(tmp_path, folder):
    one = Study(str(tmp_path / "runs"), {folder: 24}, {folder: (3,)}, epochs=1, crop=16, widths=(4, 8))
    results = one.run({"mse": {}})
    assert [run.seed for run in results[folder, "mse"]] == [3] and "±" not in table(results, ["psnr"])
