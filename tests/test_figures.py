"""The figures in README.md and PROGRESS.md are those of the records in checkpoints/published/.

`python tests/test_figures.py` prints the table's rows as they must stand there.
"""

import json
import re
from pathlib import Path
from statistics import mean, stdev

import pytest

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "checkpoints" / "published"
SETS = sorted({folder.name.rpartition("-")[0] for folder in PUBLISHED.glob("*-[0-9]")})


def figures(name: str) -> dict[str, list[float]]:
    """Column -> one figure a seed, from the runs `name`-0, `name`-1, ..."""
    columns = {}
    for folder in sorted(PUBLISHED.glob(f"{name}-[0-9]")):
        history = json.loads((folder / "record.json").read_text())["history"]
        scores = json.loads((folder / "scores.json").read_text())
        row = {method: scores["psnr"][method]["mean"] for method in ("noisy", "nlm", "bm3d")}
        row |= {f"epoch {n}": history[n - 1]["psnr"] for n in (1, 20, 100)}
        row["over bm3d"] = scores["psnr"]["unet"]["mean"] - scores["psnr"]["bm3d"]["mean"]
        row["ssim bm3d"], row["ssim"] = (scores["ssim"][method]["mean"] for method in ("bm3d", "unet"))
        for column, value in row.items():
            columns.setdefault(column, []).append(value)
    return columns


def table_row(name: str) -> str:
    cells = [name]
    for column, values in figures(name).items():
        digits = 3 if column.startswith("ssim") else 2
        cells.append(f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}")
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize("name", SETS)
def test_the_log_has_the_row_of_the_records(name):
    assert table_row(name) in (ROOT / "PROGRESS.md").read_text(encoding="utf-8")


def test_there_is_something_published():
    assert SETS == ["finger_numbers", "sign_digits"]
    assert all(len(values) >= 3 for name in SETS for values in figures(name).values())


@pytest.mark.parametrize("name", SETS)
def test_records_belong_together_and_are_complete(name):
    """One recipe, three seeds; the final figure is the same in both files of a run."""
    recipes, seeds = set(), []
    for folder in sorted(PUBLISHED.glob(f"{name}-[0-9]")):
        record, scores = (json.loads((folder / f"{part}.json").read_text()) for part in ("record", "scores"))
        assert len(record["history"]) == record["epochs"] == 100
        # trained under autocast and judged in the same precision: equal but for rounding
        assert abs(record["history"][-1]["psnr"] - scores["psnr"]["unet"]["mean"]) < 0.01
        seeds.append(record["key"]["config"].pop("seed"))
        recipes.add(json.dumps(record["key"]["config"]))
    assert len(recipes) == 1 and len(set(seeds)) == len(seeds)


def test_readme_figures_are_published():
    """Every figure in dB in the README is a mean or spread of the published runs, or printed by a study."""
    history = {"23.5"}  # the project of 2021: its loss of 0.0045 is -10 * log10(0.0045) dB
    promised = {"0.02", "0.15"}  # the tolerances that tests/test_published.py keeps
    known = (history | promised).union(*(re.findall(r"\d+\.\d+", table_row(name)) for name in SETS))
    known |= set(re.findall(r"\d+\.\d+", "".join(map(printed, [*STUDIES, "07_photos"]))))
    claimed = re.findall(r"(\d+\.\d+) dB", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert claimed and set(claimed) <= known


def printed(name: str) -> str:
    """All that a committed notebook printed."""
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "".join("".join(o.get("text", "")) for cell in cells for o in cell.get("outputs", []))


STUDIES = sorted(path.stem for path in (ROOT / "notebooks").glob("0[2-6]_*.ipynb"))


@pytest.mark.parametrize("name", STUDIES)
def test_tables_of_the_studies_are_means_of_the_records(name):
    """Every training of a study: its record and scores agree, and the mean over its seeds stands in the notebook."""
    text, found = printed(name), {}
    for folder in sorted((PUBLISHED / name).iterdir()):
        record, scores = (json.loads((folder / f"{part}.json").read_text()) for part in ("record", "scores"))
        assert scores["about"]["key"] == record["key"], folder.name
        last = scores["epochs"][str(record["epochs"])]["held_out"]["psnr"]
        assert len(record["history"]) == record["epochs"], folder.name
        if not re.search(
            "transposed|fed|deviation|training_mode|2021_entire", folder.name
        ):  # judged otherwise on purpose
            assert abs(record["history"][-1]["psnr"] - last) < 0.01, folder.name
        found.setdefault(folder.name.rpartition("-")[0], []).append(last)
    assert found
    for case, values in found.items():
        cell = f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{mean(values):.2f}"
        assert cell in text, (case, cell)
    assert all(
        len(values) >= 3 for case, values in found.items() if case.startswith("sign_digits") and "full" not in case
    )


@pytest.mark.parametrize("name", [*STUDIES, "07_photos"])
def test_prose_of_the_studies_is_of_their_tables(name):
    """Every figure in dB in a study's text, and in the log's entry on it, was printed by its cells."""
    notebook = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))
    prose = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    log = (ROOT / "PROGRESS.md").read_text(encoding="utf-8")
    entry = next(part for part in re.split(r"\n\*\*|\n## ", log)[1:] if f"`{name}`" in part)
    laws = {"23.5", "48.13", "6.02"}  # the log of 2021, 20 log10(255) and 20 log10(2)
    for text in (prose, entry):
        claimed = re.findall(r"(\d+\.\d+)(?: ± \d+\.\d+)? dB", text)
        assert claimed and set(claimed) <= laws | set(re.findall(r"\d+\.\d+", printed(name)))


def test_the_tables_of_07_photos_are_the_published_scores():
    """Each mean over the pictures of scores.json stands in the notebook's tables."""
    scores = json.loads((PUBLISHED / "denoiser" / "scores.json").read_text())
    text, counts = printed("07_photos"), {"CBSD68": 68, "Set12": 12, "BSD68": 68}
    assert set(scores) == set(counts)
    shipped = json.loads((PUBLISHED / "denoiser" / "record.json").read_text())["sha256"]
    assert all(scores[name]["25"]["ours, drawn"]["weights"] == shipped for name in scores)
    for name, count in counts.items():
        block = re.split(rf"\b{name}, {count} pictures", text)[1].partition("\n\n")[0]
        for place, sigma in enumerate(("15", "25", "50")):
            for method, found in scores[name][sigma].items():
                assert len(found["psnr"]) == count
                line = next(line for line in block.splitlines() if line.startswith(f"{method}  "))
                cell = line.removeprefix(method).split()[place]
                assert cell == f"{mean(found['psnr']):.2f}", (name, sigma, method)


def test_answers_in_the_log_are_of_the_studies():
    log = (ROOT / "PROGRESS.md").read_text(encoding="utf-8")
    section = log.partition("the questions of 2021\n")[2].partition("\n## ")[0]
    claimed = re.findall(r"(\d+\.\d+)(?: ± \d+\.\d+)? dB", section)
    assert len(claimed) > 20 and set(claimed) <= set(re.findall(r"\d+\.\d+", "".join(map(printed, STUDIES))))


def test_speed_figures_are_those_of_the_notebook():
    """The goal table that 09_speed printed, in the README's row and in the log's table."""
    goals = re.findall(r"^(.+?) at (?:least|most) +\S+ +(\S+)  \S+$", printed("09_speed"), re.M)
    found = {what.strip(): float(x) for what, x in goals}
    row = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "[09_speed]" in line)
    log = (ROOT / "PROGRESS.md").read_text(encoding="utf-8")
    old, ours = found["% of the matmul peak, network of 2021"], found["% of the matmul peak, default training"]
    passed, faster = found["seconds of training until BM3D is passed"], found["denoising, times faster than BM3D"]
    assert f"after {passed:.0f} s" in row and f"{faster:g} times its speed" in row
    assert f"{old:.0f} % and {ours:.0f} % of the matmul peak" in row
    for text in (
        f"| 6 times | {found['images a second, times those of the 2021 way']:g} times; missed |",
        f"| 1.5 times | {found['the same without bfloat16']:g} times; missed |",
        f"| 2 % | {found['% of an epoch outside the network and its optimizer step']:.1f} % (data",
        f"| 60 % | {old:.0f} % |",
        f"| 45 % | {ours:.0f} %; missed |",
        f"| 30 s of training | {passed:g} s |",
        f"| {faster:g} times, + {found['denoising, dB above BM3D']:g} dB |",
    ):
        assert text in log, text


if __name__ == "__main__":
    for name in SETS:
        print(table_row(name))


def test_figures_of_08_object_blur_out_are_the_published_scores():
    """Each mean ± deviation over the seeds stands in the notebook, and what README and log say of it was printed."""
    scores = json.loads((PUBLISHED / "finder" / "scores.json").read_text())
    text, figures = printed("08_object_blur_out"), {"iou", "recall", "pixels", "boxed"}
    for kind, title in (("scenes", "300 drawn scenes, 3 seeds"), ("photos", "500 photos, 3 seeds")):
        block = text.partition(title)[2].partition("\n\n")[0]
        for way, conditions in scores[kind].items():
            for condition, runs in conditions.items():
                assert len(runs) == 3
                line = next(line for line in block.splitlines() if line.startswith(f"{way}, {condition} "))
                for figure in figures:
                    values = [run[figure] for run in runs]
                    spread = stdev(values)
                    assert f"{mean(values):.3f}" + (f" ± {spread:.3f}" if spread else "") in line, (line, figure)
    log = (ROOT / "PROGRESS.md").read_text(encoding="utf-8")
    entry = next(part for part in re.split(r"\n\*\*|\n## ", log)[1:] if "`08_object_blur_out`;" in part)
    row = next(
        line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "(notebooks/08" in line
    )
    notebook = json.loads((ROOT / "notebooks/08_object_blur_out.ipynb").read_text(encoding="utf-8"))
    prose = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    explored = {"0.945", "0.431"}  # the first finder's, one seed: PROGRESS.md
    for told in (entry, row, prose):
        claimed = set(re.findall(r"\b[01]\.\d{3}\b", told))
        assert claimed and claimed <= explored | set(re.findall(r"\d+\.\d+", text))
