"""Sign Language Digits: photos of hands showing 0..9, downloaded and grouped by person.

About 2,060 photos, 100x100, of 218 people (Turkey Ankara Ayranci Anadolu High School, 2017;
Apache-2.0; https://github.com/ardamavi/Sign-Language-Digits-Dataset).

    python -m src.data sign_digits [--from FILE_OR_FOLDER_OR_URL] [--to DIR]
"""

import contextlib
import csv
import errno
import http.client
import io
import os
import re
import stat
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from src.images import find_folder
from src.image_files import FORMATS, SUFFIXES, reason, shown, writing

DEFAULT_URL = "https://github.com/ardamavi/Sign-Language-Digits-Dataset/archive/refs/heads/master.zip"
DIGITS = tuple("0123456789")
MIN_PHOTOS = 2000  # what the default URL has to bring; it holds about 2,060
MAX_BYTES = 1 << 30  # unpacked; the real archive has about 20 MB
TRIES, WAIT = 4, 0.5  # attempts at a transfer; seconds before the second, doubled each time
HELP = "get the zip elsewhere and pass it: python -m src.data sign_digits --from FILE"


def fetch(source=DEFAULT_URL, folder="data/sign_digits"):
    """Put `<0-9>/*.JPG`, LICENSE and groups.csv into `folder`, whole or not at all.

    source: http(s) URL of the zip, a local zip, or a folder with `<0-9>/` or `Dataset/<0-9>/`.
    folder: where to; relative as in `src.data.find_folder`. A complete one is left alone.
    Returns the folder as a Path and prints a line. Raises OSError when source cannot be had and
    ValueError when it is not the data set: a damaged archive, members that point outside it or
    unpack to over MAX_BYTES, a photo that does not decode, a class without photos.
    """
    target, source = find_folder(folder), str(source)
    where = shown(source)
    if (target / "groups.csv").is_file() and all((target / d).is_dir() for d in DIGITS):
        print(f"{shown(target)} is complete and was left alone; delete it to get it anew")
        return target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{shown(target)} exists but is not a complete sign_digits, expected no such folder; "
            "move it away or choose another with --to"
        )
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-")
    with beside as work:
        whole = Path(work) / "whole"
        if source.startswith(("http://", "https://")):
            part = target.with_name(f"{target.name}.zip.part")
            _download(source, part)
            try:
                names = _take(_zip_members(part, where), whole, where)
            finally:  # a complete download that is no good would only be resumed for ever
                _forget(part)
        elif os.path.isdir(source):
            names = _take(_folder_members(Path(source)), whole, where)
        elif os.path.isfile(source):
            names = _take(_zip_members(source, where), whole, where)
        else:
            raise FileNotFoundError(f"no {where or 'name given'}, expected a zip, a folder or an http(s) URL")
        if source == DEFAULT_URL and len(names) < MIN_PHOTOS:
            raise ValueError(f"{source} brought {len(names)} photos, expected at least {MIN_PHOTOS}; {HELP}")
        persons = group_by_person(names)
        with writing(target):
            with (whole / "groups.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("file", "group"), *sorted(persons.items())])
            os.replace(whole, target)
    print(f"{shown(target)}: {len(names)} photos of {len(set(persons.values()))} persons")
    return target


def group_by_person(names):
    """{name: "person_<first number>"} for names like "3/IMG_1121.JPG".

    The people showed 0 to 9 one after another, so consecutive file numbers over all classes are
    one person. Merging two people costs nothing, splitting one would put a person on both sides
    of a split; so a new person starts only where the numbers jump by more than 10, or where the
    digit falls by 5 or more to one this person has shown already. (Digits out of order fall by
    less; a stray 5 before its 0, as in IMG_4039, falls to a digit not seen yet.)
    A name without a number is a person of its own.
    """
    numbered, persons = [], {}
    for name in names:
        number = re.search(r"\d+", name.rpartition("/")[2])
        if number:
            numbered.append((int(number[0]), int(name[0]), name))
        else:
            persons[name] = f"person_{name}"
    last, seen, person = None, set(), None
    for number, digit, name in sorted(numbered):
        fell = last is not None and last[1] - digit >= 5 and digit in seen
        if last is None or number - last[0] > 10 or fell:
            person, seen = f"person_{number}", set()
        seen.add(digit)
        persons[name], last = person, (number, digit)
    return persons


def _wanted(member):
    """("<0-9>", name) of a photo below a digit's folder, ("", "LICENSE") of that, else None."""
    *_, parent, name = ["", *member.split("/")]
    if parent in DIGITS and name.lower().endswith(SUFFIXES) and not name.startswith("."):
        return parent, name
    return ("", name) if name == "LICENSE" else None


def _take(members, whole, source):
    """Write what is wanted of (name, bytes) pairs into `whole`; returns the photos' names."""
    names = []
    for member, content in members:
        digit, name = _wanted(member)
        out = whole / digit / name
        if out.exists():
            raise ValueError(f"{source} holds {shown(f'{digit}/{name}')} twice, expected it once; {HELP}")
        if digit:
            try:
                with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                    image.load()
            except Exception as error:  # Pillow lets everything out
                raise ValueError(
                    f"{shown(member)} in {source} cannot be decoded ({reason(error)}), expected a photo; {HELP}"
                ) from None
            names.append(f"{digit}/{name}")
        with writing(whole.parents[1]):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(content)
    missing = [digit for digit in DIGITS if not any(name[0] == digit for name in names)]
    if missing:
        raise ValueError(
            f"{source} has no photos of {', '.join(missing)}, expected the ten folders 0 to 9, each with photos; {HELP}"
        )
    return names


def _folder_members(folder):
    """(name, bytes) of the wanted files of a local copy."""
    nested = not any((folder / digit).is_dir() for digit in DIGITS)
    base = folder / "Dataset" if nested else folder
    for path in [folder / "LICENSE", *sorted(base.glob("[0-9]/*"))]:
        if path.is_file() and _wanted(path.as_posix()):
            with _reading(shown(path)):
                content = path.read_bytes()
            yield path.as_posix(), content


def _zip_members(archive, source):
    """(name, bytes) of the wanted files of a zip, whose members are all checked before."""
    with _reading(source):
        zipped = zipfile.ZipFile(archive)
    with zipped:
        infos = zipped.infolist()
        for info in infos:
            parts = re.split(r"[/\\]", info.filename)
            outside = ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", parts[0])
            if outside or stat.S_ISLNK(info.external_attr >> 16):
                raise ValueError(
                    f"{source} has the member {info.filename!r}, expected plain files inside "
                    f"the archive; do not trust it, {HELP}"
                )
        # zipfile stops at the announced size, so a member cannot unpack to more than this.
        total = sum(info.file_size for info in infos)
        if total > MAX_BYTES:
            raise ValueError(
                f"{source} would unpack to {total:,} bytes, expected at most {MAX_BYTES:,}; do not trust it, {HELP}"
            )
        for info in infos:
            if _wanted(info.filename):
                with _reading(source):
                    content = zipped.read(info)  # which checks the CRC
                yield info.filename, content


@contextlib.contextmanager
def _reading(source):
    """Turns what goes wrong in reading `source` into one line that names it."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # bz2 says a damaged member this way
            raise ValueError(f"{source} is not a sound zip ({error}); {HELP}") from None
        raise type(error)(f"{source} cannot be read ({error.strerror}), expected a readable file; {HELP}") from None
    except Exception as error:  # zipfile lets everything out: zlib.error, LZMAError, struct.error, RuntimeError ...
        raise ValueError(f"{source} is not a sound zip ({reason(error)}); {HELP}") from None


def _download(url, part):
    """The thing at url into the file `part`, which an earlier attempt may have begun."""
    for attempt in range(TRIES):
        time.sleep(WAIT * 2 ** (attempt - 1) if attempt else 0)
        try:
            return _transfer(url, part)
        except urllib.error.HTTPError as error:
            failure = error
            error.close()
            if error.code == 416:  # what we hold is no beginning of what is there now
                _forget(part)
            elif error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # trying again fills no gap
                _forget(part)
                with writing(part.parent):
                    raise
            failure = error
    raise ConnectionError(f"{url} cannot be downloaded ({failure}), expected a zip; {HELP}")


def _transfer(url, part):
    """One attempt: continue `part` if the server still has the same thing, else start anew."""
    note = _note(part)
    begun = note.read_text().split("\n") if note.exists() and part.exists() else [""]
    have = part.stat().st_size if begun[0] == url and begun[-1] else 0
    request = urllib.request.Request(url, headers={"User-Agent": "python-urllib"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", begun[-1])
    with urllib.request.urlopen(request, timeout=30) as reply:
        start = have if reply.status == 206 else 0
        got = reply.headers["Content-Range"] or "no Content-Range"
        if start and not got.startswith(f"bytes {start}-"):
            _forget(part)
            raise ConnectionError(f"asked for the bytes from {start}, got {got}")
        etag = reply.headers["ETag"] or ""
        # A weak ETag (W/) does not promise the same bytes, so If-Range does not take it.
        validator = etag if etag.startswith('"') else reply.headers["Last-Modified"] or ""
        length = reply.headers["Content-Length"]
        total = start + int(length) if length else None
        bar = tqdm(desc=part.name, initial=start, total=total, unit="B", unit_scale=True, file=sys.stdout)
        with part.open("ab" if start else "wb") as file, bar:
            note.write_text(f"{url}\n{validator}")
            while block := reply.read(1 << 16):
                file.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"{part.stat().st_size:,} of {total:,} bytes arrived")


def _note(part):
    return part.with_name(part.name + ".from")  # url and validator of the bytes in `part`


def _forget(part):
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
