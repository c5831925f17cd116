"""Payments under random faults, crashes and clocks keep the invariants of notes/payments.md, section 9.

1 one charge · 2 no FAILED while charged, no SUCCEEDED without · 3 one live attempt · 4 nothing is sent before it is
on record · 8 states only move forward · 9 time alone changes nothing. And the log tells the same story as the store.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.payments.intent import NEXT_STATES, IntentState
from app.payments.ports import Captured, Declined, NotSent, RequiresAction, Unknown
from app.payments.reconcile import reconcile
from app.payments.settle import Evidence, settle, weigh
from tests.fakes.payment_parts import ACTOR, Watch, make_intent, pay_now, start
from tests.fakes.payment_store import MemoryPaymentStore
from tests.fakes.psp import FAULTS, Crash, FakePsp

FINAL = {state for state, after in NEXT_STATES.items() if not after}
METHODS = ("pm_card_visa", "pm_card_visa", "pm_declined", "pm_challenge")
STATE_AFTER_ENTRY = {
    "payment.created": IntentState.CREATED,
    "payment.attempted": IntentState.PROCESSING,
    "payment.succeeded": IntentState.SUCCEEDED,
    "payment.declined": IntentState.FAILED,
    "payment.not_sent": IntentState.FAILED,
    "payment.unknown": IntentState.UNKNOWN,
    "payment.requires_action": IntentState.REQUIRES_ACTION,
}
HEALING_ROUNDS = 60
CLOCK_OFF_MAX_S = 1500  # a step is at most twice that: less than the margins of key and settle delay


class PaymentsUnderFaults(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()
        self.store = MemoryPaymentStore()
        self.psp = FakePsp(lambda: self.watch.true_at, on_request=self.check_on_record)
        self.seen: dict[str, list[IntentState]] = {}
        self.commits_to_crash = 0

    def check_on_record(self, attempt) -> None:
        stored = self.store.tables.attempts["acme", attempt.id]
        assert (stored.key, stored.request_hash) == (attempt.key, attempt.request_hash)
        assert self.store.list_actions(attempt.intent_id)[1] == "payment.attempted"
        assert self.store.open_transactions == 0

    def crash_at_commit(self, when: str) -> None:
        self.commits_to_crash -= 1
        if self.commits_to_crash == 0:
            raise Crash

    @contextlib.contextmanager
    def faults(self, faults, crash_at):
        """Let the PSP misbehave and the process die: at the nth point around its commits, if there are that many."""
        self.psp.faults.extend(faults)
        self.commits_to_crash = crash_at
        self.store.around_commit = self.crash_at_commit
        try:
            with contextlib.suppress(Crash):
                yield
        finally:
            self.stop_faults()

    def stop_faults(self) -> None:
        self.store.around_commit = lambda when: None
        self.psp.faults.clear()
        self.psp.lookups_fail = False

    def reconcile(self):
        return reconcile(
            store=self.store, connectors={"stripe": self.psp}, clock=self.watch.clock(), actor="system:reconcile"
        )

    @rule(
        method=st.sampled_from(METHODS),
        faults=st.lists(st.sampled_from(FAULTS), max_size=4),
        crash_at=st.integers(0, 4),
    )
    def pay(self, method, faults, crash_at) -> None:
        intent = start(self.store, make_intent(payment_method=method))
        self.seen[intent.id] = []
        with self.faults(faults, crash_at):
            pay_now(self.store, intent, self.psp, self.watch)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), faults=st.lists(st.sampled_from(FAULTS), max_size=4), crash_at=st.integers(0, 4))
    def pay_again(self, data, faults, crash_at) -> None:
        intent_id = data.draw(st.sampled_from(sorted(self.seen)))
        with self.faults(faults, crash_at):
            pay_now(self.store, self.store.tables.intents["acme", intent_id], self.psp, self.watch)

    @rule(
        faults=st.lists(st.sampled_from(FAULTS), max_size=6),
        lookups_fail=st.booleans(),
        crash_at=st.integers(0, 8),
    )
    def look_for_evidence(self, faults, lookups_fail, crash_at) -> None:
        self.psp.lookups_fail = lookups_fail
        with self.faults(faults, crash_at):
            self.reconcile()

    @rule(seconds=st.sampled_from([1, 20, 130, 400, 1000, 7300, 30_000, 82_000, 90_000]))
    def time_passes(self, seconds) -> None:
        before = dict(self.store.tables.intents)
        self.watch.advance(seconds)
        self.psp.deliver_late()
        assert self.store.tables.intents == before

    @rule(seconds=st.integers(-CLOCK_OFF_MAX_S, CLOCK_OFF_MAX_S))
    def our_clock_steps(self, seconds) -> None:
        self.watch.off = timedelta(seconds=seconds)

    @rule(lag_s=st.sampled_from([0, 60, 3600]))
    def search_lags(self, lag_s) -> None:
        self.psp.lag = timedelta(seconds=lag_s)

    @invariant()
    def one_charge_and_never_more_than_asked(self) -> None:
        for (_, payment), intent in self.store.tables.intents.items():
            charges = self.psp.live_charges(payment)
            assert len(charges) <= 1
            assert all(charge.money == intent.money for charge in charges)

    @invariant()
    def what_we_say_is_true(self) -> None:
        for (_, payment), intent in self.store.tables.intents.items():
            charges = len(self.psp.live_charges(payment))
            assert not (intent.state is IntentState.FAILED and charges)
            assert not (intent.state is IntentState.SUCCEEDED and not charges)

    @invariant()
    def one_live_attempt(self) -> None:
        live = [attempt.intent_id for attempt in self.store.tables.attempts.values() if not attempt.is_final]
        assert len(live) == len(set(live))

    @invariant()
    def states_only_move_forward(self) -> None:
        for (_, payment), intent in self.store.tables.intents.items():
            states = self.seen[payment]
            if not states or states[-1] is not intent.state:
                states.append(intent.state)
            assert all(state not in FINAL for state in states[:-1])
            assert len(states) == len(set(states))

    @invariant()
    def the_log_tells_the_same_story(self) -> None:
        told: dict[str, IntentState] = {}
        for _, draft in self.store.tables.entries:
            state = draft.data.get("state") or STATE_AFTER_ENTRY[draft.action]
            assert told.get(draft.ref["payment"]) != state
            told[draft.ref["payment"]] = IntentState(state)
        assert told == {payment: intent.state for (_, payment), intent in self.store.tables.intents.items()}

    def teardown(self) -> None:
        """Once everything works again, every payment that was sent finds its end."""
        self.stop_faults()
        for _ in range(HEALING_ROUNDS):
            self.watch.advance(self.psp.settle_delay_s)
            self.psp.deliver_late()
            self.reconcile()
        self.one_charge_and_never_more_than_asked()
        self.what_we_say_is_true()
        self.the_log_tells_the_same_story()
        for intent in self.store.tables.intents.values():
            waits_for_payer = intent.payment_method == "pm_challenge" and intent.state is IntentState.REQUIRES_ACTION
            assert intent.is_final or waits_for_payer or intent.state is IntentState.CREATED


TestPaymentsUnderFaults = PaymentsUnderFaults.TestCase
TestPaymentsUnderFaults.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)

CHARGED = (
    Captured(psp_reference="psp_1"),
    Captured(psp_reference="psp_1"),
    Unknown(code="lost"),
    Unknown(code="lost"),
    RequiresAction(psp_reference="psp_1"),
)
DECLINED = (Declined(code="card_declined"), Declined(code="card_declined"), Unknown(code="lost"))


@given(
    truth=st.sampled_from([(CHARGED, IntentState.SUCCEEDED), (DECLINED, IntentState.FAILED)]),
    order=st.randoms(use_true_random=False),
    late_refusals=st.integers(0, 2),
)
def test_answers_in_any_order_and_number_end_in_the_same_state(truth, order, late_refusals) -> None:
    """A refusal that a sleeping sender reports late is among them: it was seen before another send was counted."""
    outcomes, state = truth
    watch, store = Watch(), MemoryPaymentStore()
    psp = FakePsp(lambda: watch.true_at)
    psp.faults.extend(["crash_before"])
    intent = start(store, make_intent())
    with contextlib.suppress(Crash):
        pay_now(store, intent, psp, watch)
    (first,) = store.tables.attempts.values()
    sent_again = _count_send(store, first)
    answers = [(sent_again, outcome) for outcome in outcomes]
    answers += [(first, NotSent(code="refused"))] * late_refusals
    order.shuffle(answers)
    for seen, outcome in answers:
        with store.transaction() as tx:
            settle(tx, seen, outcome, evidence=Evidence.REPLY, now=watch.now_at, actor=ACTOR)
    assert store.tables.intents["acme", intent.id].state is state


def _count_send(store, attempt):
    sent = replace(attempt, sends=attempt.sends + 1)
    with store.transaction() as tx:
        tx.update_attempt(attempt, sent)
    return sent


OUTCOMES = (
    Captured(psp_reference="psp_1"),
    Declined(code="card_declined"),
    NotSent(code="refused"),
    Unknown(code="lost"),
    RequiresAction(psp_reference="psp_1"),
)


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=8))
def test_nothing_but_an_answer_ends_an_unknown(outcomes) -> None:
    said = None
    for before, outcome in itertools.pairwise([None, *outcomes]):
        was_unknown = isinstance(said, Unknown)
        said = weigh(said, outcome)
        assert not (was_unknown and isinstance(said, NotSent))
        assert before is None or said in OUTCOMES
