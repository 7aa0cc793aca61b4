"""EXIF and IPTC blocks, and the directories of TIFF files, whose values stay the bytes that they were.

Libraries read names as Latin-1 or ASCII and write `?`; here no text is decoded. (TIFF 6.0, section 2; Exif 2.32, CIPA
DC-008.) A block's tags are {directory: {tag: (type, value bytes, little-endian)}}; directory 0 is the main one, the
others go by the tag that points to them.
"""

import struct

EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
POINTERS = ((0, EXIF), (0, GPS), (EXIF, INTEROP))  # directory, and its tag that points to another
MAKE, MODEL, ORIENTATION, ISO = 0x010F, 0x0110, 0x0112, 0x8827
DESCRIBING = (
    270,
    MAKE,
    MODEL,
    ORIENTATION,
    306,
    315,
    33432,
    *range(0x9C9B, 0x9CA0),
)  # of a TIFF's tags, those that say nothing of its layout
MAKER_NOTE, SUB_DIRECTORIES, THUMBNAIL = 0x927C, 0x014A, (0x0201, 0x0202)
IPTC = 0x83BB  # a TIFF's tag; the blocks of a JPEG have a header of Photoshop's, and one of each block
PHOTOSHOP, RESOURCE = b"Photoshop 3.0\0", b"8BIM\x04\x04\0\0"
MOST_IN_A_JPEG = 65533  # bytes of a marker segment
SMALL = 256  # bytes, too few for an image
UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
RATIONALS = (5, 10)  # types of two units a value

Tags = dict[int, dict[int, tuple[int, bytes]]]


def parse(data) -> Tags:
    """The tags of an EXIF block, or of a whole TIFF or BigTIFF file (bytes or a mmap). ValueError if it is damaged.

    A thumbnail's directory, the second of a chain, is not among them.
    """
    start = 6 if data[:6] == b"Exif\0\0" else 0
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[start : start + 2]))
    try:
        if order is None:
            raise ValueError("no byte order mark")
        big = struct.unpack_from(order + "H", data, start + 2)[0] == 43
        first = struct.unpack_from(order + ("Q" if big else "I"), data, start + (8 if big else 4))[0]
        tags = {0: _directory(data, start, first, order, big)}
        for parent, pointer in POINTERS:
            if pointer in tags.get(parent, {}):
                _, offset = tags[parent].pop(pointer)
                tags[pointer] = _directory(data, start, int.from_bytes(offset, "little"), order, big)
        return tags
    except (struct.error, ValueError) as error:
        raise ValueError(f"its EXIF block is damaged ({error})") from None


def _directory(data, start: int, at: int, order: str, big: bool) -> dict[int, tuple[int, bytes]]:
    head, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    place = start + at + struct.calcsize("=" + head)
    entries = {}
    for _ in range(min(struct.unpack_from(order + head, data, start + at)[0], 1000)):
        tag, kind, count = struct.unpack_from(order + entry, data, place)
        value = place + struct.calcsize("=" + entry)
        place = value + inline
        unit = UNIT.get(kind, 0)
        length = unit * (1 + (kind in RATIONALS)) * count
        if length > inline:
            value = start + struct.unpack_from(order + ("Q" if big else "I"), data, value)[0]
        raw = bytes(data[value : value + length])
        if len(raw) < length:
            raise ValueError(f"tag {tag} ends beyond it")
        if unit:
            entries[tag] = kind, swapped(raw, unit) if order == ">" else raw
    return entries


def swapped(raw: bytes, unit: int) -> bytes:
    """The bytes of each number in reverse."""
    return b"".join(raw[i : i + unit][::-1] for i in range(0, len(raw), unit)) if unit > 1 else raw


def serialise(tags: Tags, base: int) -> tuple[int, bytes]:
    """(offset of the main directory, bytes) of little-endian directories that will stand at offset `base`, even."""
    tags, out = {name: dict(entries) for name, entries in tags.items()}, b""
    for parent, pointer in (*reversed(POINTERS), (None, 0)):
        at = base + len(out)
        if tags.get(pointer):
            body = _directory_bytes(tags[pointer], at)
            out += body
            if parent is not None:
                tags.setdefault(parent, {})[pointer] = 4, struct.pack("<I", at)
    return at, out


def _directory_bytes(entries: dict[int, tuple[int, bytes]], at: int) -> bytes:
    table, values = struct.pack("<H", len(entries)), b""
    end = at + 2 + 12 * len(entries) + 4
    for tag, (kind, raw) in sorted(entries.items()):
        count = len(raw) // (UNIT[kind] * (1 + (kind in RATIONALS)))
        table += struct.pack("<HHI", tag, kind, count)
        if len(raw) <= 4:
            table += raw.ljust(4, b"\0")
        else:
            table += struct.pack("<I", end + len(values))
            values += raw + b"\0" * (len(raw) % 2)
    return table + struct.pack("<I", 0) + values


def block(tags: Tags) -> bytes | None:
    """The EXIF block of these tags; None if there are none."""
    if not any(tags.values()):
        return None
    main, body = serialise(tags, 8)
    return b"Exif\0\0II*\0" + struct.pack("<I", main) + body


def from_tiff(tags: Tags) -> dict[str, bytes | None]:
    """{"exif", "iptc"} of a TIFF file's tags: the EXIF block without those that describe its layout."""
    upright = 3, b"\1\0"  # which libvips writes without being asked
    main = {
        tag: value for tag, value in tags[0].items() if tag in DESCRIBING and (tag, value) != (ORIENTATION, upright)
    }
    _, iptc = tags[0].get(IPTC, (7, b""))
    return dict(exif=block(tags | {0: main}), iptc=iptc or None)


def into_tiff(data: bytes, exif: bytes | None, iptc: bytes | None) -> bytes:
    """A little-endian TIFF file with a new main directory at its end, which has the tags of the blocks too."""
    own, more = parse(data), parse(exif) if exif else {0: {}}
    main = {tag: value for tag, value in more[0].items() if tag in DESCRIBING}
    if iptc:
        main[IPTC] = 7, iptc
    data += b"\0" * (len(data) % 2)
    at, body = serialise(more | {0: own[0] | main}, len(data))
    return data[:4] + struct.pack("<I", at) + data[8:] + body


def into_jpeg(data: bytes, exif: bytes | None, iptc: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    """A JPEG file with the blocks at its beginning; an EXIF block that is too long loses its thumbnail."""
    across, down = (min(65535, round(x)) for x in dpi or (72, 72))
    jfif = b"JFIF\0\1\1\1" + struct.pack(">HHxx", across, down)
    if exif:
        exif = b"Exif\0\0" + exif.removeprefix(b"Exif\0\0")
        exif = exif if len(exif) <= MOST_IN_A_JPEG else without_images(exif)
    if iptc:
        iptc = PHOTOSHOP + RESOURCE + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    segments = b""
    for marker, segment in ((b"\xff\xe0", jfif), (b"\xff\xe1", exif), (b"\xff\xed", iptc)):
        if segment and len(segment) <= MOST_IN_A_JPEG:
            segments += marker + struct.pack(">H", len(segment) + 2) + segment
    return data[:2] + segments + data[2:]


def iptc_of(segment: bytes) -> bytes | None:
    """The IPTC block in a JPEG's Photoshop segment; None where it has none."""
    at = segment.find(RESOURCE)
    if at < 0:
        return None
    start = at + len(RESOURCE) + 4
    return segment[start : start + struct.unpack(">I", segment[start - 4 : start])[0]] or None


def without_images(exif: bytes | None) -> bytes | None:
    """The block without what may hold an image: thumbnail, maker's notes, and any other tag of more than SMALL bytes.

    A block that cannot be read is dropped.
    """
    try:
        tags = parse(exif or b"")
    except ValueError:
        return None
    unwanted = {MAKER_NOTE, SUB_DIRECTORIES, *THUMBNAIL}
    return block(
        {
            name: {tag: value for tag, value in entries.items() if tag not in unwanted and len(value[1]) <= SMALL}
            for name, entries in tags.items()
        }
    )


def upright(exif: bytes) -> bytes | None:
    """The block without its orientation, for pixels that were turned; one that cannot be read is dropped."""
    try:
        tags = parse(exif)
    except ValueError:
        return None
    tags[0].pop(ORIENTATION, None)
    return block(tags)


def number(exif: bytes | None, directory: int, tag: int) -> int | None:
    """A tag's first whole number; None where there is none."""
    try:
        kind, raw = parse(exif or b"")[directory][tag]
        return int.from_bytes(raw[: UNIT[kind]], "little") if kind in (1, 3, 4) and raw else None
    except (ValueError, KeyError):
        return None


def camera(exif: bytes | None) -> str | None:
    """Make and model of the camera that a block names; None where it names none."""
    try:
        main = parse(exif or b"")[0]
    except ValueError:
        return None
    texts = [main[tag][1].decode("utf-8", "replace").strip("\0 ") for tag in (MAKE, MODEL) if tag in main]
    return " ".join(filter(None, texts)) or None
