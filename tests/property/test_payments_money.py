"""Money goes to text, to a PSP and back without gaining or losing anything, in every currency."""

from __future__ import annotations

from decimal import Decimal

import pycountry
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import Rejected
from app.payments.money import (
    AMOUNT_MINOR_MAX,
    NOT_MONEY,
    Money,
    format_decimal,
    from_psp_amount,
    parse_decimal,
    read_exponent,
    to_psp_amount,
)

CURRENCIES = sorted({currency.alpha_3 for currency in pycountry.currencies} - NOT_MONEY)

moneys = st.builds(Money, amount_minor=st.integers(1, AMOUNT_MINOR_MAX), currency=st.sampled_from(CURRENCIES))


@given(moneys)
def test_parsing_undoes_formatting(money) -> None:
    text = format_decimal(money)
    assert parse_decimal(text, money.currency) == money
    assert parse_decimal(Decimal(text), money.currency) == money
    assert Decimal(text).scaleb(read_exponent(money.currency)) == money.amount_minor


@given(moneys)
def test_what_a_psp_is_sent_means_the_same_money(money) -> None:
    try:
        amount = to_psp_amount(money, "stripe")
    except Rejected:
        return
    assert from_psp_amount(amount, money.currency, "stripe") == money


@given(moneys, moneys)
def test_two_amounts_never_become_one_at_a_psp(one, other) -> None:
    assume(one.amount_minor != other.amount_minor)
    try:
        amounts = {
            to_psp_amount(Money(amount_minor=money.amount_minor, currency=one.currency), "stripe")
            for money in (one, other)
        }
    except Rejected:
        return
    assert len(amounts) == 2


@given(st.text(max_size=40) | st.floats() | st.decimals() | st.integers() | st.none(), st.sampled_from(CURRENCIES))
def test_any_amount_is_read_exactly_or_refused(amount, currency) -> None:
    try:
        money = parse_decimal(amount, currency)
    except Rejected:
        return
    assert Decimal(format_decimal(money)) == Decimal(amount)
    assert not isinstance(amount, float)
