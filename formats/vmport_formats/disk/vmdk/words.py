"""The tables of a sparse extent as numbers: read by the page, with holes passed over.

Tables that follow each other in the file are as one, so a map of a disk that is mostly empty costs
little: where the file has holes its tables are zeros, and numbers that go on alike are found
together.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal

from vmport_formats.errors import TruncatedInput
from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.source import ByteSource

_PAGE: Final = 16 * KIB
_CACHE: Final = 2 * MIB
"""Bytes of pages that are kept for a disk, however many extents it has."""


class Pages:
    """The pages that were used last, of one file or of all the files of a disk.

    Safe in several threads at once.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[int, int], array[int]] = OrderedDict()
        self._lock = Lock()

    def get(self, owner: int, number: int) -> array[int] | None:
        """Page `number` of a file, if it is still there."""
        with self._lock:
            if (page := self._pages.get((owner, number))) is not None:
                self._pages.move_to_end((owner, number))
            return page

    def keep(self, owner: int, number: int, page: array[int]) -> None:
        """Keep a page, in place of the one that was not used for the longest time."""
        with self._lock:
            self._pages[owner, number] = page
            if len(self._pages) > _CACHE // _PAGE:
                self._pages.popitem(last=False)


class Words:
    """A file as little-endian numbers of one width.

    Reading is safe from several threads at once.
    """

    def __init__(self, source: ByteSource, width: Literal[4, 8], pages: Pages) -> None:
        """`width` is in bytes; numbers lie at multiples of it in the file."""
        self._source = source
        self._typecode = "I" if width == 4 else "Q"
        self._pages = pages
        self.width = width

    def parts(self, at: int, count: int) -> Iterator[tuple[int, array[int] | None]]:
        """`count` numbers from offset `at` on, in parts: how many, and which.

        None stands for as many zeros, which a hole of the file is.

        Raises:
            TruncatedInput: the file ends before them.
            UnreadableInput: the system cannot read it.
        """
        end = at + count * self.width
        if end > self._source.size:
            raise TruncatedInput(
                self._source.name,
                at=at,
                code="source.truncated",
                problem=f"a table of {count * self.width} bytes lies here, "
                f"but the file ends at {self._source.size:#x}",
                hint="the file is cut short; copy it again",
            )
        for start, stop in self._data(at, end):
            if start > at:
                yield (start - at) // self.width, None
            at = start
            while at < stop:
                part = self._part(at, stop)
                yield len(part), part
                at += len(part) * self.width
        if at < end:
            yield (end - at) // self.width, None

    def _data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What of a range is no hole, widened to whole numbers.

        A range that fits a page is not worth the question.
        """
        if end - start <= _PAGE:
            yield start, end
            return
        done = start
        for first, last in self._source.data_ranges(start, end - start):
            first = max(done, start + (first - start) // self.width * self.width)
            done = min(end, start - (start - last) // self.width * self.width)
            if first < done:
                yield first, done

    def _part(self, at: int, end: int) -> array[int]:
        """The numbers from `at` to `end`, or to the end of the page that they begin on."""
        number, inside = divmod(at, _PAGE)
        page = self._page(number)
        first = inside // self.width
        return page[first : first + (end - at) // self.width]

    def _page(self, number: int) -> array[int]:
        if (known := self._pages.get(id(self), number)) is not None:
            return known
        data = self._source.read_at(number * _PAGE, _PAGE)
        page = array(self._typecode, data[: len(data) // self.width * self.width])
        if sys.byteorder == "big":
            page.byteswap()
        self._pages.keep(id(self), number, page)
        return page
