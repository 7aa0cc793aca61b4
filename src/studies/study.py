"""What notebooks 02 to 06 share: one run for each case, data set and seed, loaded where it is published.

    study = Study("03_losses", data={"sign_digits": 100}, seeds=(0, 1, 2), epochs=30)
    results = study.run({"MSE": {"loss": "mse"}, "L1": {"loss": "l1"}})
    results.table(["psnr", "ssim"])

A case is a dict of what differs from the study's recipe: any field of TrainConfig; sigma, clip, crop_size or augment of
the training pairs; and
    network      function (channels=, seed=) -> network, in place of the study's UNet
    dataset      class of the training pairs, in place of GaussianNoiseDataset
    n_images     how many of the training images to use
    split        function (images, seed=) -> (training images, held-out images), in place of the split by group
    evaluate_as  function of the trained network -> what is evaluated in its place
    snapshots    epochs evaluated besides the last, in place of the study's
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from src.config import TrainConfig
from src.files import say, write_json
from src.images import ImageSet, find_folder, load_images, split_images
from src.loop import denoised_batches
from src.metrics import ms_ssim, psnr, ssim
from src.noise import GaussianNoiseDataset
from src.studies.records import Run, local_folder, published_runs
from src.studies.results import Results
from src.train import fit, run_fingerprint
from src.unet import UNet

METRICS = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "mse": lambda image, clean: (image - clean).square().mean(dim=(1, 2, 3)),
    "l1": lambda image, clean: (image - clean).abs().mean(dim=(1, 2, 3)),
    # how far each channel's mean has moved
    "colour": lambda image, clean: (image - clean).mean(dim=(2, 3)).abs().mean(dim=1),
}
CONFIG = {f.name for f in fields(TrainConfig)}
PAIRS = {"sigma", "clip", "crop_size", "augment"}
OTHERS = {"network", "dataset", "n_images", "split", "evaluate_as", "snapshots"}


@dataclass(frozen=True)
class Study:
    """The common recipe.

    name       folder of checkpoints/ for what is trained here; its last part names the published study
    data       folder below data/, or a path -> side of its images in pixels
    seeds      of the split, the noise, the order and the initial weights; for all data sets, or name -> its own, where
               a data set that is not named has seed 0
    test_sets  name -> function (held-out images, seed) -> pairs to evaluate on, beside "held_out" (Gaussian noise of
               `sigma`) and "train" (training images, whole, with noise never trained on)
    snapshots  epochs evaluated besides the last
    retrain    True: train all runs again
    """

    name: str
    data: dict[str, int]
    seeds: tuple[int, ...] | dict[str, tuple[int, ...]]
    epochs: int
    batch_size: int = 8
    crop_size: int = 32
    sigma: float = 0.2
    widths: tuple[int, ...] = (16, 32, 64)
    max_train: int = 300
    max_held_out: int = 60
    test_sets: dict[str, Callable] = field(default_factory=dict)
    snapshots: tuple[int, ...] = ()
    retrain: bool = False

    def run(self, cases: dict[str, dict]) -> Results:
        """Every case on every data set from every seed: published, kept here, or trained now.

        A data set that is not here, and not published with these settings, is left out and named. Raises
        FileNotFoundError if none is left, ValueError for an unknown field of a case.
        """
        for case, recipe in cases.items():
            if unknown := set(recipe) - CONFIG - PAIRS - OTHERS:
                raise ValueError(f"case {case!r} has {sorted(unknown)}, expected {sorted(CONFIG | PAIRS | OTHERS)}")
        runs, sources, left_out = [], Counter(), []
        for data in self.data:
            found = [self._published(data, c, r, s) for c, r in cases.items() for s in self.seeds_of(data)]
            here = _is_here(data)
            if not here and not all(found):
                left_out.append(data)
                continue
            wanted = [(c, r, s) for c, r in cases.items() for s in self.seeds_of(data)]
            for (case, recipe, seed), (run, source) in zip(wanted, (f or (None, "") for f in found)):
                if run is None or (self.retrain and here):
                    run, source = self._trained(data, case, recipe, seed), "trained here"
                runs.append(run)
                sources[source] += 1
        if left_out:
            say(f"left out: {', '.join(left_out)}, neither in data/ nor published with these settings")
        if not runs:
            raise FileNotFoundError(f"no data set of {list(self.data)} is here; python -m src.datasets makes them")
        parts = [f"{count if len(sources) > 1 else 'all'} {source}" for source, count in sources.items()]
        say(f"{len(runs)} runs, " + ", ".join(parts))
        return Results(runs)

    def seeds_of(self, data: str) -> tuple[int, ...]:
        return self.seeds.get(Path(data).name, (0,)) if isinstance(self.seeds, dict) else self.seeds

    def held_out(self, data: str, seed: int) -> GaussianNoiseDataset:
        """The held-out images of a data set that is here, with the noise on which a seed's cases are evaluated."""
        place = next(place for place in self.data if data in (place, Path(place).name))
        return GaussianNoiseDataset(self._images(place, seed, {})[1], self.sigma, seed + 1, fixed=True)

    def network(self, recipe: dict, seed: int) -> nn.Module:
        """The untrained network of a case."""
        return recipe.get("network", partial(UNet, widths=self.widths))(channels=3, seed=seed)

    def trained_network(self, run: Run, recipe: dict, epoch: int | None = None) -> nn.Module:
        """The network of a run whose weights were kept, as its case is evaluated."""
        model = self.network(recipe, run.seed)
        model.load_state_dict(run.weights(epoch))
        return recipe.get("evaluate_as", _unchanged)(model)

    def denoised(self, run: Run, recipe: dict, pairs: GaussianNoiseDataset, epoch: int | None = None) -> Tensor:
        """float32 [N, C, H, W]: all the noisy images of `pairs` through the network of a run."""
        return torch.cat([d for *_, d in denoised_batches(self.trained_network(run, recipe, epoch), pairs)])

    def columns(
        self, results: Results, cases: dict[str, dict], shown: list[str] | dict[str, tuple], pairs=None
    ) -> dict[str, Tensor]:
        """{"clean", "noisy", title of a network: its output}, float32 [N, C, H, W] each, of the last data set.

        shown: cases, or title -> (case, epoch). pairs: None for the held-out ones of the first seed. Their weights must
        have been kept.
        """
        data = results.data[-1]
        pairs = pairs or self.held_out(data, results.seeds(data)[0])
        noisy, clean = pairs.batch(list(range(len(pairs))))
        columns = {"clean": clean, "noisy": noisy}
        shown = shown if isinstance(shown, dict) else {case: (case, None) for case in shown}
        for title, (case, epoch) in shown.items():
            columns[title] = self.denoised(results[data, case][0], cases[case], pairs, epoch)
        return columns

    def _images(self, data: str, seed: int, recipe: dict) -> tuple[ImageSet, ImageSet]:
        """(training images, held-out images) of a case."""
        images = _load(data, self.data[data])
        train_images, held_out = recipe.get("split", split_images)(images, seed=seed)
        train_images = train_images.sample(self.max_train, seed)
        train_images = train_images.sample(recipe.get("n_images", len(train_images)), seed)
        return train_images, held_out.sample(self.max_held_out, seed)

    def _config(self, recipe: dict, seed: int) -> TrainConfig:
        settings = {name: value for name, value in recipe.items() if name in CONFIG}
        batch_size = min(self.batch_size, recipe.get("n_images", self.max_train))
        return TrainConfig(**dict(epochs=self.epochs, batch_size=batch_size, seed=seed) | settings)

    def _train_set(self, images: ImageSet, recipe: dict, seed: int) -> GaussianNoiseDataset:
        settings = {name: value for name, value in recipe.items() if name in PAIRS}
        settings = dict(sigma=self.sigma, seed=seed, crop_size=self.crop_size, augment=True) | settings
        return recipe.get("dataset", GaussianNoiseDataset)(images, **settings)

    def _evaluated_epochs(self, recipe: dict) -> list[int]:
        last = recipe.get("epochs", self.epochs)
        return sorted({e for e in recipe.get("snapshots", self.snapshots) if e < last} | {last})

    def _fingerprint(self, images: ImageSet, recipe: dict, seed: int) -> dict:
        train_set, config = self._train_set(images, recipe, seed), self._config(recipe, seed)
        return json.loads(json.dumps(run_fingerprint(self.network(recipe, seed), train_set, config)))

    def _published(self, data: str, case: str, recipe: dict, seed: int) -> tuple[Run, str] | None:
        """The published run of these settings and where it is from. Its images may be absent, or others since."""
        name = Path(data).name
        for run in published_runs(Path(self.name).name):
            epochs = self._evaluated_epochs(recipe)
            if (run.data, run.case, run.seed) != (name, case, seed) or not {*map(str, epochs)} <= {*run.scores}:
                continue
            here = _is_here(data)
            if here:
                train_images, held_out = self._images(data, seed, recipe)
            else:  # blank images in their place: all settings can be compared
                counts = (run.fingerprint["train_set"]["count"], run.test_sets["held_out"]["count"])
                limits = (min(self.max_train, recipe.get("n_images", self.max_train)), self.max_held_out)
                train_images, held_out = (_blank(min(pair), self.data[data]) for pair in zip(counts, limits))
            fingerprint = self._fingerprint(train_images, recipe, seed)
            test_set = GaussianNoiseDataset(held_out, self.sigma, seed + 1, fixed=True).config
            stored = run.fingerprint, run.test_sets["held_out"]
            if [_without_digests(x) for x in stored] != [_without_digests(x) for x in (fingerprint, test_set)]:
                continue
            other_images = f" (other images than in {name})" if here and stored != (fingerprint, test_set) else ""
            return run.until(epochs[-1]), "loaded from checkpoints/published/" + other_images
        return None

    def _trained(self, data: str, case: str, recipe: dict, seed: int) -> Run:
        train_images, held_out = self._images(data, seed, recipe)
        model, epochs = self.network(recipe, seed), self._evaluated_epochs(recipe)
        train_set, config = self._train_set(train_images, recipe, seed), self._config(recipe, seed)
        test_sets = {
            "held_out": GaussianNoiseDataset(held_out, self.sigma, seed + 1, fixed=True),
            "train": GaussianNoiseDataset(
                train_images.sample(self.max_held_out, seed), self.sigma, seed + 2, fixed=True
            ),
            **{name: make(held_out, seed) for name, make in self.test_sets.items()},
        }
        run = Run(
            Path(data).name, case, seed, self._fingerprint(train_images, recipe, seed),
            json.loads(json.dumps({name: pairs.config for name, pairs in test_sets.items()})),
            parameters=sum(p.numel() for p in model.parameters()), study=self.name,
        )  # fmt: skip
        folder = local_folder(self.name, run.name)
        say(run.name)
        history = fit(model, train_set, test_sets["held_out"], config, folder, snapshots=epochs)
        environments = json.loads((folder / "record.json").read_text(encoding="utf-8"))["environments"]
        run = replace(run, folder=folder, history=history, environments=environments)
        return replace(run, scores=self._scores(run, recipe, epochs, test_sets))

    def _scores(self, run: Run, recipe: dict, epochs: list[int], test_sets: dict) -> dict:
        """The scores after these epochs; from the folder's scores.json where they are there already."""
        path, wanted = run.folder / "scores.json", dict(fingerprint=run.fingerprint, test_sets=run.test_sets)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        same = all(known.get(part) == content for part, content in wanted.items())
        if same and {*map(str, epochs)} <= {*known["scores"]}:
            return {str(epoch): known["scores"][str(epoch)] for epoch in epochs}
        scores = {}
        for epoch in epochs:
            model = self.trained_network(run, recipe, epoch)
            scores[str(epoch)] = {name: _evaluated(model, pairs) for name, pairs in test_sets.items()}
        write_json(path, wanted | dict(scores=scores))
        return scores


def _evaluated(model: nn.Module, pairs: GaussianNoiseDataset) -> dict[str, float]:
    batches = [(denoised, clean) for _, clean, denoised in denoised_batches(model, pairs)]
    return {
        name: round(torch.cat([metric(*batch).double() for batch in batches]).mean().item(), 7)
        for name, metric in METRICS.items()
    }


def _without_digests(content: dict) -> dict:
    """A fingerprint or a test set's config without the hash of the images: a data set may have grown since."""
    return {k: _without_digests(v) if isinstance(v, dict) else v for k, v in content.items() if k != "images"}


@cache
def _load(data: str, size: int) -> ImageSet:
    return load_images(_folder(data), size=size)


@cache
def _blank(count: int, size: int) -> ImageSet:
    return ImageSet.from_pixels(torch.zeros(count, 3, size, size, dtype=torch.uint8))


def _folder(data: str) -> str:
    return data if "/" in data or "\\" in data else f"data/{data}"


def _is_here(data: str) -> bool:
    return find_folder(_folder(data)).exists()


def _unchanged(network: nn.Module) -> nn.Module:
    return network
