"""The actions of Assay: everything that may stand in a log. Adding one is a reviewed change of this table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.ledger.action import Action, Registry
from app.ledger.canonical import MAX_INTEGER

CODE = {"type": "string", "pattern": "^[a-z][a-z0-9_.]{0,63}$"}
"""A stable, lower-case code."""
NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_./:@ -]{0,127}$"}
"""A short name of a thing, never of a person."""
TOKEN = {"type": "string", "pattern": "^[!-~]{1,128}$"}
"""An identifier of ours or of a PSP."""
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
CURRENCY = {"type": "string", "pattern": "^[A-Z]{3}$"}
COUNTRY = {"type": "string", "pattern": "^[A-Z]{2}$"}
AMOUNT = {"type": "integer", "minimum": 0, "maximum": 10**15}
"""Money in the currency's minor unit (ISO 4217)."""
COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
PSP = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$"}
VKEY = {"type": "string", "maxLength": 512}
_SCOPES = {"type": "string", "pattern": "^[a-z:,]{1,512}$"}
_TITLE = {"type": "string", "minLength": 1, "maxLength": 64}
REASONS = {
    "type": "array",
    "maxItems": 32,
    "items": {
        "type": "object",
        "properties": {
            "code": CODE,
            "message": {"type": "string", "maxLength": 256},
            "control": {"type": "string", "maxLength": 256},
            "statute": {"type": "string", "maxLength": 256},
        },
        "required": ["code", "message"],
        "additionalProperties": False,
    },
}


def _object(properties: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of an object with these properties, perhaps the optional ones, and no others."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _action(
    name: str,
    title: str,
    required: dict[str, Any],
    optional: dict[str, Any] | None = None,
    personal: frozenset[str] = frozenset(),
) -> Action:
    """Return an action that only Assay itself writes."""
    return Action(
        name=name,
        title=title,
        properties={**required, **(optional or {})},
        required=frozenset(required),
        personal=personal,
    )


def _external(
    name: str,
    title: str,
    required: dict[str, Any],
    optional: dict[str, Any] | None = None,
    personal: frozenset[str] = frozenset(),
) -> Action:
    """Return an action that a merchant's token may append."""
    return replace(_action(name, title, required, optional, personal), external=True)


LOG_ACTIONS = (
    _action("key.added", "A log key was added; it signs from here on", {"vkey": VKEY}),
    _action("key.retired", "A log key was retired; it signs nothing larger", {"vkey": VKEY}),
    _action("log.frozen", "The log ends here; nothing is appended or signed after it", {"reason": CODE}),
    _action(
        "log.recovered",
        "The operator accepted the loss of a range of entries after a restore",
        {"lost_from": COUNT, "lost_to": COUNT, "reason": CODE},
        {"lost_root": SHA256},
    ),
    _action("token.issued", "An API token was issued", {"token": TOKEN, "scopes": _SCOPES, "expires_at_ms": COUNT}),
    _action("token.revoked", "An API token was revoked", {"token": TOKEN, "reason": CODE}),
)

RECORD_ACTIONS = (
    _external(
        "record.logged",
        "A customer's own record, as imported or posted",
        {
            "record_action": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]{0,63}$"},
            "recorded_at_s": COUNT,
            "amount_minor": AMOUNT,
            "currency": CURRENCY,
            "compliance_status": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]{0,31}$"},
        },
        {"source_tx_hash": {"type": "string", "pattern": "^0x[0-9A-Fa-f]{1,128}$"}},
    ),
    _external(
        "document.recorded",
        "A document exists with this digest",
        {"kind": CODE, "sha256": SHA256},
        {"title": NAME, "size_bytes": COUNT},
    ),
    _external(
        "approval.given",
        "Somebody approved or refused something",
        {"what": NAME, "verdict": {"enum": ["approved", "refused"]}},
        {"reason": CODE},
    ),
    _external(
        "customer.registered",
        "A person became a customer",
        {"country": COUNTRY},
        personal=frozenset({"name", "email"}),
    ),
)

SUBJECT_ACTIONS = (
    _action(
        "subject.erased",
        "A person's data was erased: key and salts destroyed; the purge receipt",
        {"fields": COUNT, "reason": CODE},
    ),
    _action(
        "subject.opened",
        "Sealed facts of an entry were handed out with their salts; logged before anybody saw them",
        {"paths": {"type": "array", "minItems": 1, "maxItems": 16, "items": CODE}, "reason": CODE},
    ),
)


_MONEY_AT = {"amount_minor": AMOUNT, "currency": CURRENCY, "psp": PSP}
_OUTCOME = {**_MONEY_AT, "code": CODE}
_REFERENCE = {"psp_reference": TOKEN}
_FAULT = {"our_fault": {"type": "boolean"}}

PAYMENT_ACTIONS = (
    _action(
        "payer.recorded",
        "Who pays; name and e-mail are kept outside the log, sealed under the payer's own key",
        {"country": COUNTRY},
        personal=frozenset({"name", "email"}),
    ),
    _action("payment.created", "A merchant asked to be paid", _MONEY_AT),
    _action("payment.denied", "The policy, or the lack of a PSP for its answer, stopped the payment", {"code": CODE}),
    _action("payment.in_review", "A person must look before the payment may go on", {"code": CODE}),
    _action("payment.attempted", "We are about to ask a PSP", {**_MONEY_AT, "request_hash": SHA256}),
    _action("payment.succeeded", "The PSP has the money", _OUTCOME, _REFERENCE),
    _action("payment.declined", "The PSP refused for good; nothing was charged", _OUTCOME, _REFERENCE),
    _action("payment.not_sent", "The PSP did not process the payment; nothing was charged", {**_OUTCOME, **_FAULT}),
    _action("payment.unknown", "The PSP may have charged, and we cannot tell yet", _OUTCOME, _REFERENCE),
    _action("payment.requires_action", "The PSP waits for the payer", _OUTCOME, _REFERENCE),
    _action(
        "payment.reconciled",
        "Evidence settled what was unknown",
        {
            **_OUTCOME,
            "state": {"enum": ["succeeded", "failed", "requires_action", "unknown"]},
            "evidence": {"enum": ["replay", "lookup"]},
        },
        {**_REFERENCE, **_FAULT},
    ),
    _action(
        "payment.contradicted",
        "The PSP says what our final state denies; a person must look",
        {**_OUTCOME, "state": {"enum": ["succeeded", "failed"]}},
        _REFERENCE,
    ),
)

_ENGINE = _object({"name": _TITLE, "version": _TITLE})

DECISION_ACTIONS = (
    _action(
        "decision.recorded",
        "A policy decided, before anything acted on it",
        {
            "decision_id": {"type": "string", "pattern": "^dec_[0-9a-f]{32}$"},
            "entrypoint": {"type": "string", "pattern": "^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)+$", "maxLength": 128},
            "mode": {"enum": ["enforce", "shadow", "replay"]},
            "bundle": _object({"name": _TITLE, "digest": SHA256}, {"revision": SHA256}),
            "data": {
                "type": "array",
                "maxItems": 32,
                "items": _object({"name": CODE, "version": _TITLE, "digest": SHA256}),
            },
            "engine": _ENGINE,
            "input_digest": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
            "result": _object(
                {
                    "verdict": {"enum": ["allow", "deny", "review"]},
                    "reasons": REASONS,
                    "output": {
                        "type": "object",
                        "maxProperties": 16,
                        "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
                        "additionalProperties": {"type": ["string", "integer"], "maxLength": 200},
                    },
                }
            ),
            "result_digest": SHA256,
            "latency_us": COUNT,
        },
        {"replayable": {"type": "boolean"}, "not_replayable": CODE},
        personal=frozenset({"input"}),
    ),
)

_ACTOR = {"type": "string", "pattern": "^[a-z]{1,16}:[A-Za-z0-9_.@-]{1,96}$"}
_TESTS = {
    "type": "object",
    "properties": {"digest": SHA256, "files": COUNT, "passed": COUNT},
    "required": ["digest", "files"],
    "additionalProperties": False,
}
_REPORTS = {
    "type": "object",
    "properties": {
        "coverage": _object({"digest": SHA256, "percent": {"type": "integer", "minimum": 0, "maximum": 100}}),
        "parity": _object({"digest": SHA256, "cases": COUNT, "differences": COUNT}),
        "impact": _object(
            {"digest": SHA256, "base": SHA256, "decisions": COUNT, "changed": COUNT, "deny_to_allow": COUNT}
        ),
    },
    "additionalProperties": False,
}
_WAIVED = {"type": "array", "uniqueItems": True, "items": {"enum": ["coverage", "parity", "impact"]}}

POLICY_ACTIONS = (
    _action(
        "policy.bundle_added",
        "A bundle of policies is kept, as a draft",
        {"digest": SHA256, "name": _TITLE, "files": COUNT, "tests": _TESTS},
        {"base": SHA256},
    ),
    _action(
        "policy.data_changed",
        "A bundle is another one with a table of data changed",
        {"digest": SHA256, "base": SHA256, "table": CODE, "version": _TITLE, "data_digest": SHA256}
        | {"rows": COUNT, "added": COUNT, "removed": COUNT},
    ),
    _action(
        "policy.bundle_shadowed",
        "A bundle is proposed: evaluated beside the active one, never acted on",
        {"digest": SHA256, "author": _ACTOR, "reports": _REPORTS},
        {"replaces": SHA256},
    ),
    _action(
        "policy.bundle_activated",
        "A second person put a bundle into force, on these tests and reports",
        {"digest": SHA256, "name": _TITLE, "author": _ACTOR, "tests": _TESTS, "reports": _REPORTS}
        | {"waived": _WAIVED, "accepted_deny_to_allow": COUNT},
        {"replaces": SHA256, "proposer": _ACTOR},
    ),
    _action("policy.bundle_retired", "A bundle no longer decides", {"digest": SHA256, "reason": CODE}),
)

_RERUN = {"checkpoint_size": COUNT, "decisions": COUNT, "different": COUNT, "refused": COUNT, "erased": COUNT}

REPLAY_ACTIONS = (
    _action(
        "policy.replayed",
        "Past decisions were run again, with their own bundles or a candidate; the report has this digest",
        {
            **_RERUN,
            "report_digest": SHA256,
            "transitions": {
                "type": "object",
                "propertyNames": {"pattern": "^(allow|deny|review)_to_(allow|deny|review)$"},
                "additionalProperties": COUNT,
            },
            "forbidden": COUNT,
        },
        {"base": SHA256, "candidate": _object({"name": _TITLE, "digest": SHA256}), "sign_off": CODE},
    ),
    _action(
        "policy.reverified",
        "A sample of enforced decisions was run again on every engine at hand; any difference is an alarm",
        {**_RERUN, "sampled": COUNT, "engines": {"type": "array", "minItems": 1, "maxItems": 4, "items": _ENGINE}},
        {"alarming": COUNT},
    ),
)


def open_registry() -> Registry:
    """Return the registry of all actions."""
    return Registry(
        (
            *LOG_ACTIONS,
            *RECORD_ACTIONS,
            *SUBJECT_ACTIONS,
            *PAYMENT_ACTIONS,
            *DECISION_ACTIONS,
            *POLICY_ACTIONS,
            *REPLAY_ACTIONS,
        )
    )
