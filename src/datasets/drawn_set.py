"""Draw a data set into a folder, in several processes. The folder is complete or absent."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from src.datasets.textures import TILE
from src.files import ROOT, printable, whole_number, write_json, write_text, writing


def save_png(image: np.ndarray, path: Path) -> str:
    """Write uint8 [H, W, 3] as a PNG; returns the sha256 of its pixels."""
    path.parent.mkdir(exist_ok=True)
    # compress_type=2 (Huffman codes only): no search for matches, which differs between zlib builds.
    Image.fromarray(image).save(path, compress_type=2)
    return hashlib.sha256(image.tobytes()).hexdigest()


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it: a pool's worker would outlive a parent that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def is_complete(folder: Path, about: dict) -> bool:
    """Whether the folder holds this set; FileExistsError if it holds anything else.

    about: what about.json must say; "count" is the number of PNG files.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        found = {key: found.get(key) for key in about}
    except (OSError, ValueError, AttributeError):
        found = "no readable about.json"
    if found != about:
        raise FileExistsError(
            f"{printable(folder)} holds another set: {found}, expected {about}; delete the folder, or name another"
        )
    count = sum(1 for _ in folder.rglob("*.png"))
    if count != about["count"]:
        raise FileExistsError(
            f"{printable(folder)} holds {count} images, expected {about['count']}; delete the folder to draw it again"
        )
    return True


def draw_set(
    folder: str | Path,
    about: dict,
    draw: Callable[..., list[str]],
    jobs: list[tuple],
    description: str,
    workers: int | None = None,
    groups: dict[str, str] | None = None,
) -> Path:
    """Draw a set into a folder, unless it is there already.

    folder       relative to the project's root, or absolute
    about        what decides the images, "count" of them among it; kept in about.json
    draw         draw(folder, *job) writes the images of one job and returns their sha256; it runs in a worker
    description  of the progress bar
    workers      number of processes; None: one a core, at most 8
    groups       {file name: group}, kept in groups.csv

    Returns the folder's Path. Raises ValueError for wrong workers, FileExistsError if the folder holds anything
    else, OSError if it cannot be written.
    """
    workers = whole_number("workers", min(os.cpu_count() or 1, 8) if workers is None else workers, 1, 256)
    folder = ROOT / folder
    _remove_leftovers(folder)
    if is_complete(folder, about):
        return folder
    unfinished = folder.with_name(f".{folder.name}~{uuid.uuid4().hex}")
    try:
        with writing(folder):
            unfinished.mkdir(parents=True)
            digests = {}
            with tqdm(total=about["count"], desc=description, unit="image", file=sys.stdout) as bar:
                for job, digests[job] in _drawn(draw, str(unfinished), jobs, workers):
                    os.utime(unfinished)  # alive: see _remove_leftovers
                    bar.update(len(digests[job]))
            if groups:
                write_text(unfinished / "groups.csv", "file,group\n" + "".join(f"{a},{b}\n" for a, b in groups.items()))
            everything = "".join(digest for job in jobs for digest in digests[job])
            write_json(unfinished / "about.json", about | {"sha256": hashlib.sha256(everything.encode()).hexdigest()})
            _move(unfinished, folder, about)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def draw_numbered(
    folder: str | Path,
    draw: Callable[[np.random.Generator, int], np.ndarray],
    version: int,
    description: str,
    seed: int,
    count: int,
    size: int,
    workers: int | None,
) -> Path:
    """Draw images 00000.png, 00001.png ... into a folder by `draw_set`; each depends on its number and the seed alone.

    draw     draw(rng, size), a function of a module, returns uint8 [size, size, 3]
    version  of what is drawn; kept in about.json
    count    of images; size: their side in pixels, 16 to 512. The others as for `draw_set`; returns the folder's Path
    """
    seed, size = whole_number("seed", seed, 0, 2**63), whole_number("size", size, 16, TILE)
    count = whole_number("count", count, 1, 100_000)
    about = dict(seed=seed, version=version, size=size, count=count)
    jobs = [(draw, index, seed, size) for index in range(count)]
    return draw_set(folder, about, _draw_file, jobs, description, workers)


def _draw_file(folder: str, draw: Callable, index: int, seed: int, size: int) -> list[str]:
    """Draw and save one image; returns the sha256 of its pixels. Runs in a worker."""
    image = draw(np.random.default_rng([seed, index]), size)
    return [save_png(image, Path(folder) / f"{index:05d}.png")]


def _move(unfinished: Path, folder: Path, about: dict) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()  # where it is empty
    try:
        unfinished.rename(folder)
    except OSError:  # another process was faster: its set is the same, byte for byte
        if not is_complete(folder, about):
            raise


def _drawn(draw: Callable[..., list[str]], folder: str, jobs: list[tuple], workers: int) -> Iterator[tuple]:
    """(job, its digests) as the jobs are done."""
    if workers == 1:
        for job in jobs:
            yield job, draw(folder, *job)
        return
    # spawn works alike on Linux, macOS and Windows, and beside torch's threads
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)
    try:
        futures = {pool.submit(draw, folder, *job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise ChildProcessError(
            'a drawing process died, expected make() in a notebook or under `if __name__ == "__main__":`; try workers=1'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left beside the folder; a living one touches its own after every job."""
    for leftover in folder.parent.glob(f".{folder.name}~*"):
        with contextlib.suppress(FileNotFoundError):  # renamed by its process meanwhile
            if time.time() - leftover.stat().st_mtime > 60:
                shutil.rmtree(leftover, ignore_errors=True)
