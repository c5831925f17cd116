"""Who may call what: asked once, remembered, and nobody let in by a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from app.adapters.rego import RegoEngine
from app.credentials.ports import Scope
from app.errors import Refused, Unavailable
from app.policy import authorize
from app.policy.authorize import Authorizer
from app.policy.decision import EngineRef
from app.policy.ports import EngineFailed
from tests.policies.rego_suite import shipped

BUNDLE = shipped()
OPERATIONS = BUNDLE.data["authz"]["operations"]


class CountingEngine:
    """The embedded engine, counting what it is asked, and failing when told to."""

    def __init__(self) -> None:
        self._engine = RegoEngine(lambda _: BUNDLE)
        self.asked = 0
        self.fails = False

    @property
    def ref(self) -> EngineRef:
        return self._engine.ref

    def evaluate(
        self, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str, decision_id: str | None = None
    ) -> Mapping[str, Any]:
        self.asked += 1
        if self.fails:
            raise EngineFailed("told to", failure="timeout")
        return self._engine.evaluate(entrypoint, document, bundle_digest=bundle_digest)


@pytest.fixture
def engine() -> CountingEngine:
    return CountingEngine()


@pytest.fixture
def authorizer(engine: CountingEngine) -> Authorizer:
    return Authorizer(engine, bundle_digest=BUNDLE.digest)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_the_scope_of_the_row_opens_and_all_others_together_do_not(authorizer: Authorizer, operation: str) -> None:
    needed = OPERATIONS[operation]
    if needed == "public":
        authorizer.require([], operation)
        return
    authorizer.require([needed], operation)
    with pytest.raises(Refused, match=needed) as refused:
        authorizer.require(set(Scope) - {needed}, operation)
    assert refused.value.code == "scope_missing"


def test_what_has_no_row_is_refused_to_everybody(authorizer: Authorizer) -> None:
    with pytest.raises(Refused, match="no row") as refused:
        authorizer.require(frozenset(Scope), "GET /v1/everything")
    assert refused.value.code == "operation_unlisted"


def test_a_request_after_the_first_asks_no_engine(authorizer: Authorizer, engine: CountingEngine) -> None:
    for _ in range(3):
        authorizer.require(frozenset({Scope.ENTRIES_READ}), "GET /v1/entries")
        with pytest.raises(Refused):
            authorizer.require(frozenset({Scope.ENTRIES_WRITE}), "GET /v1/entries")
    assert engine.asked == 2


def test_a_failure_lets_nobody_in_and_is_forgotten(authorizer: Authorizer, engine: CountingEngine) -> None:
    engine.fails = True
    with pytest.raises(Unavailable) as failed:
        authorizer.require(frozenset({Scope.ENTRIES_READ}), "GET /v1/entries")
    assert failed.value.code == "authorization_unavailable"
    engine.fails = False
    authorizer.require(frozenset({Scope.ENTRIES_READ}), "GET /v1/entries")


def test_what_is_remembered_is_bounded(
    authorizer: Authorizer, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorize, "REMEMBERED_LIMIT", 2)
    for operation in ("GET /livez", "GET /readyz", "GET /metrics", "GET /livez"):
        authorizer.require((), operation)
    assert engine.asked == 4
