"""A question as it is put to an engine, and the answer as it is taken from one: the bounds that all engines share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from app.errors import Rejected
from app.ledger.canonical import canonical, parse_json
from app.policy.ports import EngineFailed

MAX_INPUT_BYTES: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024

_ENTRYPOINT: Final = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)+", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def verify_question(entrypoint: str, bundle_digest: str) -> None:
    """Raise EngineFailed unless `entrypoint` is `package/rule` and `bundle_digest` a SHA-256 in hex."""
    if not _ENTRYPOINT.fullmatch(entrypoint):
        raise EngineFailed("an entrypoint is package/rule", failure="wrong_entrypoint")
    if not _DIGEST.fullmatch(bundle_digest):
        raise EngineFailed("a bundle is asked for by the digest of its content", failure="wrong_bundle")


def format_input(document: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of an input. Raises EngineFailed if it has none, or too many bytes."""
    try:
        data = canonical(dict(document))
    except (Rejected, RecursionError):
        raise EngineFailed("the input is not JSON of integers and texts", failure="input_refused") from None
    if len(data) > MAX_INPUT_BYTES:
        raise EngineFailed(f"the input has over {MAX_INPUT_BYTES:,} bytes", failure="input_refused")
    return data


def parse_object(answer: bytes, *, limit_bytes: int = MAX_ANSWER_BYTES) -> dict[str, Any]:
    """Return the one JSON object in `answer`. Raises EngineFailed for anything else."""
    try:
        value = parse_json(answer, limit_bytes=limit_bytes)
    except (Rejected, RecursionError):
        raise EngineFailed(
            f"the answer is not JSON of at most {limit_bytes:,} bytes", failure="answer_refused"
        ) from None
    return require_object(value)


def require_object(value: Any) -> dict[str, Any]:
    """Return a rule's value. Raises EngineFailed unless it is an object."""
    if not isinstance(value, dict):
        raise EngineFailed("the answer is not an object", failure="answer_refused")
    return value
