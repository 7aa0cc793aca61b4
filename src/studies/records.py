"""The runs of a study: one `Run` each, published as one line of checkpoints/published/<study>/runs.jsonl.

A line holds what the run was (data set, case, seed, fingerprint), what it measured (history as columns, scores) and
where (environments). The weights that a notebook's figures need lie beside it: <data>-<case>-<seed>-epoch<N>.pt.
"""

import json
import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from src.checkpoint import load_snapshot, run_folder
from src.files import ROOT, write_atomically, write_text

PUBLISHED = ROOT / "checkpoints" / "published"


@dataclass(frozen=True)
class Run:
    """One run. scores: epoch -> test set ("held_out", "train" or one of the study's) -> metric -> mean over its images.

    test_sets: the `config` of each test set. filters: metric -> method -> {"mean", "std", "images"}, of the runs of
    01_denoise alone. folder: of a run that was trained here; None for a published one.
    """

    data: str
    case: str
    seed: int
    fingerprint: dict
    test_sets: dict[str, dict]
    parameters: int
    environments: list[dict] = field(default_factory=list)
    history: list[dict] = field(default_factory=list)
    scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    filters: dict[str, dict[str, dict]] = field(default_factory=dict)
    study: str = ""
    folder: Path | None = None

    @property
    def name(self) -> str:
        """As in file names: letters, digits, dots, one "_" for anything else."""
        return f"{self.data}-{re.sub(r'[^a-z0-9.]+', '_', self.case.lower())}-{self.seed}"

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.fingerprint["train_set"]["count"] // self.fingerprint["config"]["batch_size"])

    def score(self, metric: str = "psnr", test_set: str = "held_out", epoch: int | None = None) -> float:
        """A score after the last epoch or another that was evaluated; also "parameters", and "seconds" of training."""
        if metric == "parameters":
            return self.parameters
        if metric == "seconds":
            return sum(record["seconds"] for record in self.history)
        return self.scores[str(epoch or len(self.history))][test_set][metric]

    def until(self, epoch: int) -> "Run":
        """The run as it was after an epoch: its history and scores up to there."""
        scores = {key: value for key, value in self.scores.items() if int(key) <= epoch}
        return replace(self, history=self.history[:epoch], scores=scores)

    def weights(self, epoch: int | None = None) -> dict[str, Tensor]:
        """The EMA weights after an epoch; FileNotFoundError where they were not published."""
        epoch = epoch or len(self.history)
        if self.folder is not None:
            return load_snapshot(self.folder, epoch)
        same = [run for run in published_runs(self.study) if run.fingerprint == self.fingerprint]  # evaluated otherwise
        for path in (PUBLISHED / self.study / f"{run.name}-epoch{epoch}.pt" for run in same):
            if path.exists():
                return torch.load(path, map_location="cpu", weights_only=True)
        raise FileNotFoundError(f"{self.name}: weights of epoch {epoch} are not published; use retrain=True")


@cache
def published_runs(study: str) -> tuple[Run, ...]:
    """The published runs of a study, in the order of its cases; none where there is no such study."""
    path = PUBLISHED / study / "runs.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return tuple(_from_line(json.loads(line), study) for line in lines)


def _from_line(line: dict, study: str) -> Run:
    columns = line.pop("history")
    length = max(map(len, columns.values()), default=0)
    history = [
        {"epoch": row + 1} | {name: column[row] for name, column in columns.items() if column[row] is not None}
        for row in range(length)
    ]
    return Run(**line, history=history, study=study)


def as_line(run: Run) -> str:
    """A run as a line of runs.jsonl."""
    names = list(dict.fromkeys(name for record in run.history for name in record if name != "epoch"))
    content = dict(
        data=run.data, case=run.case, seed=run.seed, fingerprint=run.fingerprint, test_sets=run.test_sets,
        parameters=run.parameters, environments=run.environments,
        history={name: [record.get(name) for record in run.history] for name in names}, scores=run.scores,
    )  # fmt: skip
    content |= dict(filters=run.filters) if run.filters else {}
    return json.dumps(content, allow_nan=False)


def publish(study: str, runs: list[Run], weights: dict[str, tuple[int, ...]] = {}) -> None:  # noqa: B006
    """Put runs into a study's runs.jsonl, replacing those of the same names. weights: name of a run -> epochs kept."""
    merged = {run.name: run for run in (*published_runs(study), *runs)}
    write_text(PUBLISHED / study / "runs.jsonl", "".join(as_line(run) + "\n" for run in merged.values()))
    for run in runs:
        for epoch in weights.get(run.name, ()):
            content = {name: tensor.cpu().contiguous() for name, tensor in run.weights(epoch).items()}
            path = PUBLISHED / study / f"{run.name}-epoch{epoch}.pt"
            write_atomically(path, lambda file, content=content: torch.save(content, file))
    published_runs.cache_clear()


def filter_scores(data: str, seeds: tuple[int, ...], metric: str = "psnr") -> dict[str, float]:
    """noisy, NLM and BM3D on a data set's held-out images at sigma 0.2, from 01_denoise: means over the seeds."""
    runs = [run for run in published_runs("01_denoise") if (run.data, run.case) == (Path(data).name, "default")]
    runs = [run for run in runs if run.seed in seeds]
    names = {"noisy": "noisy", "nlm": "NLM", "bm3d": "BM3D"} if runs else {}
    return {label: sum(run.filters[metric][name]["mean"] for run in runs) / len(runs) for name, label in names.items()}


def local_folder(study: str, name: str) -> Path:
    """Where a study keeps a run that is trained here."""
    return run_folder(f"{study}/{name}") if not Path(study).is_absolute() else Path(study) / name
