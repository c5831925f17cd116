"""The shadow of a decision: asked beside it, recorded, never acted on, and never in the way."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from app.errors import Unavailable
from app.policy.decision import Mode
from app.policy.query import Query
from app.subjects.decider import Case
from app.subjects.shadow import QUEUE_LIMIT, Shadow

BUNDLE = SimpleNamespace(ref="the bundle on trial")
CASE = Case(
    tenant="acme",
    actor="merchant:shop",
    subject="sub_ada",
    ref={"payment": "pi_1"},
    query=Query(entrypoint="a/b", document={}),
)


class Told:
    """Remembers what it decided; raises what it is told to."""

    def __init__(self, error=None):
        self.error = error
        self.decided = []
        self.released = threading.Event()
        self.released.set()

    def decide(self, case, *, bundle, mode=Mode.ENFORCE):
        assert self.released.wait(20)
        self.decided.append((case, bundle, mode))
        if self.error:
            raise self.error


def enforced(number=1):
    return SimpleNamespace(decision_id=f"dec_{number}")


@pytest.fixture
def open_shadow():
    opened = []

    def open_one(told, find=lambda tenant: BUNDLE):
        opened.append((told, Shadow(find_bundle=find, decide=told.decide)))
        return opened[-1][1]

    yield open_one
    for told, shadow in opened:
        told.released.set()
        shadow.close()


def test_a_shadow_is_asked_the_same_and_refers_to_the_enforced_decision_alone(open_shadow):
    told = Told()
    shadow = open_shadow(told)
    shadow.ask(CASE, enforced())
    shadow.close()
    [(case, bundle, mode)] = told.decided
    assert (case.query, case.subject, case.tenant) == (CASE.query, "sub_ada", "acme")
    assert case.ref == {"shadow_of": "dec_1"}
    assert (bundle, mode) == (BUNDLE.ref, Mode.SHADOW)


def test_a_tenant_without_a_bundle_on_trial_has_no_shadows(open_shadow):
    told = Told()
    shadow = open_shadow(told, find=lambda tenant: None)
    shadow.ask(CASE, enforced())
    shadow.close()
    assert told.decided == []


def test_asking_waits_for_nothing_and_what_is_too_much_is_left_out_and_said(open_shadow, caplog):
    told = Told()
    told.released.clear()
    shadow = open_shadow(told)
    with caplog.at_level(logging.WARNING, "assay.shadow"):
        for number in range(QUEUE_LIMIT + 3):
            shadow.ask(CASE, enforced(number))
    assert told.decided == []
    assert "left out" in caplog.text
    told.released.set()
    shadow.close()
    assert QUEUE_LIMIT <= len(told.decided) <= QUEUE_LIMIT + 1


@pytest.mark.parametrize("broken", ["deciding", "finding"])
def test_a_shadow_that_breaks_is_said_and_the_next_one_is_asked(open_shadow, caplog, broken):
    told = Told(Unavailable("the log is away") if broken == "deciding" else None)
    found = iter([Unavailable("no store"), BUNDLE])

    def find(_tenant):
        bundle = next(found) if broken == "finding" else BUNDLE
        if isinstance(bundle, Exception):
            raise bundle
        return bundle

    shadow = open_shadow(told, find=find)
    with caplog.at_level(logging.ERROR, "assay.shadow"):
        shadow.ask(CASE, enforced(1))
        shadow.ask(CASE, enforced(2))
        shadow.close()
    assert "dec_1 was not recorded" in caplog.text
    assert told.decided[-1][0].ref == {"shadow_of": "dec_2"}
