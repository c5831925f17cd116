"""What an entry costs in a log of 10^6 entries, against one of 10^4.

    python -m scripts.bench.growth [--runs 5] [--leaves 1000000] [--databases postgresql sqlite]

Both logs are open in this one process, each in a database of its own, and take turns batch by batch: 64 rows through
the group commit, then one step of the sequencer (tree, signature, anchor file, checkpoint). Wall time is of both; the
processor time is this process's during the step. The small log at most doubles meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.ledger.group import GroupCommit
from app.ledger.ports import EntryRow
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.ledger.wait import PublicationWatch
from app.settings import Settings
from app.wiring import Installation
from scripts.bench.figures import Figure, at_most_ratio, open_parser, profile_top, show
from scripts.bench.large import make_rows, seed_log
from scripts.bench.service import TENANT
from tests.parts.postgres import running_postgres

SMALL = 10_000
ROWS = 64
"""To a batch: what 64 waiting clients hand in together."""
BATCHES = 30
LIMIT = 1.2


@dataclass(frozen=True, slots=True)
class OpenLog:
    """A log that this process appends to and publishes."""

    group: GroupCommit
    sequencer: Sequencer


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a run, to one entry, in microseconds: wall time of append and publish, processor time of the step."""

    wall_us: float
    step_cpu_us: float


@contextmanager
def open_log(settings: Settings, size: int) -> Iterator[OpenLog]:
    """Open a log of `size` entries."""
    settings.state_dir.mkdir(parents=True)
    seed_log(settings, size)
    installation = Installation(settings)
    watch = PublicationWatch(installation.store, Prover(installation.store))
    group = GroupCommit(installation.store, watch)
    try:
        with installation.sequencer(installation.read_tenant(TENANT)) as sequencer:
            yield OpenLog(group, sequencer)
    finally:
        group.close()
        watch.close()


def append_and_publish(log: OpenLog, rows: list[EntryRow]) -> tuple[float, float]:
    """Return wall time, and processor time of the step, in seconds."""
    size, started_s = log.sequencer.head.size, time.perf_counter()
    log.group.append(rows)
    cpu_s = time.process_time()
    while log.sequencer.head.size < size + len(rows):
        log.sequencer.step()
    return time.perf_counter() - started_s, time.process_time() - cpu_s


def run_both(logs: list[OpenLog], first_row: int, batches: int) -> list[Cost]:
    """Return the costs of the logs, batch by batch in turns."""
    wall_s, cpu_s = [0.0] * len(logs), [0.0] * len(logs)
    for batch in range(batches):
        rows = make_rows(first_row + batch * ROWS, ROWS)
        for place in sorted(range(len(logs)), reverse=bool(batch % 2)):
            taken = append_and_publish(logs[place], rows)
            wall_s[place] += taken[0]
            cpu_s[place] += taken[1]
    entries = batches * ROWS
    return [Cost(wall / entries * 1e6, cpu / entries * 1e6) for wall, cpu in zip(wall_s, cpu_s, strict=True)]


def measure_database(database: str, *, runs: int, leaves: int, batches: int) -> list[Figure]:
    """Return the figures on one kind of database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-bench-")))
        server = stack.enter_context(running_postgres()) if database == "postgresql" else None
        logs = []
        for size in (leaves, SMALL):
            url = server.create_database() if server else None
            settings = Settings(state_dir=folder / str(size), database_url=url)
            logs.append(stack.enter_context(open_log(settings, size)))
        run_both(logs, leaves + 1, 5)  # warm up
        first_rows = [leaves + 1 + (run + 1) * max(batches, 5) * ROWS for run in range(runs)]
        costs = [run_both(logs, first_row, batches) for first_row in first_rows]
        top = profile_top(partial(run_both, logs[:1], first_rows[-1] + max(batches, 5) * ROWS, batches))
    name = "PostgreSQL" if database == "postgresql" else "SQLite"
    kinds = {
        "append + publish, wall time": [[cost.wall_us for cost in pair] for pair in costs],
        "publishing step, processor time": [[cost.step_cpu_us for cost in pair] for pair in costs],
    }
    return [
        Figure(
            part="growth",
            work=f"{kind} per entry at {leaves:,}, {name}",
            unit="µs",
            values=[large for large, _small in pairs],
            yardstick=f"the same at {SMALL:,}",
            yardstick_values=[small for _large, small in pairs],
            goals=[at_most_ratio(LIMIT)],
            note=top if kind.startswith("append") else "",
        )
        for kind, pairs in kinds.items()
    ]


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return all figures."""
    return [
        figure
        for database in asked.databases
        for figure in measure_database(database, runs=asked.runs, leaves=asked.leaves, batches=asked.batches)
    ]


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=BATCHES, help="in one run and log (%(default)s)")
    parser.add_argument("--databases", nargs="+", default=["postgresql", "sqlite"], choices=["postgresql", "sqlite"])
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
