"""Past decisions over HTTP: listed, in words, explained; and rules tried out within bounds."""

from __future__ import annotations

import pytest

from app.credentials.ports import Scope
from tests.parts.web import OTHER, PAYMENT, WAIT, open_web
from tests.policies.rego_suite import shipped
from tests.web.problem import read_problem

COUNTRIES = {"allow": "DE", "deny": "KP", "review": "ZZ"}
LOOPS = "package a\n\nx := count([1 | some i in numbers.range(1, 200000); some j in numbers.range(1, 200000)])\n"
ALLOWS = 'package a\n\nx := {"verdict": "allow", "reasons": [], "output": {}} if input.n == 1\n'


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with open_web(tmp_path_factory.mktemp("decisions")) as part:
        yield part


@pytest.fixture(scope="module")
def decided(web):
    """Return the payments made, by the verdict that they were given."""
    made = {}
    for verdict, country in COUNTRIES.items():
        payer = {**PAYMENT["payer"], "name": "Quillon Marbeck", "country": country}
        headers = {**WAIT, "Idempotency-Key": f"decided-{verdict}"}
        made[verdict] = web.post("/v1/payments", json={**PAYMENT, "payer": payer}, headers=headers).json
    return made


def test_decisions_are_listed_in_log_order_and_filtered(web, decided):
    listed = web.get("/v1/decisions").json
    assert [each["verdict"] for each in listed["decisions"]] == ["allow", "deny", "review"]
    assert listed["next"] is None
    assert [each["id"] for each in listed["decisions"]] == [decided[each]["decision"] for each in COUNTRIES]
    for verdict in COUNTRIES:
        [found] = web.get(f"/v1/decisions?verdict={verdict}").json["decisions"]
        assert found["id"] == decided[verdict]["decision"]
    assert len(web.get("/v1/decisions?code=country_blocked").json["decisions"]) == 1
    assert len(web.get("/v1/decisions?entrypoint=payments/decide&mode=enforce").json["decisions"]) == 3
    assert web.get("/v1/decisions?mode=shadow").json["decisions"] == []


def test_pages_go_on_where_they_ended(web, decided):
    found, after = [], 0
    while after is not None:
        page = web.get(f"/v1/decisions?limit=1&after={after}").json
        found += [each["verdict"] for each in page["decisions"]]
        after = page["next"]
    assert found == ["allow", "deny", "review"]


def test_a_decision_is_told_in_words_with_its_bundle_and_nothing_of_the_person(web, decided):
    decision = web.get(f"/v1/decisions/{decided['deny']['decision']}").json
    assert decision["words"] == "Deny: No payments are taken from the payer's country."
    assert decision["reasons"][0]["statute"] == "FATF Recommendation 19"
    assert decision["bundle"] == {"name": "assay", "digest": shipped().digest}
    assert (decision["replayable"], decision["not_replayable"]) == (True, None)
    assert decision["ref"]["payment"] == decided["deny"]["id"]
    assert "quillon" not in str(decision).lower()


def test_a_decision_is_explained_by_running_it_again(web, decided):
    explained = web.get(f"/v1/decisions/{decided['deny']['decision']}/explain").json
    assert explained["same_result"] is True
    assert explained["title"] == "The verdict on a payment, with every part's reasons"
    by_rule = {each["rule"]: each for each in explained["rules"]}
    assert by_rule["kyc.decide"]["outcome"] == "deny"
    assert by_rule["kyc.decide"]["control"] == "KYC-COUNTRY-1"
    assert "No payments are taken" in by_rule["kyc.decide"]["words"]
    assert "quillon" not in str(explained).lower()


def test_after_erasure_a_decision_says_so_and_is_not_run_again(web):
    headers = {**WAIT, "Idempotency-Key": "erased-later"}
    payment = web.post("/v1/payments", json=PAYMENT, headers=headers).json
    before = web.get(f"/v1/decisions/{payment['decision']}").json
    web.call("DELETE", f"/v1/subjects/{payment['subject']}")
    after = web.get(f"/v1/decisions/{payment['decision']}").json
    assert (after["replayable"], after["not_replayable"]) == (False, "erased")
    assert {**before, "replayable": False, "not_replayable": "erased"} == after
    problem = read_problem(web.get(f"/v1/decisions/{payment['decision']}/explain"), 422, "not_replayable")
    assert "erased" in problem["detail"]
    body = {"entrypoint": "payments/decide", "bundle": shipped().digest, "decision": payment["decision"]}
    read_problem(web.post("/v1/policy/eval", json=body), 422, "not_replayable")


def test_anothers_decisions_look_absent(web, decided):
    theirs = web.tokens[OTHER]
    assert web.get("/v1/decisions", token=theirs).json["decisions"] == []
    read_problem(web.get(f"/v1/decisions/{decided['allow']['decision']}", token=theirs), 404, "decision_unknown")
    read_problem(web.get(f"/v1/decisions/dec_{'0' * 32}/explain"), 404, "decision_unknown")


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/decisions", Scope.POLICIES_READ),
        (f"/v1/decisions/dec_{'0' * 32}", Scope.POLICIES_READ),
        (f"/v1/decisions/dec_{'0' * 32}/explain", Scope.POLICIES_READ),
    ],
)
def test_reading_decisions_takes_its_scope(web, path, scope):
    others, _ = web.issue(*(set(Scope) - {scope}))
    read_problem(web.get(path, token=others), 403, "scope_missing")


def evaluate(web, body, **options):
    return web.post("/v1/policy/eval", json={"entrypoint": "a/x", **body}, **options)


def test_rules_are_tried_on_an_input_with_what_they_covered(web):
    answer = evaluate(web, {"modules": {"a/a.rego": ALLOWS}, "input": {"n": 1}}).json
    assert answer["value"]["verdict"] == "allow"
    assert answer["problem"] is None
    assert answer["covered"] == {"a/a.rego": [3]}
    assert answer["rules"][0]["outcome"] == "allow"
    undefined = evaluate(web, {"modules": {"a/a.rego": ALLOWS}, "input": {"n": 2}}).json
    assert (undefined["value"], undefined["problem"]) == (None, "the rule is undefined for this input")


def test_a_kept_bundle_is_tried_on_a_past_decisions_input(web, decided):
    body = {
        "entrypoint": "payments/decide",
        "bundle": shipped().digest,
        "decision": decided["review"]["decision"],
    }
    assert web.post("/v1/policy/eval", json=body).json["value"]["verdict"] == "review"
    web.append()  # what is published now was appended before
    [release] = web.list_entries("&action=subject.opened")
    assert release["entry"]["data"] == {"paths": ["input"], "reason": "policy.eval"}
    author, _ = web.issue(*(set(Scope) - {Scope.SUBJECTS_READ}))
    read_problem(web.post("/v1/policy/eval", json=body, token=author), 403, "scope_missing")
    reader, _ = web.issue(Scope.POLICIES_READ, Scope.SUBJECTS_READ)
    read_problem(web.post("/v1/policy/eval", json=body, token=reader), 403, "scope_missing")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"modules": {"a/a.rego": "package a\n\nx :="}, "input": {}}, 400, "bundle_malformed"),
        ({"modules": {"../a.rego": ALLOWS}, "input": {}}, 400, "bundle_malformed"),
        ({"modules": {"a/a.rego": ALLOWS}, "data": {"d": {}}, "input": {}}, 400, "bundle_malformed"),
        ({"modules": {"a/a.rego": "package a\n\nx := 1 / input.n"}, "input": {"n": 0}}, 422, "trace_failed"),
        ({"modules": {"a/a.rego": LOOPS}, "input": {}}, 422, "trace_failed"),
        ({"modules": {"a/a.rego": ALLOWS}}, 422, "query_invalid"),
        ({"input": {}}, 422, "query_invalid"),
        ({"modules": {"a/a.rego": ALLOWS}, "bundle": "0" * 64, "input": {}}, 422, "query_invalid"),
        ({"bundle": "0" * 64, "input": {}}, 404, "bundle_unknown"),
        ({"modules": {"a/a.rego": ALLOWS}, "input": {"n": 0.5}}, 422, "value_not_allowed"),
        ({"modules": {"a/a.rego": ALLOWS}, "input": {}, "entrypoint": "A"}, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_tried_is_a_problem_and_costs_nothing(web, body, status, code):
    read_problem(evaluate(web, body), status, code)
    assert web.get("/livez").status_code == 200


def test_trying_rules_leaves_no_entry(web):
    before = web.services.store.read_head("acme").size
    evaluate(web, {"modules": {"a/a.rego": ALLOWS}, "input": {"n": 1}})
    assert web.services.store.read_head("acme").size == before
