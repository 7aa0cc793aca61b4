"""What notebooks 02 to 06 share: one training for each case, data set and seed, loaded where it is published.

    study = Study("03_losses", data={"sign_digits": 100}, seeds=(0, 1, 2), epochs=30)
    results = study.run({"mse": {}, "l1": dict(config=dict(loss="l1"))})
    print(table(results, ["psnr", "ssim"]))

A case is a dict of what differs from the study's common recipe:
    network    function (channels=, seed=) -> network; the study's UNet without it
    config     fields of TrainConfig;  epochs  instead of the study's
    noise      arguments of GaussianNoiseDataset for the training pictures
    count      how many of the training pictures to use;  snapshots  instead of the study's
    wrap       function of the finished training set -> what is trained on instead
    split      function (images, seed) -> (training pictures, held-out pictures) instead of the split by group
    judge      function of the trained network -> what is judged in its place
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from math import log10
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from src import (
    GaussianNoiseDataset,
    ImageSet,
    TrainConfig,
    UNet,
    checkpoint,
    fit,
    load_images,
    load_snapshot,
    ms_ssim,
    psnr,
    split_images,
    ssim,
)
from src.images import ROOT, find_folder
from src.evaluation import denoise_batches
from src.train import run_key

PUBLISHED = ROOT / "checkpoints" / "published"
MEASURES = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "mse": lambda image, clean: (image - clean).square().mean(dim=(1, 2, 3)),
    "l1": lambda image, clean: (image - clean).abs().mean(dim=(1, 2, 3)),
    # how far each channel's mean has moved
    "colour": lambda image, clean: (image - clean).mean(dim=(2, 3)).abs().mean(dim=1),
}


@dataclass(frozen=True)
class Result:
    """One training: `scores` is epoch -> test set ("held_out", "train" or one of the study's) -> measure -> mean."""

    data: str
    case: str
    seed: int
    folder: Path  # of its record, and of the weights that were kept
    history: list[dict]
    scores: dict[str, dict[str, dict[str, float]]]
    parameters: int

    def score(self, measure: str = "psnr", test: str = "held_out", epoch: int | None = None) -> float:
        """A figure of the last epoch, or of a snapshot; `parameters` and `seconds` of the whole training too."""
        if measure == "parameters":
            return self.parameters
        if measure == "seconds":
            return sum(entry["seconds"] for entry in self.history)
        return self.scores[str(epoch or len(self.history))][test][measure]


Results = dict[tuple[str, str], list[Result]]  # (data set, case) -> one training a seed


@dataclass(frozen=True)
class Study:
    """The common recipe.

    name       folder below checkpoints/ of what is trained here; what was published is below published/ by its last part
    data       folder below data/, or a path -> side of its pictures in pixels
    seeds      of all data sets, or data set -> its own
    tests      name -> function (held-out pictures, seed) -> the pairs to judge by, beside "held_out", whose noise is
               Gaussian of `sigma`, and "train", training pictures, whole, with noise never trained on
    snapshots  epochs judged besides the last
    retrain    True: train also what is published
    """

    name: str
    data: dict[str, int]
    seeds: tuple[int, ...] | dict[str, tuple[int, ...]]
    epochs: int
    batch: int = 8
    crop: int = 32
    sigma: float = 0.2
    widths: tuple[int, ...] = (16, 32, 64)
    most_train: int = 300
    most_held_out: int = 60
    tests: dict[str, Callable] = field(default_factory=dict)
    snapshots: tuple[int, ...] = ()
    retrain: bool = False

    def run(self, cases: dict[str, dict]) -> Results:
        """Every case on every data set from every seed; what is neither published nor kept here is trained."""
        results, sources = {}, {}
        for data in self.data:
            for case, recipe in cases.items():
                for seed in self.seeds[data] if isinstance(self.seeds, dict) else self.seeds:
                    result, source = self._one(data, case, recipe, seed)
                    results.setdefault((data, case), []).append(result)
                    sources[source] = sources.get(source, 0) + 1
        print(f"{sum(sources.values())} trainings:", ", ".join(f"{n} {source}" for source, n in sources.items()))
        return results

    def held_out(self, data: str, seed: int = 0) -> GaussianNoiseDataset:
        """The held-out pictures of a data set that is here, with the noise that all of a seed's cases are judged by."""
        return GaussianNoiseDataset(self._pictures(data, seed, {})[1], self.sigma, seed + 1, fixed=True)

    def network(self, recipe: dict, seed: int, channels: int = 3) -> nn.Module:
        return recipe.get("network", partial(UNet, widths=self.widths))(channels=channels, seed=seed)

    def trained(self, result: Result, recipe: dict, epoch: int | None = None) -> nn.Module:
        """The network of a training whose weights were kept, as the case has it judged."""
        model = self.network(recipe, result.seed)
        model.load_state_dict(load_snapshot(result.folder, epoch or len(result.history)))
        return recipe.get("judge", _itself)(model)

    def denoised(self, result: Result, recipe: dict, pairs: GaussianNoiseDataset, epoch: int | None = None) -> Tensor:
        """float32 [N, C, H, W]: the noisy pictures of all pairs through that network."""
        return torch.cat([d for *_, d in denoise_batches(self.trained(result, recipe, epoch), pairs)])

    def _pictures(self, data: str, seed: int, recipe: dict) -> tuple[ImageSet, ImageSet]:
        images = _load(data, self.data[data])
        train_images, held_out = recipe.get("split", split_images)(images, seed=seed)
        train_images = train_images.sample(self.most_train, seed)
        train_images = train_images.sample(recipe.get("count", len(train_images)), seed)
        return train_images, held_out.sample(self.most_held_out, seed)

    def _blank(self, data: str, count: int) -> ImageSet:
        return ImageSet.from_pixels(torch.zeros(count, 3, self.data[data], self.data[data], dtype=torch.uint8))

    def _absent(self, data: str, case: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"no {find_folder(_place(data))} and nothing published that fits {case!r}, expected one of them; "
            f"python -m src.data {Path(data).name}, or leave it out of `data`"
        )

    def _one(self, data: str, case: str, recipe: dict, seed: int) -> tuple[Result, str]:
        name = f"{Path(data).name}-{case.replace(' ', '_').replace(':', '_')}-{seed}"
        epochs = recipe.get("epochs", self.epochs)
        snapshots = recipe.get("snapshots", self.snapshots)
        epochs_judged = sorted({epoch for epoch in snapshots if epoch < epochs} | {epochs})
        model = self.network(recipe, seed)
        count = recipe.get("count", self.most_train)
        settings = dict(batch=min(self.batch, count), seed=seed) | recipe.get("config", {})
        config = TrainConfig(epochs=epochs, **settings)
        known = _published(PUBLISHED / Path(self.name).name / name, epochs, epochs_judged)
        here = find_folder(_place(data)).exists()
        if here:
            train_images, held_out = self._pictures(data, seed, recipe)
        elif known:  # blank ones in their place: the settings can be compared all the same
            sizes = (known[0]["key"][part]["count"] for part in ("train_set", "test_set"))
            most = min(count, self.most_train), self.most_held_out
            train_images, held_out = (self._blank(data, min(pair)) for pair in zip(sizes, most))
        else:
            raise self._absent(data, case)
        noise = dict(sigma=self.sigma, seed=seed, crop=self.crop, flip=True) | recipe.get("noise", {})
        train_set = recipe.get("wrap", _itself)(GaussianNoiseDataset(train_images, **noise))
        test_set = GaussianNoiseDataset(held_out, self.sigma, seed + 1, fixed=True)
        key = json.loads(json.dumps(run_key(model, train_set, test_set, config)))
        if known and not self.retrain and _settings(known[0]["key"]) == _settings(key):
            record, scores = known
            folder = PUBLISHED / Path(self.name).name / name
            result = Result(data, case, seed, folder, record["history"], scores, record["parameters"])
            where = ""
            if record["key"] != key:
                where = ", on other pictures than are here" if here else ", its pictures not here"
            return result, "published" + where
        if not here:
            raise self._absent(data, case)
        folder = checkpoint.folder(f"{self.name}/{name}")
        print(f"{name}: ", end="")
        history = fit(model, train_set, test_set, config, run=folder, snapshots=epochs_judged)
        seen = GaussianNoiseDataset(train_images.sample(self.most_held_out, seed), self.sigma, seed + 2, fixed=True)
        pairs = {"held_out": test_set, "train": seen}
        pairs |= {name: make(held_out, seed) for name, make in self.tests.items()}
        scores = _judged(folder, key, model, recipe.get("judge", _itself), epochs_judged, pairs)
        parameters = sum(p.numel() for p in model.parameters())
        return Result(data, case, seed, folder, history, scores, parameters), "trained or kept here"


def table(results: Results, columns: list[str | tuple]) -> str:
    """A row a case, a block a data set: mean ± standard deviation over the seeds.

    columns: a measure of `Result.score`, or (measure, test) or (measure, test, epoch).
    """
    lines = []
    for data in dict.fromkeys(data for data, _ in results):
        seeds = len(next(runs for (d, _), runs in results.items() if d == data))
        names = [" ".join(str(part) for part in c if part) if isinstance(c, tuple) else c for c in columns]
        lines.append(f"{f'{Path(data).name}, n = {seeds} seeds':30s}" + "".join(f"{name:>20s}" for name in names))
        for (d, case), runs in results.items():
            if d == data:
                cells = [_cell(runs, c if isinstance(c, tuple) else (c,)) for c in columns]
                lines.append(f"{case:30s}" + "".join(f"{cell:>20s}" for cell in cells))
    return "\n".join(lines)


def _cell(runs: list[Result], column: tuple) -> str:
    if column[0] == "parameters":
        return f"{runs[0].parameters:,}"
    places = {"psnr": 2, "seconds": 0, "mse": 5}.get(column[0], 4)
    return stated(*_spread([run.score(*column) for run in runs]), places)


def average(runs: list[Result], *column) -> float:
    """Mean over the seeds of `Result.score(*column)`."""
    return mean(run.score(*column) for run in runs)


def difference(runs: list[Result], others: list[Result], *column) -> tuple[float, float]:
    """(mean, standard deviation) over the seeds of runs' score less that of others, seed by seed."""
    return _spread([a.score(*column) - b.score(*column) for a, b in zip(runs, others, strict=True)])


def stated(middle: float, spread: float = 0.0, places: int = 2, sign: str = "") -> str:
    """A mean and its deviation in words, "31.67 ± 0.15"; the mean alone where one seed has none. sign: "+" to write it."""
    return f"{middle:{sign}.{places}f}" + (f" ± {spread:.{places}f}" if spread else "")


def dots(results: Results, *column) -> dict[str, dict[str, tuple[float, float]]]:
    """case -> data set -> (mean, standard deviation) of a score, as `plot_dots` takes it."""
    rows = {}
    for (data, case), runs in results.items():
        rows.setdefault(case, {})[Path(data).name] = _spread([run.score(*column) for run in runs])
    return rows


def curve(runs: list[Result], measure: str = "psnr", test: str = "held_out") -> list[tuple[float, float, float]]:
    """(epoch, mean, standard deviation over the seeds) at each epoch that was judged."""
    epochs = [int(epoch) for epoch in runs[0].scores]
    return [(epoch, *_spread([run.score(measure, test, epoch) for run in runs])) for epoch in epochs]


def looks(runs: list[Result], figure: str = "psnr") -> list[tuple[float, float, float]]:
    """The same of a figure of the training's own history, at each epoch that has it; train_mse comes as PSNR in dB."""
    epochs = [entry["epoch"] for entry in runs[0].history if figure in entry]
    decibel = (lambda x: -10 * log10(x)) if figure == "train_mse" else float
    return [(epoch, *_spread([decibel(run.history[epoch - 1][figure]) for run in runs])) for epoch in epochs]


def _spread(values: list[float]) -> tuple[float, float]:
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def baselines(data: str, seeds: tuple[int, ...]) -> dict[str, float]:
    """noisy, NLM and BM3D on the same held-out pictures and noise at sigma 0.2, in dB, from the published runs."""
    paths = [PUBLISHED / f"{Path(data).name}-{seed}" / "scores.json" for seed in seeds]
    found = [json.loads(path.read_text())["psnr"] for path in paths if path.exists()]
    return {name: mean(f[name]["mean"] for f in found) for name in ("noisy", "nlm", "bm3d") if found}


def publish(name: str, weights: dict[str, tuple[int, ...]] = {}) -> None:  # noqa: B006
    """Copy records and scores of all that was trained here in a study to where `Study.run` looks first.

    name: of the study. weights: name of a training, such as "finger_numbers-mse-0" -> epochs whose weights go along.
    """
    for source in sorted(path.parent for path in checkpoint.folder(name).glob("*/scores.json")):
        target = PUBLISHED / Path(name).name / source.name
        target.mkdir(parents=True, exist_ok=True)
        for file in ("record.json", "scores.json", *(f"epoch-{n}.pt" for n in weights.get(source.name, ()))):
            shutil.copyfile(source / file, target / file)


@cache
def _load(data: str, size: int) -> ImageSet:
    return load_images(_place(data), size=size)


def _place(data: str) -> str:
    return data if "/" in data or "\\" in data else f"data/{data}"


def _itself(x):
    return x


def _published(folder: Path, epochs: int, judged: list[int]) -> tuple[dict, dict] | None:
    """(record, scores) of a training of this length, None where there is no such."""
    try:
        record, scores = (json.loads((folder / f"{part}.json").read_text()) for part in ("record", "scores"))
    except FileNotFoundError:
        return None
    complete = len(record["history"]) == epochs and all(str(epoch) in scores["epochs"] for epoch in judged)
    return (record, scores["epochs"]) if complete else None


def _settings(key: dict) -> dict:
    """A key but for the hashes of the pictures: a set may have grown since, and what is published then still counts."""
    without = {part: {k: v for k, v in key[part].items() if k != "images"} for part in ("train_set", "test_set")}
    return key | without


def _judged(folder: Path, key: dict, model: nn.Module, judge, epochs: list[int], pairs: dict) -> dict:
    """The scores of the kept epochs; from the folder's scores.json where they are there already."""
    path = folder / "scores.json"
    about = dict(key=key, tests={name: pairs.config for name, pairs in pairs.items()})
    about = json.loads(json.dumps(about))
    if path.exists():
        known = json.loads(path.read_text())
        if known["about"] == about and all(str(epoch) in known["epochs"] for epoch in epochs):
            return known["epochs"]
    scores = {}
    for epoch in epochs:
        model.load_state_dict(load_snapshot(folder, epoch))
        scores[str(epoch)] = {name: _measured(judge(model), test) for name, test in pairs.items()}
    checkpoint.write_json(path, dict(about=about, epochs=scores))
    return scores


def _measured(model: nn.Module, pairs: GaussianNoiseDataset) -> dict[str, float]:
    batches = [(denoised, clean) for _, clean, denoised in denoise_batches(model, pairs)]
    return {
        name: round(torch.cat([measure(*pair).double() for pair in batches]).mean().item(), 7)
        for name, measure in MEASURES.items()
    }
