"""A run repeats, continues, goes back to an earlier epoch, is kept, and refuses what it should."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import Normalised, figures, same, small, spoil
from torch import nn

from src import checkpoint
from src.checkpoint import load, load_snapshot
from src.config import TrainConfig
from src.device import environment
from src.files import ROOT
from src.files.progress import RunBar
from src.noise import GaussianNoiseDataset
from src.train import fit, main
from src.unet import UNet

# ---- the same weights, whatever interrupts ----------------------------------------------------


def test_two_runs_of_one_seed_are_identical(tmp_path):
    runs = [small(), small(), small(seed=1)]
    histories = [fit(*run, run=tmp_path / str(i)) for i, run in enumerate(runs)]
    assert same(runs[0][0], runs[1][0]) and figures(histories[0]) == figures(histories[1])
    assert not same(runs[0][0], runs[2][0])


def saved_states_are_the_same(*folders):
    saved = [torch.load(folder / "state.pt", weights_only=True) for folder in folders]
    assert saved[0]["step"] == saved[1]["step"] and saved[0]["skipped"] == saved[1]["skipped"]
    for a, b in zip(saved[0]["optimizers"], saved[1]["optimizers"], strict=True):
        assert a["param_groups"] == b["param_groups"] and a["state"].keys() == b["state"].keys()
        for x, y in zip(a["state"].values(), b["state"].values()):
            assert all(torch.equal(x[name], y[name]) for name in x)
    return True


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_two_and_two_epochs_equal_four(tmp_path, optimizer):
    settings = dict(widths=(16, 24), optimizer=optimizer)
    straight, parts = small(epochs=4, **settings), small(epochs=2, **settings)
    expected = fit(*straight, run=tmp_path / "straight")
    fit(*parts, run=tmp_path / "parts")
    again = small(epochs=4, **settings)
    history = fit(*again, run=tmp_path / "parts")
    assert same(straight[0], again[0]) and figures(history) == figures(expected)
    assert saved_states_are_the_same(tmp_path / "straight", tmp_path / "parts")


def test_a_network_with_batch_norm_continues_to_the_bit(tmp_path):
    _, *rest, _ = small()
    straight, parts = Normalised(), Normalised()
    fit(straight, *rest, small(epochs=4)[3], run=tmp_path / "straight")
    for epochs in (1, 2, 4):  # the same object, as in a notebook, or a new one
        parts = parts if epochs < 4 else Normalised()
        fit(parts, *rest, small(epochs=epochs)[3], run=tmp_path / "parts")
        assert not parts.training
    assert same(straight, parts)
    assert not torch.equal(straight.body[1].running_var, Normalised().body[1].running_var)


def test_a_frozen_batch_norm_is_frozen_to_the_end(tmp_path):
    """Also where the same object, in evaluation mode since the first `fit`, is trained on."""

    def frozen():
        model = Normalised().train()
        model.body[1].eval()
        model.body[1].requires_grad_(False)
        return model

    _, *rest, _ = small()
    straight, parts = frozen(), frozen()
    fit(straight, *rest, small(epochs=4)[3], run=tmp_path / "straight")
    for epochs in (2, 4):
        fit(parts, *rest, small(epochs=epochs)[3], run=tmp_path / "parts")
    assert same(straight, parts)
    assert torch.equal(parts.body[1].running_var, Normalised().body[1].running_var)


def test_a_resume_amid_steps_that_are_not_finite_is_one_run(tmp_path):
    """Two of them end an epoch and the next begins with one: an unbroken run stops there, and so does a resumed one."""
    unbroken, first, second = (small(epochs=epochs, batch_size=1) for epochs in (3, 2, 3))
    spoil(unbroken[1], 15, 16, 17)
    with pytest.raises(FloatingPointError, match="epoch 3 was not finite 3 times in a row"):
        fit(*unbroken, run=tmp_path / "unbroken")
    spoil(first[1], 15, 16)
    assert [record.get("skipped", 0) for record in fit(*first, run=tmp_path / "run")] == [0, 2]
    assert torch.load(tmp_path / "run/state.pt", weights_only=True)["skipped"] == 2
    spoil(second[1], 1)
    with pytest.raises(FloatingPointError, match="epoch 3 was not finite 3 times in a row"):
        fit(*second, run=tmp_path / "run")
    assert saved_states_are_the_same(tmp_path / "unbroken", tmp_path / "run")


def test_a_resume_after_a_skipped_step_ends_with_the_same_bits(tmp_path):
    unbroken, first, second = (small(epochs=epochs, batch_size=1) for epochs in (3, 2, 3))
    spoil(unbroken[1], 15, 16, 18)
    spoil(first[1], 15, 16)
    spoil(second[1], 2)
    expected = fit(*unbroken, run=tmp_path / "unbroken")
    fit(*first, run=tmp_path / "run")
    assert figures(fit(*second, run=tmp_path / "run")) == figures(expected)
    assert same(unbroken[0], second[0]) and saved_states_are_the_same(tmp_path / "unbroken", tmp_path / "run")


def test_a_finished_run_is_loaded_not_trained(tmp_path, monkeypatch):
    first = small()
    history = fit(*first, run=tmp_path / "run")
    monkeypatch.setattr("src.noise.GaussianNoiseDataset.batch", None)  # any training step would call it
    second = small()
    assert fit(*second, run=tmp_path / "run") == history
    assert same(first[0], second[0])


def test_a_second_run_with_a_trained_model_starts_from_its_seed(tmp_path):
    """What a notebook does when only the fit cell is executed again under another name."""
    model, *rest = small()
    first = fit(model, *rest, run=tmp_path / "a")
    assert figures(fit(model, *rest, run=tmp_path / "b")) == figures(first)


def test_training_leaves_the_global_generators_alone(tmp_path):
    before = torch.get_rng_state().tolist()
    fit(*small(), run=tmp_path / "run")
    assert torch.get_rng_state().tolist() == before


# ---- more epochs and fewer --------------------------------------------------------------------


def test_fewer_epochs_load_the_stage_with_history_and_figures_of_then(tmp_path, monkeypatch):
    shorter, longer = small(epochs=5, evaluate_every=3), small(epochs=12, evaluate_every=3)
    expected = fit(*shorter, run=tmp_path / "shorter")
    fit(*longer, run=tmp_path / "run")
    files = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    monkeypatch.setattr("src.noise.GaussianNoiseDataset.batch", None)  # nothing is trained or evaluated
    again = small(epochs=5, evaluate_every=3)
    history = fit(*again, run=tmp_path / "run")
    assert figures(history) == figures(expected) and same(again[0], shorter[0]) and not again[0].training
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    whole = small(epochs=12, evaluate_every=3)
    assert len(fit(*whole, run=tmp_path / "run")) == 12 and same(whole[0], longer[0])


def test_a_stage_that_was_not_evaluated_is_evaluated(tmp_path):
    fit(*small(epochs=12, evaluate_every=50), run=tmp_path / "run")
    history = fit(*small(epochs=10, evaluate_every=50), run=tmp_path / "run")
    expected = fit(*small(epochs=10, evaluate_every=50), run=tmp_path / "straight")
    assert len(history) == 10 and history[-1]["psnr"] == expected[-1]["psnr"]


def test_a_number_of_epochs_between_names_the_stages(tmp_path):
    fit(*small(epochs=12), run=tmp_path / "run", snapshots=(7,))
    for epochs in (3, 6, 9, 11):
        with pytest.raises(ValueError) as caught:
            fit(*small(epochs=epochs), run=tmp_path / "run")
        text = str(caught.value)
        assert f"holds 12 epochs, {epochs} were asked for" in text and "[1, 2, 5, 7, 10, 12]" in text
        assert text.endswith("name another run") and "\n" not in text
    assert len(fit(*small(epochs=7), run=tmp_path / "run")) == 7


def test_snapshots_are_the_weights_of_then(tmp_path):
    shorter, model = small(epochs=3), small(epochs=6)
    fit(*shorter, run=tmp_path / "shorter")
    fit(*model, run=tmp_path / "run", snapshots=(3,))
    for epoch, expected in ((3, shorter[0]), (6, model[0])):
        kept = UNet(**expected.config)
        kept.load_state_dict(load_snapshot(tmp_path / "run", epoch))
        assert same(kept, expected)
    assert checkpoint.kept_epochs(tmp_path / "run") == [1, 2, 3, 5, 6]
    assert len(fit(*small(epochs=7), run=tmp_path / "run")) == 7
    assert checkpoint.kept_epochs(tmp_path / "run") == [1, 2, 3, 5, 6, 7]


def test_a_run_with_a_cooldown_is_of_one_length_only(tmp_path):
    model, train_set, test_set, _ = small()
    plain, cooled = TrainConfig(epochs=4, batch_size=4), TrainConfig(epochs=4, batch_size=4, cooldown=2)
    without = fit(model, train_set, test_set, plain, run=tmp_path / "plain")
    ended = fit(model, train_set, test_set, cooled, run=tmp_path / "cooled")
    errors = [[entry["train_mse"] for entry in history] for history in (without, ended)]
    # the third epoch's first steps have a rate that falls already
    assert errors[0][:2] == errors[1][:2] and errors[0][3] != errors[1][3]
    with pytest.raises(ValueError, match=r"config.epochs is 4, not 5"):
        fit(model, train_set, test_set, replace(cooled, epochs=5), run=tmp_path / "cooled")
    cosine = TrainConfig(epochs=2, batch_size=4, schedule="cosine")
    fit(model, train_set, test_set, cosine, run=tmp_path / "cosine")
    with pytest.raises(ValueError, match=r"config.epochs is 2, not 3"):
        fit(model, train_set, test_set, replace(cosine, epochs=3), run=tmp_path / "cosine")


# ---- another fingerprint, another start -------------------------------------------------------


def test_another_fingerprint_is_left_alone_and_the_fields_are_named(tmp_path):
    fit(*small(), run=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    model, train_set, test_set, _ = small()
    louder = GaussianNoiseDataset(train_set.images, sigma=0.1, seed=0, crop_size=16, augment=True)
    with pytest.raises(ValueError, match=r"train_set.sigma is 0.2, not 0.1; config.lr is 0.0015, not 0.01"):
        fit(model, louder, test_set, TrainConfig(epochs=2, batch_size=4, lr=1e-2), run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"network.widths is \[4, 8\], not \[4, 6\].*name another run"):
        fit(*small(widths=(4, 6)), run=tmp_path / "run")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


def test_a_run_starts_from_given_weights(tmp_path):
    """One step of a rate that rounds to nothing returns them; and what the network held before counts for nothing."""
    model, *rest, _ = small()
    config = TrainConfig(epochs=1, batch_size=4, lr=1e-30, adam_lr=1e-30)
    start = {name: torch.randn_like(weights) for name, weights in model.state_dict().items()}
    fit(model, *rest, config, tmp_path / "run", start=start)
    assert all(torch.equal(weights, start[name]) for name, weights in model.state_dict().items())
    with pytest.raises(ValueError, match="start is"):
        fit(model, *rest, config, tmp_path / "run")
    os.replace(tmp_path / "run/state.pt", tmp_path / "run/state-before.pt")  # killed between the two renames
    loaded = load(tmp_path / "run").cpu().state_dict()
    assert all(torch.equal(weights, start[name]) for name, weights in loaded.items())
    with pytest.raises(ValueError, match=r"^start holds other weights than UNet's; build that network"):
        fit(model, *rest, start=UNet(1, (4, 12)).state_dict(), run=tmp_path / "other")


def test_without_held_out_images(tmp_path):
    model, train_set, _, config = small()
    assert not any("psnr" in record for record in fit(model, train_set, None, config, tmp_path / "alone"))


def test_a_black_image_that_comes_out_black_breaks_no_run(tmp_path):
    """Its PSNR was infinite, the state was written, the record could not be, and every later fit failed."""

    class Black(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(1, 1, 1)
            nn.init.zeros_(self.body.weight), nn.init.zeros_(self.body.bias)

        def forward(self, noisy):
            return self.body(noisy).clamp(max=0)

    _, train_set, _, config = small()
    black = GaussianNoiseDataset(torch.zeros(2, 1, 16, 16), sigma=0.1, fixed=True)
    history = fit(Black(), train_set, black, config, tmp_path / "run")
    assert [record["psnr"] for record in history] == [100, 100]
    assert json.loads((tmp_path / "run/record.json").read_text())["history"] == history
    assert len(fit(Black(), train_set, black, replace(config, epochs=3), tmp_path / "run")) == 3
    silent = GaussianNoiseDataset(torch.full((2, 1, 16, 16), 0.5), sigma=0, fixed=True)
    assert fit(UNet(1, (4, 8)), train_set, silent, config, tmp_path / "silent")[-1]["psnr"] <= 100


def test_the_state_is_written_only_when_the_record_can_be(tmp_path):
    fit(*small(), run=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    saved = torch.load(tmp_path / "run/state.pt", weights_only=True)
    about = {name: saved[name] for name in ("fingerprint", "environments", "parameters", "test_set")}
    about["fingerprint"] = json.loads(about["fingerprint"])
    for value in (float("inf"), float("nan")):
        state = saved | {"history": [*saved["history"], {"epoch": 3, "psnr": value}]}
        with pytest.raises(ValueError, match="JSON"):
            checkpoint.save(tmp_path / "run", about, state, (3,))
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


# ---- stopped, full, spoilt --------------------------------------------------------------------


def pressed_within(monkeypatch, epoch, error=KeyboardInterrupt):
    """The second batch of this epoch, counted from 1, raises."""
    batch, calls = GaussianNoiseDataset.batch, []

    def pressed(self, indices):
        calls.append(self.epoch)
        if calls.count(epoch - 1) == 2 and not self.fixed:
            raise error
        return batch(self, indices)

    monkeypatch.setattr(GaussianNoiseDataset, "batch", pressed)


def test_the_stop_button_keeps_what_is_finished(tmp_path, monkeypatch, capsys):
    expected = small(epochs=2)
    fit(*expected, run=tmp_path / "expected")
    pressed_within(monkeypatch, 3)
    stopped = small(epochs=50)
    history = fit(*stopped, run=tmp_path / "run")
    monkeypatch.undo()
    assert len(history) == 2 and same(expected[0], stopped[0])
    assert "2 finished epochs are kept" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "run/record.json").read_text())["history"]) == 2
    assert len(fit(*small(epochs=3), run=tmp_path / "run")) == 3


@pytest.mark.parametrize("network", [lambda: UNet(1, (4, 8)), Normalised])
def test_stopped_in_its_first_epoch_a_network_is_as_it_was(tmp_path, monkeypatch, network):
    model, untouched = network(), network()
    _, *rest = small(epochs=9)
    pressed_within(monkeypatch, 1)
    assert fit(model, *rest, run=tmp_path / "run") == [] and same(model, untouched)
    monkeypatch.undo()
    unbroken = network()
    expected = fit(unbroken, *rest, run=tmp_path / "unbroken")
    assert figures(fit(model, *rest, run=tmp_path / "run")) == figures(expected) and same(model, unbroken)


# the signal may come between the opening of a file and its `with`; Python closes it later and says so
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_real_interrupt_signal(tmp_path):
    def press():
        while not (tmp_path / "run/state.pt").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=press, daemon=True)
    timer.start()
    model, *rest = small(epochs=100_000)
    history = fit(model, *rest, run=tmp_path / "run")
    timer.join()
    assert 0 < len(history) < 100_000
    assert len(torch.load(tmp_path / "run/state.pt", weights_only=True)["history"]) == len(history)


def test_three_spoilt_steps_in_a_row_end_the_run_on_the_last_good_epoch(tmp_path):
    expected = small(epochs=2, batch_size=1)
    fit(*expected, run=tmp_path / "expected")
    model, train_set, test_set, config = small(epochs=9, batch_size=1)
    spoil(train_set, 19, 21, 22, 23)  # the third epoch begins with the 17th call
    with pytest.raises(FloatingPointError, match=r"gradient of epoch 3 was not finite 3 times in a row.*are kept"):
        fit(model, train_set, test_set, config, run=tmp_path / "run")
    assert same(model, expected[0]) and not model.training
    assert len(json.loads((tmp_path / "run/record.json").read_text())["history"]) == 2


def test_a_diverged_epoch_is_not_kept(tmp_path):
    fit(*small(epochs=1), run=tmp_path / "run")
    before = (tmp_path / "run/state.pt").read_bytes()
    model, train_set, test_set, config = small(epochs=3)
    spoil(train_set, *range(1, 99))
    with pytest.raises(FloatingPointError, match=r"gradient of epoch 2 was not finite 2 times in a row.*Lower lr"):
        fit(model, train_set, test_set, config, run=tmp_path / "run")
    assert (tmp_path / "run/state.pt").read_bytes() == before


@pytest.mark.parametrize("number, words", [(13, "Permission denied"), (30, "Read-only file system")])
def test_a_folder_without_permission_is_noticed_before_training(tmp_path, monkeypatch, number, words):
    def refuse(*_, **__):
        raise OSError(number, words)

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    monkeypatch.setattr(GaussianNoiseDataset, "batch", None)  # any training step would call it
    with pytest.raises(OSError, match=f"cannot write .*run.*{words}"):
        fit(*small(), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_the_last_epoch(tmp_path, monkeypatch):
    expected, continued = small(epochs=3), small(epochs=3)
    fit(*expected, run=tmp_path / "expected")
    fit(*small(), run=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        fit(*small(epochs=3), run=tmp_path / "run")
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    monkeypatch.undo()  # there is room again: the run ends as if nothing had been
    fit(*continued, run=tmp_path / "run")
    assert same(expected[0], continued[0])


def test_a_run_that_moves_to_another_machine_says_so_and_records_both(tmp_path, monkeypatch, capsys):
    fit(*small(epochs=2), run=tmp_path)
    here = environment()
    monkeypatch.setattr("src.train.environment", lambda: here | {"threads": 96, "torch": "9.9"})
    fit(*small(epochs=2), run=tmp_path)  # nothing to train: nothing to say, and the record stays
    assert "note:" not in capsys.readouterr().out
    record = json.loads((tmp_path / "record.json").read_text())
    assert [entry["threads"] for entry in record["environments"]] == [here["threads"]]
    fit(*small(epochs=3), run=tmp_path)
    said = capsys.readouterr().out
    assert f"note: 2 epochs were trained with threads {here['threads']}, now 96; torch" in said
    assert "bits may differ" in said
    ran = json.loads((tmp_path / "record.json").read_text())["environments"]
    assert [(e["from"], e["threads"]) for e in ran] == [(1, here["threads"]), (3, 96)]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(epochs=0), "epochs must be a whole number at least 1, got 0"),
        (dict(epochs=2.5), "got 2.5"),
        (dict(epochs=True), "got True"),
        (dict(batch_size=0), "batch_size must be"),
        (dict(lr=0), r"lr must lie in \(0, 1\)"),
        (dict(lr=float("nan")), "lr must lie"),
        (dict(lr=2), r"lr must lie in \(0, 1\), got 2; try 0.0015"),
        (dict(beta2=1), "beta2 must lie"),
        (dict(ema_rel_std=0.3), r"ema_rel_std must lie in \(0, 0.288\)"),
        (dict(lr="x"), "lr must lie"),
        (dict(optimizer="sgd"), "optimizer must be"),
        (dict(schedule="linear"), "schedule must be"),
        (dict(seed=-1), "seed must be"),
        (dict(epochs=4, cooldown=5), "cooldown must be a whole number from 0 to 4, got 5"),
    ],
)
def test_bad_config(arguments, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**arguments)


def test_numpys_numbers_are_settings(tmp_path):
    """A sweep over an array: the record and the fingerprint are those of Python's numbers."""
    model, train_set, test_set, config = small()
    sweep = replace(config, epochs=np.int64(2), lr=np.float64(config.lr), seed=np.int32(0), warmup=np.int8(10))
    history = fit(model, train_set, test_set, sweep, run=tmp_path / "run")
    assert figures(fit(*small(), run=tmp_path / "run")) == figures(history)


def test_a_batch_larger_than_the_set_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="batch_size 9 exceeds the 8 training images; try batch_size=8"):
        fit(*small(batch_size=9), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- the bar ----------------------------------------------------------------------------------


def test_the_bar_moves_within_an_epoch_and_shows_no_stale_psnr(tmp_path, monkeypatch):
    """Beside a count of epochs stand the figures of that very epoch, whenever the bar is drawn."""
    drawn = []

    class Watched(RunBar):
        def update(self, n=1):
            super().update(n)
            drawn.append((self.n, str(self)))

        def show(self, history):
            super().show(history)
            drawn.append((self.n, str(self)))

    monkeypatch.setattr("src.train.RunBar", Watched)
    history = fit(*small(epochs=7, evaluate_every=50, batch_size=2), run=tmp_path / "run")
    assert [n for n, _ in drawn] == pytest.approx([0, *(e + b / 4 for e in range(7) for b in (1, 2, 3, 4, 4))])
    for n, line in drawn:
        epoch = int(re.search(r"(\d+)/7 epochs", line)[1])
        assert epoch <= n < epoch + 1.001
        if epoch:
            assert f"mse {history[epoch - 1]['train_mse']:.5f}" in line
        assert ("dB" in line) == (epoch in (1, 2, 5, 7)), line
    assert f"held-out {history[-1]['psnr']:.2f} dB" in drawn[-1][1]


def test_the_line_that_stays_in_a_notebook_has_no_times(tmp_path, monkeypatch):
    """So that a notebook executed twice has the same outputs."""
    lines = []
    for run in ("a", "b"):
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        fit(*small(), run=tmp_path / run)
        lines.append(sys.stdout.getvalue().rstrip().split("\r")[-1])
        monkeypatch.undo()
    assert lines[0] == lines[1]
    assert re.fullmatch(r"training 100% \|[#█]+\| 2/2 epochs, mse 0\.\d+, held-out \d+\.\d\d dB", lines[0])


# ---- the command ------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Six photos of one colour each, and the arguments of a tiny run on them."""
    (tmp_path / "photos").mkdir()
    for index, colour in enumerate([(20, 60, 90), (200, 180, 20), (90, 90, 90), (10, 200, 30), (5, 5, 80), (60, 0, 0)]):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"photos/{index}.png")
    return ["--data", str(tmp_path / "photos"), "--size", "32", "--crop-size", "16", "--widths", "4", "8",
            "--batch-size", "2"]  # fmt: skip


def test_the_command_goes_on_from_another_run(tmp_path, photos, capsys):
    assert main([*photos, "--epochs", "2", "--run", str(tmp_path / "first")]) == 0
    assert main([*photos, "--epochs", "1", "--run", str(tmp_path / "second"), "--start", str(tmp_path / "first")]) == 0
    first, second = (torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("first", "second"))
    assert second["step"] < first["step"] and json.loads(second["fingerprint"])["start"]
    far = sum((a - b).square().sum() for a, b in zip(first["ema_model"].values(), second["ema_model"].values()))
    fresh = UNet(3, (4, 8)).state_dict()
    assert far < sum((a - b).square().sum() for a, b in zip(first["ema_model"].values(), fresh.values()))
    assert main([*photos, "--epochs", "1", "--run", str(tmp_path / "third"), "--start", str(tmp_path / "absent")]) == 1
    assert "no " in capsys.readouterr().err and not (tmp_path / "third").exists()
    other = [*photos, "--widths", "4", "12", "--run", str(tmp_path / "third"), "--start", str(tmp_path / "first")]
    assert main(other) == 1 and "start holds other weights" in capsys.readouterr().err


def test_the_command_says_where_the_run_is_and_how_good(tmp_path, photos, capsys):
    assert main([*photos, "--epochs", "1", "--run", str(tmp_path / "run")]) == 0
    psnr = json.loads((tmp_path / "run/record.json").read_text())["history"][-1]["psnr"]
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"held-out PSNR {psnr:.2f} dB after 1 epochs, kept in {tmp_path / 'run'}"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_ctrl_c_is_one_line(tmp_path, photos):
    """Within an epoch, from a terminal: exit code 130, no traceback, and what is finished is kept."""
    command = [sys.executable, "-m", "src.train", *photos, "--epochs", "100000", "--run", str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 60
    while not (tmp_path / "run/state.pt").exists():
        assert process.poll() is None and time.time() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == "" and "finished epochs are kept, run again to continue" in out
    epochs = len(torch.load(tmp_path / "run/state.pt", weights_only=True)["history"])
    assert out.splitlines()[-1].startswith("held-out PSNR") and f"after {epochs} epochs" in out


def test_ctrl_c_before_the_first_epoch_is_one_line(tmp_path, photos, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("src.train.load_images", interrupted)
    assert main([*photos, "--run", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "stopped\n")
