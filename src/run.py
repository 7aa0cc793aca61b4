"""Execute notebooks top to bottom; what they print appears in the terminal.

    python -m src.run 01_denoise                   # into checkpoints/<its run>/, with an HTML page
    python -m src.run 01_denoise epochs=2 run=try  # the same with other parameters
    python -m src.run --in-place                   # every committed notebook, over itself

Parameters are the assignments of the cell tagged `parameters`. The kernel is this Python with matplotlib's defaults and
inline PNG figures, whatever kernels and settings the user has. In place, metadata that differs from one execution to
the next is left out, so an unchanged notebook keeps its bytes.
"""

import argparse
import ast
import base64
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import nbformat
import psutil
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

from src.checkpoint import run_folder
from src.files import ROOT, exit_code, one_line, printable, say, write_atomically, write_text

NOTEBOOKS = ROOT / "notebooks"


def execute(path: Path, parameters: dict | None = None, echo=None) -> tuple[nbformat.NotebookNode, dict]:
    """Execute the notebook at `path`; return it with outputs, and the parameters it ran with.

    parameters: values that replace those of the cell tagged `parameters`, by name.
    echo: a text stream that gets what the cells print, as they print it.
    Raises ValueError for a file that is no notebook, a parameter that it lacks and a cell or figure that fails,
    MemoryError for a kernel that died, KeyboardInterrupt after Ctrl-C.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except nbformat.ValidationError as error:
        raise ValueError(f"{printable(path)} is no notebook of version 4: {one_line(error)}") from None
    values = set_parameters(notebook, path.name, parameters or {})
    client = Client(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=CRITICAL"],  # no warning of the loopback connection, no traceback at Ctrl-C
        coalesce_streams=True, record_timing=False, store_widget_state=False,
    )  # fmt: skip
    client.echo = echo
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # the same, of this side
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as settings:
        try:
            client.execute(env=kernel_environment(settings))
        except CellExecutionError as error:
            if error.ename == "KeyboardInterrupt":
                raise KeyboardInterrupt from None
            raise ValueError(cell_error(error.ename, error.evalue)) from None
        except AssertionError:  # nbclient answers Ctrl-C by ending the kernel, and then asserts that there is one
            raise KeyboardInterrupt from None
        except DeadKernelError:
            raise MemoryError("the kernel died, often for lack of memory; try a smaller batch_size or crop") from None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):  # a figure is drawn after its cell, and its error stops nothing
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
                raise ValueError(cell_error(output.ename, output.evalue))
    normalise(notebook)
    return notebook, values


class Client(NotebookClient):
    """nbclient with this Python as the kernel; what a cell prints is passed on to `echo`."""

    echo = None

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])  # no python3 that somebody else installed
        return manager

    def output(self, outs, msg, display_id, cell_index):
        if self.echo is not None and msg["msg_type"] == "stream":
            encoding = getattr(self.echo, "encoding", None) or "utf-8"
            text = msg["content"]["text"].encode(encoding, "backslashreplace").decode(encoding)
            with contextlib.suppress(OSError, ValueError):  # a closed terminal costs no page
                self.echo.write(text)
                self.echo.flush()
        return super().output(outs, msg, display_id, cell_index)


def kernel_environment(settings: str) -> dict[str, str]:
    """The environment of a kernel: this package, inline PNG figures, and an empty folder for the user's settings."""
    (Path(settings) / "matplotlibrc").touch()
    package = str(Path(__file__).resolve().parents[1])  # a notebook runs from any folder
    quiet = "ignore:Glyph:UserWarning"  # class names in a script that the font lacks
    return os.environ | dict(
        MPLBACKEND="module://matplotlib_inline.backend_inline", MATPLOTLIBRC=settings, IPYTHONDIR=settings,
        PYTHONPATH=os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        PYTHONWARNINGS=",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), quiet])),
    )  # fmt: skip


def cell_error(name: str | None, value: str | None) -> str:
    if name in (None, "None", "NoneType"):
        return f"a cell failed ({one_line(ValueError(value or 'it does not say why'))}); execute it in Jupyter"
    return f"{name}: {value}" if value else name


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m src.run", description="Execute notebooks top to bottom.")
    parser.add_argument("notebook", nargs="?", help="name or path; without it, all of notebooks/")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="replaces a parameter of the notebook")
    parser.add_argument("--in-place", action="store_true", help="write the outputs into the notebook itself")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: run_all(arguments.notebook, arguments.parameters, arguments.in_place))


def run_all(name: str | None, assignments: list[str], in_place: bool) -> None:
    parameters = dict(parse(item) for item in assignments)
    if parameters and in_place:
        raise ValueError("--in-place takes no parameters, got some; change the notebook's own cell")
    # Idle threads that spin make a run a quarter faster on free cores, and slow and erratic beside a busy process
    # (PROGRESS.md). OpenMP decides when torch is imported, so before a kernel starts; the bits are the same.
    if psutil.cpu_percent(interval=0.5) > 25:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for path in find_notebooks(name):
        start = time.perf_counter()
        say(f"executing {path.name}")
        notebook, values = execute(path, parameters, echo=sys.stdout)
        lines = write_in_place(path, notebook) if in_place else write_page(path, notebook, values)
        say("\n".join([*lines, f"seconds        {time.perf_counter() - start:.0f} in all"]))


def write_in_place(path: Path, notebook: nbformat.NotebookNode) -> list[str]:
    """Write the notebook over itself, and beside it the figure that the README shows."""
    before, after = ([figures(cell) for cell in n.cells] for n in (nbformat.read(path, as_version=4), notebook))
    lost = [number for number, (old, new) in enumerate(zip(before, after)) if old and not new]
    if lost:
        fix = "so nothing was written; clear its output in Jupyter if that is meant"
        raise ValueError(f"cell {lost[0]} of {path.name} has a figure in the file and shows none now, {fix}")
    write_text(path, nbformat.writes(notebook) + "\n")
    for cell in notebook.cells:
        if "readme" in cell.metadata.get("tags", []):
            png = base64.b64decode(figures(cell)[0])
            write_atomically(path.with_suffix(".png"), lambda file, png=png: file.write(png))
    return [f"written        {path.name}"]


def write_page(path: Path, notebook: nbformat.NotebookNode, values: dict) -> list[str]:
    """Write the notebook and its HTML page into the run's folder; what the run reached, as lines."""
    folder = run_folder(values.get("run", path.stem))
    page = folder / f"{path.stem}.html"
    write_text(folder / path.name, nbformat.writes(notebook) + "\n")
    write_text(page, HTMLExporter().from_notebook_node(notebook)[0])
    near = page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page
    return [*summary(folder, values), f"open           {near}"]


def summary(folder: Path, values: dict) -> list[str]:
    """What the run reached, from its records; nothing for a notebook that leaves none."""
    paths = [folder / "record.json", folder / "scores.json"]
    if not all(path.exists() for path in paths):
        return []
    record, scores = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    trained, held_out = record["fingerprint"]["train_set"]["count"], scores["test_set"]["count"]
    psnr = ", ".join(f"{name} {x['mean']:.2f} dB" for name, x in scores["psnr"].items())
    seconds = sum(entry["seconds"] for entry in record["history"])
    machine = "{processor}, {threads} threads, {precision}".format(**record["environments"][-1])
    return [
        "",
        f"data set       {values.get('folder')}: {trained} to train on, {held_out} held out",
        f"epochs         {len(record['history'])}",
        f"held-out PSNR  {psnr}",
        f"training       {seconds:.0f} s on {machine}",
    ]


def find_notebooks(name: str | None) -> list[Path]:
    if name is None:
        return sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in (Path(name), NOTEBOOKS / name, NOTEBOOKS / f"{name}.ipynb"):
        if path.is_file():
            return [path.resolve()]
    raise ValueError(f"no notebook {name!r}, expected one of {', '.join(sorted(p.stem for p in find_notebooks(None)))}")


def set_parameters(notebook: nbformat.NotebookNode, name: str, parameters: dict) -> dict:
    """Append the parameters to the cell tagged so; all values that it then sets, by name."""
    cell = next((c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])), None)
    try:  # magics become calls
        statements = ast.parse(TransformerManager().transform_cell(cell.source if cell else "")).body
    except SyntaxError as error:
        raise ValueError(f"the parameters cell of {name} is no Python: {error}; expected name = value") from None
    plain = [s for s in statements if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)]
    known = {s.targets[0].id: value_of(ast.unparse(s.value)) for s in plain}
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(f"{name} has no parameter {parameter!r}, expected one of {', '.join(known) or 'none'}")
    if parameters:
        cell.source += "".join(f"\n{parameter} = {value!r}" for parameter, value in parameters.items())
    return known | parameters


def parse(item: str) -> tuple[str, object]:
    name, equals, text = item.partition("=")
    if not equals:
        raise ValueError(f"expected name=value, got {item!r}; for example epochs=10")
    return name, value_of(text)


def value_of(text: str) -> object:
    """A Python literal, a fraction such as 25/255, or else the text: folder=data/sign_digits."""
    for read in (ast.literal_eval, lambda text: float(Fraction(text.replace(" ", "")))):
        with contextlib.suppress(ValueError, SyntaxError, ZeroDivisionError):
            return read(text)
    return text


def figures(cell: nbformat.NotebookNode) -> list[str]:
    return [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]


def normalise(notebook: nbformat.NotebookNode) -> None:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = final_text(output.text)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})


def final_text(text: str) -> str:
    """What a terminal would show in the end: a bar that rewrote its line leaves the last state."""
    lines = ["" if set(line) <= {"\r", " "} else line.rstrip(" \r").split("\r")[-1] for line in text.split("\n")]
    return "\n".join(line.rstrip() for line in lines) if any(lines) else ""


if __name__ == "__main__":
    sys.exit(main())
