"""Card numbers are refused at the edge (invariant 1): a payment names a PSP's token, never a card.

A number that passes Luhn (ISO/IEC 7812-1) with 13 to 19 digits is taken for a card number wherever it
stands. One harmless number in ten passes too: refusing it costs a retry, keeping a card number costs far more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from app.errors import Rejected

PAN_DIGITS_MIN: Final = 13
PAN_DIGITS_MAX: Final = 19

_DIGIT_RUN: Final = re.compile(r"\d(?:[\s.\-]?\d)+")
_DIGIT_GROUP: Final = re.compile(r"\d+")


def refuse_pan(value: object) -> None:
    """Raise Rejected when a card number stands anywhere in `value`, keys included (any depth of JSON).

    The error names the place and never the number.
    """
    pending: list[tuple[str, object]] = [("", value)]
    while pending:
        pointer, item = pending.pop()
        if _has_pan(item):
            raise Rejected(
                "this looks like a card number; send the PSP's token instead",
                code="card_number",
                pointer=pointer,
            )
        pending.extend(_list_children(pointer, item))


def _list_children(pointer: str, item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, Mapping):
        for key, child in item.items():
            yield pointer, key  # a key may be the number itself: point at its parent
            yield f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}", child
    elif isinstance(item, Sequence) and not isinstance(item, str | bytes | bytearray):
        for index, child in enumerate(item):
            yield f"{pointer}/{index}", child


def _has_pan(item: object) -> bool:
    if isinstance(item, bytes | bytearray):
        text = item.decode("utf-8", "replace")
    elif isinstance(item, str):
        text = item
    elif isinstance(item, Mapping | Sequence) or item is None:
        return False
    else:
        text = str(item)
    return any(_run_has_pan(run) for run in _DIGIT_RUN.findall(text))


def _run_has_pan(run: str) -> bool:
    """Try every row of neighbouring groups, so that `4242 4242 4242 4242 12/30` is seen too."""
    groups = _DIGIT_GROUP.findall(run)
    for start in range(len(groups)):
        digits = ""
        for group in groups[start:]:
            digits += group
            if len(digits) > PAN_DIGITS_MAX:
                break
            if len(digits) >= PAN_DIGITS_MIN and _passes_luhn(digits):
                return True
    return False


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004  the digit sum of 10..18
    return total % 10 == 0
