"""Who may do what: without, with a bad, an expired, a revoked or a too narrow token, and too often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.credentials import merchant_token
from app.credentials.authenticator import CACHE_TTL_S, Authenticator
from app.credentials.ports import Scope
from app.web.app import create_app
from app.wiring import TOKEN_SECRET, new_entry_id
from tests.parts.assay import wait_until
from tests.parts.web import APPROVAL, TENANT, WebPart, open_web
from tests.web.problem import check_headers, read_problem

ENTRY = "ent_" + "0" * 12 + "7" + "0" * 3 + "8" + "0" * 15
NEEDS = [
    ("POST", "/v1/entries", Scope.ENTRIES_WRITE),
    ("POST", "/v1/entries:batch", Scope.ENTRIES_WRITE),
    ("GET", "/v1/entries", Scope.ENTRIES_READ),
    ("GET", f"/v1/entries/{ENTRY}", Scope.ENTRIES_READ),
    ("GET", f"/v1/entries/{ENTRY}/receipt", Scope.ENTRIES_READ),
    ("GET", "/v1/proofs/inclusion", Scope.ENTRIES_READ),
    ("GET", "/v1/proofs/consistency", Scope.ENTRIES_READ),
    ("GET", "/acme/tile/entries/000", Scope.ENTRIES_READ),
    ("POST", "/v1/payments", Scope.PAYMENTS_WRITE),
    ("GET", "/v1/payments/pi_" + "0" * 32, Scope.PAYMENTS_READ),
    ("DELETE", "/v1/subjects/sub_ada", Scope.SUBJECTS_ERASE),
]


def _refuse(web: WebPart, authorization: str | None, code: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = web.call("GET", "/v1/entries", token=None, headers=headers)
    problem = read_problem(answer, 401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    if authorization is not None and len(authorization) > 8:
        assert authorization.split(" ", 1)[-1] not in str(problem)


@pytest.mark.parametrize(("method", "path", "_scope"), NEEDS)
def test_nothing_private_is_answered_without_a_token(web: WebPart, method: str, path: str, _scope: Scope) -> None:
    answer = web.call(method, path, token=None, data=b"{not even json")
    read_problem(answer, 401, "token_missing")


@pytest.mark.parametrize(("method", "path", "scope"), NEEDS)
def test_every_other_scope_together_is_not_enough(web: WebPart, method: str, path: str, scope: Scope) -> None:
    token, _ = web.issue(*(set(Scope) - {scope}))
    problem = read_problem(web.call(method, path, token=token), 403, "scope_missing")
    assert scope.value in problem["detail"]


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "token_missing"),
        ("", "token_missing"),
        ("Bearer", "token_missing"),
        ("Bearer ", "token_missing"),
        ("Basic YWRhOnNlY3JldHNlY3JldA==", "token_missing"),
        ("Bearer not-a-token", "token_malformed"),
        ("Bearer ask_" + "a" * 42, "token_malformed"),
        ("Bearer ask_" + "a" * 5000, "token_malformed"),
        ("Bearer ask_" + "a" * 43, "token_unknown"),
        ("Bearer ask_" + "\u0430" * 43, "token_malformed"),
    ],
)
def test_what_is_no_token_of_ours_is_refused(web: WebPart, authorization: str | None, code: str) -> None:
    _refuse(web, authorization, code)


def test_the_word_bearer_is_taken_in_any_case(web: WebPart) -> None:
    answer = web.call("GET", "/v1/entries", token=None, headers={"Authorization": f"bEaReR {web.token}"})
    assert answer.status_code == 200


def test_an_expired_token_is_refused_even_if_it_was_believed_a_moment_ago(web: WebPart) -> None:
    token, _ = web.issue(lifetime_s=60)
    authenticator = Authenticator(
        store=web.installation.token_store(), pepper=web.installation.secret(TOKEN_SECRET), monotonic_s=lambda: 0.0
    )
    now_ms = [web.services.now_ms()]
    services = replace(web.services, authenticate=lambda given: authenticator.authenticate(given, now_ms=now_ms[0]))
    client = create_app(services).test_client()
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/v1/entries", headers=headers).status_code == 200
    now_ms[0] += 61_000
    read_problem(client.get("/v1/entries", headers=headers), 401, "token_expired")


def test_a_revoked_token_is_refused_within_the_promised_time(web: WebPart) -> None:
    token, token_id = web.issue(Scope.ENTRIES_READ)
    assert web.get("/v1/entries", token=token).status_code == 200
    merchant_token.revoke(
        TENANT,
        token_id,
        store=web.installation.token_store(),
        append=web.installation.append_in,
        reason="leaked",
        actor="operator:test",
        new_id=new_entry_id,
    )
    wait_until(lambda: web.get("/v1/entries", token=token).status_code == 401, CACHE_TTL_S + 2)
    read_problem(web.get("/v1/entries", token=token), 401, "token_revoked")


def test_a_token_in_the_address_is_not_looked_at(web: WebPart) -> None:
    read_problem(web.get(f"/v1/entries?token={web.token}", token=None), 401, "token_missing")


def test_public_parts_need_no_token(web: WebPart) -> None:
    web.append()
    for path in ("/acme/checkpoint", "/acme/tile/0/000.p/1", "/acme/keys", "/v1/actions", "/livez", "/readyz"):
        answer = web.get(path, token=None)
        assert answer.status_code == 200, path
        check_headers(answer)


def test_too_many_requests_are_429_and_counted_by_token(tmp_path: Path) -> None:
    with open_web(tmp_path, rate_limit_per_minute=5) as web:
        answers = [web.get("/v1/entries") for _ in range(11)]  # a minute may end once in between
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        read_problem(limited[0], 429, "rate_limited")
        assert 1 <= int(limited[0].headers["Retry-After"]) <= 60
        second, _ = web.issue()
        assert web.get("/v1/entries", token=second).status_code == 200


@pytest.mark.parametrize("authorization", [None, "Bearer ask_" + "a" * 43])
def test_guessing_tokens_has_a_limit_too(tmp_path: Path, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with open_web(tmp_path, public_rate_limit_per_minute=5) as web:
        answers = [web.call("GET", "/v1/entries", token=None, headers=headers) for _ in range(11)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        read_problem(limited[0], 429, "rate_limited")
        assert web.append(APPROVAL).status_code == 201, "whoever has a token is not hindered by those who guess"


def test_a_scope_that_is_missing_counts_as_a_request(tmp_path: Path) -> None:
    with open_web(tmp_path, rate_limit_per_minute=5) as web:
        token, _ = web.issue(Scope.ENTRIES_WRITE)
        statuses = {web.get("/v1/entries", token=token).status_code for _ in range(11)}
        assert statuses == {403, 429}
