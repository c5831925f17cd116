"""What every `TokenStore` promises. Run it by subclassing with a `store` and a `list_entries` fixture."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from app.credentials.merchant_token import authenticate
from app.credentials.ports import Scope, StoredToken
from app.errors import Conflict, NotFound, Unauthenticated
from tests.fakes.tokens import PEPPER, issue_token, revoke_token

TOKEN = StoredToken(
    id="tok_1",
    tenant="acme",
    digest=b"d" * 32,
    scopes=frozenset({Scope.PAYMENTS_READ, Scope.ENTRIES_WRITE}),
    issued_at_ms=1_700_000_000_000,
    expires_at_ms=1_700_000_060_000,
)
PATIENCE_S = 20


def add(store, token: StoredToken) -> None:
    with store.transaction() as tx:
        tx.add_token(token)


class TokenStoreContract:
    def test_a_token_comes_back_as_it_was_added(self, store) -> None:
        add(store, TOKEN)
        assert store.find_token(TOKEN.digest) == TOKEN
        assert store.find_token(b"x" * 32) is None
        with store.transaction() as tx:
            assert tx.lock_token("acme", "tok_1") == TOKEN
            assert tx.lock_token("acme", "tok_2") is None

    def test_a_token_of_another_tenant_cannot_be_locked_or_revoked(self, store) -> None:
        add(store, TOKEN)
        with store.transaction() as tx:
            assert tx.lock_token("other", "tok_1") is None
        with pytest.raises(NotFound):
            revoke_token(store, "tok_1", tenant="other")
        assert store.find_token(TOKEN.digest) == TOKEN

    def test_one_id_in_two_tenants_is_two_tokens(self, store) -> None:
        theirs = replace(TOKEN, tenant="other", digest=b"e" * 32)
        add(store, TOKEN)
        add(store, theirs)
        with store.transaction() as tx:
            tx.revoke_token("other", "tok_1", at_ms=7)
        assert store.find_token(TOKEN.digest) == TOKEN
        assert store.find_token(theirs.digest) == replace(theirs, revoked_at_ms=7)

    def test_a_tenants_tokens_are_listed_newest_first_within_the_limit(self, store) -> None:
        issued = [issue_token(store, lifetime_s=60).stored for _ in range(3)]
        issue_token(store, tenant="other")
        assert store.list_tokens("acme", limit=9) == issued[::-1]
        assert store.list_tokens("acme", limit=2) == issued[:0:-1]
        assert store.list_tokens("nobody", limit=9) == []

    def test_of_live_tokens_neither_revoked_nor_expired_ones_are_listed(self, store) -> None:
        short, revoked, live = (issue_token(store, lifetime_s=lifetime_s).stored for lifetime_s in (1, 60, 60))
        revoke_token(store, revoked.id)
        at_ms = short.expires_at_ms
        assert [token.id for token in store.list_tokens("acme", live_at_ms=at_ms, limit=9)] == [live.id]
        assert store.list_tokens("acme", live_at_ms=at_ms - 1, limit=9) == [live, short]
        assert [token.is_live(at_ms) for token in store.list_tokens("acme", limit=9)] == [True, False, False]

    @pytest.mark.parametrize("twin", [{"digest": b"e" * 32}, {"id": "tok_2"}, {"id": "tok_2", "tenant": "other"}])
    def test_no_token_is_added_twice(self, store, twin) -> None:
        add(store, TOKEN)
        with pytest.raises(Conflict):
            add(store, replace(TOKEN, **twin))

    def test_an_unknown_tenant_has_no_tokens(self, store) -> None:
        with pytest.raises(NotFound):
            issue_token(store, tenant="nobody")

    def test_a_token_is_issued_and_revoked_with_an_entry_each(self, store, list_entries) -> None:
        issued = issue_token(store, scopes=[Scope.PAYMENTS_WRITE, Scope.ENTRIES_READ], lifetime_s=60)
        stored = issued.stored
        principal = authenticate(store, PEPPER, issued.token, now_ms=stored.issued_at_ms)
        assert (principal.tenant, principal.token_id) == ("acme", stored.id)
        assert principal.scopes == {Scope.PAYMENTS_WRITE, Scope.ENTRIES_READ}
        assert revoke_token(store, stored.id) is True
        assert revoke_token(store, stored.id) is False
        with pytest.raises(Unauthenticated) as refused:
            authenticate(store, PEPPER, issued.token, now_ms=stored.issued_at_ms)
        assert refused.value.code == "token_revoked"

        first, second = list_entries("acme")
        assert (first.action, first.ref, first.time_ms) == ("token.issued", {"token": stored.id}, stored.issued_at_ms)
        assert first.data == {
            "token": stored.id,
            "scopes": "entries:read,payments:write",
            "expires_at_ms": stored.issued_at_ms + 60_000,
        }
        assert (second.action, second.data) == ("token.revoked", {"token": stored.id, "reason": "leaked"})

    def test_a_token_that_cannot_be_logged_is_not_issued(self, store) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            issue_token(store, append=fail, random_bytes=lambda count: b"r" * count)
        assert store.find_token(PEPPER.digest("ask_" + "cnJy" * 10 + "cnI")) is None

    def test_racing_revocations_leave_one_entry(self, store, list_entries) -> None:
        token_id = issue_token(store).stored.id
        together = threading.Barrier(4)

        def run(_: int) -> bool:
            together.wait(PATIENCE_S)
            return revoke_token(store, token_id)

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(run, range(4)))
        assert sorted(outcomes) == [False, False, False, True]
        assert [entry.action for entry in list_entries("acme")] == ["token.issued", "token.revoked"]
