"""For merchants: append entries, fetch them and their receipts."""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from typing import Any

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag
from pydantic import ValidationError

from app.credentials.merchant_token import Principal
from app.credentials.ports import Scope
from app.errors import AssayError, Malformed, NotFound, Rejected, TooLarge
from app.ledger.append import prepare
from app.ledger.canonical import canonical, parse_json
from app.ledger.entry import Draft, Entry, format_entry_id, parse_entry, parse_entry_id
from app.ledger.ports import AppendResult, EntryFilter, EntryRow, StoredEntry
from app.ledger.prove import NotPublishedError
from app.payments.record import format_record, is_record, parse_record
from app.tlog.tree import leaf_hash
from app.web import problems
from app.web.auth import caller, needs
from app.web.models import (
    AppendBody,
    Appended,
    EntryIn,
    EntryOut,
    EntryPage,
    EntryPath,
    EntryQuery,
    ListQuery,
    Received,
)
from app.web.wire import Answer
from app.wiring import Services

BATCH_LIMIT_LINES = 1000
LINE_LIMIT_BYTES = 64 * 1024
IDEMPOTENCY_KEY_LIMIT = 255
RECEIPT_TYPE = "text/plain; charset=utf-8"
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,5})(?:$|[,;\s])")
_TAG = Tag(name="entries", description="What is logged.")


def read_idempotency_key(*, required: bool) -> str | None:
    """Return the Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07). Raises Rejected."""
    key = request.headers.get("Idempotency-Key")
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
    return key


def read_wait_s(limit_s: int) -> int | None:
    """Return the seconds of `Prefer: wait=N` (RFC 7240, section 4.3), at most `limit_s`; None if not asked."""
    match = _WAIT.search(request.headers.get("Prefer", ""))
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
        row = self._prepare(principal, value, key, entry)
        position = None
        if wait_s:
            result, position = services.group.append_and_wait(row, timeout_s=wait_s)
        else:
            result = services.group.append([row])[0]
        _refuse_other_request(result, row)
        if wait_s and position is not None:
            body = row.body if not result.replayed else self._read(result.id).body
            receipt = services.prover.receipt(principal.tenant, position.index, body, position.published)
            return _received(result, position.index, receipt, wait_s)
        return _appended(result)

    def append_batch(self) -> Response:
        """Append the lines that can be, in one transaction, and report every line."""
        lines = request.get_data().split(b"\n")
        if lines and not lines[-1].strip():
            lines.pop()
        if not 1 <= len(lines) <= BATCH_LIMIT_LINES:
            raise TooLarge(f"a batch has 1 to {BATCH_LIMIT_LINES} lines, one entry each", code="batch_too_large")
        principal, key = caller(), read_idempotency_key(required=False)
        rows: list[EntryRow] = []
        answers: list[dict[str, Any] | None] = []
        for number, line in enumerate(lines, 1):
            try:
                value = parse_json(line, limit_bytes=LINE_LIMIT_BYTES)
                rows.append(self._prepare(principal, value, key and f"{key}:{number}"))
                answers.append(None)
            except AssayError as error:
                answers.append({"line": number, "error": problems.describe(error)})
            except ValidationError as error:
                answers.append({"line": number, "error": problems.describe_validation(error)})
        results = iter(self._services.group.append(rows) if rows else [])
        prepared = iter(rows)
        out = []
        for number, answer in enumerate(answers, 1):
            out.append(answer or _line_result(number, next(results), next(prepared)))
        return Answer(b"".join(orjson.dumps(line) + b"\n" for line in out), mimetype="application/x-ndjson")

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
            arguments = {**request.args.to_dict(), "after": str(page.next_index)}
            link = "&".join(f"{name}={value}" for name, value in arguments.items())
            response.headers["Link"] = f'</v1/entries?{link}>; rel="next"'
        return response

    def read(self, entry_id: str, view: str | None) -> Response:
        """Return one entry, as JSON or as a record."""
        stored = self._read(parse_entry_id(entry_id))
        if view == "record":
            return Answer(format_record(_parse(stored)), mimetype="application/json")
        return Answer(orjson.dumps(_render(stored)), mimetype="application/json")

    def receipt(self, entry_id: str) -> Response:
        """Return the entry's receipt under the newest checkpoint."""
        tenant = caller().tenant
        stored = self._read(parse_entry_id(entry_id))
        published = self._services.prover.read_published(tenant)
        if stored.index is None or stored.index >= published.size:
            raise NotPublishedError("the entry is appended and not yet published; ask again in a moment")
        receipt = self._services.prover.receipt(tenant, stored.index, stored.body, published)
        return Answer(receipt, content_type=RECEIPT_TYPE)

    def _read(self, entry_id: Any) -> StoredEntry:
        stored = self._services.store.find_entry(caller().tenant, entry_id)
        if stored is None:
            raise NotFound("there is no such entry", code="entry_unknown")
        return stored

    def _prepare(self, principal: Principal, value: Any, key: str | None, entry: EntryIn | None = None) -> EntryRow:
        """Return the row of an entry or a record, under the caller's name; `entry` if it is parsed already."""
        services = self._services
        idem = digest_key(key) if key else None
        if is_record(value):
            draft = parse_record(value, actor=principal.actor, now_s=services.now_ms() // 1000, idem=idem)
        else:
            draft = self._draft(principal, entry or EntryIn.model_validate(value), idem)
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


def _refuse_other_request(result: AppendResult, row: EntryRow) -> None:
    if result.replayed and result.fingerprint != row.fingerprint:
        raise Rejected(
            "this Idempotency-Key was used with another request; use a new key for a new request",
            code="idempotency_mismatch",
        )


def _line_result(number: int, result: AppendResult, row: EntryRow) -> dict[str, Any]:
    try:
        _refuse_other_request(result, row)
    except AssayError as error:
        return {"line": number, "error": problems.describe(error)}
    return {"line": number, "id": format_entry_id(result.id), "status": "appended", "replayed": result.replayed}


def _appended(result: AppendResult) -> Response:
    entry_id = format_entry_id(result.id)
    where = f"/v1/entries/{entry_id}/receipt"
    body = {"id": entry_id, "status": "appended", "receipt": where}
    headers = {"Location": f"/v1/entries/{entry_id}"}
    return _written(result, Answer(orjson.dumps(body), HTTPStatus.ACCEPTED, headers, mimetype="application/json"))


def _received(result: AppendResult, index: int, receipt: bytes, wait_s: int) -> Response:
    entry_id = format_entry_id(result.id)
    headers = {
        "Location": f"/v1/entries/{entry_id}",
        "Preference-Applied": f"wait={wait_s}",
        "Assay-Entry": entry_id,
        "Assay-Index": str(index),
    }
    if "application/json" in request.headers.get("Accept", ""):
        body = {"id": entry_id, "status": "published", "index": index, "receipt": receipt.decode()}
        response = Answer(orjson.dumps(body), HTTPStatus.CREATED, headers, mimetype="application/json")
    else:
        response = Answer(receipt, HTTPStatus.CREATED, headers, content_type=RECEIPT_TYPE)
    return _written(result, response)


def _written(result: AppendResult, response: Response) -> Response:
    if result.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


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
    api = APIBlueprint("merchant", __name__, abp_tags=[_TAG], abp_security=[{"token": []}])
    entries = Entries(services)

    @api.post("/v1/entries", responses={"201": Received, "202": Appended})
    @needs(Scope.ENTRIES_WRITE)
    def append_entry(body: AppendBody) -> Response:
        """Append an entry or a record; `Prefer: wait=N` answers 201 with the receipt once it is published."""
        entry = body.root if isinstance(body.root, EntryIn) else None
        return entries.append(request.get_json(), entry)

    @api.post("/v1/entries:batch")
    @needs(Scope.ENTRIES_WRITE)
    def append_batch() -> Response:
        """Append up to 1,000 entries, one JSON object a line (NDJSON), with one result a line."""
        return entries.append_batch()

    @api.get("/v1/entries", responses={"200": EntryPage})
    @needs(Scope.ENTRIES_READ)
    def list_entries(query: ListQuery) -> Response:
        """List published entries in log order."""
        return entries.list_page(query)

    @api.get("/v1/entries/<entry_id>", responses={"200": EntryOut})
    @needs(Scope.ENTRIES_READ)
    def read_entry(path: EntryPath, query: EntryQuery) -> Response:
        """Return one entry; `view=record` renders it as the record that customers had before."""
        return entries.read(path.entry_id, query.view)

    @api.get("/v1/entries/<entry_id>/receipt")
    @needs(Scope.ENTRIES_READ)
    def read_receipt(path: EntryPath) -> Response:
        """Return the entry's receipt: one file that `assay verify receipt` checks offline."""
        return entries.receipt(path.entry_id)

    return api
