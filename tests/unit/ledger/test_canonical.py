"""Strict JSON in, canonical JSON out: what is refused, and that a refusal never repeats what it refuses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from decimal import Decimal

import pytest

from app.errors import Malformed, Rejected, TooLarge
from app.ledger.canonical import MAX_DEPTH, MAX_INTEGER, canonical, parse_json

SECRET = "Zanzibar"


class Name(str):
    __slots__ = ()


class Size(enum.IntEnum):
    ONE = 1


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float = 1.5


def nested(depth: int) -> object:
    value: object = SECRET
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"b":1,"a":[true,null,"x"]}', {"b": 1, "a": [True, None, "x"]}),
        (b" \t\r\n1 \n", 1),
        (b"-0", 0),
        (b"1.50", Decimal("1.50")),
        (b"1e2", Decimal("1E+2")),
        (b'"\\u0000\\ud83d\\ude00"', "\x00😀"),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, nested(0)),
    ],
)
def test_json_is_read_exactly(data, value) -> None:
    parsed = parse_json(data, limit_bytes=1_000)
    if not data.startswith(b"[["):
        assert parsed == value
        assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"nul",
        b"[1,2",
        b"[1,]",
        b'{"a":1,}',
        b"1 1",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"/**/1",
        b"'a'",
        b'"\n"',
        b'"\x00"',
        b'"\\x"',
        b'"\\ud800"',
        b'"\\ude00\\ud83d"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\xc0\x80"',
        b"\xef\xbb\xbf1",
        b"1e9999999999999999999999",
        b"9" * 10_000,
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":{"a":1,"a":2}}]',
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b"[" * 1_000 + b"]" * 1_000,
        b"[" * 100_000,
        b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
    ],
)
def test_what_is_not_strict_json_is_malformed(data) -> None:
    with pytest.raises(Malformed):
        parse_json(data, limit_bytes=1_000_000)


def test_one_byte_over_the_limit_is_too_large_and_is_not_parsed() -> None:
    assert parse_json(b"[" + b" " * 8 + b"]", limit_bytes=10) == []
    with pytest.raises(TooLarge):
        parse_json(b"[" * 11, limit_bytes=10)


def test_a_fraction_beyond_every_float_is_read_and_then_refused() -> None:
    value = parse_json(b"[1e400]", limit_bytes=100)
    with pytest.raises(Rejected, match="fractions"):
        canonical(value)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": 1, "a": 2, "B": 3, "_": 4, "": 5}, b'{"":5,"B":3,"_":4,"a":2,"b":1}'),
        ([True, False, None, -1], b"[true,false,null,-1]"),
        ((1, (2,)), b"[1,[2]]"),
        ([MAX_INTEGER, -MAX_INTEGER], b"[9007199254740991,-9007199254740991]"),
        ('\x00\x08\t\n\x0c\r\x1f"\\/\x7f', b'"\\u0000\\b\\t\\n\\f\\r\\u001f\\"\\\\/\x7f"'),
        ("\u2028é😀", '"\u2028é😀"'.encode()),
    ],
)
def test_the_bytes_are_those_of_rfc_8785(value, data) -> None:
    assert canonical(value) == data


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        -0.0,
        float("nan"),
        float("inf"),
        Decimal(1),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        2**70,
        "e\u0301",
        "\ud800",
        "a" * 100 + "\u212b",
        {"é": SECRET},
        {"\ud800": SECRET},
        {1: SECRET},
        {None: SECRET},
        {True: SECRET},
        {Name(SECRET): 1},
        Name(SECRET),
        Colour.RED,
        Size.ONE,
        Point(),
        b"bytes",
        {SECRET},
        uuid.UUID(int=0),
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        dt.date(2020, 1, 1),
        object(),
        nested(300),
        nested(5_000),
    ],
)
def test_what_an_entry_may_not_hold_is_refused_at_any_depth(value) -> None:
    for held in (value, [value], {"a": {"b": [1, value]}}, (0, (value,))):
        with pytest.raises(Rejected) as caught:
            canonical(held)
        assert caught.value.code == "value_not_allowed"
        assert SECRET not in repr(caught.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(Rejected):
        canonical(value)


def test_a_refusal_names_the_place_and_not_the_value() -> None:
    with pytest.raises(Rejected, match=r"^/a/1/b: fractions") as caught:
        canonical({"a": [SECRET, {"b": 1.5}]})
    assert caught.value.__cause__ is None
    with pytest.raises(Rejected, match=r"^/a: text must be in Unicode normalisation form C"):
        canonical({"a": SECRET + "e\u0301"})


def test_a_key_that_stands_twice_is_not_repeated_by_the_error() -> None:
    with pytest.raises(Malformed, match="duplicate key") as caught:
        parse_json(b'{"%(k)b":1,"%(k)b":2}' % {b"k": SECRET.encode()}, limit_bytes=100)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
