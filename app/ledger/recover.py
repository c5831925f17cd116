"""Recovery after the anchor said no: the database is older than, or other than, what was signed.

What was signed cannot be unsigned: a log that lost entries can go on only if exactly those entries come back. They
are in any export, mirror or newer backup; nothing of it is trusted, because the restored tree must give the root
that the anchor holds. If they are gone, the log ends where it is, and a successor log says so in its first entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from app.errors import Rejected
from app.ledger.anchored import AnchorMismatchError, open_own_checkpoint, verify_anchored
from app.ledger.canonical import canonical
from app.ledger.entry import Entry, parse_entry, parse_entry_id
from app.ledger.keys import LOG_FROZEN
from app.ledger.ports import EntryRow, Head, Integration, LedgerStore, Tenant
from app.ledger.publish import full_tiles
from app.ledger.verify.source import LogSource
from app.tlog.checkpoint import Checkpoint
from app.tlog.tile import TILE_WIDTH, ReadTile, TreeEdge, edge_from_tiles, expand_tile
from app.tlog.tree import leaf_hash

BATCH_LIMIT = 4096
"""Entries restored in one transaction."""


class State(StrEnum):
    """How a log stands towards its anchor."""

    SOUND = "sound"
    NEVER_SIGNED = "never_signed"
    BEHIND = "behind"
    DIVERGED = "diverged"
    ANCHOR_MISSING = "anchor_missing"


class NotRestorableError(Rejected):
    """The source does not hold the entries that were signed."""

    code = "not_restorable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong. The entries [lost_from, lost_to) were signed and are not here; `signed` is the anchor."""

    state: State
    head: Head
    signed: Checkpoint | None
    lost_from: int | None = None
    lost_to: int | None = None
    problem: str | None = None


def diagnose(
    store: LedgerStore, tenant: Tenant, anchored: bytes | None, known: Sequence[str], *, exposed_size: int
) -> Diagnosis:
    """Return how `tenant`'s log stands towards `anchored`, the last checkpoint it signed."""
    head = store.read_head(tenant.id)
    signed = open_own_checkpoint(tenant.origin, anchored, known) if anchored is not None else None
    try:
        verify_anchored(
            tenant.origin,
            anchored,
            head=head,
            exposed_size=exposed_size,
            known=known,
            read_tile=_tile_reader(store, tenant.id),
        )
    except AnchorMismatchError as error:
        state = State.ANCHOR_MISSING if signed is None else State.DIVERGED
        if error.lost_from is not None:
            state = State.BEHIND
        return Diagnosis(
            state=state,
            head=head,
            signed=signed,
            lost_from=error.lost_from,
            lost_to=error.lost_to,
            problem=str(error),
        )
    return Diagnosis(state=State.NEVER_SIGNED if signed is None else State.SOUND, head=head, signed=signed)


def restore(store: LedgerStore, tenant: Tenant, diagnosis: Diagnosis, source: LogSource) -> int:
    """Bring back the lost entries from `source` and integrate them as before; return how many.

    First all of them are hashed: nothing is written unless they give the signed root. A crash in between leaves a
    prefix restored; calling again does the rest. Raises NotRestorableError.
    """
    signed = diagnosis.signed
    if diagnosis.state is not State.BEHIND or signed is None:
        raise Rejected(f"there is nothing to restore: the log is {diagnosis.state}", code="nothing_lost")
    edge = edge_from_tiles(diagnosis.head.size, _tile_reader(store, tenant.id))
    _require_signed(edge, source, diagnosis.head.size, signed)
    head = diagnosis.head
    for bodies in _batches(source, head.size, signed.size):
        head, edge = _integrate(store, tenant.id, head, edge, bodies)
    return signed.size - diagnosis.head.size


def _require_signed(edge: TreeEdge, source: LogSource, start: int, signed: Checkpoint) -> None:
    """Raise unless the source's entries from `start` on complete the tree that was signed."""
    for bodies in _batches(source, start, signed.size):
        edge, _ = edge.append([leaf_hash(body) for body in bodies])
    if edge.frontier.size != signed.size or edge.frontier.root() != signed.root:
        raise NotRestorableError(
            f"{source.name} does not hold the entries {start} to {signed.size - 1} that were signed; try another copy"
        )


def _batches(source: LogSource, start: int, stop: int) -> Iterator[list[bytes]]:
    """Yield the source's entries with index in [start, stop), at most `BATCH_LIMIT` at once."""
    batch: list[bytes] = []
    for bundle in source.iter_bundles(start // TILE_WIDTH, -(-stop // TILE_WIDTH), stop):
        first = bundle.number * TILE_WIDTH
        batch += bundle.entries[max(0, start - first) : stop - first]
        if len(batch) >= BATCH_LIMIT:
            yield batch
            batch = []
    if batch:
        yield batch


def _integrate(
    store: LedgerStore, tenant: str, head: Head, edge: TreeEdge, bodies: Sequence[bytes]
) -> tuple[Head, TreeEdge]:
    """Write the entries that are missing, and give all of them the next indexes."""
    seqs = _write(store, tenant, bodies)
    hashes = [leaf_hash(body) for body in bodies]
    after, tiles = edge.append(hashes)
    frozen = parse_entry(bodies[-1]).action == LOG_FROZEN
    new = Head(size=after.frontier.size, root=after.frontier.root(), settled_seq=head.settled_seq, frozen=frozen)
    store.integrate(
        Integration(tenant=tenant, old=head, new=new, seqs=seqs, leaf_hashes=hashes, tiles=full_tiles(tiles))
    )
    return new, after


def _write(store: LedgerStore, tenant: str, bodies: Sequence[bytes]) -> list[int]:
    """Return the `seq` of each entry; those that the backup has as pending keep theirs."""
    seqs: dict[bytes, int] = {}
    missing = []
    for body in bodies:
        stored = store.find_entry(tenant, parse_entry_id(parse_entry(body).id))
        if stored is None:
            missing.append(_row(tenant, parse_entry(body)))
        elif stored.body == body:
            seqs[body] = stored.seq
        else:
            raise NotRestorableError(f"another entry stands here under the id {parse_entry(body).id}")
    with store.transaction() as tx:
        results = tx.append_entries(missing) if missing else []
    seqs |= {row.body: result.seq for row, result in zip(missing, results, strict=True)}
    return [seqs[body] for body in bodies]


def _row(tenant: str, entry: Entry) -> EntryRow:
    """Return the row of a logged entry; the fingerprint is what the API would compute for the same request."""
    fingerprint = sha256(canonical([entry.action, entry.subject, entry.ref, entry.data])).digest()
    return EntryRow(
        tenant=tenant,
        id=parse_entry_id(entry.id),
        body=entry.body,
        action=entry.action,
        subject=entry.subject,
        refs=tuple(dict.fromkeys(entry.ref.values())),
        idem=bytes.fromhex(entry.idem) if entry.idem else None,
        fingerprint=fingerprint if entry.idem else None,
    )


def _tile_reader(store: LedgerStore, tenant: str) -> ReadTile:
    """Return `read_tile` of one log, expanded."""
    return lambda level, number, width: expand_tile(store.read_tile(tenant, level, number, width))
