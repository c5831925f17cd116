"""Where a log is read from. Nothing that a source returns is trusted: all of it is compared with what was signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.ledger.ports import Head

LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True)
class Bundle:
    """The entries of one bundle as stored, and each stored copy of the level 0 tile beside it."""

    number: int
    entries: Sequence[bytes]
    tiles: tuple[bytes, ...]


class LogSource(Protocol):
    """One copy of one log: an export, a database, a server.

    Every method raises Unavailable when it could not be read, which says nothing about the log, and
    `TamperedError` with the place when something that must be there is missing or has no sense.
    """

    @property
    def name(self) -> str:
        """What this is, as the user would say it; never with a password."""
        ...

    def reopen(self) -> LogSource:
        """Return the same source for another process or thread: no connection is shared."""
        ...

    def find_checkpoint(self) -> bytes | None:
        """Return the newest published checkpoint, a signed note; None before the first."""
        ...

    def list_checkpoints(self) -> Iterator[tuple[int, bytes]]:
        """Yield the published checkpoints that are kept, by size, as (size, note); perhaps only the newest."""
        ...

    def list_keys(self) -> tuple[str, ...]:
        """Return the verifier keys that the source says the log has. Nobody vouches for them."""
        ...

    def find_head(self) -> Head | None:
        """Return the integrated head, which may be ahead of the checkpoint; None if this source has none."""
        ...

    def iter_bundles(self, start: int, stop: int, size: int) -> Iterator[Bundle]:
        """Yield the bundles [start, stop) of the tree of `size`, in order, as they are stored.

        A bundle may hold too few or too many entries; none is left out.
        """
        ...

    def read_tiles(self, level: int, number: int, width: int) -> tuple[bytes, ...]:
        """Return every stored copy of the tile, the first `width` hashes of each; at least one copy."""
        ...

    def name_tile(self, level: int, number: int, width: int, copy: int) -> str:
        """Return where copy `copy` of the tile is stored."""
        ...

    def verify_rest(self, start: int, size: int, *, deep: bool) -> None:
        """Raise `TamperedError` if anything else that is stored does not fit a tree of `size` leaves.

        Those from `start` on are verified elsewhere, each with its entry. With `deep`, also what is derived from each
        entry.
        """
        ...

    def list_unproven(self, *, deep: bool) -> tuple[str, ...]:
        """Return what this kind of source holds that `verify_rest` does not look at, in words."""
        ...

    def count_pending(self) -> int:
        """Return how many entries are stored and not integrated yet."""
        ...

    def has_pending(self, entry_id: str) -> bool:
        """Say whether this entry is stored and not integrated yet."""
        ...


def split_bundle(data: bytes) -> list[bytes] | None:
    """Return the entries of a bundle, or None if its lengths do not fill it: `tile.parse_bundle`, four times as fast.

    Speed matters here alone, where every entry of a log passes.
    """
    end = len(data)
    entries = []
    at = 0
    try:
        while at < end:
            begin = at + LENGTH_BYTES
            at = begin + (data[at] << 8 | data[at + 1])
            entries.append(data[begin:at])
    except IndexError:
        return None
    return entries if at == end else None
