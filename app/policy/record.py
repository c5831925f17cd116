"""Decision records: what a `decision.recorded` entry says, read back, and its sealed input.

    input   canonical {"salt": base64 of 32 bytes, "document": what the policy read as `input`}, a sealed fact

An entry never changes. What became of its input since (erased, damaged) is found when it is read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.errors import Malformed, Rejected
from app.ledger.entry import Entry
from app.policy.decide import ENGINE_FAILED, Answer, digest_input, parse_answer
from app.policy.decision import BundleRef, DataVersion, EngineRef, Mode, Outcome
from app.policy.ports import EngineFailed

ACTION: Final = "decision.recorded"
INPUT: Final = "input"
"""The name of the sealed fact that holds input and salt."""
SHADOW_OF: Final = "shadow_of"
"""The kind of reference by which a shadow decision names the one that was enforced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision as it was logged. `not_replayable`: why it cannot be run again, known when it was made; else None."""

    entry_id: str
    decision_id: str
    decided_at_ms: int
    subject: str | None
    ref: Mapping[str, str]
    entrypoint: str
    mode: Mode
    bundle: BundleRef
    engine: EngineRef
    input_digest: str | None
    outcome: Outcome
    result: Mapping[str, Any]
    result_digest: str
    latency_us: int
    not_replayable: str | None

    @property
    def verdict(self) -> str:
        """`allow`, `deny` or `review`."""
        verdict: str = self.result["verdict"]
        return verdict


def parse_record(entry: Entry) -> DecisionRecord:
    """Return the record in `entry`, of this version or an earlier one. Raises Malformed if it is none."""
    if entry.action != ACTION:
        raise Malformed(f"{entry.id} is no decision", code="decision_malformed")
    data = entry.data
    try:
        outcome, result = parse_answer(data["result"])
        return DecisionRecord(
            entry_id=entry.id,
            decision_id=data["decision_id"],
            decided_at_ms=entry.time_ms,
            subject=entry.subject,
            ref=entry.ref,
            entrypoint=data["entrypoint"],
            mode=Mode(data["mode"]),
            bundle=BundleRef(
                name=data["bundle"]["name"],
                digest=data["bundle"]["digest"],
                data=tuple(DataVersion(**version) for version in data["data"]),
            ),
            engine=EngineRef(**data["engine"]),
            input_digest=data["input_digest"],
            outcome=outcome,
            result=result,
            result_digest=data["result_digest"],
            latency_us=data["latency_us"],
            not_replayable=data.get("not_replayable") or _infer_obstacle(data),
        )
    except (LookupError, TypeError, ValueError, AttributeError, EngineFailed) as error:
        raise Malformed(f"{entry.id} does not hold a decision", code="decision_malformed") from error


def _infer_obstacle(data: Mapping[str, Any]) -> str | None:
    """Return what an earlier version did not say of its decisions."""
    if data["input_digest"] is None:
        return "input_refused"
    codes = [reason["code"] for reason in data["result"]["reasons"]]
    return ENGINE_FAILED if codes == [ENGINE_FAILED] else None


def format_input(document: Mapping[str, Any], salt: bytes) -> dict[str, Any]:
    """Return the fact to seal: the document that the policy read, and the salt of its digest."""
    return {"salt": base64.b64encode(salt).decode(), "document": dict(document)}


def parse_input(fact: Any, *, expected: str | None) -> dict[str, Any]:
    """Return the document in a sealed fact. Raises Rejected unless its digest is the `expected` one of the record."""
    try:
        salt, document = base64.b64decode(fact["salt"], validate=True), fact["document"]
        found = digest_input(document, salt, plain=True)
    except (LookupError, TypeError, ValueError, binascii.Error, EngineFailed):
        found = None
    if found is None or found != expected:
        raise Rejected("the sealed input is not the one that the decision names", code="input_mismatch")
    return dict(document)


def verify_result(record: DecisionRecord) -> None:
    """Raise Rejected unless the record's result has the digest that the record says."""
    answer = Answer(outcome=record.outcome, result=record.result)
    if answer.digest != record.result_digest:
        raise Rejected("the result does not have the digest beside it", code="result_mismatch")
