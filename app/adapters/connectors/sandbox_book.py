"""What the sandbox PSP knows: payment intents, charges, refunds, as Stripe's API 2026-10-28 shapes them.

Written from Stripe's published behaviour and sharing no code with our connector, so that each checks the other.
Not safe for threads by itself: `sandbox_api` holds its lock.
"""

from __future__ import annotations

import re
from typing import Any, Final

from app.adapters.connectors.sandbox_wire import ApiError, Params, invalid

OBJECTS_MAX: Final = 200_000
LIST_MAX: Final = 100
METADATA_KEYS_MAX: Final = 50

HUNDREDS_ONLY: Final = frozenset({"isk", "ugx"})
TENS_ONLY: Final = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})

CREATE_PARAMS: Final = frozenset(
    {
        "allowed_payment_method_types",
        "amount",
        "capture_method",
        "confirm",
        "currency",
        "description",
        "metadata",
        "off_session",
        "payment_method",
    }
)
METHODS: Final = frozenset({"pm_card_visa", "pm_card_mastercard", "pm_card_amex"})
DECLINES: Final = {
    "pm_card_chargeDeclined": ("card_declined", "generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds"),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", "expired_card"),
}
CHALLENGES: Final = frozenset({"pm_card_authenticationRequired"})
MAGIC: Final = "pm_sandbox_"

CANCELABLE: Final = frozenset(
    {"requires_payment_method", "requires_capture", "requires_confirmation", "requires_action"}
)

_QUERY: Final = re.compile(r"metadata\[['\"]([\w-]{1,40})['\"]\]:['\"]([^'\"]{1,500})['\"]")


class Book:
    """The objects of one sandbox account, by id, oldest first."""

    def __init__(self) -> None:
        self.intents: dict[str, Params] = {}
        self.charges: dict[str, Params] = {}
        self.refunds: dict[str, Params] = {}
        self._made = 0

    def create_intent(self, params: Params, now_s: int) -> Params:
        """`POST /v1/payment_intents`: create, and confirm if asked to."""
        unknown = sorted(set(params) - CREATE_PARAMS)
        if unknown:
            raise invalid(f"Received unknown parameter: {unknown[0]}", code="parameter_unknown", param=unknown[0])
        if len(self.intents) >= OBJECTS_MAX:
            raise ApiError(429, "rate_limit_error", "The sandbox is full; start it again.")
        intent = self._make_intent(params, now_s)
        self.intents[intent["id"]] = intent
        if params.get("confirm") == "true":
            return self.confirm_intent(intent["id"], {}, now_s)
        return intent

    def confirm_intent(self, intent_id: str, params: Params, now_s: int) -> Params:
        """`POST /v1/payment_intents/:id/confirm`: charge, decline, or ask for the payer."""
        intent = self.read_intent(intent_id)
        if "payment_method" in params:
            intent["payment_method"] = _read_method(params)
        if intent["status"] not in {"requires_confirmation", "requires_payment_method"}:
            raise _unexpected_state(intent)
        method = intent["payment_method"]
        if method is None:
            raise invalid("You cannot confirm without a payment method.", code="parameter_missing")
        if method in DECLINES:
            raise self._decline(intent, *DECLINES[method])
        if method in CHALLENGES:
            intent["status"] = "requires_action"
            intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
            return intent
        manual = intent["capture_method"] == "manual"
        charge = self._make_charge(intent, now_s, captured=not manual)
        intent |= {
            "status": "requires_capture" if manual else "succeeded",
            "latest_charge": charge["id"],
            "last_payment_error": None,
            "amount_capturable" if manual else "amount_received": intent["amount"],
        }
        return intent

    def capture_intent(self, intent_id: str, params: Params) -> Params:
        """`POST /v1/payment_intents/:id/capture`: take up to the authorised amount, release the rest."""
        intent = self.read_intent(intent_id)
        if intent["status"] != "requires_capture":
            raise _unexpected_state(intent)
        amount = _read_amount(params, "amount_to_capture", default=intent["amount_capturable"])
        if amount > intent["amount_capturable"]:
            raise invalid("The amount is more than what can be captured.", code="amount_too_large")
        self.charges[intent["latest_charge"]] |= {"captured": True, "amount_captured": amount}
        intent |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}
        return intent

    def cancel_intent(self, intent_id: str, now_s: int) -> Params:
        """`POST /v1/payment_intents/:id/cancel`."""
        intent = self.read_intent(intent_id)
        if intent["status"] not in CANCELABLE:
            raise _unexpected_state(intent)
        intent |= {"status": "canceled", "canceled_at": now_s, "amount_capturable": 0, "next_action": None}
        return intent

    def read_intent(self, intent_id: str) -> Params:
        """`GET /v1/payment_intents/:id`."""
        intent = self.intents.get(intent_id)
        if intent is None:
            raise invalid("No such payment_intent", status=404, code="resource_missing", param="intent")
        return intent

    def list_intents(self, params: Params) -> Params:
        """`GET /v1/payment_intents`, newest first."""
        found = list(reversed(self.intents.values()))
        return _page("list", "/v1/payment_intents", found, params)

    def search_intents(self, params: Params) -> Params:
        """`GET /v1/payment_intents/search`, by one member of the metadata."""
        match = _QUERY.fullmatch(params.get("query", ""))
        if match is None:
            raise invalid("The sandbox searches by metadata['name']:'value' only.", param="query")
        found = [intent for intent in self.intents.values() if intent["metadata"].get(match[1]) == match[2]]
        return _page("search_result", "/v1/payment_intents/search", found, params) | {"next_page": None}

    def create_refund(self, params: Params, now_s: int) -> Params:
        """`POST /v1/refunds`: never more, in total, than was captured."""
        intent = self.read_intent(str(params.get("payment_intent")))
        charge = self.charges.get(intent["latest_charge"] or "")
        if charge is None or not charge["captured"]:
            raise invalid("This payment has no captured charge to refund.", code="charge_not_refundable")
        left = charge["amount_captured"] - charge["amount_refunded"]
        if left == 0:
            raise invalid("The charge has already been refunded.", code="charge_already_refunded")
        amount = _read_amount(params, "amount", default=left)
        if amount > left:
            raise invalid("The refund is greater than what is left of the charge.", code="amount_too_large")
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
        refund = {
            "id": self._next_id("re"),
            "object": "refund",
            "amount": amount,
            "charge": charge["id"],
            "created": now_s,
            "currency": charge["currency"],
            "metadata": _read_metadata(params),
            "payment_intent": intent["id"],
            "status": "succeeded",
        }
        self.refunds[refund["id"]] = refund
        return refund

    def list_live_charges(self) -> dict[str, list[Params]]:
        """Return captured, not wholly refunded charges by our payment id, for tests of "never charged twice"."""
        live: dict[str, list[Params]] = {}
        for charge in self.charges.values():
            if charge["captured"] and not charge["refunded"]:
                payment = charge["metadata"].get("assay_payment", charge["payment_intent"])
                live.setdefault(payment, []).append(charge)
        return live

    def _next_id(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_sandbox_{self._made:x}"

    def _make_intent(self, params: Params, now_s: int) -> Params:
        intent_id = self._next_id("pi")
        method = _read_method(params)
        return {
            "id": intent_id,
            "object": "payment_intent",
            "amount": _read_charge_amount(params),
            "amount_capturable": 0,
            "amount_received": 0,
            "canceled_at": None,
            "capture_method": params.get("capture_method", "automatic_async"),
            "client_secret": f"{intent_id}_secret_sandbox",
            "confirmation_method": "automatic",
            "created": now_s,
            "currency": params["currency"],
            "description": params.get("description"),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": _read_metadata(params),
            "next_action": None,
            "payment_method": method,
            "payment_method_types": ["card"],
            "status": "requires_confirmation" if method else "requires_payment_method",
        }

    def _make_charge(self, intent: Params, now_s: int, *, captured: bool) -> Params:
        charge = {
            "id": self._next_id("ch"),
            "object": "charge",
            "amount": intent["amount"],
            "amount_captured": intent["amount"] if captured else 0,
            "amount_refunded": 0,
            "captured": captured,
            "created": now_s,
            "currency": intent["currency"],
            "metadata": dict(intent["metadata"]),
            "payment_intent": intent["id"],
            "refunded": False,
            "status": "succeeded",
        }
        self.charges[charge["id"]] = charge
        return charge

    def _decline(self, intent: Params, code: str, decline_code: str) -> ApiError:
        error = {
            "type": "card_error",
            "code": code,
            "decline_code": decline_code,
            "message": "Your card was declined.",
            "charge": self._next_id("ch"),
        }
        intent |= {"status": "requires_payment_method", "payment_method": None, "last_payment_error": error}
        details = {name: value for name, value in error.items() if name not in {"type", "message"}}
        return ApiError(402, "card_error", "Your card was declined.", **details, payment_intent=dict(intent))


def _unexpected_state(intent: Params) -> ApiError:
    return invalid(
        f"This PaymentIntent has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=dict(intent),
    )


def _read_charge_amount(params: Params) -> int:
    amount = _read_amount(params, "amount")
    currency = params.get("currency", "")
    if not isinstance(currency, str) or not re.fullmatch(r"[a-z]{3}", currency):
        raise invalid("Invalid currency", code="parameter_invalid_string", param="currency")
    step = 100 if currency in HUNDREDS_ONLY else 10 if currency in TENS_ONLY else 1
    if amount % step:
        raise invalid(
            f"Invalid amount. {currency} amounts must be divisible by {step}.",
            code="invalid_charge_amount_no_decimal_compatible",
            param="amount",
        )
    return amount


def _read_amount(params: Params, name: str, *, default: int | None = None) -> int:
    if name not in params and default is not None:
        return default
    text = params.get(name, "")
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) or int(text) < 1:
        raise invalid("Invalid integer", code="parameter_invalid_integer", param=name)
    return int(text)


def _read_method(params: Params) -> str | None:
    method = params.get("payment_method")
    known = method is None or method in METHODS or method in DECLINES or method in CHALLENGES
    if known or (isinstance(method, str) and method.startswith(MAGIC)):
        return method
    raise invalid("No such PaymentMethod", code="resource_missing", param="payment_method")


def _read_metadata(params: Params) -> dict[str, str]:
    metadata = params.get("metadata", {})
    flat = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    if not flat or len(metadata) > METADATA_KEYS_MAX:
        raise invalid("Invalid metadata", param="metadata")
    return dict(metadata)


def _page(kind: str, url: str, found: list[Params], params: Params) -> dict[str, Any]:
    text = params.get("limit", "10")
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= LIST_MAX:
        raise invalid("Invalid integer", code="parameter_invalid_integer", param="limit")
    limit = int(text)
    return {"object": kind, "url": url, "has_more": len(found) > limit, "data": found[:limit]}
