"""The studies of 08: measures in closed form, and the documented commands with tiny parameters."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from skimage.draw import polygon2mask

from src.checkpoint import load
from src.datasets.hand_scenes import draw_scenes, test_scene
from src.images import ImageSet
from src.networks import MaskUNet
from src.photos.hand_finder import Found
from src.photos.publishing import read_record
from src.studies import hand_figures
from src.studies.hand_finding import REBUILDER, MaskDataset, main, network
from src.studies.hand_methods import (
    as_float,
    box_iou,
    box_of,
    evaluate_method,
    find_by_colour,
    find_methods,
    hand_before_wall,
)


@pytest.fixture(scope="module")
def scenes():
    """Four hands in rooms and two rooms without, uint8 [6, 4, 96, 96]."""
    return draw_scenes(partial(test_scene, seed=1000, size=96), 6)


def test_box_iou_in_closed_form():
    assert box_iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1 and box_iou((0, 0, 4, 4), (4, 0, 4, 4)) == 0
    assert box_iou((0, 0, 4, 2), (2, 0, 4, 2)) == pytest.approx(4 / 12)


def test_a_perfect_a_blind_and_a_greedy_method(scenes):
    masks = iter([scene[3] > 127 for scene in scenes])

    def perfect(image):
        mask = next(masks)
        return [Found(box_of(mask), mask, 1.0)] if mask.any() else []

    found = evaluate_method(perfect, scenes, 0.0, 0)
    assert (found["iou"], found["recall"], found["pixels"], found["alarms"]) == (1, 1, 1, 0)
    found = evaluate_method(lambda image: [], scenes, 0.2, 0)
    assert (found["iou"], found["recall"], found["pixels"], found["alarms"]) == (0, 0, 0, 0)
    everything = Found((0, 0, 96, 96), np.ones((96, 96), bool), 1.0)
    found = evaluate_method(lambda image: [everything], scenes, 0.2, 0)
    assert found["pixels"] == found["alarms"] == 1 and 0 < found["iou"] < 0.6
    without = evaluate_method(lambda image: [], scenes[[0, 1]], 0.0, 0)
    assert without["alarms"] is None


def test_the_hand_in_a_photo_before_a_plain_wall():
    """A skin-coloured triangle before a grey wall that darkens to the side."""
    mask = polygon2mask((100, 100), [(20, 50), (95, 20), (95, 80)])
    wall = np.linspace(150, 230, 100)[None, :, None] * np.ones((100, 1, 3))
    noise = np.random.default_rng(0).normal(0, 2, (100, 100, 3))
    image = np.where(mask[..., None], np.array([200, 150, 120]), wall) + noise
    found = hand_before_wall(image.clip(0, 255).astype(np.uint8).transpose(2, 0, 1))
    assert (found & mask).sum() / (found | mask).sum() > 0.95


def test_skin_colour_is_found_and_blue_is_not():
    image = torch.full((3, 100, 100), 0.2)
    image[:, 30:70, 20:60] = torch.tensor([0.85, 0.65, 0.55])[:, None, None]
    assert box_iou(find_by_colour(image)[0].box, (20, 30, 40, 40)) > 0.9
    image[:, 30:70, 20:60] = torch.tensor([0.2, 0.3, 0.8])[:, None, None]
    assert find_by_colour(image) == []


def test_masks_are_cropped_and_turned_with_their_image(scenes):
    """A scene whose fourth channel is its first: input and target must show the same place."""
    pixels = scenes.copy()
    pixels[:, 3] = pixels[:, 0]
    pairs = MaskDataset(ImageSet.from_pixels(torch.from_numpy(pixels)), 0.0, crop_size=32, augment=True)
    noisy, mask = pairs.batch([0, 1, 2])
    assert noisy.shape == (3, 3, 32, 32) and mask.shape == (3, 1, 32, 32)
    assert torch.equal(noisy[:, :1], mask)
    assert isinstance(network("finder", 0), MaskUNet)


def test_the_shipped_autoencoder_is_wrong_on_hands(scenes):
    methods = find_methods(network("finder", 0), load(REBUILDER), read_record(REBUILDER)["threshold"])
    found = evaluate_method(methods["reconstruction"], scenes, 0.0, 0)
    assert found["iou"] > 0.2 and found["pixels"] > 0.4


def test_figures_have_the_panels_they_promise(scenes):
    finder, rebuilder = load(REBUILDER.parent / "finder"), load(REBUILDER)
    methods = find_methods(finder, rebuilder, 0.05)
    rows = [hand_figures.steps(as_float(scene), methods, finder, rebuilder) for scene in scenes[:2]]
    images, titles, columns = hand_figures.sheet(rows)
    assert images.shape == (10, 3, 96, 96) and columns == 5 and titles[5:] == titles[:5]
    assert list(rows[0]) == ["scene", "reconstruction", "skin colour", "segmentation", "hidden"]
    assert images.min() >= 0 and images.max() <= 1
    images, titles, columns = hand_figures.worst_scenes(methods, scenes, 2)
    assert images.shape == (6, 3, 96, 96) and len(titles) == 6 and columns == 2
    frame = hand_figures.outlined(torch.zeros(3, 40, 40), [Found((10, 10, 20, 20), np.zeros((40, 40), bool), 1.0)])
    assert frame[0, 10, 10] == 1 and frame[0, 20, 20] == 0 and not frame[1:].any()


def test_tables_of_the_published_scores():
    """What the text of 08 says stands in the published scores."""
    scores = json.loads((REBUILDER.parent / "finder" / "scores.json").read_text())
    table = hand_figures.headline_table(scores)
    assert list(table.index) == ["segmentation", "reconstruction", "skin colour"]
    assert table.loc["segmentation", "IoU, wall"].startswith("0.899 ±")
    assert table.loc["skin colour", "IoU, wall"].startswith("0.941")
    full = hand_figures.condition_table(scores["photos"], seconds=True)
    assert len(full) == 12 and set(full["false alarms"]) == {"-"}
    assert full.loc[("segmentation, never saw noise", "noisy"), "box IoU"].startswith("0.004")
    assert full.loc[("segmentation, never saw noise", "denoised"), "box IoU"].startswith("0.809")


def test_the_commands_train_publish_and_evaluate(tmp_path, sign_digits):
    runs, published = str(tmp_path / "runs"), tmp_path / "published"
    tiny = ["--seeds", "0", "--epochs", "1", "--train-scenes", "4", "--test-scenes", "3", "--runs", runs]
    assert main([*tiny, "--train", "--publish", "--to", str(published)]) == 0
    assert read_record(published / REBUILDER.name)["threshold"] > 0
    command = read_record(published / REBUILDER.name)["command"]
    assert command == "python -m src.studies.hand_finding --train --publish --seeds 0"
    with torch.no_grad():
        assert load(tmp_path / "runs/finder-0")(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
    assert main([*tiny, "--evaluate", "--photos", str(sign_digits), "--to", str(published)]) == 0
    scores = json.loads((published / "finder" / "scores.json").read_text())
    assert {"scenes", "photos", "speed", "by_size"} == set(scores)
    assert len(scores["photos"]["segmentation"]["noisy"]) == 1
    assert len(scores["by_size"]["2"]) == 6


@pytest.fixture
def sign_digits(tmp_path):
    """Photos of triangles before a wall, where the hand photos would be."""
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    mask = polygon2mask((100, 100), [(20, 50), (95, 20), (95, 80)])
    for index in range(5):
        image = np.where(mask[..., None], np.array([200, 150, 120 + index]), np.array([210, 212, 208])).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def test_an_unknown_run_is_one_line(tmp_path, capsys):
    assert main(["--publish", "--runs", str(tmp_path), "--to", str(tmp_path / "to")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: no run in") and err.count("\n") == 1
