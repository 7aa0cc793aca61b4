"""A run killed at any moment ends with the bits of one that was left alone.

`python tests/test_kill.py 200` kills 200 times; the tests kill at chosen places and at five random moments.
"""

import hashlib
import io
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from src import checkpoint
from src.config import TrainConfig
from src.images import ImageSet
from src.noise import GaussianNoiseDataset
from src.train import fit
from src.unet import UNet

# A server that has imported torch, and what its optimizers import when first built, forks each child: a kill costs a
# tenth of a second, not three.
CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
CONTEXT.set_forkserver_preload(["src.train", "torch._dynamo"])
EPOCHS = 12


def work(folder: str, epochs: int = EPOCHS, place: str = "", count: int = 0, ready=None) -> None:
    """Train in a child process; at the count-th visit of the place it kills itself."""
    torch.set_num_threads(1)
    sys.stdout = io.StringIO()
    visits = 0

    def strike(here: str) -> None:
        nonlocal visits
        visits += here == place
        if here == place and visits == count:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace, batch, save = os.fsync, os.replace, GaussianNoiseDataset.batch, torch.save

    def half_saved(content, file):
        save(content, buffer := io.BytesIO())
        file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        file.flush()
        strike("half a file")
        file.write(buffer.getvalue()[len(buffer.getvalue()) // 2 :])

    os.fsync = lambda number: (strike("written, not flushed"), fsync(number), strike("flushed, not renamed"))
    os.replace = lambda a, b: (strike("before a rename"), replace(a, b), strike("after a rename"))
    GaussianNoiseDataset.batch = lambda self, indices: (strike("amid an epoch"), batch(self, indices))[1]
    torch.save = half_saved
    pixels = np.random.default_rng(0).integers(0, 256, (10, 1, 24, 24), np.uint8)
    images = ImageSet.from_pixels(torch.from_numpy(pixels))
    train_set = GaussianNoiseDataset(images[:8], sigma=0.2, crop_size=16, augment=True)
    test_set = GaussianNoiseDataset(images[8:], sigma=0.2, fixed=True)
    config = TrainConfig(epochs=epochs, batch_size=4, evaluate_every=3)
    if ready is not None:
        ready.set()
    fit(UNet(1, (16, 24)), train_set, test_set, config, run=folder, snapshots=(4,))


def bits(folder: Path) -> str:
    """sha256 over everything in the run that a reader may rely on, times aside."""
    saved = torch.load(folder / "state.pt", weights_only=True)
    record = json.loads((folder / "record.json").read_text())
    saved["record"] = {name: record[name] for name in ("fingerprint", "epochs", "history")}
    saved["kept"] = [checkpoint.load_snapshot(folder, epoch) for epoch in (1, 2, 4, 5, 10)]
    hashed = hashlib.sha256()

    def add(value) -> None:
        if isinstance(value, dict):
            for name in sorted(value.keys() - {"seconds", "environments"}, key=str):
                hashed.update(str(name).encode()), add(value[name])
        elif isinstance(value, (list, tuple)):
            hashed.update(str(len(value)).encode()), [add(item) for item in value]
        else:
            hashed.update(value.contiguous().numpy().tobytes() if torch.is_tensor(value) else repr(value).encode())

    add(saved)
    return hashed.hexdigest()


def run(folder: Path, delay: float | None = None, **options) -> bool:
    """One attempt to finish the run, killed after `delay` seconds of training; True if it was killed."""
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=work, args=(str(folder),), kwargs=dict(options, ready=ready))
    process.start()
    if delay is not None:
        ready.wait(60)
        time.sleep(delay)
        process.kill()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def random_kills(folder: Path, wanted: int, expected: str, seconds: float) -> tuple[int, int]:
    """Kill at random moments, five times a run that takes so many seconds: (kills, runs with the expected bits)."""
    rng, kills, right = np.random.default_rng(0), 0, 0
    while kills < wanted:
        where = folder / f"random-{right}"
        for _ in range(5):
            kills += run(where, delay=rng.uniform(0.0, seconds / 3))
        run(where)
        assert bits(where) == expected
        right += 1
    return kills, right


def undisturbed(folder: Path) -> tuple[str, float]:
    """The bits of a run that is left alone, and the seconds it takes."""
    assert not run(folder / "first")  # starts the server
    start = time.time()
    assert not run(folder / "run")
    return bits(folder / "run"), time.time() - start


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("wanted", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, expected, wanted):
    kills, runs = random_kills(tmp_path, wanted, *expected)
    assert kills >= wanted and runs >= 1


PLACES = (
    "amid an epoch",
    "half a file",
    "written, not flushed",
    "flushed, not renamed",
    "before a rename",
    "after a rename",
)


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_the_worst_places(place, tmp_path, expected):
    """The saves of several epochs, those with a snapshot among them, at each of their stages."""
    for count in (1, 2, 3, 9):
        assert run(tmp_path, place=place, count=count)
    assert not run(tmp_path)
    assert bits(tmp_path) == expected[0]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP on this system")
def test_a_closed_laptop(tmp_path, expected):
    """Stopped and continued: nothing notices."""
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=work, args=(str(tmp_path),), kwargs=dict(ready=ready))
    process.start()
    ready.wait(60)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGCONT)
    process.join(120)
    assert process.exitcode == 0 and bits(tmp_path) == expected[0]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 200
        start = time.time()
        kills, runs = random_kills(Path(scratch), wanted, *undisturbed(Path(scratch)))
        print(f"{kills} of {kills} kills survived; {runs} runs, all of the same bits; {time.time() - start:.0f} s")
