"""Brings a file to the medium in a thread of its own, while it is written and while it is read."""

from __future__ import annotations

import os
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Sync = Callable[[int], object]

_BEHIND: Final = 16
"""Flushes that are asked for and not done; who asks for more waits."""


class Flush:
    """Flushes one file, as often as it is told to.

    A medium that takes bytes while more are being prepared has few left in the end.  To hand them
    to it is not enough (sync_file_range): a drive, or the host of a virtual one, keeps them in its
    own memory, and the flush in the end would wait for all of them.

    On a descriptor that was there when the file was written: one that is opened later might not
    hear of an error that came before.  Each failure is told once by the system, and kept here.
    """

    def __init__(self, descriptor: int) -> None:
        """`descriptor` becomes ours."""
        self._descriptor = descriptor
        self._asked: SimpleQueue[Sync | None] = SimpleQueue()
        self._done: SimpleQueue[OSError | None] = SimpleQueue()
        self._under_way = 0
        self._ending = False
        # A daemon: an interrupted run does not wait for the medium.
        self._thread = Thread(target=self._run, name="vmport-flush", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, path: Path) -> Self:
        """The last flush of a file that another program has written.

        Raises:
            OSError: it cannot be opened.
        """
        flush = cls(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        flush.begin_last()
        return flush

    def begin(self) -> None:
        """Flush the content that has been written up to now; more may follow.

        Raises:
            OSError: an earlier flush failed.
        """
        self._ask(os.fdatasync)
        while self._under_way > _BEHIND:
            self._hear()

    def begin_last(self) -> None:
        """Flush all of it, and let go of the file then."""
        self._ask(os.fsync)
        self.end()

    def wait(self) -> None:
        """Until the last one is done, and the file let go of.

        Raises:
            OSError: a flush failed, or closing the file did.
        """
        self._thread.join()
        while self._under_way:
            self._hear()

    def end(self) -> None:
        """Ask for no more: let go of the file after what is under way, and after the last one."""
        self._ending = True
        self._ask(None)

    def _ask(self, sync: Sync | None) -> None:
        self._under_way += 1
        self._asked.put(sync)

    def _hear(self) -> None:
        failure = self._done.get()
        self._under_way -= 1
        if failure is not None:
            raise failure

    def _run(self) -> None:
        for sync in iter(self._asked.get, None):
            # The last one does it all; and when there is none, nobody cares.
            needless = self._ending and sync is not os.fsync
            self._done.put(None if needless else self._failure(sync))
        self._done.put(self._failure(os.close))

    def _failure(self, do: Sync) -> OSError | None:
        try:
            do(self._descriptor)
        except OSError as error:
            return error
        return None
