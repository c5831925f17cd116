"""Stripe's wire as the sandbox speaks it: nested form bodies in, JSON out, errors in Stripe's shape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

PARAMS_MAX: Final = 200
DEPTH_MAX: Final = 5

Params = dict[str, Any]

_KEY: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART: Final = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer before it is put on the wire."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the body's bytes, indented as Stripe does."""
        return json.dumps(self.body, indent=2).encode()


class ApiError(Exception):
    """A request that is answered with an error body of Stripe's shape."""

    def __init__(self, status: int, kind: str, message: str, **details: object) -> None:
        """`kind` is Stripe's error `type`; `details` are further members, such as `code` and `param`."""
        super().__init__(message)
        error = {"type": kind, "message": message, **details}
        self.reply = Reply(status=status, body={"error": error})


def invalid(message: str, *, status: int = 400, **details: object) -> ApiError:
    """Return the error for a request that cannot be carried out as it is."""
    return ApiError(status, "invalid_request_error", message, **details)


def parse_form(text: str) -> Params:
    """Return `a[b][0]=c` as `{"a": {"b": {"0": "c"}}}`. Raises ApiError when it is malformed or too much."""
    params: Params = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=PARAMS_MAX)
    except ValueError:
        raise invalid("the body is not a form we can read") from None
    for key, value in pairs:
        _put(params, _split_key(key), value)
    return params


def _split_key(key: str) -> list[str]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise invalid(f"Invalid parameter name: {key[:40]}")
    path = [match[1], *_PART.findall(match[2])]
    if len(path) > DEPTH_MAX:
        raise invalid("parameters are nested too deep")
    return path


def _put(params: Params, path: list[str], value: str) -> None:
    for part in path[:-1]:
        params = params.setdefault(part, {})
        if not isinstance(params, dict):
            raise invalid(f"Invalid parameter: {part} is both a value and a hash")
    params[path[-1]] = value
