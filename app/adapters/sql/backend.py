"""What differs between the databases, so that `store.py` and `read.py` need not know which one it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa

from app.adapters.sql.wake import Integrated
from app.errors import Broken
from app.ledger.ports import AppendResult, EntryRow, Heard, Integration, Pending


def require_entries(claimed: int, earlier: dict[bytes, AppendResult], keys: int) -> dict[bytes, AppendResult]:
    """Return `earlier` if every key is claimed now or has its entry. Raises Broken if not."""
    if claimed + len(earlier) != keys:
        raise Broken("an idempotency key stands for no entry")
    return earlier


class Entries(Protocol):
    """The steps of an append in one transaction, each for one tenant."""

    appended: list[tuple[int, int]]
    """The last number and how many, of each group of inserted rows: what the sequencer is told after the commit."""

    def claim(self, tenant: str, keyed: dict[bytes, EntryRow]) -> dict[bytes, AppendResult]:
        """Claim idempotency keys for these rows; return the entries that stand for keys claimed before."""
        ...

    def insert(self, tenant: str, rows: Sequence[EntryRow]) -> list[int]:
        """Insert the rows and return their sequence numbers in order; insert none if the log is not open."""
        ...

    def shut_out_others(self, tenant: str) -> None:
        """Wait until nobody else is inserting for this tenant, and let nobody insert before this transaction ends."""
        ...


class Backend(Protocol):
    """The hot paths in the driver's own forms, and the waking of those who wait. Errors may be the driver's."""

    integrated: Integrated
    """What this process integrated last."""

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Lend a connection in a write transaction; committed on a clean exit, else rolled back."""
        ...

    def appending(self) -> AbstractContextManager[Entries]:
        """Lend the steps of an append in a transaction of its own: on a clean exit committed and announced."""
        ...

    def entries(self, connection: sa.Connection) -> Entries:
        """Return the steps of an append in the transaction of `connection`."""
        ...

    def list_pending(self, tenant: str, after_seq: int, limit: int) -> Pending:
        """As LedgerStore.list_pending."""
        ...

    def integrate(self, batch: Integration) -> bool:
        """As LedgerStore.integrate; return False, having changed nothing, if the head is not `batch.old` or frozen."""
        ...

    def expose(self, tenant: str, size: int, checkpoint: bytes) -> None:
        """As LedgerStore.expose."""
        ...

    def read_tiles(self, tenant: str, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Return full tiles (level, number, width) as stored, partial ones from the hashes or roots below them, joined.

        One that goes beyond the integrated tree is shorter, or empty.
        """
        ...

    def list_published(self, tenant: str, seqs: Sequence[int]) -> tuple[bytes | None, dict[int, int]]:
        """As LedgerReader.list_published."""
        ...

    def list_bodies(self, tenant: str, start: int, stop: int) -> list[bytes]:
        """As LedgerReader.list_bodies."""
        ...

    def find_checkpoint(self, tenant: str) -> bytes | None:
        """As LedgerReader.find_checkpoint."""
        ...

    def find_position(self, tenant: str, leaf_hash: bytes) -> int | None:
        """As LedgerReader.find_position: some milliseconds for each million leaves of the log."""
        ...

    def list_positions(self, tenant: str, seqs: Sequence[int]) -> dict[int, int]:
        """As LedgerReader.list_positions."""
        ...

    def sequencer_lock(self, tenant: str) -> AbstractContextManager[None]:
        """As LedgerStore.sequencer_lock."""
        ...

    def announce_append(self, commits: Sequence[tuple[int, int]]) -> None:
        """Wake the sequencer; after the commit. Never raises: a lost wake-up costs one poll interval."""
        ...

    def wait_for_append(self, timeout_s: float, rows: int) -> int:
        """As LedgerStore.wait_for_append."""
        ...

    def publications(self, poll_s: float) -> Iterator[Heard]:
        """As LedgerStore.publications."""
        ...

    def close(self) -> None:
        """Close the connections outside the pool."""
        ...
