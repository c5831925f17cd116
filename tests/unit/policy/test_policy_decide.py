"""Deciding: what comes of every answer, and of none."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.adapters.rego import RegoEngine
from app.ledger.canonical import canonical
from app.ledger.entry import Draft
from app.ledger.registry import open_registry
from app.policy.bundle import make_bundle
from app.policy.decide import MAX_INPUT_BYTES, decide, decision_data
from app.policy.decision import Allow, BundleRef, Deny, EngineRef, Mode, Reason, Review
from app.policy.ports import EngineFailed
from app.policy.query import Query, payment_query
from tests.policies.rego_suite import shipped

NOW = datetime(2026, 11, 23, 12, 0, 0, 123000, tzinfo=UTC)
ID = UUID("0193583e-0000-7000-8000-000000000000")
BUNDLE = shipped()


class Engine:
    """Answers what it is told to, or raises it."""

    ref = EngineRef(name="told", version="1")

    def __init__(self, answer):
        self.answer = answer
        self.calls = []

    def evaluate(self, entrypoint, document, *, bundle_digest, decision_id=None):
        self.calls.append((entrypoint, document, bundle_digest))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def evaluate_all(self, questions, *, bundle_digest):
        self.calls.append((questions, bundle_digest))
        return [self.answer for _ in questions]


def ask(engine, query=None, *, salt=b"s" * 32, bundle=BUNDLE.ref, mode=Mode.ENFORCE):
    clock = iter([1_000_000, 3_500_999])
    return decide(
        engine,
        query or Query(entrypoint="a/b", document={"x": 1}),
        bundle=bundle,
        now=NOW,
        salt=salt,
        new_id=lambda: ID,
        monotonic_ns=lambda: next(clock),
        mode=mode,
    )


def payment(**changes):
    facts = {"amount_minor": 1499, "currency": "EUR", "country": "DE", "payer_name": "Ada Lovelace"}
    return payment_query(**({**facts, "payer_country": "DE"} | changes))


@pytest.fixture(scope="module")
def engine():
    return RegoEngine(lambda _: BUNDLE)


def check(data):
    """Hold `data` against the schema of its action; raises Rejected."""
    open_registry().check(Draft(action="decision.recorded", actor="merchant:shop", data=data))


def codes(decision):
    return [reason.code for reason in decision.outcome.reasons]


def test_a_plain_payment_is_allowed_and_names_the_psp(engine):
    decision = ask(engine, payment())
    assert isinstance(decision.outcome, Allow)
    assert decision.outcome.output["psp"] == "stripe"
    assert decision.decision_id == f"dec_{ID.hex}"
    assert decision.latency_us == 2500
    assert decision.failure is None


def test_over_ten_thousand_names_what_would_have_been_chosen(engine):
    output = ask(engine, payment(amount_minor=1_000_001)).outcome.output
    assert (output["psp"], output["would_have_chosen"]) == ("stripe", "braintree")


@pytest.mark.parametrize("name", ["Zoltán Mirkováre", "MIRKOVARE, Zoltan", "zolt\u200ban mirkova\u0301re"])
def test_a_listed_name_is_denied_however_it_is_written(engine, name):
    decision = ask(engine, payment(payer_name=name))
    assert isinstance(decision.outcome, Deny)
    assert codes(decision) == ["sanctions_name_match"]
    assert "psp" not in decision.outcome.output


def test_a_near_name_and_an_unknown_country_are_reviewed_for_both_reasons(engine):
    decision = ask(engine, payment(payer_name="Zoltan P. Mirkovare", payer_country="ZZ"))
    assert isinstance(decision.outcome, Review)
    assert codes(decision) == ["country_unknown", "sanctions_name_near"]


def test_the_statute_behind_a_reason_is_kept(engine):
    (reason,) = ask(engine, payment(payer_country="KP")).outcome.reasons
    assert (reason.control, reason.statute) == ("KYC-COUNTRY-1", "FATF Recommendation 19")


@pytest.mark.parametrize("failure", ["error", "undefined", "timeout", "panic", "wrong_bundle"])
def test_an_engine_that_fails_is_a_deny_that_says_how(failure):
    decision = ask(Engine(EngineFailed("at a.rego:1:1", failure=failure)))
    assert isinstance(decision.outcome, Deny)
    assert codes(decision) == ["engine_failed"]
    assert decision.outcome.output == {"failure": failure}
    assert decision.failure == "at a.rego:1:1"


@pytest.mark.parametrize("error", [ValueError("secret"), RuntimeError("secret"), MemoryError(), RecursionError()])
def test_an_engine_that_breaks_its_contract_is_a_deny_too(error):
    decision = ask(Engine(error))
    assert isinstance(decision.outcome, Deny)
    assert "secret" not in str(decision.failure)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_passes_through(interruption):
    with pytest.raises(interruption):
        ask(Engine(interruption()))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        None,
        "allow",
        {"verdict": "allow"},
        {"verdict": "Allow", "reasons": [], "output": {}},
        {"verdict": ["allow"], "reasons": [], "output": {}},
        {"verdict": "allow", "reasons": [], "output": {}, "more": 1},
        {"verdict": "allow", "reasons": {}, "output": {}},
        {"verdict": "allow", "reasons": [], "output": []},
        {"verdict": "allow", "reasons": [], "output": {"psp": True}},
        {"verdict": "allow", "reasons": [], "output": {"psp": {"a": 1}}},
        {"verdict": "allow", "reasons": [], "output": {"psp": 0.5}},
        {"verdict": "allow", "reasons": [], "output": {"psp": 2**60}},
        {"verdict": "allow", "reasons": [], "output": {"psp": "x" * 201}},
        {"verdict": "allow", "reasons": [], "output": {"Not Code": "x"}},
        {"verdict": "allow", "reasons": [], "output": {f"f{n}": 1 for n in range(17)}},
        {"verdict": "allow", "reasons": [{"code": "a", "message": "b"}] * 33, "output": {}},
        {"verdict": "deny", "reasons": [], "output": {}},
        {"verdict": "review", "reasons": [], "output": {}},
        {"verdict": "deny", "reasons": ["a"], "output": {}},
        {"verdict": "deny", "reasons": [{"code": "a"}], "output": {}},
        {"verdict": "deny", "reasons": [{"code": "A b", "message": "c"}], "output": {}},
        {"verdict": "deny", "reasons": [{"code": "a", "message": ""}], "output": {}},
        {"verdict": "deny", "reasons": [{"code": "a", "message": "b", "x": "c"}], "output": {}},
        {"verdict": "deny", "reasons": [{"code": "a", "message": "e\u0301"}], "output": {}},
    ],
)
def test_an_answer_of_another_shape_is_a_deny(answer):
    decision = ask(Engine(answer))
    assert isinstance(decision.outcome, Deny)
    assert codes(decision) == ["engine_failed"]


@pytest.mark.parametrize(
    "document", [{"x": 0.5}, {"x": "a" * MAX_INPUT_BYTES}, {"x": "\ud800"}, {"x": object()}, {"é": 1}]
)
def test_an_input_that_is_not_ours_is_a_deny_that_never_reaches_the_engine(document):
    engine = Engine({"verdict": "allow", "reasons": [], "output": {}})
    decision = ask(engine, Query(entrypoint="a/b", document=document))
    assert isinstance(decision.outcome, Deny)
    assert decision.outcome.output == {"failure": "input_refused"}
    assert decision.input_digest is None
    assert engine.calls == []


def test_a_missing_fact_is_a_deny(engine):
    decision = ask(engine, Query(entrypoint="payments/decide", document={"payment": {}, "payer": {}}))
    assert isinstance(decision.outcome, Deny)
    assert decision.outcome.output == {"failure": "undefined"}


def test_another_bundle_than_the_engine_has_is_a_deny(engine):
    decision = ask(engine, payment(), bundle=BundleRef(name="other", digest="0" * 64, data=()))
    assert decision.outcome.output == {"failure": "wrong_bundle"}


def test_after_a_panic_the_next_payment_is_decided():
    files = {path: text.encode() for path, text in BUNDLE.modules.items()}
    files |= {f"data/{name}/data.json": canonical(value) for name, value in BUNDLE.data.items()}
    files["odd/odd.rego"] = b'package odd\n\ndecide := {"n": strings.count("x", "")}\n'
    bundle = make_bundle(files, name="odd")
    engine = RegoEngine(lambda _: bundle)
    odd = ask(engine, Query(entrypoint="odd/decide", document={}), bundle=bundle.ref)
    assert odd.outcome.output == {"failure": "panic"}
    assert isinstance(odd.outcome, Deny)
    assert isinstance(ask(engine, payment(), bundle=bundle.ref).outcome, Allow)


def test_the_policy_reads_the_time_of_the_decision():
    engine = Engine({"verdict": "allow", "reasons": [], "output": {}})
    decision = ask(engine)
    assert engine.calls == [("a/b", {"x": 1, "now_ms": 1795435200123}, BUNDLE.digest)]
    assert decision.decided_at == NOW


def test_the_input_digest_is_keyed_so_that_a_guessed_input_cannot_be_confirmed():
    engine = Engine({"verdict": "allow", "reasons": [], "output": {}})
    data = canonical({"x": 1, "now_ms": 1795435200123})
    assert ask(engine).input_digest == hmac.digest(b"s" * 32, data, "sha256").hex()
    assert ask(engine).input_digest != ask(engine, salt=b"t" * 32).input_digest
    with pytest.raises(ValueError, match="32 bytes"):
        ask(engine, salt=b"")


@pytest.mark.parametrize("changes", [{}, {"payer_country": "KP"}, {"payer_name": "Marisol"}, {"currency": "XTS"}])
def test_the_record_is_canonical_fits_its_schema_and_is_the_same_each_time(engine, changes):
    first, second = (canonical(decision_data(ask(engine, payment(**changes)))) for _ in range(2))
    assert first == second
    check(decision_data(ask(engine, payment(**changes))))
    assert len(first) < 4096


def test_the_record_of_a_failure_fits_the_schema_too():
    decision = ask(Engine(EngineFailed("no", failure="timeout")), Query(entrypoint="a/b", document={"x": 0.5}))
    data = decision_data(decision)
    check(data)
    assert (data["replayable"], data["not_replayable"]) == (False, "input_refused")


def test_the_result_digest_is_that_of_the_recorded_result(engine):
    data = decision_data(ask(engine, payment(payer_country="ZZ")))
    assert data["result_digest"] == hashlib.sha256(canonical(data["result"])).hexdigest()
    assert data["result"]["verdict"] == "review"


def test_the_record_names_bundle_data_and_engine_exactly(engine):
    data = decision_data(ask(engine, payment()))
    assert data["bundle"] == {"name": "assay", "revision": BUNDLE.digest, "digest": BUNDLE.digest}
    assert [d["name"] for d in data["data"]] == [
        "authz",
        "fraud",
        "kyc",
        "kyc_law",
        "retention_law",
        "routing",
        "sanctions",
        "screening",
    ]
    assert data["engine"] == {"name": "regorus", "version": "0.13.0"}
    assert data["mode"] == "enforce"
    assert data["replayable"] is True
    assert "not_replayable" not in data


def test_a_shadow_decision_says_that_it_is_one(engine):
    data = decision_data(ask(engine, payment(), mode=Mode.SHADOW))
    check(data)
    assert data["mode"] == "shadow"


@pytest.mark.parametrize("failure", ["timeout", "panic", "wrong_bundle", "undefined"])
def test_a_decision_without_an_answer_is_not_replayable_and_says_why(failure):
    data = decision_data(ask(Engine(EngineFailed("no", failure=failure))))
    check(data)
    assert (data["replayable"], data["not_replayable"]) == (False, "engine_failed")


def test_no_part_of_the_name_is_in_the_record(engine):
    decision = ask(engine, payment(payer_name="Marisol Tvekkander"))
    assert codes(decision) == ["sanctions_name_match"]
    assert b"marisol" not in canonical(decision_data(decision)).lower()
    assert decision.outcome.reasons[0] == Reason(
        code="sanctions_name_match",
        message="The payer's name equals a name on the sanctions list.",
        control="SAN-NAME-1",
    )
