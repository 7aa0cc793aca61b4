"""One folder a run: state.pt to continue from, record.json to read, epoch-N.pt to look back.

state.pt          EMA weights, weights, optimizers, history, fingerprint and environments: tensors and plain values
state-before.pt   the same of the epoch before, in case state.pt is damaged
epoch-100.pt      the EMA weights of an epoch that is kept: 1, 2, 5, 10, 20, 50, 100, ...
record.json       fingerprint, history and environments for people and other programs
lock              held by the process that trains; one left behind means nothing

Files are written under another name, flushed and renamed, so a kill at any moment leaves the old one or the new one.
"""

import contextlib
import hashlib
import json
import os
import pickle
import re
import zipfile
import zlib
from importlib import import_module
from pathlib import Path

import filelock
import torch
from torch import Tensor, nn

from src.device import device
from src.files import ROOT, one_line, write_atomically, write_json, writing
from src.fingerprint import differences

DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, NotImplementedError,
          pickle.UnpicklingError, zipfile.BadZipFile, zlib.error)  # fmt: skip - what torch.load raises at flipped bits


def run_folder(run: str | Path) -> Path:
    """checkpoints/<run> of the project for "run" and for "checkpoints/run"; an absolute path as it is."""
    parts = Path(str(run).strip()).parts
    parts = parts[1:] if parts[:1] == ("checkpoints",) else parts
    if not parts or ".." in parts:
        raise ValueError(f'run must be a name such as "denoise" or an absolute path, got {str(run)!r}; name the run')
    return ROOT / "checkpoints" / Path(*parts)  # an absolute path on the right replaces the left


@contextlib.contextmanager
def locked(folder: Path):
    """Hold the run's folder; BlockingIOError where another process does. A kill lets go of it."""
    lock = filelock.FileLock(folder / "lock", blocking=False)
    with writing(folder / "lock"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise BlockingIOError(f"another process is training {folder}; wait for it, or name another run") from None
    try:
        for part in folder.glob("*.part"):
            part.unlink()  # of a process that was killed while it wrote
        yield
    finally:
        lock.release()


def is_kept(epoch: int) -> bool:
    """Whether the weights of an epoch are kept for good: 1, 2, 5, 10, 20, 50, ..."""
    return re.fullmatch("[125]0*", str(epoch)) is not None


def save(folder: Path, about: dict, state: dict, keep: bool) -> None:
    """Write state.pt and record.json, each whole or not at all, and with `keep` the EMA weights as epoch-<epoch>.pt.

    about: fingerprint, parameters, environments and test_set. Raises ValueError, before anything is written, for a
    figure that is not finite.
    """
    epoch, content = len(state["history"]), state | about | {"fingerprint": json.dumps(about["fingerprint"])}
    json.dumps(state["history"], allow_nan=False)
    if keep:
        weights = {name: content[name] for name in ("ema_model", "fingerprint")}
        write_atomically(folder / f"epoch-{epoch}.pt", lambda file: torch.save(weights, file))
    write_atomically(folder / "state.pt", lambda file: torch.save(content, file), folder / "state-before.pt")
    write_record(folder, about, state["history"])


def write_record(folder: Path, about: dict, history: list[dict]) -> None:
    write_json(folder / "record.json", dict(about, epochs=len(history), history=history))


def load_state(folder: Path, fingerprint: dict, say=print) -> dict | None:
    """The state saved in folder, on the CPU; None where there is none.

    A damaged state.pt is put aside as state.damaged.pt and the epoch before it is taken; `say` gets the line that tells
    so. Raises ValueError for a run with another fingerprint (naming each field), or if no file of it is whole.
    """
    saved, damage = _newest(folder)
    if saved is None:
        return None
    differing = differences(json.loads(saved["fingerprint"]), json.loads(json.dumps(fingerprint)))
    if differing:
        raise ValueError(
            f"{folder} holds a run that differs: {'; '.join(differing)}. It is left as it is: name another run, such "
            f'as run="{folder.name}-2", or delete that folder'
        )
    if damage:
        os.replace(folder / "state.pt", folder / "state.damaged.pt")
        say(f"{damage}; it is kept as state.damaged.pt, training goes on after epoch {len(saved['history'])}")
    return saved


def kept_epochs(folder: Path) -> list[int]:
    """The epochs whose EMA weights are kept in folder."""
    names = (re.fullmatch(r"epoch-(\d+)\.pt", path.name) for path in folder.glob("epoch-*.pt"))
    return sorted(int(name[1]) for name in names if name)


def load_snapshot(run: str | Path, epoch: int) -> dict[str, Tensor]:
    """The EMA weights after an epoch that was kept, for `model.load_state_dict`.

    Raises FileNotFoundError where it was not kept and ValueError where the file is damaged.
    """
    folder = run_folder(run)
    saved = _read(folder / f"epoch-{epoch}.pt")
    if saved is None:
        kept = kept_epochs(folder)
        raise FileNotFoundError(f"no weights of epoch {epoch} in {folder}, expected one of {kept}; ask for one of those")
    return saved["ema_model"]


def load(run: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The network of a run with its EMA weights, in evaluation mode, on the GPU if there is one.

    run: as for `fit`, or a published network's folder. model: an instance of a class of your own; networks of this
    package are built from the record. Raises FileNotFoundError where it is missing, ValueError where it is damaged.
    """
    folder = run_folder(run)
    try:
        record = json.loads((folder / "record.json").read_text())
        network = dict(record["fingerprint"]["network"])
        if model is None:
            module, _, name = network.pop("class").rpartition(".")
            if not module.startswith("src."):
                raise ValueError(f"{name} is a class of your own; pass load(run, model) an instance of it")
            model = getattr(import_module(module), name)(**network)
        model.load_state_dict(_ema_weights(folder, record))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no run in {folder}, expected record.json and weights; check the name") from None
    except DAMAGE as error:
        raise ValueError(f"{folder} cannot be loaded ({one_line(error)}); train it again, or restore it") from None
    return model.eval().to(device(), memory_format=torch.channels_last)


def _ema_weights(folder: Path, record: dict) -> dict[str, Tensor]:
    """From state.pt of a run, or from the weights.pt of a published network, checked by its sha256."""
    saved, _ = _newest(folder)
    if saved is not None:
        return saved["ema_model"]
    path = folder / "weights.pt"
    if hashlib.sha256(path.read_bytes()).hexdigest() != record.get("sha256"):
        raise ValueError(f"{path.name} does not have the sha256 of its record.json")
    return torch.load(path, map_location="cpu", weights_only=True)


def _newest(folder: Path) -> tuple[dict | None, ValueError | None]:
    """state.pt, or where it is damaged or missing the one before it, and the damage; ValueError if none is whole."""
    saved = damage = None
    try:
        saved = _read(folder / "state.pt")
    except ValueError as error:
        damage = error
    if saved is None:  # damaged, or killed between the two renames of `save`, or nothing there
        with contextlib.suppress(ValueError) if damage else contextlib.nullcontext():
            saved = _read(folder / "state-before.pt")
    if saved is None and damage:
        raise damage
    return saved, damage


def _read(path: Path) -> dict | None:
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a zip; its check sums find a flipped bit
            damaged = archive.testzip()
        saved = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else {}
        if "raw" in saved:
            raise ValueError("an older version of this project wrote it")
        json.loads(saved["fingerprint"]), saved["ema_model"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(f"cannot read {path} ({error.strerror}); make it readable, or name another run") from None
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged or no checkpoint of this version ({one_line(error)}); delete it to train anew, or name "
            "another run"
        ) from None
    return saved
