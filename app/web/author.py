"""For policy authors, approvers and OPA servers: bundles, their life, their data.

OPA servers pull the caller's active bundle by name, with its digest as ETag. Bundles come in as archives; whatever is
kept is signed by us. Whose scope a step needs: author `policies:write`, second person `policies:approve`.
"""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag

from app.credentials.ports import Scope
from app.errors import Malformed, NotFound
from app.ledger.canonical import parse_json
from app.ledger.entry import parse_entry
from app.policy.archive import MAX_ARCHIVE_BYTES
from app.policy.bundle import MAX_FILE_BYTES, Bundle
from app.policy.evidence import Approval, parse_reports
from app.policy.table import format_csv, list_rows, make_value, parse_csv
from app.web.auth import caller, needs
from app.web.policy_models import (
    ApproveIn,
    ArchivePath,
    ArchiveQuery,
    BundleOut,
    BundlePage,
    ChangedOut,
    ChangeQuery,
    DiffOut,
    DiffQuery,
    DigestPath,
    HistoryPage,
    PageQuery,
    ProposeIn,
    PushQuery,
    RetireIn,
    TablePath,
    TableQuery,
    TablesOut,
)
from app.web.wire import Answer, StrictRequest
from app.wiring.policies import Policies

ARCHIVE_TYPE: Final = "application/gzip"
ARCHIVE_TYPES: Final = frozenset({ARCHIVE_TYPE, "application/x-gzip", "application/octet-stream"})
CSV_TYPE: Final = "text/csv; charset=utf-8"
REVALIDATE: Final = "private, no-cache"
_TAG: Final = Tag(name="policies", description="Bundles of policies: kept, proposed, approved, pulled by OPA.")


class Bundles:
    """The views of bundles and their life."""

    def __init__(self, policies: Policies) -> None:
        """Remember the policies."""
        self._policies = policies

    def pull(self, name: str) -> Response:
        """Return the active bundle, or 304."""
        active = self._policies.library.active(caller().tenant)
        if name != f"{active.name}.tar.gz":
            raise NotFound("there is no such bundle", code="bundle_unknown")
        response = Answer(
            b"", content_type=ARCHIVE_TYPE, headers={"Cache-Control": REVALIDATE, "Vary": "Authorization"}
        )
        response.set_etag(active.digest)
        if request.if_none_match.contains(active.digest):
            response.status_code = HTTPStatus.NOT_MODIFIED
            return response
        response.set_data(self._policies.sign(active))
        return response

    def read(self, digest: str, *, with_tests: bool) -> Response:
        """Return the archive of any bundle of the caller's."""
        tenant = caller().tenant
        unpacked = self._policies.life.read(tenant, digest)
        data = self._policies.sign(unpacked.bundle, unpacked.tests if with_tests else {})
        return Answer(data, content_type=ARCHIVE_TYPE, headers={"Cache-Control": REVALIDATE})

    def push(self, name: str | None) -> Response:
        """Keep the archive of the body as a draft."""
        kept, created = self._policies.push(
            caller().tenant, read_file(ARCHIVE_TYPES, MAX_ARCHIVE_BYTES), name=name, actor=caller().actor
        )
        return _json(kept.to_json(), HTTPStatus.CREATED if created else HTTPStatus.OK)

    def list_page(self, query: PageQuery) -> Response:
        """Return a page of bundles."""
        before = _parse_uuid(query.cursor) if query.cursor else None
        kept = self._policies.store.list_bundles(caller().tenant, before=before, limit=query.limit)
        following = kept[-1].added_id.hex if len(kept) == query.limit else None
        return _json({"bundles": [each.to_json() for each in kept], "next": following})

    def propose(self, digest: str, body: ProposeIn) -> Response:
        """Put a bundle into the shadow place."""
        reports = parse_reports(body.model_dump(exclude_none=True))
        return _json(self._policies.life.propose(caller().tenant, digest, reports, actor=caller().actor).to_json())

    def activate(self, digest: str, body: ApproveIn) -> Response:
        """Put the shadow bundle into force, as the second person."""
        approval = Approval(
            replaces=body.replaces, waived=frozenset(body.waive), accepted_deny_to_allow=body.accept_deny_to_allow
        )
        return _json(self._policies.life.activate(caller().tenant, digest, approval, actor=caller().actor).to_json())

    def retire(self, digest: str, body: RetireIn) -> Response:
        """Give a bundle up."""
        return _json(
            self._policies.life.retire(caller().tenant, digest, reason=body.reason, actor=caller().actor).to_json()
        )

    def history(self, query: PageQuery) -> Response:
        """Return a page of the entries about policies."""
        before = _parse_seq(query.cursor) if query.cursor else None
        found = self._policies.store.list_history(caller().tenant, before=before, limit=query.limit)
        items = [
            {"id": parse_entry(each.body).id, "index": each.index, "entry": orjson.Fragment(each.body)}
            for each in found
        ]
        return _json({"history": items, "next": f"{found[-1].seq:x}" if len(found) == query.limit else None})

    def compare(self, query: DiffQuery) -> Response:
        """Return what one bundle changes of another."""
        difference = self._policies.compare(caller().tenant, query.from_digest, query.to_digest)
        return _json(asdict(difference))


class Data:
    """The views of a bundle's data."""

    def __init__(self, policies: Policies) -> None:
        """Remember the policies."""
        self._policies = policies

    def list_all(self, query: TableQuery) -> Response:
        """Return the tables of a bundle."""
        bundle = self._find(query.bundle)
        return _json({"bundle": bundle.digest, "tables": [describe_table(bundle, name) for name in bundle.data]})

    def read(self, table: str, query: TableQuery) -> Response:
        """Return a table, as JSON or CSV."""
        bundle = self._find(query.bundle)
        if table not in bundle.data:
            raise NotFound("the bundle has no such table", code="table_unknown")
        if query.format == "csv":
            return Answer(format_csv(bundle, table).encode(), content_type=CSV_TYPE)
        return Answer(bundle.files[f"data/{table}/data.json"], mimetype="application/json")

    def change(self, table: str, query: ChangeQuery) -> Response:
        """Keep a draft of the bundle with this table changed."""
        bundle = self._find(query.bundle)
        value = self._parse(bundle, table, query.version)
        kept, change = self._policies.change_table(caller().tenant, bundle, table, value, actor=caller().actor)
        return _json({"bundle": kept.to_json(), "change": asdict(change)}, HTTPStatus.CREATED)

    def _find(self, digest: str | None) -> Bundle:
        library, tenant = self._policies.library, caller().tenant
        return library.active(tenant) if digest is None else library.read(tenant, digest)

    def _parse(self, bundle: Bundle, table: str, version: str | None) -> dict[str, Any]:
        """Return the table's new value, from a body of JSON or of CSV."""
        body = read_file({"application/json", "text/csv"}, MAX_FILE_BYTES)
        if request.mimetype == "application/json":
            value = parse_json(body, limit_bytes=MAX_FILE_BYTES)
            if not isinstance(value, dict):
                raise Malformed("the body is a JSON object", code="json_malformed")
            return value
        if version is None:
            raise Malformed("a CSV says no version: give ?version=", code="table_malformed", pointer="/version")
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Malformed("the CSV is not UTF-8", code="table_malformed") from None
        return make_value(bundle, table, parse_csv(bundle, table, text), version=version)


def read_file(types: frozenset[str] | set[str], limit_bytes: int) -> bytes:
    """Return the body as a file of one of these types. Raises Malformed, and TooLarge."""
    if request.mimetype not in types:
        raise Malformed(f"send Content-Type: {' or '.join(sorted(types))}", code="content_type")
    asked: StrictRequest = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 -- our own class
    return asked.read_file(limit_bytes)


def describe_table(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return a table as it stands in a list."""
    [version] = [each for each in bundle.data_versions if each.name == name]
    rows = list_rows(bundle.data[name])
    return {
        "name": name,
        "version": version.version,
        "digest": version.digest,
        "rows": None if rows is None else len(rows),
        "has_schema": name in bundle.schemas,
    }


def create_blueprint(policies: Policies) -> APIBlueprint:
    """Return the policies' API."""
    api = APIBlueprint("author", __name__, abp_tags=[_TAG], abp_security=[{"token": []}])
    bundles, data = Bundles(policies), Data(policies)
    _add_reading(api, bundles, data)
    _add_steps(api, bundles, data)
    return api


def _add_reading(api: APIBlueprint, bundles: Bundles, data: Data) -> None:
    @api.get("/v1/policy/bundles/<name>", responses={"200": {}})
    @needs(Scope.POLICIES_READ)
    def pull_bundle(path: ArchivePath) -> Response:
        """Return the active bundle, signed, as OPA servers pull it; its ETag is the digest of its content."""
        return bundles.pull(path.name)

    @api.get("/v1/policy/bundles", responses={"200": BundlePage})
    @needs(Scope.POLICIES_READ)
    def list_bundles(query: PageQuery) -> Response:
        """List the bundles and their states."""
        return bundles.list_page(query)

    @api.get("/v1/policy/bundles/by-digest/<digest>", responses={"200": {}})
    @needs(Scope.POLICIES_READ)
    def read_bundle_by_digest(path: DigestPath, query: ArchiveQuery) -> Response:
        """Return the archive of a bundle, whatever its state: what a decision named can be fetched for ever."""
        return bundles.read(path.digest, with_tests=query.tests)

    @api.get("/v1/policy/history", responses={"200": HistoryPage})
    @needs(Scope.POLICIES_READ)
    def read_history(query: PageQuery) -> Response:
        """List the entries about policies: who added, proposed, approved and retired what."""
        return bundles.history(query)

    @api.get("/v1/policy/diff", responses={"200": DiffOut})
    @needs(Scope.POLICIES_READ)
    def read_diff(query: DiffQuery) -> Response:
        """Compare two bundles: files, the text of policies, rows of data."""
        return bundles.compare(query)

    @api.get("/v1/policy/data", responses={"200": TablesOut})
    @needs(Scope.POLICIES_READ)
    def list_tables(query: TableQuery) -> Response:
        """List the tables of a bundle."""
        return data.list_all(query)

    @api.get("/v1/policy/data/<table>", responses={"200": {}})
    @needs(Scope.POLICIES_READ)
    def read_table(path: TablePath, query: TableQuery) -> Response:
        """Return a table, as JSON or as CSV."""
        return data.read(path.table, query)


def _add_steps(api: APIBlueprint, bundles: Bundles, data: Data) -> None:
    @api.post("/v1/policy/bundles", responses={"200": BundleOut, "201": BundleOut})
    @needs(Scope.POLICIES_WRITE)
    def push_bundle(query: PushQuery) -> Response:
        """Keep a bundle as a draft; it must compile and pass its own tests. Sent again, it changes nothing."""
        return bundles.push(query.name)

    @api.post("/v1/policy/bundles/<string:digest>:shadow", responses={"200": BundleOut})
    @needs(Scope.POLICIES_WRITE)
    def propose_bundle(path: DigestPath, body: ProposeIn) -> Response:
        """Propose a bundle, with reports: it is evaluated beside the active one, and never acted on."""
        return bundles.propose(path.digest, body)

    @api.post("/v1/policy/bundles/<string:digest>:activate", responses={"200": BundleOut})
    @needs(Scope.POLICIES_APPROVE)
    def activate_bundle(path: DigestPath, body: ApproveIn) -> Response:
        """Put the proposed bundle into force; refused to its author and its proposer."""
        return bundles.activate(path.digest, body)

    @api.post("/v1/policy/bundles/<string:digest>:retire", responses={"200": BundleOut})
    @needs(Scope.POLICIES_WRITE)
    def retire_bundle(path: DigestPath, body: RetireIn) -> Response:
        """Give up a draft or a proposed bundle."""
        return bundles.retire(path.digest, body)

    @api.put("/v1/policy/data/<table>", responses={"201": ChangedOut})
    @needs(Scope.POLICIES_WRITE)
    def change_table(path: TablePath, query: ChangeQuery) -> Response:
        """Keep a draft of the bundle with this table changed, from JSON or CSV; it must fit the table's schema."""
        return data.change(path.table, query)


def _parse_uuid(cursor: str) -> UUID:
    return UUID(hex=cursor.rjust(32, "0"))


def _parse_seq(cursor: str) -> int:
    return min(int(cursor, 16), 2**63 - 1)


def _json(body: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Answer(orjson.dumps(body), status, mimetype="application/json")
