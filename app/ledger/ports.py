"""What the ledger needs from the outside: a store, an anchor, signers, witnesses.

The store keeps five things. *Entries* are immutable from birth and carry a sequence number `seq` that orders
them and may have gaps. *Leaves* give an entry its index and leaf hash; *tiles* are full C2SP tiles (256 hashes);
the *head* is the one mutable row, moved only by compare-and-swap; *checkpoints* are what was exposed, in order.
Partial tiles are never stored: they are the leaf hashes, or the roots of full tiles, at the right edge.

What comes by the thousand is a NamedTuple: a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol
from uuid import UUID

from app.errors import Broken, Conflict, Unavailable

LOG_EVENTS = ("key.added", "key.retired", "log.frozen", "log.recovered")
"""Actions that say something about the log itself: stores find them without reading the whole log."""
MAX_LOG_EVENTS = 1000


class LostSwapError(Broken):
    """The head moved under the sequencer: something else is sequencing this origin. Stop, do not retry."""

    code = "lost_swap"


class NotLeaderError(Unavailable):
    """Another process holds the sequencer lock of this origin."""

    code = "not_leader"


class LogFrozenError(Conflict):
    """`log.frozen` is this log's last entry: nothing is appended or signed after it."""

    code = "log_frozen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A customer of the operator, with one log of its own. `origin` is `<host>/<id>`."""

    id: str
    origin: str
    frozen: bool = False


class EntryRow(NamedTuple):
    """An entry as it is stored. `refs` are the values of its `ref` object, for look-up.

    `idem` is the digest of the caller's idempotency key and `fingerprint` of its request (32 bytes each), or None.
    """

    tenant: str
    id: UUID
    body: bytes
    action: str
    subject: str | None = None
    refs: tuple[str, ...] = ()
    idem: bytes | None = None
    fingerprint: bytes | None = None


class PendingEntry(NamedTuple):
    """An entry that has no index yet."""

    seq: int
    action: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """The next entries to integrate, in `seq` order.

    Every entry with `seq <= settled_seq` is integrated or in `entries`: a later scan may start after it once
    `entries` is integrated.
    """

    entries: Sequence[PendingEntry]
    settled_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The integrated tree: `size` leaves with this 32-byte `root`. `frozen` after `log.frozen`."""

    size: int
    root: bytes
    settled_seq: int = 0
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """A full tile: 256 hashes (8,192 bytes) and the root over them."""

    level: int
    number: int
    data: bytes
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What one batch adds: leaf hashes for `seqs`, from index `old.size` on, and the tiles that became full."""

    tenant: str
    old: Head
    new: Head
    seqs: Sequence[int]
    leaf_hashes: Sequence[bytes]
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry read back; `index` is None until it is integrated."""

    seq: int
    index: int | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries to list; `from_ms`/`to_ms` bound the entry's time, half open."""

    action: str | None = None
    subject: str | None = None
    ref: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries by index; `next_index` is where the next page starts, None at the end of the published log."""

    entries: Sequence[StoredEntry]
    next_index: int | None


class AppendResult(NamedTuple):
    """What became of one `EntryRow` in `append_entries`.

    `replayed` says that an earlier entry with the same idempotency key stands in its place; its `fingerprint` is
    that of the earlier request (compare it: another one means 422).
    """

    seq: int
    id: UUID
    replayed: bool = False
    fingerprint: bytes | None = None


class EntryWriter(Protocol):
    """The caller's open transaction, as far as the ledger needs it."""

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Insert the rows, durable when the transaction commits; wake the sequencer then.

        Results are in the order of `rows`. Rows with a known (tenant, idem) are not inserted, but answered with
        the earlier entry. Raises `LogFrozenError` if a tenant's log is frozen; nothing is inserted then.
        """
        ...


class LedgerReader(Protocol):
    """Reading a log. Every method is about one tenant and never sees another's rows."""

    def find_tenant(self, tenant: str) -> Tenant | None:
        """Return the tenant, or None."""
        ...

    def list_tenants(self) -> list[Tenant]:
        """Return all tenants by id (at most `MAX_TENANTS`, 10,000)."""
        ...

    def read_head(self, tenant: str) -> Head:
        """Return the integrated head; size 0 with the empty root for a new log."""
        ...

    def find_checkpoint(self, tenant: str) -> bytes | None:
        """Return the newest exposed checkpoint: a signed note with its cosignatures. None before the first."""
        ...

    def list_checkpoints(self, tenant: str, start_size: int, limit: int) -> list[tuple[int, bytes]]:
        """Return exposed checkpoints by size, from `start_size` on."""
        ...

    def read_tile(self, tenant: str, level: int, number: int, width: int) -> bytes:
        """Return `width * 32` bytes (1 <= width <= 256). Raises NotFound past the integrated tree."""
        ...

    def read_tiles(self, tenant: str, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Return several tiles as `read_tile` would, each by (level, number, width), in one round trip."""
        ...

    def list_bodies(self, tenant: str, start: int, stop: int) -> list[bytes]:
        """Return the entries' bytes for indexes [start, stop), fewer at the end of the integrated tree."""
        ...

    def find_entry(self, tenant: str, entry_id: UUID) -> StoredEntry | None:
        """Return one entry, integrated or not."""
        ...

    def find_newest(self, tenant: str, ref: str) -> StoredEntry | None:
        """Return the entry with the highest `seq` among those that refer to `ref`, integrated or not."""
        ...

    def list_log_events(self, tenant: str) -> list[StoredEntry]:
        """Return the log's entries about itself (`LOG_EVENTS`) by `seq`, at most `MAX_LOG_EVENTS`."""
        ...

    def find_position(self, tenant: str, leaf_hash: bytes) -> int | None:
        """Return the lowest index with this leaf hash."""
        ...

    def list_positions(self, tenant: str, seqs: Sequence[int]) -> dict[int, int]:
        """Return {seq: index} of those that are integrated."""
        ...

    def list_published(self, tenant: str, seqs: Sequence[int]) -> tuple[bytes | None, dict[int, int]]:
        """Return the newest exposed checkpoint and `list_positions(seqs)`, in one look: each publication asks this."""
        ...

    def list_entries(self, tenant: str, where: EntryFilter, *, start: int, stop: int, limit: int) -> Page:
        """Return up to `limit` matching entries with index in [start, stop), ascending.

        A page may hold fewer, even none, and still have a `next_index`: the rows looked at in one call are bounded.
        """
        ...


class LedgerStore(LedgerReader, Protocol):
    """A store of logs: SQLite, PostgreSQL or memory. All three pass tests/contract/ledger_store_contract.py."""

    def transaction(self) -> AbstractContextManager[EntryWriter]:
        """Open a transaction: committed on a clean exit, rolled back on an exception. Unavailable if it can't."""
        ...

    def appending(self) -> AbstractContextManager[EntryWriter]:
        """Open a transaction that is for entries alone: the same otherwise, and cheaper where it can be."""
        ...

    def add_tenant(self, tenant: Tenant) -> None:
        """Create a tenant with an empty log. Raises Conflict if the id or the origin is taken."""
        ...

    def sequencer_lock(self, tenant: str) -> AbstractContextManager[None]:
        """Hold this origin's sequencer lock; raises NotLeaderError at once if another process has it.

        On PostgreSQL it is tied to a connection: if that dies the lock is gone, and the swap below still protects.
        """
        ...

    def list_pending(self, tenant: str, after_seq: int, limit: int) -> Pending:
        """Return the next entries without an index, `seq > after_seq`, at most `limit`."""
        ...

    def integrate(self, batch: Integration) -> None:
        """Swap head, leaves and tiles in one transaction. Raises LostSwapError if the head is not `batch.old`."""
        ...

    def expose(self, tenant: str, size: int, checkpoint: bytes) -> None:
        """Make a signed checkpoint public and wake those who wait for it. Idempotent for the same size."""
        ...

    def wait_for_append(self, timeout_s: float, rows: int = 1) -> int:
        """Return how many entries we have heard of since the last call: once it is `rows`, or after `timeout_s`.

        Those that were integrated through this store meanwhile are no news and do not count. A hint: some may never
        be heard of, and whoever looked away is told `rows`. One waiter per store.
        """
        ...

    def publications(self, poll_s: float) -> Iterator[Heard]:
        """Yield what is exposed as it happens, and None at least every `poll_s`; some stores say first what is placed.

        A yield may be spurious or stand for several; after a lost connection it yields None and goes on.
        """
        ...


class Run(NamedTuple):
    """Entries whose numbers and indexes are in a row: the first of each, and how many."""

    first_seq: int
    first_index: int
    length: int


_first_seq = attrgetter("first_seq")


@dataclass(frozen=True, slots=True)
class Placed:
    """A hint that these entries have their indexes, in a tree of `size`; its checkpoint is on the way.

    The runs are in the order of `seq`, at least one. `leaves` is the hashes of all these entries, the last of the tree,
    joined; b"" if they are too many to be told.
    """

    tenant: str
    size: int
    runs: tuple[Run, ...]
    leaves: bytes = b""

    def find(self, seq: int) -> int | None:
        """Return the index of an entry, None if it is not among these."""
        run = self.runs[bisect_right(self.runs, seq, key=_first_seq) - 1]
        place = seq - run.first_seq
        return run.first_index + place if 0 <= place < run.length else None

    def find_all(self, seqs: Iterable[int]) -> dict[int, int]:
        """Return {seq: index} of those that are among these."""
        return {seq: index for seq in seqs if (index := self.find(seq)) is not None}

    @property
    def last_seq(self) -> int:
        """The number of the last of these entries."""
        return self.runs[-1].first_seq + self.runs[-1].length - 1


@dataclass(frozen=True, slots=True)
class Exposed:
    """A hint that a checkpoint was exposed: this one, or the newest in the store if `note` is None."""

    tenant: str
    note: bytes | None = None


Heard = Placed | Exposed | None
"""What a listener is told; None: nothing for a while, or something was missed."""


class Anchor(Protocol):
    """The last checkpoint we signed, kept where restoring or cloning the database does not touch it."""

    def hold(self, origin: str) -> AbstractContextManager[None]:
        """Take sole use of this origin's anchor; raises NotLeaderError if another process has it."""
        ...

    def find(self, origin: str) -> bytes | None:
        """Return the last signed checkpoint, or None if none was ever signed."""
        ...

    def write(self, origin: str, checkpoint: bytes) -> None:
        """Replace it, atomically and durably (fsync), before anybody else may see the checkpoint."""
        ...


class Signer(Protocol):
    """An Ed25519 key that signs notes: a local file in development, Vault transit in production."""

    @property
    def vkey(self) -> str:
        """The signed-note verifier key, `name+hex id+base64(0x01 || public key)`."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature. Raises Unavailable when the key cannot be reached."""
        ...


class WitnessClient(Protocol):
    """A witness of our checkpoints (C2SP tlog-witness)."""

    @property
    def name(self) -> str:
        """The cosigner's name as in the trust file."""
        ...

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], checkpoint: bytes) -> list[str]:
        """Return the witness's signature lines for `checkpoint`.

        Raises `WitnessConflictError` with the witness's size if `old_size` is not what it has, Unavailable when it
        cannot be reached, and Broken when it says that our proof or our root is wrong.
        """
        ...


class WitnessConflictError(Conflict):
    """The witness has another size than we thought: `size`."""

    code = "witness_conflict"

    def __init__(self, size: int) -> None:
        """`size`: what the witness says it has."""
        super().__init__(f"the witness is at size {size}")
        self.size = size
