"""`POST /v1/entries:batch`: a thousand entries, one JSON object a line, in one transaction, with one result a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import ValidationError

from app.credentials.merchant_token import Principal
from app.credentials.ports import Scope
from app.errors import AssayError, Malformed, TooLarge
from app.ledger.canonical import parse_json
from app.ledger.entry import format_entry_id
from app.ledger.plain import PlainEntries
from app.ledger.ports import AppendResult, EntryRow
from app.web import problems
from app.web.auth import caller, needs
from app.web.merchant import TAG, Entries, digest_key, read_idempotency_key, read_wait_s, refuse_other_request
from app.web.wire import Answer
from app.wiring import Services

BATCH_LIMIT_LINES = 1000
LINE_LIMIT_BYTES = 64 * 1024
BATCH_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_APPENDED = b'{"line":%d,"id":"ent_%032x","status":"appended","replayed":false}'

Prepared = EntryRow | dict[str, Any]
"""What a line became: a row, or the members of its problem."""


def read_lines() -> list[bytes]:
    """Return the lines of a batch, without the empty one after the last. Raises Rejected."""
    if request.mimetype not in BATCH_TYPES:
        raise Malformed("send Content-Type: application/x-ndjson", code="content_type")
    lines: list[bytes] = request.get_data().split(b"\n")
    if not lines[-1].strip():
        lines.pop()
    if not lines:
        raise Malformed("a batch has one entry in each line, and at least one line", code="batch_empty")
    if len(lines) > BATCH_LIMIT_LINES:
        raise TooLarge(f"a batch has at most {BATCH_LIMIT_LINES:,} lines", code="batch_too_large")
    return lines


class Batches:
    """The view, over one set of services."""

    def __init__(self, services: Services, entries: Entries) -> None:
        """`entries` takes the lines that need a closer look."""
        self._services = services
        self._entries = entries
        self._plain = PlainEntries(services.registry)

    def append(self) -> Response:
        """Append the lines that can be, in one transaction, and report every line."""
        lines, principal = read_lines(), caller()
        key = read_idempotency_key(required=False)
        keys = [f"{key}:{number}" for number in range(1, len(lines) + 1)] if key else [None] * len(lines)
        prepared = self._prepare(principal, lines, keys)
        rows = [row for row in prepared if type(row) is EntryRow]
        appended = self._services.group.append(rows) if rows else []

        wait_s = read_wait_s(self._services.settings.wait_limit_s)
        seqs = [result.seq for result in appended] if wait_s else []
        published = self._services.watch.wait_for_all(principal.tenant, seqs, timeout_s=wait_s or 0)
        if len(rows) == len(prepared) and not published and not any(result.replayed for result in appended):
            out = [_APPENDED % line for line in enumerate([row.id.int for row in rows], 1)]
        else:
            results = iter(appended)
            out = [
                _format_result(number, next(results), row, published)
                if type(row) is EntryRow
                else orjson.dumps({"line": number, "error": row})
                for number, row in enumerate(prepared, 1)
            ]
        response = Answer(b"\n".join(out) + b"\n", mimetype="application/x-ndjson")
        if seqs and len(published) == len(seqs):
            response.headers["Preference-Applied"] = f"wait={wait_s}"
        return response

    def _prepare(self, principal: Principal, lines: list[bytes], keys: Sequence[str | None]) -> list[Prepared]:
        rows = self._plain.prepare(
            [_parse(line) for line in lines],
            tenant=principal.tenant,
            actor=principal.actor,
            idems=[digest_key(key) if key else None for key in keys],
            new_id=self._services.new_entry_id,
        )
        return [
            row or self._look_closely(principal, line, key) for row, line, key in zip(rows, lines, keys, strict=True)
        ]

    def _look_closely(self, principal: Principal, line: bytes, key: str | None) -> Prepared:
        try:
            return self._entries.prepare(principal, parse_json(line, limit_bytes=LINE_LIMIT_BYTES), key)
        except AssayError as error:
            return problems.describe(error)
        except ValidationError as error:
            return problems.describe_validation(error)


def _parse(line: bytes) -> Any:
    """Return the value of a line; None if it has none, which a closer look will say."""
    try:
        return parse_json(line, limit_bytes=LINE_LIMIT_BYTES)
    except AssayError:
        return None


def _format_result(number: int, result: AppendResult, row: EntryRow, published: Mapping[int, int]) -> bytes:
    """Return the answer to one line; once published with the place of its receipt, not with a thousand of those."""
    try:
        refuse_other_request(result, row.fingerprint)
    except AssayError as error:
        return orjson.dumps({"line": number, "error": problems.describe(error)})
    entry_id = format_entry_id(result.id)
    line = {"line": number, "id": entry_id, "status": "appended", "replayed": result.replayed}
    if result.seq in published:
        receipt = f"/v1/entries/{entry_id}/receipt"
        line |= {"status": "published", "index": published[result.seq], "receipt": receipt}
    return orjson.dumps(line)


def create_blueprint(services: Services) -> APIBlueprint:
    """Return the view, as part of the merchants' API."""
    api = APIBlueprint("batch", __name__, abp_tags=[TAG], abp_security=[{"token": []}])
    batches = Batches(services, Entries(services))

    @api.post("/v1/entries:batch", responses={"200": {}})
    @needs(Scope.ENTRIES_WRITE)
    def append_batch() -> Response:
        """Append up to 1,000 entries, one JSON object a line (NDJSON), with one result a line.

        With `Prefer: wait=N` the results say the index of each entry once it is published, and where its receipt is.
        """
        return batches.append()

    return api
