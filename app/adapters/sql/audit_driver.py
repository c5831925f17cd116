"""The two drivers as the verifier uses them: read-only, and every error "could not check"."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import quote
from uuid import UUID

import psycopg
import sqlalchemy as sa

from app.errors import Malformed, Rejected, Unavailable
from app.ledger.entry import parse_entry
from app.ledger.verify.report import Place, TamperedError

BUNDLE_WIDTH = 256
CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_S = 5.0
MMAP_BYTES = 1 << 40  # more than any file: SQLite reads without copying


class Leaves(NamedTuple):
    """A bundle's number, its entries, its leaf rows' hashes joined, and its level 0 tile's row if it has one."""

    number: int
    entries: Sequence[bytes]
    hashes: bytes
    tile: bytes | None


# The first reads what is there and nothing else; the second any type, and slowly.
_SQLITE_LEAVES = """
SELECT e.body, l.hash FROM leaf l LEFT JOIN entry e ON e.seq = l.seq AND e.tenant = l.tenant
WHERE l.tenant = ? AND l.idx >= ? AND l.idx < ? ORDER BY l.idx"""
_TILE = "SELECT CAST(data AS {blob}) FROM tile WHERE tenant = ? AND level = 0 AND number = ?"
_SQLITE_TILES = """
SELECT number, CAST(data AS BLOB) FROM tile WHERE tenant = ? AND level = 0 AND number >= ? AND number < ?"""
_JOINED_LEAVES = _SQLITE_LEAVES.replace("e.body, l.hash", "CAST(e.body AS {blob}), CAST(l.hash AS {blob})")

# Entries are written in the order of `seq` and mostly get their indexes in that order: two scans along the keys are
# three times as fast as a join. There are no bodies from a bundle for which that does not hold: it is joined. Nor
# is a tile sent that is the same as the leaves' hashes.
_POSTGRES_BUNDLES = """
SELECT first, hashes, CASE WHEN l.seqs = e.seqs AND bodies_stored = cardinality(l.seqs) THEN bodies END,
    (SELECT data = hashes FROM tile WHERE tenant = %s AND level = 0 AND number = first / 256) AS is_tile
FROM generate_series(%s::bigint, %s::bigint - 1, 256) AS first, LATERAL (
    SELECT min(seq) AS low, max(seq) AS high, array_agg(seq) AS seqs, string_agg(hash, ''::bytea) AS hashes
    FROM (SELECT seq, hash FROM leaf WHERE tenant = %s AND idx >= first AND idx < least(first + 256, %s)
          ORDER BY idx) AS leaves) AS l, LATERAL (
    SELECT array_agg(seq) AS seqs, array_agg(body) AS bodies, count(body) AS bodies_stored
    FROM (SELECT seq, body FROM entry WHERE tenant = %s AND seq >= low AND seq <= high
          ORDER BY seq LIMIT 512) AS entries) AS e"""
_WINDOW = 64 * BUNDLE_WIDTH  # leaves of one query

# A plan is made anew for each window: one that is kept from a small log would scan the large one. Compiling it takes
# longer than to run it, and memoizing rows that never come again copies every entry once more.
_POSTGRES_OPTIONS = "-c default_transaction_read_only=on -c jit=off -c enable_memoize=off"


class Driver(Protocol):
    """A connection of the verifier's own."""

    def fetch(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return all rows; `?` are the arguments, `{blob}` the type of bytes."""
        ...

    def iter_leaves(self, tenant: str, start: int, stop: int) -> Iterator[Leaves]:
        """Yield what the leaf rows with index [start, stop) name, by bundle; a bundle without rows is left out.

        Raises TamperedError if a leaf names no entry.
        """
        ...

    def bind_id(self, entry_id: UUID) -> object:
        """Return an entry's id as a parameter."""
        ...

    def parse_id(self, value: object) -> UUID | None:
        """Return the id in a column, None if it is none."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def parse_vkey(body: object) -> str | None:
    """Return the key that a `key.added` entry names, None if it names none."""
    try:
        return str(parse_entry(cast("bytes", body)).data["vkey"])
    except (Rejected, LookupError, TypeError):
        return None


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"the database could not be read: {str(error).splitlines()[0] if str(error) else error!r}")


def connect(url: str) -> Driver:
    """Return a connection to `sqlite:///FILE` or `postgresql://…`. Raises Malformed for another kind of URL."""
    parsed = _parse(url)
    with _readable():
        if parsed.get_backend_name() == "sqlite":
            return SqliteDriver(Path(str(parsed.database)))
        return PostgresDriver(parsed.set(drivername="postgresql").render_as_string(hide_password=False))


def hide_password(url: str) -> str:
    """Return the URL as it may be shown. Raises Malformed."""
    return _parse(url).render_as_string(hide_password=True)


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise Malformed("the database URL cannot be read: use sqlite:///FILE or postgresql://…") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql", "postgres") or not parsed.database:
        raise Malformed(f"no ledger on {parsed.drivername}: use sqlite:///FILE or postgresql://…")
    return parsed


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, psycopg.Error) as error:
        raise _unavailable(error) from error


class SqliteDriver:
    """A SQLite file, opened read-only."""

    def __init__(self, file: Path) -> None:
        """Raises an error of sqlite3 if there is no such file."""
        address = f"file:{quote(str(file.absolute()))}?mode=ro"
        self._connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        self._connection.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
        self._connection.text_factory = lambda data: data.decode(errors="replace")

    def fetch(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return all rows."""
        with _readable():
            return self._connection.execute(statement.format(blob="BLOB"), arguments).fetchall()

    def iter_leaves(self, tenant: str, start: int, stop: int) -> Iterator[Leaves]:
        """Read bundle by bundle."""
        with _readable():
            numbers = (start // BUNDLE_WIDTH, -(-stop // BUNDLE_WIDTH))
            tiles = dict(self._connection.execute(_SQLITE_TILES, (tenant, *numbers)))
        for first in range(start, stop, BUNDLE_WIDTH):
            end = min(first + BUNDLE_WIDTH, stop)
            with _readable():
                rows = self._connection.execute(_SQLITE_LEAVES, (tenant, first, end)).fetchall()
            if not rows:
                continue
            bodies, hashes = zip(*rows, strict=True)
            number = first // BUNDLE_WIDTH
            if set(map(type, bodies)) == set(map(type, hashes)) == {bytes}:
                yield Leaves(number, bodies, b"".join(hashes), tiles.get(number))
            else:  # tampered with: slower is no matter
                yield _join_leaves(self, tenant, first, end)

    def bind_id(self, entry_id: UUID) -> object:
        """Return the 16 bytes."""
        return entry_id.bytes

    def parse_id(self, value: object) -> UUID | None:
        """Return the UUID of 16 bytes."""
        return UUID(bytes=value) if isinstance(value, bytes) and len(value) == 16 else None  # noqa: PLR2004 - a UUID's

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgresDriver:
    """Two PostgreSQL sessions that cannot write: one streams, the other answers meanwhile."""

    def __init__(self, url: str) -> None:
        """Raises an error of psycopg if the server cannot be reached."""
        self._connection, self._streaming = (
            psycopg.connect(
                url,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="assay verify",
                options=_POSTGRES_OPTIONS,
            )
            for _ in range(2)
        )

    def fetch(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return all rows."""
        query = statement.format(blob="bytea").replace("?", "%s")
        with _readable():
            return self._connection.cursor(binary=True).execute(query.encode(), arguments).fetchall()

    def iter_leaves(self, tenant: str, start: int, stop: int) -> Iterator[Leaves]:
        """Stream bundle by bundle: the server reads the next ones while the caller hashes."""
        for begin in range(start, stop, _WINDOW):
            window = (tenant, begin, min(begin + _WINDOW, stop), tenant, stop, tenant)
            for first, hashes, bodies, is_tile in self._iter_bundles(begin, window):
                if bodies is not None:
                    number = first // BUNDLE_WIDTH
                    yield Leaves(number, bodies, hashes, hashes if is_tile else _find_tile(self, tenant, number))
                elif hashes is not None:
                    yield _join_leaves(self, tenant, first, min(first + BUNDLE_WIDTH, stop))

    def _iter_bundles(self, expected: int, window: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of `_POSTGRES_BUNDLES` by their first leaf, from `expected` on: SQL promises no order."""
        ready: dict[int, tuple[Any, ...]] = {}
        with _readable():
            for row in self._streaming.cursor(binary=True).stream(_POSTGRES_BUNDLES.encode(), window):
                ready[row[0]] = row
                while expected in ready:
                    yield ready.pop(expected)
                    expected += BUNDLE_WIDTH

    def bind_id(self, entry_id: UUID) -> object:
        """Return it as it is."""
        return entry_id

    def parse_id(self, value: object) -> UUID | None:
        """Return it as it is."""
        return value if isinstance(value, UUID) else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._streaming.close()


def _join_leaves(driver: Driver, tenant: str, start: int, stop: int) -> Leaves:
    """Return a bundle row by row, whatever the order and the type of what is stored."""
    rows = driver.fetch(_JOINED_LEAVES, tenant, start, stop)
    for index, (body, _) in enumerate(rows, start):
        if body is None:
            what = "its leaf names an entry row that is missing"
            raise TamperedError(Place(what=what, entry_index=index, path="table entry"))
    number = start // BUNDLE_WIDTH
    hashes = b"".join([leaf or b"" for _, leaf in rows])
    return Leaves(number, [body for body, _ in rows], hashes, _find_tile(driver, tenant, number))


def _find_tile(driver: Driver, tenant: str, number: int) -> bytes | None:
    """Return the row of a level 0 tile: as nothing if it is NULL, where there can be none."""
    rows = driver.fetch(_TILE, tenant, number)
    return (rows[0][0] or b"") if rows else None
