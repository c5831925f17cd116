"""Inclusion proofs from stored tiles in a log of 10^6 entries: in the library, and over HTTP.

    python -m scripts.bench.proof [--runs 5] [--leaves 1000000] [--proofs 2000] [--databases postgresql sqlite]

Hot: every tile is in the prover's cache (leaves among the newest 200,000; a second row takes them from the whole log,
which is larger than the cache). Cold: a new prover for each proof, so that the checkpoint is read too. Tile reads are
counted at three sizes. Over HTTP the leaves are of the whole log, and the answer holds leaf hash and checkpoint too.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterable
from functools import partial

from app.ledger.ports import LedgerReader
from app.ledger.prove import Prover
from app.tlog.proof import verify_inclusion
from app.tlog.tile import ExpandedTile, expand_tile, prove_inclusion_from_tiles
from app.tlog.tree import leaf_hash
from app.wiring import Installation
from scripts.bench.figures import Figure, Goal, at_most, open_parser, profile_top, show
from scripts.bench.large import seed_log
from scripts.bench.load import Load, run_wrk
from scripts.bench.service import TENANT, Running, running_service

HOT_LEAVES = 200_000
"""Their 782 lowest tiles and all above fit into the prover's cache."""
COUNTED_PROOFS = 200
CLIENTS = (1, 8)
HOT_LIMIT_MS, COLD_LIMIT_MS, HTTP_LIMIT_MS = 0.1, 3.0, 10.0

_GET = """
wrk.headers["Authorization"] = "Bearer {token}"
math.randomseed({seed})
request = function()
  return wrk.format("GET", "/v1/proofs/inclusion?index=" .. math.random(0, {last}))
end
"""

Prove = Callable[[int], object]


def p99_ms(indexes: Iterable[int], prove: Prove) -> float:
    """Return the 99th percentile of the time of one proof."""
    taken_ns = []
    for index in indexes:
        started_ns = time.perf_counter_ns()
        prove(index)
        taken_ns.append(time.perf_counter_ns() - started_ns)
    return sorted(taken_ns)[len(taken_ns) * 99 // 100] / 1e6


def prove_cold(reader: LedgerReader, size: int, index: int) -> object:
    """Return a proof by a prover that has read nothing yet."""
    return Prover(reader).prove_inclusion(TENANT, index, size)


def count_reads(reader: LedgerReader, size: int, indexes: Iterable[int]) -> int:
    """Return the largest number of tiles that one of the proofs read."""
    reads: list[tuple[int, int]] = []

    def read_tile(level: int, number: int, width: int) -> ExpandedTile:
        reads.append((level, number))
        return expand_tile(reader.read_tile(TENANT, level, number, width))

    most = 0
    for index in indexes:
        reads.clear()
        prove_inclusion_from_tiles(index, size, read_tile)
        most = max(most, len(reads))
    return most


def require_valid(reader: LedgerReader, size: int, index: int) -> None:
    """Check one proof against the published root, so that what is timed is right."""
    prover = Prover(reader)
    root = prover.read_published(TENANT).root
    if size != prover.read_published(TENANT).size:
        raise SystemExit(f"the checkpoint is not at size {size}")
    [body] = reader.list_bodies(TENANT, index, index + 1)
    proof = prover.prove_inclusion(TENANT, index, size)
    verify_inclusion(index=index, size=size, leaf=leaf_hash(body), proof=proof, root=root)


def measure_library(service: Running, *, runs: int, proofs: int) -> list[Figure]:
    """Return the figures of the prover over the service's store."""
    store, name = Installation(service.settings).store, store_name(service)
    prover = Prover(store)
    size = prover.read_published(TENANT).size
    chosen = random.Random(1)
    require_valid(store, size, chosen.randrange(size))
    hot = range(max(0, size - HOT_LEAVES), size)
    for index in hot[::256]:
        prover.prove_inclusion(TENANT, index, size)
    whole = Prover(store)
    works: dict[str, tuple[range, Prove, list[Goal]]] = {
        "hot": (hot, partial(prove_with, prover, size), [at_most(HOT_LIMIT_MS)]),
        "cold": (range(size), partial(prove_cold, store, size), [at_most(COLD_LIMIT_MS)]),
        "whole log, cache of 2,048 tiles": (range(size), partial(prove_with, whole, size), []),
    }
    times: dict[str, list[float]] = {work: [] for work in works}
    for _ in range(runs):
        for work, (indexes, prove, _goals) in works.items():
            times[work].append(p99_ms(chosen.choices(indexes, k=proofs), prove))
    figures = [
        Figure(
            part="proof",
            work=f"{label(size)}, {name}, {work}",
            unit="ms",
            values=times[work],
            goals=goals,
            note=profile_top(partial(p99_ms, chosen.choices(indexes, k=proofs), prove)),
        )
        for work, (indexes, prove, goals) in works.items()
    ]
    figures += [count_figure(store, name, at) for at in (size // 100, size // 10, size)]
    store.close()
    return figures


def label(size: int) -> str:
    """Return what the rows of this part are called."""
    return f"inclusion proof at {size:,}, p99"


def prove_with(prover: Prover, size: int, index: int) -> object:
    """Return a proof by a prover that keeps its tiles."""
    return prover.prove_inclusion(TENANT, index, size)


def count_figure(reader: LedgerReader, name: str, size: int) -> Figure:
    """Return the most tiles read for one proof at this size: at most two to a level."""
    levels = -(-(size - 1).bit_length() // 8)
    indexes = random.Random(2).choices(range(size), k=COUNTED_PROOFS)
    most = count_reads(reader, size, [0, size - 1, *indexes])
    return Figure(
        part="proof",
        work=f"tile reads of a proof at {size:,}, at most, {name}",
        unit="tiles",
        values=[most],
        goals=[at_most(2 * levels)],
    )


def measure_http(service: Running, *, runs: int, seconds: int) -> list[Figure]:
    """Return the figures of `/v1/proofs/inclusion`; wrk is the client."""
    store = Installation(service.settings).store
    size = Prover(store).read_published(TENANT).size
    store.close()
    url = service.url + "/v1/proofs/inclusion"
    loads: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
    for run in range(runs):
        for clients in CLIENTS:
            lua = _GET.format(token=service.token, seed=run * 10 + clients, last=size - 1)
            loads[clients].append(run_wrk(url, lua, clients=clients, seconds=seconds))
    return [make_http_figure(label(size), store_name(service), clients, done) for clients, done in loads.items()]


def make_http_figure(work: str, name: str, clients: int, loads: list[Load]) -> Figure:
    """Return the latency over HTTP."""
    per_s = sorted(load.per_s for load in loads)[len(loads) // 2]
    return Figure(
        part="proof",
        work=f"{work}, {name}, HTTP, {clients} client{'s' * (clients > 1)}",
        unit="ms",
        values=[load.p99_ms for load in loads],
        goals=[at_most(HTTP_LIMIT_MS)],
        note=f"{per_s:,.0f} proofs/s",
        bad=sum(load.bad_status + load.failed for load in loads),
    )


def store_name(service: Running) -> str:
    """Return which store the service is on."""
    return "SQLite" if service.settings.embedded else "PostgreSQL"


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return all figures."""
    figures = []
    for database in asked.databases:
        with running_service("sql", database, seed=partial(seed_log, size=asked.leaves)) as service:
            figures += measure_library(service, runs=asked.runs, proofs=asked.proofs)
            figures += measure_http(service, runs=asked.runs, seconds=asked.seconds)
    return figures


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--proofs", type=int, default=2000, help="of one kind in one run (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="of one run over HTTP (%(default)s)")
    parser.add_argument("--databases", nargs="+", default=["postgresql", "sqlite"], choices=["postgresql", "sqlite"])
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
