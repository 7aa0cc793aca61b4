"""Copy a run's network to a published folder: float16 weights.pt, and record.json with sha256 and command."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from src.checkpoint import load, run_folder
from src.files import write_atomically, write_json


def publish(
    run: str | Path, target: Path, command: str, extra: dict | None = None, average: Sequence[str | Path] = ()
) -> None:
    """Write the EMA weights of a run as float16, and its record, as `src.checkpoint.load` reads them.

    command: what trains it again. extra: further entries of the record. average: runs whose weights are averaged with
    this run's ("model soup", Wortsman et al. 2022). Raises FileNotFoundError for an unknown run.
    """
    runs = [load(one).cpu().state_dict() for one in (run, *average)]
    means = {name: sum(weights[name].detach() for weights in runs) / len(runs) for name in runs[0]}
    weights = {name: x.half().contiguous() for name, x in means.items()}
    record = json.loads((run_folder(run) / "record.json").read_text(encoding="utf-8"))
    file = io.BytesIO()
    torch.save(weights, file)
    record |= dict(command=command, sha256=hashlib.sha256(file.getvalue()).hexdigest(), **(extra or {}))
    write_atomically(target / "weights.pt", lambda out: out.write(file.getvalue()))
    write_json(target / "record.json", record)


def read_record(folder: str | Path) -> dict:
    """The record.json beside a network's weights."""
    return json.loads((Path(folder) / "record.json").read_text(encoding="utf-8"))
