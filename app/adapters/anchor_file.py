"""The anchor as files: the last checkpoint of each origin, outside the database (ports.Anchor; DESIGN.md, section 3).

A witness keeps its state in one of these too: it needs the same promises, and only `adapters/sql` speaks SQL.
A write is a temporary file, fsync, rename, fsync of the folder: a crash leaves the old bytes or the new ones, and at
worst one stale temporary file per origin, which the next write replaces. What the bytes say is the reader's business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from hashlib import sha256
from pathlib import Path

from app.errors import Unavailable
from app.ledger.durable import sync_folder
from app.ledger.ports import NotLeaderError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
MAX_ANCHOR_BYTES = 1_048_576
LOCK_POLL_S = 0.002


class AnchorUnavailableError(Unavailable):
    """The folder is missing, full or not ours to write: nothing may be signed until it is back."""

    code = "anchor_unavailable"


class FileAnchor:
    """One file per origin in `folder`, named by the hex SHA-256 of the origin.

    The folder is never created by use: one that is missing, say an unmounted volume, must not look like a log that
    never signed. `create` makes it, once.
    """

    def __init__(self, folder: Path, *, lock_wait_s: float = 0.0) -> None:
        """Nothing is read yet. `lock_wait_s`: how long `hold` waits for another holder before it gives up."""
        self._folder = folder
        self._lock_wait_s = lock_wait_s

    @classmethod
    def create(cls, folder: Path, *, lock_wait_s: float = 0.0) -> FileAnchor:
        """Make the folder (0700) if it does not exist, and return the anchor in it."""
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return cls(folder, lock_wait_s=lock_wait_s)

    @contextmanager
    def hold(self, origin: str) -> Iterator[None]:
        """Hold an flock on this origin's lock file; the kernel frees it when the process dies, however it dies.

        A child made by a bare fork keeps a killed holder's lock until it exits too: that errs on the safe side.
        Raises NotLeaderError if another has it.
        """
        lock = self._open(self._path(origin, ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            self._wait_for_lock(lock, origin)
            yield
        finally:
            flock(lock, LOCK_UN)
            os.close(lock)

    def find(self, origin: str) -> bytes | None:
        """Return the bytes last written, as they are; None if there are none."""
        try:
            file = os.open(self._path(origin), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(file, "rb") as opened:
                return opened.read(MAX_ANCHOR_BYTES)
        except FileNotFoundError:
            if self._folder.is_dir():
                return None
            raise self._unavailable("is not there") from None
        except OSError as error:
            raise self._unavailable(f"cannot be read ({error.strerror})") from error

    def write(self, origin: str, checkpoint: bytes) -> None:
        """Replace the bytes, atomically and durably. Only who holds the origin may write.

        When it raises, either bytes may be there: the caller must not show the checkpoint to anybody.
        """
        path, fresh = self._path(origin), self._path(origin, ".new")
        file = self._open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(checkpoint)
                opened.flush()
                os.fsync(opened.fileno())
            fresh.replace(path)
            self._sync_folder()
        except OSError as error:
            raise self._unavailable(f"cannot be written ({error.strerror})") from error

    def _wait_for_lock(self, lock: int, origin: str) -> None:
        deadline = time.monotonic() + self._lock_wait_s
        while True:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise NotLeaderError(f"another process holds the anchor of {origin}") from None
                time.sleep(LOCK_POLL_S)
            else:
                return

    def _path(self, origin: str, suffix: str = "") -> Path:
        return self._folder / (sha256(origin.encode()).hexdigest() + suffix)

    def _open(self, path: Path, flags: int) -> int:
        try:
            return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise self._unavailable(f"cannot be written ({error.strerror})") from error

    def _sync_folder(self) -> None:
        sync_folder(self._folder)

    def _unavailable(self, what: str) -> AnchorUnavailableError:
        return AnchorUnavailableError(f"the anchor in {self._folder} {what}")
