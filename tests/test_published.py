"""What the README promises of published runs: shipped weights give their figures on any machine, and
training again on another kind of machine gives the same finding."""

import json
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from PIL import Image

from src import GaussianNoiseDataset, ImageSet, UNet, load_images, load_snapshot, psnr, split_images
from src.images import ROOT
from src.evaluation import denoise_batches
from src.datasets.finger_numbers import CLASSES, draw

PUBLISHED = ROOT / "checkpoints" / "published"
RUN = PUBLISHED / "finger_numbers-0"


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Names of the run's 60 held-out pictures, and six of them, drawn anew: position -> uint8 [3, 128, 128]."""
    names = [
        f"{label}/scene{scene:02d}_{shot}.png" for label in sorted(CLASSES) for scene in range(10) for shot in range(3)
    ]
    blank = torch.zeros(len(names), 3, 1, 1, dtype=torch.uint8)
    labels, groups = [name.split("/")[0] for name in names], [name[:-6] for name in names]
    _, chosen = split_images(ImageSet.from_pixels(blank, names, labels, groups), held_out=0.2, seed=0)
    chosen = chosen.sample(60, 0).names
    folder = tmp_path_factory.mktemp("drawn")
    places = range(5, 60, 10)
    for place in places:
        label, scene, shot = chosen[place][:-4].replace("/scene", "_").split("_")
        image, _ = draw(CLASSES.index(label) + 1, int(scene), int(shot))
        Image.fromarray(image).save(folder / f"{place}.png")
    pixels = load_images(folder, size=128, cache=folder / "cache").pixels
    return dict(zip(places, pixels))


@pytest.mark.parametrize("threads", [1, 2])
def test_shipped_weights_give_the_published_figures_here(held_out, threads):
    pixels = torch.zeros(60, 3, 128, 128, dtype=torch.uint8)
    for place, image in held_out.items():
        pixels[place] = image
    record = json.loads((RUN / "record.json").read_text())
    model = UNet(**{name: value for name, value in record["key"]["network"].items() if name != "class"})
    model.load_state_dict(load_snapshot(RUN, record["epochs"]))
    pairs = GaussianNoiseDataset(ImageSet.from_pixels(pixels), sigma=0.2, seed=1, fixed=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = torch.cat([psnr(denoised, clean) for _, clean, denoised in denoise_batches(model, pairs)])
    finally:
        torch.set_num_threads(before)
    expected = json.loads((RUN / "scores.json").read_text())["psnr"]["unet"]["images"]
    for place in held_out:
        assert found[place].item() == pytest.approx(expected[place], abs=0.02)


def test_training_again_elsewhere_gave_the_same_finding():
    """One seed of sign_digits on a processor without bfloat16 units, by float32, beside the three published."""
    records = [json.loads((PUBLISHED / f"sign_digits-{seed}/record.json").read_text()) for seed in range(3)]
    elsewhere = json.loads((PUBLISHED / "sign_digits-0-float32/record.json").read_text())
    assert elsewhere["environment"]["precision"] != records[0]["environment"]["precision"]
    keys = [record["key"] for record in (elsewhere, records[0])]
    assert all(keys[0][part] == keys[1][part] for part in ("network", "train_set", "test_set", "config"))
    finals = [record["history"][-1]["psnr"] for record in records]
    assert abs(elsewhere["history"][-1]["psnr"] - finals[0]) < 0.15
    assert abs(elsewhere["history"][-1]["psnr"] - mean(finals)) < 0.15 + 2 * stdev(finals)
    curves = [{r["epoch"]: r["psnr"] for r in record["history"] if "psnr" in r} for record in (elsewhere, records[0])]
    apart = [abs(curves[0][epoch] - curves[1][epoch]) for epoch in curves[0].keys() & curves[1].keys() if epoch >= 10]
    assert len(apart) == 10 and np.mean(apart) < 0.1


SHARED = ROOT.parent / "shared" / "data"


@pytest.mark.skipif(not (SHARED / "cbsd68").is_dir(), reason="the field's photos are not here")
@pytest.mark.parametrize("name, method", [("CBSD68", "noisy"), ("CBSD68", "ours, drawn"), ("Set12", "ours, drawn")])
def test_the_tables_of_07_are_what_is_shipped(name, method, monkeypatch):
    from src.studies import photo_benchmarks as benchmarks

    folder, mode = benchmarks.SETS[name]
    three = list(benchmarks.pairs(SHARED / folder, mode, 25 / 255))[:3]
    monkeypatch.setattr(benchmarks, "pairs", lambda *_: iter(three))
    tool = benchmarks.network(benchmarks.SHIPPED) if method != "noisy" else lambda noisy, sigma: noisy
    found, expected = benchmarks.measure(tool, SHARED / folder, mode, 25), benchmarks.scores()[name]["25"][method]
    assert found["names"] == expected["names"][:3]
    np.testing.assert_allclose(found["psnr"], expected["psnr"][:3], atol=0.02)
