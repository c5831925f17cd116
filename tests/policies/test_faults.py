"""What is broken never allows: tables with holes, rules that contradict each other, fail or have no answer."""

from __future__ import annotations

import pytest

from app.adapters.rego import RegoEngine
from app.policy.bundle import make_bundle
from app.policy.decision import Allow, Deny
from tests.policies.asking import NOW, ask, codes, with_data
from tests.policies.golden import list_cases
from tests.policies.rego_suite import shipped

DATA = shipped().data
DESCRIBING = {"version", "note", "fx_note"}
HOLES = [(table, key) for table, value in DATA.items() for key in value if key not in DESCRIBING]
CASES = list_cases()


def evaluate(engine: RegoEngine, digest: str, entrypoint: str, document: dict) -> str | None:
    """Return the verdict; None for no answer, which is a deny."""
    try:
        return engine.evaluate(entrypoint, document, bundle_digest=digest)["verdict"]
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return None


@pytest.mark.parametrize(("table", "key"), HOLES)
def test_a_table_with_a_hole_allows_nothing_that_the_whole_one_does_not(table: str, key: str) -> None:
    bundle = with_data(table, {name: value for name, value in DATA[table].items() if name != key})
    engine = RegoEngine(lambda _: bundle)
    wrongly = [
        f"{case.entrypoint}: {case.name}"
        for case in CASES
        if (case.answer or {}).get("verdict") != "allow"
        and evaluate(engine, bundle.digest, case.entrypoint, case.document) == "allow"
    ]
    assert wrongly == []


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (b'decide := {"verdict": "allow"} if input.a\n\ndecide := {"verdict": "deny"} if input.b', "error"),
        (b'decide := {"verdict": "allow", "n": 10 / input.zero}', "error"),
        (b'decide := {"verdict": "allow", "reasons": [], "output": {}} if input.absent', "undefined"),
        (b'decide := {"verdict": "allow", "reasons": [], "output": {"n": data.data.none.row}}', "undefined"),
        (b'decide := {"verdict": "perhaps", "reasons": [], "output": {}}', "answer_refused"),
        (b'decide := {"verdict": "deny", "reasons": [], "output": {}}', "answer_refused"),
    ],
)
def test_a_rule_that_contradicts_itself_fails_or_has_no_answer_is_a_deny(rule: bytes, why: str) -> None:
    bundle = make_bundle({"odd/odd.rego": b"package odd\n\n" + rule + b"\n"}, name="odd")
    decision = ask("odd/decide", {"a": True, "b": True, "zero": 0}, bundle=bundle)
    assert isinstance(decision.outcome, Deny)
    assert codes(decision) == ["engine_failed"]
    assert decision.outcome.output == {"failure": why}


def test_one_answer_that_is_missing_leaves_the_payment_without_any() -> None:
    document = {
        "payment": {"amount_minor": 1, "currency": "EUR", "country": "DE"},
        "payer": {"name_tokens": ["ada"], "country": "DE"},
    }
    assert isinstance(ask("payments/decide", document).outcome, Allow)
    for added in ({"screening": 1}, {"fraud": []}, {"payer": {"country": "DE"}}, {"payment": {}}):
        decision = ask("payments/decide", document | added)
        assert isinstance(decision.outcome, Deny)
        assert decision.outcome.output == {"failure": "undefined"}


@pytest.mark.parametrize("entrypoint", sorted({case.entrypoint for case in CASES}))
@pytest.mark.parametrize("document", [{}, {"payer": None}, {"kyc": []}, {"retention": "x"}, {"authz": 1}, {"x": {}}])
def test_a_question_of_another_shape_is_never_allowed(entrypoint: str, document: dict) -> None:
    assert isinstance(ask(entrypoint, document, at=NOW).outcome, Deny)


def test_a_large_question_is_refused_before_it_is_asked() -> None:
    decision = ask("payments/decide", {"payer": {"name_tokens": ["a" * 1024] * 1024}})
    assert decision.outcome.output == {"failure": "input_refused"}
