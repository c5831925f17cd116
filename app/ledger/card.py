"""Card numbers are refused wherever they stand (invariant 1): a payment names a PSP's token, never a card.

What counts as one (ISO/IEC 7812-1): 13 to 19 digits that pass Luhn and begin as issuers' numbers do. In text they are
one run, or groups of at most six digits with up to three spaces, dots or hyphens between. Runs inside a word of 24 or
more letters and digits are part of a hash or an identifier, and so are groups with a letter right beside. One harmless
number in ten passes Luhn: refusing it costs a retry, keeping a card number costs far more. As integers, two things
must pass although they look alike: 13 digits are a time in ms, and an amount (a field called `…_minor`) may be large;
the schema's maximum of 10^15 keeps a card's 16 digits out of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from app.errors import Rejected

PAN_DIGITS_MIN: Final = 13
PAN_DIGITS_MAX: Final = 19
GROUP_DIGITS_MAX: Final = 6
AMOUNT_SUFFIX: Final = "_minor"

IDENTIFIER_CHARS_MIN: Final = 24

_IDENTIFIER: Final = re.compile(rf"[^\W_]{{{IDENTIFIER_CHARS_MIN},}}")
_SOLID: Final = re.compile(rf"(?<!\d)\d{{{PAN_DIGITS_MIN},{PAN_DIGITS_MAX}}}(?!\d)")
_GROUPED: Final = re.compile(r"(?<![^\W_])\d(?:[\s.\-]{0,3}\d){12,}(?![^\W_])")
_GROUP: Final = re.compile(r"\d+")
# 0 is no issuer's, 1 airlines' alone (UATP, 15 digits), and 20 and 21 nobody's: so dates and clocks are no cards.
_ISSUED: Final = re.compile(r"2[2-7]|[3-9]|1(?=\d{14}$)")
_JSON_IDENTIFIER: Final = re.compile(rb"[A-Za-z0-9]{%d,}" % IDENTIFIER_CHARS_MIN)
_SEPARATORS: Final = b" .-"
_SHAPES: Final = bytes(ord("0") if chr(code).isdigit() and code < 128 else ord("x") for code in range(256))  # noqa: PLR2004 -- ASCII
_MANY_DIGITS: Final = b"0" * PAN_DIGITS_MIN
_LARGE: Final = 10**PAN_DIGITS_MIN
_LEAVES: Final = frozenset({str, int, bool, type(None), bytes, bytearray})

_Place = tuple[Any, object]
"""Where a value stands: the place of what holds it, None at the top, and its key or index there."""


def refuse_card_numbers(value: object) -> None:
    """Raise Rejected when a card number stands anywhere in `value`, keys included (any depth of JSON).

    The error names the place and never the number.
    """
    if not _is_surely_clean(value):
        _search(value)


def _is_surely_clean(value: object) -> bool:
    """Say, by a fast look at its JSON, that there is no card number; False when only a search can tell."""
    try:
        return is_surely_clean(orjson.dumps(value))
    except TypeError:
        return False


def is_surely_clean(text: bytes) -> bool:
    """Say that no 13 digits come together in this JSON outside identifiers; False when only a search can tell."""
    if not text.isascii() or b"\\" in text:
        return False
    if _MANY_DIGITS not in text.translate(_SHAPES, _SEPARATORS):
        return True
    return _MANY_DIGITS not in _JSON_IDENTIFIER.sub(b"x", text).translate(_SHAPES, _SEPARATORS)


def _search(value: object) -> None:
    pending: list[tuple[_Place | None, object]] = [(None, value)]
    while pending:
        place, item = pending.pop()
        if type(item) not in _LEAVES and isinstance(item, Mapping):
            pending += [(place, key) for key in item]  # a key may be the number itself: the place is its parent
            pending += [((place, key), child) for key, child in item.items()]
        elif type(item) not in _LEAVES and isinstance(item, Sequence):
            pending += [((place, index), child) for index, child in enumerate(item)]
        elif _holds_card_number(item, place):
            raise Rejected(
                "this looks like a card number; send the PSP's token instead",
                code="card_number",
                pointer=_format_pointer(place),
            )


def _format_pointer(place: _Place | None) -> str:
    """Return the RFC 6901 pointer."""
    parts: list[str] = []
    while place is not None:
        place, part = place
        parts.append("/" + str(part).replace("~", "~0").replace("/", "~1"))
    return "".join(reversed(parts))


def _holds_card_number(item: object, place: _Place | None) -> bool:
    if isinstance(item, int):
        return abs(item) >= _LARGE and not _is_amount(place) and _is_card_number(str(abs(item)))
    text = item.decode("utf-8", "replace") if isinstance(item, bytes | bytearray) else str(item)
    if len(text) < PAN_DIGITS_MIN:
        return False
    text = _IDENTIFIER.sub("x", text)
    return any(map(_is_card_number, _SOLID.findall(text))) or any(
        _is_in_groups(_GROUP.findall(run)) for run in _GROUPED.findall(text)
    )


def _is_amount(place: _Place | None) -> bool:
    return place is not None and str(place[1]).endswith(AMOUNT_SUFFIX)


def _is_in_groups(groups: list[str]) -> bool:
    """Try every row of neighbouring groups, so that `4242 4242 4242 4242 12/30` is seen too."""
    for start in range(len(groups)):
        digits = ""
        for group in groups[start:]:
            digits += group
            if len(group) > GROUP_DIGITS_MAX or len(digits) > PAN_DIGITS_MAX:
                break
            if _is_card_number(digits):
                return True
    return False


def _is_card_number(digits: str) -> bool:
    if not PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX:
        return False
    plain = "".join(str(int(digit)) for digit in digits)  # a digit of any script
    return _ISSUED.match(plain) is not None and _passes_luhn(plain)


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004  the digit sum of 10..18
    return total % 10 == 0
