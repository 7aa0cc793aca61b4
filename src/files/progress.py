"""What `fit` shows: a progress bar, a note where a run goes on elsewhere, and a line where memory is short."""

import sys

import torch
from tqdm import tqdm

from src.files import say

SHAPE = "{desc} {percentage:3.0f}% |{bar:24}| {epochs}/{total} epochs"


class RunBar(tqdm):
    """A bar over `total` epochs of `steps` batches; the line that stays in a notebook has no times."""

    epochs = 0

    def __init__(self, history: list[dict], total: int, steps: int, disable: bool):
        super().__init__(total=total, initial=len(history), desc="training", file=sys.stdout, disable=disable,
                         bar_format=SHAPE + " [{remaining}]{postfix}")  # fmt: skip
        self.steps = steps
        self.show(history)

    @property
    def format_dict(self) -> dict:
        return super().format_dict | {"epochs": self.epochs}  # the finished ones; n moves within an epoch

    def show(self, history: list[dict]) -> None:
        """The bar at a whole epoch, with that epoch's figures: no PSNR of an earlier one."""
        if history:
            psnr = f", held-out {history[-1]['psnr']:.2f} dB" if "psnr" in history[-1] else ""
            self.set_postfix_str(f"mse {history[-1]['train_mse']:.5f}{psnr}", refresh=False)
        self.n = self.epochs = len(history)
        self.refresh()

    def counting(self, train_set):
        """The training set, moving the bar with each batch that it gives."""
        return _Counting(train_set, self)

    def close(self) -> None:
        self.bar_format = SHAPE + "{postfix}"
        super().close()


class _Counting:
    def __init__(self, train_set, bar: RunBar):
        self.train_set, self.bar = train_set, bar
        self.shape, self.set_epoch = train_set.shape, train_set.set_epoch

    def __len__(self) -> int:
        return len(self.train_set)

    def batch(self, indices: list[int]):
        self.bar.update(min(1 / self.bar.steps, self.bar.epochs + 1 - self.bar.n))  # rounding adds up
        return self.train_set.batch(indices)


def environments(saved: dict | None, here: dict, epochs: int) -> list[dict]:
    """Where a run was trained, [{"from": epoch, "threads": ...}, ...], with this machine if it goes on `here`."""
    before, done = (saved["environments"], len(saved["history"])) if saved else ([], 0)
    changed = [f"{k} {before[-1].get(k)}, now {v}" for k, v in here.items() if before and before[-1].get(k) != v]
    if before and (done == epochs or not changed):
        return before
    if changed:
        say(f"note: {done} epochs were trained with {'; '.join(changed)}: bits may differ from an unbroken run's")
    return [*before, {"from": done + 1, **here}]


def out_of_memory(error: BaseException, batch_size: int, shape: tuple[int, ...]) -> MemoryError | None:
    """A line for a lack of memory; None for any other error."""
    words = "can't allocate memory", "not enough memory"  # torch's CPU allocator raises a plain RuntimeError
    if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not any(word in str(error) for word in words):
        return None
    return MemoryError(
        f"not enough memory for batch_size {batch_size} and images of {list(shape)}; the finished epochs are kept. Try "
        f"batch_size={max(1, batch_size // 2)}, a smaller crop_size or a narrower network"
    )
