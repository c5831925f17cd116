"""The flow Pay with its real connector, over sockets that break: the same end as without faults, and one charge."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from app.adapters.connectors.sandbox import StripeSandbox
from app.adapters.connectors.sandbox_api import FAULTS
from app.adapters.connectors.stripe import StripeConnector
from app.payments.intent import IntentState
from app.payments.ports import Clock
from app.payments.reconcile import reconcile
from app.payments.settle import CHECK_AFTER_MAX_S
from tests.fakes.payment_parts import ACTOR, Watch, make_intent, pay_now, read_state, start
from tests.fakes.payment_store import MemoryPaymentStore

PATIENCE_S = 60
LATER = timedelta(seconds=CHECK_AFTER_MAX_S)


@pytest.fixture(scope="module")
def sandbox():
    with StripeSandbox(hold_s=5, slow_s=0.6) as running:
        yield running


@pytest.fixture
def connector(sandbox):
    connector = StripeConnector("sk_test_1", base_address=sandbox.url, connect_timeout_s=0.5, read_timeout_s=0.4)
    yield connector
    connector.close()


def run(store, connector, watch) -> None:
    reconcile(store=store, connectors={"stripe": connector}, clock=watch.clock(), actor="system:reconcile")


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"401"}))
def test_a_payment_through_any_fault_ends_charged_once_and_on_record(sandbox, connector, fault) -> None:
    store, watch = MemoryPaymentStore(), Watch()
    intent = start(store, make_intent(payment_method=f"pm_sandbox_{fault}"))
    pay_now(store, intent, connector, watch)
    if fault in {"slow", "late"}:  # really under way, while the watch stands still
        wait_for(lambda: intent.id in sandbox.api.book.list_live_charges())
    while read_state(store, intent) is IntentState.UNKNOWN:
        assert store.list_actions(intent.id)[-1] == "payment.unknown"
        watch.advance(CHECK_AFTER_MAX_S)
        run(store, connector, watch)
    assert read_state(store, intent) is IntentState.SUCCEEDED
    assert len(sandbox.api.book.list_live_charges()[intent.id]) == 1
    assert store.list_actions(intent.id)[-1] in {"payment.succeeded", "payment.reconciled"}


def test_a_payment_that_never_gets_through_is_unknown_until_absence_is_evidence(sandbox, connector) -> None:
    store, watch = MemoryPaymentStore(), Watch()
    intent = start(store, make_intent(payment_method="pm_sandbox_drop_before_always"))
    pay_now(store, intent, connector, watch)
    for _ in range(40):
        assert read_state(store, intent) is IntentState.UNKNOWN
        watch.advance(CHECK_AFTER_MAX_S)
        run(store, connector, watch)
        if read_state(store, intent) is not IntentState.UNKNOWN:
            break
    assert read_state(store, intent) is IntentState.FAILED
    assert store.tables.entries[-1][1].data["code"] == "no_such_reference"
    assert intent.id not in sandbox.api.book.list_live_charges()


def test_payments_and_reconcilers_at_once_charge_each_payment_once(sandbox, connector) -> None:
    store = MemoryPaymentStore()
    faults = ["drop_after", "500_after", "garbage", "502_before", "429", "half_body"]
    intents = [start(store, make_intent(payment_method=f"pm_sandbox_{fault}")) for fault in faults * 4]

    def work() -> None:
        for intent in intents:
            pay_now(store, intent, connector, RealTime())
        reconcile(store=store, connectors={"stripe": connector}, clock=RealTime(ahead=LATER).clock(), actor=ACTOR)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    reconcile(store=store, connectors={"stripe": connector}, clock=RealTime(ahead=2 * LATER).clock(), actor=ACTOR)
    charges = sandbox.api.book.list_live_charges()
    assert {read_state(store, intent) for intent in intents} == {IntentState.SUCCEEDED}
    assert [len(charges[intent.id]) for intent in intents] == [1] * len(intents)


@dataclass(frozen=True)
class RealTime:
    ahead: timedelta = timedelta(0)

    def clock(self) -> Clock:
        return Clock(
            now=lambda: datetime.now(UTC) + self.ahead,
            monotonic_s=time.monotonic,
            sleep=time.sleep,
            random=random.random,
        )


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
