"""What is drawn to be no hand: the same bytes everywhere, and something in each image."""

import hashlib

import numpy as np
import pytest

from src.datasets import no_hands
from src.datasets.hands import paint

THINGS = ("face", "animal", "animal_face", "arm", "prongs", "food", "branch", "lump")


def rng(*seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", THINGS)
def test_each_thing_is_skin_or_another_surface_without_holes(kind):
    y, x = np.mgrid[1.6:-1.6:96j, -1.6:1.6:96j].astype(np.float32)
    light, noise = no_hands.any_light(rng(1))[1], no_hands.skin_noise(rng(2), 96)
    for seed in range(5):
        groups = getattr(no_hands, kind)(rng(seed), x, y)
        covers = []
        for tone, layers in groups:
            colour, cover = paint(layers, 30, (0, 0), light, tone, noise)
            assert np.isfinite(colour).all() and tone.shape == (3,) and tone.min() >= 0 and tone.max() <= 1
            covers.append(cover)
        assert np.max(covers, axis=0).mean() > 0.01


def test_cut_outs_and_pages_are_the_same_everywhere():
    """The sha256 of some images: no pixel may depend on the machine (textures.py)."""
    drawn = {
        "things": [no_hands.draw_thing(rng(3, i), 48) for i in range(24)],
        "hands": [no_hands.draw_hand_cut_out(rng(4, i), 48) for i in range(4)],
        "pages": [no_hands.draw_page(rng(5, i), 48) for i in range(4)],
    }
    digests = {kind: hashlib.sha256(np.stack(images).tobytes()).hexdigest()[:16] for kind, images in drawn.items()}
    assert digests == {"things": "e0313d3de7f7a653", "hands": "382e1f814c383217", "pages": "39f2fbf73e579cc2"}


def test_only_hands_have_a_mask():
    for index in range(8):
        thing, hand = no_hands.draw_thing(rng(index), 48), no_hands.draw_hand_cut_out(rng(index), 48)
        assert thing.shape == hand.shape == (48, 48, 5) and not thing[..., 4].any() and thing[..., 3].any()
        assert (hand[..., 4] <= hand[..., 3]).all() and 0.05 < (hand[..., 4] > 127).mean() < 0.8


def test_a_page_is_paper_with_lines_of_ink():
    for index in range(5):
        page = no_hands.draw_page(rng(index), 96).mean(axis=2)
        assert np.quantile(page, 0.95) - np.quantile(page, 0.02) > 40
    with pytest.raises(ValueError, match="size must be"):
        no_hands.draw_page(rng(0), 8)
