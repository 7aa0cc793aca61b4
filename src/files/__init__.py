"""What every command and every file written needs: atomic writes, errors of one line, whole numbers."""

import argparse
import contextlib
import json
import numbers
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# The project's folder; of an installed package, which has none, the working directory
ROOT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path.cwd()
EXPECTED = (ValueError, OSError, ArithmeticError, MemoryError)  # what a command answers with one line


def checkpoints(*parts: str) -> Path:
    """checkpoints/<parts> of the project, or what an installed package has of it beside its code."""
    shipped = PACKAGE.joinpath(*parts)
    return shipped if (shipped / "weights.pt").exists() else ROOT.joinpath("checkpoints", *parts)


def printable(text: object) -> str:
    """A path or a message on one line: line breaks, and bytes that are no UTF-8, as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def one_line(error: BaseException) -> str:
    """An error of a library in one short line; its type where it says nothing."""
    return " ".join(printable(error).split())[:300] or type(error).__name__


def described(x: object) -> str:
    """What a value is, for an error: type, shape and range of a tensor, else the class."""
    if not hasattr(x, "dtype"):
        return type(x).__name__
    edges = f", {float(x.min()):g} to {float(x.max()):g}" if 0 not in x.shape and "complex" not in str(x.dtype) else ""
    return f"{x.dtype} {list(x.shape)}{edges}"


def whole_number(name: str, value: object, least: int = 0, most: int | None = None, fix: str = "") -> int:
    """value as an int; ValueError unless it is one (numpy's count, True does not) from `least` to `most`."""
    number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not number or value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {expected}, got {value!r}; {fix or f'try {name}={least}'}")
    return int(value)


def number(text: str) -> float:
    """A command line's number: 0.1, or 25/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise argparse.ArgumentTypeError(f"must be a number or a fraction such as 25/255, got {text!r}") from None


def find_folder(folder: str | Path) -> Path:
    """A relative folder is taken from the working directory if it exists there, else from the project's root."""
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise ValueError(f"folder must be a path, got {folder!r}; try folder='data/finger_numbers'")
    path = Path(os.path.expanduser(folder))
    return path if os.path.exists(path) else ROOT / path


@contextlib.contextmanager
def writing(path: Path):
    """The system's errors within become one OSError that names the file and the fix."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        if isinstance(error.__context__, KeyboardInterrupt):  # and the stop button pressed while it writes
            raise error.__context__ from None
        if isinstance(error, OSError) and error.errno is None:  # a line of ours
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise OSError(
            f"cannot write {printable(path)} ({reason}); what was there is kept. Make it writable, free some space, "
            "or name another place"
        ) from None


def write_atomically(path: Path, write: Callable, backup: Path | None = None) -> None:
    """Call write(file) for a binary file beside `path`, flush it to the disk and rename it: the old one or the new one.

    backup: the name that the file of before gets. Raises OSError of one line; the file of before is then kept.
    """
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if backup is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(path, backup)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, whole or not at all. Raises ValueError for NaN and infinity, before anything is written."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def say(text: object, file=None) -> None:
    """Print a line wherever it can be printed: a terminal of few characters gets escapes, a closed one nothing."""
    file = file or sys.stdout
    encoding = getattr(file, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(str(text).encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def exit_code(work: Callable[[], int | None]) -> int:
    """Do a command's work and return its exit code; an expected error is one line on stderr and 1, Ctrl-C is 130."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        say("stopped", sys.stderr)
        return 130
    except EXPECTED as error:
        say(f"error: {printable(error).strip() or type(error).__name__}", sys.stderr)  # not cut: the fix comes last
        return 1
