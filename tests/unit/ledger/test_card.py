"""Card numbers are refused wherever they stand, and never repeated."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.errors import Rejected
from app.ledger.card import refuse_card_numbers

VISA = "4242424242424242"


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (VISA, ""),
        (int(VISA), ""),
        (Decimal(VISA), ""),
        (VISA.encode(), ""),
        ("378282246310005", ""),
        ("4222222222222", ""),
        ("6304000000000000000", ""),
        ("4242 4242 4242 4242", ""),
        ("4242-4242-4242-4242", ""),
        ("card=4242 4242 4242 4242 12/30", ""),
        (f"{VISA} 123", ""),
        (f"card{VISA}", ""),
        (f"card_{VISA}", ""),
        (f"a{VISA}b", ""),
        ("4242  4242 - 4242.4242", ""),
        ("3782 822463 10005", ""),
        ("4242\t4242\n4242\u00a04242", ""),
        ("122000000000003", ""),
        ({"size": [int(VISA)]}, "/size/0"),
        ({"amount": int(VISA)}, "/amount"),
        ("".join(chr(0xFF10 + int(digit)) for digit in VISA), ""),
        ({"a": [{"b": VISA}]}, "/a/0/b"),
        ({"a": {VISA: 1}}, "/a"),
        ({"a/b~": VISA}, "/a~1b~0"),
        ((VISA,), "/0"),
    ],
)
def test_a_card_number_is_refused_anywhere(value, pointer) -> None:
    with pytest.raises(Rejected) as caught:
        refuse_card_numbers(value)
    assert caught.value.code == "card_number"
    assert caught.value.pointer == pointer
    assert "4242" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "pm_card_visa",
        "4242424242424241",
        "4242",
        "42424242424242424242",
        1099,
        True,
        None,
        {"amount_minor": 999_999_999_999, "at": "2026-11-23T16:46:04.123456+00:00"},
        [b"bytes", 1.5],
        {"at_ms": 1_712_345_678_903},
        {"at_ms": 4_222_222_222_222},
        {"amount_minor": int(VISA)},
        "1712345678903",
        "1712345678901234",
        "20261123101533",
        "2026-11-23 10.15.33",
        f"{'0a' * 8}{VISA}",
        "12345678-4242-4242-8242-123456789012",
        "a4242-4242-4242-4242b",
        "192.168.100.100",
    ],
)
def test_what_is_no_card_number_passes(value) -> None:
    refuse_card_numbers(value)


def test_nesting_as_deep_as_it_likes_does_not_exhaust_the_stack() -> None:
    value: object = VISA
    for _ in range(5_000):
        value = [value]
    with pytest.raises(Rejected):
        refuse_card_numbers(value)
