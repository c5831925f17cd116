"""Waking the sequencer and the readers: LISTEN/NOTIFY on PostgreSQL, `PRAGMA data_version` on SQLite.

A wake-up is a hint: whoever waits also looks by itself now and then, so a lost one delays and loses nothing.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString, Protocol

import psycopg
import sqlalchemy as sa

from app.adapters.sql.engine import is_cut, open_dedicated, translated_errors
from app.adapters.sql.heard import parse_heard
from app.errors import AssayError
from app.ledger.ports import Exposed, Heard

RECONNECT_PAUSE_S = 0.2
SQLITE_POLL_S = 0.004
"""How often a file is looked at for what another process did, in seconds."""
SQLITE_EAGER_POLL_S = 0.0005
SQLITE_EAGER_S = 0.025
"""For so long after something happened it is looked at more often: under load the next thing is about to."""

# Kept connections ask the same few statements all day: planned once, they cost the server half. A plan made while the
# log was small must serve the large one too, so nothing but the indexes may be used, in their order: neither a scan,
# nor a sort of all that is pending to take the first page of it, nor a look-up of each entry among the leaves.
_BY_INDEX = "SET plan_cache_mode = force_generic_plan; " + "; ".join(
    f"SET enable_{way} = off" for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "nestloop")
)
BATCHES_REMEMBERED = 8
"""Integrated batches of which it is known that they are no news."""
COMMITS_TOLD_LIMIT = 64
"""Commits that one notification tells of: PostgreSQL takes 8,000 bytes."""
_COMMIT = re.compile(r"(\d{1,19}):(\d{1,9})")
APPENDED: LiteralString = "SELECT pg_notify('assay_append', %b)"
"""Tells the sequencer of commits (`format_appended`)."""
_LAST_SEQ = "SELECT seq FROM sqlite_sequence WHERE name = 'entry'"
_LAST_CHECKPOINT = "SELECT max(rowid) FROM checkpoint"
_NEW_CHECKPOINTS = "SELECT DISTINCT tenant FROM checkpoint WHERE rowid > ? AND rowid <= ?"


def format_appended(commits: Sequence[tuple[int, int]]) -> str:
    """Return the words for commits, (last number, how many) each; "" if they are too many to be told."""
    return " ".join(f"{last}:{count}" for last, count in commits) if len(commits) <= COMMITS_TOLD_LIMIT else ""


class Integrated:
    """The entries that this process integrated last: to hear of them later is no news."""

    def __init__(self) -> None:
        """None yet."""
        self._batches: deque[frozenset[int]] = deque(maxlen=BATCHES_REMEMBERED)

    def add(self, seqs: Sequence[int]) -> None:
        """Remember one batch; the oldest is forgotten."""
        self._batches.append(frozenset(seqs))

    def has(self, seq: int) -> bool:
        """Say whether it is one of them."""
        return any(seq in batch for batch in self._batches)


class PostgresWake:
    """NOTIFY `assay_append` and `assay_published`, after the commit they tell of.

    A transaction that notifies holds a lock of the whole server while it commits, so that no two can share an fsync
    (2,300 instead of 7,200 commits/s on two cores). We therefore notify after the commit. A group of entries alone is
    told by `KeptAppender`; all else from a connection that never waits for the disk, where one NOTIFY does for all that
    committed while the one before was under way.
    Only an integration says in its own transaction what it placed: there is one sequencer, and nobody else notifies so.
    """

    def __init__(self, engine: sa.Engine) -> None:
        """Connect when first needed."""
        self._engine = engine
        self._listener: psycopg.Connection[Any] | None = None
        self._notifier: psycopg.Connection[Any] | None = None
        self._watcher: psycopg.Connection[Any] | None = None
        self._notifying = threading.Lock()
        self._asking = threading.Lock()
        self._appended: deque[tuple[int, int]] = deque()
        self.integrated = Integrated()

    def announce_append(self, commits: Sequence[tuple[int, int]]) -> None:
        """Notify, or leave it to the thread that is at it: it looks for more before it goes."""
        self._appended.extend(commits)
        while self._appended and self._notifying.acquire(blocking=False):
            try:
                told = [self._appended.popleft() for _ in range(min(len(self._appended), COMMITS_TOLD_LIMIT))]
                with contextlib.suppress(psycopg.Error, AssayError):
                    self._execute_quick(APPENDED, (format_appended(told),))
            finally:
                self._notifying.release()

    def run_quick(self, statement: LiteralString, arguments: tuple[object, ...]) -> None:
        """Run one statement on the connection that never waits for the disk. Raises as the store does."""
        with self._notifying, translated_errors():
            self._execute_quick(statement, arguments)

    def _execute_quick(self, statement: LiteralString, arguments: tuple[object, ...] = ()) -> None:
        """Execute on the notifier, which the caller has locked; after an error the next call connects anew."""
        try:
            if self._notifier is None:
                self._notifier = self._open_quick()
            self._notifier.execute(statement, arguments)
        except psycopg.Error:
            _close(self._notifier)
            self._notifier = None
            raise

    def ask_watching(self, statement: LiteralString, arguments: tuple[object, ...] = ()) -> list[Any]:
        """Return the rows of one statement, on a connection of its own: the pool's costs more than the query."""
        with self._asking:
            return self._ask_kept(statement, arguments)

    def _ask_kept(self, statement: LiteralString, arguments: tuple[object, ...]) -> list[Any]:
        """Execute on the watcher, which the caller has locked; after an error the next call connects anew."""
        with translated_errors():
            try:
                if self._watcher is not None and is_cut(self._watcher):
                    _close(self._watcher)
                    self._watcher = None
                if self._watcher is None:
                    self._watcher = self._open_kept()
                return self._watcher.execute(statement, arguments, binary=True).fetchall()
            except psycopg.Error:
                _close(self._watcher)
                self._watcher = None
                raise

    def _open_kept(self) -> psycopg.Connection[Any]:
        driver: psycopg.Connection[Any] = open_dedicated(self._engine)
        driver.execute(_BY_INDEX)
        driver.prepare_threshold = 0
        return driver

    def _open_quick(self) -> psycopg.Connection[Any]:
        driver = self._open_kept()
        driver.execute("SET synchronous_commit = off")
        return driver

    def wait_for_append(self, timeout_s: float, rows: int) -> int:
        """Return on notifications of so many, after the timeout, or (having looked away) once listening again."""
        deadline_s = time.monotonic() + timeout_s
        heard = 0
        try:
            if self._listener is None:
                self._listener = self._listen("assay_append")
                return rows
            while heard < rows and (left_s := deadline_s - time.monotonic()) > 0:
                for note in self._listener.notifies(timeout=left_s, stop_after=1):
                    heard += self._count_news(note.payload, rows)
        except (psycopg.Error, AssayError):
            _close(self._listener)
            self._listener = None
            time.sleep(min(timeout_s, RECONNECT_PAUSE_S))
        return heard

    def _count_news(self, words: str, unknown: int) -> int:
        """Return how many entries a notification tells of that are not integrated; `unknown` if it does not say."""
        commits = _COMMIT.findall(words)
        news = sum(int(count) for last, count in commits if not self.integrated.has(int(last)))
        return news if commits else unknown

    def publications(self, poll_s: float) -> Iterator[Heard]:
        """Yield None once listening, then what is heard."""
        listener: psycopg.Connection[Any] | None = None
        try:
            while True:
                try:
                    if listener is None:
                        listener = self._listen("assay_published")
                        heard: list[Heard] = []
                    else:
                        heard = [parse_heard(told.payload) for told in listener.notifies(timeout=poll_s, stop_after=1)]
                except (psycopg.Error, AssayError):
                    _close(listener)
                    listener = None
                    time.sleep(min(poll_s, RECONNECT_PAUSE_S))
                    heard = []
                yield from heard or [None]
        finally:
            _close(listener)

    def _listen(self, channel: str) -> psycopg.Connection[Any]:
        driver: psycopg.Connection[Any] = open_dedicated(self._engine)
        try:
            driver.execute(f"LISTEN {channel}")
        except psycopg.Error:
            driver.close()
            raise
        return driver

    def close(self) -> None:
        """Close the connections; nobody may be waiting."""
        _close(self._listener)
        self._listener = None
        with self._asking:
            _close(self._watcher)
            self._watcher = None
        with self._notifying:
            _close(self._notifier)
            self._notifier = None


class _Closable(Protocol):
    def close(self) -> None: ...


def _close(connection: _Closable | None) -> None:
    if connection is not None:
        with contextlib.suppress(psycopg.Error, sqlite3.Error):
            connection.close()


class SqliteWake:
    """An event for the threads of this process, and a look at `data_version` for the commits of other processes."""

    def __init__(self, engine: sa.Engine) -> None:
        """Connect when first needed."""
        self._engine = engine
        self._appended = threading.Event()
        self._exposed = threading.Condition()
        self._exposures = 0
        self._append_watch: _Watch | None = None
        self.integrated = Integrated()

    def announce_append(self, commits: Sequence[tuple[int, int]]) -> None:
        """Wake the sequencer of this process; that of another sees the commit."""
        if commits:
            self._appended.set()

    def announce_checkpoint(self, tenant: str) -> None:  # noqa: ARG002 - its row says whose it is
        """Wake the readers of this process; those of another see the commit."""
        with self._exposed:
            self._exposures += 1
            self._exposed.notify_all()

    def wait_for_append(self, timeout_s: float, rows: int) -> int:
        """Return when the last sequence number has moved so far, after the timeout, or at once the first time."""
        deadline_s = time.monotonic() + timeout_s
        news = 0
        try:
            if self._append_watch is None:
                self._append_watch = _Watch(self._engine, _LAST_SEQ)
                return rows
            while news < rows and (left_s := deadline_s - time.monotonic()) > 0:
                told = self._appended.wait(min(self._append_watch.pause_s(), left_s))
                self._appended.clear()
                before = self._append_watch.mark
                if self._append_watch.look(told=told):
                    fresh = range(before + 1, self._append_watch.mark + 1)
                    news += sum(not self.integrated.has(seq) for seq in fresh)
        except (sqlite3.Error, AssayError):
            _close(self._append_watch)
            self._append_watch = None
            time.sleep(min(timeout_s, RECONNECT_PAUSE_S))
        return news

    def publications(self, poll_s: float) -> Iterator[Heard]:
        """Yield None once watching, then the tenants of new checkpoints."""
        watch: _Watch | None = None
        try:
            while True:
                seen: list[Heard] = []
                try:
                    if watch is None:
                        watch = _Watch(self._engine, _LAST_CHECKPOINT)
                    else:
                        seen = self._wait_for_checkpoints(watch, time.monotonic() + poll_s)
                except (sqlite3.Error, AssayError):
                    _close(watch)
                    watch = None
                    time.sleep(min(poll_s, RECONNECT_PAUSE_S))
                yield from seen or [None]
        finally:
            _close(watch)

    def _wait_for_checkpoints(self, watch: _Watch, deadline_s: float) -> list[Heard]:
        with self._exposed:
            exposures = self._exposures
        while (left_s := deadline_s - time.monotonic()) > 0:
            before = watch.mark
            if watch.look(told=False):
                rows = watch.driver.execute(_NEW_CHECKPOINTS, (before, watch.mark))
                return [Exposed(tenant) for (tenant,) in rows]
            with self._exposed:
                if self._exposures == exposures:
                    self._exposed.wait(min(watch.pause_s(), left_s))
                exposures = self._exposures
        return []

    def close(self) -> None:
        """Close the connection; nobody may be waiting."""
        _close(self._append_watch)
        self._append_watch = None


class _Watch:
    """A connection that notices when the number that `statement` reads has grown."""

    def __init__(self, engine: sa.Engine, statement: str) -> None:
        """Start from what is there now."""
        self.driver: sqlite3.Connection = open_dedicated(engine)
        self._statement = statement
        self._eager_until_s = 0.0
        try:
            self._version = self._read("PRAGMA data_version")
            self.mark = self._read(statement)
        except sqlite3.Error:
            self.close()
            raise

    def look(self, *, told: bool) -> bool:
        """Say whether it has grown since the last look; without being told, look only if there was a commit."""
        version = self._read("PRAGMA data_version")
        if version == self._version and not told:
            return False
        self._version = version
        before, self.mark = self.mark, self._read(self._statement)
        if self.mark > before:
            self._eager_until_s = time.monotonic() + SQLITE_EAGER_S
        return self.mark > before

    def pause_s(self) -> float:
        """Return how long to wait before the next look, in seconds."""
        return SQLITE_EAGER_POLL_S if time.monotonic() < self._eager_until_s else SQLITE_POLL_S

    def _read(self, statement: str) -> int:
        row = self.driver.execute(statement).fetchone()
        return int(row[0] or 0) if row else 0

    def close(self) -> None:
        """Close the connection."""
        self.driver.close()
