"""Replay: what is counted when past decisions are run again, and the report of it."""

from __future__ import annotations

import json

import pytest

from app.ledger.canonical import canonical
from app.ledger.entry import Draft
from app.ledger.registry import open_registry
from app.policy.decide import Answer, parse_answer
from app.policy.decision import BundleRef, EngineRef, Mode
from app.policy.ports import EngineFailed
from app.policy.record import DecisionRecord
from app.policy.replay import (
    MAX_NAMES,
    OTHER,
    SAMPLES,
    Past,
    Scope,
    Tally,
    Unusable,
    digest_report,
    make_report,
    parse_tally,
    report_data,
    tally,
)

OWN, CANDIDATE = "a" * 64, "c" * 64
ENGINE = EngineRef(name="told", version="1")
DOCUMENT = {"payment": {"amount_minor": 1499, "currency": "EUR"}, "payer": {"name_tokens": ["secret"]}}


def result(verdict, *reasons, **output):
    return {
        "verdict": verdict,
        "reasons": [{"code": code, "message": "why"} for code in reasons],
        "output": output,
    }


def past(old, *, number=0, document=DOCUMENT):
    outcome, plain = parse_answer(old)
    record = DecisionRecord(
        entry_id=f"ent_{number}",
        decision_id=f"dec_{number}",
        decided_at_ms=number,
        subject="sub_ada",
        ref={},
        entrypoint="a/b",
        mode=Mode.ENFORCE,
        bundle=BundleRef(name="own", digest=OWN, data=()),
        engine=ENGINE,
        input_digest="0" * 64,
        outcome=outcome,
        result=plain,
        result_digest=Answer(outcome=outcome, result=plain).digest,
        latency_us=1,
        not_replayable=None,
    )
    return Past(index=number, record=record, document=document)


class Told:
    """Answers by bundle; raises what is no answer."""

    ref = ENGINE

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def evaluate(self, entrypoint, document, *, bundle_digest, decision_id=None):
        self.asked.append((entrypoint, document, bundle_digest))
        answer = self.answers["own" if bundle_digest == OWN else "candidate"]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_decision_is_run_with_its_own_bundle_unless_another_is_given():
    engine = Told(own=result("allow"), candidate=result("deny", "no"))
    assert tally(engine, [past(result("allow"))]).transitions == {"allow_to_allow": 1}
    assert tally(engine, [past(result("allow"))], bundle_digest=CANDIDATE).transitions == {"allow_to_deny": 1}
    assert engine.asked == [("a/b", DOCUMENT, OWN), ("a/b", DOCUMENT, CANDIDATE)]


def test_a_changed_verdict_is_counted_with_its_reasons_its_money_and_a_sample():
    engine = Told(candidate=result("allow", "fine"))
    counted = tally(engine, [past(result("deny", "bad", "worse"), number=7)], bundle_digest=CANDIDATE)
    assert counted == Tally(
        decisions=1,
        different=1,
        transitions={"deny_to_allow": 1},
        money={"deny_to_allow": {"EUR": 1499}},
        gained={"fine": 1},
        lost={"bad": 1, "worse": 1},
        samples={"deny_to_allow": ["ent_7"]},
    )
    assert (counted.changed, counted.forbidden) == (1, 1)


def test_another_answer_under_the_same_verdict_is_different_and_moves_no_money():
    counted = tally(Told(own=result("allow", psp="adyen")), [past(result("allow", psp="stripe"))])
    assert (counted.different, counted.changed, counted.money) == (1, 0, {})
    assert counted.samples == {"allow_to_allow": ["ent_0"]}


def test_a_candidate_that_fails_denies_and_says_how():
    engine = Told(candidate=EngineFailed("no", failure="undefined"))
    counted = tally(engine, [past(result("allow"))], bundle_digest=CANDIDATE)
    assert counted.transitions == {"allow_to_deny": 1}
    assert counted.failures == {"undefined": 1}
    assert counted.gained == {"engine_failed": 1}


def test_a_bundle_that_is_gone_makes_a_decision_unusable_and_not_different():
    engine = Told(own=EngineFailed("no", failure="wrong_bundle"))
    counted = tally(engine, [past(result("allow"))])
    assert (counted.decisions, counted.refused) == (0, {"bundle_unknown": 1})


def test_what_is_refused_is_counted_by_code_and_named():
    unusable = [Unusable(index=n, entry_id=f"ent_{n}", code="erased") for n in range(SAMPLES + 5)]
    counted = tally(Told(), unusable)
    assert counted.refused == {"erased": SAMPLES + 5}
    assert counted.refused_samples == {"erased": [f"ent_{n}" for n in range(SAMPLES)]}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"payment": None},
        {"payment": {"amount_minor": "1", "currency": "EUR"}},
        {"payment": {"amount_minor": True, "currency": "EUR"}},
        {"payment": {"amount_minor": 1}},
    ],
)
def test_a_document_without_an_amount_moves_no_money(document):
    assert tally(Told(own=result("deny", "no")), [past(result("allow"), document=document)]).money == {}


def test_codes_that_a_candidate_invents_do_not_fill_the_memory():
    counted = Tally()
    for number in range(MAX_NAMES + 9):
        outcome, plain = parse_answer(result("allow", f"code_{number}"))
        counted.add(past(result("allow"), number=number), Answer(outcome=outcome, result=plain))
    assert len(counted.gained) == MAX_NAMES + 1
    assert counted.gained[OTHER] == 9


def scope(**changes):
    values = {
        "origin": "log.test/acme",
        "size": 9,
        "root": bytes(32),
        "since_ms": None,
        "until_ms": None,
        "candidate": ("candidate", CANDIDATE),
        "base": OWN,
        "engine": ENGINE,
    }
    return Scope(**(values | changes))


def test_the_report_is_canonical_names_its_log_and_holds_nothing_of_the_input():
    counted = tally(Told(candidate=result("allow")), [past(result("deny", "bad"))], bundle_digest=CANDIDATE)
    counted.refuse(Unusable(index=1, entry_id="ent_1", code="erased"))
    counted.refuse(Unusable(index=2, entry_id="ent_2", code="seal_broken"))
    report = make_report(scope(), counted)
    assert b"secret" not in canonical(report)
    assert report["log"] == {"origin": "log.test/acme", "size": 9, "root": "00" * 32}
    assert report["erased"] == 1
    assert report["refused"] == {"seal_broken": 1}
    assert report["refused_samples"] == {"seal_broken": ["ent_2"]}
    assert report["money"] == {"deny_to_allow": {"EUR": "1499"}}
    assert digest_report(report) == digest_report(json.loads(canonical(report)))
    assert digest_report(report) != digest_report(make_report(scope(size=10), counted))


@pytest.mark.parametrize(("candidate", "sign_off"), [(None, None), (("candidate", CANDIDATE), "risk.accepted")])
def test_the_entry_of_a_report_fits_its_schema(candidate, sign_off):
    counted = tally(Told(candidate=result("allow")), [past(result("deny", "bad"))], bundle_digest=CANDIDATE)
    report = make_report(scope(candidate=candidate), counted)
    data = report_data(report, sign_off=sign_off)
    open_registry().check(Draft(action="policy.replayed", actor="operator:cli", data=data))
    assert data["report_digest"] == digest_report(report)
    assert data["forbidden"] == 1


@pytest.mark.parametrize("value", [None, [], {}, {"decisions": 1}, {**Tally().to_json(), "more": 1}])
def test_a_file_that_holds_no_tally_is_refused(value):
    with pytest.raises(ValueError, match="not a tally"):
        parse_tally(value)
