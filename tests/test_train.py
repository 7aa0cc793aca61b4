"""Training repeats, continues, is kept, and refuses what it should."""

import copy
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from src import GaussianNoiseDataset, ImageSet, TrainConfig, UNet, checkpoint, fit, load_snapshot, psnr, train
from src.photos.denoiser import load_denoiser
from src.device import device, environment
from src.evaluation import denoise_batches
from src.loop import TrainState, _exponent
from src.train import main, run_key


def small(seed=0, widths=(4, 8), **config):
    """A network, two data sets and a config, all tiny."""
    ramp = np.linspace(0, 255, 24)
    draw = np.random.default_rng(0)
    pixels = np.stack([np.add.outer(ramp * a, ramp * b) / 2 for a, b in draw.random((10, 2))])
    images = ImageSet.from_pixels(torch.from_numpy(pixels[:, None].astype(np.uint8)))
    train_set = GaussianNoiseDataset(images[:8], sigma=0.2, seed=seed, crop=16, flip=True)
    test_set = GaussianNoiseDataset(images[8:], sigma=0.2, seed=9, fixed=True)
    settings = dict(epochs=2, batch=4, seed=seed, evaluate_every=1) | config
    return UNet(1, widths, seed=seed), train_set, test_set, TrainConfig(**settings)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def figures(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


def test_two_runs_of_one_seed_are_identical(tmp_path):
    runs = [small(), small(), small(seed=1)]
    histories = [fit(*run, run=tmp_path / str(i)) for i, run in enumerate(runs)]
    assert same(runs[0][0], runs[1][0]) and figures(histories[0]) == figures(histories[1])
    assert not same(runs[0][0], runs[2][0])


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_two_and_two_epochs_equal_four(tmp_path, optimizer):
    settings = dict(widths=(16, 24), optimizer=optimizer)
    straight, parts = small(epochs=4, **settings), small(epochs=2, **settings)
    expected = fit(*straight, run=tmp_path / "straight")
    fit(*parts, run=tmp_path / "parts")
    again = small(epochs=4, **settings)
    history = fit(*again, run=tmp_path / "parts")
    assert same(straight[0], again[0]) and figures(history) == figures(expected)
    saved = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("straight", "parts")]
    for a, b in zip(saved[0]["optimizers"], saved[1]["optimizers"], strict=True):
        assert a["param_groups"] == b["param_groups"] and a["state"].keys() == b["state"].keys()
        for x, y in zip(a["state"].values(), b["state"].values()):
            assert all(torch.equal(x[name], y[name]) for name in x)


def test_a_finished_run_is_loaded_not_trained(tmp_path, monkeypatch):
    first = small()
    history = fit(*first, run=tmp_path / "run")
    monkeypatch.setattr("src.noise.GaussianNoiseDataset.batch", None)  # any training step would call it
    second = small()
    assert fit(*second, run=tmp_path / "run") == history
    assert same(first[0], second[0])


def test_the_loop_learns_and_reports_what_is_so():
    """On plain ramps the network beats doing nothing; the record's psnr is the model's own."""
    model, train_set, test_set, config = small(widths=(16, 32), epochs=60, evaluate_every=20)
    for record in train(model, train_set, test_set, config):
        if "psnr" in record:
            own = torch.cat([psnr(d, c) for _, c, d in denoise_batches(model, test_set)]).mean().item()
            assert record["psnr"] == pytest.approx(own, abs=1e-6)
    assert record["epoch"] == 60 and record["psnr"] > 14 + 6
    assert record["train_mse"] < 0.2**2 / 2


def test_the_average_of_the_weights_is_the_weighted_mean_it_claims_to_be():
    """Sum of weights_t * w(t) with w(t) = t^g - normalised, computed after the fact."""
    model, train_set, test_set, config = small(epochs=3, ema=0.2, widths=(16, 24))
    state = TrainState.new(model, config)
    seen = []

    def remember(*_):
        seen.append([p.detach().clone() for p in state.raw.parameters()])

    state.optimizers[-1].register_step_post_hook(remember)
    list(train(model, train_set, test_set, config, state))
    assert len(state.optimizers) == 2 and len(seen) == 6

    g = _exponent(0.2)
    assert np.sqrt((g + 1) / (g + 3)) / (g + 2) == pytest.approx(0.2, abs=1e-6)
    keep = [(1 - 1 / t) ** (g + 1) for t in range(1, len(seen) + 1)]
    weight = [(1 - k) * np.prod(keep[i + 1 :]) for i, k in enumerate(keep)]
    assert sum(weight) == pytest.approx(1)
    for i, parameter in enumerate(model.parameters()):
        mean = sum(w * step[i] for w, step in zip(weight, seen))
        assert torch.allclose(parameter, mean, atol=1e-6)


def test_another_key_is_left_alone_and_the_fields_are_named(tmp_path):
    fit(*small(), run=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    model, train_set, test_set, _ = small()
    louder = GaussianNoiseDataset(train_set.images, sigma=0.1, seed=0, crop=16, flip=True)
    with pytest.raises(ValueError, match=r"train_set.sigma is 0.2, not 0.1; config.lr is 0.0015, not 0.01"):
        fit(model, louder, test_set, TrainConfig(epochs=2, batch=4, evaluate_every=1, lr=1e-2), run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"network.widths is \[4, 8\], not \[4, 6\]"):
        fit(*small(widths=(4, 6)), run=tmp_path / "run")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


def test_the_stop_button_keeps_what_is_finished(tmp_path, monkeypatch, capsys):
    expected = small(epochs=2)
    fit(*expected, run=tmp_path / "expected")
    batch, calls = GaussianNoiseDataset.batch, []

    def pressed(self, indices):
        calls.append(self.epoch)
        if calls.count(2) == 2:  # within the third epoch
            raise KeyboardInterrupt
        return batch(self, indices)

    monkeypatch.setattr(GaussianNoiseDataset, "batch", pressed)
    stopped = small(epochs=50)
    history = fit(*stopped, run=tmp_path / "run")
    monkeypatch.undo()
    assert len(history) == 2 and same(expected[0], stopped[0])
    assert "2 finished epochs are kept" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "run/record.json").read_text())["history"]) == 2
    assert len(fit(*small(epochs=3), run=tmp_path / "run")) == 3


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


def test_training_leaves_the_global_generators_alone(tmp_path):
    before = torch.get_rng_state().tolist()
    fit(*small(), run=tmp_path / "run")
    assert torch.get_rng_state().tolist() == before


def test_the_key_holds_all_that_decides_the_result():
    """Each change alone must change the key, but for the number of epochs."""
    model, train_set, test_set, config = small()
    base = run_key(model, train_set, test_set, config)
    assert run_key(model, train_set, test_set, small(epochs=9)[3]) == base
    assert json.loads(json.dumps(base)) == base
    images = train_set.images
    for other in [
        (UNet(1, (4, 8), seed=1), train_set, test_set, config),
        (UNet(1, (4, 8), norm="batch"), train_set, test_set, config),
        (model, GaussianNoiseDataset(images, sigma=0.2, crop=16), test_set, config),
        (model, GaussianNoiseDataset(images[:7], sigma=0.2, crop=16, flip=True), test_set, config),
        (model, train_set, train_set, config),
        (model, train_set, test_set, small(batch=2)[3]),
        (model, train_set, test_set, small(ema=0.2)[3]),
    ]:
        assert run_key(*other) != base
    changed = images.pixels.clone()
    changed[0, 0, 0, 0] ^= 1
    one_pixel = GaussianNoiseDataset(ImageSet.from_pixels(changed), sigma=0.2, crop=16, flip=True)
    assert run_key(model, one_pixel, test_set, config) != base
    start = {name: weights + 1 for name, weights in model.state_dict().items()}
    assert len({json.dumps(run_key(*small(), given)) for given in (None, start, model.state_dict())}) == 3


def test_a_training_starts_from_given_weights(tmp_path):
    """One step of a rate that rounds to nothing returns them; and what the network held before counts for nothing."""
    model, *rest, _ = small()
    start = {name: torch.randn_like(weights) for name, weights in model.state_dict().items()}
    fit(model, *rest, TrainConfig(epochs=1, batch=4, lr=1e-30, adam_lr=1e-30), tmp_path / "run", start=start)
    assert all(torch.equal(weights, start[name]) for name, weights in model.state_dict().items())
    with pytest.raises(ValueError, match="start is"):
        fit(model, *rest, TrainConfig(epochs=1, batch=4, lr=1e-30, adam_lr=1e-30), tmp_path / "run")
    os.replace(tmp_path / "run/state.pt", tmp_path / "run/state-before.pt")  # killed between the two renames
    assert all(torch.equal(weights, start[name]) for name, weights in checkpoint.load_last(tmp_path / "run").items())
    with pytest.raises(ValueError, match=r"start holds weights of another network, expected those of .*widths"):
        fit(model, *rest, start=UNet(1, (4, 12)).state_dict(), run=tmp_path / "other")


def test_the_command_goes_on_from_another_run(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    for index, colour in enumerate([(20, 60, 90), (200, 180, 20), (90, 90, 90), (10, 200, 30), (5, 5, 80), (60, 0, 0)]):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"pictures/{index}.png")
    given = ["--data", str(tmp_path / "pictures"), "--size", "32", "--crop", "16", "--widths", "4", "8", "--batch", "2"]
    assert main([*given, "--epochs", "2", "--run", str(tmp_path / "first")]) == 0
    assert main([*given, "--epochs", "1", "--run", str(tmp_path / "second"), "--start", str(tmp_path / "first")]) == 0
    first, second = (torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("first", "second"))
    assert second["step"] < first["step"] and json.loads(second["key"])["start"]
    far = sum((a - b).square().sum() for a, b in zip(first["model"].values(), second["model"].values()))
    fresh = UNet(3, (4, 8)).state_dict()
    assert far < sum((a - b).square().sum() for a, b in zip(first["model"].values(), fresh.values()))
    assert main([*given, "--epochs", "1", "--run", str(tmp_path / "third"), "--start", str(tmp_path / "absent")]) == 1
    assert "no " in capsys.readouterr().err and not (tmp_path / "third").exists()
    deeper = ["--blocks", "2", "--conditioned", "--shrink", "0.7", "--lr", "1e-30", "--adam-lr", "1e-30"]
    fourth = [*given, *deeper, "--epochs", "1", "--run", str(tmp_path / "fourth"), "--start", str(tmp_path / "first")]
    assert main(fourth) == 0
    model = load_denoiser(tmp_path / "fourth")
    assert model.config["blocks"] == 2 and model.conditioned
    before = load_denoiser(tmp_path / "first")
    noisy = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(model.cpu()(noisy, 25 / 255), before.cpu()(noisy), rtol=0, atol=1e-6)
    key = json.loads((tmp_path / "fourth/record.json").read_text())["key"]
    assert key["train_set"]["shrink"] == 0.7 and key["network"]["conditioned"]
    blind = [*given, "--blocks", "2", "--run", str(tmp_path / "fifth"), "--start", str(tmp_path / "fourth")]
    assert main(blind) == 1 and "works in units of the noise; add --conditioned" in capsys.readouterr().err
    shallower = [*given, "--run", str(tmp_path / "fifth"), "--start", str(tmp_path / "fourth")]
    assert main(shallower) == 1 and "has 2 blocks, got 1; name as many, or more" in capsys.readouterr().err
    other = [*given, "--widths", "4", "12", "--run", str(tmp_path / "third"), "--start", str(tmp_path / "first")]
    assert main(other) == 1 and "has widths [4, 8], got [4, 12]" in capsys.readouterr().err


def test_a_conditioned_network_learns_with_the_true_sigma_and_is_judged_without():
    told = []

    class Listening(UNet):
        def forward(self, noisy, sigma=None):
            told.append((self.training, sigma))
            return super().forward(noisy, sigma)

    _, train_set, test_set, config = small()
    train_set = GaussianNoiseDataset(train_set.images, sigma=(0.05, 0.3), crop=16, seed=0)
    for _ in train(Listening(train_set.shape[0], (4, 8), conditioned=True), train_set, test_set, config):
        pass
    learning = torch.cat([sigma for training, sigma in told if training])
    assert len(learning) == config.epochs * len(train_set)
    assert 0.04 < learning.min() < 0.1 and 0.25 < learning.max() < 0.33
    assert [sigma for training, sigma in told if not training] and all(s is None for t, s in told if not t)


def test_without_held_out_pictures_and_without_noise(tmp_path):
    model, train_set, test_set, config = small()
    assert not any("psnr" in record for record in fit(model, train_set, None, config, tmp_path / "alone"))
    silent = GaussianNoiseDataset(test_set.images, sigma=0, fixed=True)
    with pytest.raises(ValueError, match="sigma of the test set is 0"):
        fit(model, train_set, silent, config, tmp_path / "silent")
    assert not (tmp_path / "silent").exists()


@pytest.mark.parametrize("number, words", [(13, "Permission denied"), (30, "Read-only file system")])
def test_a_folder_without_permission_is_noticed_before_training(tmp_path, monkeypatch, number, words):
    def refuse(*_, **__):
        raise OSError(number, words)

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    monkeypatch.setattr(GaussianNoiseDataset, "batch", None)  # any training step would call it
    with pytest.raises(OSError, match=f"cannot write .*run.*{words}"):
        fit(*small(), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_any_flipped_bit_is_found_or_harmless(tmp_path):
    """A hundred bits all over the file: the run is then loaded as it was, or the epoch before it."""
    fit(*small(epochs=2), run=tmp_path)
    key, path = run_key(*small(epochs=2)), tmp_path / "state.pt"
    good, before = path.read_bytes(), (tmp_path / "state-before.pt").read_bytes()
    whole = checkpoint.load(tmp_path, key)
    found = 0
    for at in np.random.default_rng(0).integers(0, 8 * len(good), 100).tolist():
        content = bytearray(good)
        content[at // 8] ^= 1 << at % 8
        path.write_bytes(content), (tmp_path / "state-before.pt").write_bytes(before)
        said = []
        saved = checkpoint.load(tmp_path, key, said.append)
        found += len(saved["history"]) == 1
        assert len(said) == (len(saved["history"]) == 1)
        if not said:
            assert saved["history"] == whole["history"] and saved["key"] == whole["key"]
            assert all(torch.equal(saved["raw"][name], whole["raw"][name]) for name in whole["raw"])
        else:
            assert "training goes on after epoch 1" in said[0] and (tmp_path / "state.damaged.pt").exists()
    assert found > 50


def test_what_was_damaged_ends_with_the_bits_of_what_was_not(tmp_path):
    expected, damaged = small(epochs=4), small(epochs=4)
    fit(*expected, run=tmp_path / "expected")
    fit(*small(epochs=3), run=tmp_path / "run")
    content = bytearray((tmp_path / "run/state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "run/state.pt").write_bytes(content)
    assert len(fit(*damaged, run=tmp_path / "run")) == 4
    assert same(expected[0], damaged[0])


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path):
    with checkpoint.only_one(tmp_path / "run"), pytest.raises(BlockingIOError, match="another process is training"):
        fit(*small(), run=tmp_path / "run")
    assert len(fit(*small(), run=tmp_path / "run")) == 2


def test_snapshots_are_the_weights_of_then(tmp_path):
    shorter, model = small(epochs=2), small(epochs=5)
    fit(*shorter, run=tmp_path / "shorter")
    fit(*model, run=tmp_path / "run", snapshots=(2, 5))
    for epoch, expected in ((2, shorter[0]), (5, model[0])):
        kept = UNet(**expected.config)
        kept.load_state_dict(load_snapshot(tmp_path / "run", epoch))
        assert same(kept, expected)
    assert sorted(path.name for path in (tmp_path / "run").glob("epoch-*")) == ["epoch-2.pt", "epoch-5.pt"]
    assert len(fit(*small(epochs=6), run=tmp_path / "run", snapshots=(2, 5))) == 6


def test_a_run_that_moves_to_another_machine_says_so_and_records_both(tmp_path, monkeypatch, capsys):
    fit(*small(epochs=2), run=tmp_path)
    here = environment()
    monkeypatch.setattr(sys.modules["src.train"], "environment", lambda: here | {"threads": 96, "torch": "9.9"})
    fit(*small(epochs=2), run=tmp_path)  # nothing to train: nothing to say, and the record stays
    assert "note:" not in capsys.readouterr().out
    assert json.loads((tmp_path / "record.json").read_text())["environment"]["threads"] == here["threads"]
    fit(*small(epochs=3), run=tmp_path)
    said = capsys.readouterr().out
    assert f"note: 2 epochs were trained with threads {here['threads']}, now 96; torch" in said
    assert "bits may differ" in said
    ran = json.loads((tmp_path / "record.json").read_text())["environments"]
    assert [(e["from"], e["threads"]) for e in ran] == [(1, here["threads"]), (3, 96)]


def spoil(train_set, *calls):
    """From now on these calls of batch, counted from 1, give pictures of NaN."""
    batch, count = train_set.batch, iter(range(1, 10**6))
    train_set.batch = lambda indices: tuple(x * (float("nan") if c in calls else 1) for c in [next(count)]
                                            for x in batch(indices))  # fmt: skip


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_step_that_is_not_finite_is_not_taken_and_is_counted(norm):
    """The same as if that batch had not been there: weights, averages and statistics stay finite and unmoved."""
    _, train_set, test_set, config = small(epochs=1)
    model, shorter = UNet(1, (4, 8), norm=norm), UNet(1, (4, 8), norm=norm)
    spoil(train_set, 2)
    (record,) = train(model, train_set, test_set, config)
    assert record["skipped"] == 1 and np.isfinite(record["train_mse"])
    _, train_set, _, _ = small()
    order = np.random.default_rng([config.seed, 0]).permutation(8)[:4]  # the first batch of the two
    batch = train_set.batch
    train_set.batch = lambda indices: batch(order.tolist())
    (one,) = train(shorter, _first(train_set, 4), test_set, config)
    assert same(model, shorter) and one["train_mse"] == record["train_mse"]


def _first(train_set, count):
    """The data set with as many pictures, and so as many steps, as that."""

    class Short:
        def __len__(self):
            return count

        def __getattr__(self, name):
            return getattr(train_set, name)

    return Short()


def test_three_such_steps_in_a_row_end_the_training_on_the_last_good_epoch(tmp_path):
    expected = small(epochs=2, batch=1)
    fit(*expected, run=tmp_path / "expected")
    model, train_set, test_set, config = small(epochs=9, batch=1)
    spoil(train_set, 19, 21, 22, 23)  # the third epoch begins with the 17th call
    with pytest.raises(FloatingPointError, match=r"gradient of epoch 3 was nan 3 times in a row.*the 2 epochs before"):
        fit(model, train_set, test_set, config, run=tmp_path / "run")
    assert same(model, expected[0]) and not model.training
    assert len(json.loads((tmp_path / "run/record.json").read_text())["history"]) == 2


def test_a_diverged_epoch_is_not_kept(tmp_path):
    fit(*small(epochs=1), run=tmp_path / "run")
    before = (tmp_path / "run/state.pt").read_bytes()
    model, train_set, test_set, config = small(epochs=3)
    batch = train_set.batch
    train_set.batch = lambda indices: tuple(x * float("nan") for x in batch(indices))
    with pytest.raises(
        FloatingPointError, match=r"the gradient of epoch 2 was nan 2 times in a row.*are kept.*Lower lr"
    ):
        fit(model, train_set, test_set, config, run=tmp_path / "run")
    assert (tmp_path / "run/state.pt").read_bytes() == before


def test_a_second_run_with_a_trained_model_starts_from_its_seed(tmp_path):
    """What a notebook does when only the fit cell is executed again under another name."""
    model, *rest = small()
    first = fit(model, *rest, run=tmp_path / "a")
    assert figures(fit(model, *rest, run=tmp_path / "b")) == figures(first)


def test_a_record_that_a_kill_left_behind_is_caught_up(tmp_path):
    fit(*small(), run=tmp_path / "run")
    record = (tmp_path / "run/record.json").read_bytes()
    (tmp_path / "run/record.json").unlink()
    fit(*small(), run=tmp_path / "run")
    assert json.loads((tmp_path / "run/record.json").read_text())["history"] == json.loads(record)["history"]


def test_a_full_disk_keeps_the_last_epoch(tmp_path, monkeypatch):
    expected, continued = small(epochs=3), small(epochs=3)
    fit(*expected, run=tmp_path / "expected")
    fit(*small(), run=tmp_path / "run")
    before = (tmp_path / "run/state.pt").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        fit(*small(epochs=3), run=tmp_path / "run")
    assert (tmp_path / "run/state.pt").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "lock",
        "record.json",
        "state-before.pt",
        "state.pt",
    ]
    monkeypatch.undo()  # there is room again: the run ends as if nothing had been
    fit(*continued, run=tmp_path / "run")
    assert same(expected[0], continued[0])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(epochs=0), "epochs must be a whole number >= 1, got 0"),
        (dict(epochs=2.5), "got 2.5"),
        (dict(batch=0), "batch must be"),
        (dict(lr=0), "lr must be between 0 and 1"),
        (dict(lr=float("nan")), "lr must be"),
        (dict(beta2=1), "beta2 must be"),
        (dict(ema=1), "ema must be"),
        (dict(optimizer="sgd"), "optimizer must be"),
        (dict(seed=-1), "seed must be"),
    ],
)
def test_bad_config(arguments, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**arguments)


def test_batch_larger_than_the_set_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="batch 9 is larger than the training set of 8 images"):
        fit(*small(batch=9), run=tmp_path / "run")
    with pytest.raises(ValueError, match="batch 9"):
        next(train(*small(batch=9)))
    assert not (tmp_path / "run").exists()


def test_batchnorm_runs_and_its_statistics_are_kept(tmp_path):
    _, train_set, test_set, config = small()
    model = UNet(1, (4, 8), norm="batch", block="double", residual=False)
    start = copy.deepcopy(model)
    fit(model, train_set, test_set, config, run=tmp_path / "run")
    name = next(n for n in model.state_dict() if n.endswith("running_var"))
    assert not torch.equal(model.state_dict()[name].cpu(), start.state_dict()[name])
    assert not model.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(tmp_path):
    model, *rest = small(epochs=3)
    history = fit(model, *rest, run=tmp_path / "run")
    assert next(model.parameters()).device.type == device().type == "cuda"
    assert len(history) == 3 and history[-1]["train_mse"] < history[0]["train_mse"]


def test_losses_by_name_and_by_function_train_alike_and_are_part_of_the_key(tmp_path):
    def absolute(denoised, clean):
        return (denoised - clean).abs().mean()

    by_name, by_function = small(loss="l1"), small(loss=absolute)
    a, b = (list(train(*part))[-1] for part in (by_name, by_function))
    assert same(by_name[0], by_function[0]) and a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-5)
    assert a["train_mse"] != a["train_loss"] and "train_loss" not in list(train(*small()))[-1]
    fit(*small(loss="l1"), run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"config.loss is l1, not absolute"):
        fit(*small(loss=absolute), run=tmp_path / "run")


def test_a_loss_that_changes_is_the_first_one_until_then(tmp_path):
    first, both = small(epochs=2), small(epochs=2, loss_after=(2, "l1"))
    list(train(*first)), list(train(*both))
    assert same(first[0], both[0])  # from the third epoch on, which neither reaches
    longer, plain = small(epochs=3, loss_after=(2, "l1")), small(epochs=3)
    records, _ = list(train(*longer)), list(train(*plain))
    assert not same(longer[0], plain[0])
    assert ["train_loss" in record for record in records] == [False, False, True]


def test_a_cooldown_is_the_end_of_a_run_without_one(tmp_path):
    model, train_set, test_set, _ = small()
    plain, cooled = TrainConfig(epochs=4, batch=4), TrainConfig(epochs=4, batch=4, cooldown=2)
    ratios = [cooled.rate(step, 40) / plain.rate(step, 40) for step in range(1, 41)]
    assert ratios[:20] == [1.0] * 20 and np.allclose(ratios[20:], np.linspace(1, 0, 21)[1:])
    without = fit(model, train_set, test_set, plain, run=tmp_path / "plain")
    ended = fit(model, train_set, test_set, cooled, run=tmp_path / "cooled")
    errors = [[entry["train_mse"] for entry in history] for history in (without, ended)]
    # the third epoch's first steps have a rate that falls already
    assert errors[0][:2] == errors[1][:2] and errors[0][3] != errors[1][3]
    with pytest.raises(ValueError, match=r"config.epochs is 4, not 5"):
        fit(model, train_set, test_set, replace(cooled, epochs=5), run=tmp_path / "cooled")
    with pytest.raises(ValueError, match="cooldown must be at most the 4 epochs, got 5"):
        TrainConfig(epochs=4, cooldown=5)


def test_a_cosine_run_is_of_one_length_only(tmp_path):
    model, train_set, test_set, _ = small()
    rates = [TrainConfig(epochs=2, schedule="cosine", warmup=0).rate(step, 10) for step in range(1, 11)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0, abs=1e-12)
    config = TrainConfig(epochs=2, batch=4, schedule="cosine")
    fit(model, train_set, test_set, config, run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"config.epochs is 2, not 3"):
        fit(model, train_set, test_set, replace(config, epochs=3), run=tmp_path / "run")


def test_an_interrupt_within_a_save_is_an_interrupt(tmp_path):
    """torch's writer ends in a RuntimeError of its own then, which was told as a disk that cannot be written."""

    class Stopped:
        def write(self, data):
            raise KeyboardInterrupt

        def flush(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        checkpoint._replace(tmp_path / "a.pt", lambda file: torch.save(torch.zeros(9), Stopped()))
    assert list(tmp_path.iterdir()) == []
