"""Decisions over HTTP, logged before they are acted on, against single appends of the same service: issue 3, section 6.

    python -m scripts.bench.decide [--runs 5] [--seconds 5] [--clients 64]

The request is a payment that the policy denies, so that no PSP is in the figure: it is opened, its payer sealed,
decided, the decision logged with its sealed input, and turned away. That is four entries in three transactions,
answered with the receipt of the last; the yardstick is one entry in one transaction, answered with its receipt.
"""

from __future__ import annotations

import argparse
import json
import uuid

from scripts.bench.append import BODY, WARM_UP_S
from scripts.bench.figures import Figure, at_least, open_parser, show
from scripts.bench.load import Load, post, run_wrk
from scripts.bench.receipts import count_bad
from scripts.bench.service import Running, running_service

CLIENTS = 64
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
    """Return the rate of decided payments and its 99th percentile."""
    with running_service("sql", asked.database) as service:
        appends: list[Load] = []
        decided: list[Load] = []
        _pay(service, asked.clients, WARM_UP_S)
        _append(service, asked.clients, WARM_UP_S)
        for _ in range(asked.runs):
            appends.append(_append(service, asked.clients, asked.seconds))
            decided.append(_pay(service, asked.clients, asked.seconds))
    work = f"payment decided, denied and logged, {asked.database}, 2 web processes, {asked.clients} clients"
    rate = Figure(
        part="decide",
        work=work,
        unit="/s",
        values=[load.per_s for load in decided],
        yardstick="single append with receipt",
        yardstick_values=[load.per_s for load in appends],
        goals=[at_least(0.5)],
        note="4 entries in 3 transactions each",
        bad=count_bad(decided) + count_bad(appends),
    )
    p99 = Figure(part="decide", work=f"{work}, p99", unit="ms", values=[load.p99_ms for load in decided])
    return [rate, p99]


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
