"""One folder a run: state.pt to continue from, record.json to read.

state.pt          the truth: the averaged weights, the weights being trained, the optimizers' running
                  means, the history, the key and the environment, as plain tensors, numbers and strings
state-before.pt   the same of the epoch before it, for the day that state.pt is damaged
epoch-100.pt      the averaged weights alone, of an epoch asked for by `snapshots`
record.json       key, history and environment for people and other programs, written after state.pt
lock              held by the process that trains; one left behind means nothing

Each file is written under another name, flushed to the disk and renamed, so a kill at any moment leaves
the old one or the new one. Nothing but tensors and plain values is unpickled (weights_only).
"""

import contextlib
import json
import os
import pickle
import zipfile
import zlib
from pathlib import Path

import filelock
import torch

from src.images import ROOT
from src.image_files import reason

DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
)  # fmt: skip - what zipfile and torch.load raise at flipped bits; the last: "that compression method is not supported"
FIX = "delete it to train anew, or name another run"


def folder(run: str | Path) -> Path:
    """checkpoints/<run> of the project for a name; an absolute path is taken as it is."""
    if not str(run).strip():
        raise ValueError('run is empty, expected a name such as run="denoise"')
    return ROOT / "checkpoints" / str(run)  # an absolute path on the right replaces the left


@contextlib.contextmanager
def only_one(folder: Path):
    """Hold the run's folder; BlockingIOError where another process does. A kill lets go of it."""
    lock = filelock.FileLock(folder / "lock", blocking=False)
    with _clear(folder / "lock"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise BlockingIOError(
                f"another process is training {folder}, expected it to be alone; wait for it, or name another run"
            ) from None
    try:
        for part in folder.glob("*.part"):
            part.unlink()  # of a process that was killed while it wrote
        yield
    finally:
        lock.release()


def save(folder: Path, key: dict, state: dict, keep: bool = False) -> None:
    """Write folder/state.pt whole or not at all; the one that was there becomes state-before.pt.

    keep: first write the averaged weights to epoch-<epoch>.pt, so that a kill cannot leave them out.
    """
    text = json.dumps(key)
    if keep:
        epoch = len(state["history"])
        weights = dict(model=state["model"], epoch=epoch, key=text)
        _replace(snapshot_path(folder, epoch), lambda file: torch.save(weights, file))
    path = folder / "state.pt"
    _replace(path, lambda file: torch.save(dict(state, key=text), file), folder / "state-before.pt")


def write_json(path: Path, content: dict) -> None:
    """Write a file of figures for people and other programs, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file of text, whole or not at all."""
    _replace(path, lambda file: file.write(text.encode()))


def load(folder: Path, key: dict, say=print) -> dict | None:
    """The state saved in folder, on the CPU, or None where there is none.

    A damaged state.pt is put aside as state.damaged.pt and the epoch before it is taken; `say`
    gets the line that tells so. Raises ValueError if the run was saved under another key (naming
    each field that differs), or if no file of it is whole.
    """
    try:
        saved, damage = _newest(folder)
    except ValueError as error:
        raise ValueError(f"{error}; {FIX}") from None
    if saved is not None:
        _check_key(folder, saved, key)
        if damage:
            os.replace(folder / "state.pt", folder / "state.damaged.pt")
            say(f"{damage}; it is kept as state.damaged.pt, training goes on after epoch {len(saved['history'])}")
    return saved


def _newest(folder: Path) -> tuple[dict | None, ValueError | None]:
    """state.pt, or where it is damaged or missing the one before it, and the damage; ValueError if none is whole."""
    saved = damage = None
    try:
        saved = _read(folder / "state.pt", "history")
    except ValueError as error:
        damage = error
    if saved is None:  # damaged, or killed between the two renames of `save`, or nothing there
        with contextlib.suppress(ValueError) if damage else contextlib.nullcontext():
            saved = _read(folder / "state-before.pt", "history")
    if saved is None and damage:
        raise damage
    return saved, damage


def snapshot_path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch}.pt"


def load_snapshot(run: str | Path, epoch: int) -> dict:
    """The averaged weights after an epoch that `fit` was told to keep, for `model.load_state_dict`.

    Raises FileNotFoundError where it was not kept and ValueError where the file is damaged.
    """
    path = snapshot_path(folder(run), epoch)
    try:
        saved = _read(path, "epoch")
    except ValueError as error:
        raise ValueError(f"{error}; delete it, and train again under another name with snapshots=({epoch},)") from None
    if saved is None:
        raise FileNotFoundError(f"no {path}, expected the weights of epoch {epoch}; train with snapshots=({epoch},)")
    return saved["model"]


def load_last(run: str | Path) -> dict:
    """The averaged weights after the last finished epoch of a run that is kept here, for `fit(start=)`.

    Raises FileNotFoundError where there is no such run and ValueError where its state is damaged.
    """
    saved, _ = _newest(folder(run))
    if saved is None:
        raise FileNotFoundError(f"no {folder(run) / 'state.pt'}, expected a run that was trained here; train it first")
    return saved["model"]


def _read(path: Path, name: str) -> dict | None:
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a zip; its check sums find a flipped bit
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"wrong check sum in {damaged}")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        json.loads(saved["key"]), saved["model"], saved[name]
    except FileNotFoundError:
        return None
    except OSError as e:
        raise OSError(f"cannot read {path} ({e.strerror}); make it readable or name another run") from None
    except DAMAGE as e:
        raise ValueError(f"{path} is damaged or not a checkpoint of this project ({reason(e)})") from None
    return saved


def _check_key(folder: Path, saved: dict, key: dict) -> None:
    """ValueError naming each field in which the run was saved under another key."""
    differing = _differences(json.loads(saved["key"]), json.loads(json.dumps(key)))
    if differing:
        raise ValueError(
            f"{folder} holds a run that differs: {'; '.join(differing)}. It is left as it is: "
            f'name another run, such as run="{folder.name}-2", or delete that folder'
        )


def _differences(stored, wanted, path: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = [*stored, *(name for name in wanted if name not in stored)]
        return [
            line
            for name in names
            for line in _differences(stored.get(name), wanted.get(name), f"{path}.{name}" if path else name)
        ]
    if stored is None:
        return [] if wanted is None else [f"{path} was not recorded by the code of then, now it is {wanted}"]
    return [] if stored == wanted else [f"{path} is {stored}, not {wanted}"]


@contextlib.contextmanager
def _clear(path: Path):
    """An OSError within becomes one line that names the file and the way out."""
    try:
        yield
    except BlockingIOError:
        raise
    except (OSError, RuntimeError) as e:  # torch turns a full disk into a RuntimeError
        if isinstance(e.__context__, KeyboardInterrupt):  # and a stop button pressed while it writes
            raise e.__context__ from None
        why = getattr(e, "strerror", None) or reason(e)
        raise OSError(
            f"cannot write {path} ({why}); what was there is kept. Make it writable, free space or name another run"
        ) from None


def _replace(path: Path, write, before: Path | None = None) -> None:
    """Write a file under another name, flush it, move the old one to `before` and rename the new one."""
    part = path.with_name(path.name + ".part")
    with _clear(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if before is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(path, before)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
