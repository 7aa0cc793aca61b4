"""Grids show the pixels on the fixed scale, with the right figures under them."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from src.metrics import psnr
from src.plots import DPI, PAGE, plain, show_grid


@pytest.fixture
def columns():
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(5, 3, 24, 32, generator=generator) * 0.5
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=generator)
    return {"clean": clean, "noisy": noisy, "denoised": (clean + noisy) / 2}


def test_a_grid_has_titles_psnr_and_the_fixed_scale(columns):
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


def test_an_image_pixel_is_a_whole_number_of_screen_pixels(columns):
    """Or noise would be averaged away where the page is drawn."""
    for count, side in [(3, 24), (2, 300), (5, 128), (4, 600)]:
        image = torch.rand(1, 3, side, side)
        figure = show_grid({"clean": image} | {f"c{i}": image for i in range(count - 1)}, rows=[0])
        width, height = figure.get_size_inches() * DPI
        for axis in figure.axes:
            box = axis.get_position()
            across, down = box.width * width / side, box.height * height / side
            assert [across, down] == pytest.approx([max(1, round(across))] * 2, abs=1e-6)
        assert width <= PAGE or round(across) == 1


def test_residual_and_zoom(columns):
    figure = show_grid(columns, rows=[0], residual=True, zoom=8)
    assert [axis.get_title() for axis in figure.axes[:4]] == ["clean", "noisy", "denoised", "removed"]
    removed = figure.axes[3].images[0].get_array()
    expected = (0.5 + columns["noisy"][0] - columns["denoised"][0]).clamp(0, 1).permute(1, 2, 0)
    assert np.allclose(removed, expected)
    zoomed = figure.axes[4].images[0].get_array()  # 8 wide, and as high as the image's shape has it
    assert np.allclose(zoomed, columns["clean"][0, :, 9:15, 12:20].permute(1, 2, 0))
    assert figure.axes[4].get_ylabel() == "zoomed"
    assert figure.axes[1].get_xlabel().endswith(" dB") and figure.axes[5].get_xlabel() == ""  # of the whole image


def test_grey_images_are_shown_in_grey(columns):
    figure = show_grid({name: image[:, :1] for name, image in columns.items()}, rows=[0])
    assert figure.axes[0].images[0].get_array().ndim == 2
    assert figure.axes[0].images[0].get_cmap().name == "gray"


def test_a_figure_is_shown_once_by_a_notebook(columns):
    show_grid(columns)
    assert plt.get_fignums() == []  # an open figure would be shown a second time


def test_equal_images_have_100_db(columns):
    figure = show_grid({"clean": columns["clean"], "same": columns["clean"]}, rows=[0])
    assert figure.axes[1].get_xlabel() == "100.00 dB"


@pytest.mark.parametrize("change", [
    dict(noisy=torch.rand(5, 3, 24, 24)), dict(noisy=torch.rand(3, 24, 32)), dict(noisy=torch.rand(4, 3, 24, 32)),
])  # fmt: skip
def test_columns_of_other_shapes_are_named(columns, change):
    with pytest.raises(
        ValueError, match=r"^columns must be 'clean' and others of one shape \[N, C, H, W\], got \{"
    ) as caught:
        show_grid(columns | change)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="'truth'"):
        show_grid(columns, reference="truth")
    with pytest.raises(ValueError, match="columns must be"):
        show_grid({})


def test_a_users_text_starts_no_formula_and_warns_of_no_glyph(columns):
    """File and class names hold dollars, line breaks and other scripts; pytest turns a warning into an error."""
    names = ["cost $5 and $6", "a\nb", "一二 hand", "café", r"\frac", "$\\undefined{"]
    assert [plain(name) for name in names] == [
        r"cost \$5 and \$6",
        r"a\nb",
        "?? hand",
        "café",
        r"\frac",
        r"\$\undefined{",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in names:
            figure = show_grid({"clean": columns["clean"], name: columns["noisy"]}, rows=[0], titles=[name])
            figure.draw_without_rendering()


def test_no_label_leaves_the_figure(columns):
    figure = show_grid(columns, titles=["yi/scene00_0.png"] * 4, zoom=12, residual=True)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * DPI
    for axis in figure.axes:
        for text in (axis.title, axis.xaxis.label):
            box = text.get_window_extent()
            assert not text.get_text() or (
                box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            )
