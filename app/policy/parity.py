"""Parity: the same question to two engines must give the same bytes, or no answer by either.

How an engine says that a policy has no answer is its own: where input is of another type than a rule expects, one
calls the rule undefined and the other an error. Both are Deny. An answer by one engine alone is a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.errors import Rejected
from app.ledger.canonical import canonical
from app.policy.ports import EngineFailed, PolicyEngine
from app.policy.query import Query

FAILED: Final = "failed: "
BOTH: Final = 2
MAX_DIFFERENCES: Final = 20
"""Differences that are kept with their input; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A question with two answers: canonical JSON, or `failed: <how>`. The document may hold personal data."""

    entrypoint: str
    document: Mapping[str, Any]
    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How many questions were asked, and how many both engines answered, answered differently, and failed unlike."""

    asked: int
    answered: int
    different: int
    failed_unlike: int
    differences: tuple[Difference, ...]


def compare_engines(
    first: PolicyEngine, second: PolicyEngine, questions: Iterable[Query], *, bundle_digest: str
) -> Parity:
    """Ask both engines every question, and compare what they say byte by byte."""
    asked = answered = different = failed_unlike = 0
    kept: list[Difference] = []
    for question in questions:
        one, other = (ask_canonical(engine, question, bundle_digest=bundle_digest) for engine in (first, second))
        failures = one.startswith(FAILED) + other.startswith(FAILED)
        asked += 1
        answered += failures == 0
        failed_unlike += failures == BOTH and one != other
        if failures < BOTH and one != other:
            different += 1
            kept.append(Difference(entrypoint=question.entrypoint, document=question.document, first=one, second=other))
    return Parity(
        asked=asked,
        answered=answered,
        different=different,
        failed_unlike=failed_unlike,
        differences=tuple(kept[:MAX_DIFFERENCES]),
    )


def ask_canonical(engine: PolicyEngine, question: Query, *, bundle_digest: str) -> str:
    """Return an engine's answer as canonical JSON, or `failed: ` and how."""
    try:
        answer = engine.evaluate(question.entrypoint, question.document, bundle_digest=bundle_digest)
        return canonical(dict(answer)).decode()
    except EngineFailed as error:
        return FAILED + error.failure
    except Rejected:
        return FAILED + "answer_refused"
