"""A folder of pictures drawn by code, by several processes, whole or not at all: what the drawn data sets share."""

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
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from src.image_files import writing


def check(**arguments):
    """ValueError unless each argument, given as (value, low, high), is a whole number in its range."""
    for name, (value, low, high) in arguments.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}; try {name}={low}")


def save(image, path):
    """Write uint8 [H, W, 3] as a PNG; returns the sha256 of its pixels."""
    path.parent.mkdir(exist_ok=True)
    # compress_type=2 (Huffman codes only): no search for matches, which differs between zlib builds.
    Image.fromarray(image).save(path, compress_type=2)
    return hashlib.sha256(image.tobytes()).hexdigest()


def start_worker():
    """Leave Ctrl-C to the parent, and end with it: a pool's worker would outlive a parent that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def is_there(folder, wanted):
    """True for a complete set as wanted, False for none; FileExistsError for anything else."""
    try:
        about = dict(json.loads((folder / "about.json").read_text()))
    except (OSError, ValueError, TypeError):
        about = {}
    if all(about.get(key) == value for key, value in wanted.items()):
        count = sum(1 for _ in folder.rglob("*.png"))
        if count != wanted["count"]:
            raise FileExistsError(
                f"{folder} holds {count} pictures, expected the {wanted['count']} of its about.json; "
                "delete the folder to draw it again"
            )
        return True
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if not folder.exists():
        return False
    found = {key: about.get(key) for key in wanted} if about else "no readable about.json"
    raise FileExistsError(
        f"{folder} holds another set: found {found}, expected {wanted}; "
        f"delete the folder to draw it again, or pass another folder="
    )


def draw_set(folder, wanted, draw, jobs, doing, workers=None, groups=()):
    """Draw a set into a folder, unless it is there already; all or nothing.

    Args: folder, relative to the project's root or absolute; wanted, what makes this set this one, `count` of
    its pictures among it; draw, called as draw(folder, *job) in a worker for each of the jobs, returns the sha256
    of its pictures; doing, of the progress bar; workers, processes (None: one a core, at most 8); groups,
    (file, group) of each picture.
    Returns: the folder's Path, with about.json (wanted, sha256 of the pictures' sha256) and groups.csv if any.
    Raises: ValueError for wrong workers, FileExistsError if the folder holds anything else, OSError if it
    cannot be written.
    """
    check(workers=(1 if workers is None else workers, 1, 256))
    folder = Path(__file__).resolve().parents[1] / folder
    for leftover in folder.parent.glob(f".{folder.name}~*"):
        # A run that was killed left it, for a living one touches its folder after every scene.
        with contextlib.suppress(FileNotFoundError):  # renamed by its run meanwhile
            if time.time() - leftover.stat().st_mtime > 60:
                shutil.rmtree(leftover, ignore_errors=True)
    if is_there(folder, wanted):
        return folder
    # All pictures go into a sibling folder that is renamed at the end: a set is whole or absent.
    unfinished = folder.with_name(f".{folder.name}~{uuid.uuid4().hex}")
    try:
        unfinished.mkdir(parents=True)
        digests = {}
        with tqdm(total=wanted["count"], desc=doing, unit="picture", file=sys.stdout) as bar:

            def done(job, result):
                digests[job] = result
                os.utime(unfinished)
                bar.update(len(result))

            if workers == 1:
                for job in jobs:
                    done(job, draw(str(unfinished), *job))
            else:  # spawn works alike on Linux, macOS and Windows, and beside torch's threads
                pool = ProcessPoolExecutor(
                    workers or min(os.cpu_count() or 1, 8), multiprocessing.get_context("spawn"), start_worker
                )
                try:
                    futures = {pool.submit(draw, str(unfinished), *job): job for job in jobs}
                    for future in as_completed(futures):
                        done(futures[future], future.result())
                finally:
                    pool.shutdown(cancel_futures=True)
        if groups:
            rows = ["file,group"] + [",".join(row) for row in groups]
            (unfinished / "groups.csv").write_text("\n".join(rows) + "\n", newline="\n")
        everything = "".join(digest for job in jobs for digest in digests[job])
        about = dict(wanted, sha256=hashlib.sha256(everything.encode()).hexdigest())
        (unfinished / "about.json").write_text(json.dumps(about, indent=1) + "\n", newline="\n")
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster: its set is the same, byte for byte
            if not is_there(folder, wanted):
                raise
    except BrokenProcessPool:
        raise RuntimeError(
            "a drawing process died: expected make() to be called from a notebook or under "
            '`if __name__ == "__main__":`; or pass workers=1'
        ) from None
    except OSError as error:
        with writing(folder):
            raise error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
