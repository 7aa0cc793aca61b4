"""torch files that may be damaged, and the lock of a folder: what checkpoints need from the disk."""

import contextlib
import pickle
import zipfile
import zlib
from pathlib import Path

import filelock
import torch

from src.files import one_line, writing

DAMAGE = (
    ValueError,
    LookupError,
    ImportError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    NotImplementedError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip - what torch.load raises at flipped bits


STATE = ("fingerprint", "history", "environments", "test_set", "ema_model", "model", "optimizers", "step", "skipped")


def read_archive(path: Path, *names: str) -> dict | None:
    """The dict that torch.save wrote, on the CPU, with these keys in it; None where there is no file.

    Nothing but tensors and plain values is unpickled. Raises OSError where it cannot be read, ValueError where it is
    damaged or lacks a key.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a zip; its check sums find a flipped bit
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"wrong check sum in {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if "raw" in content or "key" in content:
            raise ValueError("an older version of this project wrote it")
        [content[name] for name in names]
        return content
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(f"cannot read {path} ({error.strerror}); make it readable, or name another run") from None
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged or no checkpoint of this version ({one_line(error).partition('. This file can')[0]}); "
            "delete it to train anew, or name another run"
        ) from None


def read_newest(folder: Path) -> tuple[dict | None, ValueError | None]:
    """state.pt, or where it is damaged or missing the one before it, and the damage; ValueError if none is whole."""
    saved = damage = None
    try:
        saved = read_archive(folder / "state.pt", *STATE)
    except ValueError as error:
        damage = error
    if saved is None:  # damaged, or killed between the two renames of `save`, or nothing there
        with contextlib.suppress(ValueError) if damage else contextlib.nullcontext():
            saved = read_archive(folder / "state-before.pt", *STATE)
    if saved is None and damage:
        raise damage
    return saved, damage


@contextlib.contextmanager
def locked(folder: Path):
    """Hold a folder; BlockingIOError where another process does. A kill lets go of it."""
    lock = filelock.FileLock(folder / "lock", blocking=False)
    with writing(folder / "lock"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise BlockingIOError(f"another process is training {folder}; wait for it, or name another run") from None
    try:
        for part in folder.glob("*.part"):
            part.unlink()  # of a process that was killed while it wrote
        yield
    finally:
        lock.release()
