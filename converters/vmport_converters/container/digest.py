"""SHA-256 of a stream, reckoned in a thread of its own, so that nobody waits for it."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

_MOST_WAITING: Final = 8


class BackgroundDigest:
    """Takes the pieces of a stream in order; each is held until its turn has come."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._waiting: deque[Future[None]] = deque()
        self.length = 0
        """Bytes so far."""

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        self.length += len(piece)
        self._waiting.append(self._pool.submit(self._hash.update, piece))
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft().result()

    def finish(self) -> str:
        """The digest of all pieces, as images write it: ``sha256:`` and 64 hexadecimal digits."""
        while self._waiting:
            self._waiting.popleft().result()
        return f"sha256:{self._hash.hexdigest()}"

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
