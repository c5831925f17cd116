"""What policies need from the outside: an engine that evaluates Rego, a check of bundles, a store that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from app.errors import Broken
from app.ledger.entry import Draft
from app.ledger.ports import AppendResult, EntryWriter, StoredEntry
from app.policy.bundle import Bundle
from app.policy.decision import EngineRef
from app.policy.kept import KeptBundle, State
from app.policy.query import Query


class EngineFailed(Broken):
    """The engine gave no answer to rely on; `failure` says how.

    `error | undefined | timeout | memory | panic | unreachable | wrong_bundle | wrong_entrypoint | input_refused |
    answer_refused`
    The message never quotes the input.
    """

    code = "engine_failed"

    def __init__(self, message: str, *, failure: str) -> None:
        """`failure`: one word of the list above; it goes into the decision's record."""
        super().__init__(message)
        self.failure = failure


Evaluate = Callable[..., Mapping[str, Any]]
"""`PolicyEngine.evaluate`."""


def evaluate_each(
    evaluate: Evaluate, questions: Sequence[Query], *, bundle_digest: str
) -> list[Mapping[str, Any] | EngineFailed]:
    """Return what `PolicyEngine.evaluate_all` does, by asking one after the other."""
    answers: list[Mapping[str, Any] | EngineFailed] = []
    for question in questions:
        try:
            answers.append(
                evaluate(
                    question.entrypoint,
                    question.document,
                    bundle_digest=bundle_digest,
                    decision_id=question.decision_id,
                )
            )
        except EngineFailed as error:
            answers.append(error)
    return answers


class PolicyEngine(Protocol):
    """Rego over bundles. Every implementation passes tests/contract/test_policy_engine.py."""

    @property
    def ref(self) -> EngineRef:
        """The engine's name and version, for the record."""
        ...

    def evaluate(
        self, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str, decision_id: str | None = None
    ) -> Mapping[str, Any]:
        """Return the object that the rule `entrypoint` (`package/rule`) has for the input `document`.

        Pure: the same entrypoint, document and bundle give the same object. `decision_id` is told to an engine that
        keeps a log of its own, so that its lines can be found from ours, and changes nothing. May be called from any
        thread, and at once. Keeps no part of `document` in a log, an error or a later evaluation.
        Raises `EngineFailed`, and no other Exception, when the rule fails, is undefined, is not an object, exceeds a
        bound (of time and memory too), or when the bundle `bundle_digest` is not at hand. An engine that failed answers
        the next call, and a rule that loops or explodes costs this process nothing but the wait.
        """
        ...

    def evaluate_all(
        self, questions: Sequence[Query], *, bundle_digest: str
    ) -> Sequence[Mapping[str, Any] | EngineFailed]:
        """Return what `evaluate` gives or raises for each question, in their order.

        Many cost less than as many calls. One that fails costs the others nothing but time.
        """
        ...

    def find_problem(self) -> str | None:
        """Return why nothing could be decided now, in words for the operator, or None. Raises nothing."""
        ...


Append = Callable[[EntryWriter, str, Draft, UUID], AppendResult]
"""Check a tenant's draft against the registry and append it under this id, in the caller's transaction."""


class BundleTransaction(EntryWriter, Protocol):
    """One open transaction. Everything in it, entries included, becomes durable together or not at all."""

    def add_bundle(self, kept: KeptBundle, archive: bytes) -> None:
        """Keep a new bundle and its archive, which never changes again.

        Raises Conflict if the tenant has this digest, or another bundle in a state that only one can have; NotFound if
        there is no such tenant.
        """
        ...

    def lock_bundle(self, tenant: str, digest: str) -> tuple[KeptBundle, Mapping[State, KeptBundle]]:
        """Return the bundle and those in force, and keep others from locking any until this transaction ends.

        Raises NotFound (`bundle_unknown`) if the tenant has no such bundle.
        """
        ...

    def update_bundle(self, kept: KeptBundle) -> None:
        """Store state, proposer, approver and reports; the caller holds the lock.

        Raises Conflict for a second bundle in a state that only one can have, and for an approver who is the author or
        the proposer, whatever the caller has checked.
        """
        ...


class BundleStore(Protocol):
    """Where bundles are kept. Every implementation passes tests/contract/bundle_store_contract.py."""

    def transaction(self) -> AbstractContextManager[BundleTransaction]:
        """Open a transaction: committed on a clean exit, rolled back on an exception. Unavailable if it can't."""
        ...

    def read_archive(self, tenant: str, digest: str) -> bytes:
        """Return the archive as it was kept. Raises NotFound (`bundle_unknown`)."""
        ...

    def find_bundle(self, tenant: str, digest: str) -> KeptBundle | None:
        """Return the tenant's bundle; None if absent."""
        ...

    def find_in_force(self, tenant: str) -> Mapping[State, KeptBundle]:
        """Return the active and the shadow bundle, as far as there are any."""
        ...

    def list_bundles(self, tenant: str, *, before: UUID | None, limit: int) -> Sequence[KeptBundle]:
        """Return bundles, the newest first; `before` is the `added_id` where the page before ended."""
        ...

    def list_history(self, tenant: str, *, before: int | None, limit: int) -> Sequence[StoredEntry]:
        """Return the entries about policies, the newest first, published or not; `before` is the last `seq` seen."""
        ...

    def find_replay(self, tenant: str, report_digest: str) -> StoredEntry | None:
        """Return the newest entry `policy.replayed` whose report has this digest, published or not; None if absent.

        What else refers to that digest is passed over, whoever wrote it.
        """
        ...

    def find_reverified(self, tenant: str) -> StoredEntry | None:
        """Return the newest entry `policy.reverified`, published or not; None if absent."""
        ...

    def list_without_active(self) -> Sequence[str]:
        """Return the tenants whose log is open and that have no active bundle."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a bundle's check found: why it must not be enforced, empty if it may; and how many tests ran."""

    problems: tuple[str, ...]
    tests: int


class BundleCheck(Protocol):
    """Compiles a bundle, holds it against the dialect and runs its tests."""

    def __call__(self, bundle: Bundle, tests: Mapping[str, bytes]) -> CheckResult:
        """Return what was found; never raises for what the policies do: a policy that hangs is a problem found."""
        ...
