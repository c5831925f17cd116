"""Decisions asked for over HTTP: by the policies in force, on the log before they are answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.credentials.ports import Scope
from tests.parts.web import OTHER, WAIT, open_web
from tests.web.problem import read_problem

CORPUS = Path(__file__).parents[1] / "policies" / "corpus" / "retention.json"
AUTHZ = {"entrypoint": "authz/decide", "input": {"authz": {"operation": "GET /v1/entries", "scopes": ["entries:read"]}}}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with open_web(tmp_path_factory.mktemp("deciding")) as part:
        yield part


def ask(web, body=None, **options):
    return web.post("/v1/decisions", json=AUTHZ | (body or {}), headers=WAIT, **options)


def test_a_decision_is_answered_with_its_receipt_and_is_on_the_log_as_it_was_answered(web):
    answer = ask(web, {"ref": {"case": "c-1"}})
    assert answer.status_code == 201
    decided = answer.json
    assert decided["verdict"] == "allow"
    assert decided["receipt"].startswith("c2sp.org/tlog-proof@v1\n")
    entry = web.get(f"/v1/entries/{decided['entry']}").json
    assert entry["index"] == decided["index"]
    assert entry["entry"]["data"]["result"]["verdict"] == "allow"
    assert entry["entry"]["ref"] == {"case": "c-1", "decision": decided["id"]}
    assert web.get(answer.headers["Location"]).json["replayable"] is True


def test_nothing_of_the_input_is_in_the_log_and_all_of_it_goes_with_the_subject(web):
    body = {"input": {**AUTHZ["input"], "note": "Quillon Marbeck"}, "subject": "sub_asked"}
    decided = ask(web, body).json
    assert decided["subject"] == "sub_asked"
    assert "Quillon" not in json.dumps(web.get(f"/v1/entries/{decided['entry']}").json)
    web.call("DELETE", "/v1/subjects/sub_asked")
    assert web.get(f"/v1/decisions/{decided['id']}").json["not_replayable"] == "erased"
    read_problem(ask(web, body), 403, "subject_erased")


def test_each_of_the_packs_that_nothing_else_asks_can_be_asked(web):
    case = json.loads(CORPUS.read_text())["cases"][0]
    decided = ask(web, {"entrypoint": "retention/decide", "input": case["document"]}).json
    assert decided["verdict"] in {"allow", "deny", "review"}
    assert "engine_failed" not in [reason["code"] for reason in decided["reasons"]]


def test_what_no_policy_answers_is_denied_on_record(web):
    decided = ask(web, {"entrypoint": "nowhere/decide"}).json
    assert (decided["verdict"], decided["reasons"][0]["code"]) == ("deny", "engine_failed")
    assert web.get(f"/v1/entries/{decided['entry']}").json["entry"]["data"]["replayable"] is False


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": {"n": 0.5}}, 422, "value_not_allowed"),
        ({"input": {"text": "x" * 61 * 1024}}, 413, "body_too_large"),
        ({"input": {"card": "4242424242424242"}}, 422, "card_number"),
        ({"entrypoint": "Authz; drop"}, 422, "request_invalid"),
        ({"subject": "Ada"}, 422, "request_invalid"),
        ({"ref": {"decision": "dec_1"}}, 422, "ref_invalid"),
        ({"ref": {"shadow_of": "dec_1"}}, 422, "ref_invalid"),
        ({"ref": {"Case": "c"}}, 422, "ref_invalid"),
        ({"unknown": 1}, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_logs_nothing(web, body, status, code):
    before = len(web.list_entries("&action=decision.recorded"))
    read_problem(ask(web, body), status, code)
    assert len(web.list_entries("&action=decision.recorded")) == before


def test_deciding_takes_its_scope_and_stays_in_its_tenant(web):
    token, _ = web.issue(*(set(Scope) - {Scope.DECISIONS_WRITE}))
    read_problem(ask(web, token=token), 403, "scope_missing")
    decided = ask(web).json
    read_problem(web.get(f"/v1/decisions/{decided['id']}", token=web.tokens[OTHER]), 404, "decision_unknown")
