"""`POST /v1/entries:batch` of 1,000 lines, from keep-alive clients in processes of their own, on PostgreSQL.

    python -m scripts.bench.batch [--runs 5] [--batches 200]

Yardstick of the same run and server: psycopg `INSERT … SELECT unnest` of the same rows, one connection, 1,000 rows to
a commit, into a plain table with the primary key of ours. Only lines answered "appended" and not replayed count.
"""

from __future__ import annotations

import statistics
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPConnection
from multiprocessing import get_context
from typing import LiteralString
from urllib.error import HTTPError
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import psycopg
import uuid_utils

from app.ledger.entry import Draft, format_entry
from app.wiring import new_entry_id
from scripts.bench.cpu import POSTGRESQL, Usage, read_usage
from scripts.bench.figures import Figure, Goal, at_least, open_parser, show
from scripts.bench.service import TENANT, Running, running_service

LINES = 1000
CLIENTS = 4  # of two, both connections may come to one web process
ACTION = "document.recorded"
POST_LIMIT_S = 60
PUBLISH_LIMIT_S = 120.0
POLL_S = 0.01
AIM = "aim 0.60"

_CREATE: LiteralString = """
CREATE TABLE IF NOT EXISTS yardstick (
    tenant text NOT NULL, seq bigint GENERATED ALWAYS AS IDENTITY, id uuid NOT NULL, body bytea NOT NULL,
    action text NOT NULL, PRIMARY KEY (tenant, seq))"""
_INSERT: LiteralString = """
INSERT INTO yardstick (tenant, id, body, action)
SELECT %b, r.id, r.body, r.action FROM unnest(%b::uuid[], %b::bytea[], %b::text[]) AS r (id, body, action)"""


@dataclass(frozen=True, slots=True)
class Posted:
    """What one client did: its first request and last answer by the machine's clock, lines appended and not."""

    started_s: float
    ended_s: float
    appended: int
    refused: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of all clients: entries per second until answered and until published, refused lines, CPU by part."""

    answered_per_s: float
    published_per_s: float
    refused: int
    cpu_us: dict[str, float]


@dataclass(frozen=True, slots=True)
class Inserted:
    """One run of the yardstick: rows per second, and CPU for a row of client and server together."""

    rows_per_s: float
    cpu_us: float


def make_data(number: int) -> dict[str, str | int]:
    """Return the data of one line; its entry has about 470 bytes."""
    return {
        "kind": "contract.signed.by_both_parties.third_edition.with_annexes_a_f",
        "sha256": sha256(number.to_bytes(8, "big")).hexdigest(),
        "title": "Framework agreement between the merchant and its carrier - third edition with annexes A to F"
        " - kept for ten years in Berlin",
        "size_bytes": 48213,
    }


def make_request() -> bytes:
    """Return the lines of one request."""
    return b"".join(orjson.dumps({"action": ACTION, "data": make_data(number)}) + b"\n" for number in range(LINES))


def post_batches(url: str, token: str, batches: int, *, keyed: bool) -> Posted:
    """Post one batch after the other over one connection; runs in a client's process."""
    body, address = make_request(), urlsplit(url).netloc
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    connection = HTTPConnection(address, timeout=POST_LIMIT_S)
    connection.connect()
    appended = 0
    started_s = time.monotonic()
    for _ in range(batches):
        key = {"Idempotency-Key": str(uuid_utils.uuid7())} if keyed else {}
        connection.request("POST", "/v1/entries:batch", body, headers | key)
        answer = connection.getresponse()
        appended += sum(map(is_appended, answer.read().splitlines()))
    ended_s = time.monotonic()
    connection.close()
    return Posted(started_s, ended_s, appended, batches * LINES - appended)


def is_appended(line: bytes) -> bool:
    """Say whether this line of the answer tells of a new entry; parsing it would take a fortieth of the machine."""
    return line.endswith(b'"status":"appended","replayed":false}')


def read_size(service: Running) -> int:
    """Return the size of the newest public checkpoint, 0 before the first."""
    try:
        with urllib.request.urlopen(f"{service.url}/{TENANT}/checkpoint", timeout=5) as answer:  # noqa: S310 -- loopback
            return int(answer.read().split(b"\n")[1])
    except HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return 0


def wait_for_size(service: Running, size: int) -> float:
    """Return when the checkpoint reached `size`, by the machine's clock."""
    deadline_s = time.monotonic() + PUBLISH_LIMIT_S
    while read_size(service) < size:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"not published within {PUBLISH_LIMIT_S} s")
        time.sleep(POLL_S)
    return time.monotonic()


def run_clients(pool: ProcessPoolExecutor, service: Running, *, clients: int, batches: int, keyed: bool) -> Run:
    """Have each client post its share, and wait until everything is published."""
    size, before = read_size(service), read_usage()
    share = batches // clients
    tasks = [pool.submit(post_batches, service.url, service.token, share, keyed=keyed) for _ in range(clients)]
    posted = [task.result() for task in tasks]
    appended = sum(client.appended for client in posted)
    published_at_s = wait_for_size(service, size + appended)
    after = read_usage()
    started_s = min(client.started_s for client in posted)
    return Run(
        appended / (max(client.ended_s for client in posted) - started_s),
        appended / (published_at_s - started_s),
        sum(client.refused for client in posted),
        {part: total_us(after[part] - before[part]) / appended for part in after},
    )


def total_us(usage: Usage) -> float:
    """Return user and system time together, in microseconds."""
    return (usage.user_s + usage.system_s) * 1e6


def open_yardstick(url: str) -> Callable[[int], Inserted]:
    """Return what inserts so many batches into the plain table, and says how fast."""
    connection = psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:"))
    connection.execute(_CREATE)
    connection.commit()
    drafts = [Draft(action=ACTION, actor="merchant:bench", data=make_data(number)) for number in range(LINES)]
    bodies = [format_entry(draft, entry_id=new_entry_id()) for draft in drafts]
    actions = [ACTION] * LINES

    def insert(batches: int) -> Inserted:
        ids: list[list[UUID]] = [[new_entry_id() for _ in range(LINES)] for _ in range(batches)]
        before, client_s = read_usage()[POSTGRESQL], time.thread_time()
        started_s = time.perf_counter()
        for batch in ids:
            connection.execute(_INSERT, (TENANT, batch, bodies, actions))
            connection.commit()
        took_s, rows = time.perf_counter() - started_s, batches * LINES
        server_us = total_us(read_usage()[POSTGRESQL] - before)
        return Inserted(rows / took_s, server_us / rows + (time.thread_time() - client_s) * 1e6 / rows)

    return insert


def measure(*, runs: int, batches: int) -> list[Figure]:
    """Return the figures of one client and of several, without and with idempotency keys."""
    kinds = [(CLIENTS, False), (CLIENTS, True), (1, False), (1, True)]
    found: dict[tuple[int, bool], list[Run]] = {kind: [] for kind in kinds}
    inserted: list[Inserted] = []
    spawn = get_context("spawn")
    with running_service("sql", "postgresql") as service, ProcessPoolExecutor(CLIENTS, mp_context=spawn) as pool:
        yardstick = open_yardstick(service.settings.database)
        wait_for_size(service, 1)  # what `prepare` wrote
        for clients, keyed in kinds:  # warm up
            run_clients(pool, service, clients=clients, batches=max(clients, batches // 10), keyed=keyed)
        yardstick(max(1, batches // 10))
        for _ in range(runs):
            inserted.append(yardstick(batches))
            for clients, keyed in kinds:
                run = run_clients(pool, service, clients=clients, batches=batches, keyed=keyed)
                found[clients, keyed].append(run)
    return [
        figure
        for (clients, keyed), done in found.items()
        for figure in make_figures(done, inserted, clients=clients, keyed=keyed)
    ]


def make_figures(done: list[Run], inserted: list[Inserted], *, clients: int, keyed: bool) -> list[Figure]:
    """Return the rate until answered and, for the row of the table, until published."""
    work = f"`entries:batch` of 1,000, {clients} client{'s' * (clients > 1)}{', with idempotency keys' * keyed}"
    medians = {part: statistics.median(run.cpu_us[part] for run in done) for part in done[0].cpu_us}
    split = ", ".join(f"{part} {value:.1f}" for part, value in medians.items())
    plain_us = statistics.median(run.cpu_us for run in inserted)
    rows_per_s = [run.rows_per_s for run in inserted]
    counts = clients == CLIENTS and not keyed
    goals: list[Goal] = [at_least(0.40)] if counts else []
    answered = Figure(
        part="batch",
        work=work,
        unit="entries/s",
        values=[run.answered_per_s for run in done],
        yardstick="psycopg unnest, rows/s",
        yardstick_values=rows_per_s,
        goals=goals,
        note=f"{AIM + '; ' if counts else ''}CPU µs/entry: {split}; yardstick {plain_us:.1f}",
        bad=sum(run.refused for run in done),
    )
    published = Figure(
        part="batch",
        work=f"{work}, until the last is published",
        unit="entries/s",
        values=[run.published_per_s for run in done],
        yardstick=answered.yardstick,
        yardstick_values=rows_per_s,
    )
    return [answered, published] if counts else [answered]


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--batches", type=int, default=200, help="in one run, over all clients (%(default)s)")
    asked = parser.parse_args()
    show(measure(runs=asked.runs, batches=asked.batches), asked)


if __name__ == "__main__":
    main()
