"""Image folders as one uint8 tensor, and the split into training and held-out images by group.

    images = load_images("data/finger_numbers", size=128)
    train_images, held_out = split_images(images, held_out=0.2, seed=0)

`python -m src.datasets` makes the data sets of the notebooks.
"""

import hashlib
import json
import numbers
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from src.files import ROOT, whole_number
from src.files.decoding import decode_into_cache, digest, list_images, read_cache, read_groups

CACHE = ROOT / "data" / ".cache"


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """N images of one size, with what is known about each.

    store: uint8 [M, C, H, W], shared by all sets selected from it; a mapped file when large. names: posix paths
    relative to the folder. labels: class folder, "" in a flat folder. groups: what must not be split between training
    and held-out images (a person, a scene). digests: 16 hex digits of the sha256 of each image's shape and pixels.
    rows: int64 [N], which rows of the store are in this set; None for all, in order.
    """

    store: Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    digests: tuple[str, ...]
    rows: np.ndarray | None = None

    @classmethod
    def from_pixels(cls, pixels: Tensor, names=None, labels=None, groups=None) -> "ImageSet":
        """A set of a uint8 tensor [N, C, H, W]; names default to "0", "1" ..., groups to names. ValueError otherwise."""
        if not torch.is_tensor(pixels) or pixels.dtype != torch.uint8 or pixels.ndim != 4 or 0 in pixels.shape[1:]:
            got = f"{pixels.dtype} {list(pixels.shape)}" if torch.is_tensor(pixels) else type(pixels).__name__
            raise ValueError(f"pixels must be torch.uint8 [N, C, H, W], got {got}; from floats: (x * 255).round().byte()")
        names = tuple(names) if names is not None else tuple(map(str, range(len(pixels))))
        labels = tuple(labels) if labels is not None else ("",) * len(names)
        groups = tuple(groups) if groups is not None else names
        for field, given in dict(names=names, labels=labels, groups=groups).items():
            if len(given) != len(pixels):
                raise ValueError(f"{field} must be one for each of {len(pixels)} images, got {len(given)}; correct it")
        return cls(pixels, names, labels, groups, tuple(digest(image.numpy()) for image in pixels))

    @classmethod
    def from_floats(cls, images: Tensor) -> "ImageSet":
        """A set of a float tensor [N, C, H, W] in [0, 1], rounded to 8 bits. ValueError for any other."""
        if not torch.is_tensor(images) or not images.is_floating_point() or images.ndim != 4:
            got = f"{images.dtype} {list(images.shape)}" if torch.is_tensor(images) else type(images).__name__
            raise ValueError(
                f"images must be an ImageSet or float [N, C, H, W] in [0, 1], got {got}; load_images(folder) gives an "
                "ImageSet, one image needs image[None]"
            )
        low, high = (float(edge) for edge in torch.aminmax(images)) if images.numel() else (0, 1)
        if not (low >= 0 and high <= 1):  # also for NaN
            raise ValueError(f"images must be in [0, 1], got {low:g} to {high:g}; did you mean images / 255?")
        return cls.from_pixels((images * 255).round().to(torch.uint8))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape[1:]))
        return f"ImageSet({len(self)} images {size}, {len(set(self.labels))} labels, {len(set(self.groups))} groups)"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)"""
        return (len(self), *self.store.shape[1:])

    @property
    def pixels(self) -> Tensor:
        """uint8 [N, C, H, W]: the store itself for a whole set, else a copy; images[[3, 1]].pixels reads two alone."""
        return self.store if self.rows is None else self.store[torch.from_numpy(self.rows)]

    def array(self, index: int) -> np.ndarray:
        """Image `index`, uint8 [C, H, W], without a copy."""
        return self.store.numpy()[index if self.rows is None else self.rows[index]]

    @property
    def digest(self) -> str:
        """sha256 over the digests of the images in their order: the data hash of a run."""
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()

    def __getitem__(self, indices) -> "ImageSet":
        """The set of the images at these positions (whole numbers, tensor, mask, slice); copies no pixels."""
        if not isinstance(indices, slice):
            indices = np.atleast_1d(np.asarray(indices))
            indices = indices if indices.size else indices.astype(np.int64)  # [] would be float
        chosen = np.arange(len(self))[indices].copy()
        fields = (self.names, self.labels, self.groups, self.digests)
        selected = (tuple(field[i] for i in chosen.tolist()) for field in fields)
        return ImageSet(self.store, *selected, rows=chosen if self.rows is None else self.rows[chosen])

    def sample(self, count: int, seed: int = 0) -> "ImageSet":
        """At most `count` images, as many of each label as there are, in the order of this set.

        Within a label they are ranked by the sha256 of "seed/name": neither their order nor a random state matters.
        """
        count, ranks, ranked = whole_number("count", count, 1), {}, []
        for i in sorted(range(len(self)), key=lambda i: _rank(seed, self.names[i])):
            rank = ranks[self.labels[i]] = ranks.get(self.labels[i], 0) + 1
            ranked.append((rank, len(ranked), i))
        return self[sorted(i for *_, i in sorted(ranked)[:count])]


def _rank(seed: int, name: str) -> bytes:
    """Sorts names at random: the sha256 of "seed/name". (Not every file name is UTF-8.)"""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest()


def find_folder(folder: str | Path) -> Path:
    """A relative folder is taken from the working directory if it exists there, else from the project's root."""
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise ValueError(f"folder must be a path, got {folder!r}; try folder='data/finger_numbers'")
    path = Path(os.path.expanduser(folder))
    return path if os.path.exists(path) else ROOT / path


def load_images(folder, size=None, channels=3, cache=CACHE) -> ImageSet:
    """Read `<class>/*` or a flat folder of png, jpg, jpeg, webp, bmp, tif and tiff files.

    folder: see `find_folder`; images both at its top and in class folders are an error. A groups.csv in it (header
    file,group) gives the groups, without one each file is its own. The order is the natural one (2 before 10).
    size: pixels; the central square is cut out and resized to it (Lanczos). None keeps the files' one size.
    channels: 3 (RGB) or 1 (grey, ITU-R 601 luma). Transparency is composited over white, orientation is applied,
    deep grey is scaled to 8 bits, the first image of several in a file is read.
    cache: folder that keeps decoded pixels until a file changes; they are mapped, so a set need not fit into memory.

    Returns an ImageSet. Raises OSError or ValueError, one line that names the file or value and the fix.
    """
    size = size if size is None else whole_number("size", size, 1, 1 << 14, "try size=128")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels!r}; try channels=3")
    folder = find_folder(folder)
    files = list_images(folder)
    names = tuple(name for name, *_ in files)
    groups = read_groups(folder / "groups.csv", names)
    place, stamp = ([str(folder.resolve()), size, int(channels)], [files, PIL.__version__])  # decoders differ
    keys = (hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16] for part in (place, stamp))
    entry = Path(cache) / "-".join(keys)
    found = read_cache(entry)
    if found is None:
        decoded = decode_into_cache(folder, names, size, int(channels), entry)
        found = read_cache(entry) or decoded  # mapped copy-on-write, where the cache could be written
    labels = tuple(name.rpartition("/")[0] for name in names)
    return ImageSet(torch.from_numpy(found[0]), names, labels, groups, tuple(found[1]))


def split_images(images: ImageSet, held_out: float = 0.2, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """(train, held_out) with no group on both sides and neither side empty; both keep the order of `images`.

    The groups are ranked by the sha256 of "seed/group". Down the ranks a group is held out if that brings the number
    of held-out images nearer to held_out * N. Where every group lies within one label this is done label by label and
    each label of two or more groups is on both sides; a label of one group is trained on.
    held_out: fraction in (0, 1). Raises ValueError for another fraction, or a single group.
    """
    if not isinstance(images, ImageSet):
        raise ValueError(f"images must be an ImageSet, got {type(images).__name__}; load_images(folder) gives one")
    if not isinstance(held_out, numbers.Real) or not 0 < held_out < 1:
        raise ValueError(f"held_out must be a fraction between 0 and 1, got {held_out!r}; 20 % is 0.2")
    members, labels_of = {}, {}
    for i, (group, label) in enumerate(zip(images.groups, images.labels, strict=True)):
        members.setdefault(group, []).append(i)
        labels_of.setdefault(group, set()).add(label)
    if len(members) < 2:
        raise ValueError(f"a split needs two or more groups, got {len(members)}; add images, or check groups.csv")
    by_label = all(len(labels) == 1 for labels in labels_of.values()) and len(members) > len(set(images.labels))
    strata = {}
    for group in sorted(members, key=lambda group: _rank(seed, group)):
        strata.setdefault(min(labels_of[group]) if by_label else "", []).append(members[group])
    chosen, owed = [], 0.0
    for _, groups in sorted(strata.items()):
        owed += held_out * sum(map(len, groups))  # with what rounding left
        taken = _nearest(groups, owed) if len(groups) > 1 else []
        owed -= sum(map(len, taken))
        chosen += [i for group in taken for i in group]
    train = np.setdiff1d(np.arange(len(images)), chosen)
    return images[train], images[sorted(chosen)]


def _nearest(groups: list[list[int]], target: float) -> list[list[int]]:
    """Some of the groups, not none and not all, whose sizes add up to about target, in order."""
    taken, total = [], 0
    for group in groups:
        if abs(total + len(group) - target) < abs(total - target) and len(taken) < len(groups) - 1:
            taken.append(group)
            total += len(group)
    return taken or [min(groups, key=len)]
