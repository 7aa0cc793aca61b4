"""Every command that a page, a notebook, a record, a help text or a docstring names is executed with tiny parameters.

TINY holds the tiny versions: the program, and the arguments to run it with. A command is covered by a version of the
same program that has all its options; another fails `test_every_named_command_has_a_tiny_version`, with its place.
"""

import functools
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from small_run import NO_ONNX

from src import run
from src.files import ROOT
from src.photos.hand_finder import FINDER

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
WITH_SUBCOMMANDS = {"src.datasets", "src.photos"}  # python -m src.datasets sign_digits

# {data}: a folder of images; {trained}: a finished run; {hand}, {other}: drawn images of hands in {hands};
# {found}: what a dry run of blur-out wrote; {digits}: photos as sign_digits has them; {tmp}: an empty folder
TRAIN = "--data {data} --size 32 --crop-size 16 --widths 4 8 --sigma 0 55/255 --epochs 1 --batch-size 4 --run {tmp}/run"
TINY = [
    ("src.train", f"{TRAIN} --max-train 8 --max-held-out 2 --blocks 1 --loss l1 --start {{trained}}"),
    ("src.export", "{trained} --to {tmp}"),
    ("src.datasets finger_numbers", ""),
    ("src.datasets drawn_photos", "--seed 1 --count 1 --to {tmp}/drawn"),
    ("src.datasets reliefs", "--seed 1 --count 1 --to {tmp}/reliefs"),
    ("src.datasets thickets", "--seed 1 --count 1 --to {tmp}/thickets"),
    ("src.datasets fabrics", "--seed 1 --count 1 --to {tmp}/fabrics"),
    ("src.datasets textured", "--seed 1 --count 1 --to {tmp}/textured"),
    ("src.datasets sign_digits", "--from {digits} --to {tmp}/digits"),
    ("src.photos denoise", "{hand} {tmp}/clean.png --sigma 0.1 --strength 0.8 --tile 64 --self-ensemble --overwrite"),
    ("src.photos denoise", "{hands} {tmp}/cleaned --noise camera --level 16/255 --passes 2"),
    ("src.photos denoise", "{hand} {other} {tmp}/cleaned --weights {trained}"),
    ("src.photos blur-out", "{hand} {tmp}/hidden.jpg --threshold 0.2 --scales 2 --mask --json --mosaic 4 --overwrite"),
    ("src.photos blur-out", "{hand} {tmp}/hidden.png --threshold 0.2 --box --blur 0.3"),
    ("src.photos blur-out", "{hands} {tmp}/check --threshold 0.2 --dry-run"),
    ("src.photos blur-out", "{hand} {tmp}/hidden.jpg --from {found}"),
    ("src.photos blur-out", "{hand} {tmp}/hidden.png --threshold 0.2 --weights {finder}"),
    ("unet-denoise", "{hand} {tmp}/clean.png"),
    ("unet-blur-out", "{hand} {tmp}/hidden.png --threshold 0.2"),
    ("src.photos.benchmark", "{pairs} --limit 1 --methods noisy --clean {photos}/cbsd68 --out {tmp}/scores.json"),
    ("src.photos.train_denoiser", f"{TRAIN} --max-train 8 --max-held-out 2 --held-out 0.2 --grey-fraction 1 "
     "--min-scale 0.9 --blocks 2 --noise-level-normalised --vivid --sharp --start {trained} --cooldown 1 "
     "--lr 0.0008 --adam-lr 0.002 --teacher {trained} --members 1 --clean-weight 0.5 --device-data"),
    ("src.photos.train_camera", "--data {data} --size 32 --crop-size 16 --max-train 8 --batch-size 4 --epochs 1 "
     "--cooldown 1 --teacher {trained} --run {tmp}/run --publish {tmp}/published"),
    ("src.photos.train_finder", "--start {finder} --size 96 --hard 2 --behind {data} --parts {tmp}/parts "
     "--count 2 --epochs 1 --cooldown 1 --empty 0.5 --seed 0 --run {tmp}/run --publish {tmp}/published "
     "--poses 1 --grips 1 --as-photos --clutter --sides 32 --average {finder}"),
    ("src.photos.train_finder", "--images {data} --masks {data} --behind {data} --parts {tmp}/parts --count 2 "
     "--epochs 1 --run {tmp}/run"),
    ("src.studies.hand_finding", "--train --publish --evaluate --seeds 0 --epochs 1 --train-scenes 8 --test-scenes 2 "
     "--runs {tmp}/runs --to {tmp} --photos {digits}"),
    ("src.studies.hand_photos", "{photos} --count 1 --seeds 0 --out {tmp}/hands.json"),
    ("src.studies.hardware_limits", "--small --repeats 1 --parts levers --data {data} --size 32 --out {tmp}"),
    ("src.studies.photo_benchmarks", "{photos} --publish {trained} --average {trained} --to {tmp}/published "
     "--out {tmp}/scores.json --weights mine={trained} --methods mine --sets CBSD68"),
    ("src.studies.tables", "{page}"),
    ("src.studies.tables", "{page} --check"),
    ("src.studies.tables", "--list"),
]  # fmt: skip
SLOW = [  # processes of their own
    ("torchrun", f"--nproc-per-node=2 --max-restarts=3 -m src.train -- {TRAIN}"),
]
# A command whose defaults are the data set itself, made small here
SMALL = {
    "src.datasets finger_numbers": ("src.datasets.finger_numbers", dict(scenes=1, shots=1, size=32, workers=1)),
}

COMMAND = re.compile(
    r"""(?:^|[`\s"'(])(?:
        python3?\ -m\ (?P<module>src(?:\.\w+)*) | python3?\ (?P<file>(?:src|tests|notebooks)/\S+?\.py)
        | (?P<script>unet-(?!out\b)[a-z-]+)(?=\ [A-Z\w./]*[/.A-Z]|`) | (?P<torchrun>torchrun)(?=\ -)
        | (?<=`)make\ (?P<quoted>[a-z-]+) | (?<=\n)make\ (?P<line>[a-z-]+)
    )(?P<rest>[^`\n]*)""",
    re.VERBOSE,
)


def texts():
    """(place, text) of everything that may name a command."""
    for pattern in ("*.md", "data/*.md", ".github/**/*.md", ".ci/run", ".binder/*", ".devcontainer/*.json"):
        for path in sorted(ROOT.glob(pattern)):
            if not path.is_file():
                continue
            text = path.read_text(encoding="utf-8")
            blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)) if path.suffix == ".md" else text
            yield str(path.relative_to(ROOT)), "\n" + blocks
            prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)  # where commands may be wrapped
            yield str(path.relative_to(ROOT)), " ".join(prose.split("\n"))
    for path in sorted((ROOT / "src").rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8").replace("\\\n", " ").replace("\\\\\n", " ")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            yield path.name, cell.source
    for path in sorted((ROOT / "checkpoints/published").rglob("*.json*")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            for text in re.findall(r'"((?:python|make|torchrun|unet-)[^"]*)', line):
                for command in json.loads(f'"{text}"').split(" && "):
                    yield str(path.relative_to(ROOT)), command


def split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation mark of the prose
        return command.split()


def named_commands() -> dict[tuple[str, frozenset, tuple], str]:
    """(program, options, words) -> where it is named."""
    found = {}
    for place, text in texts():
        for match in COMMAND.finditer(text):
            program = match["module"] or match["file"] or match["script"] or match["torchrun"]
            target = match["quoted"] or match["line"]
            rest = re.split(
                r"\s{2,}|\s#|[;)]|\\n|, | or | and | takes | gives | makes | writes | says ", match["rest"]
            )[0]
            rest = rest.strip(" .,:'")
            rest = rest.removesuffix('"') if rest.count('"') % 2 else rest  # of a string in the code
            words = [word.strip("[]") for word in split(rest)]
            if target:
                program, words = "make", [target, *words]
            elif program in WITH_SUBCOMMANDS and words and re.fullmatch(r"[a-z][a-z_-]+", words[0]):
                program, words = f"{program} {words[0]}", words[1:]
            options = frozenset(re.split("[=,.]", word)[0] for word in words if word.startswith("--") and word != "--")
            found.setdefault((program, options, tuple(words)), place)
    return found


def versions(program: str) -> list[frozenset]:
    """The options of each tiny version of a program."""
    return [
        frozenset(word.split("=")[0] for word in shlex.split(arguments) if word.startswith("--"))
        for name, arguments in TINY + SLOW
        if name == program
    ]


def problem_of(program: str, options: frozenset, words: tuple) -> str | None:
    if program == "make":
        return problem_of_make(words)
    if program == "src.run":
        return problem_of_run(words)
    if program in WITH_SUBCOMMANDS and (not words or words[0].startswith("{")):  # `src.datasets {name}`
        return None
    if not versions(program):
        return "has no tiny version"
    if not any(options <= version for version in versions(program)):
        missing = min((options - version for version in versions(program)), key=len)
        return f"has no tiny version with {' '.join(sorted(missing))}"
    return None


def problem_of_run(words: tuple) -> str | None:
    """The notebook and the parameters are there; test_notebooks.py executes each."""
    names = [word for word in words if not word.startswith("--") and "=" not in word]
    parameters = [word for word in words if "=" in word]
    try:
        for path in run.find_notebooks(names[0]) if names and names[0] != "NAME" else []:
            run.set_parameters(nbformat.read(path, as_version=4), path.name, dict(map(run.parse, parameters)))
    except ValueError as error:
        return str(error)
    return None


def problem_of_make(words: tuple) -> str | None:
    target, *variables = words
    if not re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M):
        return "is no target of the Makefile"
    variables = dict(word.split("=", 1) for word in variables if "=" in word)
    return problem_of_run((variables.get("NAME", "01_denoise"), *split(variables.get("ARGS", ""))))


def test_every_named_command_has_a_tiny_version():
    commands = named_commands()
    assert len(commands) > 20
    problems = []
    for (program, options, words), place in commands.items():
        problem = problem_of(program, options, words)
        if problem:
            problems.append(f"{place}: `{program} {' '.join(words)}` {problem}")
    assert not problems, "\n".join(problems)


def test_every_program_is_named_or_tried():
    """Each module with a main has a tiny version."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")}
    programs = {path for path in texts if path.stem == "__main__" or '\nif __name__ == "__main__":' in texts[path]}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in programs}
    tried = {name.split(" ")[0] for name, _ in TINY}
    assert names - tried <= {"src.run"}, names - tried  # which test_run.py tries


@pytest.fixture(scope="module")
def places(image_folder, trained, drawn, tmp_path_factory) -> dict[str, Path]:
    folder, (hand, other) = tmp_path_factory.mktemp("places"), sorted(drawn.glob("er/*.png"))
    image = Image.open(next(image_folder.rglob("*.png")))
    for digit in range(10):
        (folder / f"digits/{digit}").mkdir(parents=True)
        image.resize((100, 100)).save(folder / f"digits/{digit}/IMG_{digit}.JPG", "JPEG")
    (folder / "photos").mkdir()
    (folder / "photos/sign_digits").symlink_to(folder / "digits")
    for name in ("bsd400", "cbsd68"):
        (folder / "photos" / name).mkdir()
        image.resize((160, 120)).save(folder / f"photos/{name}/0001.png")
    (folder / "page.md").write_text("# A page without a table\n", encoding="utf-8")
    (folder / "pairs").mkdir()
    for name in ("iso3200_real.png", "iso3200_mean.png"):
        image.save(folder / "pairs" / name)
    words = ["blur-out", str(hand), str(folder / "check"), "--threshold", "0.2", "--dry-run"]
    assert importlib.import_module("src.photos.__main__").main(words) == 0
    return dict(data=image_folder, trained=trained, finder=FINDER, hand=hand, other=other, hands=hand.parent,
                digits=folder / "digits", found=folder / "check/found.json", pairs=folder / "pairs",
                photos=folder / "photos", page=folder / "page.md")  # fmt: skip


def filled(arguments: str, places: dict, tmp_path: Path) -> list[str]:
    return [word.format(**places, tmp=tmp_path) for word in shlex.split(arguments)]


@pytest.mark.parametrize("program, arguments", TINY, ids=[f"{name} {i}" for i, (name, _) in enumerate(TINY)])
def test_tiny_version(program, arguments, places, tmp_path, capsys, monkeypatch):
    words = filled(arguments, places, tmp_path)
    if program in SCRIPTS:
        module, _, function = SCRIPTS[program].partition(":")
    else:
        (module, *subcommand), function = program.split(" "), "main"
        words = [*subcommand, *words]
        if not hasattr(importlib.import_module(module), function):
            module += ".__main__"
    if program in SMALL:
        maker, small = SMALL[program]
        make = importlib.import_module(maker).make
        monkeypatch.setattr(f"{maker}.make", functools.partial(make, tmp_path / "made", **small))
    code = int(program == "src.export" and NO_ONNX)
    assert getattr(importlib.import_module(module), function)(words) == code, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("program, arguments", SLOW, ids=[name for name, _ in SLOW])
def test_slow_tiny_version(program, arguments, places, tmp_path):
    command = [str(Path(sys.executable).with_name(program)), *filled(arguments, places, tmp_path)]
    done = subprocess.run(command, env=os.environ | dict(PYTHONPATH=str(ROOT)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_make_runs_the_named_commands():
    """What each target would do, without doing it; `make` alone explains the targets."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    targets = re.findall(r"^  make ([a-z-]+) +\w+", listed.stdout, re.M)
    assert listed.returncode == 0 and {"run", "lab", "test", "test-slow", "notebooks", "lint"} <= set(targets)
    for target in targets:
        done = subprocess.run(["make", "-n", target, "ARGS=sigma=0.1"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for module, words in re.findall(r"python -m (src[\w.]*) ?([^\n&]*)", done.stdout):
            assert module == "src.run" or f"{module} {words}".strip() in {name for name, _ in TINY}, done.stdout
