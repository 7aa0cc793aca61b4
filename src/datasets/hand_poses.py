"""A hand in any pose, seen from any side: a skeleton in 3D, projected and painted by the layers of hands.py.

    layers = any_pose(arm, rng, x, y)      # back to front, as hands.pose gives them for a number
    layers = any_pose(arm, rng, x, y, grip=True)      # fingers and thumb form a ring, seen from the side

x and y are those of hands.py; z points from the palm's inside to whoever looks at it. Each finger is stretched, bent or
folded by itself, the thumb is out, beside the palm, across it or touches a finger.
"""

import numpy as np

from src.datasets.hands import FINGERS, PALM_LINES, THUMB_OUT, THUMB_RADII, Layer, bell, join, moved
from src.datasets.textures import pick, smooth, turn, uniform

FIST = (95, 105, 65)  # degrees by which a fist bends a finger at each joint
CENTRE = np.array((0.0, 0.6, 0.0))  # of the palm: the hand is turned about it
THUMBS = {  # joints (x, y, z)
    "out": [(px, py, 0.05 + 0.05 * n) for n, (px, py) in enumerate(THUMB_OUT)],
    "beside": [(-0.20, 0.25, 0.05), (-0.48, 0.60, 0.10), (-0.56, 0.98, 0.12), (-0.55, 1.26, 0.14)],
    "across": [(-0.22, 0.30, 0.05), (-0.50, 0.66, 0.22), (-0.27, 0.93, 0.38), (0.0, 0.97, 0.42)],
}


def any_pose(arm, rng, x, y, grip=False):
    """The layers of a hand in a random pose from a random side, or of one that grips, back to front.

    arm: where the arm comes from; rng: np.random.Generator; x, y: pixels in hand units, float32 [H, W].
    """
    curls, thumb = ring(rng) if grip else random_curls(rng)
    view, slender = side_view(rng) if grip else random_view(rng), uniform(rng, 0.78, 1.06)
    fingers = [finger_joints(rng, i, curl) for i, curl in enumerate(curls)]
    touched = None if thumb in THUMBS else np.mean([fingers[i][0][-1] for i in thumb], axis=0)
    thumb = thumb_to(touched) if touched is not None else np.array(THUMBS[thumb])
    thumb = thumb + 0.08 * (rng.random(thumb.shape) - 0.5) * np.array([[0], [1], [1], [1]])
    palm = draw_turned_palm(rng, arm, view, x, y)
    facing = abs(view[2, 2]) > 0.45  # one sees the palm's inside or its back
    digits, layers = [], [(0.0, palm)]  # melting into the palm; with their depths, beside it
    for i, (joints, bends) in enumerate(fingers):
        radius, tip = FINGERS[i][3:5]
        radii = [slender * r for r in (radius, radius, radius * 0.92, tip)]
        straight = sum(bends) < 60
        for piece in (slice(0, 4),) if straight else (slice(0, 2), slice(1, 4)):
            part = turned_joints(joints[piece], view)
            nail = nail_of(bends, view) if piece.stop == 4 else 0.0
            layer = phalanges(rng, part, radii[piece], nail, view, x, y)
            along = part[1] - part[0]
            if facing and piece.start == 0 and abs(along[2]) < 0.6 * length(along):
                digits.append(layer)
            else:
                layers.append((add_fade(layer, part) if piece.start == 0 else part[:, 2].mean(), layer))
    part = turned_joints(thumb, view)
    layer = phalanges(rng, part, [slender * r for r in THUMB_RADII], 0.9 * (rng.random() < 0.6), view, x, y)
    layers.append((add_fade(layer, part), layer))
    join(palm, digits)
    return [layer for _, layer in sorted(layers, key=lambda one: one[0])]


def random_curls(rng):
    """How far each finger is bent, 0 stretched to 1 in a fist, and the thumb: a name of THUMBS, or fingers it touches.

    A third of the hands stretch or fold each finger by itself, a third touch one finger with the thumb, the rest bend
    all fingers alike: from an open hand through an O to a fist.
    """
    kind, thumb = rng.random(), pick(rng, (*THUMBS,))
    curls = [pick(rng, (uniform(rng, 0, 0.12), uniform(rng, 0.85, 1), uniform(rng, 0.1, 0.9))) for _ in FINGERS]
    if kind < 0.33:
        return curls, thumb
    if kind < 0.66:
        touched, others = int(rng.integers(len(FINGERS))), pick(rng, (0.0, 0.0, 0.3))
        curls = [uniform(rng, 0, 0.12) + others * rng.random() for _ in FINGERS]
        curls[touched] = uniform(rng, 0.5, 0.72)
        return curls, (touched,)
    alike = uniform(rng, 0, 1)
    curls = [min(max(alike + uniform(rng, -0.08, 0.08), 0), 1) for _ in FINGERS]
    return curls, (0, 1) if 0.45 < alike < 0.7 and rng.random() < 0.7 else thumb


def ring(rng):
    """As `random_curls`: all fingers bent alike, the thumb at the tips of the first two or of the first."""
    alike = uniform(rng, 0.38, 0.75)
    return [alike + uniform(rng, -0.06, 0.06) for _ in FINGERS], pick(rng, ((0, 1), (0, 1), (0,)))


def random_view(rng):
    """Rotation float [3, 3]: mostly from the palm's inside, some from its back, some from any side."""
    kind = rng.random()
    yaw = uniform(rng, -30, 30) if kind < 0.4 else uniform(rng, 140, 220) if kind < 0.6 else uniform(rng, 0, 360)
    (cy, sy), (cp, sp) = turn(yaw), turn(uniform(rng, -20, 20) * pick(rng, (1, 1, 2)))
    return rotation(cy, sy, cp, sp)


def side_view(rng):
    """Rotation float [3, 3]: from the thumb's or the little finger's side, within 40 degrees."""
    (cy, sy), (cp, sp) = turn(pick(rng, (-90, 90)) + uniform(rng, -40, 40)), turn(uniform(rng, -15, 15))
    return rotation(cy, sy, cp, sp)


def rotation(cy, sy, cp, sp):
    """float [3, 3] from the cosines and sines of yaw and, after it, pitch."""
    return np.array(((cy, 0, sy), (sp * sy, cp, -sp * cy), (-cp * sy, sp, cp * cy)))


def finger_joints(rng, i, curl):
    """Joints of finger i, float [4, 3], and the degrees by which it is bent at each."""
    bx, by, lengths, *_, angle = FINGERS[i]
    c, s = turn(90 + (angle - 90) * uniform(rng, 0.2, 1.5) * (1 - curl) + uniform(rng, -3, 3))
    hook = uniform(rng, 0.2, 1) if rng.random() < 0.25 else 1.0  # bent less where it begins
    bends = [curl * degrees * (hook if n == 0 else 1) for n, degrees in enumerate(FIST)]
    joints, total = [np.array((bx, by, 0.0))], 0.0
    for bend, bone in zip(bends, lengths):
        total += bend
        across, deep = turn(total)
        joints.append(joints[-1] + bone * np.array((across * c, across * s, deep)))
    return np.array(joints), bends


def thumb_to(target):
    """Joints of a thumb, float [4, 3], whose tip touches a finger's at `target`: a quadratic Bezier curve."""
    start = np.array(THUMBS["out"][0])
    end = target + (start - target) * (0.19 / length(start - target))
    middle, t = (start + end) / 2 + np.array((-0.3, 0.0, 0.2)), np.array((0, 0.38, 0.74, 1))[:, None]
    return start * (1 - t) ** 2 + 2 * middle * t * (1 - t) + end * t**2


def length(vector):
    """Euclidean length of a vector [3]."""
    return float(np.sqrt(sum(component * component for component in vector)))


def turned_joints(joints, view):
    """Points [N, 3] seen from there; no two neighbours fall on the same pixel."""
    points = np.asarray(joints) - CENTRE
    points = sum(points[:, [k]] * view[:, k] for k in range(3)) + CENTRE  # not @: BLAS may fuse multiply and add
    close = np.abs(np.diff(points[:, :2], axis=0)).max(axis=1, initial=0) < 0.03
    points[1:, 1] += 0.04 * np.cumsum(close)
    return points


def projected(points):
    """(x, y) of each point, as Python floats."""
    return [(float(px), float(py)) for px, py, _ in points]


def nail_of(bends, view):
    """Size of the nail, relative to the fingertip; 0 where it faces away."""
    c, s = turn(sum(bends))
    return 0.8 if view[2, 1] * s - view[2, 2] * c > 0.3 else 0.0


def phalanges(rng, joints, radii, nail, view, x, y):
    """The layer of some bones of a finger."""
    points = projected(joints)
    layer = Layer(x, y, points).finger(points, radii, rng, nail=nail)
    layer.pale = float(max(view[2, 2], 0) * (nail == 0))
    return layer


def add_fade(layer, joints):
    """Let the first bone grow out of the palm where it is in front of it; returns its depth."""
    (ax, ay), (bx, by) = projected(joints[:2])
    ux, uy = bx - ax, by - ay
    depth = float(joints[:, 2].mean())
    if depth > 0 and ux * ux + uy * uy > 0.02:
        along = ((layer.x - ax) * ux + (layer.y - ay) * uy) / (ux * ux + uy * uy)
        layer.fade = smooth(along * 1.4 + 0.3)
    return depth


def draw_turned_palm(rng, arm, view, x, y):
    """Arm and palm, as hands.draw_palm, from any side."""
    palm = Layer(x, y)

    def bone(a, b, *radii, join=0.12, lift=0.0):
        palm.bone(*projected(turned_joints((a, b), view)), *radii, join, lift)

    wrist = projected(turned_joints([(0, 0.15, 0)], view))[0]
    palm.bone((arm, -3), wrist, uniform(rng, 0.32, 0.5), uniform(rng, 0.26, 0.34), 0.1)
    for fx, fy, *_ in FINGERS:
        bone((fx * 0.7, 0.28, 0), (fx, fy - 0.13, 0), 0.20, 0.165 if fx < 0.3 else 0.14)
    bone((-0.2, 0.28, 0.08), (-0.36, 0.62, 0.1), 0.22, 0.19, lift=0.03)
    bone((0.22, 0.3, 0.05), (0.33, 0.72, 0.03), 0.2, 0.17)
    inside = view[2, 2]
    if inside < -0.4:
        for fx, fy, *_ in FINGERS:
            bone((fx * 0.45, 0.3, -0.1), (fx, fy - 0.25, -0.1), 0.02, 0.04, lift=0.135)
            bone((fx * 0.98, fy - 0.22, -0.1), (fx, fy - 0.17, -0.1), 0.1, 0.1, join=0.09, lift=0.10)
            px, py = projected(turned_joints([(fx, fy - 0.2, -0.1)], view))[0]
            palm.red = np.maximum(palm.red, 0.6 * bell((x - px) ** 2 + (y - py) ** 2, 0.014))
    elif inside > 0.4:
        palm.pale = inside * smooth(y / 0.3 + 0.5)
        for line in PALM_LINES:
            points = [(px, py, 0.12) for px, py in moved(rng, line, 0.02)]
            palm.crease(projected(turned_joints(points, view)), 0.013, uniform(rng, 0.4, 0.8))
    return palm
