"""Keeping personal facts: one entry and what is sealed for it, in a transaction of their own, once for each key."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol
from uuid import UUID

from app.ledger.entry import Draft
from app.ledger.ports import AppendResult
from app.subjects.personal import append_personal
from app.subjects.ports import Append, SubjectTransaction
from app.subjects.seal import RandomBytes


class Transactions(Protocol):
    """A store in which entries and sealed facts commit together."""

    def transaction(self) -> AbstractContextManager[SubjectTransaction]:
        """Open a transaction, as SubjectStore promises."""
        ...


class _NothingEarlierError(Exception):
    """Rolls a look at an idempotency key back."""


def keep_personal(
    tenant: str,
    draft: Draft,
    personal: Mapping[str, Any],
    *,
    store: Transactions,
    entry_id: UUID,
    append: Append,
    random_bytes: RandomBytes,
) -> AppendResult:
    """Append `draft` with commitments to `personal`, and store the sealed facts. Requires `draft.subject`.

    When the idempotency key was used before, the earlier entry stands, nothing is sealed and no subject is made; also
    after its subject was erased. Raises SubjectErasedError, and Rejected for what the action does not have.
    """
    if draft.idem is not None:
        earlier = _find_earlier(tenant, draft, store=store, entry_id=entry_id, append=append)
        if earlier is not None:
            return earlier
    with store.transaction() as tx:
        return append_personal(tx, tenant, draft, personal, entry_id=entry_id, append=append, random_bytes=random_bytes)


def _find_earlier(
    tenant: str, draft: Draft, *, store: Transactions, entry_id: UUID, append: Append
) -> AppendResult | None:
    """Return what was logged under the draft's key, or None; then nothing has changed."""
    with suppress(_NothingEarlierError), store.transaction() as tx:
        result = append(tx, tenant, draft, entry_id)
        if result.replayed:
            return result
        raise _NothingEarlierError
    return None
