"""Atomic writes, errors of one line, whole numbers, and a print that never fails."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from src.files import ROOT, exit_code, one_line, printable, say, whole_number, write_atomically, write_json, write_text

# ---- whole numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.int16(3)])
def test_pythons_and_numpys_whole_numbers(value):
    assert whole_number("count", value, 1, 3) == 3 and type(whole_number("count", value)) is int


@pytest.mark.parametrize("value", [True, np.bool_(True), 2.0, np.float64(2), "2", None, (2,), float("nan"), -1, 10])
def test_what_is_no_whole_number_in_range_is_named_with_the_fix(value):
    with pytest.raises(ValueError) as caught:
        whole_number("count", value, 0, 9)
    assert str(caught.value) == f"count must be a whole number from 0 to 9, got {value!r}; try count=0"
    with pytest.raises(ValueError, match=r"at least 12, got .*; drop it"):
        whole_number("count", value, 12, fix="drop it")


# ---- writing ---------------------------------------------------------------------------------


def test_a_file_is_written_whole_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "x.json"
    write_json(path, {"name": "é", "value": 1.5})
    assert json.loads(path.read_text()) == {"name": "é", "value": 1.5}
    write_text(path, "two\nlines é\n")
    assert path.read_bytes() == "two\nlines é\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_the_file_of_before_gets_the_backups_name(tmp_path):
    path, backup = tmp_path / "x", tmp_path / "x-before"
    for text in (b"1", b"2", b"3"):
        write_atomically(path, lambda file, text=text: file.write(text), backup)
    assert (path.read_bytes(), backup.read_bytes()) == (b"3", b"2")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_write_that_fails_keeps_what_was_there(tmp_path, error):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new, but not all of it")
        raise error

    with pytest.raises(OSError) as caught:
        write_atomically(path, write)
    reason = getattr(error, "strerror", None) or str(error)
    assert str(caught.value).startswith(f"cannot write {path} ({reason}); what was there is kept.")
    assert "\n" not in str(caught.value) and caught.value.__suppress_context__
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and path.read_bytes() == b"old"


def test_a_number_that_json_lacks_is_refused_before_anything_is_written(tmp_path):
    write_json(tmp_path / "x", {"a": 1})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "x", {"a": value})
    assert json.loads((tmp_path / "x").read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_an_interrupt_within_a_write_is_an_interrupt(tmp_path):
    """torch's writer ends in a RuntimeError of its own then, which is no disk that cannot be written."""

    class Stopped:
        def write(self, data):
            raise KeyboardInterrupt

        def flush(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.pt", lambda file: torch.save(torch.zeros(9), Stopped()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no permission bits here")
def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(
        OSError, match=r"^cannot write .*x \(Permission denied\); what was there is kept\. Make it writ"
    ):
        write_text(tmp_path / "x", "")


# ---- one line --------------------------------------------------------------------------------


def test_text_that_cannot_be_printed_becomes_escapes():
    assert printable("a\nb\x00c\x1b[0m") == r"a\nb\x00c\x1b[0m"
    assert printable(os.fsdecode(b"caf\xe9.png")) == r"caf\udce9.png"
    assert printable("一 二/ñ é 🙂.png") == "一 二/ñ é 🙂.png"


def test_an_error_is_one_short_line():
    assert one_line(ValueError("two\nlines")) == r"two\nlines"
    assert one_line(KeyError()) == "KeyError" and len(one_line(ValueError("x" * 9999))) == 300


@pytest.mark.parametrize("encoding, expected", [("utf-8", "é 一"), ("cp1252", r"é \u4e00"), ("ascii", r"\xe9 \u4e00")])
def test_say_prints_on_any_terminal(encoding, expected):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding)
    say("é 一", terminal)
    assert terminal.buffer.getvalue().decode(encoding).strip() == expected


def test_say_survives_a_terminal_that_is_gone(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    closed.close()
    for stream in (closed, Full(), None):
        say("x", stream)
    monkeypatch.setattr(sys, "stdout", None)  # pythonw
    say("x")


# ---- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, code, line",
    [
        (ValueError("sigma must be\nin [0, 1]"), 1, r"error: sigma must be\nin [0, 1]"),
        (FileNotFoundError("no folder x"), 1, "error: no folder x"),
        (FloatingPointError("not finite"), 1, "error: not finite"),
        (MemoryError(), 1, "error: MemoryError"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_an_expected_error_is_one_line_and_an_exit_code(capsys, error, code, line):
    def work():
        raise error

    assert exit_code(work) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_the_exit_code_of_the_work_is_passed_on_and_a_bug_is_not_hidden():
    assert exit_code(lambda: None) == 0 and exit_code(lambda: 3) == 3
    with pytest.raises(AttributeError):
        exit_code(lambda: None.x)


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_broken_pipe_is_no_traceback():
    """`command | head -1`: the reader is gone."""
    program = (
        "import sys, time; from src.files import exit_code, say\n"
        "def work():\n"
        "    for _ in range(200): say('x' * 1000)\n"
        "    print('y' * 10**6)\n"
        "sys.exit(exit_code(work))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(10)
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 1 and "Traceback" not in error
