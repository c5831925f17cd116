"""Release: sealed facts handed out with their salts. Each release is an entry of the log before anybody sees a fact.

With value and salt whoever is given them checks the commitment in the logged entry (`assay verify receipt --sealed`).
A release that cannot be logged, in a frozen log too, is not made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.errors import NotFound, Rejected
from app.ledger.entry import Draft, Opening, parse_entry
from app.ledger.ports import LedgerReader
from app.subjects.personal import ErasedByPolicy
from app.subjects.ports import Append, SubjectStore
from app.subjects.seal import SealBrokenError, open_with_salt

RELEASE_ACTION: Final = "subject.opened"
_REASON: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")


@dataclass(frozen=True, slots=True)
class Released:
    """The facts by path, each checked against its commitment, and the entry that says that they were handed out."""

    openings: Mapping[str, Opening] = field(repr=False)
    logged: UUID


def release(
    tenant: str,
    entry_id: UUID,
    paths: Collection[str] = (),
    *,
    reader: LedgerReader,
    store: SubjectStore,
    append: Append,
    reason: str,
    actor: str,
    new_id: Callable[[], UUID],
) -> Released | ErasedByPolicy:
    """Return the facts that the entry seals at `paths`, all of them if none is named, once their release is durable.

    Raises NotFound without such an entry, Rejected for a path that it does not seal, SealBrokenError for a fact that is
    not what was logged.
    """
    if not _REASON.fullmatch(reason):
        raise Rejected("reason is a code: a-z, 0-9, _ and ., at most 64", code="reason_invalid", pointer="/reason")
    stored = reader.find_entry(tenant, entry_id)
    if stored is None:
        raise NotFound("there is no such entry", code="entry_unknown")
    entry = parse_entry(stored.body)
    wanted = sorted(set(paths) or entry.sealed)
    unknown = [path for path in wanted if path not in entry.sealed]
    if entry.subject is None or unknown or not wanted:
        raise Rejected("the entry seals no such field", code="field_unknown", pointer="/fields")
    sealed = {each.path: each for each in store.list_sealed(tenant, entry_id)}
    draft = Draft(
        action=RELEASE_ACTION,
        actor=actor,
        subject=entry.subject,
        ref={"entry": entry.id},
        data={"paths": wanted, "reason": reason},
    )

    logged = new_id()
    with store.transaction() as tx:
        subject = tx.lock_subject(tenant, entry.subject)  # so that no erasure comes between the opening and its entry
        if subject is not None and subject.erased_at_ms is not None:
            return ErasedByPolicy(subject.erased_at_ms)
        if subject is None or subject.key is None or not sealed.keys() >= set(wanted):
            raise SealBrokenError(f"sealed fields of {entry.id} are missing, and its subject was not erased")
        key = subject.key
        openings = {path: open_with_salt(sealed[path], key=key, expected=entry.sealed[path]) for path in wanted}
        append(tx, tenant, draft, logged)
    return Released(openings, logged)
