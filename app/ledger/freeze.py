"""Freezing: a log ends with `log.frozen`, and nothing is appended or signed after it."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from app.ledger.action import Registry
from app.ledger.append import prepare
from app.ledger.entry import Draft
from app.ledger.keys import LOG_FROZEN
from app.ledger.ports import AppendResult, EntryRow


class FreezableStore(Protocol):
    """A store that can end a log: all of them can."""

    def close_log(self, last: EntryRow) -> AppendResult:
        """Append `last` and close its tenant's log, in one transaction; wake the sequencer then.

        Every transaction that appended to this log before has ended, and every later one is refused: no entry of the
        tenant has a higher `seq`. Raises LogFrozenError if the log is closed already, and Unavailable if appending
        transactions do not end in time: then nothing has changed.
        """
        ...


def freeze(store: FreezableStore, registry: Registry, tenant: str, *, reason: str, entry_id: UUID) -> AppendResult:
    """End this tenant's log for good; `reason` is a code. Raises as `close_log` does, and Rejected for a bad reason."""
    draft = Draft(action=LOG_FROZEN, actor="operator:freeze", data={"reason": reason})
    return store.close_log(prepare(registry, tenant, draft, entry_id=entry_id))
