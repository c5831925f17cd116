"""The cache before the token store: quick, bounded, and never wrong for longer than a second."""

from __future__ import annotations

import pytest

from app.credentials import authenticator as module
from app.credentials.authenticator import CACHE_TTL_S, Authenticator
from app.errors import Unauthenticated, Unavailable
from tests.fakes.tokens import PEPPER, MemoryTokenStore, issue_token, revoke_token


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store() -> MemoryTokenStore:
    return MemoryTokenStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(store, clock) -> Authenticator:
    return Authenticator(store=store, pepper=PEPPER, monotonic_s=clock)


def refusal(authenticator, presented: str, now_ms: int = 0) -> str:
    with pytest.raises(Unauthenticated) as refused:
        authenticator.authenticate(presented, now_ms=now_ms)
    return refused.value.code


def test_a_token_is_looked_up_once_a_second(authenticator, store, clock) -> None:
    token = issue_token(store).token
    first = authenticator.authenticate(token, now_ms=0)
    clock.now_s += CACHE_TTL_S * 0.99
    assert authenticator.authenticate(token, now_ms=0) is first
    assert store.lookups == 1
    clock.now_s += CACHE_TTL_S * 0.02
    assert authenticator.authenticate(token, now_ms=0) == first
    assert store.lookups == 2


def test_a_revocation_is_seen_after_a_second_at_most_and_from_then_on(authenticator, store, clock) -> None:
    issued = issue_token(store)
    authenticator.authenticate(issued.token, now_ms=0)
    revoke_token(store, issued.stored.id)
    clock.now_s += CACHE_TTL_S
    for _ in range(2):
        assert refusal(authenticator, issued.token) == "token_revoked"


def test_expiry_is_seen_at_once(authenticator, store) -> None:
    issued = issue_token(store)
    authenticator.authenticate(issued.token, now_ms=issued.stored.expires_at_ms - 1)
    assert refusal(authenticator, issued.token, issued.stored.expires_at_ms) == "token_expired"


def test_guesses_are_not_remembered_and_push_nothing_out(authenticator, store, monkeypatch) -> None:
    monkeypatch.setattr(module, "CACHE_LIMIT_TOKENS", 1)
    token = issue_token(store).token
    authenticator.authenticate(token, now_ms=0)
    for number in range(50):
        assert refusal(authenticator, f"ask_{number:043d}") == "token_unknown"
    store.lookups = 0
    authenticator.authenticate(token, now_ms=0)
    assert store.lookups == 0


def test_the_cache_is_bounded_and_the_oldest_makes_room(authenticator, store, monkeypatch) -> None:
    monkeypatch.setattr(module, "CACHE_LIMIT_TOKENS", 3)
    tokens = [issue_token(store).token for _ in range(5)]
    for token in tokens:
        authenticator.authenticate(token, now_ms=0)
    store.lookups = 0
    for token in reversed(tokens):
        authenticator.authenticate(token, now_ms=0)
    assert store.lookups == 2
    assert len(authenticator._found) == 3


def test_no_token_and_no_secret_is_kept_in_memory(authenticator, store) -> None:
    token = issue_token(store).token
    authenticator.authenticate(token, now_ms=0)
    assert token not in repr(vars(authenticator))
    assert PEPPER.secret.hex() not in repr(vars(authenticator))


def test_a_store_that_cannot_be_asked_lets_nobody_in(authenticator, store, clock, monkeypatch) -> None:
    token = issue_token(store).token
    authenticator.authenticate(token, now_ms=0)

    def fail(_: bytes) -> None:
        raise Unavailable("the database cannot do this now")

    monkeypatch.setattr(store, "find_token", fail)
    clock.now_s += CACHE_TTL_S
    with pytest.raises(Unavailable):
        authenticator.authenticate(token, now_ms=0)


def test_two_tenants_tokens_are_never_mixed_up(authenticator, store) -> None:
    ours, theirs = issue_token(store, "acme"), issue_token(store, "other")
    for _ in range(2):
        assert authenticator.authenticate(ours.token, now_ms=0).tenant == "acme"
        assert authenticator.authenticate(theirs.token, now_ms=0).tenant == "other"
