"""What tokens need from the outside: a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from app.ledger.entry import Draft
from app.ledger.ports import AppendResult, EntryWriter

Append = Callable[[EntryWriter, str, Draft, UUID], AppendResult]
"""Check a tenant's draft against the registry and append it under this id, in the caller's transaction."""


class Scope(StrEnum):
    """What a token may do, within its tenant. A closed set; nothing implies anything else."""

    ENTRIES_READ = "entries:read"  # entries, receipts, proofs and bundles: all an auditor needs
    ENTRIES_WRITE = "entries:write"
    PAYMENTS_READ = "payments:read"
    PAYMENTS_WRITE = "payments:write"
    SUBJECTS_READ = "subjects:read"  # open sealed personal facts
    SUBJECTS_ERASE = "subjects:erase"
    DECISIONS_WRITE = "decisions:write"  # have the policies decide, on record
    POLICIES_READ = "policies:read"  # also what an OPA server pulls its bundle with
    POLICIES_WRITE = "policies:write"  # an author: add and propose
    POLICIES_APPROVE = "policies:approve"  # the second person: activate


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """A token as it is stored: the digest under the pepper, never the token. `id` is public: tok_ and 32 hex digits."""

    id: str
    tenant: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope]
    issued_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None = None

    def is_live(self, at_ms: int) -> bool:
        """Say whether it is accepted at this time."""
        return self.revoked_at_ms is None and at_ms < self.expires_at_ms


class TokenTransaction(EntryWriter, Protocol):
    """One open transaction. Everything in it, entries included, becomes durable together or not at all."""

    def add_token(self, token: StoredToken) -> None:
        """Store a new token. Raises Conflict if the id or the digest exists, NotFound if there is no such tenant."""
        ...

    def lock_token(self, tenant: str, token_id: str) -> StoredToken | None:
        """Return the tenant's token and keep others from locking it until this transaction ends; None if absent."""
        ...

    def revoke_token(self, tenant: str, token_id: str, *, at_ms: int) -> None:
        """Mark the token revoked; the caller holds its lock."""
        ...


class TokenStore(Protocol):
    """Where tokens are kept. Every implementation passes tests/contract/token_store_contract.py."""

    def transaction(self) -> AbstractContextManager[TokenTransaction]:
        """Open a transaction: committed on a clean exit, rolled back on an exception. Unavailable if it can't."""
        ...

    def find_token(self, digest: bytes) -> StoredToken | None:
        """Return the token with this digest, of whichever tenant, revoked and expired ones too; None if unknown.

        A scope that this version does not know is left out: it grants nothing.
        """
        ...

    def list_tokens(self, tenant: str, *, live_at_ms: int | None = None, limit: int) -> Sequence[StoredToken]:
        """Return up to `limit` tokens of a tenant, the newest first; with `live_at_ms` those accepted at that time."""
        ...
