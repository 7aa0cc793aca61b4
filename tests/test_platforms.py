"""What Windows and Macs do differently, as far as it shows on this machine."""

import ast
import io
import os
import re
import subprocess
import sys
from pathlib import PurePosixPath, PureWindowsPath

import pytest
import torch
from small_run import NO_ONNX
from torch.utils._python_dispatch import TorchDispatchMode

from src import checkpoint, export, files, run
from src.config import TrainConfig
from src.files import ROOT, exit_code, say
from src.loop import training_loop
from src.noise import GaussianNoiseDataset
from src.unet import UNet

SOURCES = sorted((ROOT / "src").rglob("*.py"))


def calls_of(path):
    """(line, name, call) of each call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, getattr(node.func, "attr", getattr(node.func, "id", "")), node


def test_text_files_name_their_encoding():
    """Windows reads and writes cp1252 unless it is told otherwise."""
    wrong = []
    for path in SOURCES:
        for line, name, call in calls_of(path):
            given = {keyword.arg for keyword in call.keywords}
            modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            plain = isinstance(call.func, ast.Name) or name in ("read_text", "write_text")
            text = name in ("read_text", "write_text") or (
                name == "open" and plain and not any(re.fullmatch("[rwax]b", mode) for mode in modes)
            )
            ours = name == "write_text" and isinstance(call.func, ast.Name)  # of files.py, which writes UTF-8
            if text and not ours and "encoding" not in given:
                wrong.append(f"{path.relative_to(ROOT)}:{line} {name}")
    assert not wrong, "\n".join(wrong)


def test_processes_are_spawned():
    """Windows and macOS have no fork; a worker must start from imports alone."""
    wrong = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for line, name, call in calls_of(path):
            context = {keyword.arg for keyword in call.keywords} & {"mp_context", "context"} or len(call.args) > 1
            if (name in ("ProcessPoolExecutor", "Pool") and not context) or name == "fork":
                wrong.append(f"{path.relative_to(ROOT)}:{line} {name}")
        if "set_start_method" in text or re.search(r'get_context\("fork"\)', text):
            wrong.append(f"{path.relative_to(ROOT)} chooses a start method for everyone")
    assert not wrong, "\n".join(wrong)


def test_file_names_exist_on_every_system():
    """No letters that Windows refuses, no two names that differ in case alone, no long paths."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if names.returncode:
        pytest.skip("no git clone")
    names = [name for name in names.stdout.split("\0") if name]
    assert not [name for name in names if re.search(r'[<>:"|?*\\]|[. ](/|$)', name) or len(name) > 150]
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize("name", ["mine", r"studies\mine", "studies/mine", r"checkpoints\mine", r"D:\runs\mine"])
def test_runs_are_named_with_either_slash(name, monkeypatch):
    """By the rules of Windows paths, which need no Windows."""
    monkeypatch.setattr(checkpoint, "Path", PureWindowsPath)
    for module in (checkpoint, files):
        monkeypatch.setattr(module, "ROOT", PureWindowsPath(r"C:\project"), raising=False)
    folder = checkpoint.run_folder(name)
    expected = r"D:\runs\mine" if ":" in name else r"C:\project\checkpoints" + "\\" + name.split("checkpoints\\")[-1]
    assert folder == PureWindowsPath(expected) and isinstance(PurePosixPath(folder.as_posix()).name, str)


def test_a_page_on_another_drive_is_named_whole(tmp_path, monkeypatch):
    """Between two drives of Windows there is no relative path."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    import nbformat

    notebook = nbformat.v4.new_notebook()
    assert run.write_page(tmp_path / "x.ipynb", notebook, {"run": str(tmp_path / "run")})[-1].endswith(
        str(tmp_path / "run/x.html")
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_commands_print_on_any_terminal(encoding, trained, tmp_path, monkeypatch):
    """Folders whose names the terminal cannot show; the files are written all the same."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding))
    folder = tmp_path / "手 Ω"
    monkeypatch.setattr(export, "write_onnx", lambda path, model: path.touch())  # four seconds
    assert export.main([str(trained), "--to", str(folder)]) == 0
    assert all((folder / name).exists() for name in export.FILES)
    sys.stdout.flush()
    assert b"model.onnx" in sys.stdout.buffer.getvalue()
    assert export.main([str(folder / "no-such-run")]) == 1


def test_a_closed_terminal_is_no_failure(tmp_path, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert exit_code(lambda: say("written")) == 0


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_broken_pipe_prints_no_traceback(trained, tmp_path):
    command = f'"{sys.executable}" -m src.export "{trained}" --to "{tmp_path}" | true'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert len(done.stderr.splitlines()) == int(NO_ONNX), done.stderr  # the one that says so
    assert (tmp_path / "model.safetensors").exists()


class NoFloat64(TorchDispatchMode):
    """Refuses to make float64 of float32 tensors, which a Mac's GPU cannot; constants may be made on the CPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        dtypes = {x.dtype for x in torch.utils._pytree.tree_leaves((args, kwargs)) if torch.is_tensor(x)}
        made = {x.dtype for x in torch.utils._pytree.tree_leaves(result) if torch.is_tensor(x)}
        assert not (torch.float32 in dtypes and torch.float64 in made), f"{function} makes float64"
        return result


@pytest.mark.parametrize("loss", ["mse", "l1", "ssim", "psnr"])
def test_training_needs_no_float64(loss, image_sets):
    """MPS has none. This runs on the CPU: that MPS does the rest is untested."""
    train_set = GaussianNoiseDataset(image_sets[0], sigma=(0.0, 0.2), crop_size=16, augment=True)
    with NoFloat64():
        assert list(training_loop(UNet(widths=(4, 8)), train_set, None, TrainConfig(epochs=1, loss=loss)))


def test_mps_is_chosen_where_it_is(monkeypatch):
    from src.device import device, precision

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device() == torch.device("mps") and precision(device()) == torch.float32
