"""A `PaymentStore` in memory: one transaction at a time, rolled back whole, entries checked by their schemas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.errors import Conflict, NotFound
from app.ledger.entry import Draft, check_draft
from app.ledger.registry import open_registry
from app.payments.intent import Attempt, Intent
from app.payments.ports import LiveAttemptError, StaleIntentError

REGISTRY = open_registry()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    intents: dict[tuple[str, str], Intent] = field(default_factory=dict)
    attempts: dict[tuple[str, str], Attempt] = field(default_factory=dict)
    entries: list[tuple[str, Draft]] = field(default_factory=list)


class MemoryPaymentStore:
    def __init__(self) -> None:
        self.tables = Tables()
        self.open_transactions = 0
        self.around_commit: Callable[[str], None] = lambda when: None  # a test may crash the process here
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[MemoryPaymentTransaction]:
        with self._lock:
            self.open_transactions += 1
            work = Tables(
                intents=dict(self.tables.intents),
                attempts=dict(self.tables.attempts),
                entries=list(self.tables.entries),
            )
            try:
                yield MemoryPaymentTransaction(work)
                self.around_commit("before")
                self.tables = work
                self.around_commit("after")
            finally:
                self.open_transactions -= 1

    def find_intent(self, tenant: str, intent_id: str) -> Intent | None:
        return self.tables.intents.get((tenant, intent_id))

    def list_due(self, tenant: str | None, now: datetime, limit: int) -> list[Intent]:
        due = [
            (intent.next_check_at, intent.id, intent)
            for intent in self.tables.intents.values()
            if tenant in {None, intent.tenant} and intent.next_check_at and intent.next_check_at <= now
        ]
        return [intent for *_, intent in sorted(due, key=lambda row: row[:2])][:limit]

    def list_actions(self, payment: str) -> list[str]:
        return [draft.action for _, draft in self.tables.entries if draft.ref.get("payment") == payment]


class MemoryPaymentTransaction:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def insert_intent(self, intent: Intent) -> None:
        if any(key[1] == intent.id for key in self._tables.intents):
            raise Conflict("the intent exists")
        self._tables.intents[intent.tenant, intent.id] = intent

    def lock_intent(self, tenant: str, intent_id: str) -> Intent:
        intent = self._tables.intents.get((tenant, intent_id))
        if intent is None:
            raise NotFound("no such payment")
        return intent

    def update_intent(self, before: Intent, after: Intent) -> None:
        now = self._tables.intents.get((before.tenant, before.id))
        if now is None or (now.state, now.active_attempt_id) != (before.state, before.active_attempt_id):
            raise StaleIntentError("the intent is no longer what it was")
        self._tables.intents[before.tenant, before.id] = replace(
            now,
            state=after.state,
            code=after.code,
            decision_id=after.decision_id,
            active_attempt_id=after.active_attempt_id,
            next_check_at=after.next_check_at,
            updated_at=after.updated_at,
        )

    def insert_attempt(self, attempt: Attempt) -> None:
        others = self._tables.attempts.values()
        if any(other.intent_id == attempt.intent_id and not other.is_final for other in others):
            raise LiveAttemptError("the intent has a live attempt")
        if any(other.id == attempt.id or other.key == attempt.key for other in others):
            raise Conflict("the attempt exists")
        self._tables.attempts[attempt.tenant, attempt.id] = attempt

    def read_attempt(self, tenant: str, attempt_id: str) -> Attempt:
        attempt = self._tables.attempts.get((tenant, attempt_id))
        if attempt is None:
            raise NotFound("no such attempt")
        return attempt

    def update_attempt(self, before: Attempt, after: Attempt) -> None:
        now = self._tables.attempts.get((before.tenant, before.id))
        if now is None or (now.state, now.sends) != (before.state, before.sends):
            raise StaleIntentError("the attempt is no longer what it was")
        self._tables.attempts[before.tenant, before.id] = replace(
            now,
            state=after.state,
            code=after.code,
            psp_reference=after.psp_reference,
            sends=after.sends,
            last_sent_at=after.last_sent_at,
        )

    def list_attempts(self, tenant: str, intent_id: str) -> list[Attempt]:
        attempts = self._tables.attempts.values()
        found = [it for it in attempts if (it.tenant, it.intent_id) == (tenant, intent_id)]
        return sorted(found, key=lambda attempt: attempt.created_at)

    def append(
        self,
        action: str,
        *,
        tenant: str,
        actor: str,
        subject: str | None,
        ref: Mapping[str, str],
        data: Mapping[str, str | int | bool],
        sealed: Mapping[str, str] | None = None,
    ) -> None:
        draft = Draft(
            action=action, actor=actor, subject=subject, ref=dict(ref), data=dict(data), sealed=dict(sealed or {})
        )
        check_draft(draft)
        REGISTRY.check(draft)
        self._tables.entries.append((tenant, draft))
