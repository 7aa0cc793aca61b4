"""Endless images to train a finder on: cut-outs of objects and of other things before drawn photos, rooms, walls, text.

    pairs = HandMix(backgrounds, load_parts("data/hand_parts", 0, 2000), seed=0)
    noisy, target = pairs.batch([0, 1])     # float32 [2, 3, 128, 128] and [2, 2, 128, 128]

Every epoch puts them together anew, in other sizes, places, colours and lights.
"""

import hashlib
import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from src.datasets import LUMA
from src.datasets.grey_and_shrink import photo_sharpness, vivid_colours
from src.datasets.hand_scenes import developed, plain_wall
from src.datasets.hands import TONES

SIDE = 128  # longer side at which the finder sees an image, in pixels; sizes of objects are relative to it
SMALLEST = 24  # pixels of a mask that make an object
LARGEST_SIGMA = 55 / 255


class HandMix:
    """Pairs for `fit`: noisy, float32 [B, 3, size, size]; mask and presence, float32 [B, 2, size, size], 0 or 1.

    backgrounds  uint8 [N, H, W, 3], H = W >= SIDE
    parts        see hand_parts.py: "hands" are the objects to find, "things" what may be beside or instead of them
                 "scenes", if any, uint8 [N, SIDE, SIDE, 4], whole images with their masks, are every second image
    count        pairs an epoch
    fixed        True: the same pairs at every epoch, for evaluation
    empty        fraction of the images without an object
    hard         keys of images (see `without`) that the finder fell for: a quarter of those without an object
    size         side of the images in pixels; smaller ones show a part of what the finder sees, and train faster
    sides        sides to one of which each batch is shrunk, as the finder sees an image at several; () for none
    as_photos    True: hands are stretched, half of the images go through JPEG, half through one camera instead of two,
                 a fifth is noisy instead of two fifths
    clutter      True: backgrounds are put together from several drawn photos, half of them with the sharpness and
                 colours of photos, and more things lie about

    Everything random about a pair is a function of (seed, epoch, index) alone.
    """

    def __init__(
        self,
        backgrounds,
        parts,
        seed=0,
        count=2000,
        fixed=False,
        empty=0.4,
        hard=(),
        size=SIDE,
        sides=(),
        as_photos=False,
        clutter=False,
    ):
        self.backgrounds, self.parts = backgrounds, parts
        self.seed, self.count, self.fixed, self.empty, self.hard = seed, count, fixed, empty, [int(h) for h in hard]
        self.size, self.epoch, self.crop_size, self.shape = size, 0, None, (3, size, size)
        self.sides, self.as_photos, self.clutter = [int(side) for side in sides], as_photos, clutter
        hashed = hashlib.sha256()
        for pixels in (backgrounds, *(parts[kind] for kind in sorted(parts))):
            hashed.update(np.ascontiguousarray(pixels).tobytes())
        self.digest = hashed.hexdigest()

    @property
    def config(self) -> dict:
        result = dict(
            images=self.digest, count=self.count, seed=self.seed, fixed=self.fixed, empty=self.empty, hard=self.hard,
            size=self.size,
        )  # fmt: skip
        chosen = dict(sides=self.sides, as_photos=self.as_photos, clutter=self.clutter)
        return result | {name: value for name, value in chosen.items() if value}  # no new word for earlier runs

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        pairs = [self.pair(index) for index in indices]
        noisy, target = (torch.from_numpy(np.stack(part)) for part in zip(*pairs))
        if not self.sides:
            return noisy, target
        rng = np.random.default_rng([self.seed, 0 if self.fixed else 1 + self.epoch, indices[0], 1])
        return shrunk(noisy, target, self.sides[int(rng.integers(len(self.sides)))])

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, 0 if self.fixed else 1 + self.epoch, index])
        objects = 0 if rng.random() < self.empty else 1 + int(rng.random() < 0.15)
        if "scenes" in self.parts and rng.random() < 0.5:
            scene = self.parts["scenes"][int(rng.integers(len(self.parts["scenes"])))]
            top, left = (int(x) for x in rng.integers(SIDE - self.size + 1, size=2))
            scene = scene[top : top + self.size, left : left + self.size]
            image, mask = scene[..., :3].astype(np.float32), (scene[..., 3] > 127).astype(np.float32)
        elif self.hard and not objects and rng.random() < 0.25:
            image, mask = self.without(self.hard[int(rng.integers(len(self.hard)))])
        else:
            image, mask = self.compose(rng, objects)
        image = (image if self.as_photos and rng.random() < 0.5 else developed(image, rng)).astype(np.float32) / 255
        if self.as_photos and rng.random() < 0.5:
            image = through_jpeg(image, int(rng.integers(30, 96)))
        symmetry = int(rng.integers(8)) if rng.random() < 0.5 else int(rng.integers(2))
        image, mask = turned(image, symmetry), turned(mask, symmetry)
        sigma = LARGEST_SIGMA * rng.random() if rng.random() < (0.2 if self.as_photos else 0.4) else 0.0
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
        present = mask.sum() >= SMALLEST
        target = np.stack([mask, np.full_like(mask, present)]).astype(np.float32)
        return np.ascontiguousarray((image + noise).transpose(2, 0, 1)), target

    def without(self, key: int) -> tuple[np.ndarray, np.ndarray]:
        """Image `key` of an endless row without an object: where hard negatives are looked for."""
        return self.compose(np.random.default_rng([self.seed, 0, key, 1]), 0)

    def compose(self, rng: np.random.Generator, objects: int) -> tuple[np.ndarray, np.ndarray]:
        """Image float32 [size, size, 3], 0..255, and mask [size, size], 0 or 1."""
        image, mask = self.background(rng), np.zeros((self.size, self.size), np.float32)
        things = int(rng.choice(4, p=(0.35, 0.35, 0.2, 0.1) if objects else (0.2, 0.4, 0.25, 0.15)))
        if self.clutter and rng.random() < 0.5:
            things += int(rng.integers(4))
        for kind in rng.permutation(["hands"] * objects + ["things"] * things):
            self.paste(image, mask, rng, str(kind))
        return image, (mask > 0.5).astype(np.float32)

    def background(self, rng: np.random.Generator) -> np.ndarray:
        kind = rng.random()
        if kind < 0.2:
            return plain_wall(rng, self.size).astype(np.float32)
        image = self.cut(rng, "rooms" if kind < 0.32 else "pages" if kind < 0.38 else None)
        if self.clutter and rng.random() < 0.7:
            image = self.cluttered(rng, image)
        return in_skin_colours(image, rng) if rng.random() < 0.15 else image

    def cut(self, rng: np.random.Generator, kind: str | None = None) -> np.ndarray:
        """A random square of one of the backgrounds, or of the parts of a kind, float32 [size, size, 3]."""
        pixels = self.parts[kind] if kind else self.backgrounds
        image = pixels[int(rng.integers(len(pixels)))]
        side = int(rng.integers(self.size, len(image) + 1))
        top, left = (int(x) for x in rng.integers(len(image) - side + 1, size=2))
        square = Image.fromarray(image[top : top + side, left : left + side])
        return np.asarray(square.resize((self.size, self.size), Image.BILINEAR)).astype(np.float32)

    def cluttered(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        """The image with regions of other backgrounds: recoloured, striped, at half the size, in other textures."""
        for _ in range(1 + int(rng.integers(3))):
            other = developed(self.cut(rng), rng).astype(np.float32)
            other = halved(other) if rng.random() < 0.4 else other
            other = other_texture(other, rng) if rng.random() < 0.3 else other
            other = striped(other, rng) if rng.random() < 0.2 else other
            other = in_skin_colours(other, rng) if rng.random() < 0.2 else other
            image = image + soft_region(rng, self.size)[..., None] * (other - image)
        if rng.random() < 0.5:
            x = torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(255))
            x = vivid_colours(photo_sharpness(x), torch.from_numpy(rng.random((1, 5), np.float32)))
            image = 255 * x[0].permute(1, 2, 0).numpy()
        return image

    def paste(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, kind: str) -> None:
        """Lay one cut-out over image and mask, in place."""
        parts, hand, size = self.parts[kind], kind == "hands", self.size
        part = parts[int(rng.integers(len(parts)))]
        part = part[:, ::-1] if rng.random() < 0.5 else part
        if hand and self.as_photos:
            part = stretched(part, rng.uniform(0.7, 1.0), rng.random() < 0.7)
        low, high = (np.log(0.2), np.log(1.25 if hand else 1.6))
        side = round(SIDE * float(np.exp(rng.uniform(low, high)) if rng.random() < 0.6 else rng.uniform(0.5, 1.1)))
        beyond = 0.2 if hand else 0.4
        left, top = (int(rng.uniform(-beyond * side, size - (1 - beyond) * side)) for _ in range(2))
        if hand and rng.random() < 0.7:  # arms come from the edge
            top = size - side + int(side * 0.2 * rng.random() ** 2)
        front, cover, skin = self.resized(part, side, rng)
        whole = np.s_[max(0, top) : min(size, top + side), max(0, left) : min(size, left + side)]
        own = np.s_[whole[0].start - top : whole[0].stop - top, whole[1].start - left : whole[1].stop - left]
        if rng.random() < 0.5:  # its shadow
            shadow = np.zeros((self.size, self.size), np.float32)
            shadow[whole] = cover[own]
            shadow = ndimage.uniform_filter(shadow, 1 + side * rng.uniform(0.02, 0.15))
            shadow = np.roll(shadow, rng.integers(-side // 12, side // 12 + 1, 2), (0, 1))
            image *= (1 - np.float32(rng.uniform(0, 0.6)) * shadow)[..., None]
        alpha = cover[own]
        image[whole] += alpha[..., None] * (front[own] - image[whole])
        mask[whole] += alpha * (-mask[whole])
        mask[whole] += skin[own]

    def resized(self, part: np.ndarray, side: int, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colour [side, side, 3] in another light and camera, cover and skin [side, side] in [0, 1]."""
        cover = part[..., 3].astype(np.float32) / 255
        colour = (part[..., :3] * cover[..., None] + 0.5).astype(np.uint8)  # multiplied, so that edges stay clean
        colour, cover, skin = (
            np.asarray(Image.fromarray(np.ascontiguousarray(x)).resize((side, side), Image.BILINEAR)).astype(np.float32)
            for x in (colour, part[..., 3], part[..., 4])
        )
        cover, skin = cover / 255, skin / 255
        colour = colour / np.maximum(cover, 1 / 255)[..., None]
        if rng.random() < 0.5:  # lit from one side
            y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
            slope = rng.uniform(-0.5, 0.5, 2)
            colour = colour * np.clip(1 + slope[0] * x + slope[1] * y, 0.2, 1.6)[..., None].astype(np.float32)
        return developed(colour, rng).astype(np.float32), cover, skin


def shrunk(noisy: Tensor, target: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The pairs at [B, C, side, side]; a mask of fewer than SMALLEST pixels is none, nor is its object present."""
    if side == noisy.shape[3]:
        return noisy, target
    noisy = F.interpolate(noisy, (side, side), mode="bilinear", antialias=True)
    mask = (F.interpolate(target[:, :1], (side, side), mode="bilinear", antialias=True) > 0.5).float()
    present = (mask.sum(dim=(2, 3), keepdim=True) >= SMALLEST).float()
    return noisy, torch.cat([mask * present, present.expand_as(mask)], dim=1)


def in_skin_colours(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float [H, W, 3], 0..255: four fifths of its colour replaced by that of some skin."""
    tone = np.array(TONES[int(rng.integers(len(TONES)))], np.float32)
    return (image @ LUMA)[..., None] * (tone / (tone @ LUMA)) * 0.8 + 0.2 * image


def soft_region(rng: np.random.Generator, side: int) -> np.ndarray:
    """float32 [side, side] in [0, 1]: 1 in blobs of any size that cover a fifth to four fifths, with soft outlines."""
    field = ndimage.gaussian_filter(rng.standard_normal((side, side), np.float32), side * rng.uniform(0.04, 0.25))
    level, slope = np.quantile(field, rng.uniform(0.2, 0.8)), rng.uniform(3, 40) / field.std()
    return (1 / (1 + np.exp(np.clip(slope * (level - field), -30, 30)))).astype(np.float32)


def other_texture(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 [H, W, 3] through a random 3x3 convolution that keeps mean and spread (RandConv, Xu et al. 2021)."""
    x = torch.from_numpy(image.transpose(2, 0, 1)[None])
    kernel = torch.from_numpy(rng.standard_normal((3, 3, 3, 3), np.float32))
    result = F.conv2d(F.pad(x - x.mean(), (1, 1, 1, 1), mode="replicate"), kernel)
    result = x.mean() + (result - result.mean()) * (x.std() / result.std().clamp(min=1e-6))
    return image + np.float32(rng.random()) * (result[0].permute(1, 2, 0).numpy() - image)


def striped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 [H, W, 3] with bent stripes 4 to 30 pixels apart, darker or lighter: fences, windows, fur."""
    y, x = np.mgrid[: len(image), : len(image)].astype(np.float32)
    bend = ndimage.gaussian_filter(rng.standard_normal(y.shape, np.float32), len(image) * 0.1)
    angle, apart = rng.uniform(0, np.pi), float(np.exp(rng.uniform(np.log(4), np.log(30))))
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / apart) + bend / bend.std() * rng.uniform(0, 3))
    stripes = np.clip(wave * rng.uniform(1, 8), -1, 1) * rng.uniform(0.1, 0.7)
    return (image * (1 + stripes[..., None])).astype(np.float32)


def halved(image: np.ndarray) -> np.ndarray:
    """float [H, H, C] at half the size, four times: mirrored at both middles."""
    small = np.asarray(F.avg_pool2d(torch.from_numpy(image.transpose(2, 0, 1)), 2, ceil_mode=True)).transpose(1, 2, 0)
    rows = np.concatenate([small, small[::-1]])
    return np.concatenate([rows, rows[:, ::-1]], axis=1)[: len(image), : len(image)]


def stretched(part: np.ndarray, ratio: float, narrow: bool) -> np.ndarray:
    """A cut-out [side, side, C] narrowed by the ratio about its middle, or lowered towards its lower edge."""
    side = len(part)
    size = (max(1, round(side * ratio)), side) if narrow else (side, max(1, round(side * ratio)))
    small = [Image.fromarray(np.ascontiguousarray(part[..., c])).resize(size, Image.BILINEAR) for c in range(5)]
    result, small = np.zeros_like(part), np.stack(small, axis=2)
    left = (side - size[0]) // 2
    result[side - size[1] :, left : left + size[0]] = small
    return result


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """float32 [H, W, 3] in [0, 1], saved as JPEG of a quality of 1..95 and read again."""
    file = io.BytesIO()
    Image.fromarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(np.float32) / 255


def turned(image: np.ndarray, symmetry: int) -> np.ndarray:
    """One of the eight flips and quarter turns of [H, H, ...]; 1 mirrors it."""
    image = image.swapaxes(0, 1) if symmetry & 4 else image
    return image[:: -1 if symmetry & 2 else 1, :: -1 if symmetry & 1 else 1]
