"""The two commands for photos in files and folders: `denoise` and `blur-out`.

python -m src.photos denoise noisy.jpg clean.png
python -m src.photos denoise photos/ cleaned/ --noise camera
python -m src.photos blur-out photos/ hidden/ --mask --json
python -m src.photos blur-out photos/ check/ --dry-run
python -m src.photos blur-out photos/ hidden/ --from check/found.json
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from src.files import exit_code, number, printable, say, write_json
from src.networks.noise_level import estimate_sigma
from src.photos import exif
from src.photos.contact_sheet import listed, page, read_found, write_pages
from src.photos.denoiser import CAMERA, SHIPPED, TILE, as_float, denoise, level_of_iso, load_denoiser
from src.photos.folders import Check, each, loaded_ahead, pair_up
from src.photos.hand_finder import (
    BLOCKS,
    FINDER,
    LEAST_BLUR,
    MOST_BLOCKS,
    THRESHOLD,
    Found,
    blur_out,
    check_coarseness,
    find_objects,
    load_finder,
)
from src.photos.photo_files import Photo, check_target, read_photo, write_photo

FORMATS = "PNG, JPEG, TIFF, WebP, AVIF or BMP, or folders of them"


def denoise_main(argv: list[str] | None = None) -> int:
    """`python -m src.photos denoise`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.photos denoise", description="Remove the noise from photos.")
    add = parser.add_argument
    add("inputs", nargs="+", metavar="IN", help=FORMATS)
    add("output", metavar="OUT", help="a file for one image, a folder for several")
    add("--noise", choices=("auto", "gaussian", "camera"), default="auto",
        help="camera: faint and spatially correlated. auto (default): camera for photos whose EXIF names a camera and "
        "an ISO, else gaussian")  # fmt: skip
    add("--level", type=number, metavar="L", help="for camera noise: how much there may be, 16/255 to 28/255 (default: "
        "by ISO, where it is known); more removes more")  # fmt: skip
    add("--passes", type=int, choices=(1, 2), help="for camera noise: 1 is the network for it, 2 adds noise to the "
        "image and denoises it twice with the network for Gaussian noise")  # fmt: skip
    add("--strength", type=number, default=1.0, help="0 leaves the image, 1 denoises it (default)")
    add("--sigma", type=number, help="standard deviation of the noise in 0..1, if known; 25/255 is understood")
    add("--self-ensemble", action="store_true", help="mean over eight flips and turns: slower, a bit better")
    add("--tile", type=int, help=f"side of the tiles in pixels (default {TILE})")
    add("--weights", metavar="RUN", help="another network: a run of yours, or its folder")
    add("--overwrite", action="store_true", help="replace outputs that are there, never an input")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: denoise_files(arguments))


def denoise_files(arguments: argparse.Namespace) -> int:
    options = dict(sigma=arguments.sigma, tile=arguments.tile, strength=arguments.strength,
                   self_ensemble=arguments.self_ensemble)  # fmt: skip

    @cache
    def network(kind: str) -> nn.Module:
        if arguments.weights is not None:
            return load_denoiser(arguments.weights)
        one_pass = arguments.passes == 1 or (arguments.passes is None and (CAMERA / "weights.pt").exists())
        return load_denoiser(CAMERA if kind == "camera" and one_pass else SHIPPED)

    first = "gaussian" if arguments.noise == "auto" and arguments.level is None else "camera"
    first = "gaussian" if arguments.noise == "gaussian" else first
    denoise(torch.zeros(1, 1, 1), network(first), noise=first, level=arguments.level, **options)  # checks them once

    def work(source: Path, target: Path, check: Check) -> str:
        photo = read_photo(source)
        check_target(target, photo)
        kind, level, reason = noise_of(photo, arguments.noise, arguments.level)
        noisy = torch.from_numpy(photo.pixels)
        denoised = denoise(noisy, network(kind), noise=kind, level=level, progress=on_a_terminal(), **options)
        write_photo(target, replace(photo, pixels=denoised.numpy()), check)
        removed = removed_noise(noisy, denoised)
        if kind == "gaussian" and arguments.noise == "auto":
            found = float(estimate_sigma(noisy[None])) * 255
            return f"{reason}: found {found:.1f} of 255, removed {removed:.1f}; --noise camera is for photos of cameras"
        return f"{reason}: removed {removed:.1f} of 255"

    return each(arguments.inputs, arguments.output, arguments.overwrite, work)


def on_a_terminal() -> bool:
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def noise_of(photo: Photo, noise: str, level: float | None) -> tuple[str, float | None, str]:
    """("gaussian" or "camera", level, why in a few words) for a photo, from the options and its EXIF block.

    The pixels alone cannot tell camera noise from texture; a camera's name and an ISO in the file can.
    """
    name, iso = exif.camera(photo.exif), exif.number(photo.exif, exif.EXIF, exif.ISO)
    if noise == "gaussian":
        return "gaussian", None, "Gaussian, as asked"
    if noise == "auto" and not (name and iso):
        return "gaussian", None, "Gaussian, as its EXIF names no camera with an ISO"
    level = level_of_iso(iso) if level is None and iso else level
    words = "level not given" if level is None else f"level {level * 255:.0f}/255"
    reason = "as asked" if noise == "camera" else f"ISO {iso} ({printable(name)})"
    return "camera", level, f"camera, {reason}, {words}"


def removed_noise(noisy: Tensor, denoised: Tensor) -> float:
    """Root mean square of the difference of two [C, H, W], in 8-bit levels."""
    total = 0.0
    for before, after in zip(noisy.split(256, dim=1), denoised.split(256, dim=1)):  # a part at a time
        total += (as_float(before) - as_float(after)).square().sum(dtype=torch.float64).item()
    return 255 * (total / noisy.numel()) ** 0.5


def blur_out_main(argv: list[str] | None = None) -> int:
    """`python -m src.photos blur-out`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.photos blur-out",
        description="Hide the hands in photos. Of the metadata what may hold an image goes; names and GPS stay.",
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="IN", help=FORMATS)
    add("output", metavar="OUT", help="a file for one image, a folder for several")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--box", action="store_true", help="hide the box around what was found (default)")
    shape.add_argument("--mask", action="store_true", help="hide what was found along its outline")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--mosaic",
        type=int,
        default=BLOCKS,
        metavar="N",
        help=f"N blocks along the longer side of the largest hand, 1 to {MOST_BLOCKS} (default {BLOCKS})",
    )
    how.add_argument("--blur", type=number, metavar="S",
                     help=f"instead a blur as wide as S times that side, {LEAST_BLUR:g} to 1")  # fmt: skip
    add("--threshold", type=number, default=THRESHOLD, metavar="P",
        help=f"score that a pixel of a hand must have, 0 to 1 (default {THRESHOLD}); lower finds more, also what is no "
        "hand")  # fmt: skip
    add("--scales", type=int, default=1, choices=(1, 2, 3),
        help="2 finds hands half as large, 3 half of that, with many more false alarms (default 1)")  # fmt: skip
    add(
        "--weights",
        metavar="RUN",
        default=FINDER,
        help="another finder: a run of src.photos.train_finder, or its folder",
    )
    add("--dry-run", action="store_true", help="write a contact sheet and found.json into the folder OUT instead")
    add("--from", dest="listed", type=Path, metavar="FILE", help="hide the boxes of an edited found.json, no others")
    add("--json", action="store_true", help="write what was found beside each image, OUT.json")
    add("--overwrite", action="store_true", help="replace outputs that are there, never an input")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: blur_out_files(arguments))


def blur_out_files(arguments: argparse.Namespace) -> int:
    check_coarseness(arguments.mosaic, arguments.blur)
    if arguments.listed and (arguments.mask or arguments.dry_run):
        raise ValueError("--from hides boxes, expected neither --mask nor --dry-run; leave that out")
    entries = read_found(arguments.listed) if arguments.listed else None
    model = None if entries is not None else load_finder(arguments.weights)
    if model is not None:
        find_objects(torch.zeros(1, 1, 1), model, arguments.threshold)  # checks it once

    def load(source: Path) -> tuple[Photo, list[Found]]:
        photo = read_photo(source)
        return photo, find_in(source, photo, model, arguments) if model else find_listed(source, photo, entries)

    if arguments.dry_run:
        return dry_run(arguments, load)

    def work(source: Path, target: Path, check: Check, loaded: tuple[Photo, list[Found]]) -> str:
        photo, found = loaded
        check_target(target, photo)
        beside = target.with_name(target.name + ".json")
        if arguments.json:
            check_json(beside, source, arguments.overwrite)
        hidden = blur_out(photo, found, arguments.mask, arguments.mosaic, arguments.blur)
        write_photo(target, hidden, check)
        if arguments.json:
            write_found(beside, target, photo, found)
        changed = (hidden.pixels != photo.pixels).any(axis=0).mean()
        return f"{len(found)} hidden, {changed:.0%} of the image changed; look whether that is all and no more"

    return each(arguments.inputs, arguments.output, arguments.overwrite, work, load)


def find_in(source: Path, photo: Photo, model: nn.Module, arguments: argparse.Namespace) -> list[Found]:
    """ValueError where nothing is found, so that no photo is copied unseen; a dry run may find nothing."""
    image = torch.from_numpy(photo.pixels).float() / np.iinfo(photo.pixels.dtype).max
    found = find_objects(image, model, arguments.threshold, arguments.scales)
    if not found and not arguments.dry_run:
        raise ValueError(f"no hand was found in {printable(source)}, so nothing was written; look at it yourself, or "
                         f"try --threshold {arguments.threshold / 2:g}, or --scales 2 for small ones")  # fmt: skip
    return found


def find_listed(source: Path, photo: Photo, entries: dict[Path, dict]) -> list[Found]:
    """What a person left in found.json for this photo; ValueError where it is not listed, or without an object."""
    entry = entries.get(source.resolve())
    found = listed(entry, list(photo.pixels.shape[:0:-1])) if entry else None
    if not found:
        raise ValueError(f"{printable(source)} {'is not' if entry is None else 'has no object'} in found.json, so "
                         "nothing was written; copy it yourself, or make a new --dry-run")  # fmt: skip
    return found


def check_json(beside: Path, source: Path, overwrite: bool) -> None:
    if beside.exists() and (not overwrite or beside.samefile(source) or beside.is_dir()):
        raise ValueError(f"{printable(beside)} is there already; name another output, or add --overwrite for a JSON "
                         "file")  # fmt: skip


def write_found(beside: Path, target: Path, photo: Photo, found: list[Found]) -> None:
    """Write what was found beside a written image; OSError says that the image is there."""
    objects = [dict(box=one.box, confidence=one.confidence) for one in found]
    try:
        write_json(beside, dict(image=target.name, size=photo.pixels.shape[:0:-1], objects=objects))
    except OSError as error:
        raise OSError(f"{printable(target)} is written, but not what was found: {error}") from None


def dry_run(arguments: argparse.Namespace, load: Callable[[Path], tuple[Photo, list[Found]]]) -> int:
    """Look at all photos and write contact sheets and found.json into a folder; no photo is written."""
    folder = Path(arguments.output)
    pairs, left_out = pair_up(arguments.inputs, f"{folder}/", True)
    if (folder / "found.json").exists() and not arguments.overwrite:
        raise ValueError(f"{printable(folder / 'found.json')} is there already; name another folder, or add "
                         "--overwrite")  # fmt: skip
    pages, failed, sources = [], 0, [source for source, _ in pairs]
    for source, ready in zip(sources, loaded_ahead(load, sources)):
        try:
            pages.append(page(source, *ready.result()))
        except (OSError, ValueError) as error:
            say(f"error: {error}")
            failed += 1
    names = write_pages(folder, pages)
    count = sum(len(one.found) for one in pages)
    say(f"{count} objects in {sum(bool(one.found) for one in pages)} of {len(pages)} images: "
        f"{', '.join(printable(name) for name in names)}. Delete from found.json what is to stay visible, then run "
        "this command with --from instead of --dry-run")  # fmt: skip
    for line in left_out:
        say(f"left out: {line}")
    return 1 if failed else 0
