"""Make a data set: python -m src.datasets finger_numbers, or another of the names below."""

import argparse
import importlib
import sys
from pathlib import Path

from src.files import ROOT, exit_code, say

DRAWN = {  # modules that draw images to train a denoiser on -> what their command does
    "drawn_photos": "draw images like those that the shipped networks were trained on",
    "reliefs": "draw further ones for the denoiser: lit surfaces with bumps, hair and folds",
    "thickets": "draw further ones for the denoiser: twigs, grass, leaves and drops",
    "fabrics": "draw further ones for the denoiser: stripes, checks and weaves in folds",
    "textured": "draw further ones for the denoiser: any of these under fine texture",
}


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.datasets", description="Make a data set.")
    commands = parser.add_subparsers(dest="name", required=True)
    commands.add_parser("finger_numbers", help="draw the 300 default images (offline)")
    for name, about in DRAWN.items():
        drawn = commands.add_parser(name, help=about)
        drawn.add_argument("--seed", type=int, default=0, help="another seed: other images (default: 0)")
        drawn.add_argument("--count", type=int, default=2000, help="number of images (default: 2,000)")
        drawn.add_argument("--to", default=f"data/{name}", help=f"target folder (default: data/{name})")
    digits = commands.add_parser("sign_digits", help="download 2,060 photos of hands")
    digits.add_argument("--from", dest="source", help="a zip, a folder or a URL instead")
    digits.add_argument("--to", help="target folder (default: data/sign_digits)")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: make(arguments))


def make(arguments: argparse.Namespace) -> None:
    """Make the data set that was asked for. Each is imported when it is needed: only one of them needs pooch."""
    if arguments.name == "finger_numbers":
        from src.datasets import finger_numbers

        say(finger_numbers.make())
    elif arguments.name in DRAWN:
        module = importlib.import_module(f"src.datasets.{arguments.name}")
        say(module.make(arguments.to, arguments.seed, arguments.count))
    else:
        from src.datasets import sign_digits

        target = Path.cwd() / arguments.to if arguments.to else ROOT / "data" / "sign_digits"
        sign_digits.fetch(sign_digits.DEFAULT_URL if arguments.source is None else arguments.source, target)


if __name__ == "__main__":
    sys.exit(main())
