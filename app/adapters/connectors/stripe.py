"""Stripe through its own SDK (API 2026-10-28), one send per call, every failure classified by what it proves.

Exception types alone do not separate "never arrived" from "may have charged": the classifier looks at the
`requests`/`urllib3` cause beneath the SDK's error, and whatever it does not positively know is `Unknown`.
Stripe's rules relied on: an idempotency key is remembered for at least 24 h, with the first reply, errors
included; the rate limiter (429) stands in front of it; search may lag by up to an hour during an outage.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import stripe
import urllib3.exceptions

from app.errors import Rejected
from app.payments.intent import Attempt
from app.payments.money import to_psp_amount
from app.payments.ports import Captured, Declined, NotSent, Outcome, RequiresAction, Unknown

CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 20.0
KEY_FRESH_S: Final = 23 * 3600
SETTLE_DELAY_S: Final = 2 * 3600
"""Each leaves an hour for what it cannot see: steps of our clock, and requests that linger on the way."""

FOUND_MAX: Final = 10
CAUSES_MAX: Final = 16
CODE_CHARS_MAX: Final = 64

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

Found = Captured | Declined | RequiresAction | Unknown


class StripeConnector:
    """A `Connector` to one Stripe account."""

    psp = "stripe"
    key_fresh_s = KEY_FRESH_S
    settle_delay_s = SETTLE_DELAY_S

    def __init__(
        self,
        api_key: str,
        *,
        base_address: str | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """`base_address` is Stripe's own when None; plain http only on loopback, and never with a live key."""
        if base_address is not None:
            check_base_address(base_address, api_key)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy and no .netrc may take over our Authorization header
        self._session.max_redirects = 0  # a redirected POST could charge elsewhere
        self._stripe = stripe.StripeClient(
            api_key,
            base_addresses={"api": base_address} if base_address else None,
            max_network_retries=0,  # our own layer owns retries
            http_client=stripe.RequestsClient(timeout=(connect_timeout_s, read_timeout_s), session=self._session),
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def charge(self, attempt: Attempt, *, idempotency_key: str) -> Outcome:
        """Create and confirm a payment intent, once; see `Connector.charge`."""
        try:
            intent = self._stripe.v1.payment_intents.create(
                {
                    "amount": to_psp_amount(attempt.money, self.psp),
                    "currency": attempt.money.currency.lower(),
                    "payment_method": attempt.payment_method,
                    "allowed_payment_method_types": ["card"],
                    "confirm": True,
                    "metadata": {
                        "assay_payment": attempt.intent_id,
                        "assay_attempt": attempt.id,
                        "assay_tenant": attempt.tenant,
                    },
                },
                {"idempotency_key": idempotency_key},
            )
            return read_intent(intent, attempt)
        except stripe.StripeError as error:
            return classify(error)
        except Exception as error:  # noqa: BLE001  a 200 with garbage breaks the SDK in ways it does not name
            return Unknown(code="unreadable_reply", message=type(error).__name__)

    def find_by_reference(self, attempt: Attempt) -> Found | None:
        """Retrieve the payment intent if its id is known, else search for ours; see the port."""
        try:
            if attempt.psp_reference is not None:
                return read_intent(self._stripe.v1.payment_intents.retrieve(attempt.psp_reference), attempt)
            return self._search(attempt)
        except stripe.StripeError as error:
            return Unknown(code=f"lookup_{classify(error).code}"[:CODE_CHARS_MAX])
        except Exception as error:  # noqa: BLE001  as in `charge`
            return Unknown(code="lookup_unreadable_reply", message=type(error).__name__)

    def _search(self, attempt: Attempt) -> Found | None:
        result = self._stripe.v1.payment_intents.search(
            {"query": f"metadata['assay_attempt']:'{attempt.id}'", "limit": FOUND_MAX}
        )
        if result.to_dict()["has_more"] is not False:
            return Unknown(code="too_many_found")
        ours = [intent for intent in result.data if intent.to_dict()["metadata"]["assay_attempt"] == attempt.id]
        found = [read_intent(intent, attempt) for intent in ours]
        if len(found) > 1:
            return Unknown(code="more_than_one_found")
        return found[0] if found else None


def check_base_address(base_address: str, api_key: str) -> None:
    """Raise Rejected unless `base_address` is a bare https origin, or http on loopback with a test key."""
    parts = urlsplit(base_address)
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK and "_live_" not in api_key
    bare = not (parts.path or parts.query or parts.fragment or parts.username or parts.password)
    if not (bare and parts.hostname and (plain or parts.scheme == "https")):
        raise Rejected(
            "a PSP's address is https://host, or http://127.0.0.1:port with a test key", code="bad_psp_address"
        )


def read_intent(intent: stripe.PaymentIntent, attempt: Attempt) -> Found:
    """Return what a payment intent of Stripe's says about `attempt`; Unknown for anything but a plain answer."""
    body: dict[str, Any] = intent.to_dict()
    reference = body.get("id")
    if body.get("object") != "payment_intent" or not isinstance(reference, str):
        return Unknown(code="unreadable_reply")
    if not _is_ours(body, attempt):
        return Unknown(code="reply_is_not_ours", psp_reference=reference)
    return _read_status(body, reference)


def _read_status(body: dict[str, Any], reference: str) -> Found:
    match body.get("status"):
        case "succeeded" if body.get("amount_received") == body["amount"]:
            return Captured(psp_reference=reference)
        case "requires_action":
            return RequiresAction(psp_reference=reference)
        case "requires_payment_method":
            error = body.get("last_payment_error") or {}
            return Declined(code=_safe_code(error.get("code"), "declined"), psp_reference=reference)
        case "canceled":
            return Declined(code="canceled", psp_reference=reference)
        case status:
            return Unknown(code=_safe_code(status, "unreadable_reply"), psp_reference=reference)


NOT_PROCESSED: Final = (
    stripe.RateLimitError,
    stripe.AuthenticationError,
    stripe.PermissionError,
    stripe.InvalidRequestError,
)
"""Stripe's own words for "I did not act on this"; a bare status from some box in between is not among them."""


def classify(error: stripe.StripeError) -> Declined | NotSent | Unknown:
    """Return what a failed send proves. Only positive knowledge makes it anything but Unknown."""
    if isinstance(error, stripe.APIConnectionError):
        return _classify_connection(error)
    # Not every class of the SDK's carries the code that its body has.
    code = _safe_code(error.code or getattr(error.error, "code", None), f"http_{error.http_status}")
    if isinstance(error, stripe.CardError):
        return Declined(code=code, message=_list_words(error), psp_reference=_find_intent_id(error))
    if isinstance(error, NOT_PROCESSED):
        return NotSent(code=code, our_fault=not isinstance(error, stripe.RateLimitError))
    if isinstance(error, stripe.IdempotencyError):  # the key was used before, for something that may have charged
        return Unknown(code="idempotency_error")
    return Unknown(code=code)


def _classify_connection(error: stripe.APIConnectionError) -> NotSent | Unknown:
    causes = list(_list_causes(error))
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in causes):
        return NotSent(code="dns")
    if any(isinstance(cause, requests.ConnectTimeout) for cause in causes):
        return NotSent(code="connect_timeout")
    if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):
        return NotSent(code="not_connected")
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return NotSent(code="bad_certificate", our_fault=True)
    if any(isinstance(cause, requests.Timeout) for cause in causes):
        return Unknown(code="read_timeout")
    return Unknown(code="connection_lost")


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what lies beneath `error`: causes, contexts, and what urllib3 keeps in `args` and `reason`."""
    pending: list[object] = [error.__cause__]
    for _ in range(CAUSES_MAX):
        if not pending:
            return
        cause = pending.pop(0)
        if isinstance(cause, BaseException):
            yield cause
            pending += [getattr(cause, "reason", None), cause.__cause__, *cause.args]


def _is_ours(body: dict[str, Any], attempt: Attempt) -> bool:
    return (
        body.get("amount") == to_psp_amount(attempt.money, "stripe")
        and body.get("currency") == attempt.money.currency.lower()
        and (body.get("metadata") or {}).get("assay_attempt") == attempt.id
    )


def _find_intent_id(error: stripe.CardError) -> str | None:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    reference = ((body.get("error") or {}).get("payment_intent") or {}).get("id")
    return reference if isinstance(reference, str) else None


def _list_words(error: stripe.CardError) -> str:
    """Return the decline and advice codes: Stripe's `message` may quote what the payer typed."""
    words = (getattr(error.error, name, None) for name in ("decline_code", "advice_code"))
    return " ".join(_safe_code(word, "") for word in words if word)


def _safe_code(value: object, default: str) -> str:
    """Return a PSP's code if it looks like one: codes go into entries, free text does not."""
    is_code = isinstance(value, str) and re.fullmatch(rf"[a-z][a-z0-9_]{{0,{CODE_CHARS_MAX - 1}}}", value)
    return str(value) if is_code else default
