"""The command that executes notebooks: parameters, the user's settings, errors of one line, interrupts."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from src import run
from src.files import ROOT

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title({title!r})\nplt.show()"


def write_notebook(folder: Path, parameters="n = 1\nword = 'a'\n", last="print(n, word)") -> Path:
    cell = nbformat.v4.new_code_cell(parameters, metadata=dict(tags=["parameters"]))
    path = folder / "tiny.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(last)]), path)
    return path


def figures_of(notebook) -> list[str]:
    return [png for cell in notebook.cells for png in run.figures(cell)]


def run_command(*arguments, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "src.run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | dict(PYTHONPATH=str(ROOT)) | environment,
    )


def test_parameters_are_replaced_and_unknown_ones_refused(tmp_path):
    path = write_notebook(tmp_path)
    notebook, values = run.execute(path, {"n": 7})
    assert notebook.cells[1].outputs[0].text == "7 a\n" and values == {"n": 7, "word": "a"}
    with pytest.raises(ValueError, match="no parameter 'm', expected one of n, word"):
        run.execute(path, {"m": 7})


@pytest.mark.parametrize(
    "text, value",
    [("n=5", 5), ("n=25/255", 25 / 255), ("n=data/x", "data/x"), ("n=two words", "two words"), (r"n=C:\a", r"C:\a")],
)
def test_values_on_the_command_line(text, value):
    assert run.parse(text) == ("n", value)


@pytest.mark.parametrize(
    "source, known",
    [
        ("n = 25/255\nword = str(7)\na, b = 1, 2\n", {"n": 25 / 255, "word": "str(7)"}),
        ("%matplotlib inline\nn = 1\n!ls\n", {"n": 1}),
        ("", {}),
    ],
)
def test_a_parameters_cell_may_hold_expressions_and_magics(source, known):
    cell = nbformat.v4.new_code_cell(source, metadata=dict(tags=["parameters"]))
    assert run.set_parameters(nbformat.v4.new_notebook(cells=[cell]), "x.ipynb", {}) == known


def test_a_parameters_cell_that_is_no_python_is_named():
    cell = nbformat.v4.new_code_cell("n = = 1", metadata=dict(tags=["parameters"]))
    with pytest.raises(ValueError, match=r"parameters cell of x\.ipynb is no Python.*expected name = value"):
        run.set_parameters(nbformat.v4.new_notebook(cells=[cell]), "x.ipynb", {})


def test_command_line(tmp_path, capsys):
    path = write_notebook(tmp_path)
    before = path.read_bytes()
    assert run.main([str(path), "--in-place"]) == 0
    assert "1 a" in capsys.readouterr().out
    assert b"1 a" in path.read_bytes()
    path.write_bytes(before)
    (tmp_path / "empty.ipynb").write_text("{}")
    for arguments, words in [
        ([str(path), "m=5"], "no parameter 'm'"),
        ([str(path), "n=5", "--in-place"], "--in-place takes no parameters"),
        ([str(path), "5"], "expected name=value"),
        (["absent"], "no notebook 'absent'"),
        ([str(tmp_path / "empty.ipynb")], "no notebook of version 4"),
    ]:
        assert run.main(arguments) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert path.read_bytes() == before


def test_a_page_of_its_own(tmp_path, capsys, monkeypatch):
    """Written into the run's folder from any working directory; the notebook itself is left alone."""
    path = write_notebook(tmp_path, parameters=f"run = {str(tmp_path / 'page')!r}", last="print('<b>')")
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert run.main([str(path)]) == 0
    assert f"open           {Path('page', 'tiny.html')}" in capsys.readouterr().out
    assert "&lt;b&gt;" in (tmp_path / "page/tiny.html").read_text(encoding="utf-8") and path.read_bytes() == before


def test_a_failing_cell_is_one_line_and_leaves_the_notebook(tmp_path, capsys):
    path = write_notebook(tmp_path, last="raise ValueError('sigma must be in [0, 1] units, got 25')")
    before = path.read_bytes()
    assert run.main([str(path), "--in-place"]) == 1
    assert capsys.readouterr().err.strip() == "error: ValueError: sigma must be in [0, 1] units, got 25"
    assert path.read_bytes() == before


@pytest.mark.parametrize("name, value", [(None, None), (None, "a\nb"), ("NoneType", "None"), ("ValueError", "")])
def test_an_error_without_a_name_is_still_one_line(name, value):
    assert run.cell_error(name, value).strip() and "\n" not in run.cell_error(name, value)


def test_a_figure_that_cannot_be_drawn_is_an_error(tmp_path, capsys):
    """matplotlib reads text between dollars as a formula, after the cell is done."""
    path = write_notebook(tmp_path, last=PLOT.format(title="my$photos_{$"))
    before = path.read_bytes()
    assert run.main([str(path), "--in-place"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and path.read_bytes() == before


def test_the_settings_of_the_user_change_no_figure(tmp_path, monkeypatch):
    """Backend, figure format, style and kernel: the page is the same whatever is set."""
    path = write_notebook(tmp_path, last=PLOT.format(title="1") + "\nimport sys; print(sys.executable)")
    plain, _ = run.execute(path)
    user = tmp_path / "user"
    profile = user / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (user / "matplotlibrc").write_text("figure.dpi: 30\naxes.facecolor: red\n")
    (profile / "ipython_kernel_config.py").write_text("get_config().InlineBackend.figure_formats = {'svg'}\n")
    (profile / "startup/print.py").write_text("print('a startup file')\n")
    kernel = user / "kernels/python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(dict(argv=["false"], display_name="other", language="python")))
    for name, value in dict(MPLBACKEND="Agg", MATPLOTLIBRC=user, IPYTHONDIR=user, JUPYTER_PATH=user).items():
        monkeypatch.setenv(name, str(value))
    notebook, _ = run.execute(path)
    assert figures_of(notebook) == figures_of(plain) != []
    assert notebook.cells[1].outputs[-1].text == plain.cells[1].outputs[-1].text == f"{sys.executable}\n"


def test_a_lost_figure_is_not_written_in_place(tmp_path, capsys):
    path = write_notebook(tmp_path, last=PLOT.format(title="1"))
    assert run.main([str(path), "--in-place"]) == 0
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = "import matplotlib; matplotlib.use('Agg')\n" + notebook.cells[1].source
    nbformat.write(notebook, path)
    before = path.read_bytes()
    assert run.main([str(path), "--in-place"]) == 1
    assert "cell 1 of tiny.ipynb has a figure in the file and shows none now" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_letters_that_the_font_lacks_print_no_warning(tmp_path):
    notebook, _ = run.execute(write_notebook(tmp_path, last=PLOT.format(title="一二三")))
    assert [output.output_type for output in notebook.cells[1].outputs] == ["display_data"]


def test_a_terminal_of_few_letters_loses_no_page(tmp_path):
    """An old code page without UTF-8 mode, as on Windows; what it lacks is shown as an escape."""
    path = write_notebook(tmp_path, last="print('一 ± done')")
    done = run_command(path, "--in-place", PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    out, error = done.communicate(timeout=120)
    assert (done.returncode, error) == (0, b"") and "\\u4e00 ± done".encode("cp1252") in out
    assert "一 ± done" in path.read_text(encoding="utf-8")


def test_a_closed_terminal_loses_no_page(tmp_path):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    notebook, _ = run.execute(write_notebook(tmp_path), echo=Closed())
    assert notebook.cells[1].outputs[0].text == "1 a\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_is_one_line(tmp_path):
    path = write_notebook(tmp_path, last="import time\nprint('sleeping')\ntime.sleep(60)")
    before = path.read_bytes()
    process = run_command(path, "--in-place")
    while b"sleeping" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, b"stopped\n") and path.read_bytes() == before


def test_a_killed_kernel_is_one_line(tmp_path, capsys):
    path = write_notebook(tmp_path, last="import os\nos._exit(9)")
    assert run.main([str(path)]) == 1
    assert capsys.readouterr().err == (
        "error: the kernel died, often for lack of memory; try a smaller batch_size or crop\n"
    )


def test_bars_leave_their_last_state():
    assert run.final_text("training 1%\rtraining 100%\nPSNR 27 dB \n\r   \r") == "training 100%\nPSNR 27 dB\n"
    assert run.final_text("\r   \r") == ""
