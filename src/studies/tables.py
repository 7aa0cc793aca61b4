"""Write the tables of README.md and PROGRESS.md anew from the records in checkpoints/published/.

    python -m src.studies.tables          # every table, in place
    python -m src.studies.tables --check  # exit code 1 if one is stale; nothing is written
    python -m src.studies.tables --list   # the names of the tables

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, each on a line of its own.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import mean

import pandas as pd

from src.files import ROOT, exit_code, say, write_text
from src.studies.photo_benchmarks import (
    DEEPER,
    EIGHTH,
    FIRST,
    GREY,
    GREY_PHOTOS,
    OURS,
    PUBLISHED,
    SETS,
    SIGMAS,
    TUNED,
    load_scores,
    mean_psnr,
)
from src.studies.photo_noise import POLYU, POLYU_PUBLISHED
from src.studies.records import Run, published_runs
from src.studies.results import Results, spread, stated

CAMERA = {"noisy": "noisy", "NLM": "OpenCV fastNlMeans 4, 4", "ours, camera mode": "camera network"}  # in POLYU
NTNET = "[NTNet + NAFNet](https://arxiv.org/abs/2412.04727)"
DNCNN = "[DnCNN](https://arxiv.org/abs/1608.03981), published"
PAGES = (ROOT / "README.md", ROOT / "PROGRESS.md")
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def headline() -> pd.DataFrame:
    """PSNR in dB: noisy, classical filters, DnCNN as published, our three networks; and their speed."""
    hands = {name: mean(run.filters["psnr"][name]["mean"] for run in _default_runs("sign_digits"))
             for name in ("noisy", "nlm", "bm3d", "unet")}  # fmt: skip
    scores, keys, absent = load_scores(), {"noisy": "noisy", "NLM": "nlm", "BM3D": "bm3d"}, float("nan")
    rows = {name: [hands[key], *mean_psnr(scores, "CBSD68", key), absent] for name, key in keys.items()}
    rows[DNCNN] = [absent, *PUBLISHED["CBSD68"]["DnCNN"], absent]
    rows[f"{NTNET}, published"] = [absent] * 4 + [POLYU_PUBLISHED["NTNet + NAFNet"]]
    rows["ours, trained on hands"] = [hands["unet"]] + [absent] * 4
    rows["ours, shipped (blind)"] = [absent, *mean_psnr(scores, "CBSD68", OURS), absent]
    rows["ours, camera mode"] = [absent] * 5
    methods = json.loads(POLYU.read_text(encoding="utf-8"))["methods"]
    for name, method in CAMERA.items():
        rows[name][-1] = mean(methods[method]["psnr"])
    ours = [hands["unet"], *rows["ours, shipped (blind)"][1:4], absent]
    rows["gain of ours over BM3D"] = [round(value, 2) - round(bm3d, 2) for value, bm3d in zip(ours, rows["BM3D"])]
    columns = ["hands<br>sigma&nbsp;51", *(f"CBSD68<br>sigma&nbsp;{sigma}" for sigma in SIGMAS), "camera<br>PolyU"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table = table.map(lambda x: "-" if pd.isna(x) else f"{x:.2f}")
    seconds = {name: _fastest(scores, key) for name, key in (keys | {"ours, shipped (blind)": OURS}).items()}
    seconds |= {"noisy": absent, "ours, camera mode": methods["camera network"]["seconds_per_megapixel"]}
    times = [seconds.get(name, absent) for name in table.index]
    table["seconds a<br>megapixel"] = ["-" if pd.isna(x) else f"{x:.{x < 10:d}f}" for x in times]
    return table.rename_axis("PSNR (dB)")


def _fastest(scores: dict, method: str) -> float:
    """Seconds a megapixel on CBSD68: the least of the three measurements, as other programs only add to it."""
    return min(scores["CBSD68"][str(sigma)][method]["seconds_per_megapixel"] for sigma in SIGMAS)


def default_runs() -> pd.DataFrame:
    """The default network after 20 and 100 epochs on both data sets, beside BM3D: 01_denoise, three seeds."""
    rows = {}
    for data in ("finger_numbers", "sign_digits"):
        runs = _default_runs(data)
        psnr = {name: [run.filters["psnr"][name]["mean"] for run in runs] for name in ("bm3d", "unet")}
        row = {"BM3D": psnr["bm3d"]}
        row |= {f"epoch {n}": [run.history[n - 1]["psnr"] for run in runs] for n in (20, 100)}
        row["over BM3D"] = [ours - bm3d for ours, bm3d in zip(psnr["unet"], psnr["bm3d"])]
        rows[data] = {name: stated(*spread(values)) for name, values in row.items()}
    return pd.DataFrame(rows).T.rename_axis("data set")


def _default_runs(data: str) -> list[Run]:
    return [run for run in published_runs("01_denoise") if (run.data, run.case) == (data, "default")]


def study_table(study: str, columns: tuple, cases: tuple) -> pd.DataFrame:
    """A row for each of the cases that decided, three seeds on sign_digits: mean ± standard deviation."""
    results = Results([run for run in published_runs(study) if run.data == "sign_digits"])
    return results.select(cases).table(list(columns)).rename_axis("case")


def epochs() -> pd.DataFrame:
    """PSNR at five of the eleven lengths, 1 to 2000 epochs."""
    runs = [run for run in published_runs("02_epochs") if run.case == "300 images"]
    return Results(runs).across_epochs("300 images", ["psnr"]).loc[[1, 5, 20, 100, 2000]]


def gaussian() -> pd.DataFrame:
    """PSNR in dB at each sigma, ours beside published figures."""
    scores, absent = load_scores(), (float("nan"),) * len(SIGMAS)
    measured = {"BM3D": "bm3d", "ours, first run": FIRST, "ours": OURS,
                "ours, x8": f"{OURS}, ensemble", "run 8": EIGHTH, "ours, tuned on photos": TUNED,
                "run 4, third block": DEEPER, "first run's network on photos": "ours, photos",
                "ours, drawn images in grey alone": GREY, "ours, photos in grey alone": GREY_PHOTOS}  # fmt: skip
    rows = {label: [psnr for name in SETS for psnr in mean_psnr(scores, name, key)]
            for label, key in measured.items()}  # fmt: skip
    rows |= {f"{method} (published)": [psnr for name in SETS for psnr in PUBLISHED[name].get(method, absent)]
             for method in ("DnCNN", "FFDNet", "DRUNet")}  # fmt: skip
    columns = [f"{name} {sigma}" for name in SETS for sigma in SIGMAS]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.map(lambda value: "-" if pd.isna(value) else f"{value:.2f}")


TABLES = {
    "headline": headline,
    "gaussian": gaussian,
    "default-runs": default_runs,
    "epochs": epochs,
    "losses": lambda: study_table("03_losses", ("psnr", "ssim"), ("MSE", "L1", "SSIM", "Mix", "Mix 0.025")),
    "architectures": lambda: study_table(
        "04_architectures", ("parameters", "psnr"),
        ("latent 14x14", "latent 28x28", "no skip, no residual", "no skip", "BatchNorm", "ours", "2021",
         "2021, no BatchNorm"),
    ),
    "noise": lambda: study_table(
        "05_noise", ("psnr", ("psnr", "clipped"), ("psnr", "doodles")),
        ("sigma 0.2", "blind", "30 images, frozen noise", "clipped", "doodles", "noisy targets"),
    ),
    "pitfalls": lambda: study_table(
        "06_pitfalls", ("psnr",),
        ("no mistake", "transposed target", "transposed output", "wrong normalisation",
         "wrong normalisation, raw input", "4 images", "BatchNorm", "BatchNorm, batch size 1",
         "split by file", "SSIM, wrong sign", "2021 protocol"),
    ),
}  # fmt: skip


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; of two header rows the first is put before the second."""
    names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in table.columns]
    rows = [[table.index.name or "", *names], ["---"] + ["---:"] * len(names)]
    rows += [[str(name), *map(str, cells)] for name, cells in zip(table.index, table.itertuples(index=False))]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def updated(text: str) -> str:
    """A page with each of its tables made anew. Raises ValueError for a name that TABLES does not have."""

    def replace(block: re.Match) -> str:
        if block[2] not in TABLES:
            raise ValueError(f"no table {block[2]!r}, expected one of {', '.join(TABLES)}; correct the page")
        return block[1] + markdown(TABLES[block[2]]()) + block[3]

    return BLOCK.sub(replace, text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m src.studies.tables", description="Tables from the records.")
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES, help="Markdown files; README.md and PROGRESS.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a table is stale")
    parser.add_argument("--list", action="store_true", help="print the tables and their names")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _work(arguments))


def _work(arguments: argparse.Namespace) -> int:
    if arguments.list:
        for name, make in TABLES.items():
            say(f"{name}\n\n{markdown(make())}")
        return 0
    stale = 0
    for page in arguments.pages:
        before = page.read_text(encoding="utf-8")
        after = updated(before)
        if after != before:
            stale += 1
            say(f"{page.name}: {'stale; python -m src.studies.tables' if arguments.check else 'tables written'}")
            if not arguments.check:
                write_text(page, after)
    return int(arguments.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
