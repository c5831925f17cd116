"""Deciding about a person: ask, and put the answer on the log with its input sealed under the person's own key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from app.errors import AssayError
from app.ledger.entry import SALT_BYTES, Draft
from app.ledger.ports import EntryRow
from app.policy.decide import Asking, decide_all, decision_data, input_document
from app.policy.decision import BundleRef, Decision, Mode
from app.policy.ports import PolicyEngine
from app.policy.query import Query
from app.policy.record import ACTION, INPUT, format_input
from app.subjects.keep import Transactions
from app.subjects.personal import append_personal, prepare_newcomer
from app.subjects.ports import Append, Newcomer, Prepare
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A decision about a newcomer, and what puts it on the log; not to be acted on before that is committed."""

    decision: Decision
    row: EntryRow
    newcomer: Newcomer


class Decider:
    """Decides with one engine. Safe for threads."""

    def __init__(
        self,
        *,
        store: Transactions,
        append: Append,
        prepare: Prepare,
        engine: PolicyEngine,
        now: Callable[[], datetime],
        new_id: Callable[[], UUID],
        random_bytes: RandomBytes,
        monotonic_ns: Callable[[], int],
    ) -> None:
        """Remember what deciding takes."""
        self._store = store
        self._append = append
        self._prepare = prepare
        self._engine = engine
        self._now = now
        self._new_id = new_id
        self._random_bytes = random_bytes
        self._monotonic_ns = monotonic_ns

    def decide(self, case: Case, *, bundle: BundleRef, mode: Mode = Mode.ENFORCE) -> Decision:
        """Return the decision once it is on the log. If that fails, this raises: what is not logged is not acted on."""
        [asked] = self._ask([case], bundle, mode)
        with self._store.transaction() as tx:
            append_personal(
                tx,
                case.tenant,
                asked.draft,
                asked.personal,
                entry_id=self._new_id(),
                append=self._append,
                random_bytes=self._random_bytes,
            )
        return asked.decision

    def prepare(self, cases: Sequence[Case], *, bundle: BundleRef) -> list[Ready | AssayError]:
        """Return each decision with what is to be committed before it counts, or why it cannot be logged.

        The subject of each case is a new, random id.
        """
        return [self._prepare_one(case, asked) for case, asked in zip(cases, self._ask(cases, bundle), strict=True)]

    def _prepare_one(self, case: Case, asked: _Asked) -> Ready | AssayError:
        try:
            row, newcomer = prepare_newcomer(
                case.tenant,
                asked.draft,
                asked.personal,
                entry_id=self._new_id(),
                prepare=self._prepare,
                random_bytes=self._random_bytes,
            )
        except AssayError as error:
            return error
        return Ready(decision=asked.decision, row=row, newcomer=newcomer)

    def _ask(self, cases: Sequence[Case], bundle: BundleRef, mode: Mode = Mode.ENFORCE) -> list[_Asked]:
        """Return for each case the decision, the entry that records it, and the personal facts of that."""
        now = self._now()
        askings = [Asking(query=case.query, now=now, salt=self._random_bytes(SALT_BYTES)) for case in cases]
        decisions = decide_all(
            self._engine, askings, bundle=bundle, new_id=self._new_id, monotonic_ns=self._monotonic_ns, mode=mode
        )
        return [_record(*each) for each in zip(cases, askings, decisions, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    decision: Decision
    draft: Draft
    personal: Mapping[str, Any]


def _record(case: Case, asking: Asking, decision: Decision) -> _Asked:
    draft = Draft(
        action=ACTION,
        actor=case.actor,
        subject=case.subject,
        ref={**case.ref, DECISION_REF: decision.decision_id},
        data=decision_data(decision),
        plain=True,  # texts and integers of ours, and what `parse_answer` has seen
    )
    document = input_document(asking.query, asking.now)
    return _Asked(decision=decision, draft=draft, personal={INPUT: format_input(document, asking.salt)})
