"""blur_out.py: what is hidden cannot come back, what is found is where it is, the command loses and leaks nothing."""

import io
import json

import numpy as np
import pytest
import torch
from src.datasets.hand_scenes import lesson, scene
from src.studies.hand_finding import box_of, by_colour, judged, overlap, plain_truth
from PIL import ExifTags, Image
from skimage.draw import polygon2mask
from skimage.measure import block_reduce

from src.photos.hand_finder import (
    LEAST_BLUR,
    LOOK,
    MARGIN,
    MOST_BLOCKS,
    Found,
    blur_out,
    boxed_in,
    find,
    hide,
    load_finder,
    main,
    objects,
)
from src.photos.photo_files import Photo, read_photo, without_previews


@pytest.fixture(scope="module")
def hands():
    """Four hands in rooms and two rooms without, uint8 [6, 4, 224, 224], of scenes never trained on."""
    return np.stack([scene(index, 1000) for index in range(6)])


def random_picture(channels=3, size=(50, 70), deep=False):
    top, kind = (65536, np.uint16) if deep else (256, np.uint8)
    return np.random.default_rng(1).integers(0, top, (channels, *size)).astype(kind)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_are_their_means(channels, deep):
    pixels, where = random_picture(channels, deep=deep), np.zeros((50, 70), bool)
    where[10:26, 20:44] = True  # two by three blocks of eight
    hidden = hide(pixels, where, 8)
    means = block_reduce(pixels[:, 10:26, 20:44].astype(float), (1, 8, 8), np.mean).round()
    np.testing.assert_array_equal(hidden[:, 10:26, 20:44], means.repeat(8, axis=1).repeat(8, axis=2))
    np.testing.assert_array_equal(hidden[:, ~where], pixels[:, ~where])
    assert hidden.dtype == pixels.dtype


@pytest.mark.parametrize("smooth", [False, True])
def test_of_a_block_nothing_is_left_but_its_mean(smooth):
    """Whatever the order of the pixels in each block, the result is the same: no shuffle that could be undone."""
    pixels, where = random_picture(size=(48, 64)), np.zeros((48, 64), bool)
    where[3:41, 5:58] = np.random.default_rng(0).random((38, 53)) > 0.99  # a few: each touches its block
    where[3, 5] = True
    hidden, again, random = hide(pixels, where, 8, smooth), pixels.copy(), np.random.default_rng(2)
    for top in range(3, 43, 8):
        for left in range(5, 61, 8):
            block = (slice(top, min(48, top + 8)), slice(left, min(64, left + 8)))
            if where[block].any():
                for channel in again:
                    channel[block] = random.permutation(channel[block].ravel()).reshape(channel[block].shape)
    assert (again != pixels).any()
    np.testing.assert_array_equal(hide(again, where, 8, smooth), hidden)
    assert not smooth or len(np.unique(hidden)) > 200


def test_a_block_at_the_edge_is_as_large_as_any():
    """One that the edge would cut off, down to a single pixel that stays as it was, belongs to its neighbour."""
    pixels, where = random_picture(), np.zeros((50, 70), bool)
    where[45, 66] = True
    hidden = hide(pixels, where, 16)
    for channel, before in zip(hidden, pixels):
        assert (channel[34:, 54:] == before[34:, 54:].mean().round()).all()
    assert (hidden[:, :34] == pixels[:, :34]).all() and (hide(pixels, where & False, 8) == pixels).all()
    where[1, 2:] = True  # five blocks of 16 and 4 pixels more across
    row = hide(pixels, where, 16)[0, 1]
    assert (row[50:] == pixels[0, 1:17, 50:].mean().round()).all() and len(np.unique(row[2:])) <= 4


def test_a_picture_smaller_than_its_map():
    """No spot is stepped over, and a margin is left."""
    likeness = np.zeros((128, 128), np.float32)
    likeness[40:48, 60:70] = 1
    for side in (1, 4, 8, 20, 64):
        (found,) = objects(likeness, (side, side))
        x, y, w, h = found.box
        assert found.mask[y : y + h, x : x + w].all() and boxed_in(found.mask).sum() >= found.mask.sum() > 0


def test_the_finest_that_is_allowed_is_not_found_again(hands):
    for picture in hands[[0, 1, 3, 4]]:
        found = find(torch.from_numpy(picture[:3] / np.float32(255)))
        for settings in (dict(blocks=MOST_BLOCKS), dict(smooth=LEAST_BLUR), dict(smooth=LEAST_BLUR, mask=True)):
            hidden = blur_out(Photo(picture[:3]), found, **settings).pixels
            again = find(torch.from_numpy(hidden / np.float32(255)))
            assert all(overlap(one.box, box_of(picture[3] > 127)) < 0.5 for one in again)


def test_pieces_of_a_hand_are_hidden_as_coarsely_as_the_largest():
    pixels, masks = random_picture(size=(64, 64)), np.zeros((2, 64, 64), bool)
    masks[0, :, :40], masks[1, 10:14, 50:54] = True, True
    found = [Found((0, 0, 40, 64), masks[0], 1.0), Found((50, 10, 4, 4), masks[1], 1.0)]
    small = blur_out(Photo(pixels), found, blocks=4).pixels[0, 10:26, 48:64]
    assert len(np.unique(small)) == 1


def test_objects_are_found_where_they_are():
    likeness = np.zeros((96, 128), np.float32)
    likeness[10:30, 20:60] = 0.81
    likeness[70:96, 100:128] = 0.9  # at the corner
    likeness[50:52, 5:7] = 1.0  # too small
    found = objects(likeness, (960, 1280))
    assert [one.box for one in found] == [(200, 100, 400, 200), (1000, 700, 280, 260)]
    assert [one.certainty for one in found] == [pytest.approx(0.81), pytest.approx(0.9)]
    for one in found:
        x, y, w, h = one.box
        assert one.mask[y : y + h, x : x + w].all()
        left, top, wide, high = box_of(one.mask)
        assert 0 <= x - left <= 10 * (MARGIN + 1) and 0 <= y - top <= 10 * (MARGIN + 1)
        assert wide >= w and high >= h
    assert objects(likeness, (96, 128), sure=0.85)[0].box == (100, 70, 28, 26)


def test_an_object_reaches_as_far_as_is_likely_from_what_is_sure():
    likeness = np.zeros((64, 64), np.float32)
    likeness[10:50, 20:40] = likeness[10:50, 55:60] = 0.5
    likeness[12, 25] = 0.9
    assert [one.box for one in objects(likeness, (64, 64), 0.8, 0.4)] == [(20, 10, 20, 40)]
    assert objects(likeness, (64, 64), 0.95, 0.4) == []


def test_parts_beside_each_other_are_one_object():
    """A hand with a bracelet."""
    likeness = np.zeros((64, 64), np.float32)
    likeness[10:30, 20:40] = likeness[30 + 2 * MARGIN - 1 : 50, 20:40] = 1
    assert [one.box for one in objects(likeness, (64, 64))] == [(20, 10, 20, 40)]
    likeness[30 + 2 * MARGIN - 1 : 33 + 2 * MARGIN] = 0
    assert len(objects(likeness, (64, 64))) == 2


def test_the_shipped_finder_finds_hands_and_nothing_else(hands):
    model = load_finder()
    for picture in hands:
        image, mask = torch.from_numpy(picture[:3] / np.float32(255)), picture[3] > 127
        found = find(image, model)
        if mask.any():
            assert overlap(found[0].box, box_of(mask)) > 0.7
            assert (found[0].mask & mask).sum() > 0.95 * mask.sum()
        else:
            assert not found
    tall = torch.nn.functional.interpolate(image[None], size=(400, 150))[0]
    assert find(tall, model) == [] and find(torch.full((1, 1, 1), 0.3), model) == []
    with pytest.raises(ValueError, match=r"image must be float32 \[3, H, W\].*got torch.uint8"):
        find(torch.zeros(3, 8, 8, dtype=torch.uint8), model)


def test_what_is_hidden_is_not_found_again(hands):
    """The box is gone for the finder, and no pixel of the hand is as it was but by chance."""
    for picture in hands[[0, 1]]:
        mask = picture[3] > 127
        found = find(torch.from_numpy(picture[:3] / np.float32(255)))
        hidden = blur_out(Photo(picture[:3]), found).pixels
        assert find(torch.from_numpy(hidden / np.float32(255))) == []
        same = (hidden == picture[:3]).all(axis=0)
        assert same[mask].mean() < 0.02 and same[picture[3] < 1].mean() > 0.3


def test_alpha_is_hidden_too():
    """Or the outline of what was cut out would show it."""
    alpha = (polygon2mask((60, 60), [(10, 30), (50, 10), (50, 50)]) * 255).astype(np.uint8)
    mask = np.ones((60, 60), bool)
    hidden = blur_out(Photo(random_picture(size=(60, 60)), alpha), [Found((0, 0, 60, 60), mask, 1.0)], blocks=3)
    means = block_reduce(alpha.astype(float), (20, 20), np.mean).round()
    np.testing.assert_array_equal(hidden.alpha, means.repeat(20, axis=0).repeat(20, axis=1))


def test_thumbnails_are_dropped_and_the_rest_is_kept():
    exif, secret = Image.Exif(), np.random.default_rng(0).bytes(5000)
    exif[0x010F], exif[0x0112] = "a camera", 6
    exif.get_ifd(0x8769)[0x829A] = 0.01
    exif.get_ifd(0x8769)[0x927C] = secret[:90]  # the maker's notes
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x8649] = secret  # Photoshop's resources
    block = exif.tobytes()
    # a second directory behind the first: offset and length of a JPEG
    order, start = (">" if block[6:8] == b"MM" else "<"), 6
    word = lambda value, size: int(value).to_bytes(size, "big" if order == ">" else "little")  # noqa: E731
    number = lambda at, size: int.from_bytes(block[at : at + size], "big" if order == ">" else "little")  # noqa: E731
    first = start + number(start + 4, 4)
    link = first + 2 + 12 * number(first, 2)
    assert number(link, 4) == 0
    place = len(block) - start
    second = word(2, 2)
    for tag, value in ((0x0201, place + 2 + 24 + 4), (0x0202, 5000)):
        second += word(tag, 2) + word(4, 2) + word(1, 4) + word(value, 4)
    block = block[:link] + word(place, 4) + block[link + 4 :] + second + word(0, 4) + secret
    tags = Image.Exif()
    tags.load(block)
    assert tags.get_ifd(ExifTags.IFD.IFD1)[0x0202] == 5000  # Pillow sees the thumbnail
    kept = without_previews(Photo(random_picture(), exif=block, other={"xmp": b"<GImage:Data/>", "dpi": (72, 72)}))
    assert secret[:60] not in kept.exif and secret[100:160] not in kept.exif and kept.other == {"dpi": (72, 72)}
    tags.load(kept.exif)
    assert tags[0x010F] == "a camera" and tags[0x0112] == 6 and not tags.get_ifd(ExifTags.IFD.IFD1)
    assert tags.get_ifd(0x8769)[0x829A] == 0.01 and tags.get_ifd(0x8825)[1] == "N"
    assert without_previews(Photo(random_picture(), exif=b"Exif\0\0nonsense")).exif is None


@pytest.fixture
def folder(tmp_path, hands):
    """in/rooms/a.png, in/people/b.jpg with an EXIF block, in/people/empty.png without a hand; a.png."""
    (tmp_path / "in/people").mkdir(parents=True), (tmp_path / "in/rooms").mkdir()
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    for index, name, more in (
        (0, "rooms/a.png", {}),
        (1, "people/b.jpg", dict(exif=exif)),
        (2, "people/empty.png", {}),
    ):
        Image.fromarray(hands[index, :3].transpose(1, 2, 0)).save(tmp_path / "in" / name, **more)
    return tmp_path


def test_a_folder_by_the_command(folder, capsys):
    """Two pictures are hidden; that without a hand is told and not copied."""
    assert main([str(folder / "in"), str(folder / "out"), "--json"]) == 1
    told = capsys.readouterr().err
    assert "no hand was found in" in told and "empty.png" in told and "1 of 3 pictures" in told
    names = sorted(str(p.relative_to(folder / "out")) for p in (folder / "out").rglob("*") if p.is_file())
    assert names == ["people/b.jpg", "people/b.jpg.json", "rooms/a.png", "rooms/a.png.json"]
    found = json.loads((folder / "out/rooms/a.png.json").read_text())
    assert found["picture"] == "a.png" and found["size"] == [224, 224]
    x, y, w, h = found["objects"][0]["box"]
    before, after = (read_photo(folder / place / "rooms/a.png").pixels for place in ("in", "out"))
    assert ((before == after).all(axis=0)[y : y + h, x : x + w]).mean() < 0.02
    assert read_photo(folder / "out/people/b.jpg").exif is not None
    assert main([str(folder / "in/rooms/a.png"), str(folder / "out/rooms/a.png")]) == 1  # there already
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--mask"], ["--box", "--mosaic", "3"], ["--mask", "--blur", "0.3"]])
def test_ways_to_hide(folder, more, hands):
    assert main([str(folder / "in/rooms/a.png"), str(folder / "a.png"), *more]) == 0
    after, mask = read_photo(folder / "a.png").pixels, hands[0, 3] > 127
    changed = (after != hands[0, :3]).any(axis=0)
    assert changed[mask].mean() > 0.97
    if "--mosaic" in more:
        x, y, w, h = box_of(changed)
        assert len(np.unique(after[:, y : y + h, x : x + w].reshape(3, -1), axis=1).T) <= 4 * 4


@pytest.mark.parametrize(
    "more, words",
    [
        (["--mosaic", "10"], "the mosaic must have 1 to 6 blocks, got 10; more would show the object"),
        (["--blur", "0"], "the blur must be 0.3 to 1 of the object's longer side, got 0; less would show it"),
        (["--sure", "1.5"], "sure must lie between 0 and 1, got 1.5"),
    ],
)
def test_what_would_show_the_object_is_refused(folder, capsys, more, words):
    assert main([str(folder / "in/rooms/a.png"), str(folder / "a.png"), *more]) == 1
    assert words in capsys.readouterr().err and not (folder / "a.png").exists()


def test_json_that_is_there_is_kept(folder, capsys):
    (folder / "a.png.json").write_text("mine")
    assert main([str(folder / "in/rooms/a.png"), str(folder / "a.png"), "--json"]) == 1
    assert "a.png.json is there already" in capsys.readouterr().err and not (folder / "a.png").exists()
    assert main([str(folder / "in/rooms/a.png"), str(folder / "a.png"), "--json", "--overwrite"]) == 0
    assert json.loads((folder / "a.png.json").read_text())["objects"]


def test_sixteen_bits_and_grey(folder, hands):
    grey = np.asarray(Image.fromarray(hands[0, :3].transpose(1, 2, 0)).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "grey.png")
    assert main([str(folder / "grey.png"), str(folder / "out.png")]) == 0
    hidden = read_photo(folder / "out.png").pixels
    assert hidden.dtype == np.uint16 and hidden.shape == (1, 224, 224)
    assert (hidden[0] != grey)[hands[0, 3] > 127].mean() > 0.97


def test_overlap_in_closed_form():
    assert overlap((0, 0, 4, 4), (0, 0, 4, 4)) == 1 and overlap((0, 0, 4, 4), (4, 0, 4, 4)) == 0
    assert overlap((0, 0, 4, 2), (2, 0, 4, 2)) == pytest.approx(4 / 12)


def test_a_perfect_and_a_blind_way_are_judged_as_such(hands):
    perfect = iter([picture[3] > 127 for picture in hands])

    def knows(image):
        mask = next(perfect)
        return [Found(box_of(mask), mask, 1.0)] if mask.any() else []

    found = judged(knows, hands, 0.0, 0)
    assert (found["iou"], found["recall"], found["pixels"], found["alarms"]) == (1, 1, 1, 0)
    found = judged(lambda image: [], hands, 0.2, 0)
    assert (found["iou"], found["recall"], found["pixels"], found["alarms"]) == (0, 0, 0, 0)
    everywhere = judged(lambda image: [Found((0, 0, 224, 224), np.ones((224, 224), bool), 1.0)], hands, 0.2, 0)
    assert everywhere["pixels"] == 1 and everywhere["alarms"] == 1 and 0 < everywhere["iou"] < 0.6


def test_the_truth_of_a_photo_before_a_plain_wall():
    """A skin-coloured triangle before a grey wall that darkens to the side."""
    mask = polygon2mask((100, 100), [(20, 50), (95, 20), (95, 80)])
    wall = np.linspace(150, 230, 100)[None, :, None] * np.ones((100, 1, 3))
    picture = np.where(mask[..., None], np.array([200, 150, 120]), wall) + np.random.default_rng(0).normal(
        0, 2, (100, 100, 3)
    )
    truth = plain_truth(picture.clip(0, 255).astype(np.uint8).transpose(2, 0, 1))
    assert (truth & mask).sum() / (truth | mask).sum() > 0.95


def test_skin_colour_is_found_and_blue_is_not():
    picture = torch.full((3, 100, 100), 0.2)
    picture[:, 30:70, 20:60] = torch.tensor([0.85, 0.65, 0.55])[:, None, None]
    assert overlap(by_colour(picture)[0].box, (20, 30, 40, 40)) > 0.9
    picture[:, 30:70, 20:60] = torch.tensor([0.2, 0.3, 0.8])[:, None, None]
    assert by_colour(picture) == []


def test_lessons_repeat_and_hold_what_they_say():
    assert (lesson(3, 7) == lesson(3, 7)).all() and (lesson(3, 7) != lesson(3, 8)).any()
    with_hand, without = lesson(4, 7, hand=True), lesson(4, 7, hand=False)
    assert with_hand.shape == (4, LOOK, LOOK) and 0.01 < (with_hand[3] > 127).mean() < 0.7
    assert set(np.unique(with_hand[3])) == {0, 255} and without[3].max() == 0


def test_bytes_of_the_jpeg_hold_no_second_picture(folder):
    """Whatever lay in the file besides the picture is gone: one start of image, one end."""
    thumbnail = io.BytesIO()
    Image.open(folder / "in/people/b.jpg").resize((64, 64)).save(thumbnail, "JPEG")
    data = (folder / "in/people/b.jpg").read_bytes() + thumbnail.getvalue()
    (folder / "two.jpg").write_bytes(data)
    assert main([str(folder / "two.jpg"), str(folder / "one.jpg")]) == 0
    assert data.count(b"\xff\xd8\xff") == 2 and (folder / "one.jpg").read_bytes().count(b"\xff\xd8\xff") == 1
