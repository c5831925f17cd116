r"""The erasure journal as a file: one line per erasure, outside the database (subjects.ports.ErasureJournal).

    {"at_ms":…,"reason":"…","subject":"sub_…","tenant":"…","v":1} <first 16 hex digits of SHA-256 of the object>\n

A line is one write and one fsync under an flock, so any number of processes may append. Bytes after the last newline
are a write that was cut short before it was acknowledged: readers ignore them and the next append overwrites them. Any
other line that does not match its digest stops the reader: an erasure that cannot be read is one that might be undone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from fcntl import LOCK_EX, LOCK_SH, flock
from hashlib import sha256
from pathlib import Path
from typing import Final

from app.errors import Broken, Malformed, Unavailable
from app.ledger.canonical import canonical, parse_json
from app.ledger.durable import sync_folder
from app.subjects.ports import Erasure

FILE_MODE: Final = 0o600
FORMAT_VERSION: Final = 1
LINE_LIMIT_BYTES: Final = 1024
DIGEST_CHARS: Final = 16
_FIELDS: Final = {"v", "tenant", "subject", "at_ms", "reason"}


class JournalUnavailableError(Unavailable):
    """The journal is missing, full or not ours to write: nothing may be erased or served until it is back."""

    code = "erasure_journal_unavailable"


class JournalBrokenError(Broken):
    """A line of the journal is not what was written: erased data might come back."""

    code = "erasure_journal_broken"


class FileErasureJournal:
    """The journal in one file, which `create` makes, once.

    It is never created by use: a missing file, say on an unmounted volume, must not look like one without erasures.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path

    @classmethod
    def create(cls, path: Path) -> FileErasureJournal:
        """Make the file (0600), durably, if it does not exist, and return the journal in it."""
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE))
            sync_folder(path.parent)
        except OSError as error:
            raise _unavailable(path, "made", error) from error
        return cls(path)

    @classmethod
    @contextmanager
    def rebuilding(cls, path: Path) -> Iterator[FileErasureJournal]:
        """Lend the journal to somebody who adds what it lacks; a missing one gets its name only once it is whole.

        A crash in between leaves a draft beside it, which the next call begins anew.
        """
        if path.exists():
            yield cls(path)
            return
        draft = path.with_name(path.name + ".rebuilding")
        draft.unlink(missing_ok=True)
        yield cls.create(draft)
        try:
            os.link(draft, path)  # and not a rename: what somebody else made meanwhile stays
            draft.unlink()
            sync_folder(path.parent)
        except OSError as error:
            raise _unavailable(path, "made", error) from error

    def append(self, erasure: Erasure) -> None:
        """Add one line and flush it to the disk. When it raises, the line may or may not be there."""
        line = format_line(erasure)
        try:
            with self._locked(os.O_RDWR, LOCK_EX) as file:
                end = _end_of_last_line(file)
                _write_at(file, end, line)
                os.fsync(file)
        except OSError as error:
            raise _unavailable(self._path, "written", error) from error

    def read(self) -> Iterator[Erasure]:
        """Iterate over the lines there are now; what is before the last newline never changes."""
        try:
            with self._locked(os.O_RDONLY, LOCK_SH) as file:
                end = _end_of_last_line(file)
            with self._path.open("rb") as opened:
                number = 0
                while opened.tell() < end:
                    number += 1
                    yield self._parse(opened.readline(LINE_LIMIT_BYTES), number)
        except OSError as error:
            raise _unavailable(self._path, "read", error) from error

    def _parse(self, line: bytes, number: int) -> Erasure:
        try:
            return parse_line(line)
        except Malformed as error:
            raise JournalBrokenError(f"line {number} of {self._path}: {error}") from error

    @contextmanager
    def _locked(self, access: int, lock: int) -> Iterator[int]:
        file = os.open(self._path, access | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            flock(file, lock)
            yield file
        finally:
            os.close(file)


def format_line(erasure: Erasure) -> bytes:
    """Return the line of an erasure, newline included."""
    body = canonical(
        {
            "v": FORMAT_VERSION,
            "tenant": erasure.tenant,
            "subject": erasure.subject,
            "at_ms": erasure.at_ms,
            "reason": erasure.reason,
        }
    )
    line = body + b" " + _digest(body) + b"\n"
    if len(line) >= LINE_LIMIT_BYTES:
        raise ValueError(f"an erasure has fewer than {LINE_LIMIT_BYTES} bytes")
    return line


def parse_line(line: bytes) -> Erasure:
    """Return the erasure of a line. Raises Malformed unless it is exactly what `format_line` writes."""
    body, _, digest = line.removesuffix(b"\n").rpartition(b" ")
    if digest != _digest(body):
        raise Malformed("the line does not match its digest")
    document = parse_json(body, limit_bytes=LINE_LIMIT_BYTES)
    if not isinstance(document, dict) or document.keys() != _FIELDS or document.pop("v") != FORMAT_VERSION:
        raise Malformed("the line is of another format")
    return Erasure(**document)


def _digest(body: bytes) -> bytes:
    return sha256(body).hexdigest()[:DIGEST_CHARS].encode()


def _end_of_last_line(file: int) -> int:
    """Return the offset after the last newline; a line, whole or torn, is shorter than `LINE_LIMIT_BYTES`."""
    size = os.fstat(file).st_size
    start = max(0, size - LINE_LIMIT_BYTES)
    tail = os.pread(file, LINE_LIMIT_BYTES, start)
    return start + tail.rfind(b"\n") + 1


def _write_at(file: int, offset: int, data: bytes) -> None:
    if os.pwrite(file, data, offset) != len(data):
        raise OSError(ENOSPC, "only a part could be written")


def _unavailable(path: Path, what: str, error: OSError) -> JournalUnavailableError:
    return JournalUnavailableError(f"the erasure journal {path} cannot be {what} ({error.strerror})")
