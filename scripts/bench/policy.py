"""Decisions per second and their latency: the embedded engine, the same against an OPA server, and a large table.

    python -m scripts.bench.policy [--runs 5] [--decisions 2000]

The questions are those that the tests of policies/payments ask of `payments/decide`: some 500 lines of Rego in seven
packages. Yardstick of the same run: an OPA server on loopback, asked by `OpaEngine` over one kept-alive connection; and
beside it by http.client, to tell OPA from its Python client. One thread asks; engines take turns.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

from app.adapters.opa import OpaEngine
from app.adapters.opa_process import running_opa
from app.adapters.opa_tools import find_tool
from app.adapters.rego import RegoEngine
from app.policy.bundle import load_bundle, make_bundle
from app.policy.ports import EngineFailed, PolicyEngine
from app.policy.query import PAYMENT_ENTRYPOINT, Query
from scripts.bench.figures import Figure, at_least, at_most, open_parser, show
from scripts.bench.report import ROOT
from tests.parts.policy_inputs import catch_inputs

POLICIES = ROOT / "policies"
ROWS = 10_000
WARM_UP = 200
OPA_TIMEOUT_S = 10.0
MEDIAN_GOAL_MS = 1.0
P99_GOAL_MS = 5.0
RATIO_GOAL = 3.0
LOOKUP_GOAL_US = 100.0
TABLE = b'package table\n\ndecide := {"row": data.data.rows.by_id[input.id]}\n'

Ask = Callable[[Query], object]


def make_table() -> tuple[dict[str, bytes], list[Query]]:
    """Return the files of a bundle with a table, and questions for its rows."""
    rows = {f"row_{number:05d}": {"country": "DE", "limit": number} for number in range(ROWS)}
    files = {"table/table.rego": TABLE, "data/rows/data.json": json.dumps({"version": "1", "by_id": rows}).encode()}
    asked = [Query(entrypoint="table/decide", document={"id": key}) for key in list(rows)[:: ROWS // 100]]
    return files, asked


def ask_by(engine: PolicyEngine, digest: str) -> Ask:
    """Return what asks this engine."""
    return lambda query: engine.evaluate(query.entrypoint, query.document, bundle_digest=digest)


@contextmanager
def asking_bare(url: str) -> Iterator[Ask]:
    """Give what asks OPA by http.client: no checks, no deadline."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:

        def ask(query: Query) -> object:
            body = json.dumps({"input": query.document})
            connection.request("POST", f"/v1/data/{query.entrypoint}", body, {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())["result"]

        yield ask


def time_each(ask: Ask, questions: list[Query], number: int) -> list[float]:
    """Return the time of each of `number` answers, in ms."""
    taken = []
    for question in itertools.islice(itertools.cycle(questions), number):
        started_ns = time.perf_counter_ns()
        ask(question)
        taken.append((time.perf_counter_ns() - started_ns) / 1e6)
    return taken


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return the figures."""
    policies = load_bundle(POLICIES, name="assay")
    files, lookups = make_table()
    table = make_bundle(files, name="table")
    bundles = {bundle.digest: bundle for bundle in (policies, table)}
    program = find_tool("opa")
    if program is None:
        raise SystemExit("there is no opa: run `make tools`")
    with ExitStack() as stack:
        server = stack.enter_context(running_opa(program, policies, by_socket=False))
        embedded = stack.enter_context(closing(RegoEngine(bundles.__getitem__)))
        opa = stack.enter_context(closing(OpaEngine(server.url, timeout_s=OPA_TIMEOUT_S)))
        ways = {
            "embedded": ask_by(embedded, policies.digest),
            "opa": ask_by(opa, policies.digest),
            "bare": stack.enter_context(asking_bare(server.url)),
        }
        questions = list_answered(ways["embedded"])
        runs: dict[str, list[list[float]]] = {name: [] for name in (*ways, "table")}
        for ask in ways.values():
            time_each(ask, questions, WARM_UP)
        look_up = ask_by(embedded, table.digest)
        time_each(look_up, lookups, WARM_UP)
        for _ in range(asked.runs):
            for name, ask in ways.items():
                runs[name].append(time_each(ask, questions, asked.decisions))
            runs["table"].append(time_each(look_up, lookups, asked.decisions))
    return make_figures(runs)


def list_answered(ask: Ask) -> list[Query]:
    """Return the questions of the tests that the policy answers."""
    caught = catch_inputs(load_bundle(POLICIES, name="assay", with_tests=True))
    answered = []
    for question in caught:
        with suppress(EngineFailed):
            if question.entrypoint == PAYMENT_ENTRYPOINT:
                ask(question)
                answered.append(question)
    return answered


def make_figures(runs: dict[str, list[list[float]]]) -> list[Figure]:
    """Return the figures of all runs, each a list of times in ms."""
    rates = {name: [1000 * len(taken) / sum(taken) for taken in of] for name, of in runs.items()}

    def p99(of: list[float]) -> float:
        return statistics.quantiles(of, n=100)[98]

    embedded, rate = runs["embedded"], rates["embedded"]
    work = "`payments/decide`, embedded engine, one thread"
    table = f"look-up by id in a table of {ROWS:,} rows, embedded engine, median"
    medians = list(map(statistics.median, embedded))
    look_ups = [1000 * statistics.median(taken) for taken in runs["table"]]
    figure = partial(Figure, part="policy")
    beside_opa = partial(figure, work=work, unit="/s", values=rate, yardstick="OPA by `OpaEngine`")
    beside_bare = partial(figure, work=work, unit="/s", values=rate, yardstick="OPA by http.client")
    return [
        figure(work=f"{work}, median", unit="ms", values=medians, goals=[at_most(MEDIAN_GOAL_MS)]),
        figure(work=f"{work}, p99", unit="ms", values=list(map(p99, embedded)), goals=[at_most(P99_GOAL_MS)]),
        beside_opa(yardstick_values=rates["opa"], goals=[at_least(RATIO_GOAL)]),
        beside_bare(yardstick_values=rates["bare"]),
        figure(work=table, unit="µs", values=look_ups, goals=[at_most(LOOKUP_GOAL_US)]),
    ]


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--decisions", type=int, default=2_000, help="in one run (%(default)s)")
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
