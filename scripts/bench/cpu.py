"""Processor time of a request, by part: web processes, sequencer, PostgreSQL, load generator.

    python -m scripts.bench.cpu [--runs 5] [--seconds 5] [--clients 64] [--database postgresql]

From `/proc/<pid>/stat`, children that ended included, so it needs Linux and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.append import BODY, WARM_UP_S
from scripts.bench.figures import Figure, open_parser, show
from scripts.bench.load import post
from scripts.bench.service import running_service

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
WEB, SEQUENCER, POSTGRESQL, LOAD = "web processes", "sequencer", "PostgreSQL", "load generator"


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time used, in seconds."""

    user_s: float = 0.0
    system_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.user_s + other.user_s, self.system_s + other.system_s)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.user_s - other.user_s, self.system_s - other.system_s)


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    command: str
    usage: Usage


def read_usage() -> dict[str, Usage]:
    """Return what the children of this process, and theirs, have used so far, by part."""
    processes = list(_list_processes())
    ended = os.times()
    parts = {WEB: Usage(), SEQUENCER: Usage(), POSTGRESQL: Usage()}
    parts[LOAD] = Usage(ended.children_user, ended.children_system)
    for child in processes:
        if child.parent == os.getpid():
            parts[_name_part(child.command)] += _sum_tree(child, processes)
    return parts


def _name_part(command: str) -> str:
    names = {"serve()": WEB, "sequence()": SEQUENCER, "postgres": POSTGRESQL}
    return next((part for name, part in names.items() if name in command), LOAD)


def _list_processes() -> Iterator[_Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended while we looked; its parent has its time now
        user, system, user_of_ended, system_of_ended = (int(field) / TICKS_PER_S for field in fields[11:15])
        usage = Usage(user + user_of_ended, system + system_of_ended)
        yield _Process(int(folder.name), int(fields[1]), command, usage)


def _sum_tree(process: _Process, processes: list[_Process]) -> Usage:
    below = [_sum_tree(other, processes) for other in processes if other.parent == process.pid]
    return sum(below, process.usage)


def measure(*, runs: int, seconds: int, clients: int, database: str) -> list[Figure]:
    """Return the microseconds of each part for one request."""
    used: dict[str, list[Usage]] = {}
    requests: list[float] = []
    bad = 0
    with running_service("sql", database) as service:
        url = service.url + "/v1/entries"
        post(url, BODY, token=service.token, clients=clients, seconds=WARM_UP_S)
        for _ in range(runs):
            before = read_usage()
            load = post(url, BODY, token=service.token, clients=clients, seconds=seconds)
            for part, usage in read_usage().items():
                used.setdefault(part, []).append(usage - before[part])
            requests.append(load.per_s * seconds)
            bad += load.bad_status + load.failed
    figures = []
    for part, usages in used.items():
        user_us = [usage.user_s / count * 1e6 for usage, count in zip(usages, requests, strict=True)]
        system_us = [usage.system_s / count * 1e6 for usage, count in zip(usages, requests, strict=True)]
        for kind, values in (("user", user_us), ("system", system_us)):
            figures.append(Figure(part="cpu", work=f"{part}, {kind}", unit="µs", values=values, bad=bad))
    return figures


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--database", default="postgresql", choices=["postgresql", "sqlite"])
    asked = parser.parse_args()
    show(
        measure(runs=asked.runs, seconds=asked.seconds, clients=asked.clients, database=asked.database),
        asked,
    )


if __name__ == "__main__":
    main()
