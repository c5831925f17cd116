"""What a verification found: one of five outcomes, the first bad place, and what was not proven.

The outcomes are never conflated: a network that failed is not tampering, and an erased value is not a missing one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from app.errors import Rejected
from app.tlog.policy import NO_QUORUM, Policy, VerifiedCheckpoint


class Outcome(StrEnum):
    """The answer. Only `INVALID` speaks of tampering."""

    VALID = "valid"
    INVALID = "invalid"
    NOT_CHECKED = "could not check"
    NOT_IN_LOG = "not yet in the log"
    ERASED = "erased by policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is wrong: what is wrong there, and the entry, tile or checkpoint it is."""

    what: str
    entry_index: int | None = None
    entry_id: str | None = None
    path: str | None = None
    checkpoint_size: int | None = None

    def describe(self) -> str:
        """Return the place in words, then what is wrong with it."""
        names = []
        if self.entry_index is not None:
            names.append(f"entry {self.entry_index}" + (f" ({self.entry_id})" if self.entry_id else ""))
        if self.checkpoint_size is not None:
            names.append(f"checkpoint of size {self.checkpoint_size}")
        if self.path is not None:
            names.append(self.path)
        return ", ".join(names) + (": " if names else "") + self.what


class TamperedError(Rejected):
    """The log is not what was signed: `place` is the first thing found wrong."""

    code = "tampered"

    def __init__(self, place: Place) -> None:
        """`place`: what a person should look at."""
        super().__init__(place.describe())
        self.place = place

    def __reduce__(self) -> tuple[type[TamperedError], tuple[Place]]:
        return TamperedError, (self.place,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Who, beside the operator, vouches for the checkpoint.

    `cosigned` of `witnesses` in the trust file; `quorum` is its rule's name, or None if it asks for no quorum.
    `anchored`: the log extends a checkpoint that was kept outside it.
    """

    cosigned: int = 0
    witnesses: int = 0
    quorum: str | None = None
    quorum_met: bool = False
    anchored: bool = False

    @property
    def name(self) -> str:
        """Return `witnessed`, `anchored` or `operator`: the strongest that holds."""
        if self.quorum is not None and self.quorum_met:
            return "witnessed"
        return "anchored" if self.anchored else "operator"

    def describe(self) -> str:
        """Return the level in words."""
        words = {
            "witnessed": f"witnessed by quorum {self.quorum}: {self.cosigned} of {self.witnesses} witnesses",
            "anchored": "anchored: it extends a checkpoint that was kept outside the log",
            "operator": "operator's key only",
        }
        return words[self.name]


def level_of(policy: Policy, verified: VerifiedCheckpoint, *, anchored: bool = False) -> Level:
    """Return the level of a checkpoint that this policy verified."""
    return Level(
        cosigned=len(verified.cosignatures),
        witnesses=len(policy.witnesses),
        quorum=None if policy.quorum == NO_QUORUM else policy.quorum,
        quorum_met=verified.quorum_met,
        anchored=anchored,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One verification. `summary` says the outcome's reason in words; `checkpoint` is the signed note, if opened.

    `counts` says how many things of a kind were looked at; `proven` and `not_proven` are sentences.
    """

    outcome: Outcome
    target: str
    summary: str
    origin: str | None = None
    size: int | None = None
    root: bytes | None = None
    level: Level | None = None
    place: Place | None = None
    counts: dict[str, int] = field(default_factory=dict)
    deep: bool = False
    proven: tuple[str, ...] = ()
    not_proven: tuple[str, ...] = ()
    checkpoint: bytes | None = None


FACTS_ARE_TRUE = "that what the entries say is true: only that it was logged, and has not changed since"
OTHERS_SEE_THE_SAME = "that other people are shown the same log: no quorum of witnesses has cosigned it"
CLOCK = "when the entries were made: their times are the operator's clock"


def not_shown_by(level: Level) -> tuple[str, ...]:
    """Return what no verification at this level proves."""
    split_view = () if level.name == "witnessed" else (OTHERS_SEE_THE_SAME,)
    return (FACTS_ARE_TRUE, CLOCK, *split_view)
