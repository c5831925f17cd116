"""Where the processor time goes inside our own processes: one append, one line of a batch, one published entry.

    python -m scripts.bench.request_profile [--runs 5] [--requests 500] [--database postgresql] [--functions 0]

The WSGI application is called in this process, without a server. The time is the thread's, measured without the
profiler; cProfile, which slows small functions down more than large ones, only says how it is shared out. Time in C
functions counts for the module that called them. What other threads do for a request (group commit, waking) is the
difference to the processes' time in `scripts.bench.cpu`.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import itertools
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.web.app import create_app
from app.wiring import Installation, build_services
from scripts.bench.append import BODY
from scripts.bench.batch import LINES, make_request
from scripts.bench.figures import Figure, open_parser, show
from scripts.bench.large import make_rows
from scripts.bench.service import TENANT, prepare
from tests.parts.postgres import running_postgres
from tests.parts.web import publishing

WARM_UP = 20
PUBLISH_ROWS = 64
SHARE_SHOWN = 0.01
OWN_PARTS = ("web", "ledger", "tlog", "credentials", "adapters", "settings", "wiring")
MODULES = {
    "flask_openapi3": "flask-openapi3, pydantic",
    "pydantic": "flask-openapi3, pydantic",
    "flask": "Flask, Werkzeug",
    "werkzeug": "Flask, Werkzeug",
    "sqlalchemy": "SQLAlchemy",
    "psycopg": "psycopg",
    "nacl": "PyNaCl",
}

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Shares:
    """Processor time of one unit of work in microseconds, by run; the shares of its parts; the profile itself."""

    cpu_us: list[float]
    parts: dict[str, float]
    stats: pstats.Stats


def measure_shares(work: Work, *, runs: int, times: int, units: int, before: Work = lambda: None) -> Shares:
    """Return what `work`, done so many times, costs: each time `units`, after `before`, which is not counted."""
    for _ in range(WARM_UP):
        before()
        work()
    cpu_us = []
    for _ in range(runs):
        cpu_s = 0.0
        for _ in range(times):
            before()
            started_s = time.thread_time()
            work()
            cpu_s += time.thread_time() - started_s
        cpu_us.append(cpu_s / (times * units) * 1e6)
    profile = cProfile.Profile(time.thread_time)
    for _ in range(times):
        before()
        profile.runcall(work)
    stats = pstats.Stats(profile)
    taken = sum_by_part(stats)
    whole = sum(taken.values())
    return Shares(cpu_us, {part: share / whole for part, share in taken.items()}, stats)


def sum_by_part(stats: pstats.Stats) -> dict[str, float]:
    """Return the time of each part; C functions belong to their callers."""
    taken: defaultdict[str, float] = defaultdict(float)
    for function, (_calls, _primitive, own_s, _whole, callers) in list_functions(stats):
        if function[0] != "~":
            taken[name_part(function[0])] += own_s
            continue
        for caller, (_c, _p, share_s, _w) in callers.items():
            taken[name_part(caller[0])] += share_s
    return taken


def list_functions(stats: pstats.Stats) -> Iterator[tuple[Any, Any]]:
    """Return the profile's rows."""
    yield from stats.stats.items()  # type: ignore[attr-defined]  # typeshed does not have it


def name_part(file: str) -> str:
    """Return which part a source file belongs to."""
    path = Path(file).parts
    if "app" in path[:-1] and "site-packages" not in path:
        package = path[path.index("app") + 1].removesuffix(".py")
        return f"app.{package}" if package in OWN_PARTS else "app"
    top = path[path.index("site-packages") + 1] if "site-packages" in path else ""
    return next((name for module, name in MODULES.items() if top.startswith(module)), "the rest")


def make_environment(path: str, body: bytes, token: str, prefer: str) -> dict[str, Any]:
    """Return the WSGI environment of one request."""
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/x-ndjson" if path.endswith(":batch") else "application/json",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "HTTP_PREFER": prefer,
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BytesIO(body),
    }


def measure_requests(installation: Installation, token: str, asked: argparse.Namespace) -> dict[str, Shares]:
    """Return the shares of a single append with its receipt, and of a line of a batch."""
    application = create_app(build_services(installation))

    def call(path: str, body: bytes, prefer: str, wanted: str) -> Work:
        def work() -> None:
            answers: list[str] = []

            def start(status: str, *_: object) -> Callable[[bytes], object]:
                answers.append(status)
                return bytes

            answer = b"".join(application(make_environment(path, body, token, prefer), start))
            if not answers[0].startswith(wanted) or b'"error"' in answer:
                raise SystemExit(f"{path} answered {answers[0]}")

        return work

    single, batch = call("/v1/entries", BODY, "wait=10", "201"), call("/v1/entries:batch", make_request(), "", "200")
    with publishing(installation):
        alone = measure_shares(single, runs=asked.runs, times=asked.requests, units=1)
        in_batch = measure_shares(batch, runs=asked.runs, times=max(5, asked.requests // 20), units=LINES)
    return {"request thread, single append with receipt": alone, "request thread, line of a batch": in_batch}


def measure_publishing(installation: Installation, asked: argparse.Namespace) -> Shares:
    """Return the shares of the sequencer's steps, 64 entries to a step."""
    first_rows = itertools.count(1, PUBLISH_ROWS)

    def append() -> None:
        with installation.store.transaction() as tx:
            tx.append_entries(make_rows(next(first_rows), PUBLISH_ROWS))

    with installation.sequencer(installation.read_tenant(TENANT)) as sequencer:
        while sequencer.step():
            pass
        times = max(5, asked.requests // 5)
        return measure_shares(sequencer.step, runs=asked.runs, times=times, units=PUBLISH_ROWS, before=append)


def make_figures(work: str, shares: Shares) -> list[Figure]:
    """Return one figure for each part, largest first, after the whole."""
    parts = sorted(shares.parts.items(), key=lambda part: -part[1])
    whole = Figure(part="profile", work=work, unit="µs", values=shares.cpu_us)
    return [
        whole,
        *(
            Figure(part="profile", work=f"{work}: {part}", unit="µs", values=[value * share for value in shares.cpu_us])
            for part, share in parts
            if share >= SHARE_SHOWN
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of one run (%(default)s)")
    parser.add_argument("--database", default="postgresql", choices=["postgresql", "sqlite"])
    parser.add_argument("--functions", type=int, default=0, help="print so many functions of each profile")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-bench-")))
        server = stack.enter_context(running_postgres()) if asked.database == "postgresql" else None
        url = server.create_database() if server else None
        settings = Settings(state_dir=folder, database_url=url, rate_limit_per_minute=10**9)
        token = prepare(settings)
        installation = Installation(settings)
        profiles = measure_requests(installation, token, asked)
        profiles["sequencer, published entry"] = measure_publishing(installation, asked)
    print_functions(profiles, asked)
    show([figure for work, shares in profiles.items() for figure in make_figures(work, shares)], asked)


def print_functions(profiles: dict[str, Shares], asked: argparse.Namespace) -> None:
    """Print the functions that take most."""
    for work, shares in profiles.items():
        if asked.functions:
            print(f"== {work}")
            shares.stats.sort_stats("tottime").print_stats(asked.functions)


if __name__ == "__main__":
    main()
