"""What is kept of a run: damage is found, older files are refused, one process trains, and a network is loaded."""

import hashlib
import json

import numpy as np
import pytest
import torch
from small_run import Normalised, same, small
from torch import nn

from src import checkpoint
from src.checkpoint import load, load_snapshot, load_state, run_folder
from src.files import ROOT
from src.files.archives import locked
from src.metrics import psnr
from src.train import fit, run_fingerprint
from src.unet import UNet

# ---- damage -----------------------------------------------------------------------------------


def test_any_flipped_bit_is_found_or_harmless(tmp_path):
    """Fifty bits all over the file: the run is then loaded as it was, or the epoch before it."""
    model, train_set, test_set, config = small(epochs=2)
    fit(model, train_set, test_set, config, run=tmp_path)
    fingerprint, path = run_fingerprint(model, train_set, config), tmp_path / "state.pt"
    good, before = path.read_bytes(), (tmp_path / "state-before.pt").read_bytes()
    whole = load_state(tmp_path, fingerprint)
    found = 0
    for at in np.random.default_rng(0).integers(0, 8 * len(good), 50).tolist():
        content = bytearray(good)
        content[at // 8] ^= 1 << at % 8
        path.write_bytes(content), (tmp_path / "state-before.pt").write_bytes(before)
        said = []
        saved = load_state(tmp_path, fingerprint, said.append)
        found += len(saved["history"]) == 1
        assert len(said) == (len(saved["history"]) == 1)
        if not said:
            assert saved["history"] == whole["history"] and saved["fingerprint"] == whole["fingerprint"]
            assert all(torch.equal(saved["model"][name], whole["model"][name]) for name in whole["model"])
        else:
            assert "training goes on after epoch 1" in said[0] and (tmp_path / "state.damaged.pt").exists()
    assert found > 25


def test_what_was_damaged_ends_with_the_bits_of_what_was_not(tmp_path):
    expected, damaged = small(epochs=4), small(epochs=4)
    fit(*expected, run=tmp_path / "expected")
    fit(*small(epochs=3), run=tmp_path / "run")
    content = bytearray((tmp_path / "run/state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "run/state.pt").write_bytes(content)
    assert len(fit(*damaged, run=tmp_path / "run")) == 4
    assert same(expected[0], damaged[0])


def test_a_record_that_a_kill_left_behind_is_caught_up(tmp_path):
    fit(*small(), run=tmp_path / "run")
    record = json.loads((tmp_path / "run/record.json").read_text())
    (tmp_path / "run/record.json").unlink()
    fit(*small(), run=tmp_path / "run")
    assert json.loads((tmp_path / "run/record.json").read_text()) == record
    assert list(record) == ["fingerprint", "environments", "parameters", "test_set", "epochs", "history"]


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path):
    with (
        locked(tmp_path / "run"),
        pytest.raises(BlockingIOError, match=r"^another process is training .*; wait for it"),
    ):
        fit(*small(), run=tmp_path / "run")
    assert len(fit(*small(), run=tmp_path / "run")) == 2


# ---- of an older version ----------------------------------------------------------------------


def of_an_older_version(folder):
    """What this project wrote before: other names in state.pt, "key" in the record."""
    fit(*small(), run=folder)
    saved = torch.load(folder / "state.pt", weights_only=True)
    old = {"raw": saved["model"], "model": saved["ema_model"], "key": saved["fingerprint"], "history": saved["history"]}
    for name in ("state.pt", "state-before.pt"):
        torch.save(old, folder / name)
    torch.save({"model": saved["ema_model"], "key": saved["fingerprint"]}, folder / "epoch-2.pt")
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({"key": record["fingerprint"], "history": record["history"]}))


@pytest.mark.parametrize("done", [
    lambda folder: fit(*small(), run=folder),
    lambda folder: load(folder),
    lambda folder: load_snapshot(folder, 2),
])  # fmt: skip
def test_a_run_of_an_older_version_is_refused_in_one_line_that_says_so(tmp_path, done):
    of_an_older_version(tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match="older version of this project") as caught:
        done(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


# ---- load -------------------------------------------------------------------------------------


def test_a_run_is_loaded_with_its_ema_weights_in_evaluation_mode(tmp_path):
    model, *rest = small()
    history = fit(model, *rest, run=tmp_path / "run")
    loaded = load(tmp_path / "run")
    assert isinstance(loaded, UNet) and same(loaded.cpu(), model) and not loaded.training
    assert checkpoint.kept_epochs(tmp_path / "run") == [1, 2] and len(history) == 2


def test_a_network_class_of_ones_own_is_loaded_into_an_instance(tmp_path):
    model, (_, *rest) = Normalised(), small()
    fit(model, *rest, run=tmp_path / "run")
    fresh = Normalised()
    loaded = load(tmp_path / "run", fresh)
    assert loaded is fresh and same(loaded.cpu(), model) and not loaded.training
    with pytest.raises(ValueError, match=r"Normalised is a class of your own, expected load\(run, model\)") as caught:
        load(tmp_path / "run")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be loaded") as caught:
        load(tmp_path / "run", nn.Conv2d(1, 1, 1))
    assert "\n" not in str(caught.value)


def test_what_fit_trained_as_x_is_loaded_as_x_and_as_checkpoints_x(tmp_path, monkeypatch):
    monkeypatch.setattr("src.files.ROOT", tmp_path)
    model, *rest = small()
    fit(model, *rest, run="x")
    assert (tmp_path / "checkpoints/x/state.pt").exists()
    for name in ("x", "checkpoints/x", tmp_path / "checkpoints/x", str(tmp_path / "checkpoints" / "x")):
        assert same(load(name).cpu(), model) and load_snapshot(name, 2).keys() == model.state_dict().keys()
        assert len(fit(*small(), run=name)) == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["x"]


def test_a_published_network_is_loaded_and_checked(tmp_path):
    model, *rest = small()
    fit(model, *rest, run=tmp_path / "run")
    record = json.loads((tmp_path / "run/record.json").read_text())
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "weights.pt")
    content = (folder / "weights.pt").read_bytes()
    (folder / "record.json").write_text(json.dumps(record | {"sha256": hashlib.sha256(content).hexdigest()}))
    assert same(load(folder).cpu(), model)
    (folder / "weights.pt").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"weights.pt does not have the sha256 of its record.json"):
        load(folder)


@pytest.mark.parametrize(
    "record, words",
    [
        ("{", "cannot be loaded"),
        ("[]", "cannot be loaded"),
        ('{"fingerprint": {"network": {"class": "src.unet.Gone"}}}', "cannot be loaded"),
        ('{"fingerprint": {"network": {"class": "src.gone.UNet"}}}', "cannot be loaded"),
        ('{"fingerprint": {"network": {"class": "os.system", "command": "true"}}}', "a class of your own"),
        ('{"fingerprint": {"network": {"class": "src.unet.UNet", "channels": 0}}}', "channels must be"),
        ('{"fingerprint": {"network": {"class": "src.unet.UNet", "depth": 3}}}', "cannot be loaded"),
    ],
)
def test_a_record_that_names_no_network_of_ours_is_one_line(tmp_path, record, words):
    (tmp_path / "record.json").write_text(record)
    with pytest.raises(ValueError, match=words) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_not_there_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"^no run in .*no_such_run, expected record.json and weights; check the"
    ):
        load("no_such_run")
    with pytest.raises(FileNotFoundError, match=r"^no weights of epoch 3 in .*; ask for one of \[\]"):
        load_snapshot("no_such_run", 3)


def test_published_networks_are_loaded_by_their_name():
    """And do what they are published for: at sigma 25/255 half the noise and more is gone."""
    folder = run_folder("published/denoiser")
    assert folder == ROOT / "checkpoints/published/denoiser"
    model = load("published/denoiser").cpu()
    clean = torch.linspace(0.2, 0.8, 64).expand(1, 3, 64, 64)
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert psnr(model(noisy), clean).item() > psnr(noisy, clean).item() + 12
