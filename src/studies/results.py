"""The results of a study: tables of mean ± standard deviation over the seeds, paired differences, curves."""

from dataclasses import replace
from math import log10
from statistics import mean, stdev

import pandas as pd

from src.studies.records import Run, filter_scores

LABELS = {
    "psnr": "PSNR (dB)", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "mse": "MSE", "l1": "L1",
    "colour": "colour shift",
    "parameters": "parameters", "seconds": "seconds",
}  # fmt: skip
DECIMALS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "mse": 5, "l1": 4, "colour": 4, "parameters": 0, "seconds": 0}
HIGHER = ("psnr", "ssim", "ms_ssim")  # is better
RISING = tuple(LABELS[name] for name in HIGHER)
Column = str | tuple  # a metric, or (metric, test set), or (metric, test set, epoch)
Spread = tuple[float, float]  # mean and standard deviation over the seeds; 0 for a single seed


class Results:
    """The runs of a study: `results[data, case]` is a list, one run a seed. data, cases: their names, in order."""

    def __init__(self, runs: list[Run]):
        self.runs = list(runs)
        self.data = list(dict.fromkeys(run.data for run in runs))
        self.cases = list(dict.fromkeys(run.case for run in runs))

    def __getitem__(self, key: tuple[str, str]) -> list[Run]:
        data, case = key
        return [run for run in self.runs if (run.data, run.case) == (data, case)]

    def __or__(self, other: "Results") -> "Results":
        return Results(self.runs + other.runs)

    def seeds(self, data: str) -> tuple[int, ...]:
        return tuple(dict.fromkeys(run.seed for run in self.runs if run.data == data))

    def filters(self, data: str) -> dict[str, float]:
        """PSNR in dB of the noisy images and the classical filters on the same held-out images, sigma 0.2."""
        return filter_scores(data, self.seeds(data))

    def filter_table(self, cases: list[str] = ()) -> pd.DataFrame:
        """`filters` of all data sets that have them, and below them the mean PSNR of these cases."""
        cells = {data: {name: stated(value) for name, value in self.filters(data).items()} for data in self.data}
        for data, values in cells.items():
            values |= {case: stated(self.mean(data, case)) for case in cases if values}
        return pd.DataFrame({data: values for data, values in cells.items() if values}).rename_axis("PSNR (dB)")

    def claim(self, text: str) -> str:
        """A figure's title: what the published runs showed; "" where other runs are among these."""
        return text if all(run.folder is None for run in self.runs) else ""

    def select(self, cases: list[str]) -> "Results":
        """The results of these cases, in this order."""
        return Results([run for case in cases for run in self.runs if run.case == case])

    def renamed(self, names: dict[str, str]) -> "Results":
        """The same results, with other names for some cases, to be shown."""
        return Results([replace(run, case=names.get(run.case, run.case)) for run in self.runs])

    def on(self, data: str) -> "Results":
        """The results on one data set."""
        return Results([run for run in self.runs if run.data == data])

    def spread(self, data: str, case: str, *column) -> Spread:
        """(mean, standard deviation) over the seeds of `Run.score(*column)`."""
        return spread([run.score(*column) for run in self[data, case]])

    def mean(self, data: str, case: str, *column) -> float:
        return self.spread(data, case, *column)[0]

    def difference(self, data: str, case: str, against: str, *column) -> Spread:
        """(mean, standard deviation) over the seeds of the case's score less that of another case, seed by seed."""
        return spread(self.differences(data, case, against, *column))

    def differences(self, data: str, case: str, against: str, *column) -> list[float]:
        """The case's score less that of another case, seed by seed."""
        pairs = zip(self[data, case], self[data, against], strict=True)
        return [run.score(*column) - other.score(*column) for run, other in pairs]

    def ranked(self, columns: list[Column]) -> pd.DataFrame:
        """`table` of the first data set, which names it; heads say which way is better, the best mean has a star."""
        one = self.on(self.data[0])
        table = one.table(columns)
        for column, head in zip(columns, table.columns):
            column = column if isinstance(column, tuple) else (column,)
            means = {case: one.mean(one.data[0], case, *column) for case in one.cases}
            best = (max if column[0] in HIGHER else min)(means, key=means.get)
            table.loc[best, head] += " *"
        table.columns = [f"{head} {'↑' if head.split(',')[0] in RISING else '↓'}" for head in table.columns]
        return table.rename_axis(f"{one.data[0]}, {len(one.seeds(one.data[0]))} seeds")

    def table(self, columns: list[Column], against: str | None = None) -> pd.DataFrame:
        """A row a case, for each data set a column of "mean ± std" over the seeds. against: its case is subtracted."""
        cells = {}
        for data in self.data:
            seeds = len(self.seeds(data))
            title = f"{data}, {seeds} seed{'s' * (seeds > 1)}"
            for column in columns:
                column = column if isinstance(column, tuple) else (column,)
                values = {}
                for case in self.cases:
                    if against is None:
                        values[case] = stated(*self.spread(data, case, *column), DECIMALS[column[0]])
                    elif case != against:
                        values[case] = stated(*self.difference(data, case, against, *column), DECIMALS[column[0]], "+")
                cells[title, label(column)] = values
        table = pd.DataFrame(cells).reindex([case for case in self.cases if case != against])
        return table.droplevel(0, axis=1) if len(self.data) == 1 else table

    def curve(self, data: str, case: str, metric: str = "psnr", test_set: str = "held_out") -> list[tuple]:
        """(epoch, mean, standard deviation over the seeds) at each epoch that was evaluated."""
        epochs = [int(epoch) for epoch in self[data, case][0].scores]
        return [(epoch, *self.spread(data, case, metric, test_set, epoch)) for epoch in epochs]

    def history(self, data: str, case: str, column: str = "psnr") -> list[tuple]:
        """The same of a column of the runs' own history; "train_psnr" is train_mse in dB."""
        name, value = ("train_mse", lambda x: -10 * log10(x)) if column == "train_psnr" else (column, float)
        runs = self[data, case]
        epochs = [record["epoch"] for record in runs[0].history if name in record]
        return [(epoch, *spread([value(run.history[epoch - 1][name]) for run in runs])) for epoch in epochs]

    def across_epochs(self, case: str, columns: list[Column]) -> pd.DataFrame:
        """A case's scores at each epoch that was evaluated: a row an epoch, for each data set a column."""
        cells = {}
        for data in self.data:
            for column in columns:
                column = column if isinstance(column, tuple) else (column, "held_out")
                points = self.curve(data, case, *column)
                cells[data, label(column)] = {epoch: stated(m, s, DECIMALS[column[0]]) for epoch, m, s in points}
        return pd.DataFrame(cells).rename_axis("epochs")


def label(column: tuple) -> str:
    """("psnr", "train", 100) -> "PSNR (dB), train, 100 epochs"."""
    test_set = [part.replace("_", " ") for part in column[1:2] if part and part != "held_out"]
    return ", ".join([LABELS[column[0]], *test_set, *(f"{epoch} epochs" for epoch in column[2:])])


def spread(values: list[float]) -> Spread:
    """Mean and standard deviation; 0 for one value."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def stated(middle: float, deviation: float = 0.0, decimals: int = 2, sign: str = "") -> str:
    """ "31.67 ± 0.15"; the mean alone where there is no deviation. sign: "+" to write it."""
    return f"{middle:{sign},.{decimals}f}" + (f" ± {deviation:.{decimals}f}" if deviation else "")
