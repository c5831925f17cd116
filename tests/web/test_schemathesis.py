"""Every endpoint, with requests made from the OpenAPI document and against it: no 5xx, and answers as it declares.

About half of those that fit the document are made to name what is there, so that they get past "not found".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks as openapi_checks
from schemathesis.transport.serialization import Binary

from app.adapters.connectors.sandbox import StripeSandbox
from app.errors import Conflict
from app.policy.archive import format_archive
from app.policy.bundle import make_bundle
from app.policy.evidence import REPORTS, Reports
from app.policy.kept import State
from app.wiring import find_shipped
from app.wiring.policies import load_folder
from scripts.openapi import TARGET
from tests.parts.bundles import AUTHOR
from tests.parts.web import APPROVAL, PAYMENT, TENANT, WebPart, open_web

ROUNDS, EXAMPLES = 3, 84
"""Requests for each endpoint, in rounds: to make up one takes the longer, the more of a round there were before."""
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.missing_required_header,
]
LAW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
GZIP = "application/gzip"
SHIPPED, TESTS = load_folder(find_shipped("policies"))
BATCH = "/v1/entries:batch"
"""Takes any text: what is wrong with a line is said in its result."""
BUNDLES, TABLE = "/v1/policy/bundles", "/v1/policy/data/{table}"
DRAFT, PROPOSED, UNWANTED = (
    make_bundle({**SHIPPED.files, f"marker/{name}.rego": b"package marker\n"}, name="assay") for name in "abc"
)
STEPS = {":shadow": DRAFT, ":activate": PROPOSED, ":retire": UNWANTED}
"""The bundle that each step is taken with."""
OPERATIONS = [
    (method, path) for path, operations in json.loads(TARGET.read_text())["paths"].items() for method in operations
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@schemathesis.serializer("application/gzip")
def serialize_archive(_context: Any, value: Any) -> bytes:
    return value.data if isinstance(value, Binary) else str(value).encode(errors="surrogatepass")


@schemathesis.serializer("text/csv")
def serialize_csv(_context: Any, value: Any) -> bytes:
    return str(value).encode(errors="surrogatepass")


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(_context: Any, value: Any) -> bytes:
    return str(value).encode(errors="surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzed:
    """The service, the document as it says it, and what there is."""

    web: WebPart
    document: BaseSchema
    path_parameters: dict[str, str]

    def name_what_is_there(self, case: schemathesis.Case) -> None:
        """Change the case into one that is likely to be answered 2xx."""
        path = case.operation.path
        known = {**self.path_parameters, "rest": "000.p/1" if "entries" in path else "0/000.p/1"}
        case.path_parameters = {name: known.get(name, value) for name, value in (case.path_parameters or {}).items()}
        if path == "/v1/entries" and isinstance(case.body, dict) and "action" in case.body:
            case.body = case.body | APPROVAL
        elif path == BATCH:
            case.body = f"{json.dumps(APPROVAL)}\n{case.body}"
        elif path == "/v1/decisions" and isinstance(case.body, dict):
            case.body = {"entrypoint": "authz/decide", "input": {}}
        elif path == "/v1/payments":
            case.body = PAYMENT
        elif path == "/v1/proofs/inclusion":
            case.query = {"index": "0"}
        elif path == "/v1/policy/eval":
            case.body = {"entrypoint": "a/x", "modules": {"a/a.rego": "package a\n\nx := {}\n"}, "input": {}}
        elif path.startswith("/v1/policy/"):
            self._name_bundle(case, path)

    def _name_bundle(self, case: schemathesis.Case, path: str) -> None:
        """Name a bundle that is there, and where a step is taken, one that it can be taken with."""
        policies, step = self.web.installation.policies, path.rpartition("}")[2]
        if step in STEPS:
            case.path_parameters = {"digest": STEPS[step].digest}
        if path == BUNDLES and case.method == "POST":
            archive = format_archive(DRAFT, tests=TESTS, signature=None)
            case.body, case.media_type, case.query = Binary(archive), GZIP, {}
        elif path == TABLE and case.method == "PUT":
            case.body, case.media_type = {**SHIPPED.data["kyc_law"], "version": "2"}, "application/json"
            case.query = {}
        elif path in {TABLE, "/v1/policy/data"}:
            case.query = {}
        elif path == "/v1/policy/diff":
            case.query = {"to": DRAFT.digest}
        elif step == ":activate":
            in_force = policies.store.find_in_force(TENANT)
            if State.SHADOW not in in_force or in_force[State.SHADOW].digest != PROPOSED.digest:
                with suppress(Conflict):
                    policies.life.propose(TENANT, PROPOSED.digest, Reports(), actor=AUTHOR)
            case.body = {"replaces": in_force[State.ACTIVE].digest, "waive": list(REPORTS)}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    limits = {"wait_limit_s": 1, "public_rate_limit_per_minute": 10**6}
    folder = tmp_path_factory.mktemp("fuzzed")
    with StripeSandbox() as sandbox, open_web(folder, stripe_api_base=sandbox.url, **limits) as web:
        paid = web.post("/v1/payments", json=PAYMENT, headers={"Idempotency-Key": "known", "Prefer": "wait=20"})
        known = {
            "tenant": TENANT,
            "entry_id": web.append().json["id"],
            "payment_id": paid.json["id"],
            "subject_id": paid.json["subject"],
            "name": "assay.tar.gz",
            "digest": SHIPPED.digest,
            "table": "kyc_law",
            "decision_id": paid.json["decision"],
        }
        for bundle in STEPS.values():
            web.installation.policies.life.add(TENANT, bundle, TESTS, actor=AUTHOR)
        document = schemathesis.openapi.from_wsgi("/openapi.json", web.app)
        yield Fuzzed(web=web, document=document, path_parameters=known)


def _is_sent_whole(case: schemathesis.Case, answer: Any) -> bool:
    """Say whether every part of the query was sent: a wrong one that has no form in a URL was not, and is not wrong."""
    sent = parse_qs(urlsplit(answer.request.url).query, keep_blank_values=True)
    return set(map(str, case.query or {})) <= set(sent)


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_every_endpoint_answers_as_the_document_says(fuzzed: Fuzzed, method: str, path: str) -> None:
    operation = fuzzed.document[path][method]
    right, wrong = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)
    statuses: Counter[int] = Counter()
    is_file = (method, path) == ("post", BUNDLES)  # whose bytes no schema describes: a good one looks like a bad one
    checked = [check for check in CHECKS if not (is_file and check is openapi_checks.negative_data_rejection)]

    sendable = [check for check in checked if check is not openapi_checks.negative_data_rejection]

    @LAW
    @given(case=right if path == BATCH else right | wrong, named=st.booleans())
    def ask(case: schemathesis.Case, named: bool) -> None:
        if named and case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
            fuzzed.name_what_is_there(case)
        answer = case.call(headers={"Authorization": f"Bearer {fuzzed.web.token}"})
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=checked if _is_sent_whole(case, answer) else sendable)

    for number in range(ROUNDS):
        seed(number)(ask)()
    assert any(status < 300 for status in statuses), f"no request got through: {dict(statuses)}"
