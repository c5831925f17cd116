"""Group decisions: every caller is told once, whatever happens to the others."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from app.errors import Rejected, Unavailable
from app.ledger.wait import Waiter
from app.policy.query import Query
from app.subjects import group as module
from app.subjects.decider import Case, Ready
from app.subjects.group import CASES_LIMIT, GroupDecide

BUNDLES = {"acme": SimpleNamespace(digest="a"), "other": SimpleNamespace(digest="o")}


def make_case(number, tenant="acme"):
    query = Query(entrypoint="a/b", document={"n": number})
    return Case(tenant=tenant, actor="merchant:shop", subject=f"sub_{number}", ref={}, query=query)


class Parts:
    """A decider and a commit that do what they are told, and remember what they were asked."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Semaphore(0)
        self.groups = []
        self.refused = {}
        self.broken = None
        self.full = set()
        self.failing = set()
        self.committed = []

    def prepare(self, cases, *, bundle):
        self.asked.release()
        assert self.gate.wait(20)
        self.groups.append((bundle.digest, [case.subject for case in cases]))
        if self.broken:
            raise self.broken
        return [self.refused.get(case.subject) or self.ready(case) for case in cases]

    @staticmethod
    def ready(case):
        row = SimpleNamespace(tenant=case.tenant, subject=case.subject)
        return Ready(decision=SimpleNamespace(of=case.subject), row=row, newcomer=f"newcomer {case.subject}")

    def append_then(self, rows, done, *, kept):
        self.commit(rows[0], kept, done, [SimpleNamespace(seq=1)])

    def publish_then(self, row, done, *, timeout_s, kept):
        self.commit(row, kept, done, (SimpleNamespace(seq=1), f"published within {timeout_s}"))

    def commit(self, row, kept, done, outcome):
        if row.subject in self.full:
            raise Unavailable("full", code="overloaded")
        self.committed.append((row.subject, kept))
        if row.subject in self.failing:
            done.fail(Unavailable("the store is away"))
        else:
            done.give(outcome)


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def decide(parts, monkeypatch):
    monkeypatch.setattr(module, "LANES", 1)
    group = GroupDecide(parts, find_bundle=BUNDLES.__getitem__, commit=parts)

    def hand_in(case, wait_s=None):
        waiter = Waiter()
        group.decide_then(case, waiter, wait_s=wait_s)
        return waiter

    yield hand_in
    parts.gate.set()


def hold_back(parts, decide):
    """Let a first case reach the engine and wait there, so that the next ones queue up behind it."""
    parts.gate.clear()
    first = decide(make_case(0))
    assert parts.asked.acquire(timeout=20)
    return first


def test_cases_that_wait_are_decided_together_and_each_caller_gets_its_own_decision(parts, decide):
    first = hold_back(parts, decide)
    waiters = [decide(make_case(number), wait_s=7 if number % 2 else None) for number in range(1, 11)]
    parts.gate.set()
    assert first.wait().decision.of == "sub_0"
    for number, waiter in enumerate(waiters, 1):
        logged = waiter.wait()
        assert (logged.decision.of, logged.row.subject) == (f"sub_{number}", f"sub_{number}")
        assert logged.position == ("published within 7" if number % 2 else None)
    assert [len(subjects) for _, subjects in parts.groups] == [1, 10]
    assert parts.committed == [(f"sub_{number}", f"newcomer sub_{number}") for number in range(11)]


def test_no_more_are_decided_together_than_the_limit(parts, decide):
    first = hold_back(parts, decide)
    waiters = [decide(make_case(number)) for number in range(1, CASES_LIMIT + 3)]
    parts.gate.set()
    for waiter in (first, *waiters):
        waiter.wait()
    assert [len(subjects) for _, subjects in parts.groups] == [1, CASES_LIMIT, 2]


def test_each_tenant_is_decided_by_its_own_bundle_and_one_without_fails_alone(parts, decide):
    first = hold_back(parts, decide)
    ours, theirs, nobodys = (decide(make_case(n, tenant)) for n, tenant in enumerate(("acme", "other", "nobody"), 1))
    parts.gate.set()
    for waiter in (first, ours, theirs):
        waiter.wait()
    with pytest.raises(KeyError):
        nobodys.wait()
    assert parts.groups[1:] == [("a", ["sub_1"]), ("o", ["sub_2"])]


def test_what_cannot_be_logged_fails_its_own_caller_and_nobody_else(parts, decide):
    first = hold_back(parts, decide)
    parts.refused = {"sub_1": Rejected("too much", code="entry_too_large")}
    parts.full = {"sub_2"}
    parts.failing = {"sub_3"}
    waiters = [decide(make_case(number)) for number in range(1, 5)]
    parts.gate.set()
    first.wait()
    for waiter, error in zip(waiters[:3], (Rejected, Unavailable, Unavailable), strict=True):
        with pytest.raises(error):
            waiter.wait()
    assert waiters[3].wait().decision.of == "sub_4"


def test_a_group_that_breaks_answers_all_of_its_callers_and_the_next_one_is_decided(parts, decide):
    first = hold_back(parts, decide)
    waiters = [decide(make_case(number)) for number in (1, 2)]
    parts.broken = TypeError("a bug")
    parts.gate.set()
    for waiter in (first, *waiters):
        with pytest.raises(TypeError):
            waiter.wait()
    parts.broken = None
    assert decide(make_case(3)).wait().decision.of == "sub_3"


def test_more_cases_than_may_wait_are_turned_away_and_lose_nothing(parts, monkeypatch):
    monkeypatch.setattr(module, "QUEUE_LIMIT", 2)
    monkeypatch.setattr(module, "LANES", 1)
    group = GroupDecide(parts, find_bundle=BUNDLES.__getitem__, commit=parts)
    parts.gate.clear()
    waiters = [Waiter() for _ in range(3)]
    group.decide_then(make_case(0), waiters[0])
    assert parts.asked.acquire(timeout=20)
    for number in (1, 2):
        group.decide_then(make_case(number), waiters[number])
    with pytest.raises(Unavailable) as caught:
        group.decide_then(make_case(3), Waiter())
    assert caught.value.code == "overloaded"
    parts.gate.set()
    assert [waiter.wait().decision.of for waiter in waiters] == ["sub_0", "sub_1", "sub_2"]


def test_slow_rules_of_one_tenant_do_not_hold_up_another(parts):
    gate = threading.Event()

    class Slow(Parts):
        def prepare(self, cases, *, bundle):
            assert bundle.digest != "a" or gate.wait(20)
            return [self.ready(case) for case in cases]

    group = GroupDecide(Slow(), find_bundle=BUNDLES.__getitem__, commit=parts)
    slow, quick = Waiter(), Waiter()
    group.decide_then(make_case(1), slow)
    while group._waiting.qsize():
        pass
    group.decide_then(make_case(2, "other"), quick)
    assert quick.wait().decision.of == "sub_2"
    gate.set()
    assert slow.wait().decision.of == "sub_1"
