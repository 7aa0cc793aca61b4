"""One folder a run: state.pt to continue from, record.json to read.

state.pt holds plain tensors, numbers and strings (the averaged weights, the weights being
trained, the optimizers' running means, the history and the key); it is the truth. record.json is written
after it, for people and for other programs.
"""

import contextlib
import json
import os
import pickle
import zipfile
import zlib
from pathlib import Path

import torch

from .data import ROOT

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error)


def folder(run: str | Path) -> Path:
    """checkpoints/<run> of the project for a name; an absolute path is taken as it is."""
    if not str(run).strip():
        raise ValueError('run is empty, expected a name such as run="denoise"')
    return ROOT / "checkpoints" / str(run)  # an absolute path on the right replaces the left


def save(folder: Path, key: dict, state: dict) -> None:
    """Write folder/state.pt whole or not at all: a temporary file, flushed, renamed."""
    _replace(folder / "state.pt", lambda file: torch.save(dict(state, key=json.dumps(key)), file))


def write_json(path: Path, content: dict) -> None:
    """Write a file of figures for people and other programs, whole or not at all."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    _replace(path, lambda file: file.write(text.encode()))


def load(folder: Path, key: dict) -> dict | None:
    """The state saved in folder, on the CPU, or None where there is none.

    Raises ValueError if it was saved under another key (naming each field that differs), or
    if the file is damaged or not ours. Nothing but tensors and plain values is unpickled.
    """
    path = folder / "state.pt"
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a zip; its check sums find a flipped bit
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"wrong check sum in {damaged}")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        stored, _ = json.loads(saved["key"]), saved["history"]
    except FileNotFoundError:
        return None
    except OSError as e:
        raise OSError(f"cannot read {path} ({e.strerror}); make it readable or name another run") from None
    except (ValueError, LookupError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError, *ZIP_ERRORS) as e:
        why = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ValueError(
            f"{path} is damaged or not a checkpoint of this project ({why[:120]}); "
            "delete it to train anew, or name another run"
        ) from None
    differing = _differences(stored, json.loads(json.dumps(key)))
    if differing:
        raise ValueError(
            f"{folder} holds a run that differs: {'; '.join(differing)}. It is left as it is: "
            f'name another run, such as run="{folder.name}-2", or delete that folder'
        )
    return saved


def _differences(stored, wanted, path: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = [*stored, *(name for name in wanted if name not in stored)]
        return [
            line
            for name in names
            for line in _differences(stored.get(name), wanted.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if stored == wanted else [f"{path} is {stored}, not {wanted}"]


def _replace(path: Path, write) -> None:
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as e:  # torch turns a full disk into a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        why = getattr(e, "strerror", None) or str(e).splitlines()[0]
        raise OSError(
            f"cannot write {path} ({why}); what was there is kept. Make it writable, free space or name another run"
        ) from None
