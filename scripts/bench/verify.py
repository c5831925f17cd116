"""Full verification of a log as export, in SQLite and in PostgreSQL, with one process and with two.

    python -m scripts.bench.verify [--entries 1000000] [--runs 5] [--forms export sqlite postgresql]

Yardstick of the same run: hashlib's leaf hashes and root of the same bytes, in memory, on one core. SQLite file and
export are kept in the temporary directory and used again; PostgreSQL is filled each time.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import psycopg

from app.adapters.sql.audit import DatabaseSource
from app.adapters.sql.engine import open_engine
from app.adapters.sql.migrate import newest_revision, upgrade
from app.adapters.sql.store import SqlStore
from app.ledger.entry import format_entry_id
from app.ledger.export import write_export
from app.ledger.ports import EntryRow
from app.ledger.publish import BATCH_LIMIT, Sequencer
from app.ledger.verify import ExportSource, LogSource, Options, Outcome, read_trust, verify_log
from tests.parts.built_logs import SIGNER, START_MS, TENANT, BuiltLog
from tests.parts.postgres import running_postgres

KEPT = Path(tempfile.gettempdir()) / "assay-bench"
"""Logs that take long to build, each of one migration's schema."""
ENTRY_BYTES = 500
CHUNK_BUNDLES = 64
READ_BYTES = 1 << 20
TARGETS = {"export": (0.6, 1.1), "sqlite": (0.6, 1.1), "postgresql": (0.45, 0.8)}

Log = Callable[[], LogSource]


def make_row(number: int) -> EntryRow:
    """Return an entry of 500 bytes; the first adds the log's key."""
    entry_id = UUID(int=(START_MS + number) << 80 | 7 << 76 | 2 << 62 | number)
    if number == 0:
        action, data = "key.added", f'"vkey":"{SIGNER.vkey}"'
    else:
        action, data = "document.recorded", f'"kind":"contract.signed","sha256":"{number:064x}"'
    head = f'{{"action":"{action}","actor":"merchant:shop","data":{{{data}}}'
    tail = f',"id":"{format_entry_id(entry_id)}","ref":{{"document":"'
    end = f'"}},"sealed":{{}},"time":{START_MS + number},"v":1}}'
    padding = "d" * (ENTRY_BYTES - len(head) - len(tail) - len(end))
    body = (head + tail + padding + end).encode()
    return EntryRow(tenant=TENANT.id, id=entry_id, body=body, action=action)


def fill(url: str, entries: int) -> None:
    """Append and publish the entries, 4,096 to a batch."""
    upgrade(url)
    store = SqlStore(open_engine(url))
    log = BuiltLog(store)
    with Sequencer(store=log.store, tenant=TENANT, anchor=log.anchor, keyring=log.keyring) as sequencer:
        for start in range(0, entries, BATCH_LIMIT):
            with log.store.transaction() as tx:
                tx.append_entries([make_row(number) for number in range(start, min(start + BATCH_LIMIT, entries))])
            while sequencer.step():
                pass
    store.close()


def vacuum(url: str) -> None:
    """Do what autovacuum would have done meanwhile, so that no measurement has it beside itself."""
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def read_in_order(file: Path) -> None:
    """Have the page cache hold the file as it holds one that was read, not as one that was written page by page.

    What SQLite writes lies there in scattered pages of 4 KiB, and reading them costs up to a fifth of a verification
    more than reading the same file after a restart, or a copy of it. The export is written file by file anyway.
    """
    with file.open("rb", buffering=0) as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while opened.read(READ_BYTES):
            pass


def open_forms(forms: list[str], entries: int, stack: ExitStack) -> dict[str, Log]:
    """Return how to open the log in each form, built if it is not there yet."""
    kept = KEPT / f"verify-{entries}-{newest_revision()}"
    database, directory = kept / "log.db", kept / "export"
    if not (directory / "checkpoint").exists():
        kept.mkdir(parents=True, exist_ok=True)
        database.unlink(missing_ok=True)
        print(f"building {entries:,} entries in {kept} …", flush=True)
        fill(f"sqlite:///{database}", entries)
        write_export(DatabaseSource(f"sqlite:///{database}", TENANT.id), directory)
    if "sqlite" in forms:
        read_in_order(database)
    logs: dict[str, Log] = {
        "export": lambda: ExportSource(directory),
        "sqlite": lambda: DatabaseSource(f"sqlite:///{database}", TENANT.id),
    }
    if "postgresql" in forms:
        url = stack.enter_context(running_postgres()).create_database()
        print("filling PostgreSQL …", flush=True)
        fill(url, entries)
        vacuum(url)
        logs["postgresql"] = lambda: DatabaseSource(url, TENANT.id)
    return {form: logs[form] for form in ["export", *forms]}


def read_chunks(source: LogSource, entries: int) -> Iterator[list[bytes]]:
    """Yield the entries, a bounded number in memory at once."""
    bundles = -(-entries // 256)
    for start in range(0, bundles, CHUNK_BUNDLES):
        found = source.iter_bundles(start, min(start + CHUNK_BUNDLES, bundles), entries)
        yield [entry for bundle in found for entry in bundle.entries]


def time_yardstick(source: LogSource, entries: int) -> float:
    """Return how long hashlib alone takes for leaf hashes and root, in seconds; reading is not counted."""
    taken, row = 0.0, []
    for chunk in read_chunks(source, entries):
        start = time.perf_counter()
        row += [sha256(b"\x00" + entry).digest() for entry in chunk]
        taken += time.perf_counter() - start
    start = time.perf_counter()
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []
        row = [sha256(b"\x01" + a + b).digest() for a, b in zip(row[::2], row[1::2], strict=False)] + odd
    return taken + time.perf_counter() - start


def time_verification(log: Log, entries: int, workers: int) -> float:
    """Return how long a full verification takes, opening and starting processes included, in seconds."""
    start = time.perf_counter()
    report = verify_log(log(), read_trust(None, [SIGNER.vkey]), Options(workers=workers))
    taken = time.perf_counter() - start
    if report.outcome is not Outcome.VALID or report.counts["entries"] != entries:
        raise SystemExit(f"not valid: {report.summary}")
    return taken


def show_profile(log: Log, form: str) -> None:
    """Print where one process spends its time."""
    profile = cProfile.Profile()
    profile.runcall(verify_log, log(), read_trust(None, [SIGNER.vkey]), Options())
    stats = pstats.Stats(profile)
    top = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:4]  # type: ignore[attr-defined]  # typeshed lacks it
    total = sum(item[1][2] for item in stats.stats.items())  # type: ignore[attr-defined]  # as above
    lines = [f"{function[2]} {100 * row[2] / total:.0f} %" for function, row in top]
    print(f"{form:11} profile: {', '.join(lines)}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--forms", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    asked = parser.parse_args()
    with ExitStack() as stack:
        logs = open_forms(asked.forms, asked.entries, stack)
        yardsticks: list[float] = []
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(asked.runs):  # taking turns, so that a busy machine is busy for all
            yardsticks.append(time_yardstick(logs["export"](), asked.entries))
            for form in asked.forms:
                for workers in (1, 2):
                    times.setdefault((form, workers), []).append(time_verification(logs[form], asked.entries, workers))
        yardstick = statistics.median(yardsticks)
        print(f"yardstick   hashlib {asked.entries / yardstick:11,.0f} entries/s ({yardstick:.2f} s)")
        for (form, workers), taken in times.items():
            median = statistics.median(taken)
            ratio = statistics.median(y / t for y, t in zip(yardsticks, taken, strict=True))
            target = TARGETS[form][workers - 1]
            print(
                f"{form:11} {workers} proc. {asked.entries / median:11,.0f} entries/s  ratio {ratio:.2f}  (≥ {target})"
            )
        for form in asked.forms:
            show_profile(logs[form], form)


if __name__ == "__main__":
    main()
