"""What is asked of a policy: an entrypoint, and the document it reads as `input`.

Documents are built here and nowhere else, so that what a policy reads is what every caller sends. They hold what
the rules need and no more: a payer's name enters only as its tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_NAME_TOKENS = 32
"""Tokens of a name beyond these would be a text, not a name; the query keeps one more, and policy asks for review."""

PAYMENT_ENTRYPOINT = "payments/decide"

_DROPPED = {"Mn", "Mc", "Me", "Cf"}
"""Unicode categories: accents and other marks, and invisible format characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question to a policy. `document` is JSON: integers, strings, booleans, null, arrays, objects."""

    entrypoint: str
    document: Mapping[str, Any]


def payment_query(
    *,
    amount_minor: int,
    currency: str,
    country: str,
    payer_name: str,
    payer_country: str,
) -> Query:
    """Ask whether a payment may be made, and through which PSP.

    `country` is where it is made and picks the region; `payer_country` is where the payer lives. Both are ISO 3166-1
    alpha-2, `currency` is ISO 4217, all upper case; `amount_minor > 0`.
    """
    return Query(
        entrypoint=PAYMENT_ENTRYPOINT,
        document={
            "payment": {"amount_minor": amount_minor, "currency": currency, "country": country},
            "payer": {"name_tokens": name_tokens(payer_name), "country": payer_country},
        },
    )


def name_tokens(name: str) -> list[str]:
    """Return the words of a name, without case, accents, punctuation and order: sorted, each once.

    Letters of other scripts stay as they are. At most `MAX_NAME_TOKENS + 1` are returned.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    letters = "".join(c for c in folded if unicodedata.category(c) not in _DROPPED)
    words = "".join(c if c.isalnum() else " " for c in unicodedata.normalize("NFC", letters)).split()
    return sorted(set(words))[: MAX_NAME_TOKENS + 1]
