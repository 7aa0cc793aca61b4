"""Each committed notebook is clean, and each executes once with tiny parameters."""

import ast
import io
import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

from src import run
from src.files import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUDY = dict(widths=(4, 8), epochs=2, crop_size=16)
TINY = {
    "01_denoise": dict(size=32, crop_size=16, epochs=2, max_train=12, max_held_out=4),
    "02_epochs": STUDY | dict(snapshots=(1,), counts=(8, 4), lengths=(1, 2)),
    "03_losses": STUDY | dict(retrain=True),
    "04_architectures": STUDY | dict(widths_2021=(4, 8), widths_full=(4, 8)),
    "05_noise": STUDY | dict(sigmas=(0.1, 0.2), tested=(0.1, 0.3), few=4),
    "06_pitfalls": STUDY | dict(epochs_2021=2, widths_2021=(4, 8)),
    "07_photos": dict(photos=("chelsea",), side=32),
    "08_object_blur_out": dict(count=3, side=64, shown=(0, 1), photos=("coffee",), photo_side=64),
    "09_speed": dict(size=32, crop_size=16, max_train=12, max_held_out=2, repeats=1, budget=0.2),
}


def cells_of(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tiny_parameters(path: Path, drawn: Path, folder: Path) -> dict:
    """TINY, with the small drawn set as data and an empty folder for the runs, where the notebook has these."""
    source = "".join(c.source for c in cells_of(path, "code") if "parameters" in c.metadata.get("tags", []))
    given = dict(data={str(drawn): 32}, folder=str(drawn), run=str(folder))
    assert path.stem in TINY, "give the new notebook tiny parameters"
    return {name: value for name, value in (given | TINY[path.stem]).items() if re.search(rf"^{name} =", source, re.M)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook(path):
    """Executed top to bottom, with figures, no error and nothing on stderr; small, and clever nowhere."""
    assert path.stat().st_size < 1_500_000
    nbformat.validate(nbformat.read(path, as_version=4))
    code = cells_of(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 3
    assert "application/vnd.jupyter.widget-view+json" not in path.read_text(encoding="utf-8")
    for cell in code:
        assert not re.search(r"^\s*while |sys\.path|^[!%]", cell.source, re.M), cell.source
    assert [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_figure_stands_above_the_cell_that_prints_it(path):
    """With other data or epochs the title must still be true: what it names in dB is printed further down."""
    notebook = nbformat.read(path, as_version=4)
    printed = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    claimed = re.findall(r"(\d+\.\d+) dB", notebook.cells[0].source)
    assert set(claimed) <= set(re.findall(r"\d+\.\d+", printed))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_executes_with_tiny_parameters(path, drawn, tmp_path, monkeypatch):
    echo, folder = io.StringIO(), tmp_path / "run"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook, _ = run.execute(path, tiny_parameters(path, drawn, folder), echo)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.get("name") == "stderr"], outputs
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 3
    for record in map(json.loads, (file.read_text(encoding="utf-8") for file in folder.rglob("record.json"))):
        assert len(record["history"]) == record["epochs"]
    if path.stem == "01_denoise":  # the same bytes again, from the run that is there by now
        before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.pt")}
        again, _ = run.execute(path, tiny_parameters(path, drawn, folder))
        assert before and before == {file: file.stat().st_mtime_ns for file in folder.rglob("*.pt")}
        for one, other in zip(notebook.cells, again.cells, strict=True):
            assert len(run.figures(one)) == len(run.figures(other))
            texts = [[o.get("text") for o in cell.get("outputs", []) if "text" in o] for cell in (one, other)]
            assert texts[0] == texts[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_say_what_they_are(path):
    """Each assignment of the parameters cell has a comment."""
    for cell in cells_of(path, "code"):
        if "parameters" in cell.metadata.get("tags", []):
            lines = cell.source.splitlines()
            for node in ast.parse(cell.source).body:
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                assert isinstance(node, ast.Assign) and "#" in text, text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_in_colab(path):
    """A badge that names the notebook, and one and the same first cell that does nothing elsewhere."""
    title, first = nbformat.read(path, as_version=4).cells[0], cells_of(path, "code")[0]
    assert f"/blob/main/notebooks/{path.name})" in title.source
    assert first.metadata.get("tags") == ["colab"] and not first.outputs
    assert first.source == cells_of(NOTEBOOKS[0], "code")[0].source


@pytest.mark.slow
def test_a_notebook_alone_fetches_the_project(tmp_path, monkeypatch):
    """As on Colab, in an empty folder: the clone comes from this one, and pip may replace nothing."""
    cell = cells_of(NOTEBOOKS[0], "code")[0].source
    address = re.search(r"https://github\.com/[\w-]+/[\w-]+", cell)[0]
    settings = dict(
        COLAB_RELEASE_TAG="test", GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0=f"url.{ROOT.as_uri()}.insteadOf",
        GIT_CONFIG_VALUE_0=address, PIP_NO_DEPS="1", PIP_TARGET=str(tmp_path / "packages"), PIP_NO_BUILD_ISOLATION="0",
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    )  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    monkeypatch.setattr(run, "kernel_environment", lambda folder: environment)
    last = "from src.files import ROOT\nprint(ROOT)\nprint(len(list(ROOT.glob('data/finger_numbers/*/*.png'))))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (cell, last)])
    nbformat.write(notebook, tmp_path / "alone.ipynb")
    done, _ = run.execute(tmp_path / "alone.ipynb")
    assert done.cells[-1].outputs[-1].text.split() == [str(tmp_path / "project"), "300"]
