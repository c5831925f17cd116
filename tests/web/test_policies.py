"""Bundles over HTTP: pulled by OPA, pushed by an author, activated by a second person."""

from __future__ import annotations

import gzip
import io
import json
import secrets
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from app.adapters.connectors.sandbox import StripeSandbox
from app.adapters.sql.engine import writing
from app.credentials.ports import Scope
from app.errors import Broken
from app.ledger.ports import Tenant
from app.policy.archive import digest_tests, format_archive, parse_archive
from app.policy.bundle import make_bundle
from app.policy.library import LOOK_S
from app.policy.signing import sign_archive, verify_archive
from app.wiring import find_shipped
from app.wiring.policies import load_folder
from tests.parts.assay import wait_until
from tests.parts.bundles import log_reverified, make_signer
from tests.parts.web import OTHER, PAYMENT, WAIT, WebPart, open_web
from tests.web.problem import read_problem

SHIPPED, SHIPPED_TESTS = load_folder(find_shipped("policies"))
PULL = "/v1/policy/bundles/assay.tar.gz"
ARCHIVE = {"content_type": "application/gzip"}
WAIVE = ["coverage", "parity", "impact"]
DENY_ALL = b"""package payments

decide := {"verdict": "deny", "reasons": [{"code": "closed", "message": "Closed."}], "output": {}}
"""
DENY_ALL_TEST = b"""package payments_test

import data.payments

test_all_is_denied if payments.decide.verdict == "deny"
"""


def pack(marker: str, changed: dict[str, bytes] | None = None, tests: dict[str, bytes] | None = None) -> bytes:
    """Return the archive of the shipped policies, another for each marker."""
    files = {**SHIPPED.files, "marker/marker.rego": f"package marker\n\nmarker := {marker!r}\n".encode()}
    files["marker/marker.rego"] = files["marker/marker.rego"].replace(b"'", b'"')
    bundle = make_bundle({**files, **(changed or {})}, name="assay")
    return format_archive(bundle, tests=SHIPPED_TESTS if tests is None else tests, signature=None)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebPart]:
    with StripeSandbox() as sandbox, open_web(tmp_path_factory.mktemp("state"), stripe_api_base=sandbox.url) as part:
        yield part


@pytest.fixture(scope="module")
def author(web: WebPart) -> str:
    return web.issue(Scope.POLICIES_WRITE, Scope.POLICIES_READ, Scope.POLICIES_APPROVE)[0]


@pytest.fixture(scope="module")
def second(web: WebPart) -> str:
    return web.issue(Scope.POLICIES_READ, Scope.POLICIES_APPROVE, Scope.POLICIES_WRITE)[0]


def push(web: WebPart, token: str, archive: bytes) -> str:
    answer = web.post("/v1/policy/bundles", data=archive, token=token, **ARCHIVE)
    assert answer.status_code == 201, answer.data
    assert answer.json["state"] == "draft"
    return answer.json["digest"]


def step(web: WebPart, token: str, digest: str, name: str, body: object):
    return web.post(f"/v1/policy/bundles/{digest}:{name}", json=body, token=token)


def read_active(web: WebPart, token: str = "") -> str:
    pulled = web.get(PULL, token=token)
    assert pulled.status_code == 200
    return str(pulled.headers["ETag"]).strip('"')


def promote(web: WebPart, author: str, second: str, archive: bytes) -> str:
    digest, active = push(web, author, archive), read_active(web)
    assert step(web, author, digest, "shadow", {}).status_code == 200
    done = step(web, second, digest, "activate", {"replaces": active, "waive": WAIVE})
    assert done.status_code == 200, done.data
    return digest


def test_a_new_tenant_pulls_the_shipped_policies_signed(web: WebPart) -> None:
    pulled = web.get(PULL, token=web.tokens[OTHER])
    assert (pulled.status_code, pulled.content_type) == (200, "application/gzip")
    assert pulled.headers["ETag"] == f'"{SHIPPED.digest}"'
    unpacked = parse_archive(pulled.data)
    verify_archive(unpacked, web.installation.policies.signer)
    assert unpacked.bundle == SHIPPED
    assert not unpacked.tests
    assert web.get(PULL, token=web.tokens[OTHER]).data == pulled.data, "the same bytes"


def test_who_has_it_already_is_told_so(web: WebPart) -> None:
    etag = f'"{read_active(web)}"'
    unchanged = web.get(PULL, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.data, unchanged.headers["ETag"]) == (304, b"", etag)
    assert web.get(PULL, headers={"If-None-Match": f'"{"0" * 64}"'}).status_code == 200


@pytest.mark.parametrize("name", ["other.tar.gz", "assay.zip", "assay", "..%2Fassay.tar.gz", "assay.tar.gz.sig"])
def test_another_name_is_no_bundle(web: WebPart, name: str) -> None:
    assert web.get(f"/v1/policy/bundles/{name}").status_code in {404, 422}


def test_the_metrics_say_when_which_log_was_reverified_longest_ago_and_what_was_wrong(web: WebPart) -> None:
    def measure() -> dict[str, float]:
        lines = [line for line in web.get("/metrics").text.splitlines() if line.startswith("assay_policy")]
        return {name: float(value) for name, value in map(str.split, lines)}

    assert measure() == {"assay_policy_never_reverified": 2, "assay_policy_reverify_problems": 0}
    store, now_s = web.installation.policies.store, int(time.time())
    log_reverified(store, OTHER, entry_id=make_id(now_s - 9_000), decisions=9, different=2, alarming=1, refused=4)
    assert measure()["assay_policy_never_reverified"] == 1
    log_reverified(store, entry_id=make_id(now_s - 5_000), decisions=9, alarming=4)
    log_reverified(store, entry_id=make_id(now_s - 3_000), decisions=9)
    assert measure() == {
        "assay_policy_never_reverified": 0,
        "assay_policy_reverify_problems": 3,
        "assay_policy_reverified_timestamp_seconds": now_s - 9_000,
    }


def make_id(time_s: int) -> UUID:
    """Return an entry's id of that time."""
    return UUID(int=(time_s * 1000 << 80) | (7 << 76) | (2 << 62) | secrets.randbits(62))


def test_two_people_change_what_decides_and_the_log_says_who(web: WebPart, author: str, second: str) -> None:
    before = read_active(web)
    closed = {"payments/payments.rego": DENY_ALL}
    tests = {**SHIPPED_TESTS, "payments/payments_test.rego": DENY_ALL_TEST}
    digest = push(web, author, pack("closed", closed, tests))
    invented = {"digest": "d" * 64, "base": before, "decisions": 9, "changed": 0, "deny_to_allow": 0}
    read_problem(step(web, author, digest, "shadow", {"impact": invented}), 422, "evidence_unproven")
    proposed = step(web, author, digest, "shadow", {"coverage": {"digest": "c" * 64, "percent": 96}})
    assert (proposed.status_code, proposed.json["state"]) == (200, "shadow")

    approval = {"replaces": before, "waive": ["parity", "impact"]}
    read_problem(step(web, author, digest, "activate", approval), 403, "approval_own_change")
    read_problem(step(web, second, digest, "activate", {"replaces": before}), 422, "evidence_missing")
    assert read_active(web) == before
    done = step(web, second, digest, "activate", approval)
    assert (done.status_code, done.json["state"]) == (200, "active")
    assert done.json["approver"] != done.json["author"]
    read_problem(step(web, second, digest, "activate", approval), 409, "bundle_state")

    wait_until(lambda: read_active(web) == digest, 2 * LOOK_S + 1)
    paid = web.post("/v1/payments", json=PAYMENT, headers={"Idempotency-Key": "closed", **WAIT})
    assert paid.json["code"] == "closed"
    [decided] = web.list_entries(f"&action=decision.recorded&ref={paid.json['decision']}")
    assert decided["entry"]["data"]["bundle"]["digest"] == digest
    assert web.installation.read_bundle("acme", digest).digest == digest

    history = web.get("/v1/policy/history?limit=4").json["history"]
    told = [(each["entry"]["action"], each["entry"]["data"]["digest"]) for each in history]
    assert told == [
        ("policy.bundle_activated", digest),
        ("policy.bundle_retired", before),
        ("policy.bundle_shadowed", digest),
        ("policy.bundle_added", digest),
    ]
    assert history[0]["entry"]["data"]["replaces"] == before
    back = promote(web, author, second, pack("open"))
    wait_until(lambda: read_active(web) == back, 2 * LOOK_S + 1)
    paid = web.post("/v1/payments", json=PAYMENT, headers={"Idempotency-Key": "open", **WAIT})
    assert paid.json["status"] == "succeeded"


def test_a_bundle_sent_again_is_the_same_draft(web: WebPart, author: str, second: str) -> None:
    archive = pack("again")
    digest = push(web, author, archive)
    again = web.post("/v1/policy/bundles", data=gzip.compress(gzip.decompress(archive)), token=second, **ARCHIVE)
    assert (again.status_code, again.json["digest"]) == (200, digest)
    other = web.post("/v1/policy/bundles", data=pack("again", tests=_fewer_tests()), token=author, **ARCHIVE)
    read_problem(other, 409, "bundle_tests_differ")


def _fewer_tests() -> dict[str, bytes]:
    return {path: content for path, content in SHIPPED_TESTS.items() if "kyc" in path}


@pytest.mark.parametrize(
    ("changed", "tests", "words"),
    [
        ({"kyc/kyc.rego": SHIPPED.files["kyc/kyc.rego"].replace(b'"blocked"', b'"unblocked"')}, None, "is not true"),
        ({"a/a.rego": b"package a\n\nx := := 1\n"}, None, "does not parse"),
        ({"a/a.rego": b"package a\n\nf(x) := f(x)\n"}, None, "may call itself"),
        (
            {"a/a.rego": b'package a\n\nx := http.send({"method": "get", "url": "http://127.0.0.1"})\n'},
            None,
            "calls http.send",
        ),
        ({"a/a.rego": b"package a\n\nx := opa.runtime()\n"}, None, "calls opa.runtime"),
        ({}, {}, "no tests"),
        ({}, {"a/a_test.rego": b"package a_test\n\ntest_x if 1 / 0 == 1\n"}, "test_x"),
    ],
    ids=["failing", "broken", "recursive", "network", "environment", "untested", "dividing"],
)
def test_what_may_not_be_enforced_is_not_even_kept(web: WebPart, author: str, changed, tests, words: str) -> None:
    archive = pack("refused", changed, tests)
    refused = web.post("/v1/policy/bundles", data=archive, token=author, **ARCHIVE)
    assert words in read_problem(refused, 422, "bundle_refused")["detail"]
    digest = parse_archive(archive).bundle.digest
    read_problem(step(web, author, digest, "shadow", {}), 404, "bundle_unknown")


def test_a_signed_archive_is_believed_by_our_keys_alone(web: WebPart, author: str, tmp_path: Path) -> None:
    unpacked = parse_archive(pack("signed"))
    parts = {"tests": unpacked.tests}
    foreign = sign_archive(unpacked.bundle, **parts, signer=make_signer(tmp_path / "theirs"))
    read_problem(web.post("/v1/policy/bundles", data=foreign, token=author, **ARCHIVE), 403, "bundle_signature_invalid")
    ours = sign_archive(unpacked.bundle, **parts, signer=web.installation.policies.signer)
    token = parse_archive(ours).signature
    for forged in (f"{token}x", token.replace(".", "..", 1), "", "a.b.c", token.rpartition(".")[0] + "."):
        altered = format_archive(unpacked.bundle, **parts, signature=forged)
        answer = web.post("/v1/policy/bundles", data=altered, token=author, **ARCHIVE)
        read_problem(answer, 403, "bundle_signature_invalid")
    other = format_archive(parse_archive(pack("other")).bundle, **parts, signature=token)
    read_problem(web.post("/v1/policy/bundles", data=other, token=author, **ARCHIVE), 403, "bundle_signature_invalid")
    assert web.post("/v1/policy/bundles", data=ours, token=author, **ARCHIVE).status_code == 201


def _escaping() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("../../etc/a.rego")
        member.size = 10
        tar.addfile(member, io.BytesIO(b"package a\n"))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("archive", "status", "code"),
    [
        (pack("cut")[:-9], 400, "bundle_malformed"),
        (b"", 400, "bundle_malformed"),
        (b"PK\x03\x04", 400, "bundle_malformed"),
        (_escaping(), 400, "bundle_malformed"),
        (gzip.compress(bytes(100 * 1024 * 1024)), 413, "bundle_too_large"),
        (bytes(100 * 1024 * 1024), 413, "body_too_large"),
    ],
    ids=["truncated", "empty", "zip", "escaping", "bomb", "100 MiB"],
)
def test_a_bad_archive_is_refused_and_the_active_one_stays(web: WebPart, author: str, archive, status, code) -> None:
    before = read_active(web)
    read_problem(web.post("/v1/policy/bundles?name=assay", data=archive, token=author, **ARCHIVE), status, code)
    read_problem(
        web.post("/v1/policy/bundles", data=b"{}", token=author, content_type="application/json"), 415, "content_type"
    )
    assert read_active(web) == before


def test_each_step_needs_its_own_scope(web: WebPart) -> None:
    reader = web.issue(Scope.POLICIES_READ)[0]
    writer = web.issue(Scope.POLICIES_WRITE)[0]
    approver = web.issue(Scope.POLICIES_APPROVE)[0]
    digest = read_active(web)
    for token in (reader, approver):
        read_problem(web.post("/v1/policy/bundles", data=b"", token=token, **ARCHIVE), 403, "scope_missing")
        read_problem(step(web, token, digest, "shadow", {}), 403, "scope_missing")
        read_problem(step(web, token, digest, "retire", {}), 403, "scope_missing")
        put = web.call("PUT", "/v1/policy/data/kyc", json={}, token=token)
        read_problem(put, 403, "scope_missing")
    for token in (reader, writer):
        read_problem(step(web, token, digest, "activate", {"replaces": None}), 403, "scope_missing")
    for token in (writer, approver):
        read_problem(web.get(PULL, token=token), 403, "scope_missing")


def test_another_tenants_bundles_look_absent(web: WebPart, author: str) -> None:
    digest, theirs = push(web, author, pack("mine")), web.tokens[OTHER]
    for name, body in (("shadow", {}), ("activate", {"replaces": None}), ("retire", {})):
        read_problem(step(web, theirs, digest, name, body), 404, "bundle_unknown")
    for path in (
        f"/v1/policy/bundles/by-digest/{digest}",
        f"/v1/policy/diff?to={digest}",
        f"/v1/policy/data?bundle={digest}",
        f"/v1/policy/data/kyc?bundle={digest}",
    ):
        read_problem(web.get(path, token=theirs), 404, "bundle_unknown")
    listed = web.get("/v1/policy/bundles", token=theirs).json["bundles"]
    assert [each["digest"] for each in listed] == [SHIPPED.digest]
    assert digest not in web.get("/v1/policy/history", token=theirs).text


def test_a_bundle_is_read_back_by_its_digest_with_or_without_its_tests(web: WebPart, author: str) -> None:
    digest = push(web, author, pack("kept"))
    bare = parse_archive(web.get(f"/v1/policy/bundles/by-digest/{digest}").data)
    whole = parse_archive(web.get(f"/v1/policy/bundles/by-digest/{digest}?tests=true").data)
    assert bare.bundle == whole.bundle
    assert (bare.tests, digest_tests(whole.tests)) == ({}, digest_tests(SHIPPED_TESTS))


def test_bundles_are_listed_in_pages_and_compared(web: WebPart, author: str) -> None:
    first, last = push(web, author, pack("one")), push(web, author, pack("two"))
    page = web.get("/v1/policy/bundles?limit=1").json
    assert [each["digest"] for each in page["bundles"]] == [last]
    page = web.get(f"/v1/policy/bundles?limit=1&cursor={page['next']}").json
    assert [each["digest"] for each in page["bundles"]] == [first]
    told = web.get(f"/v1/policy/diff?from={first}&to={last}").json
    assert told["changed"] == ["marker/marker.rego"]
    assert '-marker := "one"\n+marker := "two"\n' in told["text"]
    assert told["tables"] == {}


def test_a_changed_table_is_a_draft_of_its_author_and_an_entry(web: WebPart, author: str) -> None:
    active = read_active(web)
    table = web.get("/v1/policy/data/sanctions").json
    changed = web.call(
        "PUT", "/v1/policy/data/sanctions", json={**table, "version": "2099-01-01", "entries": []}, token=author
    )
    if changed.status_code == 422:  # the shipped tests need their entries: then such a draft is refused
        read_problem(changed, 422, "bundle_refused")
        return
    assert changed.status_code == 201, changed.data
    draft = changed.json["bundle"]
    assert (draft["state"], draft["base"]) == ("draft", active)
    tables = web.get(f"/v1/policy/data?bundle={draft['digest']}").json["tables"]
    assert {each["name"]: each["version"] for each in tables}["sanctions"] == "2099-01-01"
    entries = [each["entry"] for each in web.get("/v1/policy/history?limit=2").json["history"]]
    assert [entry["action"] for entry in entries] == ["policy.data_changed", "policy.bundle_added"]
    assert entries[0]["data"]["base"] == active
    assert read_active(web) == active


def test_a_table_that_is_not_there_or_does_not_fit_is_refused(web: WebPart, author: str) -> None:
    read_problem(web.get("/v1/policy/data/nothing"), 404, "table_unknown")
    read_problem(web.call("PUT", "/v1/policy/data/nothing", json={"version": "1"}, token=author), 404, "table_unknown")
    read_problem(web.call("PUT", "/v1/policy/data/kyc", json={}, token=author), 400, "bundle_malformed")
    read_problem(web.call("PUT", "/v1/policy/data/kyc", json={"x": [0.5]}, token=author), 400, "table_malformed")
    csv = {"data": "a,b\n", "content_type": "text/csv", "token": author}
    read_problem(web.call("PUT", "/v1/policy/data/kyc", **csv), 400, "table_malformed")
    read_problem(web.call("PUT", "/v1/policy/data/kyc", json=json.loads("[]"), token=author), 400, "json_malformed")


def test_a_tenant_from_before_there_were_bundles_gets_the_shipped_ones_when_a_server_starts(tmp_path: Path) -> None:
    with open_web(tmp_path, tenants=["acme"]) as web:
        web.installation.store.add_tenant(Tenant(id="older", origin="assay.localhost/older"))
        assert web.installation.policies.store.find_in_force("older") == {}
        assert web.installation.policies.adopt_where_missing() == ["older"]
        assert web.installation.active_bundle("older") == SHIPPED
        assert web.installation.policies.adopt_where_missing() == []
        web.installation.policies.verify_active("older")


def test_an_active_bundle_that_nobody_activated_is_found(tmp_path: Path) -> None:
    with open_web(tmp_path, tenants=["acme"]) as web:
        policies = web.installation.policies
        kept, _ = policies.push("acme", pack("slipped in"), name=None, actor="token:tok_author")
        with writing(web.installation.engine) as connection:
            for digest, state in ((SHIPPED.digest, "retired"), (kept.digest, "active")):
                changed = "UPDATE policy_bundle SET state = ?, proposer = 'token:b', approver = ? WHERE digest = ?"
                approver = "operator:assay" if state == "retired" else "token:c"
                connection.exec_driver_sql(changed, (state, approver, digest))
        wait_until(lambda: web.installation.active_bundle("acme").digest == kept.digest, 2 * LOOK_S + 1)
        with pytest.raises(Broken) as found:
            policies.verify_active("acme")
        assert found.value.code == "bundle_damaged"
