"""One folder a run: state.pt to continue from, record.json to read, epoch-N.pt to look back.

state.pt          EMA weights, weights, optimizers, history, fingerprint and environments: tensors and plain values
state-before.pt   the same of the epoch before, in case state.pt is damaged
epoch-100.pt      the EMA weights of an epoch that is kept: 1, 2, 5, 10, 20, 50, 100, ...
record.json       fingerprint, history and environments for people and other programs

Files are written under another name, flushed and renamed, so a kill at any moment leaves the old one or the new one.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from src.device import device
from src.files import checkpoints, one_line, write_atomically, write_json
from src.files.archives import DAMAGE, read_archive, read_newest
from src.files.fingerprint import differences


def run_folder(run: str | Path) -> Path:
    """checkpoints/<run> of the project for "run" and for "checkpoints/run"; an absolute path as it is."""
    parts = Path(str(run).strip()).parts
    parts = parts[1:] if parts[:1] == ("checkpoints",) else parts
    if not parts or ".." in parts:
        raise ValueError(f'run must be a name such as "denoise" or an absolute path, got {str(run)!r}; name the run')
    return checkpoints(*parts)  # an absolute path replaces what is left of it


def save(folder: Path, about: dict, state: dict, snapshots: Iterable[int]) -> None:
    """Write state.pt and record.json, each whole or not at all, and epoch-N.pt for 1, 2, 5, 10, ... and snapshots.

    about: fingerprint, parameters, environments, test_set. ValueError, with nothing written, if a number is not finite.
    """
    json.dumps(state["history"], allow_nan=False)  # ValueError for NaN and infinity
    epoch, content = len(state["history"]), state | about | {"fingerprint": json.dumps(about["fingerprint"])}
    if epoch in snapshots or re.fullmatch("[125]0*", str(epoch)):
        snapshot = {name: content[name] for name in ("ema_model", "fingerprint")}
        write_atomically(folder / f"epoch-{epoch}.pt", lambda file: torch.save(snapshot, file))
    write_atomically(folder / "state.pt", lambda file: torch.save(content, file), folder / "state-before.pt")
    write_record(folder, about, state["history"])


def write_record(folder: Path, about: dict, history: list[dict]) -> None:
    write_json(folder / "record.json", dict(about, epochs=len(history), history=history))


def load_state(folder: Path, fingerprint: dict, say=print) -> dict | None:
    """The state saved in folder, on the CPU; None where there is none.

    A damaged state.pt is put aside as state.damaged.pt, the epoch before it is taken, and `say` prints that. Raises
    ValueError for a run with another fingerprint (naming each field), or if no file of it is whole.
    """
    saved, damage = read_newest(folder)
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
    return sorted(int(path.stem[6:]) for path in folder.glob("epoch-*.pt") if path.stem[6:].isdigit())


def load_snapshot(run: str | Path, epoch: int) -> dict[str, Tensor]:
    """The EMA weights after a kept epoch. FileNotFoundError where it was not kept, ValueError for a damaged file."""
    folder = run_folder(run)
    saved = read_archive(folder / f"epoch-{epoch}.pt", "ema_model")
    if saved is None:
        raise FileNotFoundError(f"no weights of epoch {epoch} in {folder}; ask for one of {kept_epochs(folder)}")
    return saved["ema_model"]


def load(run: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The network of a run with its EMA weights, in evaluation mode, on the GPU if there is one.

    run: as for `fit`, such as "published/denoiser". model: an instance, needed for a class of your own. Raises
    FileNotFoundError where the run is missing, ValueError where it is damaged.
    """
    folder = run_folder(run)
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        if "key" in record:
            raise ValueError("an older version of this project wrote it")
        network = dict(record["fingerprint"]["network"])
        module, _, name = network.pop("class").rpartition(".")
        if model is None and not module.startswith("src."):
            raise ValueError(f"{name} is a class of your own, expected load(run, model) with an instance of it")
        model = getattr(import_module(module), name)(**network) if model is None else model
        model.load_state_dict(_ema_weights(folder, record))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no run in {folder}, expected record.json and weights; check the name") from None
    except DAMAGE as error:
        raise ValueError(f"{folder} cannot be loaded ({one_line(error)}); pass its model, or train it again") from None
    return model.eval().to(device(), memory_format=torch.channels_last)


def _ema_weights(folder: Path, record: dict) -> dict[str, Tensor]:
    """From state.pt of a run, or from the weights.pt of a published network, checked by its sha256."""
    saved, _ = read_newest(folder)
    if saved is not None:
        return saved["ema_model"]
    path = folder / "weights.pt"
    if hashlib.sha256(path.read_bytes()).hexdigest() != record.get("sha256"):
        raise ValueError(f"{path.name} does not have the sha256 of its record.json")
    return torch.load(path, map_location="cpu", weights_only=True)
