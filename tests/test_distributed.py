"""Training from the command line, by one process and by two under torchrun."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from src.images import CACHE, ROOT
from src.device import device, precision
from src.train import main

EPOCHS = 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures of smooth ramps, so small that an epoch takes hundredths of a second."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for i, (a, b, c) in enumerate(draw.uniform(-4, 4, (12, 3))):
        y, x = np.mgrid[:32, :32]
        ramps = np.stack([a * y + b * x, b * y + c * x, c * y + a * x], axis=2)
        Image.fromarray((ramps + 128).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    known = set(CACHE.glob("*"))
    yield folder
    for entry in set(CACHE.glob("*")) - known:  # the command keeps what it decodes
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def arguments(photos, run, **options):
    """nine pictures to train on in batches of 4: the last batch holds one, and a second process none."""
    options = dict(data=photos, size=32, crop=16, batch=4, epochs=EPOCHS, run=run, held_out=0.25) | options
    listed = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return [*listed, "--widths", "16", "24"]


def torchrun(photos, run):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    command += ["-m", "src.train", "--", *arguments(photos, run)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def history(run):
    return json.loads((run / "record.json").read_text())["history"]


def tensors(value):
    """All tensors of a saved state, in order."""
    if torch.is_tensor(value):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [tensor for part in parts for tensor in tensors(part)]


@pytest.fixture(scope="module")
def by_one(photos, tmp_path_factory):
    run = tmp_path_factory.mktemp("one")
    assert main(arguments(photos, run)) == 0
    return run


@pytest.fixture(scope="module")
def by_two(photos, tmp_path_factory):
    run = tmp_path_factory.mktemp("two")
    process = torchrun(photos, run)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert said.count("kept in") == 1  # one of the two reports
    return run


def test_two_processes_follow_one_to_rounding(by_one, by_two):
    """The same global batch, noise, crops and order: the losses differ as sums in another order do.

    In bfloat16 a sum's last bit is a 256th, so 40 epochs on they lie a thousand times further apart than in float32.
    """
    one, two = history(by_one), history(by_two)
    coarse = precision(device()) == torch.bfloat16
    assert [r["epoch"] for r in two] == list(range(1, EPOCHS + 1))
    for name, tolerance in (("train_mse", 2e-2 if coarse else 1e-4), ("psnr", 2e-3 if coarse else 2e-4)):
        a, b = (np.array([r[name] for r in h if name in r]) for h in (one, two))
        assert len(a) == len(b) and np.abs(a / b - 1).max() < tolerance
        assert np.abs(a[:2] / b[:2] - 1).max() < (1e-4 if coarse else 1e-6)
    weights = [torch.load(run / "state.pt", weights_only=True)["model"] for run in (by_one, by_two)]
    far = max((a - b).abs().max().item() for a, b in zip(*map(tensors, weights)))
    # not a second run of the first; the furthest weight was 0.06 off with one thread, less with two
    assert 0 < far < (1e-1 if coarse else 1e-2)
    record = json.loads((by_two / "record.json").read_text())
    assert record["environment"]["processes"] == 2


def test_a_killed_worker_is_replaced_and_the_run_ends_right(photos, by_two, tmp_path):
    process = torchrun(photos, tmp_path)
    deadline = time.time() + 120
    while not (tmp_path / "state.pt").exists() or len(history(tmp_path)) < 3:
        assert process.poll() is None and time.time() < deadline, process.communicate()[0]
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children()
    if sys.platform == "linux":  # both hold one mapped file of pictures, not a copy each
        mapped = [{m.path for m in worker.memory_maps() if str(CACHE) in m.path} for worker in workers]
        assert len(mapped) == 2 and mapped[0] and mapped[0] == mapped[1]
    killed_at = len(history(tmp_path))
    workers[1].kill()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert 3 <= killed_at < EPOCHS == len(history(tmp_path))
    states = [torch.load(run / "state.pt", weights_only=True) for run in (by_two, tmp_path)]
    assert states[0]["step"] == states[1]["step"]
    assert all(torch.equal(a, b) for a, b in zip(*map(tensors, states), strict=True))


def test_the_command_trains_what_the_notebook_trains(photos, by_one, tmp_path, capsys):
    """The same sets, network and config give the same key, so the notebook's fit finds the run finished."""
    from src import GaussianNoiseDataset, TrainConfig, UNet, fit, load_images, split_images

    images = load_images(photos, size=32, cache=tmp_path)
    train_images, held_out = split_images(images, held_out=0.25, seed=0)
    train_set = GaussianNoiseDataset(train_images.sample(300, 0), sigma=0.2, seed=0, crop=16, flip=True)
    test_set = GaussianNoiseDataset(held_out.sample(60, 0), sigma=0.2, seed=1, fixed=True)
    before = history(by_one)
    assert fit(UNet(3, (16, 24), seed=0), train_set, test_set, TrainConfig(epochs=EPOCHS, batch=4), by_one) == before


def test_the_defaults_are_the_notebooks(capsys):
    from src.run import NOTEBOOKS, _assignments

    cells = json.loads((NOTEBOOKS / "01_denoise.ipynb").read_text(encoding="utf-8"))["cells"]
    source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    known = _assignments(source)
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ("size", "most_train", "most_held_out", "sigma", "batch", "crop", "epochs", "seed"):
        option = f"--{name.replace('_', '-')} {name.upper()} "
        assert re.search(rf"{option}[^()]*\(default: {known[name]}\)", text), name


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(data="nowhere"), "no folder"),
        (dict(sigma=25), "sigma must be in [0, 1] units, got 25; did you mean 25/255?"),
        (dict(epochs=0), "epochs must be a whole number >= 1, got 0"),
        (dict(batch=99), "batch 99 is larger than the training set of 9 images"),
        (dict(crop=99), "crop must be between 1 and 32"),
        (dict(snapshots=99), "snapshots must be epochs from 1 to 40, got 99"),
        (dict(held_out=2), "held_out must be a share"),
    ],
)
def test_bad_arguments_give_one_line(photos, tmp_path, capsys, options, words):
    assert main(arguments(photos, tmp_path / "run", **options)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "run/state.pt").exists()
