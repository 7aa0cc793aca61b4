"""The figures of the studies show the numbers they are given; no two methods look alike."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from src.studies.figures import (
    OTHERS,
    STYLES,
    plot_bars,
    plot_dots,
    plot_heat_map,
    plot_lines,
    plot_paired_differences,
    style,
    zoomed,
)
from src.studies.records import Run
from src.studies.results import Results
from src.studies.run_figures import gain_finding, passed, plot_history, share_of_gain
from src.studies.sketches import plot_sketches


@pytest.fixture(autouse=True)
def closed():
    yield
    assert not plt.get_fignums()  # a notebook shows the returned Figure once


def texts(figure) -> set[str]:
    figure.canvas.draw()
    return {text.get_text() for axis in figure.axes for text in axis.findobj(plt.Text)} - {""}


def made(scores: dict) -> Results:
    """Results of {(data, case): PSNR of each seed}."""
    return Results([
        Run(data, case, seed, {}, {}, 1, history=[{"epoch": 1}], scores={"1": {"held_out": {"psnr": value}}})
        for (data, case), values in scores.items() for seed, value in enumerate(values)
    ])  # fmt: skip


def test_no_two_methods_share_colour_and_marker():
    # of "ours" and of each other; never in one figure
    synonyms = {"UNet", "MSE", "sign_digits", "L1", "finger_numbers"}
    looks = [STYLES[name] for name in STYLES if name not in synonyms] + OTHERS
    assert len(set(looks)) == len(looks) >= 20
    assert style("ours", ["new", "ours"]) == STYLES["ours"] and style("new", ["new", "ours"]) == OTHERS[0]
    # an addition to a method's name changes nothing, unless the figure would show two alike
    assert style("DnCNN (published)", ["DnCNN (published)", "ours"]) == STYLES["DnCNN"]
    assert style("2021, on its training photos", ["2021, on its training photos"]) == STYLES["2021"]
    assert style("ours, x8", ["ours", "ours, x8"]) == OTHERS[0]


def test_lines_have_their_points_and_their_names_at_the_end():
    curves = {"MSE": [(1, 20.0, 0.5), (10, 30.0, 0.5)], "L1": [(1, 19.0), (10, 29.99)], "one point": [(3, 25.0)]}
    figure = plot_lines({"epochs": curves}, "PSNR", "a $ title", {"BM3D": 29.87}, log="x", shade=(1, 2))
    axis = figure.axes[0]
    assert [line.get_xydata()[-1].tolist() for line in axis.lines[:3]] == [[10, 30], [10, 29.99], [3, 25]]
    assert axis.get_xscale() == "log" and axis.get_ylabel() == "PSNR" and axis.get_xlabel() == "epochs"
    assert {"MSE", "L1", "one point", "BM3D 29.87"} <= texts(figure)
    heights = sorted(text.get_position()[1] for text in axis.texts if text.get_text() in ("MSE", "L1", "BM3D 29.87"))
    assert min(np.diff(heights)) > 0.05  # none covers another
    points = {"left": [(1, 20.0)], "near": [(1.4, 20.1)], "right": [(100, 25.0)]}
    placed = {text.get_text(): text for text in plot_lines({"s": points}, "PSNR", log="x").axes[0].texts}
    assert abs(placed["left"].get_position()[1] - placed["near"].get_position()[1]) > 0.05
    assert placed["right"].get_ha() == "right"  # within the frame
    named = plot_lines({"epochs": curves}, "PSNR", names_at=1, dashed=("L1",)).axes[0]
    assert [text.get_position()[0] for text in named.texts[:2]] == pytest.approx([0.05 / 1.1] * 2, abs=0.01)
    assert [line.get_linestyle() for line in named.lines[:2]] == ["-", "--"]
    with pytest.raises(ValueError, match='log must be "", "x", "y" or "xy", got \'z\''):
        plot_lines({"epochs": curves}, "PSNR", log="z")


def test_paired_differences_are_those_of_the_seeds():
    results = made({("hands", "MSE"): (30, 31, 32), ("hands", "L1"): (29.9, 30.8, 31.7), ("drawn", "MSE"): (20,),
                    ("drawn", "L1"): (20.5,)})  # fmt: skip
    figure = plot_paired_differences(results, "MSE", title="L1 loses")
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[0].get_xdata(), [-0.1, -0.2, -0.3], atol=1e-9)
    assert {"-0.20", "+0.50", "L1", "L1 loses"} <= texts(figure)
    assert "filled: hands, hollow: drawn" in axis.get_xlabel()
    small = made({("hands", "a"): (30, 31), ("hands", "b"): (29.995, 30.995)})
    assert "-0.005" in texts(plot_paired_differences(small, "a"))  # not "+0.00"


def test_dots_bars_and_heat_map_show_their_numbers():
    dots = plot_dots({"a": {"x": (1.0, 0.1), "y": (2.0, 0)}, "b": {"x": (1.5, 0.2)}}, "PSNR", levels={"BM3D": 1.2})
    assert len(dots.axes) == 2 and {"1.00", "1.50", "2.00", "a", "b", "BM3D"} <= texts(dots)
    bars = plot_bars({"ours": {"forward": 1.0, "_backward": 3.0}, "2021": {"forward": 2.0}}, "seconds", form="{:.1f} s")
    assert {"1.0 s", "3.0 s", "2.0 s"} <= texts(bars)
    table = pd.DataFrame({"0.1": [30.0, 20.0], "0.5": [10.0, 25.0]}, index=["low", "high"])
    figure = plot_heat_map(table, "tested on", "trained on", "a claim")
    bold = {text.get_text() for text in figure.axes[0].texts if text.get_weight() == "bold"}
    assert bold == {"30.0", "25.0"} and {"10.0", "20.0", "low", "high", "0.1", "0.5"} <= texts(figure)


def test_sketches_draw_a_bar_a_stage_and_an_arrow_a_connection():
    figure = plot_sketches({"latent": ([1, 2, 4, 8], False, False), "ours": ([1, 2, 4], True, True)})
    latent, ours = figure.axes
    assert len(latent.patches) == 7 and len(latent.texts) == 0
    assert len(ours.patches) == 5 and len(ours.texts) == 2 + 1  # two skips, one residual output
    assert {"1", "1/2", "1/4"} < texts(plot_sketches({"ours": ([1, 2, 4], True, True)}, sides=True))
    many = plot_sketches({f"network {i}": ([1, 2], False, False) for i in range(7)})
    assert len(many.axes) == 8  # two rows


def test_zoomed_is_the_middle_of_one_image():
    images = torch.arange(3 * 8 * 12.0).reshape(3, 1, 8, 12)
    assert torch.equal(zoomed({"a": images})["a"], images[1:2, :, 2:6, 3:9])
    assert all(torch.equal(*pair) for pair in itertools.pairwise(zoomed({"a": images, "b": images}, row=0).values()))


def test_titles_of_a_run_are_its_findings():
    points, levels = [(1, 20.0), (2, 24.0), (10, 27.0)], {"NLM": 23.0, "BM3D": 26.0, "other": 30.0}
    assert passed(points, levels) == "Above BM3D from epoch 10 on" and passed(points[:1], levels) == "Held-out PSNR"
    history = [{"epoch": epoch, "psnr": psnr, "train_mse": 0.1 / epoch} for epoch, psnr in points]
    assert share_of_gain(history, 14.0, epoch=5) == pytest.approx(10 / 13)
    assert gain_finding(history, 14.0, 5) == "a run of 3 epochs does not test the prediction, one of more than 5 does"
    assert gain_finding(history, 14.0, 2) == "77% of the gain after 2 epochs: the prediction is right"
    assert {"Above BM3D from epoch 10 on", "The training loss falls by a factor of 10.0"} <= texts(
        plot_history(history, levels)
    )
