"""Money is parsed exactly or refused."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.errors import Rejected
from app.payments.money import AMOUNT_MINOR_MAX, Money, format_decimal, from_psp_amount, parse_decimal, to_psp_amount


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("1499.99", "USD", 149_999),
        ("1499.9", "USD", 149_990),
        ("5", "JPY", 5),
        ("5.124", "KWD", 5124),
        ("0.01", "EUR", 1),
        (Decimal("1E+3"), "EUR", 100_000),
        (Decimal("0.10"), "EUR", 10),
        ("9999999999.99", "EUR", AMOUNT_MINOR_MAX),
    ],
)
def test_a_decimal_is_read_exactly(amount, currency, minor) -> None:
    assert parse_decimal(amount, currency) == Money(amount_minor=minor, currency=currency)


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("100.001", "JPY"),
        ("100.0", "JPY"),
        ("1.001", "EUR"),
        (str(0.1 + 0.2), "EUR"),
        (0.1 + 0.2, "EUR"),
        (Decimal(1) / 3, "EUR"),
        (10, "EUR"),
        (True, "EUR"),
        (None, "EUR"),
        ("-1.00", "EUR"),
        ("+1.00", "EUR"),
        ("0", "EUR"),
        ("0.00", "EUR"),
        ("1e3", "EUR"),
        ("1,00", "EUR"),
        ("1_000", "EUR"),
        ("01.00", "EUR"),
        (".5", "EUR"),
        ("5.", "EUR"),
        (" 5", "EUR"),
        ("5\n", "EUR"),
        ("\uff15", "EUR"),
        ("", "EUR"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        (Decimal("NaN"), "EUR"),
        (Decimal("Infinity"), "EUR"),
        (Decimal("1E+999999"), "EUR"),
        (Decimal("1E-999999"), "EUR"),
        ("10000000000.00", "EUR"),
        ("9" * 1000, "EUR"),
    ],
)
def test_what_is_not_an_exact_positive_amount_is_refused(amount, currency) -> None:
    with pytest.raises(Rejected) as caught:
        parse_decimal(amount, currency)
    assert caught.value.code == "bad_amount"


@pytest.mark.parametrize("currency", ["XXX", "XAU", "eur", "EURO", "", "E R", "ABC", "\u0415UR", None, 978])
def test_an_unknown_currency_is_refused(currency) -> None:
    with pytest.raises(Rejected) as caught:
        parse_decimal("1", currency)
    assert caught.value.code == "unknown_currency"


@pytest.mark.parametrize("amount_minor", [0, -1, True, 1.0, "1", AMOUNT_MINOR_MAX + 1])
def test_money_is_a_positive_integer(amount_minor) -> None:
    with pytest.raises(Rejected):
        Money(amount_minor=amount_minor, currency="EUR")


@pytest.mark.parametrize(
    ("amount", "currency", "at_stripe"),
    [
        ("10.99", "EUR", 1099),
        ("5", "ISK", 500),
        ("5", "UGX", 500),
        ("5", "JPY", 5),
        ("5", "CLP", 5),
        ("5.00", "MGA", 5),
        ("5.12", "KWD", 5120),
        ("10.50", "HUF", 1050),
    ],
)
def test_stripe_is_sent_its_own_units(amount, currency, at_stripe) -> None:
    money = parse_decimal(amount, currency)
    assert to_psp_amount(money, "stripe") == at_stripe
    assert from_psp_amount(at_stripe, currency, "stripe") == money


@pytest.mark.parametrize(("amount", "currency"), [("5.124", "KWD"), ("5.50", "MGA")])
def test_an_amount_a_psp_cannot_charge_exactly_is_refused_not_rounded(amount, currency) -> None:
    with pytest.raises(Rejected) as caught:
        to_psp_amount(parse_decimal(amount, currency), "stripe")
    assert caught.value.code == "amount_not_chargeable"


def test_a_psp_without_a_table_of_units_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        to_psp_amount(parse_decimal("1", "EUR"), "nobody")
    assert caught.value.code == "unknown_psp"


@pytest.mark.parametrize("currency", ["IQD", "LYD", "CLF"])
def test_a_currency_whose_units_at_the_psp_are_not_known_is_refused(currency) -> None:
    with pytest.raises(Rejected) as caught:
        to_psp_amount(parse_decimal("1", currency), "stripe")
    assert caught.value.code == "unknown_currency"


def test_a_fraction_of_a_minor_unit_reported_by_a_psp_is_refused() -> None:
    with pytest.raises(Rejected):
        from_psp_amount(550, "ISK", "stripe")


def test_money_is_written_with_all_its_decimals() -> None:
    assert format_decimal(Money(amount_minor=5, currency="KWD")) == "0.005"
    assert format_decimal(Money(amount_minor=5, currency="JPY")) == "5"
