"""Request and response bodies of the API, as the OpenAPI document shows them."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag

from app.ledger.entry import REFS_LIMIT
from app.payments.money import AMOUNT_MINOR_MAX
from app.payments.record import is_record

PAGE_LIMIT = 1000
"""Entries in one page at most."""
PAGE_DEFAULT = 100
PERSONAL_LIMIT = 16
"""Personal facts in one entry at most."""
INDEX_LIMIT = 2**63 - 1
ENTRY, RECORD = "(entry)", "(record)"
VARIANTS = frozenset({ENTRY, RECORD})
"""Names of the bodies that POST /v1/entries takes; no field's name."""
_ACTION = "^[a-z][a-z0-9_.]{0,63}$"
_SUBJECT = "^sub_[A-Za-z0-9]{1,60}$"
_REF = "^[!-~]{1,128}$"
_TENANT = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_PSP = "^[a-z][a-z0-9_]{0,31}$"
_PSP_TOKEN = "^[!-~]{1,255}$"  # noqa: S105 -- a pattern


class Model(BaseModel):
    """A body that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return the schema. The framework asks for the plain one at every request with a query: it is made once."""
        return super().model_json_schema(*arguments, **options) if arguments or options else _plain_schema(cls)


@functools.cache
def _plain_schema(model: type[Model]) -> dict[str, Any]:
    return super(Model, model).model_json_schema()


class EntryIn(Model):
    """An entry to append. `data` is checked against the schema of the action (GET /v1/actions)."""

    action: str = Field(max_length=64, examples=["document.recorded"])
    subject: str | None = Field(default=None, max_length=64, examples=["sub_0190a8b4"])
    ref: dict[str, str] = Field(default_factory=dict, max_length=REFS_LIMIT, examples=[{"contract": "c-17"}])
    data: dict[str, Any] = Field(default_factory=dict)
    personal: dict[str, str] = Field(
        default_factory=dict,
        max_length=PERSONAL_LIMIT,
        description="Personal facts: sealed under the subject's own key; the log gets a commitment only. Without a "
        "`subject` a new one is made, and named in the answer.",
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


def _variant(value: Any) -> str:
    return RECORD if isinstance(value, RecordIn) or is_record(value) else ENTRY


class AppendBody(
    RootModel[
        Annotated[
            Annotated[EntryIn, Tag(ENTRY)] | Annotated[RecordIn, Tag(RECORD)],
            Discriminator(_variant),
        ]
    ]
):
    """An entry, or a record."""


class Appended(BaseModel):
    """Durable, and not yet covered by a checkpoint: fetch the receipt a moment later."""

    id: str
    status: str = Field(examples=["appended"])
    receipt: str = Field(description="Where the receipt will be.", examples=["/v1/entries/ent_…/receipt"])
    subject: str | None = Field(default=None, description="With `personal`: the person whose facts were sealed.")


class Received(BaseModel):
    """Published, with the receipt (a C2SP tlog-proof)."""

    id: str
    status: str = Field(examples=["published"])
    index: int
    receipt: str
    subject: str | None = Field(default=None, description="With `personal`: the person whose facts were sealed.")


class EntryOut(BaseModel):
    """An entry as it was logged. `index` is null until it is published."""

    id: str
    index: int | None
    leaf_hash: str
    entry: dict[str, Any]


class MetadataOut(BaseModel):
    """What a record says of a payment."""

    amount: float = Field(description="Major units, written exactly: read it as a decimal, not as a double.")
    currency: str
    compliance_status: str


class RecordOut(BaseModel):
    """An entry as the record that customers had before Assay; `tx_hash` is the leaf hash."""

    tx_hash: str = Field(pattern="^0x[0-9a-f]{64}$")
    timestamp: int
    user_id: str
    action: str
    metadata: MetadataOut


class EntryOrRecord(RootModel[EntryOut | RecordOut]):
    """An entry; with `view=record` a record."""


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
    action: str | None = Field(default=None, pattern=_ACTION)
    subject: str | None = Field(default=None, pattern=_SUBJECT)
    ref: str | None = Field(default=None, pattern=_REF, description="The value of any reference.")
    from_ms: int | None = Field(default=None, ge=0, lt=2**47)
    to_ms: int | None = Field(default=None, ge=0, lt=2**47)


class Payer(Model):
    """Who pays. Name and e-mail are sealed under the payer's own key; the log gets commitments only."""

    name: str = Field(min_length=1, max_length=200, examples=["Ada Example"])
    email: str = Field(max_length=254, examples=["ada@example.com"])
    country: str = Field(pattern="^[A-Z]{2}$", examples=["DE"], description="ISO 3166-1 alpha-2.")


class PaymentIn(Model):
    """A payment to make. Give the amount either in minor units or as a decimal string, never as a JSON fraction."""

    amount_minor: int | None = Field(default=None, strict=True, ge=1, le=AMOUNT_MINOR_MAX, examples=[1499])
    amount: str | None = Field(default=None, max_length=32, examples=["14.99"])
    currency: str = Field(pattern="^[A-Z]{3}$", examples=["EUR"])
    country: str = Field(pattern="^[A-Z]{2}$", examples=["DE"], description="Where the payment is made.")
    payment_method: dict[
        Annotated[str, Field(pattern=_PSP)],
        Annotated[str, Field(pattern=_PSP_TOKEN)],
    ] = Field(
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

    payment_id: str = Field(pattern="^pi_[0-9a-f]{32}$")


class SubjectPath(BaseModel):
    """A person's id."""

    subject_id: str = Field(pattern=_SUBJECT)


class EraseQuery(Model):
    """Why the data is erased."""

    reason: str = Field(default="request", pattern="^[a-z][a-z0-9_.]{0,63}$")


class ErasedOut(BaseModel):
    """The person's data is gone; every proof of the log still holds."""

    subject: str
    status: str = Field(examples=["erased"])
    fields: int
    receipt: str | None = Field(
        description="Where the receipt of the erasure's entry is; with `Prefer: wait` the receipt, once published."
    )


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

    tenant: str = Field(pattern=_TENANT)
    rest: str = Field(max_length=128)


class TenantPath(BaseModel):
    """A log."""

    tenant: str = Field(pattern=_TENANT)


class KeyOut(BaseModel):
    """A key of the log, and the indexes of the entries that added and retired it."""

    vkey: str
    added: int | None
    retired: int | None


class KeysOut(BaseModel):
    """The keys that the log says it has."""

    origin: str
    keys: list[KeyOut]


class AliveOut(BaseModel):
    """The process runs."""

    status: str


class ReadyOut(BaseModel):
    """Each check is `ok`, or what is wrong."""

    status: str
    checks: dict[str, str]


class ActionOut(BaseModel):
    """An action that can be logged."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    title: str
    external: bool = Field(description="Whether a token may append it; the others are written by Assay alone.")
    data_schema: dict[str, Any] = Field(alias="schema", description="JSON Schema of `data`.")
    personal: list[str] = Field(description="Names that `personal` may hold.")


class ActionsOut(BaseModel):
    """Every action."""

    actions: list[ActionOut]


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
