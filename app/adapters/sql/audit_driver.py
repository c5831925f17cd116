"""The two drivers as the verifier uses them: read-only, and every error "could not check"."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote
from uuid import UUID

import psycopg
import sqlalchemy as sa

from app.errors import Malformed, Rejected, Unavailable
from app.ledger.entry import parse_entry

BUNDLE_WIDTH = 256
CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_S = 5.0
MMAP_BYTES = 1 << 40  # more than any file: SQLite reads without copying
MISSING = 0xFFFFFFFF  # the length that stands for an entry row that is not there
_LENGTH = struct.Struct(">I")

Leaves = tuple[int, list[bytes | None], bytes]
"""A bundle's number, its entries (None where the row is missing), and its leaf rows' hashes joined."""

_SQLITE_LEAVES = """
SELECT e.body, l.hash FROM leaf l LEFT JOIN entry e ON e.seq = l.seq AND e.tenant = l.tenant
WHERE l.tenant = ? AND l.idx >= ? AND l.idx < ? ORDER BY l.idx"""
_SQLITE_CAST = _SQLITE_LEAVES.replace("e.body, l.hash", "CAST(e.body AS BLOB), CAST(l.hash AS BLOB)")

# Entries are written in the order of `seq` and mostly get their indexes in that order: two scans along the keys are
# three times as fast as a join. A bundle for which that does not hold is joined.
_POSTGRES_LEAVES = """
SELECT first, r.* FROM generate_series(%s::bigint, %s::bigint - 1, 256) AS first, LATERAL (
    SELECT min(seq), max(seq), string_agg(int8send(seq), ''::bytea), string_agg(hash, ''::bytea)
    FROM (SELECT seq, hash FROM leaf WHERE tenant = %s AND idx >= first AND idx < least(first + 256, %s)
          ORDER BY idx) AS l) AS r"""
_POSTGRES_ENTRIES = """
SELECT place, r.* FROM unnest(%s::bigint[], %s::bigint[]) WITH ORDINALITY AS range (low, high, place), LATERAL (
    SELECT string_agg(int8send(seq), ''::bytea), string_agg(int4send(length(body)) || body, ''::bytea)
    FROM (SELECT seq, body FROM entry WHERE tenant = %s AND seq >= low AND seq <= high
          ORDER BY seq LIMIT 512) AS e) AS r"""
_POSTGRES_JOIN = """
SELECT string_agg(CASE WHEN body IS NULL THEN int4send(-1) ELSE int4send(length(body)) || body END, ''::bytea
                  ORDER BY idx)
FROM leaf l LEFT JOIN entry e ON e.tenant = l.tenant AND e.seq = l.seq
WHERE l.tenant = %s AND l.idx >= %s AND l.idx < %s"""
_WINDOW = 64 * BUNDLE_WIDTH  # leaves of one query


class Driver(Protocol):
    """A connection of the verifier's own."""

    def fetch(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return all rows; `?` are the arguments, `{blob}` the type of bytes."""
        ...

    def iter_leaves(self, tenant: str, start: int, stop: int) -> Iterator[Leaves]:
        """Yield what the leaf rows with index [start, stop) name, by bundle; a bundle without rows is left out."""
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
        for first in range(start, stop, BUNDLE_WIDTH):
            with _readable():
                window = (tenant, first, min(first + BUNDLE_WIDTH, stop))
                rows = self._connection.execute(_SQLITE_LEAVES, window).fetchall()
            if rows:
                bodies, hashes = zip(*rows, strict=True)
                if {*map(type, bodies), *map(type, hashes)} != {bytes}:  # tampered with: slower is no matter
                    bodies, hashes = self._read_cast(window)
                yield first // BUNDLE_WIDTH, list(bodies), b"".join([value or b"" for value in hashes])

    def _read_cast(self, window: tuple[str, int, int]) -> tuple[tuple[Any, ...], ...]:
        """Return the bodies and the hashes as bytes, whatever type they were stored as."""
        with _readable():
            rows = self._connection.execute(_SQLITE_CAST, window).fetchall()
        return tuple(zip(*rows, strict=True))

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
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="assay verify",
                options="-c default_transaction_read_only=on",
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
            with _readable():
                window = (begin, min(begin + _WINDOW, stop), tenant, stop)
                found = self._connection.cursor(binary=True).execute(_POSTGRES_LEAVES, window).fetchall()
            leaves = sorted(row for row in found if row[1] is not None)
            for leaf, (seqs, packed) in zip(leaves, self._iter_entries(tenant, leaves), strict=True):
                first, _, _, expected_seqs, hashes = leaf
                same = seqs == expected_seqs
                entries = packed if same else self._join(tenant, first, min(first + BUNDLE_WIDTH, stop))
                yield first // BUNDLE_WIDTH, _unpack(entries), hashes

    def _join(self, tenant: str, start: int, stop: int) -> bytes:
        """Return the entries of a bundle packed, by a join."""
        with _readable():
            row = self._connection.cursor(binary=True).execute(_POSTGRES_JOIN, (tenant, start, stop)).fetchone()
        return row[0] if row else b""

    def _iter_entries(self, tenant: str, leaves: list[tuple[Any, ...]]) -> Iterator[tuple[bytes, bytes]]:
        """Yield, for the range of seq of each bundle, the numbers found and the entries packed."""
        ranges = ([row[1] for row in leaves], [row[2] for row in leaves], tenant)
        ready: dict[int, tuple[bytes, bytes]] = {}
        expected = 1
        with _readable():
            rows = self._streaming.cursor(binary=True).stream(_POSTGRES_ENTRIES.encode(), ranges)
            for place, seqs, packed in rows:
                ready[place] = (seqs, packed)  # SQL promises no order
                while expected in ready:
                    yield ready.pop(expected)
                    expected += 1

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


def _unpack(packed: bytes) -> list[bytes | None]:
    """Return the entries of `uint32 length || entry`, None for a length of MISSING."""
    entries: list[bytes | None] = []
    at, end = 0, len(packed)
    while at < end:
        begin = at + _LENGTH.size
        (length,) = _LENGTH.unpack_from(packed, at)
        if length == MISSING:
            entries.append(None)
            at = begin
        else:
            at = begin + length
            entries.append(packed[begin:at])
    return entries
