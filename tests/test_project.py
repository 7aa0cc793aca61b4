"""The promises of the project as a whole: pins, silence, one source of randomness."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]


def test_every_range_is_pinned_within_it():
    assert {r.name for r in RANGES} == set(PINS)
    for requirement in RANGES:
        assert PINS[requirement.name] in requirement.specifier


@pytest.mark.parametrize("name", PINS)
def test_what_is_installed_is_what_is_pinned(name):
    assert version(name).split("+")[0] == PINS[name]


def test_what_the_code_imports_is_pinned():
    """Third-party packages only; bm3d is the user's to install."""
    names = {"PIL": "pillow", "skimage": "scikit-image"}
    imported = set()
    support = {path.stem for path in (ROOT / "notebooks").glob("*.py")}
    kinds = ("src/*.py", "tests/*.py", "notebooks/*.py", "notebooks/*.ipynb")
    for path in [path for kind in kinds for path in ROOT.glob(kind)]:
        imported |= set(re.findall(r'^[\s"]*(?:import|from) (\w+)', path.read_text(encoding="utf-8"), re.M))
    foreign = imported - set(sys.stdlib_module_names) - support - {"src", "tests", "bm3d"}
    assert {names.get(n, n) for n in foreign} <= set(PINS)


def test_importing_is_silent_and_seeds_nothing():
    code = """
import random, sys, numpy, torch, threading
states = random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().tolist()
threads = threading.active_count(), torch.get_num_threads()
import src
assert states == (random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().tolist())
assert threads == (threading.active_count(), torch.get_num_threads())
assert "torchvision" not in sys.modules  # two seconds of denoising a file, for one filter of `evaluate`
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT / "notebooks"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_large_tensors_ask_for_large_pages():
    """What the kernel has noted of the memory of a tensor of 64 MiB: "hg" is MADV_HUGEPAGE."""
    code = """
import re, torch, src
x = torch.ones(16, 1024, 1024)
for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read(), flags=re.M)[1:]:
    first, last = (int(end, 16) for end in part.split()[0].split("-"))
    if first <= x.data_ptr() + x.nbytes // 2 < last:
        print(*re.findall("^VmFlags:(.*)", part, re.M))
"""
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("no kernel that has large pages")
    assert "hg" in subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()


def test_nothing_draws_from_a_global_generator():
    """Only the networks seed torch's generator, inside a fork of it."""
    for path in (ROOT / "src").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"np\.random\.(?!default_rng|Generator|PCG64|Philox|SeedSequence)\w+\(", text), path.name
        assert not re.search(r"^import random|from random import", text, re.M), path.name
        seeded = text.count("manual_seed")
        assert seeded == (1 if path.name in ("autoencoder.py", "dncnn.py", "unet.py") else 0), path.name


def test_only_plots_imports_matplotlib():
    users = [p.name for p in (ROOT / "src").glob("*.py") if "matplotlib" in p.read_text(encoding="utf-8")]
    assert users == ["plots.py"]


def test_no_path_tricks():
    for path in [*(ROOT / "src").glob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]:
        assert "sys.path" not in path.read_text(encoding="utf-8")


def test_public_names_have_docstrings():
    import src

    for name in src.__all__:
        assert (getattr(src, name).__doc__ or "").strip(), name
