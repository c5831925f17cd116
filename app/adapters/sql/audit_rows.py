"""Rows that no hash covers: what lies beyond the head, and the columns and tables that repeat what entries say."""

from __future__ import annotations

from typing import Any

from app.adapters.sql.audit_driver import Driver
from app.adapters.sql.runs import make_marks, position_of
from app.errors import Rejected
from app.ledger.entry import Entry, format_entry_id, parse_entry
from app.ledger.verify.report import Place, TamperedError
from app.tlog.tile import TileId, tile_path
from app.tlog.tree import TILE_HEIGHT

_PAGE = 1_000
_TILES_PAGE = 256

# Each reads the head in the same statement: a log that is being written to moves on while it is verified.
_LEAVES = """
SELECT h.size, coalesce((SELECT min(idx) FROM leaf_run l WHERE l.tenant = h.tenant AND l.idx < 0),
                        (SELECT min(idx) FROM leaf_run l WHERE l.tenant = h.tenant AND l.idx >= h.size),
                        (SELECT h.size FROM leaf_run l WHERE l.tenant = h.tenant
                         AND l.idx > h.size - 256 AND l.idx < h.size AND l.idx + l.width > h.size LIMIT 1))
FROM head h WHERE h.tenant = ?"""
_TILES = """
SELECT h.size, t.level, min(t.number), max(t.number), count(*)
FROM head h JOIN tile t ON t.tenant = h.tenant WHERE h.tenant = ? GROUP BY h.size, t.level ORDER BY t.level"""
LEAVES_ABOVE_SETTLED = """(
SELECT coalesce(sum(CASE WHEN l.seq > h.settled_seq THEN l.width ELSE l.seq + l.width - 1 - h.settled_seq END), 0)
FROM leaf_run l
WHERE l.tenant = h.tenant AND l.seq > h.settled_seq - 256 AND l.seq + l.width - 1 > h.settled_seq)"""
"""How many leaves of `head h` have an entry that is not settled, as SQL."""
_LEAVES_FROM = """(
SELECT coalesce(sum(CASE WHEN l.idx >= ? THEN l.width ELSE l.idx + l.width - ? END), 0)
FROM leaf_run l WHERE l.tenant = h.tenant AND l.idx + l.width > ?)"""
# How many numbers there are from the first entry's to the settled one, or above it with a leaf; no row if there are
# leaves that are not re-hashed. As many leaves as that, and no number is left for an entry without one.
_ROOM = f"""
SELECT h.settled_seq - (SELECT min(e.seq) FROM entry e WHERE e.tenant = h.tenant) + 1 + {LEAVES_ABOVE_SETTLED}
FROM head h WHERE h.tenant = ?
AND NOT EXISTS (SELECT 1 FROM leaf_run l WHERE l.tenant = h.tenant AND l.idx > ? - 256 AND l.idx + l.width > ?)"""  # noqa: S608 - constants of our own
# Each leaf names an entry of its own, so that counts are enough; looking each up would take as long as hashing. Of
# the leaves, only those are counted that are not re-hashed.
_SETTLED = f"""
SELECT (SELECT count(*) FROM entry e WHERE e.tenant = h.tenant AND e.seq <= h.settled_seq),
       (SELECT coalesce(sum(l.width), 0) FROM leaf_run l WHERE l.tenant = h.tenant AND l.idx < ?)
     + {_LEAVES_FROM} - {LEAVES_ABOVE_SETTLED}
FROM head h WHERE h.tenant = ?"""  # noqa: S608 - constants of our own
_SKIPPED = f"""
SELECT min(e.seq) FROM head h JOIN entry e ON e.tenant = h.tenant AND e.seq <= h.settled_seq
WHERE h.tenant = ? AND {position_of("e.seq", "e.tenant")} IS NULL"""  # noqa: S608 - constants of our own
_TENANT = """
SELECT t.origin, t.state, h.frozen, (SELECT CAST(c.note AS {blob}) FROM checkpoint c
WHERE c.tenant = h.tenant ORDER BY c.size DESC LIMIT 1) FROM head h LEFT JOIN tenant t ON t.id = h.tenant
WHERE h.tenant = ?"""
_ENTRIES = f"""
SELECT e.seq, {position_of("e.seq", "e.tenant")}, e.id, CAST(e.body AS {{blob}}), e.action, e.subject FROM entry e
WHERE e.tenant = ? AND e.seq > ? ORDER BY e.seq LIMIT ?"""  # noqa: S608 - constants of our own
_REF = "SELECT 1 FROM entry_ref WHERE tenant = ? AND value = ? AND seq = ?"
_IDEM = "SELECT entry_id FROM idempotency WHERE tenant = ? AND idem = ?"
_REFS = "SELECT count(*) FROM entry_ref WHERE tenant = ?"
_MARKS = """
SELECT level, number, CAST(data AS {blob}), CAST(marks AS {blob}) FROM tile
WHERE tenant = ? AND level >= 0 AND marks IS NOT NULL AND (level > 0 OR number > ?) ORDER BY level, number LIMIT ?"""
_IDEMS = "SELECT count(*) FROM idempotency WHERE tenant = ?"


def verify_extent(driver: Driver, tenant: str, start: int, size: int) -> None:
    """Raise TamperedError if there are leaves or tiles beyond the head, or entries that it would never reach.

    The leaves [start, size) are verified elsewhere; the head may have moved on since.
    """
    head_size, beyond = driver.fetch(_LEAVES, tenant)[0]
    if beyond is not None:
        what = f"a leaf beyond the head, which has {head_size} entries"
        raise TamperedError(Place(what=what, entry_index=beyond, path="table leaf_run"))
    tiles = {level: (first, last, count) for _, level, first, last, count in driver.fetch(_TILES, tenant)}
    for level, (first, last, count) in tiles.items():
        full = max(head_size, size) >> TILE_HEIGHT * (level + 1) if level >= 0 else 0
        if first < 0 or last >= full or count != full:
            what = f"tiles {first} to {last} of level {level}, where the tree has {full}"
            raise TamperedError(Place(what=what, path="table tile"))
    if start or driver.fetch(_ROOM, tenant, size, size) != [(size,)]:
        _verify_settled(driver, tenant, start, size)
    _verify_tenant(driver, tenant)


def _verify_settled(driver: Driver, tenant: str, start: int, size: int) -> None:
    settled, others = driver.fetch(_SETTLED, start, size, size, size, tenant)[0]
    if settled != size - start + others:
        skipped = driver.fetch(_SKIPPED, tenant)[0][0]
        what = f"the entry with seq {skipped} has no index, and the head says that it was looked at"
        raise TamperedError(Place(what=what, path="head row"))


def _verify_tenant(driver: Driver, tenant: str) -> None:
    origin, state, frozen, note = driver.fetch(_TENANT, tenant)[0]
    if origin is None or not bytes(note).startswith(f"{origin}\n".encode()):
        raise TamperedError(Place(what=f"its origin is {origin!r}, and the checkpoint's is another", path="tenant row"))
    if state != ("frozen" if frozen else "open"):
        raise TamperedError(Place(what=f"says the log is {state}, and the head does not", path="tenant row"))


def verify_derived(driver: Driver, tenant: str) -> None:
    """Raise TamperedError at the first entry whose columns, references or idempotency key are not those it states."""
    refs, keys, after = 0, 0, -1
    while rows := driver.fetch(_ENTRIES, tenant, after, _PAGE):
        for row in rows:
            entry = _verify_entry(driver, row)
            values = set(entry.ref.values())
            refs += len(values)
            keys += entry.idem is not None
            _verify_lookups(driver, tenant, row, entry)
        after = rows[-1][0]
    for table, statement, expected in (("entry_ref", _REFS, refs), ("idempotency", _IDEMS, keys)):
        found = driver.fetch(statement, tenant)[0][0]
        if found != expected:
            raise TamperedError(Place(what=f"{found} rows, and the entries call for {expected}", path=f"table {table}"))

    _verify_marks(driver, tenant)


def _verify_marks(driver: Driver, tenant: str) -> None:
    """Raise TamperedError at the first tile whose marks, where it has any, would not find its leaves."""
    after = -1
    while rows := driver.fetch(_MARKS, tenant, after, _TILES_PAGE):
        for level, number, data, marks in rows:
            if make_marks(level, data or b"") != marks:
                path = tile_path(TileId(level=level, index=number))
                raise TamperedError(
                    Place(what="its column marks is not what its hashes begin with", path=f"table tile, {path}")
                )
        after = rows[-1][1]


def _verify_entry(driver: Driver, row: tuple[Any, ...]) -> Entry:
    seq, index, entry_id, body, action, subject = row
    place = f"table entry, seq {seq}"
    try:
        entry = parse_entry(body)
    except (Rejected, TypeError) as error:
        raise TamperedError(Place(what=f"its body is no entry: {error}", entry_index=index, path=place)) from error
    stored = driver.parse_id(entry_id)
    for column, value, stated in (
        ("id", format_entry_id(stored) if stored else entry_id, entry.id),
        ("action", action, entry.action),
        ("subject", subject, entry.subject),
    ):
        if value != stated:
            what = f"column {column} is not what the entry says"
            raise TamperedError(Place(what=what, entry_index=index, entry_id=entry.id, path=place))
    return entry


def _verify_lookups(driver: Driver, tenant: str, row: tuple[Any, ...], entry: Entry) -> None:
    seq, index = row[0], row[1]
    for value in set(entry.ref.values()):
        if not driver.fetch(_REF, tenant, value, seq):
            what = "a reference of the entry has no row"
            raise TamperedError(Place(what=what, entry_index=index, entry_id=entry.id, path="table entry_ref"))
    if entry.idem is None:
        return
    found = driver.fetch(_IDEM, tenant, bytes.fromhex(entry.idem))
    named = driver.parse_id(found[0][0]) if found else None
    if named is None or format_entry_id(named) != entry.id:
        what = "the idempotency key of the entry is not claimed by it"
        raise TamperedError(Place(what=what, entry_index=index, entry_id=entry.id, path="table idempotency"))
