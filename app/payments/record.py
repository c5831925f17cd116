"""The record that customers had before Assay, read and written exactly.

    {"tx_hash": "0x…", "timestamp": 1712345678, "user_id": "usr_…", "action": "PAYMENT_PROCESSED",
     "metadata": {"amount": 1499.99, "currency": "USD", "compliance_status": "PASSED"}}

In, it becomes a `record.logged` entry: the amount in minor units, `user_id` as a reference, the old hash kept as
`source_tx_hash`. Out, `tx_hash` is the entry's leaf hash, which a receipt proves. The amount is never a float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import orjson

from app.errors import Malformed, Rejected
from app.ledger.entry import Draft, Entry
from app.payments.money import Money, format_decimal, parse_decimal
from app.tlog.tree import leaf_hash

ACTION: Final = "record.logged"
TIMESTAMP_MAX_S: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, in seconds since 1970."""
FUTURE_TOLERANCE_S: Final = 300
"""How far a record's clock may be ahead of ours, in seconds."""

_FIELDS: Final = frozenset({"timestamp", "user_id", "action", "metadata"})
_METADATA: Final = frozenset({"amount", "currency", "compliance_status"})
_USER_ID: Final = re.compile(r"usr_[A-Za-z0-9]{1,60}")
_TX_HASH: Final = re.compile(r"0x[0-9A-Fa-f]{1,128}")
_PAYMENT_RECORDS: Final = {
    "payment.succeeded": "PAYMENT_PROCESSED",
    "payment.declined": "PAYMENT_DECLINED",
}


def is_record(value: Any) -> bool:
    """Say whether parsed JSON has the shape of a record rather than of an entry."""
    return isinstance(value, dict) and "metadata" in value and "user_id" in value


def parse_record(value: Any, *, actor: str, now_s: int, idem: bytes | None = None) -> Draft:
    """Return the draft that logs this record, fractions given as Decimal. Raises Malformed or Rejected."""
    _check_shape(value)
    metadata = value["metadata"]
    timestamp = value["timestamp"]
    if type(timestamp) is not int or not 0 <= timestamp <= TIMESTAMP_MAX_S:
        raise Rejected("timestamp is whole seconds since 1970", code="record_invalid", pointer="/timestamp")
    if timestamp > now_s + FUTURE_TOLERANCE_S:
        raise Rejected(
            f"timestamp is more than {FUTURE_TOLERANCE_S} seconds in the future",
            code="timestamp_in_future",
            pointer="/timestamp",
        )
    money = _parse_amount(metadata["amount"], metadata["currency"])
    data: dict[str, Any] = {
        "record_action": value["action"],
        "recorded_at_s": timestamp,
        "amount_minor": money.amount_minor,
        "currency": money.currency,
        "compliance_status": metadata["compliance_status"],
    }
    if "tx_hash" in value:
        data["source_tx_hash"] = value["tx_hash"]
    return Draft(action=ACTION, actor=actor, ref={"user": value["user_id"]}, data=data, idem=idem)


def format_record(entry: Entry) -> bytes:
    """Return the entry as a record. Raises Rejected for an entry that says nothing a record can."""
    data: Mapping[str, Any] = entry.data
    if entry.action == ACTION:
        action, status, timestamp = data["record_action"], data["compliance_status"], data["recorded_at_s"]
        user = entry.ref["user"]
    elif entry.action in _PAYMENT_RECORDS and "amount_minor" in data:
        action, status, timestamp = _PAYMENT_RECORDS[entry.action], "PASSED", entry.time_ms // 1000
        user = entry.subject or ""
    else:
        raise Rejected(
            f"{entry.action} has no record view; ask without view=record", code="no_record_view", pointer="/view"
        )
    amount = format_decimal(Money(amount_minor=data["amount_minor"], currency=data["currency"]))
    return orjson.dumps(
        {
            "tx_hash": "0x" + leaf_hash(entry.body).hex(),
            "timestamp": timestamp,
            "user_id": user,
            "action": action,
            "metadata": {
                "amount": orjson.Fragment(amount),
                "currency": data["currency"],
                "compliance_status": status,
            },
        }
    )


def _check_shape(value: Any) -> None:
    if not isinstance(value, dict) or not _FIELDS <= value.keys() <= _FIELDS | {"tx_hash"}:
        raise Malformed(
            "a record has timestamp, user_id, action and metadata, perhaps tx_hash, and nothing else",
            code="record_invalid",
        )
    metadata = value["metadata"]
    if not isinstance(metadata, dict) or metadata.keys() != _METADATA:
        raise Malformed(
            "metadata has amount, currency and compliance_status, and nothing else",
            code="record_invalid",
            pointer="/metadata",
        )
    for name, pattern in (("user_id", _USER_ID), ("tx_hash", _TX_HASH)):
        if name in value and not (isinstance(value[name], str) and pattern.fullmatch(value[name])):
            raise Rejected(f"{name} does not look like {pattern.pattern}", code="record_invalid", pointer=f"/{name}")


def _parse_amount(amount: Any, currency: Any) -> Money:
    """Return the money; an integer such as 1499 means whole units, as in the records."""
    if type(amount) is int:
        amount = Decimal(amount)
    if not isinstance(amount, Decimal) or not isinstance(currency, str):
        raise Rejected("amount is a JSON number and currency a string", code="bad_amount", pointer="/metadata/amount")
    try:
        return parse_decimal(amount, currency)
    except Rejected as error:
        field = "currency" if error.code == "unknown_currency" else "amount"
        raise Rejected(str(error), code=error.code, pointer=f"/metadata/{field}") from error
