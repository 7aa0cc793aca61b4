"""`python -m src.photos denoise IN ... OUT`, `python -m src.photos blur-out IN ... OUT`; --help tells the options."""

import argparse
import sys

from src.photos.commands import blur_out_main, denoise_main

COMMANDS = {"denoise": denoise_main, "blur-out": blur_out_main}


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m src.photos", description="Denoise photos, or hide hands in them.")
    parser.add_argument("command", choices=COMMANDS, help="its own --help tells its options")
    command = parser.parse_args(words[:1]).command
    return COMMANDS[command](words[1:])


if __name__ == "__main__":
    sys.exit(main())
