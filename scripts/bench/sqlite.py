"""Single appends on the embedded store, from 16 clients.

    python -m scripts.bench.sqlite [--runs 5] [--seconds 5]

Yardstick of the same run: the sqlite3 module, one writer, one row to a commit, WAL with synchronous=FULL, the same
columns. Over HTTP with one web process and with two, answered when durable and when published (`Prefer: wait`); and
without HTTP, 16 threads calling `GroupCommit.append`.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from app.adapters.sql.engine import SQLITE_WAL_CHECKPOINT_PAGES
from app.ledger.append import prepare as prepare_row
from app.ledger.entry import Draft
from app.ledger.group import GroupCommit
from app.ledger.ports import EntryRow
from app.ledger.prove import Prover
from app.ledger.wait import PublicationWatch
from app.settings import Settings
from app.wiring import Installation, new_entry_id
from scripts.bench.append import BODY, WARM_UP_S
from scripts.bench.figures import Figure, Goal, at_least, open_parser, show
from scripts.bench.load import Load, post
from scripts.bench.service import TENANT, prepare, running_service

CLIENTS = 16
WEB_PROCESSES = (1, 2)
WAITS = {"durable": "", "with receipt": "wait=10"}
YARDSTICK = "sqlite3 insert + commit"
GOAL = at_least(0.5)

_CREATE = """
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, id BLOB NOT NULL, body BLOB NOT NULL,
    action TEXT NOT NULL, subject TEXT)"""
_INSERT = "INSERT INTO entry (tenant, id, body, action, subject) VALUES (?, ?, ?, ?, ?)"


def make_rows(count: int) -> list[EntryRow]:
    """Return new rows like those that the HTTP clients cause."""
    data = {"kind": "contract.signed", "sha256": "5e" * 32, "title": "Framework agreement 2026", "size_bytes": 48213}
    draft = Draft(action="document.recorded", actor="merchant:bench", data=data)
    registry = Installation(Settings()).registry
    return [prepare_row(registry, TENANT, draft, entry_id=new_entry_id()) for _ in range(count)]


class Yardstick:
    """One writer on a file of its own."""

    def __init__(self, folder: Path) -> None:
        """Create the table."""
        self._connection = sqlite3.connect(folder / "yardstick.db", isolation_level=None)
        pragmas = ("journal_mode = WAL", "synchronous = FULL", f"wal_autocheckpoint = {SQLITE_WAL_CHECKPOINT_PAGES}")
        for pragma in pragmas:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(_CREATE)
        self._row = make_rows(1)[0]

    def run(self, seconds: float) -> float:
        """Return commits per second."""
        row, commits = self._row, 0
        started_s = time.perf_counter()
        while (taken_s := time.perf_counter() - started_s) < seconds:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(_INSERT, (row.tenant, new_entry_id().bytes, row.body, row.action, row.subject))
            self._connection.execute("COMMIT")
            commits += 1
        return commits / taken_s


class Library:
    """A store of its own, and 16 threads that append to it."""

    def __init__(self, folder: Path) -> None:
        """Make the log; nobody publishes it."""
        settings = Settings(state_dir=folder / "library")
        settings.state_dir.mkdir()
        prepare(settings)
        self._store = Installation(settings).store
        self._watch = PublicationWatch(self._store, Prover(self._store))
        self._group = GroupCommit(self._store, self._watch)

    def run(self, appends: int) -> float:
        """Return appends per second, the rows being made before."""
        share = appends // CLIENTS
        shares = [make_rows(share) for _ in range(CLIENTS)]
        together = threading.Barrier(CLIENTS + 1)
        threads = [threading.Thread(target=self._append, args=(rows, together)) for rows in shares]
        for thread in threads:
            thread.start()
        together.wait()
        started_s = time.perf_counter()
        for thread in threads:
            thread.join()
        return share * CLIENTS / (time.perf_counter() - started_s)

    def _append(self, rows: Sequence[EntryRow], together: threading.Barrier) -> None:
        together.wait()
        for row in rows:
            self._group.append((row,))

    def close(self) -> None:
        """Stop the threads."""
        self._group.close()
        self._watch.close()


def measure(*, runs: int, seconds: int, appends: int) -> list[Figure]:
    """Return the figures; yardstick and subjects take turns."""
    loads: dict[tuple[int, str], list[Load]] = {}
    library_per_s: list[float] = []
    yardstick_per_s: list[float] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-bench-")))
        yardstick, library = Yardstick(folder), Library(folder)
        stack.callback(library.close)
        services = {n: stack.enter_context(running_service("sql", "sqlite", workers=n)) for n in WEB_PROCESSES}
        for service in services.values():
            post(service.url + "/v1/entries", BODY, token=service.token, clients=CLIENTS, seconds=WARM_UP_S)
        for _ in range(runs):
            yardstick_per_s.append(yardstick.run(seconds))
            library_per_s.append(library.run(appends))
            for n, service in services.items():
                for wait, prefer in WAITS.items():
                    url = service.url + "/v1/entries"
                    load = post(url, BODY, token=service.token, clients=CLIENTS, seconds=seconds, prefer=prefer)
                    loads.setdefault((n, wait), []).append(load)
    work = f"SQLite, {CLIENTS} threads, `GroupCommit.append` without HTTP"
    figures = [_make_figure(work, library_per_s, yardstick_per_s, goals=[])]
    return [_make_http_figure(*kind, done, yardstick_per_s) for kind, done in loads.items()] + figures


def _make_http_figure(processes: int, wait: str, loads: list[Load], yardstick_per_s: list[float]) -> Figure:
    work = f"SQLite single append, {CLIENTS} clients, {wait}, {processes} web process{'es' * (processes > 1)}"
    bad = sum(load.bad_status + load.failed for load in loads)
    note = f"p99 {sorted(load.p99_ms for load in loads)[len(loads) // 2]:.1f} ms"
    return _make_figure(work, [load.per_s for load in loads], yardstick_per_s, goals=[GOAL], note=note, bad=bad)


def _make_figure(
    work: str, per_s: list[float], yardstick_per_s: list[float], *, goals: list[Goal], note: str = "", bad: int = 0
) -> Figure:
    return Figure(
        part="sqlite",
        work=work,
        unit="/s",
        values=per_s,
        yardstick=YARDSTICK,
        yardstick_values=yardstick_per_s,
        goals=goals,
        note=note,
        bad=bad,
    )


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--appends", type=int, default=16_000, help="of a run without HTTP (%(default)s)")
    asked = parser.parse_args()
    show(measure(runs=asked.runs, seconds=asked.seconds, appends=asked.appends), asked)


if __name__ == "__main__":
    main()
