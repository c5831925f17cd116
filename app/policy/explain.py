"""Explaining a decision in words: which rules were looked at when it was run again, and what each came to.

The trace is made afterwards, by replay: it costs a decision nothing. Values of rules stay with the engine, because
they may hold the input: what is told of a rule is its verdict and reasons, or whether it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.policy.annotation import Rule
from app.policy.decision import Reason

HOLDS: Final = "holds"
DOES_NOT_HOLD: Final = "does not hold"
HAS_VALUE: Final = "has a value"
USED: Final = "was used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What an engine tells of one evaluation. `value` is that of the rule asked for, None if it has none.

    `covered` and `not_covered` are line numbers by module; `values` has what was asked besides, by query: None where
    undefined, and nothing for a function.
    """

    value: Any
    covered: Mapping[str, Sequence[int]]
    not_covered: Mapping[str, Sequence[int]]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A rule that was looked at, and what it came to: a verdict, or one of the words above."""

    rule: Rule
    lines: tuple[int, ...]
    outcome: str
    reasons: tuple[Reason, ...] = ()


def list_queries(rules: Sequence[Rule]) -> list[str]:
    """Return what to ask besides the rule in question, each name once; a function has no value of its own."""
    return sorted({rule.query for rule in rules if not rule.is_function})


def explain(rules: Sequence[Rule], trace: Trace) -> list[Step]:
    """Return the rules that the evaluation looked at, in order of module and line."""
    steps = []
    for rule in rules:
        lines = tuple(line for line in trace.covered.get(rule.path, ()) if rule.first <= line <= rule.last)
        if lines:
            steps.append(_step(rule, lines, trace.values))
    return steps


def say(step: Step) -> str:
    """Return the step as a sentence for somebody who does not read Rego."""
    annotation = step.rule.annotation
    title = annotation.title or f"{step.rule.package}.{step.rule.name}"
    named = ", ".join(text for text in (annotation.control, annotation.statute) if text)
    why = "; ".join(reason.message for reason in step.reasons)
    return f"{title}{f' [{named}]' if named else ''}: {step.outcome}{f' ({why})' if why else ''}"


def _step(rule: Rule, lines: tuple[int, ...], values: Mapping[str, Any]) -> Step:
    if rule.query not in values:
        return Step(rule=rule, lines=lines, outcome=USED)
    value = values[rule.query]
    if isinstance(value, dict) and isinstance(value.get("verdict"), str):
        return Step(rule=rule, lines=lines, outcome=value["verdict"], reasons=_read_reasons(value.get("reasons")))
    if value is None or value is False:
        return Step(rule=rule, lines=lines, outcome=DOES_NOT_HOLD)
    return Step(rule=rule, lines=lines, outcome=HOLDS if value is True else HAS_VALUE)


def _read_reasons(value: Any) -> tuple[Reason, ...]:
    if not isinstance(value, list):
        return ()
    known = {"code", "message", "control", "statute"}
    return tuple(
        Reason(**reason)
        for reason in value
        if isinstance(reason, dict) and {"code", "message"} <= reason.keys() <= known
    )
