"""A clock that stands still, decisions, intents: what a payment needs besides a store and a PSP."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from app.payments.intent import Attempt, Intent, IntentState, plan_attempt
from app.payments.money import Money
from app.payments.pay import open_intent, pay
from app.payments.ports import Clock, Connector, PaymentStore
from app.policy.decision import Allow, Deny, Reason, Review

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRET = b"k" * 32
ACTOR = "merchant:shop"
NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Watch:
    """Time that moves only when it is told to. `off` is how far our wall clock is from the truth."""

    true_at: datetime = START
    off: timedelta = timedelta(0)
    slept_s: list[float] = field(default_factory=list)

    @property
    def now_at(self) -> datetime:
        return self.true_at + self.off

    def advance(self, seconds: float) -> None:
        self.true_at += timedelta(seconds=seconds)

    def read_elapsed_s(self) -> float:
        return (self.true_at - START).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.advance(seconds)

    def clock(self) -> Clock:
        return Clock(
            now=lambda: self.now_at,
            monotonic_s=self.read_elapsed_s,
            sleep=self.sleep,
            random=lambda: 0.5,
        )


def make_intent(*, payment_method: str = "pm_card_visa", amount_minor: int = 1099, currency: str = "EUR", **other):
    number = next(NUMBERS)
    values = {"tenant": "acme", "psp": "stripe", "created_at": START, "updated_at": START, **other}
    return Intent(
        id=f"pi_{number:032x}",
        money=Money(amount_minor=amount_minor, currency=currency),
        payment_method=payment_method,
        **values,
    )


def make_attempt(intent: Intent | None = None, *, now: datetime = START) -> Attempt:
    return plan_attempt(intent or make_intent(), attempt_id=f"pa_{next(NUMBERS):032x}", secret=SECRET, now=now)


def decide_with(answer: type[Allow | Deny | Review], *, code: str = "because", output: dict | None = None):
    reasons = (Reason(code=code, message="because"),)
    outcome = answer(reasons=reasons, output=output or {})

    def decide(intent: Intent) -> SimpleNamespace:
        return SimpleNamespace(decision_id=f"dec_{next(NUMBERS):032x}", outcome=outcome)

    return decide


allow = decide_with(Allow)


def start(store: PaymentStore, intent: Intent) -> Intent:
    with store.transaction() as tx:
        open_intent(tx, intent, actor=ACTOR)
    return intent


def pay_now(store: PaymentStore, intent: Intent, connector: Connector, watch: Watch, *, decide=allow) -> Intent:
    return pay(
        intent,
        store=store,
        connectors={"stripe": connector},
        decide=decide,
        attempt_id=f"pa_{next(NUMBERS):032x}",
        secret=SECRET,
        clock=watch.clock(),
        actor=ACTOR,
    )


def read_state(store: PaymentStore, intent: Intent) -> IntentState:
    found = store.find_intent(intent.tenant, intent.id)
    assert found is not None
    return found.state
