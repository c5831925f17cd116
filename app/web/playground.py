"""For policy authors and compliance officers: past decisions in words, why they came out so, and rules tried out.

Nothing here is a decision. Rules run within bounds, in a process of their own, a few at a time. Who tries a rule on a
past decision's input can read that input by the rule: it takes the scope for sealed facts too, and is logged as their
release.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag

from app.adapters.rego_dialect import list_offences
from app.credentials.ports import Scope
from app.errors import Rejected, Unavailable
from app.ledger.canonical import canonical
from app.ledger.entry import parse_entry, parse_entry_id
from app.ledger.ports import EntryFilter, StoredEntry
from app.policy.annotation import find_entrypoint_title, list_rules
from app.policy.bundle import Bundle, make_bundle
from app.policy.decide import Answer, parse_answer
from app.policy.explain import Step, Trace, say
from app.policy.ports import EngineFailed
from app.policy.record import ACTION, INPUT, DecisionRecord, parse_record
from app.policy.replay import Past, Unusable
from app.subjects.personal import ErasedByPolicy
from app.subjects.recall import Recall, read_decision
from app.web.auth import caller, needs
from app.web.deciding import Deciding, render_reason
from app.web.decision_models import (
    DecidedOut,
    DecideIn,
    DecisionOut,
    DecisionPage,
    DecisionPath,
    DecisionQuery,
    EvalIn,
    EvalOut,
    ExplanationOut,
)
from app.web.wire import Answer as WebAnswer
from app.wiring import Services
from app.wiring.policies import trace_rules

MAX_TRACES: Final = 2
"""Rules traced at one time in a web process."""
TRACE_WAIT_S: Final = 2.0
RELEASE_REASON: Final = "policy.eval"
"""Why a decision's input was handed out, as the log says it."""
_TAG: Final = Tag(name="decisions", description="Past decisions, explained by running them again; rules tried out.")


class Playground:
    """The views, over one set of services."""

    def __init__(self, services: Services) -> None:
        """Remember the services."""
        self._services = services
        self._tracing = threading.BoundedSemaphore(MAX_TRACES)

    def list_decisions(self, query: DecisionQuery) -> Response:
        """Return a page of decisions that pass the filters."""
        recall = self._services.recall(caller().tenant)
        page = self._services.store.list_entries(
            caller().tenant, EntryFilter(action=ACTION), start=query.after, stop=recall.tree.size, limit=query.limit
        )
        shown = [decision for decision in _render_all(recall, page.entries) if _passes(decision, query)]
        return _json({"decisions": shown, "next": page.next_index})

    def read(self, decision_id: str) -> Response:
        """Return one decision in words."""
        recall, stored = self._find(decision_id)
        [decision] = _render_all(recall, [stored])
        return _json(decision)

    def explain(self, decision_id: str) -> Response:
        """Return why the decision came out so, rule by rule."""
        past = self._recall_one(decision_id)
        bundle = self._services.read_bundle(caller().tenant, past.record.bundle.digest)
        with self._one_trace():
            trace, steps = trace_rules(bundle, past.record.entrypoint, past.document)
        return _json(
            {
                "decision": past.record.decision_id,
                "title": find_entrypoint_title(list_rules(bundle.modules), past.record.entrypoint),
                "verdict": past.record.verdict,
                "same_result": _digest(trace) == past.record.result_digest,
                "rules": [_render_step(step) for step in steps],
            }
        )

    def evaluate(self, body: EvalIn) -> Response:
        """Return what the rules say to an input."""
        bundle = self._read_bundle(body)
        offences = list_offences(bundle)
        if offences:
            raise Rejected(f"outside the dialect: {'; '.join(offences[:5])}", code="dialect_offence")
        document = body.input
        if body.decision is not None:
            caller().require(Scope.SUBJECTS_READ)
            document = self._release_input(body.decision)
        canonical(document)
        with self._one_trace():
            trace, steps = trace_rules(bundle, body.entrypoint, document or {})
        return _json(
            {
                "value": trace.value,
                "problem": _find_problem(trace.value),
                "covered": trace.covered,
                "not_covered": trace.not_covered,
                "rules": [_render_step(step) for step in steps],
            }
        )

    def _read_bundle(self, body: EvalIn) -> Bundle:
        if (body.modules is None) == (body.bundle is None):
            raise Rejected("give either modules or bundle", code="query_invalid", pointer="/modules")
        if (body.input is None) == (body.decision is None):
            raise Rejected("give either input or decision", code="query_invalid", pointer="/input")
        if body.modules is None:
            return self._services.read_bundle(caller().tenant, body.bundle or "")
        files = {path: text.encode() for path, text in body.modules.items()}
        files |= {f"data/{name}/data.json": canonical(value) for name, value in body.data.items()}
        return make_bundle(files, name="playground")

    def _find(self, decision_id: str) -> tuple[Recall, StoredEntry]:
        recall = self._services.recall(caller().tenant)
        return recall, read_decision(self._services.store, recall.tree, decision_id)

    def _recall_one(self, decision_id: str) -> Past:
        """Return a decision that can be run again. Raises Rejected (`not_replayable`)."""
        recall, stored = self._find(decision_id)
        [past] = recall.recall([stored])
        if isinstance(past, Unusable):
            raise Rejected(f"this decision cannot be run again: {past.code}", code="not_replayable")
        return past

    def _release_input(self, decision_id: str) -> dict[str, Any]:
        """Return the document of a past decision, once it is logged that it is handed out."""
        past, asking = self._recall_one(decision_id), caller()
        entry_id = parse_entry_id(past.record.entry_id)
        released = self._services.release(asking.tenant, entry_id, (INPUT,), reason=RELEASE_REASON, actor=asking.actor)
        if isinstance(released, ErasedByPolicy):
            raise Rejected("this decision cannot be run again: erased", code="not_replayable")
        return dict(past.document)

    @contextmanager
    def _one_trace(self) -> Iterator[None]:
        if not self._tracing.acquire(timeout=TRACE_WAIT_S):
            raise Unavailable("too many rules are being tried at once", code="overloaded")
        try:
            yield
        finally:
            self._tracing.release()


def _render_all(recall: Recall, stored: Sequence[StoredEntry]) -> list[dict[str, Any]]:
    """Return decisions with what became of them: the entry never changes, its input may be erased."""
    states = recall.recall(stored)
    return [
        _render(parse_record(parse_entry(each.body)), each.index, state.code if isinstance(state, Unusable) else None)
        for each, state in zip(stored, states, strict=True)
    ]


def _render(record: DecisionRecord, index: int | None, obstacle: str | None) -> dict[str, Any]:
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=record.decided_at_ms)
    because = "; ".join(reason.message for reason in record.outcome.reasons)
    return {
        "id": record.decision_id,
        "entry": record.entry_id,
        "index": index,
        "decided_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "entrypoint": record.entrypoint,
        "mode": str(record.mode),
        "verdict": record.verdict,
        "words": f"{record.verdict.capitalize()}{f': {because}' if because else '.'}",
        "reasons": [render_reason(reason) for reason in record.outcome.reasons],
        "output": dict(record.outcome.output),
        "bundle": {"name": record.bundle.name, "digest": record.bundle.digest},
        "data": [{"name": each.name, "version": each.version, "digest": each.digest} for each in record.bundle.data],
        "engine": {"name": record.engine.name, "version": record.engine.version},
        "subject": record.subject,
        "ref": dict(record.ref),
        "input_digest": record.input_digest,
        "result_digest": record.result_digest,
        "latency_us": record.latency_us,
        "replayable": obstacle is None,
        "not_replayable": obstacle,
    }


def _passes(decision: Mapping[str, Any], query: DecisionQuery) -> bool:
    asked = {"verdict": query.verdict, "entrypoint": query.entrypoint, "mode": query.mode}
    if any(value is not None and decision[name] != value for name, value in asked.items()):
        return False
    return query.code is None or any(reason["code"] == query.code for reason in decision["reasons"])


def _render_step(step: Step) -> dict[str, Any]:
    annotation = step.rule.annotation
    return {
        "rule": f"{step.rule.package}.{step.rule.name}",
        "path": step.rule.path,
        "lines": list(step.lines),
        "title": annotation.title,
        "control": annotation.control,
        "statute": annotation.statute,
        "outcome": step.outcome,
        "reasons": [render_reason(reason) for reason in step.reasons],
        "words": say(step),
    }


def _digest(trace: Trace) -> str | None:
    """Return the digest of the result, None if there is none to rely on."""
    try:
        outcome, result = parse_answer(trace.value if isinstance(trace.value, dict) else {})
    except EngineFailed:
        return None
    return Answer(outcome=outcome, result=result).digest


def _find_problem(value: Any) -> str | None:
    """Return why nobody could act on this value, None if they could."""
    if value is None:
        return "the rule is undefined for this input"
    try:
        parse_answer(value if isinstance(value, dict) else {})
    except EngineFailed as error:
        return str(error)
    return None


def _json(body: Mapping[str, Any]) -> Response:
    return WebAnswer(orjson.dumps(body), mimetype="application/json")


def create_blueprint(services: Services) -> APIBlueprint:
    """Return the decisions' API and the playground."""
    api = APIBlueprint("playground", __name__, abp_tags=[_TAG], abp_security=[{"token": []}])
    playground, deciding = Playground(services), Deciding(services)

    @api.post("/v1/decisions", responses={"201": DecidedOut, "202": DecidedOut})
    @needs(Scope.DECISIONS_WRITE)
    def decide(body: DecideIn) -> Response:
        """Have the policies in force decide, on record. Each request is a decision of its own."""
        return deciding.decide(body)

    @api.get("/v1/decisions", responses={"200": DecisionPage})
    @needs(Scope.POLICIES_READ)
    def list_decisions(query: DecisionQuery) -> Response:
        """List published decisions in log order. A page may be empty and still have a `next`."""
        return playground.list_decisions(query)

    @api.get("/v1/decisions/<decision_id>", responses={"200": DecisionOut})
    @needs(Scope.POLICIES_READ)
    def read_decision(path: DecisionPath) -> Response:
        """Return a decision in words, and whether it can be run again today."""
        return playground.read(path.decision_id)

    @api.get("/v1/decisions/<decision_id>/explain", responses={"200": ExplanationOut})
    @needs(Scope.POLICIES_READ)
    def explain_decision(path: DecisionPath) -> Response:
        """Explain a decision rule by rule, by running it again with the bundle that decided."""
        return playground.explain(path.decision_id)

    @api.post("/v1/policy/eval", responses={"200": EvalOut})
    @needs(Scope.POLICIES_WRITE)
    def evaluate(body: EvalIn) -> Response:
        """Try rules on an input, or on that of a past decision: that needs `subjects:read` too, and is logged."""
        return playground.evaluate(body)

    return api
