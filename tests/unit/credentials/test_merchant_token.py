"""Merchants' tokens: what is accepted, what is refused, and what is never shown."""

from __future__ import annotations

import os
import re
import traceback
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.credentials.merchant_token import (
    DEFAULT_LIFETIME_S,
    MAX_LIFETIME_S,
    Principal,
    authenticate,
    check_token,
)
from app.credentials.pepper import Pepper
from app.credentials.ports import Scope
from app.errors import NotFound, Rejected, Unauthenticated
from app.ledger.entry import Draft, check_draft
from tests.fakes.tokens import PEPPER, MemoryTokenStore, issue_token, revoke_token

LAW = settings(deadline=None)  # how long an example takes is the machine's business
DAY_MS = 24 * 3600 * 1000
START_MS = 1_767_225_600_000  # 2026-01-01


def make_uuid7(at_ms: int) -> UUID:
    return UUID(int=at_ms << 80 | 0x7 << 76 | 0b10 << 62 | int.from_bytes(os.urandom(7)))


@pytest.fixture
def store() -> MemoryTokenStore:
    return MemoryTokenStore()


def refusal(store, presented: str, now_ms: int = 0) -> str:
    with pytest.raises(Unauthenticated) as refused:
        authenticate(store, PEPPER, presented, now_ms=now_ms)
    return refused.value.code


def test_a_token_is_256_random_bits_behind_a_prefix_that_scanners_find(store) -> None:
    tokens = {issue_token(store).token for _ in range(50)}
    assert len(tokens) == 50
    assert all(re.fullmatch(r"ask_[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_a_token_names_its_tenant_and_its_actor(store) -> None:
    issued = issue_token(store, tenant="other", scopes=[Scope.PAYMENTS_READ])
    principal = authenticate(store, PEPPER, issued.token, now_ms=issued.stored.issued_at_ms)
    assert principal == Principal(tenant="other", token_id=issued.stored.id, scopes=frozenset({Scope.PAYMENTS_READ}))
    assert principal.actor == f"token:{issued.stored.id}"


def test_a_token_lives_until_its_last_millisecond_and_no_longer(store) -> None:
    issued = issue_token(store)
    end_ms = issued.stored.expires_at_ms
    assert end_ms == issued.stored.issued_at_ms + 1000 * DEFAULT_LIFETIME_S
    assert authenticate(store, PEPPER, issued.token, now_ms=end_ms - 1)
    assert refusal(store, issued.token, end_ms) == "token_expired"


@pytest.mark.parametrize("lifetime_s", [0, -1, MAX_LIFETIME_S + 1])
def test_no_token_lives_for_ever(store, lifetime_s) -> None:
    with pytest.raises(Rejected):
        issue_token(store, lifetime_s=lifetime_s)
    assert store.list_entries("acme") == []


def test_a_token_without_a_scope_is_not_made(store) -> None:
    with pytest.raises(Rejected):
        issue_token(store, scopes=[])


def test_a_token_has_the_scopes_that_it_was_issued_with_and_no_other(store) -> None:
    for scope in Scope:
        issued = issue_token(store, scopes=[scope])
        assert authenticate(store, PEPPER, issued.token, now_ms=0).scopes == {scope}


def test_all_scopes_together_fit_their_entry(store) -> None:
    issue_token(store, scopes=list(Scope))
    (entry,) = store.list_entries("acme")
    assert entry.data["scopes"] == ",".join(sorted(Scope))


@LAW
@given(st.text(max_size=60) | st.from_regex(r"ask_[A-Za-z0-9_-]{42,44}\n?", fullmatch=True))
def test_no_guess_is_a_token_and_none_is_repeated(presented) -> None:
    store = MemoryTokenStore()
    issue_token(store)
    looks = re.fullmatch(r"ask_[A-Za-z0-9_-]{43}", presented) is not None
    assert refusal(store, presented) == ("token_unknown" if looks else "token_malformed")
    assert store.lookups == looks


def test_the_same_token_under_another_pepper_is_unknown(store) -> None:
    issued = issue_token(store, pepper=Pepper(b"p" * 32))
    assert refusal(store, issued.token) == "token_unknown"


def test_a_store_that_finds_the_wrong_token_lets_nobody_in(store) -> None:
    stored = issue_token(store).stored
    with pytest.raises(Unauthenticated):
        check_token(stored, b"x" * 32, now_ms=0)


def test_revoking_says_whether_it_did_and_unknown_ones_are_not_found(store) -> None:
    stored = issue_token(store).stored
    with pytest.raises(NotFound):
        revoke_token(store, "tok_none")
    with pytest.raises(Rejected):
        revoke_token(store, stored.id, reason="It leaked!")
    assert revoke_token(store, stored.id) is True
    assert revoke_token(store, stored.id) is False


def test_a_token_is_revoked_even_in_a_frozen_log(store) -> None:
    issued = issue_token(store)
    store.frozen = True
    assert revoke_token(store, issued.stored.id) is True
    assert refusal(store, issued.token) == "token_revoked"


def test_the_token_is_stored_and_shown_nowhere(store) -> None:
    issued = issue_token(store)
    secret = issued.token.removeprefix("ask_")
    shown = f"{issued!r} {issued} {issued.stored!r} {store.tables!r}"
    assert secret not in shown
    assert all(secret.encode() not in row.body for row in store.tables.entries)
    assert repr(issued.stored.digest)[2:-1] not in repr(issued)
    with pytest.raises(Unauthenticated) as refused:
        authenticate(store, PEPPER, issued.token + "x", now_ms=0)
    assert secret not in "".join(traceback.format_exception(refused.value))


def test_the_actor_of_a_token_may_stand_in_an_entry(store) -> None:
    principal = authenticate(store, PEPPER, issue_token(store).token, now_ms=0)
    check_draft(Draft(action="a", actor=principal.actor))


def test_a_token_can_be_issued_at_any_time(store) -> None:
    """A time in milliseconds has 13 digits, and one in ten passes the check for card numbers."""
    for day in range(60):
        at_ms = START_MS + 37 * DAY_MS * day + day
        issued = issue_token(store, new_id=lambda at_ms=at_ms: make_uuid7(at_ms))
        assert issued.stored.issued_at_ms == at_ms
