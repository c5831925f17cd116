"""Payments in SQL (app.payments.ports; migration 0004)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.adapters.sql import tables as t
from app.adapters.sql.engine import reading
from app.adapters.sql.store import SqlStore, SqlTx
from app.adapters.sql.subjects import SqlSubjectTx
from app.errors import Conflict, NotFound
from app.ledger.entry import Draft
from app.ledger.ports import AppendResult, EntryWriter
from app.payments.intent import Attempt, AttemptState, Intent, IntentState
from app.payments.money import Money
from app.payments.ports import LiveAttemptError, StaleIntentError

Append = Callable[[EntryWriter, str, Draft, UUID], AppendResult]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_INTENT: Final = select(t.payment_intent).where(
    t.payment_intent.c.tenant == bindparam("of_tenant"), t.payment_intent.c.id == bindparam("of_id")
)
_ATTEMPT: Final = select(t.payment_attempt).where(
    t.payment_attempt.c.tenant == bindparam("of_tenant"), t.payment_attempt.c.id == bindparam("of_id")
)


class SqlPaymentTx(SqlSubjectTx):
    """A PaymentTransaction, and a SubjectTransaction: a payer is sealed in the transaction of the payment."""

    def __init__(self, tx: SqlTx, append: Append, new_entry_id: Callable[[], UUID]) -> None:
        """`tx` is open; `append` checks a draft and appends it."""
        super().__init__(tx)
        self._append = append
        self._new_entry_id = new_entry_id

    def insert_intent(self, intent: Intent) -> None:
        """Insert the intent."""
        try:
            self._connection.execute(insert(t.payment_intent).values(**_intent_row(intent)))
        except IntegrityError as error:
            raise Conflict("this payment exists", code="payment_exists") from error

    def lock_intent(self, tenant: str, intent_id: str) -> Intent:
        """Return the intent, locked (on SQLite the whole database is)."""
        row = self._connection.execute(_INTENT.with_for_update(), {"of_tenant": tenant, "of_id": intent_id}).first()
        if row is None:
            raise NotFound("there is no such payment", code="payment_unknown")
        return _to_intent(row)

    def update_intent(self, before: Intent, after: Intent) -> None:
        """Compare and set."""
        table = t.payment_intent
        changed = self._connection.execute(
            update(table)
            .where(table.c.tenant == before.tenant, table.c.id == before.id, table.c.state == str(before.state))
            .where(table.c.active_attempt_id.is_not_distinct_from(before.active_attempt_id))
            .values(
                state=str(after.state),
                code=after.code,
                decision_id=after.decision_id,
                active_attempt_id=after.active_attempt_id,
                next_check_at_us=_to_us(after.next_check_at),
                updated_at_us=_to_us(after.updated_at),
            )
        )
        if changed.rowcount != 1:
            raise StaleIntentError("the payment has moved on")

    def insert_attempt(self, attempt: Attempt) -> None:
        """Insert the attempt; the unique index over live ones refuses a second."""
        table = t.payment_attempt
        live = select(table.c.id).where(
            table.c.tenant == attempt.tenant, table.c.intent_id == attempt.intent_id, table.c.live
        )
        if self._connection.execute(live).first() is not None:
            raise LiveAttemptError("this payment has an attempt that is not final")
        try:
            self._connection.execute(insert(table).values(**_attempt_row(attempt)))
        except IntegrityError as error:
            raise Conflict("this attempt, or another live one, exists", code="attempt_exists") from error

    def read_attempt(self, tenant: str, attempt_id: str) -> Attempt:
        """Return the attempt."""
        row = self._connection.execute(_ATTEMPT, {"of_tenant": tenant, "of_id": attempt_id}).first()
        if row is None:
            raise NotFound("there is no such attempt", code="attempt_unknown")
        return _to_attempt(row)

    def update_attempt(self, before: Attempt, after: Attempt) -> None:
        """Compare and set."""
        table = t.payment_attempt
        changed = self._connection.execute(
            update(table)
            .where(table.c.tenant == before.tenant, table.c.id == before.id)
            .where(table.c.state == str(before.state), table.c.sends == before.sends)
            .values(
                state=str(after.state),
                code=after.code,
                psp_reference=after.psp_reference,
                sends=after.sends,
                live=not after.is_final,
                last_sent_at_us=_to_us(after.last_sent_at),
            )
        )
        if changed.rowcount != 1:
            raise StaleIntentError("the attempt has moved on")

    def list_attempts(self, tenant: str, intent_id: str) -> Sequence[Attempt]:
        """Return the attempts of an intent, oldest first."""
        table = t.payment_attempt
        found = self._connection.execute(
            select(table)
            .where(table.c.tenant == tenant, table.c.intent_id == intent_id)
            .order_by(table.c.created_at_us, table.c.id)
        )
        return [_to_attempt(row) for row in found]

    def claim_key(self, tenant: str, idem: bytes, fingerprint: bytes, intent_id: str) -> tuple[str, bytes] | None:
        """Bind an idempotency key to a new intent; if it is bound already, return that intent's id and fingerprint.

        Waits for a running transaction that binds the same key.
        """
        table = t.payment_key
        values = {"tenant": tenant, "idem": idem, "fingerprint": fingerprint, "intent_id": intent_id}
        statement = sa.text(
            "INSERT INTO payment_key (tenant, idem, fingerprint, intent_id)"
            " VALUES (:tenant, :idem, :fingerprint, :intent_id) ON CONFLICT DO NOTHING"
        ).bindparams(bindparam("idem", type_=sa.LargeBinary()), bindparam("fingerprint", type_=sa.LargeBinary()))
        if self._connection.execute(statement, values).rowcount == 1:
            return None
        bound = self._connection.execute(
            select(table.c.intent_id, table.c.fingerprint).where(table.c.tenant == tenant, table.c.idem == idem)
        ).one()
        return bound.intent_id, bytes(bound.fingerprint)

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
        """Append a ledger entry in this transaction."""
        draft = Draft(action=action, actor=actor, subject=subject, ref=ref, data=data, sealed=sealed or {})
        self._append(self, tenant, draft, self._new_entry_id())


class SqlPaymentStore:
    """A PaymentStore in the ledger's database."""

    def __init__(self, store: SqlStore, engine: sa.Engine, append: Append, new_entry_id: Callable[[], UUID]) -> None:
        """Payments are kept where their entries are; `engine` is the one that `store` is on."""
        self._store = store
        self._engine = engine
        self._append = append
        self._new_entry_id = new_entry_id

    @contextmanager
    def transaction(self) -> Iterator[SqlPaymentTx]:
        """Open a transaction of the ledger's store."""
        with self._store.transaction() as tx:
            yield SqlPaymentTx(tx, self._append, self._new_entry_id)

    def find_intent(self, tenant: str, intent_id: str) -> Intent | None:
        """Return the intent, or None."""
        with reading(self._engine) as connection:
            row = connection.execute(_INTENT, {"of_tenant": tenant, "of_id": intent_id}).first()
        return None if row is None else _to_intent(row)

    def list_due(self, tenant: str | None, now: datetime, limit: int) -> Sequence[Intent]:
        """Return the intents to look at, the longest due first."""
        table = t.payment_intent
        due = select(table).where(table.c.next_check_at_us <= _to_us(now))
        if tenant is not None:
            due = due.where(table.c.tenant == tenant)
        with reading(self._engine) as connection:
            found = connection.execute(due.order_by(table.c.next_check_at_us, table.c.id).limit(limit)).fetchall()
        return [_to_intent(row) for row in found]


def _to_us(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def _to_datetime(at_us: int) -> datetime:
    return _EPOCH + at_us * _MICROSECOND


def _intent_row(intent: Intent) -> dict[str, Any]:
    return {
        "tenant": intent.tenant,
        "id": intent.id,
        "amount_minor": intent.money.amount_minor,
        "currency": intent.money.currency,
        "psp": intent.psp,
        "payment_method": intent.payment_method,
        "subject": intent.subject,
        "state": str(intent.state),
        "code": intent.code,
        "decision_id": intent.decision_id,
        "active_attempt_id": intent.active_attempt_id,
        "next_check_at_us": _to_us(intent.next_check_at),
        "created_at_us": _to_us(intent.created_at),
        "updated_at_us": _to_us(intent.updated_at),
    }


def _to_intent(row: sa.Row[Any]) -> Intent:
    return Intent(
        id=row.id,
        tenant=row.tenant,
        money=Money(amount_minor=row.amount_minor, currency=row.currency),
        psp=row.psp,
        payment_method=row.payment_method,
        created_at=_to_datetime(row.created_at_us),
        updated_at=_to_datetime(row.updated_at_us),
        subject=row.subject,
        state=IntentState(row.state),
        code=row.code,
        decision_id=row.decision_id,
        active_attempt_id=row.active_attempt_id,
        next_check_at=None if row.next_check_at_us is None else _to_datetime(row.next_check_at_us),
    )


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    return {
        "tenant": attempt.tenant,
        "id": attempt.id,
        "intent_id": attempt.intent_id,
        "psp": attempt.psp,
        "amount_minor": attempt.money.amount_minor,
        "currency": attempt.money.currency,
        "payment_method": attempt.payment_method,
        "key": attempt.key,
        "request_hash": attempt.request_hash,
        "state": str(attempt.state),
        "code": attempt.code,
        "psp_reference": attempt.psp_reference,
        "sends": attempt.sends,
        "live": not attempt.is_final,
        "created_at_us": _to_us(attempt.created_at),
        "last_sent_at_us": _to_us(attempt.last_sent_at),
    }


def _to_attempt(row: sa.Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        intent_id=row.intent_id,
        tenant=row.tenant,
        psp=row.psp,
        money=Money(amount_minor=row.amount_minor, currency=row.currency),
        payment_method=row.payment_method,
        key=row.key,
        request_hash=row.request_hash,
        created_at=_to_datetime(row.created_at_us),
        last_sent_at=_to_datetime(row.last_sent_at_us),
        sends=row.sends,
        state=AttemptState(row.state),
        code=row.code,
        psp_reference=row.psp_reference,
    )
