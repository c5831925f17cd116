"""A bundle as a tenant keeps it: how far it is on its way into force, and who brought it there.

draft      added by its author; decides nothing
shadow     proposed, with reports: evaluated beside the active one, never acted on
active     approved by a second person; decides
retired    gave way to another, or was given up; its content stays for ever, so that decisions can be replayed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from app.ledger.entry import format_entry_id

ASSAY: Final = "operator:assay"
"""Assay itself, as the actor who keeps and activates a tenant's first bundle."""


class State(StrEnum):
    """How far a bundle is."""

    DRAFT = "draft"
    SHADOW = "shadow"
    ACTIVE = "active"
    RETIRED = "retired"


NEXT_STATES: Final[Mapping[State, frozenset[State]]] = {
    State.DRAFT: frozenset({State.SHADOW, State.RETIRED}),
    State.SHADOW: frozenset({State.ACTIVE, State.DRAFT, State.RETIRED}),  # draft: another one took the shadow place
    State.ACTIVE: frozenset({State.RETIRED}),  # by the next one alone
    State.RETIRED: frozenset({State.SHADOW}),  # the way back to an earlier bundle needs two people as well
}
IN_FORCE: Final = (State.ACTIVE, State.SHADOW)
"""Of each a tenant has at most one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBundle:
    """A bundle of a tenant. `author`, `proposer` and `approver` are actors; `added_id` is the entry that added it.

    `reports` is what the proposer attached, as JSON (app.policy.evidence). Never is `approver` the author or the
    proposer, but for Assay's own first bundle.
    """

    tenant: str
    digest: str
    name: str
    state: State
    author: str
    added_id: UUID
    changed_at_ms: int
    base: str | None = None
    proposer: str | None = None
    approver: str | None = None
    reports: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as the API and the command show it."""
        return {
            "digest": self.digest,
            "name": self.name,
            "state": str(self.state),
            "author": self.author,
            "proposer": self.proposer,
            "approver": self.approver,
            "base": self.base,
            "reports": dict(self.reports),
            "added": format_entry_id(self.added_id),
            "changed_at_ms": self.changed_at_ms,
        }
