"""A log read from its database for verification (ledger.verify.LogSource), by reads alone.

Every hash is stored twice: a leaf's in its run and in a level 0 tile, a tile's root in its row and in the tile above.
Both copies are handed out, to be compared with what the entries hash to. SQLite is opened read-only; column types are
forced, because whoever tampers with a SQLite file may store text where bytes belong.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from app.adapters.sql.audit_driver import Driver, Leaves, connect, hide_password, parse_vkey
from app.adapters.sql.audit_rows import LEAVES_ABOVE_SETTLED, verify_derived, verify_extent
from app.adapters.sql.runs import position_of
from app.errors import Malformed, Unavailable
from app.ledger.entry import parse_entry_id
from app.ledger.ports import Head
from app.ledger.verify.report import Place, TamperedError
from app.ledger.verify.source import Bundle
from app.tlog.tile import TILE_WIDTH, TileId, tile_path, tile_width
from app.tlog.tree import HASH_SIZE

_CHECKPOINTS_PAGE = 256

_NEWEST = "SELECT CAST(note AS {blob}) FROM checkpoint WHERE tenant = ? ORDER BY size DESC LIMIT 1"
_CHECKPOINTS = """
SELECT size, CAST(note AS {blob}) FROM checkpoint WHERE tenant = ? AND size > ? ORDER BY size LIMIT ?"""
_HEAD = "SELECT size, CAST(root AS {blob}), settled_seq, frozen FROM head WHERE tenant = ?"
_TILE = "SELECT CAST(data AS {blob}) FROM tile WHERE tenant = ? AND level = ? AND number = ?"
_ROOTS = """
SELECT CAST(root AS {blob}) FROM tile WHERE tenant = ? AND level = ? AND number >= ? AND number < ? ORDER BY number"""
_HASHES = "SELECT CAST(hashes AS {blob}) FROM leaf_run WHERE tenant = ? AND idx >= ? AND idx < ? ORDER BY idx"
_KEYS = "SELECT body FROM entry WHERE tenant = ? AND action = 'key.added' ORDER BY seq LIMIT 64"
_FIND = f"""
SELECT 1 FROM entry e WHERE e.tenant = ? AND e.id = ? AND {position_of("e.seq", "e.tenant")} IS NULL"""  # noqa: S608 - constants of our own
# Up to `settled_seq` every entry has a leaf: `verify_rest` has looked.
_PENDING = f"""
SELECT (SELECT count(*) FROM entry e WHERE e.tenant = h.tenant AND e.seq > h.settled_seq) - {LEAVES_ABOVE_SETTLED}
FROM head h WHERE h.tenant = ?"""  # noqa: S608 - constants of our own


class DatabaseSource:
    """The log of one tenant in the database of `url`; it connects on first use, and is for one thread."""

    def __init__(self, url: str, tenant: str) -> None:
        """`url`: `sqlite:///FILE` or `postgresql://…`. Raises Malformed for another kind."""
        self._url = url
        self._tenant = tenant
        self._opened: Driver | None = None
        self._name = f"{hide_password(url)}, tenant {tenant}"

    def __reduce__(self) -> tuple[Any, ...]:
        return DatabaseSource, (self._url, self._tenant)

    @property
    def name(self) -> str:
        """The database, without its password, and the tenant."""
        return self._name

    def reopen(self) -> DatabaseSource:
        """Return the same source with a connection of its own."""
        return DatabaseSource(self._url, self._tenant)

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def find_checkpoint(self) -> bytes | None:
        """Return the newest row of `checkpoint`."""
        rows = self._fetch(_NEWEST)
        return _bytes(rows[0][0]) if rows else None

    def list_checkpoints(self) -> Iterator[tuple[int, bytes]]:
        """Yield the rows of `checkpoint` by size."""
        after = -1
        while rows := self._fetch(_CHECKPOINTS, after, _CHECKPOINTS_PAGE):
            for size, note in rows:
                if not isinstance(size, int) or size <= after:
                    raise TamperedError(Place(what=f"a size that is {size!r}", path="table checkpoint"))
                yield size, _bytes(note)
                after = size

    def list_keys(self) -> tuple[str, ...]:
        """Return what the entries `key.added` say."""
        found = [parse_vkey(body) for (body,) in self._fetch(_KEYS)]
        return tuple(vkey for vkey in found if vkey)

    def find_head(self) -> Head:
        """Return the row of `head`. Raises Unavailable if the database has no such log."""
        rows = self._fetch(_HEAD)
        if not rows:
            if self.find_checkpoint() is None:
                raise Unavailable(f"the database has no log of a tenant {self._tenant!r}")
            raise TamperedError(Place(what="the row is missing", path="head row"))
        size, root, settled_seq, frozen = rows[0]
        sound = isinstance(size, int) and size >= 0 and isinstance(settled_seq, int) and frozen in (0, 1)
        if not sound or len(_bytes(root)) != HASH_SIZE:
            raise TamperedError(Place(what="values that a head cannot have", path="head row"))
        return Head(size=size, root=_bytes(root), settled_seq=settled_seq, frozen=bool(frozen))

    def iter_bundles(self, start: int, stop: int, size: int) -> Iterator[Bundle]:
        """Yield the entries by the index of their leaf, with the hashes of the runs and the tile's row."""
        expected = iter(range(start, stop))
        for leaves in self._driver.iter_leaves(self._tenant, start * TILE_WIDTH, min(stop * TILE_WIDTH, size)):
            for missing in iter(lambda: next(expected), leaves.number):
                yield Bundle(missing, (), (b"",))
            yield self._bundle(leaves, size)
        for missing in expected:
            yield Bundle(missing, (), (b"",))

    def read_tiles(self, level: int, number: int, width: int) -> tuple[bytes, ...]:
        """Return the hashes or roots of the rows below, and the tile's own row if it is full."""
        start = number * TILE_WIDTH
        if level == 0:
            below = self._fetch(_HASHES, start, start + width)
        else:
            below = self._fetch(_ROOTS, level - 1, start, start + width)
        joined = b"".join([_bytes(row[0]) for row in below])[: width * HASH_SIZE]
        if width < TILE_WIDTH:
            return (joined,)
        rows = self._fetch(_TILE, level, number)
        return joined, self._require_tile(_bytes(rows[0][0]) if rows else None, level, number)

    def name_tile(self, level: int, number: int, width: int, copy: int) -> str:
        """Return the table and the tile."""
        path = tile_path(TileId(level=level, index=number, width=width))
        if copy:
            return f"table tile, {path}"
        return (
            f"table leaf_run, hashes of {path}" if level == 0 else f"table tile, roots of level {level - 1} for {path}"
        )

    def verify_rest(self, start: int, size: int, *, deep: bool) -> None:
        """Verify that no table has rows beyond the head, and with `deep` every column derived from an entry."""
        verify_extent(self._driver, self._tenant, start, size)
        if deep:
            verify_derived(self._driver, self._tenant)

    def list_unproven(self, *, deep: bool) -> tuple[str, ...]:
        """Return what in the tables is no evidence, and what only `deep` looks at."""
        columns = () if deep else ("that the columns and tables for look-up agree with the entries (--deep)",)
        return (
            *columns,
            "entries without an index yet: nothing protects them before they are published",
            "when rows were written, and the fingerprints of idempotent requests: no entry tells",
        )

    def count_pending(self) -> int:
        """Return how many entries have no leaf."""
        rows = self._fetch(_PENDING)
        return int(rows[0][0]) if rows else 0

    def has_pending(self, entry_id: str) -> bool:
        """Say whether the entry has a row and no leaf."""
        try:
            key = self._driver.bind_id(parse_entry_id(entry_id))
        except Malformed:
            return False
        return bool(self._fetch(_FIND, key))

    @property
    def _driver(self) -> Driver:
        if self._opened is None:
            self._opened = connect(self._url)
            weakref.finalize(self, self._opened.close)  # whoever verifies is handed a source, and closes none
        return self._opened

    def _fetch(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self._driver.fetch(statement, self._tenant, *arguments)

    def _bundle(self, leaves: Leaves, size: int) -> Bundle:
        copies: tuple[bytes, ...] = (leaves.hashes,)
        if tile_width(0, leaves.number, size) == TILE_WIDTH:
            copies = (leaves.hashes, self._require_tile(leaves.tile, 0, leaves.number))
        return Bundle(leaves.number, leaves.entries, copies)

    def _require_tile(self, tile: bytes | None, level: int, number: int) -> bytes:
        if tile is None:
            path = tile_path(TileId(level=level, index=number))
            raise TamperedError(Place(what="the row is missing", path=f"table tile, {path}"))
        return tile


def _bytes(value: object) -> bytes:
    """Return a column of bytes; NULL, where there can be none, as nothing."""
    return value if isinstance(value, bytes) else b""
