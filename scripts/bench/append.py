"""Single appends over HTTP, each answered with its receipt (`Prefer: wait`).

    python -m scripts.bench.append [--runs 5] [--seconds 5] [--clients 64 512] [--database postgresql]

Yardsticks of the same run: a Flask hello on the same server, and the same application over a store in memory.
"""

from __future__ import annotations

import argparse
import statistics

import orjson

from scripts.bench.load import Load, post
from scripts.bench.service import running_service

BODY = orjson.dumps(
    {
        "action": "document.recorded",
        "data": {
            "kind": "contract.signed",
            "sha256": "5e" * 32,
            "title": "Framework agreement 2026",
            "size_bytes": 48213,
        },
    }
)
WARM_UP_S = 3


def measure(kind: str, database: str, clients: int, *, runs: int, seconds: int) -> list[Load]:
    """Return `runs` measurements of one application, after a warm-up."""
    with running_service(kind, database) as service:
        url = service.url + "/v1/entries"
        post(url, BODY, token=service.token, clients=clients, seconds=WARM_UP_S)
        return [post(url, BODY, token=service.token, clients=clients, seconds=seconds) for _ in range(runs)]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--database", default="postgresql", choices=["postgresql", "sqlite"])
    parser.add_argument("--kinds", nargs="+", default=["hello", "memory", "sql"])
    asked = parser.parse_args()
    for clients in asked.clients:
        medians = {}
        for kind in asked.kinds:
            loads = measure(kind, asked.database, clients, runs=asked.runs, seconds=asked.seconds)
            medians[kind] = statistics.median(load.per_s for load in loads)
            p50 = statistics.median(load.p50_ms for load in loads)
            p99 = statistics.median(load.p99_ms for load in loads)
            bad = sum(load.bad_status + load.failed for load in loads)
            print(
                f"{clients:4} clients  {kind:7}{medians[kind]:9,.0f}/s  p50{p50:7.1f} ms  p99{p99:7.1f} ms  bad {bad}"
            )
        for kind in ("hello", "memory"):
            if kind in medians and "sql" in medians:
                print(f"{clients:4} clients  ratio to {kind}: {medians['sql'] / medians[kind]:.2f}")


if __name__ == "__main__":
    main()
