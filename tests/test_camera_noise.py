"""The simulated camera against its laws: shot noise, colour filter array, demosaicing, correlation, determinism."""

import numpy as np
import pytest
import torch

from src.datasets import camera_noise
from src.datasets.camera_noise import Camera, CameraNoiseDataset
from src.datasets.drawn_photos import draw_photo
from src.images import ImageSet


@pytest.fixture(scope="module")
def images():
    pixels = np.stack([draw_photo(np.random.default_rng([0, index]), 160) for index in range(12)])
    return ImageSet.from_pixels(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), [str(i) for i in range(12)])


def plain_camera(**changes) -> Camera:
    """A camera that changes nothing but what is asked for."""
    settings = dict(
        exposure=1.0, white_balance=(1.0, 1.0, 1.0), matrix=np.eye(3), s_curve=False, shot=0.0, read=0.0, malvar=False,
        corner=(0, 0), luma_blur=0.0, luma_threshold=0.0, chroma_blur=0.0, chroma_kept=0.0, keeps_edges=False,
        sharpening=0.0,
    )  # fmt: skip
    return Camera(**settings | changes)


def test_noise_variance_is_linear_in_the_signal_with_slope_shot_and_offset_read():
    signal = torch.linspace(0, 0.9, 10)
    raw = signal.reshape(10, 1, 1, 1).expand(10, 3, 128, 128)
    noisy = camera_noise.add_shot_and_read_noise(raw, 4e-3, 2e-4, np.random.default_rng(0))
    slope, offset = np.polyfit(signal.numpy(), (noisy - raw).var(dim=(1, 2, 3)).numpy(), 1)
    assert slope == pytest.approx(4e-3, rel=0.03)
    assert offset == pytest.approx(2e-4, rel=0.1)


def test_read_noise_follows_shot_noise_as_published():
    cameras = [Camera.drawn(np.random.default_rng(index)) for index in range(2000)]
    shot, read = (np.log([getattr(camera, name) for camera in cameras]) for name in ("shot", "read"))
    slope, offset = np.polyfit(shot, read, 1)
    assert slope == pytest.approx(2.18, abs=0.02)
    assert offset == pytest.approx(1.2, abs=0.15)
    assert np.std(read - 2.18 * shot - 1.2) == pytest.approx(0.26, abs=0.02)


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_filters_pass_one_colour_a_pixel_in_the_order_of_bayer(corner):
    filters = camera_noise.bayer_filters(6, 8, corner)
    assert (filters.sum(dim=0) == 1).all()
    top, left = corner
    cell = filters[:, top : top + 2, left : left + 2].argmax(dim=0)  # 0 red, 1 green, 2 blue
    assert cell.tolist() == [[0, 1], [1, 2]]
    assert filters.mean(dim=(1, 2)).tolist() == [0.25, 0.5, 0.25]


@pytest.mark.parametrize("demosaic", [camera_noise.demosaic_bilinear, camera_noise.demosaic_malvar])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_demosaicing_keeps_what_was_measured_and_is_exact_on_a_grey_ramp(demosaic, corner):
    filters = camera_noise.bayer_filters(12, 16, corner)
    image = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    measured = demosaic(image * filters, filters)
    torch.testing.assert_close(measured * filters, image * filters)
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    ramp = (0.1 + 0.02 * rows + 0.03 * columns).expand(1, 3, 12, 16)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(demosaic(ramp * filters, filters)[inside], ramp[inside])


def test_malvar_adds_the_papers_gradient_to_the_bilinear_value():
    """Equations of section 3: G = bilinear + 1/2 dR, R at green = bilinear + 5/8 dG, R at blue = bilinear + 3/4 dB."""
    filters = camera_noise.bayer_filters(12, 12, (0, 0))
    raw = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1)) * filters
    single, bilinear = raw[0].sum(dim=0), camera_noise.demosaic_bilinear(raw, filters)[0]
    malvar = camera_noise.demosaic_malvar(raw, filters)[0]

    def around(y, x, steps):
        return sum(single[y + dy, x + dx] for dy, dx in steps) / len(steps)

    two_away = [(-2, 0), (2, 0), (0, -2), (0, 2)]
    red_gradient = single[4, 4] - around(4, 4, two_away)
    assert malvar[1, 4, 4] == pytest.approx(float(bilinear[1, 4, 4] + red_gradient / 2), abs=1e-6)
    blue_gradient = single[5, 5] - around(5, 5, two_away)
    assert malvar[0, 5, 5] == pytest.approx(float(bilinear[0, 5, 5] + 3 / 4 * blue_gradient), abs=1e-6)
    # green in a red row: nine-point gradient, with +1/2 of the two that lie across the row (figure 2 of the paper)
    near = single[3, 4] + single[3, 6] + single[5, 4] + single[5, 6] + single[4, 3] + single[4, 7]
    green_gradient = single[4, 5] - (near - (single[2, 5] + single[6, 5]) / 2) / 5
    assert malvar[0, 4, 5] == pytest.approx(float(bilinear[0, 4, 5] + 5 / 8 * green_gradient), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_develop_undoes_expose_where_nothing_is_clipped(seed):
    camera = Camera.drawn(np.random.default_rng(seed))
    flat = torch.tensor([0.35, 0.4, 0.38]).reshape(3, 1, 1).expand(3, 16, 16)
    developed = camera_noise.develop(camera_noise.expose(flat[None], camera), camera)[0]
    torch.testing.assert_close(developed, flat, atol=1e-4, rtol=0)


def test_a_photograph_without_noise_is_its_own_clean_image():
    scene = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2))
    noisy, clean = camera_noise.photograph(scene, plain_camera(), np.random.default_rng(0))
    assert torch.equal(noisy, clean)


def test_stages_end_where_a_photograph_does_and_noise_gets_correlated_on_the_way():
    scene = torch.full((3, 96, 96), 0.4)
    camera = plain_camera(shot=2e-3, read=1e-5, chroma_blur=1.5, sharpening=0.3)
    found = camera_noise.stages(scene, camera, np.random.default_rng(0))
    noisy, clean = camera_noise.photograph(scene, camera, np.random.default_rng(0))
    assert torch.equal(found["JPEG"][0], camera_noise.jpeg(noisy, 90)) and torch.equal(found["JPEG"][1], clean)
    at_1 = [correlation((a - b - camera_noise.luma_of(a - b))[0], 1) for a, b in found.values()]
    assert abs(at_1[0]) < 0.03 and at_1[0] < at_1[1] - 0.2 < at_1[2] - 0.3  # white, demosaiced, chroma blurred


def test_keeping_edges_blurs_the_noise_of_chroma_alone():
    generator = torch.Generator().manual_seed(3)
    clean = torch.rand(3, 64, 64, generator=generator)
    noisy = clean + 0.05 * torch.randn(3, 64, 64, generator=generator)
    reduced, shown = camera_noise.reduce_noise(noisy, clean, plain_camera(chroma_blur=2.0, keeps_edges=True))
    torch.testing.assert_close(shown, clean)
    chroma = lambda x: x - camera_noise.luma_of(x)  # noqa: E731
    assert float(chroma(reduced - shown).std()) < 0.25 * float(chroma(noisy - clean).std())
    torch.testing.assert_close(camera_noise.luma_of(reduced), camera_noise.luma_of(noisy))


def test_blur_has_the_asked_standard_deviation():
    impulse = torch.zeros(1, 41, 41)
    impulse[0, 20, 20] = 1
    spread = camera_noise.blurred(impulse, 2.0)[0]
    offsets = torch.arange(41.0) - 20
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    assert float((spread.sum(dim=0) * offsets.square()).sum()) ** 0.5 == pytest.approx(2.0, rel=0.05)


def correlation(noise: torch.Tensor, distance: int) -> float:
    noise = noise - noise.mean()
    rows, columns = noise[distance:] * noise[:-distance], noise[:, distance:] * noise[:, :-distance]
    return float((rows.mean() + columns.mean()) / 2 / noise.square().mean())


def test_noise_is_as_loud_and_as_correlated_as_measured_on_photos(images):
    """Luma 2 to 6 of 255, correlation 0.4 to 0.55 and 0.1; chroma 0.75, 0.55, 0.4. Medians; ranges a bit wider."""
    figures = []
    for index in range(60):
        noisy, clean = camera_noise.camera_pair(np.random.default_rng([1, index]), images.array(index % 12), 64)
        luma = camera_noise.luma_of(noisy - clean)
        red = (noisy - clean - luma)[0]
        correlations = [correlation(luma[0], d) for d in (1, 2)] + [correlation(red, d) for d in (1, 2, 3)]
        figures.append([float(luma.std()) * 255, *correlations])
    loudness, luma_1, luma_2, chroma_1, chroma_2, chroma_3 = np.median(figures, axis=0)
    assert 2 <= loudness <= 6
    assert 0.35 <= luma_1 <= 0.6 and 0 <= luma_2 <= 0.2
    assert 0.7 <= chroma_1 <= 0.9 and 0.5 <= chroma_2 <= 0.75 and 0.3 <= chroma_3 <= 0.6


def test_pairs_depend_on_seed_epoch_and_index_alone(images):
    pairs = CameraNoiseDataset(images, seed=5, crop_size=48)
    noisy, clean = pairs.batch([3, 7, 1])
    assert noisy.shape == clean.shape == (3, 3, 48, 48) and pairs.shape == (3, 48, 48)
    assert torch.equal(pairs.batch([7])[0][0], noisy[1])
    pairs.set_epoch(1)
    assert not torch.equal(pairs.batch([3])[0][0], noisy[0])
    assert not torch.equal(CameraNoiseDataset(images, seed=6, crop_size=48).batch([3])[0][0], noisy[0])
    fixed = CameraNoiseDataset(images, seed=5, fixed=True, crop_size=48)
    before = fixed.batch([3])
    fixed.set_epoch(9)
    assert all(torch.equal(a, b) for a, b in zip(before, fixed.batch([3])))


def test_fractions_of_camera_gaussian_and_no_noise(images):
    pairs = CameraNoiseDataset(images, crop_size=16, fractions=(0.5, 0.2, 0.3))
    kinds = []
    for epoch in range(40):
        pairs.set_epoch(epoch)
        noisy, clean = pairs.batch(list(range(12)))
        from_a_file = ((noisy * 255) - (noisy * 255).round()).abs().amax(dim=(1, 2, 3)) < 1e-3
        equal = (noisy == clean).all(dim=(1, 2, 3))
        kinds += torch.where(equal, 2, torch.where(from_a_file, 0, 1)).tolist()
    assert np.bincount(kinds) / len(kinds) == pytest.approx([0.5, 0.2, 0.3], abs=0.07)


def test_the_config_names_what_decides_the_pairs(images):
    config = CameraNoiseDataset(images, seed=2, crop_size=32).config
    assert config["noise"] == "camera" and config["fractions"] == [0.74, 0.11, 0.15] and config["seed"] == 2


@pytest.mark.parametrize(
    "wrong, words",
    [(dict(fractions=(1, 1, 1)), "sum to 1"), (dict(crop_size=1000), "crop_size"), (dict(seed=-1), "seed")],
)
def test_wrong_arguments_are_named(images, wrong, words):
    with pytest.raises(ValueError, match=words):
        CameraNoiseDataset(images, **wrong)


def test_grey_images_are_refused():
    with pytest.raises(ValueError, match="colour"):
        CameraNoiseDataset(torch.rand(2, 1, 128, 128))


def test_jpeg_of_best_quality_is_nearly_the_image_and_of_low_quality_is_not():
    smooth = camera_noise.blurred(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)), 2.0)
    error = lambda quality: float((camera_noise.jpeg(smooth, quality, 0) - smooth).std())  # noqa: E731
    assert error(100) < 1 / 255 < error(30)
