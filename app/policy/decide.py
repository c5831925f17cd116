"""Deciding: one question to the engine, one answer, one record (DESIGN.md, flow "Decide").

`decide` always returns a decision. Whatever goes wrong on the way is Deny with the code `engine_failed`. The caller
appends `decision_data` as the entry `decision.recorded` before it acts: a decision that is not logged is not acted on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from app.errors import Rejected
from app.ledger.canonical import canonical
from app.policy.decision import MODE_ENFORCE, OUTCOMES, BundleRef, Decision, Deny, Outcome, Reason
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


def decide(
    engine: PolicyEngine,
    query: Query,
    *,
    bundle: BundleRef,
    now: datetime,
    salt: bytes,
    new_id: Callable[[], UUID],
    monotonic_ns: Callable[[], int],
) -> Decision:
    """Return what the policy says to `query`, never raising for what the engine or the document does.

    The policy reads the time as `input.now_ms`, from `now`. `salt` is 32 fresh random bytes: an input is guessable
    (a name, a country), so its digest is keyed; keep the salt with the sealed input, and erase it with it.
    `new_id` gives UUIDv7s.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"the salt has {SALT_BYTES} bytes")
    started_ns = monotonic_ns()
    digest: str | None = None
    failure: str | None = None
    try:
        document = {**query.document, "now_ms": int(now.timestamp() * 1000)}
        digest = _input_digest(document, salt)
        answer = engine.evaluate(query.entrypoint, document, bundle_digest=bundle.digest)
        outcome, result = parse_answer(answer)
    except EngineFailed as error:
        failure = str(error)
        outcome, result = _failed(error.failure)
    except Exception as error:  # noqa: BLE001 - whatever an engine does, nobody is paid because of it
        failure = f"the engine broke its contract: {type(error).__name__}"
        outcome, result = _failed("error")
    return Decision(
        decision_id=f"dec_{new_id().hex}",
        decided_at=now,
        entrypoint=query.entrypoint,
        mode=MODE_ENFORCE,
        bundle=bundle,
        engine=engine.ref,
        input_digest=digest,
        outcome=outcome,
        result=result,
        result_digest=hashlib.sha256(canonical(result)).hexdigest(),
        failure=failure,
        latency_us=max(0, monotonic_ns() - started_ns) // 1000,
    )


def decision_data(decision: Decision) -> dict[str, Any]:
    """Return the `data` of the entry `decision.recorded`: JSON of strings and integers, no personal data."""
    return {
        "decision_id": decision.decision_id,
        "entrypoint": decision.entrypoint,
        "mode": decision.mode,
        "bundle": {"name": decision.bundle.name, "digest": decision.bundle.digest},
        "data": [{"name": d.name, "version": d.version, "digest": d.digest} for d in decision.bundle.data],
        "engine": {"name": decision.engine.name, "version": decision.engine.version},
        "input_digest": decision.input_digest,
        "result": dict(decision.result),
        "result_digest": decision.result_digest,
        "latency_us": decision.latency_us,
    }


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
        canonical(answer)
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


def _input_digest(document: dict[str, Any], salt: bytes) -> str:
    """Return HMAC-SHA256 of the canonical document, in hex; raises EngineFailed if it is not canonical JSON."""
    try:
        data = canonical(document)
    except (Rejected, RecursionError):
        raise EngineFailed("the input is not JSON of integers and texts", failure="input_refused") from None
    if len(data) > MAX_INPUT_BYTES:
        raise EngineFailed(f"the input has over {MAX_INPUT_BYTES:,} bytes", failure="input_refused")
    return hmac.digest(salt, data, "sha256").hex()


def _failed(failure: str) -> tuple[Outcome, dict[str, Any]]:
    """Return the Deny of an engine that gave no answer to rely on."""
    reason = Reason(code=ENGINE_FAILED, message="The policy engine gave no answer, so nothing is allowed.")
    output: dict[str, str | int] = {"failure": failure}
    result = {
        "verdict": "deny",
        "reasons": [{"code": reason.code, "message": reason.message}],
        "output": output,
    }
    return Deny(reasons=(reason,), output=output), result
