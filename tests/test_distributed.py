"""A run by one process and by two under torchrun; what each process takes of a batch."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from src import distributed
from src.config import TrainConfig
from src.device import device, precision
from src.files import ROOT
from src.images import CACHE, load_images, split_images
from src.noise import GaussianNoiseDataset
from src.run import NOTEBOOKS, set_parameters
from src.train import fit, main
from src.unet import UNet

EPOCHS = 20


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve images of smooth ramps, so small that an epoch takes hundredths of a second."""
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
    """nine images to train on in batches of 4: the last batch holds one, and a second process none."""
    options = dict(data=photos, size=32, crop_size=16, batch_size=4, epochs=EPOCHS, run=run, held_out=0.25) | options
    listed = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return [*listed, "--widths", "16", "24"]


def torchrun(photos, run, restarts=2, start_new_session=False, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               f"--max-restarts={restarts}"]  # fmt: skip
    command += ["-m", "src.train", "--", *arguments(photos, run, **options)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "LOGLEVEL": "INFO"}  # so that it says when it restarts both
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=start_new_session)  # fmt: skip


def wait_for_epochs(process, run, epochs):
    deadline = time.time() + 120
    while not (run / "record.json").exists() or len(history(run)) < epochs:
        assert process.poll() is None and time.time() < deadline, process.communicate()[0]
        time.sleep(0.01)


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
    assert 1 <= said.count("kept in") <= 1 + said.count("will restart"), said  # one of the two reports
    return run


@pytest.mark.slow
def test_two_processes_follow_one_to_rounding(by_one, by_two):
    """The same global batch, noise, crops and order: the losses differ as sums in another order do.

    In bfloat16 a sum's last bit is a 256th, so 20 epochs on they lie a thousand times further apart than in float32.
    """
    one, two = history(by_one), history(by_two)
    coarse = precision(device()) == torch.bfloat16
    assert [r["epoch"] for r in two] == list(range(1, EPOCHS + 1))
    for name, tolerance in (("train_mse", 2e-2 if coarse else 1e-4), ("psnr", 2e-3 if coarse else 2e-4)):
        a, b = (np.array([r[name] for r in h if name in r]) for h in (one, two))
        assert len(a) == len(b) and np.abs(a / b - 1).max() < tolerance
        assert np.abs(a[:2] / b[:2] - 1).max() < (1e-4 if coarse else 1e-6)
    weights = [torch.load(run / "state.pt", weights_only=True)["ema_model"] for run in (by_one, by_two)]
    far = max((a - b).abs().max().item() for a, b in zip(*map(tensors, weights)))
    # not a second run of the first; the furthest weight was 0.06 off with one thread, less with two
    assert 0 < far < (1e-1 if coarse else 1e-2)
    record = json.loads((by_two / "record.json").read_text())
    assert record["environments"][0]["processes"] == 2


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_run_ends_right(photos, by_two, tmp_path):
    process = torchrun(photos, tmp_path)
    wait_for_epochs(process, tmp_path, 3)
    workers = psutil.Process(process.pid).children()
    if sys.platform == "linux":  # both hold one mapped file of images, not a copy each
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
    """The same sets, network and config give the same fingerprint, so the notebook's fit finds the run finished."""
    images = load_images(photos, size=32, cache=tmp_path)
    train_images, held_out = split_images(images, held_out=0.25, seed=0)
    train_set = GaussianNoiseDataset(train_images.sample(300, 0), sigma=0.2, seed=0, crop_size=16, augment=True)
    test_set = GaussianNoiseDataset(held_out.sample(60, 0), sigma=0.2, seed=1, fixed=True)
    before = history(by_one)
    assert (
        fit(UNet(3, (16, 24), seed=0), train_set, test_set, TrainConfig(epochs=EPOCHS, batch_size=4), by_one) == before
    )


def test_the_defaults_are_the_notebooks(capsys):
    """Names too: sigma of the notebook is --sigma of the command."""
    notebook = nbformat.read(NOTEBOOKS / "01_denoise.ipynb", as_version=4)
    known = set_parameters(notebook, "01_denoise.ipynb", {})
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    compared = 0
    for name, value in known.items():
        option = re.search(rf"--{name.replace('_', '-')} [^()]*\(default: ([^)]*)\)", text)
        if option and name != "run":
            assert option[1] in (str(value), f"[{value}]"), name
            compared += 1
    assert compared >= 6, known


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(data="nowhere"), "no folder"),
        (dict(sigma=25), "sigma must be in [0, 1], the unit of the images, got 25.0; 8-bit levels need / 255"),
        (dict(epochs=0), "epochs must be a whole number at least 1, got 0"),
        (dict(batch_size=99), "batch_size 99 exceeds the 9 training images; try batch_size=9"),
        (dict(crop_size=99), "crop_size must be a whole number from 1 to 32"),
        (dict(held_out=2), "held_out must be a fraction between 0 and 1, got 2"),
        (dict(run=".."), "run must be a name"),
        (dict(loss="mae"), "loss must be one of mse, l1"),
        (dict(start="no_such_run"), "no run in "),
    ],
)
def test_bad_arguments_give_one_line(photos, tmp_path, capsys, options, words):
    assert main(arguments(photos, **dict(run=tmp_path / "run") | options)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "run/state.pt").exists()


# ---- under torchrun ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, words, lines", [(dict(data="nowhere"), "no folder", 1), (dict(sigma=25), "sigma", 2)]
)
def test_torchrun_with_a_bad_argument_gives_one_line(photos, tmp_path, options, words, lines):
    """Of each process that finds it. torchrun adds a report, whose traceback is its own; none is ours."""
    said, _ = torchrun(photos, tmp_path / "run", restarts=0, **options).communicate(timeout=240)
    found = [line for line in said.splitlines() if line.startswith("error: ") and words in line]
    assert 1 <= len(found) <= lines, said
    assert str(ROOT / "src") not in said and said.count("Traceback") <= 1, said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_ctrl_c_under_torchrun_ends_all_processes_and_keeps_the_run(photos, by_two, tmp_path):
    """An interrupt hands nobody a None: the run goes on to the bits of an unbroken one."""
    process = torchrun(photos, tmp_path, start_new_session=True)
    wait_for_epochs(process, tmp_path, 3)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    said, _ = process.communicate(timeout=240)
    assert process.returncode != 0 and "NoneType" not in said and "TypeError" not in said, said
    finished = len(history(tmp_path))
    assert 3 <= finished < EPOCHS
    said, _ = torchrun(photos, tmp_path).communicate(timeout=240)
    states = [torch.load(run / "state.pt", weights_only=True) for run in (by_two, tmp_path)]
    assert all(torch.equal(a, b) for a, b in zip(*map(tensors, states), strict=True)), said


# ---- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, processes", [(8, 2), (4, 3), (1, 2), (5, 8)])
def test_the_parts_of_a_batch_weigh_what_its_images_weigh(monkeypatch, count, processes):
    """The mean over processes of factor * mean loss is the mean over the batch."""
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    losses, batch, parts = np.random.default_rng(0).random(count), list(range(count)), []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.part_of(batch))
    assert sorted(i for part, number, _ in parts for i in part[:number]) == batch
    assert all(len(part) >= 1 for part, _, _ in parts)
    mean = np.mean([weight * losses[part].mean() for part, _, weight in parts])
    assert mean == pytest.approx(losses.mean())


def test_without_torchrun_all_of_it_does_nothing():
    model = UNet(widths=(4,))
    with distributed.process_group():
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.averaging(model) is model and distributed.part_of([3, 1]) == ([3, 1], 2, 1.0)
        assert distributed.from_first(lambda: "x") == "x"
        with pytest.raises(KeyboardInterrupt):
            distributed.from_first(_interrupted)


def _interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupt_of_the_first_process_ends_the_others(monkeypatch, error):
    """They get no None in the place of a result."""
    sent = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "broadcast_object_list", lambda box: sent.append(list(box)))

    def failing():
        raise error("x")

    monkeypatch.setattr(distributed, "rank", lambda: 0)
    with pytest.raises(error):
        distributed.from_first(failing)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed.dist, "broadcast_object_list", lambda box: box.__setitem__(0, sent[0][0]))
    with pytest.raises(SystemExit):
        distributed.from_first(failing)
