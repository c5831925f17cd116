"""Request and response bodies of the decisions' API, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.ledger.entry import REFS_LIMIT
from app.subjects.ports import READ_BATCH
from app.web.models import INDEX_LIMIT, PAGE_DEFAULT, Model

MAX_MODULES = 64
MAX_TABLES = 32
_DECISION = "^dec_[0-9a-f]{32}$"
_ENTRYPOINT = "^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)+$"
_CODE = "^[a-z][a-z0-9_]{0,63}$"


class DecisionPath(BaseModel):
    """A decision's id."""

    decision_id: str = Field(pattern=_DECISION)


class DecisionQuery(Model):
    """Which decisions to list. The cursor is the log index, so pages never shift."""

    after: int = Field(default=0, ge=0, le=INDEX_LIMIT, description="First index to look at.")
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=READ_BATCH, description="Decisions to look at.")
    verdict: str | None = Field(default=None, pattern="^(allow|deny|review)$")
    entrypoint: str | None = Field(default=None, pattern=_ENTRYPOINT, max_length=128)
    mode: str | None = Field(default=None, pattern="^(enforce|shadow|replay)$")
    code: str | None = Field(default=None, pattern=_CODE, description="The code of one of its reasons.")


class ReasonOut(BaseModel):
    """Why: a stable code, words, and whose rule it is."""

    code: str
    message: str
    control: str | None
    statute: str | None


class BundleRefOut(BaseModel):
    """A bundle by the digest of its content."""

    name: str
    digest: str


class DataRefOut(BaseModel):
    """A table of the bundle's data."""

    name: str
    version: str
    digest: str


class EngineOut(BaseModel):
    """What evaluated it."""

    name: str
    version: str


class DecideIn(Model):
    """What is to be decided. `input` is what the entrypoint's policy reads (docs/policies.md)."""

    entrypoint: str = Field(pattern=_ENTRYPOINT, max_length=128, examples=["retention/decide"])
    input: dict[str, Any] = Field(
        description="JSON without fractions, at most 64 KiB. It is sealed under the subject's own key; the log gets a "
        "commitment. The time is ours: `now_ms` is set.",
        examples=[{"authz": {"operation": "GET /v1/entries", "scopes": ["entries:read"]}}],
    )
    subject: str | None = Field(
        default=None, pattern="^sub_[A-Za-z0-9]{1,60}$", description="Whom it is about; a new one is made without."
    )
    ref: dict[str, str] = Field(default_factory=dict, max_length=REFS_LIMIT - 1, examples=[{"case": "c-17"}])


class DecidedOut(BaseModel):
    """The decision, durable on the log. Act on `allow` alone."""

    id: str
    entry: str
    subject: str
    entrypoint: str
    verdict: str = Field(description="allow, deny or review. What no policy answered is a deny (`engine_failed`).")
    reasons: list[ReasonOut]
    output: dict[str, str | int]
    bundle: BundleRefOut
    index: int | None = Field(description="Its place in the log, once it is published (`Prefer: wait`).")
    receipt: str = Field(description="Where its receipt is; with `Prefer: wait` the receipt, once published.")


class DecisionOut(BaseModel):
    """A decision as it was logged, and whether it can be run again today."""

    id: str
    entry: str
    index: int
    decided_at: str
    entrypoint: str
    mode: str = Field(description="Only `enforce` was acted on.")
    verdict: str
    words: str
    reasons: list[ReasonOut]
    output: dict[str, str | int]
    bundle: BundleRefOut
    data: list[DataRefOut]
    engine: EngineOut
    subject: str | None
    ref: dict[str, str]
    input_digest: str | None
    result_digest: str
    latency_us: int
    replayable: bool
    not_replayable: str | None = Field(description="Why not, as a code: `erased`, `engine_failed`, …")


class DecisionPage(BaseModel):
    """Decisions in log order; pass `next` as `after` to go on. A page may be empty and still have a `next`."""

    decisions: list[DecisionOut]
    next: int | None


class RuleOut(BaseModel):
    """A rule that was looked at, and what it came to."""

    rule: str
    path: str
    lines: list[int]
    title: str | None
    control: str | None
    statute: str | None
    outcome: str = Field(examples=["deny", "holds", "does not hold", "has a value", "was used"])
    reasons: list[ReasonOut]
    words: str


class ExplanationOut(BaseModel):
    """Why a decision came out as it did: its own bundle was asked again, and these rules were looked at."""

    decision: str
    title: str | None
    verdict: str
    same_result: bool = Field(description="Whether it came to the same bytes again. False is an alarm.")
    rules: list[RuleOut]


class EvalIn(Model):
    """Rules to try: `modules` with `data`, or a `bundle` that is kept; on an `input`, or that of a `decision`."""

    entrypoint: str = Field(pattern=_ENTRYPOINT, max_length=128, examples=["payments/decide"])
    modules: dict[str, str] | None = Field(default=None, max_length=MAX_MODULES, description="Rego by path.")
    data: dict[Annotated[str, Field(pattern=_CODE)], dict[str, Any]] = Field(
        default_factory=dict, max_length=MAX_TABLES, description="Tables by name, each with its `version`."
    )
    bundle: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    input: dict[str, Any] | None = None
    decision: str | None = Field(default=None, pattern=_DECISION)


class EvalOut(BaseModel):
    """What the rules said. `problem`: why nobody could act on it, null if they could."""

    value: Any
    problem: str | None
    covered: dict[str, list[int]] = Field(description="Lines reached, by module.")
    not_covered: dict[str, list[int]]
    rules: list[RuleOut]
