"""`assay policy eval` and `explain`: what the rules say to an input, and why a past decision came out as it did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from app.cli.opening import open_installation
from app.cli.output import EXIT_NOT_DONE, AsJson, OfTenant, complain, describe, print_json, print_line
from app.cli.policy_author import find_folder
from app.cli.policy_replay import BundleFolder
from app.errors import Malformed, Rejected
from app.ledger.canonical import parse_json
from app.policy.bundle import load_bundle
from app.policy.decide import MAX_INPUT_BYTES, Answer, parse_answer
from app.policy.decision import OUTCOMES
from app.policy.explain import DOES_NOT_HOLD, HOLDS, Step, say
from app.policy.ports import EngineFailed
from app.policy.replay import Past, Unusable
from app.subjects.recall import read_decision
from app.wiring.policies import trace_rules

EVAL_HELP: Final = describe(
    "Evaluate a rule for an input, and say which rules were looked at.",
    "assay policy eval payments/decide --input input.json",
    "assay policy eval payments/decide --input input.json --bundle ./policies --json",
    more="The input is what the policy reads, `now_ms` included. Exit 1 if there is no answer to rely on.",
)
EXPLAIN_HELP: Final = describe(
    "Say in words why a decision came out as it did, rule by rule, by running it again.",
    "assay policy explain dec_0193583e… --tenant demo",
    more="Only a decision that verifies is run again, with the bundle that decided it. Exit 1 if it cannot be, or "
    "comes out differently.",
)


def evaluate(
    entrypoint: Annotated[str, typer.Argument(help="The rule: package/rule.")],
    file: Annotated[Path, typer.Option("--input", "-i", help="The input, JSON.", exists=True, dir_okay=False)],
    bundle: BundleFolder = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a rule."""
    document = parse_json(file.read_bytes(), limit_bytes=MAX_INPUT_BYTES)
    if not isinstance(document, dict):
        raise Malformed(f"{file} is not a JSON object", code="json_malformed")
    trace, steps = trace_rules(load_bundle(find_folder(bundle), name="given"), entrypoint, document)
    try:
        problem = None if trace.value is not None else "the rule is undefined for this input"
        parse_answer(trace.value if isinstance(trace.value, dict) else {})
    except EngineFailed as error:
        problem = problem or str(error)
    if as_json:
        rules, covered = [step_to_json(step) for step in steps], trace.covered
        print_json({"value": trace.value, "problem": problem, "rules": rules, "covered": covered})
    else:
        print_json(trace.value)
        print_steps(steps)
    if problem is not None:
        complain(problem)
        raise typer.Exit(EXIT_NOT_DONE)


def explain(
    decision_id: Annotated[str, typer.Argument(help="Which: dec_….", metavar="DECISION")],
    tenant: OfTenant,
    as_json: AsJson = False,
) -> None:
    """Explain a decision."""
    with open_installation() as installation:
        recall = installation.recall(installation.read_tenant(tenant))
        [past] = recall.recall([read_decision(installation.store, recall.tree, decision_id)])
        if isinstance(past, Unusable):
            raise Rejected(f"{decision_id} cannot be run again: {past.code} (docs/decisions.md)", code="not_replayable")
        bundle = installation.read_bundle(tenant, past.record.bundle.digest)
    trace, steps = trace_rules(bundle, past.record.entrypoint, past.document)
    outcome, result = parse_answer(trace.value)
    same = Answer(outcome=outcome, result=result).digest == past.record.result_digest
    if as_json:
        record = past.record
        print_json(
            {
                "decision": record.decision_id,
                "verdict": record.verdict,
                "bundle": record.bundle.digest,
                "same_result": same,
                "rules": [step_to_json(step) for step in steps],
            }
        )
    else:
        print_decision(past, same=same)
        print_steps(steps)
    if not same:
        complain("run again, it comes out differently from what was logged")
        raise typer.Exit(EXIT_NOT_DONE)


def print_decision(past: Past, *, same: bool) -> None:
    """Print what was decided."""
    record = past.record
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=record.decided_at_ms)
    print_line(f"{record.decision_id}: {record.verdict}, on {at:%Y-%m-%d %H:%M:%S} UTC, {record.mode}")
    print_line(
        f"asked {record.entrypoint} of {record.bundle.name} {record.bundle.digest[:12]}, by {record.engine.name}"
    )
    print_line(f"run again from its verified entry: {'the same result' if same else 'ANOTHER RESULT'}")
    for reason in record.outcome.reasons:
        named = ", ".join(text for text in (reason.control, reason.statute) if text)
        print_line(f"  because: {reason.message}{f' [{named}]' if named else ''}")


def print_steps(steps: Sequence[Step]) -> None:
    """Print the verdicts that the rules came to, then what held; values and functions are their parts (`--json`)."""
    for title, wanted in (("the verdicts:", OUTCOMES.keys()), ("what was looked at:", {HOLDS, DOES_NOT_HOLD})):
        found = dict.fromkeys(say(step) for step in steps if step.outcome in wanted and step.rule.annotation.title)
        if found:
            print_line()
            print_line(title)
        for text in found:
            print_line(f"  {text}")


def step_to_json(step: Step) -> dict[str, Any]:
    """Return a step as JSON."""
    rule, annotation = step.rule, step.rule.annotation
    return {
        "rule": f"{rule.package}.{rule.name}",
        "path": rule.path,
        "lines": list(step.lines),
        "title": annotation.title,
        "control": annotation.control,
        "statute": annotation.statute,
        "outcome": step.outcome,
        "reasons": [reason.code for reason in step.reasons],
    }
