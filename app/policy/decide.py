"""Deciding: questions to the engine, an answer and a record for each (DESIGN.md, flow "Decide").

`decide` and `decide_all` always return decisions. Whatever goes wrong on the way is Deny with the code
`engine_failed`. The caller appends `decision_data` as the entry `decision.recorded` before it acts: a decision that
is not logged is not acted on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.errors import Rejected
from app.ledger.canonical import canonical
from app.policy.decision import OUTCOMES, BundleRef, Decision, Deny, Mode, Outcome, Reason
from app.policy.ports import EngineFailed, PolicyEngine
from app.policy.query import Query

ENGINE_FAILED = "engine_failed"

MAX_INPUT_BYTES = 64 * 1024
MAX_REASONS = 32
MAX_MESSAGE_CHARS = 200
MAX_OUTPUT_FACTS = 16
MAX_FACT_CHARS = 200
SALT_BYTES = 32

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_REASON_KEYS = {"code", "message", "control", "statute"}
_RESULT_KEYS = {"verdict", "reasons", "output"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What asking came to. `result` is the answer as plain JSON; `failure`, for the operator's log, says what broke."""

    outcome: Outcome
    result: Mapping[str, Any]
    failure: str | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical result, in hex; `parse_answer` has seen that it is JSON of ours."""
        return hashlib.sha256(canonical(self.result, plain=True)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A query, when it was asked, and the salt of its input's digest.

    The policy reads the time as `input.now_ms`. `salt` is 32 fresh random bytes: an input is guessable (a name, a
    country), so its digest is keyed; keep the salt with the sealed input, and erase it with it.
    """

    query: Query
    now: datetime
    salt: bytes

    def __post_init__(self) -> None:
        """Refuse another length of salt."""
        if len(self.salt) != SALT_BYTES:
            raise ValueError(f"the salt has {SALT_BYTES} bytes")


def decide(
    engine: PolicyEngine,
    query: Query,
    *,
    bundle: BundleRef,
    now: datetime,
    salt: bytes,
    new_id: Callable[[], UUID],
    monotonic_ns: Callable[[], int],
    mode: Mode = Mode.ENFORCE,
) -> Decision:
    """Return what the policy says to `query`, as `decide_all` does."""
    asking = Asking(query=query, now=now, salt=salt)
    [decision] = decide_all(engine, [asking], bundle=bundle, new_id=new_id, monotonic_ns=monotonic_ns, mode=mode)
    return decision


def decide_all(
    engine: PolicyEngine,
    askings: Sequence[Asking],
    *,
    bundle: BundleRef,
    new_id: Callable[[], UUID],
    monotonic_ns: Callable[[], int],
    mode: Mode = Mode.ENFORCE,
) -> list[Decision]:
    """Return what the policy says to each query, never raising for what the engine or the documents do.

    The engine is asked for all of them at once, and each took as long as they all did. `new_id` gives UUIDv7s.
    """
    started_ns = monotonic_ns()
    ids = [f"dec_{new_id().hex}" for _ in askings]
    digests: list[str | None] = []
    answers: list[Answer | None] = []
    questions: list[Query] = []
    for asking, decision_id in zip(askings, ids, strict=True):
        document = input_document(asking.query, asking.now)
        question = Query(entrypoint=asking.query.entrypoint, document=document, decision_id=decision_id)
        try:
            digests.append(digest_input(question.document, asking.salt))
            answers.append(None)
            questions.append(question)
        except EngineFailed as error:
            digests.append(None)
            answers.append(_fail(error.failure, str(error)))
    found = iter(ask_all(engine, questions, bundle_digest=bundle.digest))
    whole = [answer or next(found) for answer in answers]
    latency_us = max(0, monotonic_ns() - started_ns) // 1000
    return [
        Decision(
            decision_id=decision_id,
            decided_at=asking.now,
            entrypoint=asking.query.entrypoint,
            mode=mode,
            bundle=bundle,
            engine=engine.ref,
            input_digest=digest,
            outcome=answer.outcome,
            result=answer.result,
            result_digest=answer.digest,
            failure=answer.failure,
            latency_us=latency_us,
        )
        for asking, decision_id, digest, answer in zip(askings, ids, digests, whole, strict=True)
    ]


def input_document(query: Query, now: datetime) -> dict[str, Any]:
    """Return what the policy reads as `input`: the query's document and the time."""
    return {**query.document, "now_ms": int(now.timestamp() * 1000)}


def ask(engine: PolicyEngine, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str) -> Answer:
    """Return the engine's answer; the Deny of `engine_failed` for whatever goes wrong."""
    return _ask(engine, Query(entrypoint=entrypoint, document=document), bundle_digest)


def _ask(engine: PolicyEngine, question: Query, bundle_digest: str) -> Answer:
    try:
        found = engine.evaluate(
            question.entrypoint, question.document, bundle_digest=bundle_digest, decision_id=question.decision_id
        )
        return _read(found)
    except EngineFailed as error:
        return _fail(error.failure, str(error))
    except Exception as error:  # noqa: BLE001 - whatever an engine does, nobody is paid because of it
        return _fail_broken(error)


def ask_all(engine: PolicyEngine, questions: Sequence[Query], *, bundle_digest: str) -> list[Answer]:
    """Return the engine's answer to each question, as `ask` does."""
    if not questions:
        return []
    if len(questions) == 1:
        return [_ask(engine, questions[0], bundle_digest)]
    try:
        found = engine.evaluate_all(questions, bundle_digest=bundle_digest)
        return [_read(answer) for _, answer in zip(questions, found, strict=True)]
    except Exception as error:  # noqa: BLE001 - as above
        return [_fail_broken(error) for _ in questions]


def _read(found: Mapping[str, Any] | EngineFailed) -> Answer:
    if isinstance(found, EngineFailed):
        return _fail(found.failure, str(found))
    try:
        outcome, result = parse_answer(found)
    except EngineFailed as error:
        return _fail(error.failure, str(error))
    return Answer(outcome=outcome, result=result)


def decision_data(decision: Decision) -> dict[str, Any]:
    """Return the `data` of the entry `decision.recorded`: JSON of strings and integers, no personal data.

    A bundle's revision is its content digest: what an engine reports, and what we computed, side by side.
    """
    obstacle = find_obstacle(decision)
    return {
        "decision_id": decision.decision_id,
        "entrypoint": decision.entrypoint,
        "mode": str(decision.mode),
        "bundle": {
            "name": decision.bundle.name,
            "revision": decision.bundle.digest,
            "digest": decision.bundle.digest,
        },
        "data": [{"name": d.name, "version": d.version, "digest": d.digest} for d in decision.bundle.data],
        "engine": {"name": decision.engine.name, "version": decision.engine.version},
        "input_digest": decision.input_digest,
        "result": dict(decision.result),
        "result_digest": decision.result_digest,
        "latency_us": decision.latency_us,
        "replayable": obstacle is None,
        **({"not_replayable": obstacle} if obstacle else {}),
    }


def find_obstacle(decision: Decision) -> str | None:
    """Return why running it again would prove nothing, as a code; None if it would.

    An engine that gave no answer may give one another time: a timeout or a stopped server is no fact of the policy.
    """
    if decision.input_digest is None:
        return "input_refused"
    return ENGINE_FAILED if decision.failure is not None else None


def parse_answer(answer: Mapping[str, Any]) -> tuple[Outcome, dict[str, Any]]:
    """Return the outcome that a policy's answer spells, and that answer as plain JSON.

    An answer is `{verdict: allow|deny|review, reasons: [{code, message, control?, statute?}], output: {fact: text or
    integer}}`; only an allow may do without reasons. Raises EngineFailed for anything else.
    """
    if set(answer) != _RESULT_KEYS or not isinstance(answer["verdict"], str) or answer["verdict"] not in OUTCOMES:
        raise _refused("no verdict among allow, deny and review")
    reasons, output = answer["reasons"], answer["output"]
    if not isinstance(reasons, list) or len(reasons) > MAX_REASONS:
        raise _refused(f"`reasons` is not a list of at most {MAX_REASONS}")
    if not isinstance(output, dict) or len(output) > MAX_OUTPUT_FACTS:
        raise _refused(f"`output` is not an object of at most {MAX_OUTPUT_FACTS} facts")
    if not reasons and answer["verdict"] != "allow":
        raise _refused("a deny or review without a reason")
    if not all(_is_fact(key, value) for key, value in output.items()):
        raise _refused("`output` holds more than short texts and integers")
    parsed = tuple(_parse_reason(reason) for reason in reasons)
    try:
        canonical(answer, plain=True)  # the looks above left JSON's own types alone
    except Rejected:
        raise _refused("it is not canonical JSON") from None
    return OUTCOMES[answer["verdict"]](reasons=parsed, output=output), dict(answer)


def _parse_reason(value: Any) -> Reason:
    if not isinstance(value, dict) or not {"code", "message"} <= set(value) <= _REASON_KEYS:
        raise _refused("a reason is not {code, message, control?, statute?}")
    if not all(isinstance(text, str) and 0 < len(text) <= MAX_MESSAGE_CHARS for text in value.values()):
        raise _refused(f"a reason's texts have 1 to {MAX_MESSAGE_CHARS} characters")
    if not _CODE.fullmatch(value["code"]):
        raise _refused("a reason's code is not lower_snake_case")
    return Reason(**value)


def _is_fact(key: str, value: Any) -> bool:
    if not _CODE.fullmatch(key) or isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= MAX_FACT_CHARS)


def _refused(problem: str) -> EngineFailed:
    return EngineFailed(f"the policy's answer was refused: {problem}", failure="answer_refused")


def digest_input(document: Mapping[str, Any], salt: bytes, *, plain: bool = False) -> str:
    """Return HMAC-SHA256 of the canonical document, in hex; raises EngineFailed if it is not canonical JSON."""
    try:
        data = canonical(document, plain=plain)
    except (Rejected, RecursionError):
        raise EngineFailed("the input is not JSON of integers and texts", failure="input_refused") from None
    if len(data) > MAX_INPUT_BYTES:
        raise EngineFailed(f"the input has over {MAX_INPUT_BYTES:,} bytes", failure="input_refused")
    return hmac.digest(salt, data, "sha256").hex()


def _fail_broken(error: Exception) -> Answer:
    return _fail("error", f"the engine broke its contract: {type(error).__name__}")


def _fail(failure: str, problem: str) -> Answer:
    """Return the Deny of an engine that gave no answer to rely on."""
    reason = Reason(code=ENGINE_FAILED, message="The policy engine gave no answer, so nothing is allowed.")
    output: dict[str, str | int] = {"failure": failure}
    result = {
        "verdict": "deny",
        "reasons": [{"code": reason.code, "message": reason.message}],
        "output": output,
    }
    return Answer(outcome=Deny(reasons=(reason,), output=output), result=result, failure=problem)
