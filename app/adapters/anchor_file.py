"""The anchor as files: the last checkpoint of each origin, outside the database (ports.Anchor; DESIGN.md, section 3).

A witness keeps its state in one of these too: it needs the same promises, and only `adapters/sql` speaks SQL.
A file has two slots, each with the number of its write and a hash; the one with the higher number is what was written
last. A write fills the other one in place and waits for the disk once: a crash, or a write that is torn, leaves
the old bytes or the new ones. Only a file that is new, or too small, is written beside and renamed (ADR 20). What the
bytes say is the reader's business.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from app.errors import Unavailable
from app.ledger.durable import sync_folder
from app.ledger.ports import NotLeaderError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
MAX_ANCHOR_BYTES = 1_048_576
SLOT_BYTES = 4096
"""The smallest slot: a page, so that no write touches two of them."""
_HEADER = re.compile(rb"assay-anchor/1 ([0-9a-f]{16}) ([0-9a-f]{8}) ([0-9a-f]{64})\n")
_HEADER_BYTES = 106
_MAX_FILE_BYTES = 4 * MAX_ANCHOR_BYTES
LOCK_POLL_S = 0.002


class AnchorUnavailableError(Unavailable):
    """The folder is missing, full or not ours to write: nothing may be signed until it is back."""

    code = "anchor_unavailable"


class _Slot(NamedTuple):
    """What one half of a file holds, and the number of its write; 0 if it holds nothing, or was torn."""

    start: int
    number: int
    held: bytes


def parse_anchor(data: bytes, path: Path) -> bytes:
    """Return what the file holds: one without slots, of an earlier version or an auditor's own, all of its bytes.

    Raises AnchorUnavailableError, which names the path, if both slots are damaged.
    """
    slots = _parse_slots(data)
    if slots is None:
        return data[:MAX_ANCHOR_BYTES]
    newest = max(slots, key=_number)
    if not newest.number:
        raise AnchorUnavailableError(f"the anchor {path} is damaged: restore it from a backup")
    return newest.held


def _parse_slots(data: bytes) -> tuple[_Slot, _Slot] | None:
    """Return both slots, None if this is no file of slots."""
    middle = len(data) // 2
    if not any(_HEADER.match(data, start) for start in (0, middle)):
        return None
    return _parse_slot(data[:middle], 0), _parse_slot(data[middle:], middle)


def _parse_slot(data: bytes, start: int) -> _Slot:
    header = _HEADER.match(data)
    if header is not None:
        number, length = int(header[1], 16), int(header[2], 16)
        held = data[_HEADER_BYTES : _HEADER_BYTES + length]
        if data.startswith(_format_slot(number, held)):
            return _Slot(start, number, held)
    return _Slot(start, 0, b"")


def _format_slot(number: int, held: bytes) -> bytes:
    """Return the header, whose hash is of the number too, and what is held."""
    digest = sha256(number.to_bytes(8, "big") + held).hexdigest()
    return f"assay-anchor/1 {number:016x} {len(held):08x} {digest}\n".encode() + held


_number = attrgetter("number")
# What has reached the disk is what counts; the time of the write does not. Not every system makes the difference.
_sync_data = getattr(os, "fdatasync", os.fsync)


def _read_all(file: int) -> bytes:
    """Return what an open file holds; a buffer for the largest that may be would cost more than the reading."""
    return os.pread(file, min(os.fstat(file).st_size, _MAX_FILE_BYTES), 0)


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
        path = self._path(origin)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(file, "rb", buffering=0):
                data = _read_all(file)
        except FileNotFoundError:
            if self._folder.is_dir():
                return None
            raise self._unavailable("is not there") from None
        except OSError as error:
            raise self._unavailable(f"cannot be read ({error.strerror})") from error
        return parse_anchor(data, path)

    def write(self, origin: str, checkpoint: bytes) -> None:
        """Replace the bytes, atomically and durably. Only who holds the origin may write.

        When it raises, either bytes may be there: the caller must not show the checkpoint to anybody.
        """
        try:
            if not self._write_in_place(origin, checkpoint):
                self._write_anew(origin, checkpoint)
        except OSError as error:
            raise self._unavailable(f"cannot be written ({error.strerror})") from error

    def _write_in_place(self, origin: str, checkpoint: bytes) -> bool:
        """Fill the slot that is not the newest, if there is a file and room in it."""
        try:
            file = os.open(self._path(origin), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        with os.fdopen(file, "r+b", buffering=0):
            data = _read_all(file)
            slots = _parse_slots(data)
            if slots is None or _HEADER_BYTES + len(checkpoint) > len(data) // 2:
                return False
            older, newest = sorted(slots, key=_number)
            slot = _format_slot(newest.number + 1, checkpoint)
            if os.pwrite(file, slot, older.start) < len(slot):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _sync_data(file)
        return True

    def _write_anew(self, origin: str, checkpoint: bytes) -> None:
        """Put a new file in the place of the one that is there."""
        slot = _format_slot(1, checkpoint)
        room = SLOT_BYTES << max(0, (len(slot) - 1) // SLOT_BYTES).bit_length()
        path, fresh = self._path(origin), self._path(origin, ".new")
        file = self._open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(file, "wb") as opened:
            opened.write(slot.ljust(2 * room, b"\0"))
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(path)
        sync_folder(self._folder)

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

    def _unavailable(self, what: str) -> AnchorUnavailableError:
        return AnchorUnavailableError(f"the anchor in {self._folder} {what}")
