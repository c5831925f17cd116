"""Deciding about a person: ask, and put the answer on the log with its input sealed under the person's own key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from app.ledger.entry import SALT_BYTES, Draft
from app.policy.decide import decide, decision_data, input_document
from app.policy.decision import BundleRef, Decision, Mode
from app.policy.ports import PolicyEngine
from app.policy.query import Query
from app.policy.record import ACTION, INPUT, format_input
from app.subjects.keep import Transactions
from app.subjects.personal import append_personal
from app.subjects.ports import Append
from app.subjects.seal import RandomBytes

DECISION_REF: Final = "decision"
"""The kind of reference by which a decision's entry is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be decided, about whom and for whom. `ref` names what it belongs to."""

    tenant: str
    actor: str
    subject: str
    ref: Mapping[str, str]
    query: Query


class Decide(Protocol):
    """Decides a case, as `Decider.decide` does."""

    def __call__(self, case: Case, *, bundle: BundleRef, mode: Mode = Mode.ENFORCE) -> Decision:
        """Return the decision once it is on the log."""
        ...


class Decider:
    """Decides with one engine. Safe for threads."""

    def __init__(
        self,
        *,
        store: Transactions,
        append: Append,
        engine: PolicyEngine,
        now: Callable[[], datetime],
        new_id: Callable[[], UUID],
        random_bytes: RandomBytes,
        monotonic_ns: Callable[[], int],
    ) -> None:
        """Remember what deciding takes."""
        self._store = store
        self._append = append
        self._engine = engine
        self._now = now
        self._new_id = new_id
        self._random_bytes = random_bytes
        self._monotonic_ns = monotonic_ns

    def decide(self, case: Case, *, bundle: BundleRef, mode: Mode = Mode.ENFORCE) -> Decision:
        """Return the decision once it is on the log. If that fails, this raises: what is not logged is not acted on."""
        salt, now = self._random_bytes(SALT_BYTES), self._now()
        decision = decide(
            self._engine,
            case.query,
            bundle=bundle,
            now=now,
            salt=salt,
            new_id=self._new_id,
            monotonic_ns=self._monotonic_ns,
            mode=mode,
        )
        draft = Draft(
            action=ACTION,
            actor=case.actor,
            subject=case.subject,
            ref={**case.ref, DECISION_REF: decision.decision_id},
            data=decision_data(decision),
        )
        with self._store.transaction() as tx:
            append_personal(
                tx,
                case.tenant,
                draft,
                {INPUT: format_input(input_document(case.query, now), salt)},
                entry_id=self._new_id(),
                append=self._append,
                random_bytes=self._random_bytes,
            )
        return decision
