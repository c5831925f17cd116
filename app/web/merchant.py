"""For merchants: append entries, fetch them and their receipts."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag

from app.credentials.merchant_token import Principal
from app.credentials.ports import Scope
from app.errors import Malformed, NotFound, Rejected
from app.ledger.append import append, prepare
from app.ledger.canonical import canonical
from app.ledger.card import refuse_card_numbers
from app.ledger.entry import Draft, Entry, format_entry_id, parse_entry, parse_entry_id
from app.ledger.ports import AppendResult, EntryFilter, EntryRow, StoredEntry
from app.ledger.prove import NotPublishedError
from app.ledger.wait import Position
from app.payments.record import format_record, is_record, parse_record
from app.subjects.keep import keep_personal
from app.subjects.personal import prepare_newcomer
from app.subjects.ports import Newcomer
from app.subjects.subject import format_subject_id, parse_personal
from app.tlog.tree import leaf_hash
from app.web.auth import caller, needs
from app.web.later import answer_later
from app.web.models import (
    AppendBody,
    Appended,
    EntryIn,
    EntryOrRecord,
    EntryPage,
    EntryPath,
    EntryQuery,
    ListQuery,
    Received,
)
from app.web.wire import Answer, Whole
from app.wiring import Services

IDEMPOTENCY_KEY_LIMIT = 255
RECEIPT_TYPE = "text/plain; charset=utf-8"
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,5})(?:$|[,;\s])")
TAG = Tag(name="entries", description="What is logged.")


def read_idempotency_key(*, required: bool) -> str | None:
    """Return the Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07). Raises Rejected."""
    key: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        if required:
            raise Rejected(
                "send an Idempotency-Key header, new for each payment and the same when you retry it",
                code="idempotency_key_missing",
            )
        return None
    key = key.strip('"')
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise Malformed(
            f"Idempotency-Key is 1 to {IDEMPOTENCY_KEY_LIMIT} printable ASCII characters",
            code="idempotency_key_invalid",
        )
    refuse_card_numbers(key)
    return key


def read_wait_s(limit_s: int) -> int | None:
    """Return the seconds of `Prefer: wait=N` (RFC 7240, section 4.3), at most `limit_s`; None if not asked."""
    match = _WAIT.search(request.environ.get("HTTP_PREFER", ""))
    return min(int(match[1]), limit_s) if match else None


def digest_key(key: str) -> bytes:
    """Return what is stored of an idempotency key."""
    return hashlib.sha256(key.encode()).digest()


class Entries:
    """The views, over one set of services."""

    def __init__(self, services: Services) -> None:
        """Remember the services."""
        self._services = services

    def append(self, value: Any, entry: EntryIn | None) -> Response:
        """Append one entry; with `Prefer: wait` answer with its receipt."""
        services, principal = self._services, caller()
        wait_s = read_wait_s(services.settings.wait_limit_s)
        key = read_idempotency_key(required=False)
        newcomer: Newcomer | None = None
        if entry is None or not entry.personal:
            row = self.prepare(principal, value, key, entry)
        elif entry.subject is None:
            row, newcomer = self._seal_newcomer(entry, key)
        else:
            return self._append_personal(entry, key, wait_s)
        personal = newcomer is not None
        if not wait_s:
            return answer_later(
                partial(services.group.append_then, (row,), kept=newcomer),
                lambda results: self._answer_appended(row, results[0], personal=personal),
            )
        as_json = _wants_json()
        return answer_later(
            partial(services.group.publish_then, row, timeout_s=wait_s, kept=newcomer),
            lambda written: self._answer_written(row, *written, wait_s=wait_s, as_json=as_json, personal=personal),
        )

    def _answer_appended(self, row: EntryRow, result: AppendResult, *, personal: bool) -> Response:
        """Return where the receipt will be; of a personal entry also whom it is about."""
        refuse_other_request(result, row.fingerprint)
        if not personal:
            return _appended(result)
        return _appended(result, parse_entry(self._read_written(row, result)).subject)

    def _answer_written(
        self,
        row: EntryRow,
        result: AppendResult,
        position: Position | None,
        *,
        wait_s: int,
        as_json: bool,
        personal: bool,
    ) -> Response:
        """Return the receipt if there is one."""
        if position is None:
            return self._answer_appended(row, result, personal=personal)
        refuse_other_request(result, row.fingerprint)
        body = self._read_written(row, result)
        receipt = self._services.prover.receipt(row.tenant, position.index, body, position.published)
        subject = parse_entry(body).subject if personal else None
        return _received(result, position.index, receipt, wait_s, as_json=as_json, subject=subject)

    def _read_written(self, row: EntryRow, result: AppendResult) -> bytes:
        """Return the bytes of what was logged for this request, now or when it came first."""
        return self._read(row.tenant, result.id).body if result.replayed else row.body

    def _append_personal(self, entry: EntryIn, key: str | None, wait_s: int | None) -> Response:
        """Append one entry about a subject that may have a key: under its lock, in a transaction of its own."""
        services, tenant = self._services, caller().tenant
        result = self._seal(entry, key)
        position = services.watch.wait(tenant, result.seq, timeout_s=wait_s) if wait_s else None
        body = self._read(tenant, result.id).body
        subject = parse_entry(body).subject
        if not wait_s or position is None:
            return _appended(result, subject)
        receipt = services.prover.receipt(tenant, position.index, body, position.published)
        return _received(result, position.index, receipt, wait_s, as_json=_wants_json(), subject=subject)

    def _seal(self, entry: EntryIn, key: str | None) -> AppendResult:
        """Append the entry about its subject."""
        services, principal = self._services, caller()
        draft, personal, fingerprint = self._draft_personal(principal, entry, key)
        result = keep_personal(
            principal.tenant,
            draft,
            personal,
            store=services.payment_store,
            entry_id=services.new_entry_id(),
            append=lambda tx, tenant, whole, entry_id: append(
                tx, services.registry, tenant, whole, entry_id=entry_id, fingerprint=fingerprint
            ),
            random_bytes=os.urandom,
        )
        refuse_other_request(result, fingerprint)
        return result

    def _seal_newcomer(self, entry: EntryIn, key: str | None) -> tuple[EntryRow, Newcomer]:
        """Return the row of an entry about a new subject, and what is kept with it."""
        services, principal = self._services, caller()
        draft, personal, fingerprint = self._draft_personal(principal, entry, key)
        return prepare_newcomer(
            principal.tenant,
            replace(draft, subject=format_subject_id(services.new_entry_id())),
            personal,
            entry_id=services.new_entry_id(),
            prepare=lambda tenant, whole, entry_id: prepare(
                services.registry, tenant, whole, entry_id=entry_id, fingerprint=fingerprint
            ),
            random_bytes=os.urandom,
        )

    def _draft_personal(
        self, principal: Principal, entry: EntryIn, key: str | None
    ) -> tuple[Draft, dict[str, str], bytes | None]:
        """Return the entry without its personal facts, those, and the request's fingerprint if it has a key."""
        refuse_card_numbers(entry.personal)
        personal = parse_personal(entry.personal)
        draft = self._draft(principal, entry, digest_key(key) if key else None)
        said = canonical([draft.action, draft.subject, draft.ref, draft.data, personal])
        return draft, personal, self._services.fingerprint(said) if key else None

    def list_page(self, query: ListQuery) -> Response:
        """Return a page of published entries."""
        services, tenant = self._services, caller().tenant
        try:
            size = services.prover.read_published(tenant).size
        except NotPublishedError:
            size = 0
        where = EntryFilter(
            action=query.action, subject=query.subject, ref=query.ref, from_ms=query.from_ms, to_ms=query.to_ms
        )
        page = services.store.list_entries(tenant, where, start=query.after, stop=size, limit=query.limit)
        body = {"entries": [_render(stored) for stored in page.entries], "next": page.next_index}
        response = Answer(orjson.dumps(body), mimetype="application/json")
        if page.next_index is not None:
            arguments = query.model_dump(exclude_unset=True) | {"after": page.next_index}
            response.headers["Link"] = f'</v1/entries?{urlencode(arguments)}>; rel="next"'
        return response

    def read(self, entry_id: str, view: str | None) -> Response:
        """Return one entry, as JSON or as a record."""
        stored = self._read(caller().tenant, parse_entry_id(entry_id))
        if view == "record":
            return Answer(format_record(_parse(stored)), mimetype="application/json")
        return Answer(orjson.dumps(_render(stored)), mimetype="application/json")

    def receipt(self, entry_id: str) -> Response:
        """Return the entry's receipt under the newest checkpoint."""
        tenant = caller().tenant
        stored = self._read(tenant, parse_entry_id(entry_id))
        published = self._services.prover.read_published(tenant)
        if stored.index is None or stored.index >= published.size:
            raise NotPublishedError("the entry is appended and not yet published; ask again in a moment")
        receipt = self._services.prover.receipt(tenant, stored.index, stored.body, published)
        return Answer(receipt, content_type=RECEIPT_TYPE)

    def _read(self, tenant: str, entry_id: UUID) -> StoredEntry:
        stored = self._services.store.find_entry(tenant, entry_id)
        if stored is None:
            raise NotFound("there is no such entry", code="entry_unknown")
        return stored

    def prepare(self, principal: Principal, value: Any, key: str | None, entry: EntryIn | None = None) -> EntryRow:
        """Return the row of an entry or a record, under the caller's name; `entry` if it is parsed already."""
        services = self._services
        idem = digest_key(key) if key else None
        if is_record(value):
            draft = parse_record(value, actor=principal.actor, now_s=services.now_ms() // 1000, idem=idem)
        else:
            draft = self._draft(principal, entry or _parse_line(value), idem)
        fingerprint = None
        if idem:
            fingerprint = hashlib.sha256(canonical([draft.action, draft.subject, draft.ref, draft.data])).digest()
        return prepare(
            services.registry, principal.tenant, draft, entry_id=services.new_entry_id(), fingerprint=fingerprint
        )

    def _draft(self, principal: Principal, entry: EntryIn, idem: bytes | None) -> Draft:
        if not self._services.registry.read(entry.action).external:
            raise Rejected(f"{entry.action} is written by Assay alone", code="action_internal", pointer="/action")
        return Draft(
            action=entry.action,
            actor=principal.actor,
            subject=entry.subject,
            ref=entry.ref,
            data=entry.data,
            idem=idem,
            plain=True,
        )


def _parse_line(value: Any) -> EntryIn:
    entry = EntryIn.model_validate(value)
    if entry.personal:
        raise Rejected(
            "personal facts are sealed one entry at a time: send this one to POST /v1/entries",
            code="personal_in_batch",
            pointer="/personal",
        )
    return entry


def refuse_other_request(result: AppendResult, fingerprint: bytes | None) -> None:
    """Raise Rejected if the key of this request stands for another one."""
    if result.replayed and result.fingerprint != fingerprint:
        raise Rejected(
            "this Idempotency-Key was used with another request; use a new key for a new request",
            code="idempotency_mismatch",
        )


def _wants_json() -> bool:
    return "application/json" in request.environ.get("HTTP_ACCEPT", "")


def _appended(result: AppendResult, subject: str | None = None) -> Response:
    entry_id = format_entry_id(result.id)
    where = f"/v1/entries/{entry_id}"
    body = {"id": entry_id, "status": "appended", "receipt": f"{where}/receipt"} | _about(subject)
    return Whole(orjson.dumps(body), HTTPStatus.ACCEPTED, [("Location", where), *_replayed(result)])


def _received(
    result: AppendResult, index: int, receipt: bytes, wait_s: int, *, as_json: bool, subject: str | None = None
) -> Response:
    entry_id = format_entry_id(result.id)
    headers = [
        ("Location", f"/v1/entries/{entry_id}"),
        ("Preference-Applied", f"wait={wait_s}"),
        ("Assay-Entry", entry_id),
        ("Assay-Index", str(index)),
        *_replayed(result),
    ]
    if subject is not None:
        headers.append(("Assay-Subject", subject))
    if not as_json:
        return Whole(receipt, HTTPStatus.CREATED, headers, content_type=RECEIPT_TYPE)
    body = {"id": entry_id, "status": "published", "index": index, "receipt": receipt.decode()} | _about(subject)
    return Whole(orjson.dumps(body), HTTPStatus.CREATED, headers)


def _about(subject: str | None) -> dict[str, str]:
    return {} if subject is None else {"subject": subject}


def _replayed(result: AppendResult) -> list[tuple[str, str]]:
    return [("Idempotency-Replayed", "true")] if result.replayed else []


def _parse(stored: StoredEntry) -> Entry:
    return parse_entry(stored.body)


def _render(stored: StoredEntry) -> dict[str, Any]:
    return {
        "id": parse_entry(stored.body).id,
        "index": stored.index,
        "leaf_hash": leaf_hash(stored.body).hex(),
        "entry": orjson.Fragment(stored.body),
    }


def create_blueprint(services: Services) -> APIBlueprint:
    """Return the merchants' API."""
    api = APIBlueprint("merchant", __name__, abp_tags=[TAG], abp_security=[{"token": []}])
    entries = Entries(services)

    @api.post("/v1/entries", responses={"201": Received, "202": Appended})
    @needs(Scope.ENTRIES_WRITE)
    def append_entry(body: AppendBody) -> Response:
        """Append an entry or a record; `Prefer: wait=N` answers 201 with the receipt once it is published."""
        entry = body.root if isinstance(body.root, EntryIn) else None
        return entries.append(request.get_json(), entry)

    @api.get("/v1/entries", responses={"200": EntryPage})
    @needs(Scope.ENTRIES_READ)
    def list_entries(query: ListQuery) -> Response:
        """List published entries in log order."""
        return entries.list_page(query)

    @api.get("/v1/entries/<entry_id>", responses={"200": EntryOrRecord})
    @needs(Scope.ENTRIES_READ)
    def read_entry(path: EntryPath, query: EntryQuery) -> Response:
        """Return one entry; `view=record` renders it as the record that customers had before."""
        return entries.read(path.entry_id, query.view)

    @api.get("/v1/entries/<entry_id>/receipt", responses={"200": {}})
    @needs(Scope.ENTRIES_READ)
    def read_receipt(path: EntryPath) -> Response:
        """Return the entry's receipt: one file that `assay verify receipt` checks offline."""
        return entries.receipt(path.entry_id)

    return api
