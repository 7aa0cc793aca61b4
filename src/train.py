"""A run kept on disk: `fit` for notebooks, and the same from the command line.

    history = fit(model, train_set, test_set, TrainConfig(epochs=100), run="denoise")

    python -m src.train --epochs 100 --run denoise                  the same run as 01_denoise
    torchrun --nproc-per-node=2 -m src.train -- --run denoise       by two processes

The loop itself is in loop.py.
"""

import argparse
import copy
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from src import checkpoint, distributed
from src.config import TrainConfig
from src.device import device, environment
from src.files import exit_code, say
from src.files.hashing import weights_sha256
from src.fingerprint import network_fingerprint
from src.images import load_images, split_images
from src.loop import TrainState, check_batch_size, held_out_psnr, training_loop
from src.noise import GaussianNoiseDataset, number
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
    1, 2, 5, 10, 20, 50, 100, ..., of `snapshots` and of each number of epochs asked for are kept. A run of another
    fingerprint is left alone. Ctrl-C and the stop button keep the finished epochs.

    model: ends with the EMA weights, in evaluation mode. A network of this package starts from the weights that its
    config names, whatever it holds now. start: a state_dict to start from instead. test_set: None for no evaluation.
    Returns the history, a list of `training_loop`'s records. Raises ValueError, OSError, FloatingPointError or
    MemoryError of one line, with the finished epochs kept; BlockingIOError while another process trains the run.
    """
    check_batch_size(train_set, config)
    fingerprint = run_fingerprint(model, train_set, config, start)
    folder, first = checkpoint.run_folder(run), distributed.rank() == 0  # the only process that touches the disk
    with checkpoint.locked(folder) if first else nullcontext():
        saved = distributed.from_first(lambda: checkpoint.load_state(folder, fingerprint))
        if saved is not None and len(saved["history"]) > config.epochs:
            return _earlier(model, folder, saved, config.epochs, test_set)
        state = _begin(model, train_set, config, saved, start)
        about = dict(fingerprint=fingerprint, parameters=sum(p.numel() for p in model.parameters()),
                     environments=_environments(saved, config.epochs), test_set=test_set and test_set.config)  # fmt: skip
        if first and saved is not None and saved["test_set"] != about["test_set"]:
            _evaluate_again(state, folder, test_set)
        before = copy.deepcopy(state.state_dict())
        bar = tqdm(total=config.epochs, initial=len(state.history), desc="training", file=sys.stdout, disable=not first,
                   bar_format=BAR + " [{remaining}]{postfix}")  # fmt: skip
        try:
            if first:
                checkpoint.write_record(folder, about, state.history)  # a folder that cannot be written shows now
                _show(bar, state.history)
            for record in training_loop(model, _Counted(train_set, config, bar), test_set, config, state):
                if first:
                    keep = checkpoint.is_kept(record["epoch"]) or record["epoch"] in {config.epochs, *snapshots}
                    checkpoint.save(folder, about, state.state_dict(), keep)
                _show(bar, state.history)
        except BaseException as error:
            # the epoch in progress has moved the weights half-way: back to the last finished one
            state.load_state_dict(checkpoint.load_state(folder, fingerprint, bar.write) or before)
            if not isinstance(error, KeyboardInterrupt):
                raise _out_of_memory(error, train_set, config) or error from None
            bar.write(f"stopped; {len(state.history)} finished epochs are kept, run again to continue")
        finally:
            bar.bar_format = BAR + "{postfix}"  # the line that stays in a notebook has no times
            bar.close()
            model.eval()
    return state.history


BAR = "{desc} {percentage:3.0f}% |{bar:24}| {n:.0f}/{total} epochs"


class _Counted:
    """A training set that moves a progress bar with each batch it gives."""

    def __init__(self, train_set: GaussianNoiseDataset, config: TrainConfig, bar: tqdm):
        self.train_set, self.bar, self.batches = train_set, bar, -(-len(train_set) // config.batch_size)
        self.shape, self.set_epoch = train_set.shape, train_set.set_epoch

    def __len__(self) -> int:
        return len(self.train_set)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        self.bar.update(1 / self.batches)
        return self.train_set.batch(indices)


def _show(bar: tqdm, history: list[dict]) -> None:
    """The bar at a whole epoch, with that epoch's figures: no PSNR of an earlier one."""
    if history:
        psnr = f", held-out {history[-1]['psnr']:.2f} dB" if "psnr" in history[-1] else ""
        bar.set_postfix_str(f"mse {history[-1]['train_mse']:.5f}{psnr}", refresh=False)
    bar.n = len(history)
    bar.refresh()


def run_fingerprint(
    model: nn.Module, train_set: GaussianNoiseDataset, config: TrainConfig, start: dict[str, Tensor] | None = None
) -> dict:
    """What decides the weights of a run after each epoch, as plain numbers and strings."""
    fingerprint = dict(version=VERSION, network=network_fingerprint(model), train_set=train_set.config,
                       config=config.fingerprint())  # fmt: skip
    return fingerprint | ({} if start is None else dict(start=weights_sha256(start)))


def _begin(model: nn.Module, train_set, config: TrainConfig, saved: dict | None, start: dict | None) -> TrainState:
    """The state to continue, or a new one with the weights that the fingerprint names."""
    state = TrainState.new(model, config, train_set.shape)
    if saved is not None:
        state.load_state_dict(saved)
        return state
    ours = type(model).__module__.startswith("src.") and hasattr(model, "config")
    initial = type(model)(**model.config).state_dict() if start is None and ours else start
    if initial is not None:
        try:
            state.ema_model.load_state_dict(initial), state.model.load_state_dict(initial)
        except RuntimeError:
            raise ValueError(f"start holds other weights than {type(model).__name__}'s; build that network") from None
    return state


def _earlier(model: nn.Module, folder: Path, saved: dict, epochs: int, test_set) -> list[dict]:
    """The history up to an epoch before the last, its EMA weights in `model`."""
    kept = [epoch for epoch in checkpoint.kept_epochs(folder) if epoch < len(saved["history"])]
    if epochs not in kept:
        raise ValueError(
            f"{folder} holds {len(saved['history'])} epochs, {epochs} were asked for, and of the earlier ones the "
            f"weights after {kept} are kept; ask for one of those, or name another run"
        )
    model.to(device()).load_state_dict(checkpoint.load_snapshot(folder, epochs))
    model.eval()
    history = saved["history"][:epochs]
    if test_set is not None and (saved["test_set"] != test_set.config or "psnr" not in history[-1]):
        history = [{k: v for k, v in record.items() if k != "psnr"} for record in history]
        history[-1]["psnr"] = held_out_psnr(model, test_set)
    return history


def _evaluate_again(state: TrainState, folder: Path, test_set) -> None:
    """The history's PSNR on another test set than before, at the epochs whose weights are there."""
    for record in state.history:
        record.pop("psnr", None)
    model = copy.deepcopy(state.ema_model)
    for epoch in checkpoint.kept_epochs(folder) if test_set is not None else ():
        if epoch <= len(state.history):
            model.load_state_dict(checkpoint.load_snapshot(folder, epoch))
            state.history[epoch - 1]["psnr"] = held_out_psnr(model, test_set)
    if test_set is not None:
        state.history[-1]["psnr"] = held_out_psnr(state.ema_model, test_set)


def _environments(saved: dict | None, epochs: int) -> list[dict]:
    """Where the run was trained, [{"from": epoch, "threads": ...}, ...], with this machine if it goes on here."""
    before = saved["environments"] if saved else []
    here = environment() | {"processes": distributed.world_size()}
    done = len(saved["history"]) if saved else 0
    changed = [f"{k} {before[-1].get(k)}, now {v}" for k, v in here.items() if before and before[-1].get(k) != v]
    if before and (done == epochs or not changed):
        return before
    if changed and distributed.rank() == 0:
        say(f"note: {done} epochs were trained with {'; '.join(changed)}: bits may differ from an unbroken run's")
    return [*before, {"from": done + 1, **here}]


def _out_of_memory(error: BaseException, train_set, config: TrainConfig) -> MemoryError | None:
    words = "can't allocate memory", "not enough memory"  # torch's CPU allocator raises a plain RuntimeError
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words):
        return MemoryError(
            f"not enough memory for batch_size {config.batch_size} and images of {list(train_set.shape)}; the finished "
            f"epochs are kept. Try batch_size={max(1, config.batch_size // 2)}, a smaller crop_size or fewer channels"
        )
    return None


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code. Its defaults are the parameters of 01_denoise."""
    parser = argparse.ArgumentParser(
        prog="python -m src.train", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Train a denoiser and keep it in checkpoints/<run>/. TrainConfig documents what has no help here.",
    )  # fmt: skip
    parser.add_argument("--data", default="data/finger_numbers", metavar="DIR", help="folder of images")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--max-train", type=int, default=300, help="most images to train on")
    parser.add_argument("--max-held-out", type=int, default=60, help="most images to evaluate on")
    parser.add_argument("--held-out", type=number, default=0.2, help="fraction of the images held out")
    parser.add_argument("--sigma", type=number, nargs="+", default=[0.2], metavar="SIGMA",
                        help="standard deviation of the noise, 0..1 or 25/255; two: lowest and highest of a range")  # fmt: skip
    parser.add_argument("--crop-size", type=int, default=64, help="side in pixels of the random crops trained on")
    parser.add_argument("--widths", type=int, nargs="+", default=[24, 48, 96, 128], help="channels of each level")
    parser.add_argument("--blocks", type=int, default=1, help="residual blocks a level")
    parser.add_argument("--run", default="train", help="folder below checkpoints/")
    parser.add_argument("--start", metavar="RUN", help="begin with this run's weights, such as published/denoiser")
    for field in fields(TrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default, help=" ")
    argv = sys.argv[1:] if argv is None else argv
    # torchrun would take --run for an abbreviation of its own --run-path, so a "--" stands before ours
    arguments = parser.parse_args(argv[1:] if argv[:1] == ["--"] else argv)
    return exit_code(lambda: _train(arguments))


def _train(arguments: argparse.Namespace) -> int:
    with distributed.process_group():
        config = TrainConfig(**{field.name: getattr(arguments, field.name) for field in fields(TrainConfig)})
        images = distributed.in_turn(lambda: load_images(arguments.data, size=arguments.size))
        train_images, held_out = split_images(images, arguments.held_out, config.seed)
        sigma = arguments.sigma[0] if len(arguments.sigma) == 1 else tuple(arguments.sigma)
        train_set = GaussianNoiseDataset(train_images.sample(arguments.max_train, config.seed), sigma, config.seed,
                                         crop_size=arguments.crop_size, augment=True)  # fmt: skip
        held_out = held_out.sample(arguments.max_held_out, config.seed)
        test_set = GaussianNoiseDataset(held_out, sigma, config.seed + 1, fixed=True)
        model = UNet(images.shape[1], arguments.widths, arguments.blocks, config.seed)
        start = checkpoint.load(arguments.start).cpu().state_dict() if arguments.start else None
        history = fit(model, train_set, test_set, config, arguments.run, start=start)
        if distributed.rank() == 0:
            evaluated = [record["psnr"] for record in history if "psnr" in record]
            say(f"held-out PSNR  {evaluated[-1]:.2f} dB after {len(history)} epochs" if evaluated else "no epoch finished")
            say(f"kept in        {checkpoint.run_folder(arguments.run)}")
    return 0 if len(history) == config.epochs else 130  # stopped


if __name__ == "__main__":
    sys.exit(main())
