"""A training kept on disk: `fit` for notebooks, and the same from the command line.

    history = fit(model, train_set, test_set, TrainConfig(epochs=100), run="denoise")

    python -m src.train --epochs 100 --run denoise                  the same training as 01_denoise
    torchrun --nproc-per-node=2 -m src.train -- --run denoise       by two processes, a GPU each where there are

The loop itself is in loop.py.
"""

import argparse
import contextlib
import copy
import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import checkpoint

from . import distributed as parallel
from src.images import load_images, split_images
from src.photos.denoiser import load_denoiser
from src.device import environment, memory_format
from src.evaluation import check_noise
from src.loop import VERSION, TrainConfig, TrainState, check_batch, train
from src.noise import GaussianNoiseDataset, number
from src.unet import UNet, deepened


def fit(
    model: nn.Module,
    train_set: GaussianNoiseDataset,
    test_set: GaussianNoiseDataset | None,
    config: TrainConfig = TrainConfig(),
    run: str | Path = "denoise",
    snapshots: Iterable[int] = (),
    start: dict[str, Tensor] | None = None,
) -> list[dict]:
    """Train with a progress bar, writing checkpoints/<run>/ after each epoch; `load_denoiser` reads its weights.

    What decides the result (network, both data sets, config but for the number of epochs) is the
    run's key. Where the folder holds a run of the same key it is loaded and only the missing epochs are trained;
    a run of another key is left alone, and the ValueError names the fields that differ.
    A network that has a `config` starts from the weights this names, whatever it holds now.
    Interrupting (the notebook's stop button) keeps the finished epochs. `model` ends with
    the averaged weights of the last finished epoch, in evaluation mode, also when training fails.

    test_set: held out; None: nothing is, and the history has no PSNR.
    run: a name below checkpoints/, or an absolute path.
    snapshots: epochs whose averaged weights are kept for good: `load_snapshot(run, epoch)`.
    start: weights (a state_dict) to start from in place of those, such as the shipped denoiser's, to train it on for
    pictures of one's own; their hash is part of the key.
    Returns the history, a list of `train`'s records.
    Raises ValueError, OSError, FloatingPointError or MemoryError, one line each, with the finished
    epochs kept; BlockingIOError while another process trains the same run.
    """
    check_batch(train_set, config)
    if test_set is not None:
        check_noise(test_set)
    key, folder, snapshots = run_key(model, train_set, test_set, config, start), checkpoint.folder(run), set(snapshots)
    first = parallel.rank() == 0  # the only process that touches the disk
    with checkpoint.only_one(folder) if first else contextlib.nullcontext():
        saved = parallel.from_first(lambda: _begin(folder, key, config.epochs, snapshots))
        state = TrainState.new(model, config, memory_format(train_set.shape))
        if saved is not None:
            state.load_state_dict(saved)
        elif start is not None or hasattr(model, "config"):
            # From the weights that the key names, not from what an earlier run has left in `model`.
            fresh = type(model)(**model.config).state_dict() if start is None else start
            try:
                state.model.load_state_dict(fresh), state.raw.load_state_dict(fresh)
            except RuntimeError:
                raise ValueError(
                    f"start holds weights of another network, expected those of {key['network']}; build that one"
                ) from None
        finished = copy.deepcopy(state.state_dict())
        ran = _environments(saved, config.epochs)
        size = sum(p.numel() for p in model.parameters())
        about = dict(key=key, epochs=config.epochs, parameters=size, environment=ran[-1], environments=ran)
        record = lambda: checkpoint.write_json(folder / "record.json", dict(about, history=state.history))  # noqa: E731
        # The bar as it stays in the notebook has no times, so that a second run prints the same.
        shape = "{desc} {percentage:3.0f}% |{bar:24}| {n}/{total} epochs [{remaining}]{postfix}"
        bar = tqdm(
            total=config.epochs, initial=len(state.history), desc="training", file=sys.stdout, disable=not first,
            bar_format=shape,
        )  # fmt: skip
        try:
            if first:
                record()  # before the first epoch: a folder that cannot be written is better known now
                _show(bar, state.history)
            for entry in train(model, train_set, test_set, config, state):
                if first:
                    content = dict(state.state_dict(), environments=ran)
                    checkpoint.save(folder, key, content, keep=entry["epoch"] in snapshots)
                    record()
                    _show(bar, state.history)
                bar.update()
        except BaseException as error:
            # The epoch in progress has half moved the weights: back to the last finished one.
            state.load_state_dict(checkpoint.load(folder, key, bar.write) or finished)
            if isinstance(error, KeyboardInterrupt):
                bar.write(f"stopped; {len(state.history)} finished epochs are kept, run again to continue")
            elif _is_lack_of_memory(error):
                raise MemoryError(
                    f"not enough memory for batch {config.batch} and crop {train_set.crop or 'None, whole pictures'}; "
                    f"the finished epochs are kept. Try batch={max(1, config.batch // 2)}, a smaller crop or less width"
                ) from None
            else:
                raise
        finally:
            bar.bar_format = shape.replace(" [{remaining}]", "")
            bar.close()
            model.eval()
    return state.history


def _begin(folder: Path, key: dict, epochs: int, snapshots: set[int]) -> dict | None:
    """What is saved of the run, once it is sure that it can be continued as asked."""
    saved = checkpoint.load(folder, key)
    done = len(saved["history"]) if saved else 0
    if done > epochs:
        raise ValueError(
            f"{folder} already holds {done} epochs, {epochs} were asked for, and its "
            f"weights of then are gone; ask for epochs={done} or more, or name another run"
        )
    for epoch in sorted(snapshots):
        if not 1 <= epoch <= epochs:
            raise ValueError(f"snapshots must be epochs from 1 to {epochs}, got {epoch}; leave it out or train longer")
        if epoch <= done and not checkpoint.snapshot_path(folder, epoch).exists():
            raise ValueError(
                f"{folder} is past epoch {epoch} and its weights of then were not kept, expected snapshots "
                f"after {done}; leave {epoch} out, or name another run"
            )
    return saved


def _environments(saved: dict | None, epochs: int) -> list[dict]:
    """Where the run was trained, [{"from": epoch, "threads": ...}, ...], with this machine if it goes on here."""
    ran = saved.get("environments", []) if saved else []
    here = environment() | {"processes": parallel.world()}
    done = len(saved["history"]) if saved else 0
    changed = [f"{k} {ran[-1].get(k)}, now {v}" for k, v in here.items() if ran and ran[-1].get(k) != v]
    if ran and (done == epochs or not changed):
        return ran
    if changed and parallel.rank() == 0:
        print(f"note: {done} epochs were trained with {'; '.join(changed)}: bits may differ from an unbroken run's")
    return [*ran, {"from": done + 1, **here}]


def _is_lack_of_memory(error: BaseException) -> bool:
    words = "can't allocate memory", "not enough memory"  # torch's CPU allocator raises a plain RuntimeError
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def run_key(
    model: nn.Module,
    train_set: GaussianNoiseDataset,
    test_set: GaussianNoiseDataset | None,
    config: TrainConfig,
    start: dict[str, Tensor] | None = None,
) -> dict:
    """What decides the result, as plain numbers and strings."""
    network = {"class": type(model).__name__, **getattr(model, "config", {"layers": str(model)})}
    seen = None if test_set is None else test_set.config
    key = dict(loop=VERSION, network=network, train_set=train_set.config, test_set=seen, config=config.key())
    if start is not None:
        hashed = hashlib.sha256()
        for name, weights in start.items():
            hashed.update(name.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
        key["start"] = hashed.hexdigest()
    return key


def _show(bar: tqdm, history: list[dict]) -> None:
    seen = [record["psnr"] for record in history if "psnr" in record]
    if seen:
        bar.set_postfix_str(f"mse {history[-1]['train_mse']:.5f}, held-out {seen[-1]:.2f} dB", refresh=False)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code. Its defaults are the parameters of 01_denoise."""
    defaults = {field.name: field.default for field in fields(TrainConfig) if field.default is not None}
    parser = argparse.ArgumentParser(
        prog="python -m src.train", description="Train a denoiser and keep it in checkpoints/<run>/.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", default="data/finger_numbers", metavar="DIR", help="folder of pictures")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels")
    parser.add_argument("--most-train", type=int, default=300, help="pictures to train on at the most")
    parser.add_argument("--most-held-out", type=int, default=60, help="pictures to test on at the most")
    parser.add_argument("--held-out", type=number, default=0.2, help="share of the pictures held out")
    parser.add_argument(
        "--sigma",
        type=number,
        nargs="+",
        default=0.2,
        metavar="SIGMA",
        help="deviation of the noise, 0..1; 25/255 is understood; two: lowest and highest of a range",
    )
    parser.add_argument("--grey", type=number, default=0.0, help="share of the pairs shown in grey")
    parser.add_argument("--crop", type=int, default=64, help="side in pixels of the squares trained on")
    parser.add_argument("--widths", type=int, nargs="+", default=UNet().config["widths"], help="channels of each level")
    parser.add_argument("--blocks", type=int, default=UNet().config["blocks"], help="residual blocks a level")
    parser.add_argument("--conditioned", action="store_true", help="the network works in units of the noise")
    parser.add_argument("--shrink", type=number, default=1.0, help="smallest factor by which crops are made smaller")
    parser.add_argument("--run", default="train", help="folder below checkpoints/")
    parser.add_argument(
        "--start",
        metavar="RUN",
        help="begin with the weights of this run below checkpoints/, or published/denoiser; it may have fewer blocks",
    )
    parser.add_argument("--snapshots", type=int, nargs="*", default=[], help="epochs whose weights are kept for good")
    told = dict(re.findall(r"^    (\w+) {2,}(.+(?:\n {20}.+)*)", TrainConfig.__doc__, re.M))
    for name, default in defaults.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=" ".join(told[name].split())
        )
    argv = sys.argv[1:] if argv is None else argv
    # torchrun would take --run for an abbreviation of its own --run-path, so a "--" stands before ours
    arguments = parser.parse_args(argv[1:] if argv[:1] == ["--"] else argv)
    try:
        with parallel.group():
            config = TrainConfig(**{name: getattr(arguments, name) for name in defaults})
            # several processes share one mapped file
            limit = {"limit_bytes": 0} if parallel.world() > 1 else {}
            images = parallel.in_turn(lambda: load_images(arguments.data, size=arguments.size, **limit))
            trained_on, held_out = split_images(images, arguments.held_out, arguments.seed)
            trained_on = trained_on.sample(arguments.most_train, arguments.seed)
            held_out = held_out.sample(arguments.most_held_out, arguments.seed)
            given = arguments.sigma if isinstance(arguments.sigma, list) else [arguments.sigma]
            sigma = given[0] if len(given) == 1 else tuple(given)
            noise = dict(sigma=sigma, grey=arguments.grey)
            cut = dict(crop=arguments.crop, flip=True, shrink=arguments.shrink)
            train_set = GaussianNoiseDataset(trained_on, seed=arguments.seed, **cut, **noise)
            test_set = GaussianNoiseDataset(held_out, seed=arguments.seed + 1, fixed=True, **noise)
            shape = dict(blocks=arguments.blocks, conditioned=arguments.conditioned, seed=arguments.seed)
            model, start = UNet(images.shape[1], arguments.widths, **shape), None
            if arguments.start:
                before = load_denoiser(checkpoint.folder(arguments.start)).cpu()
                widths = before.config.get("widths")
                if widths != arguments.widths:
                    raise ValueError(
                        f"--start {arguments.start} has widths {widths}, got {arguments.widths}; name those"
                    )
                if before.config.get("blocks", 1) > arguments.blocks:
                    raise ValueError(
                        f"--start {arguments.start} has {before.config['blocks']} blocks, got {arguments.blocks}; "
                        "name as many, or more"
                    )
                if before.config.get("conditioned", False) and not arguments.conditioned:
                    raise ValueError(f"--start {arguments.start} works in units of the noise; add --conditioned")
                start = deepened(before.state_dict(), model)
            history = fit(model, train_set, test_set, config, arguments.run, arguments.snapshots, start)
            if parallel.rank() == 0:
                seen = [record["psnr"] for record in history if "psnr" in record]
                print(f"held-out PSNR  {seen[-1]:.2f} dB after {len(history)} epochs" if seen else "no epoch finished")
                print(f"kept in        {checkpoint.folder(arguments.run)}")
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if len(history) == config.epochs else 130  # stopped


if __name__ == "__main__":
    sys.exit(main())
