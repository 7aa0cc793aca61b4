"""The pictures show the pixels on the fixed scale, with the right figures under them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from src import plot_bars, plot_dots, plot_history, plot_lines, plot_noise, psnr, show_grid, show_images


@pytest.fixture
def columns():
    draw = torch.Generator().manual_seed(0)
    clean = torch.rand(5, 3, 24, 32, generator=draw) * 0.5
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=draw)
    return {"clean": clean, "noisy": noisy, "denoised": (clean + noisy) / 2}


def test_grid_has_titles_psnr_and_the_fixed_scale(columns):
    figure = show_grid(columns, rows=[3, 1])
    assert isinstance(figure, Figure) and len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:3]] == ["clean", "noisy", "denoised"]
    for row, index in enumerate([3, 1]):
        line = figure.axes[3 * row : 3 * row + 3]
        assert line[0].get_xlabel() == ""
        for axis, name in zip(line[1:], ["noisy", "denoised"]):
            value = psnr(columns[name][index : index + 1], columns["clean"][index : index + 1]).item()
            assert axis.get_xlabel() == f"{value:.2f} dB"
        for axis, name in zip(line, columns):
            shown = axis.images[0].get_array()
            expected = columns[name][index].clamp(0, 1).permute(1, 2, 0).numpy()
            assert np.allclose(shown, expected) and axis.images[0].get_clim() == (0, 1)


def test_residual_and_zoom_add_columns(columns):
    figure = show_grid(columns, rows=[0], residual=True, zoom=8)
    assert [axis.get_title() for axis in figure.axes][3:] == [
        "removed", "clean, zoomed", "noisy, zoomed", "denoised, zoomed",
    ]  # fmt: skip
    removed = figure.axes[3].images[0].get_array()
    expected = (0.5 + columns["noisy"][0] - columns["denoised"][0]).clamp(0, 1).permute(1, 2, 0)
    assert np.allclose(removed, expected)
    zoomed = figure.axes[4].images[0].get_array()
    assert np.allclose(zoomed, columns["clean"][0, :, 8:16, 12:20].permute(1, 2, 0))


def test_grey_pictures_are_shown_in_grey(columns):
    figure = show_grid({name: image[:, :1] for name, image in columns.items()}, rows=[0])
    assert figure.axes[0].images[0].get_array().ndim == 2
    assert figure.axes[0].images[0].get_cmap().name == "gray"


def test_a_figure_is_shown_once_by_a_notebook(columns):
    show_grid(columns)
    assert plt.get_fignums() == []  # an open figure would be shown a second time


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(noisy=torch.rand(5, 3, 24, 24)), "columns must share one shape"),
        (dict(noisy=torch.rand(3, 24, 32)), "columns must share one shape"),
    ],
)
def test_bad_columns(columns, change, words):
    with pytest.raises(ValueError, match=words):
        show_grid(columns | change)
    for wrong in ([columns["clean"]], {}):
        with pytest.raises(ValueError, match=r"columns must be \{title: pictures\}"):
            show_grid(wrong)
    for rows in ([], [-1], [99]):
        with pytest.raises(ValueError, match="rows must be some of 0 to"):
            show_grid(columns, rows=rows)
    with pytest.raises(ValueError, match="zoom must be between 1 and 24"):
        show_grid(columns, zoom=25)
    with pytest.raises(ValueError, match="residual needs a column named noisy"):
        show_grid({"clean": columns["clean"]}, residual=True)
    with pytest.raises(ValueError, match="reference 'truth' is not among the columns"):
        show_grid(columns, reference="truth")


def test_history_shows_every_record_and_baseline():
    history = [
        dict(epoch=e, train_mse=0.1 / e, seconds=1.0) | (dict(psnr=20.0 + e) if e % 2 else {}) for e in range(1, 6)
    ]
    figure = plot_history(history, lines={"noisy": 14.0, "nlm": 25.5})
    left, right = figure.axes
    assert left.lines[0].get_ydata() == pytest.approx([0.1, 0.05, 0.1 / 3, 0.025, 0.02])
    assert right.lines[0].get_xydata().tolist() == [[1, 21], [3, 23], [5, 25]]
    assert {"noisy 14.00", "nlm 25.50"} <= {text.get_text() for text in right.texts}


def test_noise_and_contact_sheet(columns):
    density = plot_noise(columns["noisy"], columns["clean"], 0.2).axes[0]
    assert sum(bar.get_height() * bar.get_width() for bar in density.patches) == pytest.approx(1, abs=0.01)
    figure = show_images(columns["clean"], titles=list("abcde"), columns=3)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", "d", "e", ""]


def test_lines_show_every_point_and_level_on_the_axes_asked_for():
    panels = {
        "seconds": {"ours": [(1, 20.0), (10, 30.0)], "2021": [(5, 15.0)]},
        "epochs": {"ours": [(1, 2.0), (2, 3.0)]},
    }
    figure = plot_lines(panels, y="PSNR in dB", title="quality", levels={"bm3d": 29.87}, log="x")
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[1, 20], [10, 30]]
    assert left.lines[1].get_linestyle() == "None"  # a single point is no line
    assert left.lines[0].get_color() == right.lines[0].get_color()
    assert "bm3d 29.87" in {text.get_text() for text in left.texts}
    assert (left.get_xlabel(), right.get_xlabel(), left.get_ylabel()) == ("seconds", "epochs", "PSNR in dB")
    assert (left.get_xscale(), left.get_yscale()) == ("log", "linear")
    assert [text.get_text() for text in figure.legends[0].texts] == ["ours", "2021"]
    with pytest.raises(ValueError, match="got 'z'"):
        plot_lines(panels, y="y", log="z")


def test_a_deviation_is_a_band_and_a_range_is_shaded():
    figure = plot_lines({"epochs": {"ours": [(1, 20.0, 0.5), (10, 30.0, 1.0)]}}, y="dB", shade=(2, 5))
    (axis,) = figure.axes
    corners = axis.collections[0].get_paths()[0].vertices.tolist()
    assert all(point in corners for point in ([1, 19.5], [1, 20.5], [10, 29], [10, 31]))
    assert [(bar.get_x(), bar.get_width()) for bar in axis.patches] == [(2, 3)]
    assert axis.lines[0].get_xydata().tolist() == [[1, 20], [10, 30]]


def test_dots_stand_on_their_rows_with_their_deviations():
    rows = {"mse": {"photos": (31.7, 0.1), "drawn": (27.0, 0.2)}, "l1": {"photos": (31.6, 0.2)}}
    figure = plot_dots(rows, x="PSNR in dB", title="losses", levels={"bm3d": 29.87})
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["mse", "l1"]
    dots = [line.get_xydata().tolist() for line in left.lines if line.get_marker() == "o"]
    assert dots == [[[31.7, 0]], [[31.6, 1]]] and len(right.containers) == 1
    ends = left.containers[1].lines[2][0].get_segments()[0]
    assert ends.tolist() == [[pytest.approx(31.4), 1], [pytest.approx(31.8), 1]]
    assert {"31.70", "31.60", "bm3d"} <= {text.get_text() for text in left.texts}
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row on top
    assert (left.get_title(), right.get_title()) == ("photos", "drawn")


def test_bars_are_set_end_to_end():
    figure = plot_bars({"a": {"data": 0.25, "forward": 0.75}, "b": {"forward": 0.5}}, x="share", title="an epoch")
    (axis,) = figure.axes
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axis.patches]
    assert ends == [(0, 0.25), (0.25, 1), (0, 0.5)]
    assert axis.patches[1].get_facecolor() == axis.patches[2].get_facecolor()
    assert {text.get_text() for text in axis.texts} == {"0.25", "0.75", "0.50"}
    assert [text.get_text() for text in figure.legends[0].texts] == ["data", "forward"]


def test_no_text_leaves_the_figure():
    lines = plot_lines(
        {"number of images": {"a curve of a rather long name": [(1, 1e-3), (1e5, 1e3)]}, "threads": {"b": [(1, 1)]}},
        y="seconds", title="how it grows", levels={"bm3d": 30.0}, log="xy",
    )  # fmt: skip
    bars = plot_bars({"the network of 2021": {f"operation {i}": 0.1 for i in range(10)}}, x="share", title="where")
    dots = plot_dots({"a case of a rather long name": {"a": (0.1, 0.01)}, "b": {"a": (0.3, 0.02)}}, x="dB", title="t")
    for figure in (lines, bars, dots):
        figure.draw_without_rendering()  # lays it out
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height


def test_names_of_levels_that_lie_close_do_not_cover_each_other():
    history = [dict(epoch=e, train_mse=0.01, psnr=20.0 + e) for e in (1, 2, 8)]
    figure = plot_history(history, {"noisy": 13.98, "nlm": 23.48, "blur": 23.29, "bm3d": 23.7})
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[1].texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x0 > figure.axes[1].get_window_extent().x0 for box in boxes)
