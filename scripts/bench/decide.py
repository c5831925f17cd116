"""Decisions over HTTP, logged before they are acted on, against single appends of the same service: issue 3, section 6.

    python -m scripts.bench.decide [--runs 5] [--seconds 5] [--clients 64]

`POST /v1/decisions` decides a payment's question for a new person: the policy is asked, the input sealed, the entry
appended, and the receipt answered. Beside it, without a goal, a payment that the policy denies, so that no PSP is in
the figure: four entries in three transactions, answered with the receipt of the last. The yardstick is one entry in one
transaction, answered with its receipt.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Sequence

from app.policy.query import payment_query
from scripts.bench.append import BODY, WARM_UP_S
from scripts.bench.figures import Figure, Goal, at_least, open_parser, show
from scripts.bench.load import Load, post, run_wrk
from scripts.bench.receipts import count_bad
from scripts.bench.service import Running, running_service

CLIENTS = 64
QUERY = payment_query(
    amount_minor=1499, currency="EUR", country="DE", payer_name="Ada Example", payer_country="DE", payment_id="pi_1"
)
PAYMENT = {
    "amount_minor": 1499,
    "currency": "EUR",
    "country": "DE",
    "payment_method": {"stripe": "pm_card_visa"},
    "payer": {"name": "Ada Example", "email": "ada@example.com", "country": "KP"},
}
_PAY = """
local number = 0
wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {token}"
wrk.headers["Prefer"] = "wait=10"
request = function()
  number = number + 1
  wrk.headers["Idempotency-Key"] = "{run}-" .. number
  return wrk.format()
end
"""


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return the rates of decisions and of decided payments, each with its 99th percentile."""
    where = f"{asked.database}, 2 web processes, {asked.clients} clients"
    with running_service("sql", asked.database) as service:
        works = {"append": _append, "decision": _decide, "payment": _pay}
        loads: dict[str, list[Load]] = {name: [] for name in works}
        for work in works.values():
            work(service, asked.clients, WARM_UP_S)
        for _ in range(asked.runs):
            for name, work in works.items():
                loads[name].append(work(service, asked.clients, asked.seconds))
    decision = f"decision with sealed input, logged, with receipt, {where}"
    payment = f"payment decided, denied and logged, {where}"
    return [
        _make_rate(decision, loads["decision"], loads["append"], goals=[at_least(0.5)]),
        _make_p99(decision, loads["decision"]),
        _make_rate(payment, loads["payment"], loads["append"], note="4 entries in 3 transactions each"),
        _make_p99(payment, loads["payment"]),
    ]


def _make_rate(
    work: str, loads: list[Load], appends: list[Load], *, goals: Sequence[Goal] = (), note: str = ""
) -> Figure:
    return Figure(
        part="decide",
        work=work,
        unit="/s",
        values=[load.per_s for load in loads],
        yardstick="single append with receipt",
        yardstick_values=[load.per_s for load in appends],
        goals=list(goals),
        note=note,
        bad=count_bad(loads) + count_bad(appends),
    )


def _make_p99(work: str, loads: list[Load]) -> Figure:
    return Figure(part="decide", work=f"{work}, p99", unit="ms", values=[load.p99_ms for load in loads])


def _decide(service: Running, clients: int, seconds: int) -> Load:
    body = json.dumps({"entrypoint": QUERY.entrypoint, "input": dict(QUERY.document)}).encode()
    return post(service.url + "/v1/decisions", body, token=service.token, clients=clients, seconds=seconds)


def _append(service: Running, clients: int, seconds: int) -> Load:
    return post(service.url + "/v1/entries", BODY, token=service.token, clients=clients, seconds=seconds)


def _pay(service: Running, clients: int, seconds: int) -> Load:
    lua = _PAY.format(body=json.dumps(PAYMENT), token=service.token, run=uuid.uuid4().hex)
    return run_wrk(service.url + "/v1/payments", lua, clients=clients, seconds=seconds)


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--database", default="postgresql", choices=["postgresql", "sqlite"])
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
