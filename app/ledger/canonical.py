"""Strict JSON in, canonical JSON out (RFC 8785).

Entries hold integers, strings, booleans, null, arrays and objects with ASCII keys: on this grammar orjson with
sorted keys gives the bytes of RFC 8785, which tests/property/test_canonical.py holds against the `rfc8785` package.
Fractions never become floats: they parse to Decimal, and `canonical` refuses them.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Any

import jiter
import orjson

from app.errors import Malformed, Rejected, TooLarge

MAX_INTEGER = 2**53 - 1
"""RFC 8785, 3.2.2.3: beyond this, readers that use IEEE doubles lose digits."""
MAX_DEPTH = 20
"""Levels of nesting accepted from outside."""
_NESTING_LIMIT = 250
"""Levels that can be written at all; entries hold far fewer."""
_SCALARS = frozenset({str, int, bool, type(None)})
_QUOTED = re.compile(r' ".*"', re.DOTALL)


def parse_json(data: bytes, *, limit_bytes: int) -> Any:
    """Return the one JSON value in `data`, fractions as Decimal.

    Raises TooLarge over `limit_bytes`, and Malformed for invalid UTF-8, duplicate keys, NaN and infinities, nesting
    over `MAX_DEPTH`, lone surrogates, or anything after the value.
    """
    if len(data) > limit_bytes:
        raise TooLarge(f"the JSON has {len(data):,} bytes; at most {limit_bytes:,} are accepted", code="body_too_large")
    try:
        value = jiter.from_json(
            data, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="decimal", cache_mode="keys"
        )
    except ValueError as error:
        what = _QUOTED.sub("", str(error))  # the key that stands twice may be a secret
        raise Malformed(f"not valid JSON: {what}", code="json_malformed") from None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any, depth: int = 1) -> None:
    """Refuse values nested deeper than `MAX_DEPTH`."""
    if depth > MAX_DEPTH:
        raise Malformed(f"the JSON is nested deeper than {MAX_DEPTH} levels", code="json_too_deep")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return
    for child in value:
        if isinstance(child, dict | list):
            _check_depth(child, depth + 1)


def canonical(value: Any, *, plain: bool = False) -> bytes:
    """Return the RFC 8785 bytes of `value`.

    `plain` vouches that it holds JSON's own types alone, as what `parse_json` returns does: then only what orjson
    itself refuses, and text that is not ASCII, is looked at closely.

    Raises Rejected for what entries may not hold: fractions, integers beyond `MAX_INTEGER`, keys that are not ASCII,
    strings that are not NFC or not valid Unicode, and Python objects that are not JSON. It never repeats a value.
    """
    try:
        data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)
    except TypeError:
        raise _not_allowed(_why_not(value) or "a value that JSON does not have") from None
    if not data.isascii() or not (plain or _is_plain(value)):
        problem = _why_not(value)
        if problem:
            raise _not_allowed(problem)
    return data


def _not_allowed(problem: str) -> Rejected:
    return Rejected(problem, code="value_not_allowed")


def _is_plain(value: Any) -> bool:
    """Say whether `value` has JSON's own types alone, without floats: orjson writes more, and not as RFC 8785 does."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return False
    return all(type(child) in _SCALARS or _is_plain(child) for child in value)


def _why_not(value: Any, pointer: str = "", depth: int = 0) -> str | None:
    """Return what is wrong with the first bad part of `value`, with its RFC 6901 pointer, or None."""
    if depth > _NESTING_LIMIT:
        return f"nested deeper than {_NESTING_LIMIT} levels"
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list | tuple):
        children = [(str(place), child) for place, child in enumerate(value)]
    else:
        return _why_not_scalar(value, pointer or "/")
    for key, child in children:
        if type(key) is not str or not key.isascii():
            return f"{pointer or '/'}: keys are ASCII strings"
        problem = _why_not(child, f"{pointer}/{key}", depth + 1)
        if problem:
            return problem
    return None


def _why_not_scalar(value: Any, pointer: str) -> str | None:
    if isinstance(value, float | Decimal):
        return f"{pointer}: fractions are not allowed; send integers (for money, minor units)"
    if type(value) not in _SCALARS:
        return f"{pointer}: {type(value).__name__} is not a type of JSON"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return f"{pointer}: integers beyond 2^53-1 are not allowed; send a string"
    return _why_not_text(value, pointer) if isinstance(value, str) else None


def _why_not_text(text: str, pointer: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{pointer}: lone surrogates are not valid Unicode"
    if not unicodedata.is_normalized("NFC", text):
        return f"{pointer}: text must be in Unicode normalisation form C"
    return None
