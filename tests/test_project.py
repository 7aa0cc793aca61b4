"""The promises of the project as a whole: pins, silence, one source of randomness, a package that stands alone."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from src.files import ROOT

PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
RANGES = [Requirement(line) for line in sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
# What a package is called where it is imported, and what brings it
NAMES = {"PIL": "pillow", "skimage": "scikit-image", "pywt": "pywavelets"}
NAMES |= dict.fromkeys(["IPython", "jupyter_client"], "jupyter")
OURS = {"src", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
HEAVY = ["jupyter", "IPython", "nbformat", "nbclient", "nbconvert", "skimage", "scipy", "pandas", "pooch", "matplotlib"]


def foreign_imports(path: Path) -> set[str]:
    """Third-party packages that a file imports, by the names of their projects."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return {NAMES.get(name, name) for name in names - set(sys.stdlib_module_names) - OURS}


def test_every_range_is_pinned_within_it():
    assert {r.name for r in RANGES} == set(PINS)
    for requirement in RANGES:
        assert PINS[requirement.name] in requirement.specifier


@pytest.mark.parametrize("name", PINS)
def test_what_is_installed_is_what_is_pinned(name):
    assert version(name).split("+")[0] == PINS[name]


def test_what_the_code_imports_is_pinned():
    """bm3d and OpenCV, with which benchmarks compare, are the user's to install."""
    missing = []
    for path in [*SOURCES, *(ROOT / "tests").glob("*.py")]:
        for name in foreign_imports(path) - set(PINS) - {"bm3d", "cv2"}:
            missing.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not missing, "\n".join(missing)


def test_what_is_pinned_is_used():
    """ruff and pytest-xdist are commands, setuptools builds; what pyvips and others stand on is imported by them."""
    used = set().union(*map(foreign_imports, [*SOURCES, *(ROOT / "tests").glob("*.py")]))
    unnamed = {"ruff", "pytest-xdist", "setuptools", "pyvips-binary", "onnx", "onnxscript", "onnxruntime", "pywavelets"}
    assert set(PINS) - unnamed <= used


def test_importing_is_silent_and_seeds_nothing():
    code = """
import random, sys, numpy, torch, threading
states = random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().tolist()
threads = threading.active_count(), torch.get_num_threads()
import src
for name in src.__all__:
    getattr(src, name)
assert states == (random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().tolist())
assert threads == (threading.active_count(), torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_large_tensors_ask_for_large_pages():
    """What the kernel has noted of the memory of a tensor of 64 MiB: "hg" is MADV_HUGEPAGE."""
    code = """
import re, torch, src.device
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
    """Only `seeded` of unet.py seeds torch's generator, inside a fork of it."""
    wrong = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        numpy = re.search(r"np\.random\.(?!default_rng|Generator|PCG64|Philox|SeedSequence)\w+\(", text)
        if numpy or re.search(r"^import random|from random import", text, re.M):
            wrong.append(str(path))
        if "manual_seed" in text.replace("generator.manual_seed", "").replace("Generator().manual_seed", ""):
            assert path.name == "unet.py", path
    assert not wrong


def test_only_plots_and_figures_import_matplotlib():
    users = {path.relative_to(ROOT / "src").as_posix() for path in SOURCES if "matplotlib" in foreign_imports(path)}
    assert {user for user in users if "/" not in user} == {"plots.py"} and all(
        user.startswith(("plots", "studies/")) for user in users
    )


def test_no_path_tricks():
    for path in [*SOURCES, *(ROOT / "notebooks").glob("*.ipynb")]:
        assert "sys.path" not in path.read_text(encoding="utf-8"), path


def test_public_names_have_docstrings():
    import src

    for name in src.__all__:
        assert (getattr(src, name).__doc__ or "").strip(), name


def test_the_package_lists_every_part_and_every_shipped_network():
    """A wheel has the code and the networks that are used by name; records of studies stay in the clone."""
    listed = set(PYPROJECT["tool"]["setuptools"]["packages"])
    code = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "src").rglob("__init__.py")}
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "src/photos").glob("*.py")]
    used = set(re.findall(r'"(?:checkpoints/)?published/(\w+)"', "".join(texts)))
    there = {name for name in used if (ROOT / "checkpoints/published" / name / "weights.pt").exists()}
    assert there and listed == code | {f"src.published.{name}" for name in there}


def test_the_public_workflow_calls_what_ci_calls():
    targets = []
    for name in (".ci/run", ".github/workflows/test.yml"):
        calls = re.findall(r"^(?: *- run: )?make (.+)", (ROOT / name).read_text(encoding="utf-8"), re.M)
        targets.append({target for call in calls for target in call.split()})
    assert {"test", "test-slow"} <= targets[0] <= targets[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A wheel of the project, unpacked beside nothing else of it; what notebooks need seems to be missing."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = folder / "clone"
    names = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, names.stdout.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(wheel, check=True)
    package = next(folder.glob("*.whl"))
    assert package.stat().st_size < 20_000_000
    with zipfile.ZipFile(package) as archive:
        assert not [name for name in archive.namelist() if name.startswith(("tests/", "notebooks/", "data/"))]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", package], check=True)
    absent = f"import sys\nfor name in {HEAVY!r}:\n    sys.modules[name] = None\n"
    (folder / "site/sitecustomize.py").write_text(absent)
    (folder / "empty").mkdir()
    return folder


def run_installed(installed: Path, *command) -> subprocess.CompletedProcess:
    environment = os.environ | dict(PYTHONPATH=str(installed / "site"))
    return subprocess.run(command, cwd=installed / "empty", env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_wheel_denoises_with_its_own_weights(installed, image_folder):
    """The console script, in an empty folder, without jupyter, scikit-image, scipy, pandas and matplotlib."""
    image = next(image_folder.rglob("*.png"))
    done = run_installed(installed, installed / "site/bin/unet-denoise", image, "clean.png")
    assert done.returncode == 0, done.stderr
    assert (installed / "empty/clean.png").exists()


@pytest.mark.slow
def test_a_wheel_trains_into_the_working_directory(installed, image_folder):
    words = (
        "--size 32 --crop-size 16 --start published/denoiser --blocks 2 --noise-level-normalised "
        "--batch-size 4 --epochs 1 --run mine"
    )
    done = run_installed(
        installed, sys.executable, "-m", "src.photos.train_denoiser", "--data", image_folder, *shlex.split(words)
    )
    assert done.returncode == 0, done.stderr
    assert (installed / "empty/checkpoints/mine/record.json").exists()


@pytest.mark.slow
def test_a_wheel_hides_hands_with_its_own_weights(installed, image_folder):
    image = next(image_folder.rglob("*.png"))
    done = run_installed(installed, installed / "site/bin/unet-blur-out", image, "hidden.png")
    assert "Traceback" not in done.stderr and "No module" not in done.stderr, done.stderr
