"""What deciding needs from the outside: an engine that evaluates Rego."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from app.errors import Broken
from app.policy.decision import EngineRef


class EngineFailed(Broken):
    """The engine gave no answer to rely on; `failure` says how.

    `error | undefined | timeout | panic | wrong_bundle | wrong_entrypoint | input_refused | answer_refused`
    The message never quotes the input.
    """

    code = "engine_failed"

    def __init__(self, message: str, *, failure: str) -> None:
        """`failure`: one word of the list above; it goes into the decision's record."""
        super().__init__(message)
        self.failure = failure


class PolicyEngine(Protocol):
    """Rego over one bundle. Every implementation passes tests/contract/test_policy_engine.py."""

    @property
    def ref(self) -> EngineRef:
        """The engine's name and version, for the record."""
        ...

    def evaluate(self, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str) -> Mapping[str, Any]:
        """Return the object that the rule `entrypoint` (`package/rule`) has for the input `document`.

        Pure: the same entrypoint, document and bundle give the same object. May be called from any thread, and at
        once. Keeps no part of `document` in a log, an error or a later evaluation.
        Raises `EngineFailed`, and no other Exception, when the rule fails, is undefined, is not an object, exceeds a
        bound, or when the bundle at hand is not `bundle_digest`. An engine that failed answers the next call.
        """
        ...
