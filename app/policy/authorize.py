"""Who may call what: asked of the policy `authz/decide` once, and remembered.

The answer depends on the scopes of a token and the operation alone, so for one bundle it never changes: a request costs
a look-up. An engine that fails is not remembered, and nobody is let in because of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from app.errors import Refused, Unavailable
from app.policy.decide import parse_answer
from app.policy.decision import Allow, Outcome
from app.policy.ports import EngineFailed, PolicyEngine

ENTRYPOINT: Final = "authz/decide"
Authorize = Callable[[Collection[str], str], None]
"""Returns if a caller with these scopes may do this operation; see `Authorizer.require`."""
REMEMBERED_LIMIT: Final = 10_000
"""Answers kept; scopes and operations are few, so that more of them mean a mistake: then all are asked anew."""


class Authorizer:
    """Answers for one bundle. One per process; safe to use from many threads."""

    def __init__(self, engine: PolicyEngine, *, bundle_digest: str) -> None:
        """Ask nothing yet."""
        self._engine = engine
        self._bundle_digest = bundle_digest
        self._known: dict[tuple[frozenset[str], str], Outcome] = {}

    def require(self, scopes: Collection[str], operation: str) -> None:
        """Return if a row of the policy's table allows this operation to a caller with these scopes.

        Raises Refused (`scope_missing`, naming the scope, or `operation_unlisted`), and Unavailable
        (`authorization_unavailable`) if the engine gives no answer.
        """
        key = (frozenset(scopes), operation)
        outcome = self._known.get(key)
        if outcome is None:
            outcome = self._ask(*key)
            if len(self._known) >= REMEMBERED_LIMIT:
                self._known.clear()
            self._known[key] = outcome
        if isinstance(outcome, Allow):
            return
        if needed := outcome.output.get("needs"):
            raise Refused(f"this needs a token with the scope {needed}", code="scope_missing")
        raise Refused("the policy has no row for this operation", code="operation_unlisted")

    def _ask(self, scopes: frozenset[str], operation: str) -> Outcome:
        document = {"authz": {"operation": operation, "scopes": sorted(map(str, scopes))}}
        try:
            outcome, _ = parse_answer(self._engine.evaluate(ENTRYPOINT, document, bundle_digest=self._bundle_digest))
        except EngineFailed as error:
            raise Unavailable("who may do this cannot be decided now", code="authorization_unavailable") from error
        return outcome
