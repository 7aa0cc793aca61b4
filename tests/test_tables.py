"""The tables of README.md and PROGRESS.md are those of the records."""

import json
from statistics import mean, stdev

import pytest

from src.files import ROOT
from src.studies.tables import PAGES, TABLES, main, markdown, updated


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_is_stale(page):
    """`python -m src.studies.tables` writes them anew."""
    text = page.read_text(encoding="utf-8")
    assert updated(text) == text


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_markdown_of_one_width(name):
    lines = markdown(TABLES[name]()).splitlines()
    assert len(lines) > 3 and len({line.count("|") for line in lines}) == 1 and "nan" not in "".join(lines)


def test_a_cell_is_the_mean_of_the_records():
    lines = (ROOT / "checkpoints/published/03_losses/runs.jsonl").read_text().splitlines()
    runs = [run for run in map(json.loads, lines) if (run["data"], run["case"]) == ("sign_digits", "L1")]
    values = [run["scores"]["30"]["held_out"]["psnr"] for run in runs]
    assert TABLES["losses"]().loc["L1", "PSNR (dB)"] == f"{mean(values):.2f} ± {stdev(values):.2f}" == "31.59 ± 0.10"


def test_the_command_writes_between_the_markers_and_finds_what_is_stale(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: losses -->\nold\n<!-- end -->\nafter\n")
    assert main([str(page), "--check"]) == 1 and "stale" in capsys.readouterr().out and "old" in page.read_text()
    assert main([str(page)]) == 0 and main([str(page), "--check"]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- table: losses -->\n| case | PSNR (dB) |") and text.endswith(
        "<!-- end -->\nafter\n"
    )
    page.write_text("<!-- table: other -->\n<!-- end -->\n")
    assert main([str(page)]) == 1 and "no table 'other', expected one of headline" in capsys.readouterr().err
    assert main(["--list"]) == 0 and "| ours, shipped (blind) |" in capsys.readouterr().out
