"""The ways in which an image is damaged; each takes its choices from a `Random` that is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.fuzz.parts import Region, Subject

    Mutator = Callable[[bytearray, Subject, Random], None]

EXTREMES: Final = (
    0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    (1 << 40) + 1, (1 << 56) - 512, (1 << 62) | 512, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_SEALED: Final = 0.75
_MOST_LONGER: Final = 1 << 16


def damage(subject: Subject, random: Random) -> bytearray:
    """A copy of the subject with one to four kinds of damage, most with sound checksums."""
    data = bytearray(subject.data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        mutate = random.choice(_of(subject))
        mutate(data, subject, random)
    if subject.seal is not None and random.random() < _SEALED:
        subject.seal(data, subject.data)
    return data


def _of(subject: Subject) -> tuple[Mutator, ...]:
    found: tuple[Mutator, ...] = _ANYWHERE
    if subject.regions:
        found += _IN_FIELDS * 4
    if any(region.table for region in subject.regions):
        found += _IN_TABLES * 2
    if subject.text is not None:
        found += _IN_TEXT * (1 if subject.regions else 4)
    return found


# --- Numbers ------------------------------------------------------------------------------------


def _put(data: bytearray, at: int, new: bytes | bytearray) -> None:
    """As far as the file goes: an earlier mutation may have cut it."""
    end = min(at + len(new), len(data))
    if at < end:
        data[at:end] = new[: end - at]


def _place(region: Region, random: Random) -> int:
    return region.at + random.randrange(max(region.length // region.width, 1)) * region.width


def _value(old: int, size: int, random: Random) -> int:
    near = (old + 1, old - 1, old * 2, old // 2, old + 512, old ^ 1 << random.randrange(64))
    ends = (size, size - 1, size + 1, size - 512, size // 512, size // 512 - 1, size >> 16)
    return random.choice((random.choice(EXTREMES), random.choice(near), random.choice(ends)))


def _field(data: bytearray, subject: Subject, random: Random) -> None:
    """Another number in a header or table."""
    region = random.choice(subject.regions)
    at = _place(region, random)
    width = random.choice((region.width, region.width, region.width, 1, 2, 4, 8))
    order = region.order
    value = _value(int.from_bytes(data[at : at + width], order), len(data), random)
    _put(data, at, (value % (1 << 8 * width)).to_bytes(width, order))


def _bit(data: bytearray, subject: Subject, random: Random) -> None:
    """A few bits of a header or table turned."""
    region = random.choice(subject.regions)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = region.at + random.randrange(region.length)
        if at < len(data):
            data[at] ^= 1 << random.randrange(8)


def _entries(data: bytearray, subject: Subject, random: Random) -> None:
    """Entries of tables exchanged, repeated, emptied, filled, or made to point at structures."""
    tables = [region for region in subject.regions if region.table]
    one = random.choice(tables)
    other = random.choice([region for region in tables if region.width == one.width])
    first, second, width = _place(one, random), _place(other, random), one.width
    here, there = data[first : first + width], data[second : second + width]
    match random.randrange(6):
        case 0:
            _put(data, first, there)
            _put(data, second, here)
        case 1:
            _put(data, first, there)
        case 2:
            _put(data, one.at, bytes(here) * (one.length // width))
        case 3:
            _put(data, first, bytes(width))
        case 4:
            _put(data, first, b"\xff" * width)
        case _:
            target = random.choice(subject.regions).at // random.choice((1, 1, 512, 4096))
            _put(data, first, (target % (1 << 8 * width)).to_bytes(width, one.order))


# --- Bytes --------------------------------------------------------------------------------------


def _anywhere(data: bytearray, subject: Subject, random: Random) -> None:
    """Random bytes, or zeros, in any place: data and packed data are damaged too."""
    if data:
        at = random.randrange(len(data))
        count = random.choice((1, 1, 2, 8, 64, 512))
        _put(data, at, bytes(count) if random.random() < 0.3 else random.randbytes(count))


def _cut(data: bytearray, subject: Subject, random: Random) -> None:
    """The file ends early, often near a structure or its own end."""
    if not data:
        return
    near = [len(data)]
    for region in subject.regions:
        near += (region.at, region.at + region.length)
    if random.random() < 0.7:
        end = random.choice(near) - random.choice((0, 1, 2, 17, 511, 512, 513))
    else:
        end = random.randrange(len(data))
    del data[max(end, 0) :]


def _splice(data: bytearray, subject: Subject, random: Random) -> None:
    """A part of the file over another, or moved, doubled, taken out."""
    if not data:
        return
    source, target = random.randrange(len(data)), random.randrange(len(data))
    if random.random() < 0.7:  # whole sectors, as a file system mixes them up
        source, target = source // 512 * 512, target // 512 * 512
    count = random.choice((1, 16, 512, 512, 4096))
    part = data[source : source + count]
    match random.randrange(4):
        case 0 | 1:
            _put(data, target, part)
        case 2:
            data[target:target] = part
        case _:
            del data[target : target + count]


def _longer(data: bytearray, subject: Subject, random: Random) -> None:
    """More behind the end."""
    count = random.choice((1, 511, 512, 4096, _MOST_LONGER))
    data += bytes(count) if random.random() < 0.5 else random.randbytes(count)


# --- Text ---------------------------------------------------------------------------------------


def _text(data: bytearray, subject: Subject, random: Random) -> None:
    """Lines exchanged, repeated, lost; other numbers, other words, signs that break quotes."""
    assert subject.text is not None
    start, end = subject.text
    text = bytes(data[start:end])
    lines = text.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(7):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            lines.insert(one, lines[other])
        case 2:
            del lines[one]
        case 3:
            lines[one] = lines[one] * random.choice((2, 9, 200))
        case 4 | 5:
            numbers = list(re.finditer(rb"\d+", text))
            if numbers:
                found = random.choice(numbers)
                value = random.choice((*EXTREMES, -1, 10**40, int(found[0][:18]) + 1))
                text = text[: found.start()] + b"%d" % value + text[found.end() :]
            lines = [text]
        case _:
            at = random.randrange(len(text) + 1)
            sign = random.choice((b'"', b"\0", b"\r", b"=", b"<", b"&", b"#", b"\xff", b" ", b"\n"))
            lines = [text[:at] + sign * random.choice((1, 1, 2, 300)) + text[at:]]
    new = b"\n".join(lines)
    if end >= len(subject.data):
        data[start:end] = new
    elif subject.regions and start and end < len(subject.data):
        _put(data, start, new[: end - start].ljust(end - start, b"\0"))


_ANYWHERE: Final = (_anywhere, _anywhere, _cut, _splice, _splice, _longer)
_IN_FIELDS: Final = (_field, _field, _bit)
_IN_TABLES: Final = (_entries,)
_IN_TEXT: Final = (_text,)
