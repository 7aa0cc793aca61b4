"""Go through photos in files and folders: which output belongs to which input, and one line for whatever goes wrong."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from src.files import EXPECTED, one_line, printable, say
from src.files.decoding import natural_order
from src.photos.photo_files import SUFFIXES, suffix_of

Check = Callable[[], None]  # raises where writing would damage an input or another output
Work = Callable[..., str]  # source, target, check and, if there is a `load`, what it returned -> what was done
MOST_THREADS = 4  # each holds a photo, which may have 200 megapixels
Identity = tuple[int, int]  # of a file, whatever its name: device and inode


def identity(path: Path) -> Identity | None:
    """None where there is no file."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def list_photos(folder: Path) -> tuple[list[Path], list[str]]:
    """(relative paths of the photos at any depth in natural order, why something is left out, a line each)."""
    photos, others, lines = [], {}, []

    def unreadable(error: OSError) -> None:
        lines.append(f"{printable(error.filename)} cannot be listed ({error.strerror}), so what is in it is left out")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if os.path.islink(os.path.join(place, name)):  # which os.walk does not follow, as links may form a loop
                lines.append(f"{printable(Path(place, name))} is a link to a folder, so what is in it is left out")
        for name in files:
            path = Path(place, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in SUFFIXES:
                photos.append(path.relative_to(folder))
            else:
                others.setdefault(path.suffix.lower() or "no suffix", []).append(printable(path.relative_to(folder)))
    for suffix, names in sorted(others.items()):
        some = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"{len(names)} file{'s' * (len(names) > 1)} not read ({suffix}): {some}")
    return sorted(photos, key=lambda path: natural_order(path.as_posix())), lines


def pair_up(inputs: list[str], output: str, overwrite: bool) -> tuple[list[tuple[Path, Path]], list[str]]:
    """((source, target) of all photos, lines on what is left out).

    output: a file for one photo; a folder (there already, or ending with a slash) for several, which keeps their names
    and the folders within a folder. ValueError where an input or another output would be overwritten, or where there
    is nothing to do; FileNotFoundError for an input that is missing.
    """
    pairs, left_out, target = [], [], Path(output)
    folder = len(inputs) > 1 or target.is_dir() or Path(inputs[0]).is_dir() or output.endswith(("/", os.sep))
    if folder and len(inputs) > 1 and target.suffix.lower() in SUFFIXES and not target.is_dir():
        raise ValueError(f"{printable(target)} is a name for one image, got {len(inputs)} inputs; name a folder")
    if folder and target.exists() and not target.is_dir():
        raise ValueError(f"{printable(target)} is a file, expected a folder for several images; name another output")
    for source in map(Path, inputs):
        if source.is_dir():
            if source.resolve() in target.resolve().parents:
                raise ValueError(f"{printable(target)} lies in the input folder {printable(source)}; name another")
            photos, lines = list_photos(source)
            pairs += [(source / photo, target / photo) for photo in photos]
            left_out += lines
        elif os.path.lexists(source):
            pairs.append((source, target / source.name if folder else target))
        else:
            raise FileNotFoundError(f"no file {printable(source)}, expected a photo or a folder; check the path")
    if not pairs:
        raise ValueError(f"no photo in {', '.join(map(printable, inputs))}, expected {' '.join(SUFFIXES)}; "
                         + "; ".join([*left_out, "name another input"]))  # fmt: skip
    _check_targets(pairs, overwrite)
    return pairs, left_out


def _check_targets(pairs: list[tuple[Path, Path]], overwrite: bool) -> None:
    sources, seen = {identity(source) for source, _ in pairs} - {None}, set()
    for _, target in pairs:
        suffix_of(target)
        if identity(target) in sources:
            raise ValueError(f"{printable(target)} is one of the inputs, which are never overwritten; name another")
        if target.resolve() in seen:
            raise ValueError(f"{printable(target)} would be written twice; name each of these folders by itself")
        if target.exists() and not overwrite:
            raise ValueError(f"{printable(target)} is there already; name another output, or add --overwrite")
        seen.add(target.resolve())


def loaded_ahead(load: Callable, sources: list[Path]) -> Iterator[Future]:
    """load(source) of each in their order, with some sources loaded ahead: a thread a core, in each torch has one."""
    cores = torch.get_num_threads()
    threads, waiting = max(1, min(cores, MOST_THREADS, len(sources))), deque()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(max(1, cores // threads),))
    try:
        for source in sources:
            waiting.append(pool.submit(load, source))
            if len(waiting) > threads:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for future in waiting:  # a consumer that stopped early needs no more
            future.cancel()
        pool.shutdown()
        torch.set_num_threads(cores)  # the threads have changed it for all


def each(inputs: list[str], output: str, overwrite: bool, work: Work, load: Callable | None = None) -> int:
    """work(source, target, check) for each photo, a line for each; what fails is a line, the others are done.

    load: called with each source, on several threads and ahead of `work`, which gets what it returns as its last
    argument. Returns the exit code: 1 if one failed. Raises as `pair_up` does, before anything is written.
    """
    pairs, left_out = pair_up(inputs, output, overwrite)
    guard, failed = Guard(pairs, overwrite), 0
    loads = loaded_ahead(load, [source for source, _ in pairs]) if load else [None] * len(pairs)
    for number, ((source, target), ready) in enumerate(zip(pairs, loads), 1):
        count = f"{number}/{len(pairs)} " if len(pairs) > 1 else ""
        try:
            done = work(source, target, guard.of(target), *([ready.result()] if ready else []))
            guard.written.add(identity(target))
        except (*EXPECTED, RuntimeError) as error:  # the last is torch's lack of memory
            say(f"error: {one_line(error)}", sys.stderr)
            failed += 1
        else:
            say(f"{count}{printable(target)}: {done}")
    for line in left_out:
        say(f"left out: {line}", sys.stderr)
    if failed and len(pairs) > 1:
        say(f"error: {failed} of {len(pairs)} images could not be done, see above", sys.stderr)
    return 1 if failed else 0


class Guard:
    """Which files must not be replaced: compared as files, as one may have two names (links, bind mounts, letter case).

    pairs: (source, target) of all photos. written: the outputs so far.
    """

    def __init__(self, pairs: list[tuple[Path, Path]], overwrite: bool):
        self.sources = {identity(source) for source, _ in pairs} - {None}
        self.overwrite, self.written = overwrite, set()

    def of(self, target: Path) -> Check:
        """Raises ValueError where `target` has become an input, or an output of this run, or is there already."""

        def check() -> None:
            file = identity(target)
            if file in self.sources:
                raise ValueError(f"{printable(target)} is one of the inputs, which are never overwritten")
            if file in self.written:
                raise ValueError(f"{printable(target)} is another image's output under a second name; rename one")
            if file is not None and not self.overwrite:
                raise ValueError(f"{printable(target)} is there already; name another output, or add --overwrite")

        return check
