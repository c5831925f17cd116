"""Card numbers by the law of their check digit: refused however they are spaced, and never taken for an identifier."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Rejected
from app.ledger.card import _search, refuse_card_numbers

LAW = settings(deadline=None, max_examples=200)

numbers = st.builds(
    lambda first, rest: first + rest, st.sampled_from("3456789"), st.text("0123456789", min_size=11, max_size=17)
)


def check_digit(digits: str) -> str:
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


@LAW
@given(
    digits=numbers,
    space=st.sampled_from(["", " ", "-", ".", " - ", "\t"]),
    every=st.integers(1, 6),
    around=st.sampled_from(["{}", "card {} 12/30", "pan={};", '{{"n":"{}"}}', "\u00e9 {}", "_{}_"]),
)
def test_every_number_that_passes_luhn_is_refused_however_it_is_spaced(digits, space, every, around) -> None:
    number = digits + check_digit(digits)
    text = around.format(space.join(number[at : at + every] for at in range(0, len(number), every)))
    for held in (text, [text], {"a": {"b": text}}, {text: 1}):
        with pytest.raises(Rejected) as caught:
            refuse_card_numbers(held)
        assert number[:6] not in str(caught.value)


@LAW
@given(digits=numbers, beside=st.sampled_from(["card{}", "{}x", "no{}no"]))
def test_letters_right_beside_a_number_do_not_hide_it(digits, beside) -> None:
    with pytest.raises(Rejected):
        refuse_card_numbers(beside.format(digits + check_digit(digits)))


@LAW
@given(digits=numbers)
def test_a_number_with_a_wrong_check_digit_passes(digits) -> None:
    wrong = (int(check_digit(digits)) + 1) % 10
    refuse_card_numbers(f"{digits}{wrong}")


@LAW
@given(data=st.binary(min_size=1, max_size=40))
def test_hashes_and_identifiers_are_never_taken_for_card_numbers(data) -> None:
    digest = hashlib.sha256(data).hexdigest()
    uuid = f"{digest[:8]}-{digest[8:12]}-7{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
    refuse_card_numbers([digest, digest[:24], f"ent_{digest[:32]}", uuid])


@LAW
@given(value=st.recursive(st.text("0123456789 -.x\\\u0663", max_size=30) | st.integers(), st.lists, max_leaves=5))
def test_the_fast_look_never_lets_through_what_the_search_would_find(value) -> None:
    try:
        _search(value)
    except Rejected:
        with pytest.raises(Rejected):
            refuse_card_numbers(value)
