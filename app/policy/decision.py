"""What a policy answers (Allow, Deny or Review), and the record of one decision.

An answer is a value and never an exception: whoever acts on it must look at its type. Messages are constant text
of the policy author's: neither they nor `output` may hold personal data, because the record goes into the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Mode(StrEnum):
    """What a decision was for. Only an enforced one is ever acted on."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    """Asked of a bundle that is being tried out beside the one in force."""
    REPLAY = "replay"
    """Asked again of a past input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why. `code` is stable API; `control` and `statute` name whose rule it is, where there is one."""

    code: str
    message: str
    control: str | None = None
    statute: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """Go on. `output` holds the facts chosen, e.g. `psp`."""

    reasons: tuple[Reason, ...]
    output: Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """Stop, for at least one reason."""

    reasons: tuple[Reason, ...]
    output: Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A person must look, for at least one reason; until then, nothing moves."""

    reasons: tuple[Reason, ...]
    output: Mapping[str, str | int]


Outcome = Allow | Deny | Review

OUTCOMES: Mapping[str, type[Allow | Deny | Review]] = {"allow": Allow, "deny": Deny, "review": Review}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataVersion:
    """A data file of the bundle: its own version, and the SHA-256 of its bytes in hex."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRef:
    """Which bundle decided, by the digest of its content."""

    name: str
    digest: str
    data: Sequence[DataVersion]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRef:
    """Which engine evaluated it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision, as it is recorded before anything acts on it.

    `input_digest` is HMAC-SHA256 under the caller's salt of the canonical input, in hex, None if the input was not
    JSON of ours. `result` is what the engine said, `result_digest` the SHA-256 of its canonical JSON.
    `failure` tells the operator what went wrong, without the input; it is for the operator's log, not for the record.
    """

    decision_id: str
    decided_at: datetime
    entrypoint: str
    mode: Mode
    bundle: BundleRef
    engine: EngineRef
    input_digest: str | None
    outcome: Outcome
    result: Mapping[str, object]
    result_digest: str
    failure: str | None
    latency_us: int
