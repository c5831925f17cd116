"""Money as whole minor units of one ISO 4217 currency, and the same amount in a PSP's own units.

Minor units differ by PSP: 5 ISK is 5 in ISO 4217 and 500 at Stripe. Sending one for the other is a
hundredfold error, so no amount reaches a PSP except through `to_psp_amount`.
Sources: ISO 4217 list one (2026); Stripe, "Supported currencies", special cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import pycountry

from app.errors import Rejected

AMOUNT_MINOR_MAX: Final = 999_999_999_999
"""Twelve digits: far above any card payment, far below 2**53, so JSON carries it exactly."""

ISO_EXPONENT_DEFAULT: Final = 2
_NO_DECIMALS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS: Final = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DECIMALS: Final = "CLF UYW"
_NO_UNIT: Final = "XAD XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX"

ISO_EXPONENTS: Final = {
    **dict.fromkeys(_NO_DECIMALS.split(), 0),
    **dict.fromkeys(_THREE_DECIMALS.split(), 3),
    **dict.fromkeys(_FOUR_DECIMALS.split(), 4),
}
NOT_MONEY: Final = frozenset(_NO_UNIT.split())
"""Metals, bond units, test codes: in ISO 4217, without a minor unit, never charged."""

_PLAIN_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """A positive amount: `1 <= amount_minor <= AMOUNT_MINOR_MAX`, in ISO 4217 minor units of `currency`."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        read_exponent(self.currency)
        if type(self.amount_minor) is not int:
            raise Rejected("amount_minor must be an integer", code="bad_amount", pointer="/amount_minor")
        if self.amount_minor < 1:
            raise Rejected("an amount is above zero", code="bad_amount", pointer="/amount_minor")
        if self.amount_minor > AMOUNT_MINOR_MAX:
            raise Rejected(
                f"an amount is at most {AMOUNT_MINOR_MAX} minor units",
                code="bad_amount",
                pointer="/amount_minor",
            )


def read_exponent(currency: str) -> int:
    """Return how many decimals ISO 4217 gives `currency`; raise Rejected for a code that is not money."""
    known = (
        isinstance(currency, str)
        and re.fullmatch(r"[A-Z]{3}", currency, re.ASCII) is not None
        and currency not in NOT_MONEY
        and pycountry.currencies.get(alpha_3=currency) is not None
    )
    if not known:
        raise Rejected("currency must be an ISO 4217 code", code="unknown_currency", pointer="/currency")
    return ISO_EXPONENTS.get(currency, ISO_EXPONENT_DEFAULT)


def parse_decimal(amount: str | Decimal, currency: str) -> Money:
    """Return the money that a decimal such as `1499.99` says, exactly.

    Never rounds: more decimals than the currency has are refused, even zeros. A float is refused, because
    it no longer is what the sender wrote. Raises Rejected.
    """
    exponent = read_exponent(currency)
    text = _format_plain(amount) if isinstance(amount, Decimal) else amount
    if not isinstance(text, str) or not _PLAIN_DECIMAL.fullmatch(text):
        raise Rejected(
            "an amount is a decimal such as 1499.99, without sign, exponent or leading zeros",
            code="bad_amount",
            pointer="/amount",
        )
    whole, _, decimals = text.partition(".")
    if len(decimals) > exponent:
        raise Rejected(
            f"{currency} has {exponent} decimals, the amount has {len(decimals)}",
            code="bad_amount",
            pointer="/amount",
        )
    return Money(amount_minor=int(whole + decimals.ljust(exponent, "0")), currency=currency)


def format_decimal(money: Money) -> str:
    """Return the amount in major units with all its decimals; `parse_decimal` is the inverse."""
    return format_minor(money.amount_minor, money.currency)


def format_minor(amount_minor: int, currency: str) -> str:
    """Return minor units, of a sum of any size too, in major units with all their decimals. Raises Rejected."""
    exponent = read_exponent(currency)
    digits = str(amount_minor).rjust(exponent + 1, "0")
    return f"{digits[:-exponent]}.{digits[-exponent:]}" if exponent else digits


def _format_plain(amount: Decimal) -> str | None:
    """Write `amount` without an exponent; None when that takes more digits than any amount has."""
    if not amount.is_finite() or amount.adjusted() >= len(str(AMOUNT_MINOR_MAX)):
        return None
    return format(amount, "f")


@dataclass(frozen=True, slots=True, kw_only=True)
class PspUnit:
    """How one PSP counts one currency: its decimals, and the step every amount is a multiple of."""

    exponent: int
    step: int = 1


PSP_UNITS: Final = {
    "stripe": {
        "MGA": PspUnit(exponent=0),
        # Whole units only, and still counted in hundredths.
        "ISK": PspUnit(exponent=2, step=100),
        "UGX": PspUnit(exponent=2, step=100),
        # Card networks take two decimals of the three.
        **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), PspUnit(exponent=3, step=10)),
    },
}
"""Where a PSP departs from ISO 4217. A PSP without a row here is never paid through."""


def read_psp_unit(currency: str, psp: str) -> PspUnit:
    """Return how `psp` counts `currency`; raise Rejected when we do not know, rather than guess."""
    exponent = read_exponent(currency)
    if psp not in PSP_UNITS:
        raise Rejected("no table of minor units for this PSP", code="unknown_psp", pointer="/psp")
    unit = PSP_UNITS[psp].get(currency)
    if unit is None and exponent > ISO_EXPONENT_DEFAULT:
        raise Rejected(f"{psp} does not take {currency}", code="unknown_currency", pointer="/currency")
    return unit or PspUnit(exponent=exponent)


def to_psp_amount(money: Money, psp: str) -> int:
    """Return the integer that `psp` must be sent for `money`.

    Raises Rejected when the PSP cannot charge that amount exactly, such as 5.124 KWD at Stripe.
    """
    unit = read_psp_unit(money.currency, psp)
    amount, rest = _shift(money.amount_minor, unit.exponent - read_exponent(money.currency))
    if rest or amount % unit.step:
        raise Rejected(
            f"{psp} cannot charge {format_decimal(money)} {money.currency} exactly",
            code="amount_not_chargeable",
            pointer="/amount",
        )
    return amount


def from_psp_amount(amount: int, currency: str, psp: str) -> Money:
    """Return the money that `psp` means by `amount`; the inverse of `to_psp_amount`. Raises Rejected."""
    unit = read_psp_unit(currency, psp)
    minor, rest = _shift(amount, read_exponent(currency) - unit.exponent)
    if rest:
        raise Rejected(f"{psp} reports a fraction of a minor unit", code="bad_amount", pointer="/amount")
    return Money(amount_minor=minor, currency=currency)


def _shift(amount: int, places: int) -> tuple[int, int]:
    """Move the decimal point; the second number is what falls off the end."""
    factor: int = 10 ** abs(places)
    return (amount * factor, 0) if places >= 0 else divmod(amount, factor)
