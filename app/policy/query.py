"""What is asked of a policy: an entrypoint, and the document it reads as `input`.

Documents are built here and nowhere else, so that what a policy reads is what every caller sends. They hold what
the rules need and no more: a payer's name enters only as its tokens.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_NAME_TOKENS = 32
"""Tokens of a name beyond these would be a text, not a name; the query keeps one more, and policy asks for review."""

PAYMENT_ENTRYPOINT = "payments/decide"

BUCKETS = 10_000
"""Parts of the whole volume, so that a share of a route is a count of ten-thousandths."""
BUCKET_SEED = b"assay/routing/bucket/v1\0"
"""Spreads payments over the buckets; another seed would send running payments another way."""

_DROPPED = {"Mn", "Mc", "Me", "Cf"}
"""Unicode categories: accents and other marks, and invisible format characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question to a policy. `document` is JSON: integers, strings, booleans, null, arrays, objects.

    `decision_id` is what its answer will be known by, if it becomes a decision; no policy sees it.
    """

    entrypoint: str
    document: Mapping[str, Any]
    decision_id: str | None = None


def payment_query(
    *,
    amount_minor: int,
    currency: str,
    country: str,
    payer_name: str,
    payer_country: str,
    payment_id: str | None = None,
    added: Mapping[str, Any] | None = None,
) -> Query:
    """Ask whether a payment may be made, and through which PSP.

    `country` is where it is made and picks the region; `payer_country` is where the payer lives. Both are ISO 3166-1
    alpha-2, `currency` is ISO 4217, all upper case; `amount_minor > 0`. `payment_id` puts it in its bucket; without
    one it takes no route that takes a share. `added` is what else is known, as docs/policies.md says: `connectors`,
    `screening`, `fraud`.
    """
    payment: dict[str, Any] = {"amount_minor": amount_minor, "currency": currency, "country": country}
    if payment_id is not None:
        payment["bucket"] = volume_bucket(payment_id)
    payer = {"name_tokens": name_tokens(payer_name), "country": payer_country}
    return Query(entrypoint=PAYMENT_ENTRYPOINT, document={**(added or {}), "payment": payment, "payer": payer})


def volume_bucket(payment_id: str) -> int:
    """Return the bucket of a payment, 0 to 9,999: always the same one, and evenly spread over many payments."""
    digest = hashlib.sha256(BUCKET_SEED + payment_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def name_tokens(name: str) -> list[str]:
    """Return the words of a name, without case, accents, punctuation and order: sorted, each once.

    Letters of other scripts stay as they are. At most `MAX_NAME_TOKENS + 1` are returned.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    letters = "".join(c for c in folded if unicodedata.category(c) not in _DROPPED)
    words = "".join(c if c.isalnum() else " " for c in unicodedata.normalize("NFC", letters)).split()
    return sorted(set(words))[: MAX_NAME_TOKENS + 1]
