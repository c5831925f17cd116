"""Request and response bodies of the API, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from app.ledger.entry import REFS_LIMIT
from app.payments.money import AMOUNT_MINOR_MAX

PAGE_LIMIT = 1000
"""Entries in one page at most."""
PAGE_DEFAULT = 100
INDEX_LIMIT = 2**63 - 1


class Model(BaseModel):
    """A body that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EntryIn(Model):
    """An entry to append. `data` is checked against the schema of the action (GET /v1/actions)."""

    action: str = Field(max_length=64, examples=["document.recorded"])
    subject: str | None = Field(default=None, max_length=64, examples=["sub_0190a8b4"])
    ref: dict[str, str] = Field(default_factory=dict, max_length=REFS_LIMIT, examples=[{"contract": "c-17"}])
    data: dict[str, Any] = Field(default_factory=dict)
    personal: dict[str, str] = Field(
        default_factory=dict,
        description="Personal facts: sealed under the subject's own key; the log gets a commitment only.",
    )


class RecordMetadata(Model):
    """What a record says of a payment."""

    amount: Any = Field(description="Major units, a JSON number, read exactly.", examples=[1499.99])
    currency: Any = Field(examples=["USD"])
    compliance_status: Any = Field(examples=["PASSED"])


class RecordIn(Model):
    """The record that customers had before Assay; it becomes a `record.logged` entry."""

    tx_hash: Any = Field(default=None, examples=["0xabc123"])
    timestamp: Any = Field(examples=[1712345678])
    user_id: Any = Field(examples=["usr_42"])
    action: Any = Field(examples=["PAYMENT_PROCESSED"])
    metadata: Any


class AppendBody(RootModel[EntryIn | RecordIn]):
    """An entry, or a record."""


class Appended(BaseModel):
    """Durable, and not yet covered by a checkpoint: fetch the receipt a moment later."""

    id: str
    status: str = Field(examples=["appended"])
    receipt: str = Field(description="Where the receipt will be.", examples=["/v1/entries/ent_…/receipt"])


class Received(BaseModel):
    """Published, with the receipt (a C2SP tlog-proof)."""

    id: str
    status: str = Field(examples=["published"])
    index: int
    receipt: str


class EntryOut(BaseModel):
    """An entry as it was logged. `index` is null until it is published."""

    id: str
    index: int | None
    leaf_hash: str
    entry: dict[str, Any]


class EntryPage(BaseModel):
    """Entries in log order; pass `next` as `after` to go on. A page may be empty and still have a `next`."""

    entries: list[EntryOut]
    next: int | None


class EntryPath(BaseModel):
    """An entry's id."""

    entry_id: str = Field(max_length=64)


class EntryQuery(Model):
    """How to render an entry."""

    view: str | None = Field(default=None, pattern="^record$")


class ListQuery(Model):
    """Which entries to list. The cursor is the log index itself, so pages never shift."""

    after: int = Field(default=0, ge=0, le=INDEX_LIMIT, description="First index to look at.")
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_LIMIT)
    action: str | None = Field(default=None, max_length=64)
    subject: str | None = Field(default=None, max_length=64)
    ref: str | None = Field(default=None, max_length=128, description="The value of any reference.")
    from_ms: int | None = Field(default=None, ge=0, lt=2**47)
    to_ms: int | None = Field(default=None, ge=0, lt=2**47)


class Payer(Model):
    """Who pays. Name and e-mail are sealed under the payer's own key; the log gets commitments only."""

    name: str = Field(min_length=1, max_length=200, examples=["Ada Example"])
    email: str = Field(max_length=254, examples=["ada@example.com"])
    country: str = Field(pattern="^[A-Z]{2}$", examples=["DE"], description="ISO 3166-1 alpha-2.")


class PaymentIn(Model):
    """A payment to make. Give the amount either in minor units or as a decimal string, never as a JSON fraction."""

    amount_minor: int | None = Field(default=None, ge=1, le=AMOUNT_MINOR_MAX, examples=[1499])
    amount: str | None = Field(default=None, max_length=32, examples=["14.99"])
    currency: str = Field(pattern="^[A-Z]{3}$", examples=["EUR"])
    country: str = Field(pattern="^[A-Z]{2}$", examples=["DE"], description="Where the payment is made.")
    payment_method: dict[str, str] = Field(
        min_length=1,
        max_length=8,
        examples=[{"stripe": "pm_card_visa"}],
        description="A token per PSP, never a card number.",
    )
    payer: Payer
    subject: str | None = Field(
        default=None, max_length=64, description="The payer, if known to us already; a new subject when absent."
    )


class PaymentOut(BaseModel):
    """A payment as it stands. `unknown` means that a PSP may have charged: do not pay again, ask again later."""

    id: str
    status: str
    code: str | None = Field(description="Why it is in this state.")
    amount_minor: int
    amount: str
    currency: str
    psp: str
    decision: str | None
    subject: str | None
    created_at: str
    entries: str = Field(description="Where the payment's entries are listed.")
    receipt: str | None = Field(default=None, description="With `Prefer: wait`: the receipt of its newest entry.")


class PaymentPath(BaseModel):
    """A payment's id."""

    payment_id: str = Field(max_length=64)


class SubjectPath(BaseModel):
    """A person's id."""

    subject_id: str = Field(max_length=64)


class EraseQuery(Model):
    """Why the data is erased."""

    reason: str = Field(default="request", pattern="^[a-z][a-z0-9_.]{0,63}$")


class ErasedOut(BaseModel):
    """The person's data is gone; every proof of the log still holds."""

    subject: str
    status: str = Field(examples=["erased"])
    fields: int
    receipt: str | None = Field(description="Where the receipt of the erasure's entry is.")


class InclusionQuery(Model):
    """Which leaf, in the tree of which size (the published one when absent)."""

    index: int | None = Field(default=None, ge=0, le=INDEX_LIMIT)
    leaf_hash: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    size: int | None = Field(default=None, ge=1, le=INDEX_LIMIT)


class InclusionOut(BaseModel):
    """An audit path, nearest sibling first; hashes in base64 (RFC 9162, 2.1.3)."""

    index: int
    size: int
    leaf_hash: str
    hashes: list[str]
    checkpoint: str


class ConsistencyQuery(Model):
    """Between which sizes; `to` is the published size when absent."""

    from_size: int = Field(alias="from", ge=0, le=INDEX_LIMIT)
    to_size: int | None = Field(default=None, alias="to", ge=0, le=INDEX_LIMIT)


class ConsistencyOut(BaseModel):
    """A consistency proof; hashes in base64 (RFC 9162, 2.1.4)."""

    model_config = ConfigDict(populate_by_name=True)

    from_size: int = Field(alias="from")
    to_size: int = Field(alias="to")
    hashes: list[str]
    checkpoint: str


class TilePath(BaseModel):
    """A tile of a log (C2SP tlog-tiles)."""

    tenant: str = Field(max_length=64)
    rest: str = Field(max_length=128)


class TenantPath(BaseModel):
    """A log."""

    tenant: str = Field(max_length=64)


class Problem(BaseModel):
    """RFC 9457. `code` is stable; `retryable` says whether the same request may succeed later."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    retryable: bool
    errors: list[dict[str, str]] | None = None
