"""Execute notebooks top to bottom, with what they print in the terminal.

    python -m src.run 01_denoise                       into checkpoints/<its run>/, with an HTML page
    python -m src.run 01_denoise epochs=2 run=try      the same with other parameters
    python -m src.run --in-place                       every committed notebook, over itself

Parameters are the assignments of the cell tagged `parameters`. In place, metadata that would
differ from one execution to the next is left out, so that an unchanged notebook stays the same.
"""

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import sys
import time
from fractions import Fraction
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from PIL import Image

from src.checkpoint import folder as run_folder
from src.checkpoint import write_text
from src.image_files import reason
from src.images import ROOT

NOTEBOOKS = ROOT / "notebooks"


def execute(path: Path, parameters: dict | None = None, echo=None) -> tuple[nbformat.NotebookNode, dict]:
    """Execute the notebook at `path`; return it with outputs, and the parameters it ran with.

    parameters: values that replace those of the cell tagged `parameters`, by name.
    echo: a text stream that gets what the cells print, as they print it.
    Raises ValueError for a parameter that the notebook lacks, and nbclient's
    CellExecutionError with the cell's own error.
    """
    notebook = nbformat.read(path, as_version=4)
    cell = next((c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])), None)
    known = _assignments(cell.source) if cell else {}
    for name in parameters or {}:
        if name not in known:
            raise ValueError(f"{path.name} has no parameter {name!r}, expected one of {', '.join(known)}")
    if parameters:
        known |= parameters
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    client = _Client(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],  # newer kernels warn of the loopback connection
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,
    )
    client.echo = echo
    client.execute()
    _normalise(notebook)
    return notebook, known


class _Client(NotebookClient):
    """nbclient, passing what a cell prints on to the terminal."""

    echo = None

    def output(self, outs, msg, display_id, cell_index):
        if self.echo is not None and msg["msg_type"] == "stream":
            self.echo.write(msg["content"]["text"])
            self.echo.flush()
        return super().output(outs, msg, display_id, cell_index)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m src.run", description="Execute notebooks top to bottom.")
    parser.add_argument("notebook", nargs="?", help="name or path; without it, all of notebooks/")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="replaces a parameter of the notebook")
    parser.add_argument("--in-place", action="store_true", help="write the outputs into the notebook itself")
    arguments = parser.parse_args(argv)
    try:
        parameters = dict(_parse(item) for item in arguments.parameters)
        if parameters and arguments.in_place:
            raise ValueError("--in-place takes no parameters, got some; change the notebook's own cell")
        _choose_waiting()
        for path in _find(arguments.notebook):
            _run(path, parameters, arguments.in_place)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except nbformat.ValidationError as error:
        print(f"error: no notebook of version 4 ({reason(error)}), expected one that Jupyter wrote", file=sys.stderr)
        return 1
    except CellExecutionError as error:
        print(f"\nerror: {error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, DeadKernelError, AssertionError):
        # nbclient answers Ctrl-C by ending the kernel, and then asserts that there is one; the system kills one, too
        hint = "if nobody stopped it, memory was short: take a smaller batch or crop"
        print(f"\nstopped; finished epochs are kept, run again to continue ({hint})", file=sys.stderr)
        return 130
    return 0


def _choose_waiting() -> None:
    """Let idle threads sleep where another process keeps the cores busy.

    Threads that spin while they wait make a training a quarter faster on two free cores; where both
    cores are busy they make it slower and erratic (measured: PROGRESS.md). OpenMP decides when torch is imported, so
    this must happen before a kernel starts; the bits of the result are the same either way.
    """
    if psutil.cpu_percent(interval=0.5) > 25:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _run(path: Path, parameters: dict, in_place: bool) -> None:
    start = time.perf_counter()
    print(f"executing {path.name}", flush=True)
    notebook, values = execute(path, parameters, echo=sys.stdout)
    if in_place:
        write_text(path, nbformat.writes(notebook) + "\n")
        for cell in notebook.cells:
            if "readme" in cell.metadata.get("tags", []):  # the picture that the README shows
                pictures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
                path.with_suffix(".png").write_bytes(base64.b64decode(pictures[0]))
        print(f"{path.name}: written in place, {time.perf_counter() - start:.0f} s")
        return
    folder = run_folder(values.get("run", path.stem))
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{path.stem}.html"
    write_text(folder / path.name, nbformat.writes(notebook) + "\n")
    write_text(page, HTMLExporter().from_notebook_node(notebook)[0])
    for line in _summary(folder, values):
        print(line)
    print(f"seconds        {time.perf_counter() - start:.0f} in all")
    print(f"open           {os.path.relpath(page)}")


def _summary(folder: Path, values: dict) -> list[str]:
    """What the run reached, from its records; nothing for a notebook that leaves none."""
    paths = [folder / "record.json", folder / "scores.json"]
    if not all(path.exists() for path in paths):
        return []
    record, scores = (json.loads(path.read_text()) for path in paths)
    trained, held_out = record["key"]["train_set"]["count"], scores["test_set"]["count"]
    figures = ", ".join(f"{name} {x['mean']:.2f} dB" for name, x in scores["psnr"].items())
    seconds = sum(entry["seconds"] for entry in record["history"])
    machine = "{processor}, {threads} threads, {precision}".format(**record["environment"])
    return [
        "",
        f"data set       {values.get('folder')}: {trained} to train on, {held_out} held out",
        f"epochs         {len(record['history'])}",
        f"held-out PSNR  {figures}",
        f"training       {seconds:.0f} s on {machine}",
    ]


def _find(name: str | None) -> list[Path]:
    if name is None:
        return sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in (Path(name), NOTEBOOKS / name, NOTEBOOKS / f"{name}.ipynb"):
        if path.is_file():
            return [path.resolve()]
    raise ValueError(f"no notebook {name!r}, expected one of {', '.join(p.stem for p in NOTEBOOKS.glob('*.ipynb'))}")


def _assignments(source: str) -> dict:
    """The names that a cell sets to plain values."""
    statements = [s for s in ast.parse(source).body if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)]
    return {s.targets[0].id: _value(ast.unparse(s.value)) for s in statements}


def _parse(item: str) -> tuple[str, object]:
    name, equals, text = item.partition("=")
    if not equals:
        raise ValueError(f"expected name=value, got {item!r}; for example epochs=10")
    return name, _value(text)


def _value(text: str) -> object:
    """A Python literal, a fraction such as 25/255, or else the text: folder=data/sign_digits."""
    for read in (ast.literal_eval, lambda text: float(Fraction(text.replace(" ", "")))):
        with contextlib.suppress(ValueError, SyntaxError, ZeroDivisionError):
            return read(text)
    return text


def _normalise(notebook: nbformat.NotebookNode) -> None:
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for output in outputs:
            if output.output_type == "stream":
                output.text = _settle(output.text)
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _shrink(output.data["image/png"])
        if outputs:
            cell.outputs = [output for output in outputs if output.get("text") != ""]
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})


def _settle(text: str) -> str:
    """What a terminal would show in the end: a bar that rewrote its line leaves the last state."""
    lines = ["" if set(line) <= {"\r", " "} else line.rstrip(" \r").split("\r")[-1] for line in text.split("\n")]
    return "\n".join(line.rstrip() for line in lines) if any(lines) else ""


def _shrink(png: str) -> str:
    """The same pixels of a base64 PNG in an eighth less: figures are opaque and need no alpha."""
    smaller = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").save(smaller, "PNG", optimize=True)
    return base64.b64encode(smaller.getvalue()).decode() + "\n"


if __name__ == "__main__":
    sys.exit(main())
