"""Canonical JSON is RFC 8785 on what entries may hold, and nothing else comes through."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import Malformed, Rejected, TooLarge
from app.ledger.canonical import MAX_INTEGER, canonical, parse_json

LAW = settings(deadline=None, max_examples=200)

texts = st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: unicodedata.normalize("NFC", text))
keys = st.text(st.characters(max_codepoint=127), max_size=8)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.sampled_from([MAX_INTEGER, -MAX_INTEGER, 0])
scalars = st.none() | st.booleans() | integers | texts


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


bad_scalars = st.one_of(
    st.floats(),
    st.decimals(),
    st.integers(min_value=MAX_INTEGER + 1),
    st.integers(max_value=-MAX_INTEGER - 1),
    st.text(st.characters(categories=["Cs"]), min_size=1),
    st.text(min_size=1).map(lambda text: unicodedata.normalize("NFD", text + "é")),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.uuids(),
    st.dictionaries(st.text(st.characters(min_codepoint=128), min_size=1), scalars, min_size=1, max_size=1),
    st.dictionaries(st.integers() | st.none() | st.binary(), scalars, min_size=1, max_size=1),
)


def put(tree: Any, bad: Any, where: int) -> Any:
    """Return a copy of `tree` with `bad` somewhere in it."""
    if isinstance(tree, list):
        at = where % (len(tree) + 1)
        return [*tree[:at], bad, *tree[at:]] if where % 2 else [*tree, put(tree[-1], bad, where // 2) if tree else bad]
    if isinstance(tree, dict) and tree:
        key = sorted(tree)[where % len(tree)]
        return {**tree, key: put(tree[key], bad, where // 2)}
    return {"a": bad} if where % 2 else [tree, bad]


@LAW
@given(value=trees(scalars))
@example(value={"": "", "\x00": "\x7f", "A": [], "a": {}, "aa": [[]], "a\x01": None})
def test_canonical_is_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@LAW
@given(value=trees(scalars))
def test_canonical_bytes_are_read_back_as_the_same_value(value: Any) -> None:
    data = canonical(value)
    again = parse_json(data, limit_bytes=len(data))
    assert again == value
    assert canonical(again) == data


@LAW
@given(tree=trees(scalars), bad=bad_scalars, where=st.integers(0, 1_000))
def test_what_is_outside_the_grammar_is_refused_wherever_it_stands(tree: Any, bad: Any, where: int) -> None:
    with pytest.raises(Rejected):
        canonical(put(tree, bad, where))


@LAW
@given(data=st.binary(max_size=64) | st.text('{}[]",:0123456789.eE+-\\u tfnd', max_size=64).map(str.encode))
@example(data=b'{"a":1e999999999}')
@example(data=b'"\\udc00"')
def test_any_bytes_are_a_value_or_malformed(data: bytes) -> None:
    try:
        value = parse_json(data, limit_bytes=64)
    except (Malformed, TooLarge):
        return
    try:
        canonical(value)
    except Rejected:
        return


@LAW
@given(value=trees(scalars | st.floats(allow_nan=False, allow_infinity=False)))
def test_strict_parsing_agrees_with_the_standard_library(value: Any) -> None:
    data = orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    parsed = parse_json(data, limit_bytes=len(data)) if _is_shallow(value) else None
    if parsed is not None:
        assert _floats(parsed) == json.loads(data)


def _is_shallow(value: Any, depth: int = 0) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 15 and all(_is_shallow(child, depth + 1) for child in children)


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _floats(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_floats(child) for child in value]
    return value if isinstance(value, str | int | None) else float(value)
