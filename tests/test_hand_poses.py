"""Hands in any pose: bones keep their lengths, views are rotations, a spread hand is that of hands.py."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from src.datasets import hand_poses, no_hands
from src.datasets.hands import FINGERS, paint, pose


def rng(*seed):
    return np.random.default_rng(seed)


def cover_of(layers, noise):
    return paint(layers, 32, (0, 0), [0.3, 0.5, 0.8, 1, 1, 1], np.full(3, 0.4, np.float32), noise)[1]


def test_bones_keep_their_lengths_and_a_fist_ends_at_the_palm():
    for i, (bx, by, lengths, *_) in enumerate(FINGERS):
        for curl in (0.0, 0.3, 1.0):
            joints, bends = hand_poses.finger_joints(rng(i), i, curl)
            assert np.linalg.norm(np.diff(joints, axis=0), axis=1) == pytest.approx(lengths, abs=1e-5)
            assert joints[0] == pytest.approx((bx, by, 0)) and len(bends) == 3
        assert joints[-1, 1] < joints[1, 1] and joints[-1, 2] >= 0  # folded in front of the palm
        stretched = hand_poses.finger_joints(rng(i), i, 0.0)[0]
        assert stretched[-1, 1] > by + 0.6 and not stretched[:, 2].any()


def test_a_view_is_a_rotation():
    for seed in range(10):
        view = hand_poses.random_view(rng(seed))
        assert Rotation.from_matrix(view).as_matrix() == pytest.approx(view, abs=1e-5)
        points = rng(seed).random((5, 3))
        turned = hand_poses.turned_joints(points, view)
        apart = np.abs(np.diff(turned[:, :2], axis=0)).max(axis=1)
        assert (apart >= 0.005).all()
    identity = hand_poses.turned_joints(points, np.eye(3))
    assert identity == pytest.approx(points)


def test_the_thumb_reaches_what_it_touches():
    target = np.array((0.3, 1.1, 0.5))
    joints = hand_poses.thumb_to(target)
    assert np.linalg.norm(joints[-1] - target) == pytest.approx(0.19, abs=1e-6) and joints[0, :2].tolist() == [
        -0.2,
        0.25,
    ]


def test_a_spread_hand_seen_from_its_inside_is_that_of_the_number_five(monkeypatch):
    y, x = np.mgrid[2.6:-0.6:128j, -1.6:1.6:128j].astype(np.float32)
    noise = no_hands.skin_noise(rng(2), 128)
    monkeypatch.setattr(hand_poses, "random_curls", lambda rng: ([0.0] * 4, "out"))
    monkeypatch.setattr(hand_poses, "random_view", lambda rng: np.eye(3))
    new = np.mean([cover_of(hand_poses.any_pose(0.0, rng(k), x, y), noise) for k in range(6)], axis=0) > 0.5
    old = np.mean([cover_of(pose(5, 0.0, rng(k, 1), rng(k), x, y), noise) for k in range(6)], axis=0) > 0.5
    assert (new & old).sum() / (new | old).sum() > 0.85


def test_each_pose_is_a_hand_and_the_same_everywhere():
    hands = np.stack([no_hands.draw_hand_cut_out(rng(7, index), 48, any_pose=True) for index in range(12)])
    assert ((hands[..., 4] > 127).mean(axis=(1, 2)) > 0.03).all() and (hands[..., 4] <= hands[..., 3]).all()
    assert hashlib.sha256(hands.tobytes()).hexdigest()[:16] == "0401750e3b5f166a"


def test_a_grip_is_seen_from_the_side_and_has_a_hole():
    for seed in range(10):
        view = hand_poses.side_view(rng(seed))
        assert Rotation.from_matrix(view).as_matrix() == pytest.approx(view, abs=1e-5)
        assert abs(view[2, 2]) <= np.sin(np.deg2rad(40)) + 1e-6  # the palm faces away by 50 degrees or more

    def with_hole(**pose):
        masks = [no_hands.draw_hand_cut_out(rng(3, i), 96, **pose)[..., 3] > 127 for i in range(16)]
        return sum((ndimage.binary_fill_holes(mask) & ~mask).sum() > 20 for mask in masks)

    assert with_hole(grip=True) >= 8 > 4 >= with_hole(any_pose=True)
