"""The two drivers as the verifier uses them: read-only, and every error "could not check"."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import quote
from uuid import UUID

import psycopg
import sqlalchemy as sa

from app.errors import Malformed, Rejected, Unavailable
from app.ledger.entry import parse_entry
from app.ledger.verify.report import Place, TamperedError
from app.tlog.tree import HASH_SIZE

BUNDLE_WIDTH = 256
CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_S = 5.0
MMAP_BYTES = 1 << 40  # more than any file: SQLite reads without copying


class Leaves(NamedTuple):
    """A bundle's number, its entries, its leaves' hashes joined, and its level 0 tile's row if it has one."""

    number: int
    entries: Sequence[bytes]
    hashes: bytes
    tile: bytes | None


class Run(NamedTuple):
    """A row of `leaf_run` as it is stored, and the entries it names: fewer than its width if one is missing.

    `is_tile` says that `hashes` are the same as the tile's row; None if nobody has looked.
    """

    idx: int
    seq: int
    width: int
    hashes: bytes
    bodies: Sequence[bytes]
    is_tile: bool | None = None


_TILES = """
SELECT number, CAST(data AS {blob}) FROM tile WHERE tenant = ? AND level = 0 AND number >= ? AND number < ?"""
_SEQS = "SELECT seq FROM entry WHERE tenant = ? AND seq >= ? AND seq < ? AND body IS NOT NULL"
_SQLITE_RUNS = """
SELECT idx, seq, width, CAST(hashes AS BLOB) FROM leaf_run WHERE tenant = ? AND idx >= ? AND idx < ? ORDER BY idx"""
_SQLITE_BODIES = "SELECT body FROM entry WHERE seq >= ? AND seq < ? AND +tenant = ? ORDER BY seq"  # seq is the rowid
_SQLITE_ANY_BODIES = _SQLITE_BODIES.replace("body", "CAST(body AS BLOB)", 1)

# A row for each run, with its entries as an array: the server reads the next ones while we hash. A tile that is the
# same as the hashes is not sent. Bounds that no run can have are not followed: they would overflow, or read everything.
_POSTGRES_RUNS = """
SELECT r.idx, r.seq, r.width, r.hashes, e.bodies, CASE WHEN r.width = 256 THEN (
    SELECT t.data = r.hashes FROM tile t WHERE t.tenant = %s AND t.level = 0 AND t.number = r.idx / 256) END
FROM (SELECT idx, seq, width, hashes FROM leaf_run WHERE tenant = %s AND idx >= %s AND idx < %s
      ORDER BY idx OFFSET 0) AS r,
LATERAL (SELECT array_agg(body) AS bodies FROM (
    SELECT body FROM entry WHERE tenant = %s AND seq >= r.seq AND seq < r.seq + CASE
        WHEN r.seq BETWEEN 0 AND 1::bigint << 62 AND r.width BETWEEN 1 AND 256 THEN r.width ELSE 0 END
    ORDER BY seq) AS entries) AS e"""
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
        """Yield what the runs with index [start, stop) name, by bundle; a bundle without rows is left out.

        `start` is that of a bundle. Raises TamperedError if a run has no sense, or names an entry that is not there.
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
        """Read run by run."""
        for begin in range(start, stop, _WINDOW):
            end = min(begin + _WINDOW, stop)
            tiles = _read_tiles(self, tenant, begin, end)
            with _readable():
                rows = self._connection.execute(_SQLITE_RUNS, (tenant, begin, end)).fetchall()
            runs = (Run(idx, seq, width, hashes, self._read(tenant, seq, width)) for idx, seq, width, hashes in rows)
            yield from gather(self, tenant, runs, end, tiles.get)

    def _read(self, tenant: str, seq: object, width: object) -> list[bytes]:
        """Return the entries of a run, none if it is not one."""
        if not isinstance(seq, int) or not isinstance(width, int) or not 0 < width <= BUNDLE_WIDTH:
            return []
        arguments = (seq, seq + width, tenant)
        with _readable():
            bodies = [body for (body,) in self._connection.execute(_SQLITE_BODIES, arguments)]
            if {*map(type, bodies)} != {bytes}:  # tampered with: slower is no matter
                bodies = [body or b"" for (body,) in self._connection.execute(_SQLITE_ANY_BODIES, arguments)]
        return bodies

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
        """Stream run by run: the server reads the next ones while the caller hashes."""
        tiles: dict[int, bytes | None] = {}

        def find_tile(number: int) -> bytes | None:
            if number not in tiles:
                first = number * BUNDLE_WIDTH
                tiles.clear()
                tiles.update(_read_tiles(self, tenant, first, min(first + _WINDOW, stop)))
                tiles.setdefault(number, None)
            return tiles[number]

        return gather(self, tenant, self._iter_runs(tenant, start, stop), stop, find_tile)

    def _iter_runs(self, tenant: str, start: int, stop: int) -> Iterator[Run]:
        """Yield the runs by their first index, as long as each begins where the one before ends.

        SQL promises no order: what comes too early waits, at most for the end of its window.
        """
        expected = start
        for begin in range(start, stop, _WINDOW):
            window = (tenant, tenant, begin, min(begin + _WINDOW, stop), tenant)
            early: dict[int, Run] = {}
            with _readable():
                for idx, seq, width, hashes, bodies, is_tile in self._streaming.cursor(binary=True).stream(
                    _POSTGRES_RUNS.encode(), window
                ):
                    whole = [body for body in bodies or () if body is not None]
                    early[idx] = Run(idx, seq, width, hashes, whole, is_tile)
                    while (run := early.pop(expected, None)) is not None:
                        yield run
                        expected += max(run.width, 1)
            for _, run in sorted(early.items()):
                yield run
                expected = run.idx + run.width

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


def gather(
    driver: Driver, tenant: str, runs: Iterable[Run], stop: int, find_tile: Callable[[int], bytes | None]
) -> Iterator[Leaves]:
    """Yield the bundles that the runs make up, which come by their first index; up to index `stop`.

    A bundle ends where an index is missing, and has fewer entries then. Raises TamperedError at a row that is no run,
    that shares an index with another, or that names an entry which is not there.
    """
    for number, own in groupby(runs, key=lambda run: _require_sound(run).idx // BUNDLE_WIDTH):
        expected = number * BUNDLE_WIDTH
        bodies: list[bytes] = []
        hashes = []
        whole = True
        is_tile: bool | None = None
        for run in own:
            if run.idx < expected:
                raise TamperedError(Place(what="two rows have this leaf", entry_index=run.idx, path=_TABLE))
            whole = whole and run.idx == expected
            expected = run.idx + run.width
            if whole:
                width = min(run.width, stop - run.idx)
                if len(run.bodies) < width:
                    raise _missing(driver, tenant, run)
                bodies += run.bodies[:width]
                hashes.append(run.hashes[: width * HASH_SIZE])
                is_tile = run.is_tile
        joined = b"".join(hashes)
        yield Leaves(number, bodies, joined, joined if is_tile else find_tile(number))


_TABLE = "table leaf_run"


def _require_sound(run: Run) -> Run:
    numbers = (run.idx, run.seq, run.width)
    if (
        not all(isinstance(number, int) for number in numbers)
        or not 0 < run.width <= BUNDLE_WIDTH - run.idx % BUNDLE_WIDTH
        or not isinstance(run.hashes, bytes)
        or len(run.hashes) != run.width * HASH_SIZE
    ):
        index = run.idx if isinstance(run.idx, int) else None
        raise TamperedError(Place(what="values that a run of leaves cannot have", entry_index=index, path=_TABLE))
    return run


def _missing(driver: Driver, tenant: str, run: Run) -> TamperedError:
    """Return the error that names the first entry of the run which is not there."""
    there = {seq for (seq,) in driver.fetch(_SEQS, tenant, run.seq, run.seq + run.width)}
    place = next((place for place in range(run.width) if run.seq + place not in there), 0)
    what = "its leaf names an entry row that is missing"
    return TamperedError(Place(what=what, entry_index=run.idx + place, path="table entry"))


def _read_tiles(driver: Driver, tenant: str, start: int, stop: int) -> dict[int, bytes | None]:
    """Return the rows of level 0 tiles of leaves [start, stop) by number: as nothing if one is NULL, as none can be."""
    rows = driver.fetch(_TILES, tenant, start // BUNDLE_WIDTH, -(-stop // BUNDLE_WIDTH))
    return {number: data or b"" for number, data in rows}
