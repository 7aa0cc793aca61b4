"""Image folders as one uint8 tensor, and the train / held-out split by group.

    images = load_images("data/finger_numbers", size=128)
    train_images, held_out = split_images(images, held_out=0.2, seed=0)

The two data sets of the notebooks, made from the command line:

    python -m src.data finger_numbers
    python -m src.data sign_digits [--from FILE_OR_FOLDER_OR_URL] [--to DIR]

and what the shipped denoiser was trained on:

    python -m src.data drawn_photos
"""

import argparse
import hashlib
import json
import numbers
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import PIL
import torch

from src.image_files import decode_all, digest, list_images, read_cache, read_groups, shown, write_cache

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "data" / ".cache"
MAX_SIZE = 1 << 14  # of `size=`, in pixels: 800 MB an image


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """N images of one size, with what is known about each.

    store: torch.uint8 [M, C, H, W] in 0..255, shared by all the sets selected from it; a mapped
        file when it is large, so a set need not fit into memory.
    names: posix paths relative to the folder. labels: class folder, "" in a flat folder.
    groups: what must not be split between train and held out (a person, a scene).
    digests: 16 hex digits of the sha256 of each image's shape and pixels.
    rows: numpy int64 [N], which rows of the store are in this set; None for all, in order.
    """

    store: torch.Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    digests: tuple[str, ...]
    rows: np.ndarray | None = None

    @classmethod
    def from_pixels(cls, pixels, names=None, labels=None, groups=None):
        """A set of a uint8 tensor [N, C, H, W]; names default to "0", "1" ..., groups to names."""
        if not torch.is_tensor(pixels) or pixels.dtype != torch.uint8 or pixels.ndim != 4:
            got = f"{pixels.dtype} {list(pixels.shape)}" if torch.is_tensor(pixels) else type(pixels).__name__
            raise ValueError(
                f"pixels must be a torch.uint8 tensor [N, C, H, W], got {got}; "
                "floats in [0, 1] become one with (x * 255).round().byte()"
            )
        if 0 in pixels.shape[1:]:
            raise ValueError(f"images must hold pixels, got the shape {list(pixels.shape)}; drop the empty ones")
        names = tuple(names) if names is not None else tuple(map(str, range(len(pixels))))
        labels = tuple(labels) if labels is not None else ("",) * len(names)
        groups = tuple(groups) if groups is not None else names
        for field, given in dict(names=names, labels=labels, groups=groups).items():
            if len(given) != len(pixels):
                raise ValueError(f"{field} must be one for each of {len(pixels)} images, got {len(given)}; mend it")
        return cls(pixels, names, labels, groups, tuple(digest(image.numpy()) for image in pixels))

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        size = "x".join(map(str, self.shape[1:]))
        counts = f"{len(set(self.labels))} labels, {len(set(self.groups))} groups"
        return f"ImageSet({len(self)} images {size}, {counts})"

    @property
    def shape(self):
        """(N, C, H, W)"""
        return (len(self), *self.store.shape[1:])

    @property
    def pixels(self):
        """All images, torch.uint8 [N, C, H, W]: the store itself for a whole set, else a copy.

        images[[3, 1]].pixels reads these two alone, so a mapped set need not fit into memory.
        """
        return self.store if self.rows is None else self.store[torch.from_numpy(self.rows)]

    @property
    def digest(self):
        """sha256 over the digests of the images in their order: the data hash of a run."""
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()

    def __getitem__(self, indices):
        """The set of the images at these positions (ints, tensor, slice); copies no pixels."""
        chosen = self._positions(indices)
        fields = (self.names, self.labels, self.groups, self.digests)
        picked = (tuple(field[i] for i in chosen.tolist()) for field in fields)
        rows = chosen if self.rows is None else self.rows[chosen]
        return ImageSet(self.store, *picked, rows=rows)

    def sample(self, count, seed=0):
        """At most `count` images, as many of each label as there are, in the order of this set.

        Within a label the images are ranked by the sha256 of "seed/name", so the choice depends
        on neither their order nor any random state. Raises ValueError for a count below 1.
        """
        if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 1:
            raise ValueError(f"count must be a whole number, at least 1, got {count!r}; a data set needs images")
        ranks, ranked = {}, []
        for i in sorted(range(len(self)), key=lambda i: _rank(seed, self.names[i])):
            rank = ranks[self.labels[i]] = ranks.get(self.labels[i], 0) + 1
            ranked.append((rank, len(ranked), i))
        return self[sorted(i for *_, i in sorted(ranked)[:count])]

    def _positions(self, indices):
        """Any index numpy takes as int64 positions [B] in this set; IndexError outside."""
        if not isinstance(indices, slice):
            indices = np.atleast_1d(np.asarray(indices))
            indices = indices if indices.size else indices.astype(np.int64)  # [] would be float
        return np.arange(len(self))[indices].copy()


def _rank(seed, name):
    """Sorts names at random: the sha256 of "seed/name". (Not every file name is UTF-8.)"""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest()


def _as_path(argument, value, example):
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{argument} must be a path, got {value!r}; try {argument}={str(example)!r}")
    return Path(os.path.expanduser(value))  # Path.expanduser would raise for an unknown ~user


def find_folder(folder):
    """`folder` as a Path: a relative one is taken from the working directory if it exists there,
    else from the project's root, so that notebooks/ and the root say the same "data/..."."""
    folder = _as_path("folder", folder, "data/finger_numbers")
    return folder if os.path.exists(folder) else ROOT / folder


def load_images(folder, size=None, channels=3, limit_bytes=1 << 30, cache=CACHE):
    """Read `<class>/*` or a flat folder of png, jpg, jpeg, webp, bmp, tif and tiff files.

    Only one level of class folders is read, and hidden files are not; images both at the top and
    in class folders are an error, as their labels would be a guess. The order is the natural one
    (2 before 10) of the class, then of the file. EXIF orientation is applied, transparency is
    composited over white, 16-bit grey is scaled by 255/65535; of an animation or of several pages
    the first picture is read. The decoded pixels are kept, one entry per (folder, size, channels),
    until a file is added, removed or changed.

    folder: str or Path, see `find_folder`; a groups.csv in it (header `file,group`) gives the
        groups, without one each file is its own.
    size: pixels; the central square is cut out and resized to it (Lanczos, antialiased). None
        keeps the files' own size, which must then be one and the same.
    channels: 3 (RGB) or 1 (grey, ITU-R 601 luma).
    limit_bytes: a set of more bytes than this, N*C*H*W, stays on disk as a mapped file.
    cache: folder for the decoded pixels; one that cannot be written is no error, only slower.
    Returns an ImageSet. Raises FileNotFoundError, NotADirectoryError, PermissionError or
    ValueError, each a line that names the file or value and the fix.
    """
    whole = isinstance(size, numbers.Integral) and not isinstance(size, bool)
    if size is not None and not (whole and 1 <= size <= MAX_SIZE):
        raise ValueError(f"size must be a whole number of pixels from 1 to {MAX_SIZE}, got {size!r}; try size=128")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels!r}; try channels=3")
    if not isinstance(limit_bytes, numbers.Real) or not limit_bytes >= 0:
        raise ValueError(f"limit_bytes must be a number >= 0, got {limit_bytes!r}; try limit_bytes=1 << 30")
    cache = _as_path("cache", cache, CACHE)
    size, channels = size if size is None else int(size), int(channels)
    folder = find_folder(folder)
    files = list_images(folder)  # [[name, bytes, mtime_ns], ...]
    names = tuple(name for name, *_ in files)
    groups = read_groups(folder / "groups.csv", names)
    place = [str(folder.resolve()), size, channels]
    stamp = {"place": place, "files": files, "pillow": PIL.__version__}  # decoders differ
    entry = cache / hashlib.sha256(json.dumps(place).encode()).hexdigest()[:16]
    found = read_cache(entry, stamp, limit_bytes)
    if found is None:
        pixels, digests = decode_all(folder, names, size, channels, limit_bytes, cache)
        write_cache(entry, stamp, pixels, digests)
        # Writing into a mapped file would change the cache, so it is opened again copy-on-write.
        found = isinstance(pixels, np.memmap) and read_cache(entry, stamp, limit_bytes)
        found = found or (pixels, digests)
    pixels, digests = found
    labels = tuple(name.rpartition("/")[0] for name in names)
    return ImageSet(torch.from_numpy(pixels), names, labels, groups, tuple(digests))


def split_images(images, held_out=0.2, seed=0):
    """(train, held_out) ImageSets with no group on both sides and neither side empty.

    The groups are ranked by sha256 of "seed/group", so the split depends on neither the order of
    the files nor any random state. Down the ranks a group is held out if that brings the number
    of held-out images nearer to held_out * N. Where every group lies within one label this is
    done label by label and each label of two or more groups is on both sides, even if the share
    then suffers; a label of one group is trained on. Both sides keep the order of `images`.

    held_out: share in (0, 1). seed: int. Raises ValueError on another share or a single group.
    """
    if not isinstance(images, ImageSet):
        raise ValueError(f"images must be an ImageSet, got {type(images).__name__}; load_images(folder) gives one")
    number = isinstance(held_out, numbers.Real)
    if not number or not 0 < held_out < 1:
        hint = f"did you mean {held_out / 100:g}?" if number and 1 < held_out < 100 else "try 0.2"
        raise ValueError(f"held_out must be a share between 0 and 1, got {held_out!r}; {hint}")
    members, labels_of = {}, {}
    for i, (group, label) in enumerate(zip(images.groups, images.labels, strict=True)):
        members.setdefault(group, []).append(i)
        labels_of.setdefault(group, set()).add(label)
    if len(members) < 2:
        raise ValueError(
            f"a split needs two or more groups, got {len(members)} ({len(images)} images); add "
            "images of another group, or check groups.csv"
        )
    by_label = all(len(labels) == 1 for labels in labels_of.values())
    by_label = by_label and len(members) > len(set(images.labels))  # else no label has two groups
    strata = {}
    for group in sorted(members, key=lambda g: _rank(seed, g)):
        strata.setdefault(min(labels_of[group]) if by_label else "", []).append(group)
    chosen, owed = [], 0.0
    for _, ranked in sorted(strata.items()):
        owed += held_out * sum(len(members[group]) for group in ranked)  # with what rounding left
        if len(ranked) > 1:
            taken = _take([len(members[group]) for group in ranked], owed)
            owed -= sum(len(members[ranked[k]]) for k in taken)
            chosen += [i for k in taken for i in members[ranked[k]]]
    train = np.setdiff1d(np.arange(len(images)), chosen)
    return images[train], images[sorted(chosen)]


def _take(sizes, target):
    """Positions of some sizes, not none and not all, that add up to about target, in order."""
    taken, total = [], 0
    for k, size in enumerate(sizes):
        if abs(total + size - target) < abs(total - target) and len(taken) < len(sizes) - 1:
            taken.append(k)
            total += size
    return taken or [sizes.index(min(sizes))]


def main(argv=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.data", description="Make a data set.")
    commands = parser.add_subparsers(dest="name", required=True)
    commands.add_parser("finger_numbers", help="draw the 300 default pictures (offline)")
    commands.add_parser("drawn_photos", help="draw the 2,000 pictures the shipped denoiser was trained on (offline)")
    digits = commands.add_parser("sign_digits", help="download 2,060 photos of hands")
    digits.add_argument("--from", dest="source", help="a zip, a folder or a URL instead")
    digits.add_argument("--to", help="target folder (default: data/sign_digits)")
    args = parser.parse_args(argv)
    try:
        if args.name != "sign_digits":
            print(import_module(f"src.{args.name}").make())
        else:
            from src.datasets.sign_digits import DEFAULT_URL, fetch

            target = Path.cwd() / args.to if args.to else ROOT / "data" / "sign_digits"
            fetch(DEFAULT_URL if args.source is None else args.source, target)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
