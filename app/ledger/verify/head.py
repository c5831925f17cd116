"""The head that the auditor saw last, kept in a file of the auditor's own: it catches a log that shrank or changed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import Rejected, Unavailable
from app.ledger.canonical import parse_json
from app.ledger.durable import sync_folder
from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note

STATE_LIMIT_BYTES = 64 * 1024 * 1024
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedHead:
    """A verified checkpoint. `checkpoints`: how many of the log's own history a database had then; 0 if unknown."""

    origin: str
    size: int
    root: bytes
    note: bytes
    checkpoints: int = 0

    def describe(self) -> str:
        """Return the head as it is shown to people."""
        return f"size {self.size}, root {self.root.hex()}"


class StateFileError(Unavailable):
    """The auditor's own state could not be read or written: nothing is known about the log."""

    code = "state_file"


def default_state_file(environment: Mapping[str, str]) -> Path:
    """Return where heads are remembered (XDG base directories, `XDG_STATE_HOME`)."""
    state = environment.get("XDG_STATE_HOME", "")
    home = Path(state) if Path(state).is_absolute() else Path(environment.get("HOME", "/")) / ".local/state"
    return home / "assay" / "heads.json"


def find_remembered(file: Path, origin: str) -> RememberedHead | None:
    """Return the head of `origin`, or None. Raises StateFileError if the file cannot be read."""
    found = _read(file).get(origin)
    if found is None:
        return None
    try:
        note = str(found["checkpoint"]).encode()
        checkpoint = parse_checkpoint(parse_note(note).text)
        head = RememberedHead(
            origin=origin,
            size=checkpoint.size,
            root=checkpoint.root,
            note=note,
            checkpoints=int(found["checkpoints"]),
        )
    except (Rejected, LookupError, TypeError, ValueError) as error:
        raise _damaged(file) from error
    if checkpoint.origin != origin:
        raise _damaged(file)
    return head


def remember(file: Path, head: RememberedHead) -> bool:
    """Keep `head`, atomically and durably, unless a larger one is known; return whether it was kept.

    A crash leaves the old file or the new one. Raises StateFileError.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file):
            known = find_remembered(file, head.origin)
            if known is not None and known.size > head.size:
                return False
            heads = _read(file)
            heads[head.origin] = {"checkpoint": head.note.decode(), "checkpoints": head.checkpoints}
            _replace(file, heads)
    except OSError as error:
        raise StateFileError(f"cannot write {file}: {error.strerror}") from error
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateFileError(f"cannot read {file}: {error.strerror}") from error
    try:
        document = parse_json(data, limit_bytes=STATE_LIMIT_BYTES)
    except Rejected as error:
        raise _damaged(file) from error
    if not isinstance(document, dict) or document.get("v") != _FORMAT or not isinstance(document.get("heads"), dict):
        raise _damaged(file)
    heads: dict[str, Any] = document["heads"]
    return heads


def _damaged(file: Path) -> StateFileError:
    return StateFileError(f"{file} is damaged; restore it, or move it away to begin without a remembered head")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.with_name(f"{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(file: Path, heads: dict[str, Any]) -> None:
    beside = file.with_name(f"{file.name}.new")
    with beside.open("w", encoding="utf-8") as opened:
        json.dump({"v": _FORMAT, "heads": heads}, opened, indent=1, sort_keys=True)
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)
    sync_folder(file.parent)
