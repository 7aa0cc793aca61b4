"""Sign digits: persons, sound and damaged archives, downloads that break (from a server on this machine)."""

import csv
import gc
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from src.datasets import sign_digits
from src.datasets.__main__ import main
from src.datasets.sign_digits import DIGITS, fetch, group_by_person
from src.files import ROOT
from src.images import load_images, split_images

PHOTOS = ROOT.parent / "shared/data/sign_digits"
# pooch leaves the socket of a failed request to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
TOP = "Sign-Language-Digits-Dataset-master"


def jpeg(seed):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def photos(persons=3):
    """{name below Dataset/: bytes} of persons who each showed 0 to 9."""
    return {f"{d}/IMG_{1000 + 10 * p + d}.JPG": jpeg(10 * p + d) for p in range(persons) for d in range(10)}


def members(files):
    """What the archive on GitHub looks like."""
    whole = {f"{TOP}/Dataset/{name}": content for name, content in files.items()}
    return whole | {
        f"{TOP}/LICENSE": b"Apache",
        f"{TOP}/Examples/example_0.JPG": jpeg(0),
        f"{TOP}/README.md": b"x",
    }


def zipped(contents):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "sign_digits"


def check_whole(target, files):
    found = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    groups = found.pop("groups.csv").decode()
    assert found.pop("LICENSE") == b"Apache"
    assert found == files
    rows = list(csv.reader(groups.splitlines()))
    assert rows[0] == ["file", "group"] and {name for name, _ in rows[1:]} == set(files)
    assert [p.name for p in target.parent.iterdir()] == [target.name]  # nothing left beside it


def check_refused(target, source, words, error=ValueError):
    with pytest.raises(error) as caught:
        fetch(source, target)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text
    assert not target.exists()
    return text


# ---- persons ------------------------------------------------------------------------------


def shown(digits, first=100):
    """Names of consecutive numbers showing these digits; None is a missing file."""
    return [f"{d}/IMG_{n}.JPG" for n, d in enumerate(digits, first) if d is not None]


def persons(names):
    """The digits of each person, in the order of their numbers."""
    found = group_by_person(names)
    assert set(found) == set(names)
    by_number = sorted(names, key=lambda n: int(n[6:-4]))
    whose = {}
    for name in by_number:
        whose.setdefault(found[name], []).append(int(name[0]))
    return list(whose.values())


ALL = list(range(10))


@pytest.mark.parametrize(
    "digits, expected",
    [
        (ALL + ALL, [ALL, ALL]),
        ([0, 1, 2, 4, 3, 5, 6, 7, 9, 8, *ALL], [[0, 1, 2, 4, 3, 5, 6, 7, 9, 8], ALL]),
        ([1, 0, 2, 3, 4, 5, 6, 7, 8, 9, *ALL], [[1, 0, *range(2, 10)], ALL]),
        ([0, 1, 1, *range(2, 10), 9, *ALL], [[0, 1, 1, *range(2, 10), 9], ALL]),
        (
            [0, 1, 2, None, 4, 5, 6, 7, 8, None, 0, 1, *[None] * 7, 9],
            [[0, 1, 2, 4, 5, 6, 7, 8], [0, 1, 9]],
        ),
        ([5, 0, 1, 2, 3, 4, 6, 7, 8, 9, *ALL], [[5, 0, 1, 2, 3, 4, 6, 7, 8, 9], ALL]),
        ([0, 1, 2, *[None] * 9, 3, 4, *[None] * 10, 5, 6], [[0, 1, 2, 3, 4], [5, 6]]),
        ([0, 1, 2, 3, 4, 4, 5, 6, 3, 7, 8, 9], [[0, 1, 2, 3, 4, 4, 5, 6, 3, 7, 8, 9]]),
    ],
)
def test_persons(digits, expected):
    assert persons(shown(digits)) == expected


def test_person_names_and_order_of_arguments():
    names = shown(ALL + ALL, first=1118)
    groups = group_by_person(names[::-1])
    assert groups["0/IMG_1118.JPG"] == groups["9/IMG_1127.JPG"] == "person_1118"
    assert groups["0/IMG_1128.JPG"] == "person_1128" and len(set(groups.values())) == 2
    assert group_by_person(["3/hand.png"]) == {"3/hand.png": "person_3/hand.png"}


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no ../shared/data/sign_digits")
def test_the_real_photos(tmp_path):
    target = fetch(PHOTOS, tmp_path / "sign_digits")
    images = load_images(target, cache=tmp_path / "cache")
    assert images.shape == (1546, 3, 100, 100) and len(set(images.labels)) == 10
    sizes = np.unique(list(images.groups), return_counts=True)[1]
    assert len(sizes) == 154 and sizes.max() <= 16 and (sizes == 10).sum() >= 140
    assert images.groups[images.names.index("5/IMG_4039.JPG")] == "person_4039"
    assert images.groups[images.names.index("0/IMG_4040.JPG")] == "person_4039"
    train, held_out = split_images(images, 0.2, seed=0)
    assert not set(train.groups) & set(held_out.groups)
    assert 300 <= len(held_out) <= 318 and set(held_out.labels) == set(DIGITS)
    assert (target / "LICENSE").read_bytes() == (PHOTOS / "LICENSE").read_bytes()


# ---- local sources ------------------------------------------------------------------------


def test_local_zip_and_existing_folder(tmp_path, target, capsys):
    files = photos()
    (tmp_path / "a.zip").write_bytes(zipped(members(files)))
    assert fetch(tmp_path / "a.zip", target) == target
    check_whole(target, files)
    assert "30 photos of 3 persons" in capsys.readouterr().out
    assert len(set(load_images(target, cache=tmp_path / "c").groups)) == 3
    before = (target / "groups.csv").stat().st_mtime_ns
    assert fetch(tmp_path / "gone.zip", target) == target
    assert "is complete and was left alone" in capsys.readouterr().out
    assert (target / "groups.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("below", ["", "Dataset/"])
def test_local_folder(tmp_path, target, below):
    files = photos()
    for name, content in {"LICENSE": b"Apache", **{below + n: c for n, c in files.items()}}.items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fetch(tmp_path / "copy", target)
    check_whole(target, files)


def test_command_line(tmp_path, target, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped(members(photos())))
    monkeypatch.chdir(tmp_path)  # --to is relative to it
    assert main(["sign_digits", "--from", "a.zip", "--to", "data/sign_digits"]) == 0
    check_whole(target, photos())


# ---- archives that are refused ------------------------------------------------------------


def test_damaged_zip(tmp_path, target):
    whole = zipped(members(photos()))
    for at in range(300, 3000, 300):  # one flipped byte in the packed pictures
        (tmp_path / "a.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        check_refused(target, tmp_path / "a.zip", ["a.zip is not a sound zip"])


# ---- downloads ----------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        if self.server.failures:
            return self.send_error(self.server.failures.pop(0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        sent = self.server.truncations.pop(0) if self.server.truncations else len(self.server.body)
        self.wfile.write(self.server.body[:sent])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server of one file: `truncations` are the bytes that it sends before it hangs up, `failures` HTTP codes."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the attempts
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.truncations, server.failures, server.requests = zipped(members(photos())), [], [], 0
    server.url = f"http://127.0.0.1:{server.server_port}/a.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    gc.collect()


def test_download(server, target):
    fetch(server.url, target)
    check_whole(target, photos())
    assert server.requests == 1


def test_download_is_tried_again(server, target):
    server.truncations, server.failures = [5000], [503]
    fetch(server.url, target)
    assert server.requests == 3
    check_whole(target, photos())


def test_download_that_never_succeeds(server, target):
    server.failures = [404] * 9
    check_refused(target, server.url, [f"{server.url} cannot be downloaded (404", "--from FILE"], ConnectionError)
    assert server.requests == 1 + sign_digits.RETRIES and not list(target.parent.iterdir())


def test_damaged_download_is_not_kept(server, target):
    whole, server.body = server.body, server.body[:-30]
    check_refused(target, server.url, [server.url, "not a sound zip"])
    assert not list(target.parent.iterdir())
    server.body = whole
    fetch(server.url, target)
    check_whole(target, photos())


def test_default_url_must_bring_most_of_it(server, target, monkeypatch):
    monkeypatch.setattr(sign_digits, "DEFAULT_URL", server.url)
    check_refused(target, server.url, ["brought 30 photos, expected at least 2000"])


def test_no_network(target, monkeypatch, capsys):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    refused = "http://127.0.0.1:9/a.zip"  # nothing listens there
    assert main(["sign_digits", "--from", refused, "--to", str(target)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {refused} cannot be downloaded") and err.count("\n") == 1
    assert "python -m src.datasets sign_digits --from FILE" in err
    assert not target.exists()
