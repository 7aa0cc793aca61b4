"""Sign Language Digits: photos of hands showing 0 to 9, downloaded and grouped by person.

About 2,060 photos, 100x100, of 218 people (Turkey Ankara Ayranci Anadolu High School, 2017;
Apache-2.0; https://github.com/ardamavi/Sign-Language-Digits-Dataset).

    python -m src.datasets sign_digits [--from FILE_OR_FOLDER_OR_URL] [--to DIR]
"""

import contextlib
import csv
import io
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pooch
from PIL import Image

from src.files import one_line, printable, say, writing
from src.files.decoding import FORMATS, SUFFIXES
from src.images import find_folder

DEFAULT_URL = "https://github.com/ardamavi/Sign-Language-Digits-Dataset/archive/refs/heads/master.zip"
DIGITS = tuple("0123456789")
MIN_PHOTOS = 2000  # what the default URL has to bring; it holds about 2,060
MAX_BYTES = 1 << 30  # unpacked; the real archive has about 20 MB
RETRIES = 3
HELP = "get the zip elsewhere and pass it: python -m src.datasets sign_digits --from FILE"


def fetch(source: str | Path = DEFAULT_URL, folder: str | Path = "data/sign_digits") -> Path:
    """Put `<0-9>/*.JPG`, LICENSE and groups.csv into `folder`: the complete set or nothing.

    source  http(s) URL of the zip, a local zip, or a folder with `<0-9>/` or `Dataset/<0-9>/`
    folder  see `src.images.find_folder`; a complete one is left alone

    Returns the folder as a Path and prints a line. Raises OSError when the source cannot be read or downloaded, and
    ValueError when it is not the data set: a damaged archive, members outside it, more than MAX_BYTES unpacked, a
    photo that does not decode, a class without photos.
    """
    target, source = find_folder(folder), str(source)
    if (target / "groups.csv").is_file() and all((target / digit).is_dir() for digit in DIGITS):
        say(f"{printable(target)} is complete and was left alone; delete it to get it anew")
        return target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{printable(target)} exists but is not a complete sign_digits, expected no such folder; "
            "move it away or choose another with --to"
        )
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-")
    with work:
        complete = Path(work.name) / "complete"
        names = _copy_photos(_members(source, Path(work.name)), complete, printable(source))
        if source == DEFAULT_URL and len(names) < MIN_PHOTOS:
            raise ValueError(f"{source} brought {len(names)} photos, expected at least {MIN_PHOTOS}; {HELP}")
        persons = group_by_person(names)
        with writing(target):
            with (complete / "groups.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("file", "group"), *sorted(persons.items())])
            os.replace(complete, target)
    say(f"{printable(target)}: {len(names)} photos of {len(set(persons.values()))} persons")
    return target


def group_by_person(names: Iterable[str]) -> dict[str, str]:
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
    last, shown, person = None, set(), None
    for number, digit, name in sorted(numbered):
        fell = last is not None and last[1] - digit >= 5 and digit in shown
        if last is None or number - last[0] > 10 or fell:
            person, shown = f"person_{number}", set()
        shown.add(digit)
        persons[name], last = person, (number, digit)
    return persons


def _members(source: str, work: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the photos and the licence in a source; a download goes into `work`."""
    if source.startswith(("http://", "https://")):
        return _zip_members(_download(source, work), source)
    if os.path.isdir(source):
        return _folder_members(Path(source))
    if os.path.isfile(source):
        return _zip_members(source, printable(source))
    raise FileNotFoundError(f"no {printable(source) or 'name given'}, expected a zip, a folder or an http(s) URL")


def _download(url: str, folder: Path) -> str:
    """The path of the file behind a URL, in `folder`. Pooch tries again after a network error."""
    pooch.get_logger().setLevel("WARNING")
    name = "sign_digits.zip"
    download = pooch.create(folder, "", registry={name: None}, urls={name: url}, retry_if_failed=RETRIES)
    try:
        return download.fetch(name, downloader=pooch.HTTPDownloader(progressbar=True))
    except (OSError, ValueError) as error:
        raise ConnectionError(f"{url} cannot be downloaded ({one_line(error)[:100]}), expected a zip; {HELP}") from None


def _wanted(member: str) -> tuple[str, str] | None:
    """("<0-9>", name) of a photo below a digit's folder, ("", "LICENSE") of that, else None."""
    *_, parent, name = ["", *member.split("/")]
    if parent in DIGITS and name.lower().endswith(SUFFIXES) and not name.startswith("."):
        return parent, name
    return ("", name) if name == "LICENSE" else None


def _copy_photos(members: Iterable[tuple[str, bytes]], target: Path, source: str) -> list[str]:
    """Write the members of a source into `target`; returns the names of the photos."""
    names = []
    for member, content in members:
        digit, name = _wanted(member)
        out = target / digit / name
        if out.exists():
            raise ValueError(f"{source} holds {printable(f'{digit}/{name}')} twice, expected it once; {HELP}")
        if digit:
            try:
                with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                    image.load()
            except Exception as error:  # Pillow lets everything out
                raise ValueError(
                    f"{printable(member)} in {source} cannot be decoded ({one_line(error)}), expected a photo; {HELP}"
                ) from None
            names.append(f"{digit}/{name}")
        with writing(target):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(content)
    missing = [digit for digit in DIGITS if not any(name[0] == digit for name in names)]
    if missing:
        raise ValueError(
            f"{source} has no photos of {', '.join(missing)}, expected the ten folders 0 to 9, each with photos; {HELP}"
        )
    return names


def _folder_members(folder: Path) -> Iterator[tuple[str, bytes]]:
    nested = not any((folder / digit).is_dir() for digit in DIGITS)
    base = folder / "Dataset" if nested else folder
    for path in [folder / "LICENSE", *sorted(base.glob("[0-9]/*"))]:
        if path.is_file() and _wanted(path.as_posix()):
            with _reading(printable(path)):
                content = path.read_bytes()
            yield path.as_posix(), content


def _zip_members(archive: str, source: str) -> Iterator[tuple[str, bytes]]:
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
def _reading(source: str) -> Iterator[None]:
    """Whatever fails in reading `source` becomes one line that names it."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # bz2 reports a damaged member this way
            raise ValueError(f"{source} is not a sound zip ({error}); {HELP}") from None
        raise type(error)(f"{source} cannot be read ({error.strerror}), expected a readable file; {HELP}") from None
    except Exception as error:  # zipfile lets everything out: zlib.error, LZMAError, struct.error, RuntimeError ...
        raise ValueError(f"{source} is not a sound zip ({one_line(error)}); {HELP}") from None
