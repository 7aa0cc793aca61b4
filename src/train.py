"""A run kept on disk: `fit` for notebooks, and the same from the command line. The loop itself is in loop.py.

python -m src.train --epochs 100 --run denoise                # with the settings of 01_denoise
torchrun --nproc-per-node=2 -m src.train -- --run denoise       by two processes
"""

import argparse
import copy
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

from torch import Tensor, nn

from src import checkpoint, distributed
from src.config import TrainConfig
from src.device import device, environment
from src.files import exit_code, number, say
from src.files.archives import locked
from src.files.fingerprint import network_fingerprint, weights_sha256
from src.files.progress import RunBar, environments, out_of_memory
from src.images import load_images, split_images
from src.loop import TrainState, held_out_psnr, shuffled_batches, training_loop
from src.noise import GaussianNoiseDataset
from src.unet import UNet

VERSION = 2  # raise it whenever a change in loop.py, noise.py, unet.py or optim.py alters the weights a run ends with


def fit(
    model: nn.Module,
    train_set: GaussianNoiseDataset,
    test_set: GaussianNoiseDataset | None,
    config: TrainConfig = TrainConfig(),
    run: str | Path = "denoise",
    snapshots: Iterable[int] = (),
    start: dict[str, Tensor] | None = None,
) -> list[dict]:
    """Train with a progress bar, writing checkpoints/<run>/ after each epoch; `load(run)` gives the network.

    What decides the weights (network, training set, config, start) is the run's fingerprint. Where the folder holds a
    run of the same fingerprint, more epochs continue it and fewer load the weights and history of then: those of epochs
    1, 2, 5, 10, 20, 50, ..., of `snapshots` and of each number of epochs trained to are kept. A run of another
    fingerprint is left alone. Ctrl-C and the stop button keep the finished epochs.

    model: ends with the EMA weights, in evaluation mode. A network of this package starts from the weights that its
    config names, or from `start`, a state_dict. test_set: None for no evaluation. Returns `training_loop`'s records.
    Raises ValueError, OSError, FloatingPointError or MemoryError of one line, with the finished epochs kept.
    """
    n_batches = len(shuffled_batches(len(train_set), config.batch_size, (config.seed, 0)))  # an epoch
    fingerprint = run_fingerprint(model, train_set, config, start)
    folder, first = checkpoint.run_folder(run), distributed.rank() == 0  # the first process writes
    with locked(folder) if first else nullcontext():
        saved = distributed.from_first(lambda: checkpoint.load_state(folder, fingerprint))
        if saved is not None and len(saved["history"]) > config.epochs:
            return _earlier(model, folder, saved, config.epochs, test_set)
        state = _begin(model, train_set, config, saved, start)
        here = environment() | {"processes": distributed.world_size()}
        about = dict(fingerprint=fingerprint, environments=environments(saved, here, config.epochs),
                     parameters=sum(p.numel() for p in model.parameters()),
                     test_set=None if test_set is None else test_set.config)  # fmt: skip
        unevaluated = len(state.history) == config.epochs and "psnr" not in state.history[-1]
        if first and saved is not None and (unevaluated or saved["test_set"] != about["test_set"]):
            _evaluate_again(state.ema_model, state.history, folder, test_set)
        before = copy.deepcopy(state.state_dict())
        bar = RunBar(state.history, config.epochs, n_batches, disable=not first)
        try:
            if first:
                checkpoint.write_record(folder, about, state.history)  # a folder that cannot be written shows now
            for _ in training_loop(model, bar.counting(train_set), test_set, config, state):
                if first:
                    checkpoint.save(folder, about, state.state_dict(), {config.epochs, *snapshots})
                bar.show(state.history)
        except BaseException as error:
            # back from the epoch in progress to the last finished one
            state.load_state_dict(checkpoint.load_state(folder, fingerprint, bar.write) or before)
            if not isinstance(error, KeyboardInterrupt):
                raise out_of_memory(error, config.batch_size, train_set.shape) or error from None
            bar.write(f"stopped; {len(state.history)} finished epochs are kept, run again to continue")
        finally:
            bar.close()
            model.eval()
    return state.history


def run_fingerprint(
    model: nn.Module, train_set: GaussianNoiseDataset, config: TrainConfig, start: dict[str, Tensor] | None = None
) -> dict:
    """What decides the weights of a run after each epoch, as plain numbers and strings."""
    settings = dict(network=network_fingerprint(model), train_set=train_set.config, config=config.fingerprint())
    return dict(version=VERSION) | settings | ({} if start is None else dict(start=weights_sha256(start)))


def _begin(model: nn.Module, train_set, config: TrainConfig, saved: dict | None, start: dict | None) -> TrainState:
    """The state to continue, or a new one with the weights that the fingerprint names."""
    state = TrainState.new(model, config, train_set.shape)
    if saved is not None:
        state.load_state_dict(saved)
    else:
        is_from_src = type(model).__module__.startswith("src.") and hasattr(model, "config")
        initial = type(model)(**model.config).state_dict() if is_from_src else model.initial_weights
        weights = initial if start is None else start
        try:
            for network in (state.ema_model, state.model):
                network.load_state_dict(weights)
        except RuntimeError:
            raise ValueError(f"start holds other weights than {type(model).__name__}'s; build that network") from None
    return state


def _earlier(model: nn.Module, folder: Path, saved: dict, epochs: int, test_set) -> list[dict]:
    """The history up to an epoch before the last, its EMA weights in `model`."""
    history, kept = saved["history"], checkpoint.kept_epochs(folder)
    if epochs not in kept:
        fix = f"the weights after {kept} are kept; ask for one of those, or name another run"
        raise ValueError(f"{folder} holds {len(history)} epochs, {epochs} were asked for, and {fix}")
    model.to(device()).load_state_dict(checkpoint.load_snapshot(folder, epochs))
    history = history[:epochs]
    if test_set is not None and (saved["test_set"] != test_set.config or "psnr" not in history[-1]):
        _evaluate_again(model, history, folder, test_set)
    model.eval()
    return history


def _evaluate_again(model: nn.Module, history: list[dict], folder: Path, test_set) -> None:
    """Replace the history's PSNR by those on this test set, at the epochs whose weights are there."""
    weights = copy.deepcopy(model.state_dict())
    for epoch, record in enumerate(history, start=1):
        record.pop("psnr", None)
        last = epoch == len(history)
        if test_set is not None and (last or epoch in checkpoint.kept_epochs(folder)):
            model.load_state_dict(weights if last else checkpoint.load_snapshot(folder, epoch))
            record["psnr"] = held_out_psnr(model, test_set)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code. Its defaults are the parameters of 01_denoise."""
    parser = argparse.ArgumentParser(
        prog="python -m src.train", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Train a denoiser and keep it in checkpoints/<run>/. help(src.TrainConfig) explains the settings.",
    )  # fmt: skip
    option = parser.add_argument
    option("--data", default="data/finger_numbers", metavar="DIR", help="folder of images")
    option("--size", type=int, default=128, help="side of the images in pixels")
    option("--max-train", type=int, default=300, help="most images to train on")
    option("--max-held-out", type=int, default=60, help="most images to evaluate on")
    option("--held-out", type=number, default=0.2, help="fraction of the images held out")
    option("--sigma", type=number, nargs="+", default=[0.2], help="0..1 or 25/255; two: lowest and highest of a range")
    option("--crop-size", type=int, default=64, help="side in pixels of the random crops trained on")
    option("--widths", type=int, nargs="+", default=[24, 48, 96, 128], help="channels of each level")
    option("--blocks", type=int, default=1, help="residual blocks a level")
    option("--run", default="train", help="folder below checkpoints/")
    option("--start", metavar="RUN", help="begin with the weights of this run, a UNet such as 01_denoise")
    for field in fields(TrainConfig):
        name = f"--{field.name.replace('_', '-')}"
        option(name, type=type(field.default), default=field.default, help="see TrainConfig")
    argv = sys.argv[1:] if argv is None else argv
    # torchrun would take --run for an abbreviation of its own --run-path, so a "--" stands before ours
    arguments = parser.parse_args(argv[1:] if argv[:1] == ["--"] else argv)
    return exit_code(lambda: _train(arguments))


def _train(arguments: argparse.Namespace) -> int:
    with distributed.process_group():
        config = TrainConfig(**{field.name: getattr(arguments, field.name) for field in fields(TrainConfig)})
        folder, size, crop = arguments.data, arguments.size, dict(crop_size=arguments.crop_size, augment=True)
        distributed.from_first(lambda: load_images(folder, size) and None)  # the others find its cache
        images = load_images(folder, size)
        train_images, held_out = split_images(images, arguments.held_out, seed := config.seed)
        sigma = arguments.sigma[0] if len(arguments.sigma) == 1 else tuple(arguments.sigma)
        train_set = GaussianNoiseDataset(train_images.sample(arguments.max_train, seed), sigma, seed, **crop)
        test_set = GaussianNoiseDataset(held_out.sample(arguments.max_held_out, seed), sigma, seed + 1, fixed=True)
        model = UNet(images.shape[1], arguments.widths, arguments.blocks, seed)
        start = checkpoint.load(arguments.start).cpu().state_dict() if arguments.start else None
        history = fit(model, train_set, test_set, config, arguments.run, start=start)
        psnr = f"{history[-1].get('psnr', float('nan')):.2f} dB" if history else "unknown"
        report = f"held-out PSNR {psnr} after {len(history)} epochs, kept in {checkpoint.run_folder(arguments.run)}"
        distributed.from_first(lambda: say(report))  # the others wait: all leave together
    return 0 if len(history) == config.epochs else 130  # stopped


if __name__ == "__main__":
    sys.exit(main())
