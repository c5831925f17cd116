"""Single appends answered with their receipt, against both yardsticks: rows 1 and 2 of the table.

    python -m scripts.bench.receipts [--runs 5] [--seconds 5] [--clients 64 512]

As `scripts.bench.append`, but the three applications are up together and take turns, run by run.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from scripts.bench.append import BODY, WARM_UP_S
from scripts.bench.figures import Figure, Goal, at_least, at_most, open_parser, show
from scripts.bench.load import Load, post
from scripts.bench.service import Running, running_service

DATABASE = "postgresql"
KINDS = ("hello", "memory", "sql")
FEW, MANY = 64, 512
P99_LIMIT_MS = {FEW: 100.0, MANY: 500.0}
RATE = Goal(of="value", sign="≥", bound=2000)
YARDSTICKS = {"hello": "Flask hello, same server", "memory": "the same app over a store in memory"}
RATIOS = {"hello": at_least(0.20), "memory": at_least(0.55)}


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return the figures for each number of clients."""
    with ExitStack() as stack:
        services = {kind: stack.enter_context(running_service(kind, DATABASE)) for kind in KINDS}
        return [
            figure
            for clients in asked.clients
            for figure in measure_clients(services, clients, runs=asked.runs, seconds=asked.seconds)
        ]


def measure_clients(services: dict[str, Running], clients: int, *, runs: int, seconds: int) -> list[Figure]:
    """Return rate and p99 at this number of clients."""
    loads: dict[str, list[Load]] = {kind: [] for kind in KINDS}
    for service in services.values():
        _post(service, clients, WARM_UP_S)
    for _ in range(runs):
        for kind, service in services.items():
            loads[kind].append(_post(service, clients, seconds))
    figures = [make_rate(loads, kind, clients) for kind in ("hello", "memory")]
    p99 = Figure(
        part="receipts",
        work=f"{name_work(clients)}, p99",
        unit="ms",
        values=[load.p99_ms for load in loads["sql"]],
        goals=[at_most(P99_LIMIT_MS[clients])] if clients in P99_LIMIT_MS else [],
        bad=count_bad(loads["sql"]),
    )
    return [*figures, p99]


def make_rate(loads: dict[str, list[Load]], yardstick: str, clients: int) -> Figure:
    """Return the rate against one yardstick; the goals are for 64 clients."""
    goals = [RATIOS[yardstick], *([RATE] if yardstick == "hello" else [])]
    return Figure(
        part="receipts",
        work=name_work(clients),
        unit="/s",
        values=[load.per_s for load in loads["sql"]],
        yardstick=YARDSTICKS[yardstick],
        yardstick_values=[load.per_s for load in loads[yardstick]],
        goals=goals if clients == FEW else [],
        bad=count_bad(loads["sql"]) + count_bad(loads[yardstick]),
    )


def name_work(clients: int) -> str:
    """Return what the rows of this part are called."""
    return f"single append with receipt, PostgreSQL, 2 web processes, {clients} clients"


def count_bad(loads: list[Load]) -> int:
    """Return how many answers were errors or never came."""
    return sum(load.bad_status + load.failed for load in loads)


def _post(service: Running, clients: int, seconds: int) -> Load:
    return post(service.url + "/v1/entries", BODY, token=service.token, clients=clients, seconds=seconds)


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[FEW, MANY])
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
