"""Image folders as one uint8 tensor, and the split into training and held-out images by group."""

import hashlib
import numbers
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.files import ROOT, described, find_folder, whole_number
from src.files.decoding import digest, read_folder

CACHE = ROOT / "data" / ".cache"


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """N images of one size, with what is known about each.

    store: uint8 [M, C, H, W], shared by all sets selected from it. names: posix paths relative to the folder. labels:
    class folder, "" in a flat folder. groups: what must not be split between training and held-out images (a person, a
    scene). digests: hash of each image's shape and pixels. rows: int64 [N], rows of the store; None for all.
    """

    store: Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    digests: tuple[str, ...]
    rows: np.ndarray | None = None

    @classmethod
    def from_pixels(cls, pixels: Tensor, names=None, labels=None, groups=None) -> "ImageSet":
        """A set of uint8 [N, C, H, W]; names default to "0", "1" ..., groups to names. ValueError for any other."""
        if not torch.is_tensor(pixels) or pixels.dtype != torch.uint8 or pixels.ndim != 4 or 0 in pixels.shape[1:]:
            raise ValueError(f"pixels must be uint8 [N, C, H, W], got {described(pixels)}; (x * 255).round().byte()")
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
        floats = torch.is_tensor(images) and images.is_floating_point() and images.ndim == 4
        if not floats or not ((images >= 0) & (images <= 1)).all():  # also for NaN
            expected = "images must be an ImageSet (see load_images) or float [N, C, H, W] in [0, 1]"
            raise ValueError(f"{expected}, got {described(images)}; 8-bit values become that by / 255")
        return cls.from_pixels((images * 255).round().to(torch.uint8))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        counts = f"{len(set(self.labels))} labels, {len(set(self.groups))} groups"
        return f"ImageSet({len(self)} images {'x'.join(map(str, self.shape[1:]))}, {counts})"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), *self.store.shape[1:])  # (N, C, H, W)

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
        """At most `count` images, spread evenly over the labels, in the order of this set.

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


def load_images(folder: str | Path, size: int | None = None, channels: int = 3, cache: Path = CACHE) -> ImageSet:
    """Read `<class>/*` or a flat folder of png, jpg, jpeg, webp, bmp, tif and tiff files.

    A groups.csv (header file,group) in the folder gives the groups, without one each file is its own. The order is the
    natural one (2 before 10). size: pixels; the central square is cut out and resized to it (Lanczos). None keeps the
    files' one size. channels: 3 (RGB) or 1 (grey, ITU-R 601 luma). Transparency is composited over white, orientation
    is applied, deep grey is scaled to 8 bits, the first image of several in a file is read. cache: folder of decoded
    pixels, mapped, so a set need not fit into memory. Raises OSError or ValueError of one line.
    """
    pixels, names, groups, digests = read_folder(find_folder(folder), size, channels, Path(cache))
    labels = tuple(name.rpartition("/")[0] for name in names)
    return ImageSet(torch.from_numpy(pixels), names, labels, groups, digests)


def split_images(images: ImageSet, held_out: float = 0.2, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """(train, held_out) with no group on both sides and neither side empty; both keep the order of `images`.

    The groups are sorted by the sha256 of "seed/group". In this order a group is held out if that brings the number of
    held-out images nearer to held_out * N. If every group has a single label, the split is stratified by label: each
    label with two or more groups is on both sides. held_out: in (0, 1). ValueError for another, or a single group.
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
    chosen, target = [], 0.0
    for _, groups in sorted(strata.items()):
        target += held_out * sum(map(len, groups))  # with what rounding left
        taken = _nearest(groups, target) if len(groups) > 1 else []
        target -= sum(map(len, taken))
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
