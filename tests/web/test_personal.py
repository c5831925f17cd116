"""Personal facts of an entry: sealed with it or not at all, never in the log, gone when their subject is erased."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from app.credentials.ports import Scope
from app.ledger.canonical import canonical
from app.ledger.entry import parse_entry, parse_entry_id
from app.subjects.personal import ErasedByPolicy, Opened, open_personal
from app.tlog.receipt import parse_receipt
from tests.parts.web import OTHER, TENANT, WebPart
from tests.web.problem import PAN, read_problem

NAME, EMAIL = "Ada \u0141ovelace", "ada.lovelace@example.org"
PERSON = {"name": NAME, "email": EMAIL}


def _entry(**changes: Any) -> dict[str, Any]:
    return {"action": "customer.registered", "data": {"country": "SE"}, "personal": PERSON} | changes


def _open(web: WebPart, entry_id: str, tenant: str = TENANT) -> Opened | ErasedByPolicy:
    stored = web.installation.store.find_entry(tenant, parse_entry_id(entry_id))
    assert stored is not None
    return open_personal(web.installation.subject_store(), tenant, parse_entry(stored.body))


def _count(web: WebPart, table: str) -> int:
    with web.installation.engine.connect() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608 -- our own name


def test_facts_are_sealed_for_a_new_subject_that_the_answer_names(web: WebPart) -> None:
    answer = web.append(_entry())
    assert answer.status_code == 201
    subject = answer.json["subject"]
    assert answer.headers["Assay-Subject"] == subject
    logged = parse_entry(parse_receipt(answer.json["receipt"].encode()).extra)
    assert logged.subject == subject
    assert set(logged.sealed) == {"name", "email"}
    assert all(len(base64.b64decode(each)) == 32 for each in logged.sealed.values())
    assert _open(web, answer.json["id"]) == Opened(PERSON)


def test_facts_are_sealed_for_the_subject_that_is_named(web: WebPart) -> None:
    first = web.append(_entry(subject="sub_ada"))
    second = web.append(_entry(subject="sub_ada", personal={"name": "Ada L."}))
    assert first.json["subject"] == second.json["subject"] == "sub_ada"
    assert _open(web, second.json["id"]) == Opened({"name": "Ada L."})


def test_without_a_wait_the_answer_names_the_subject_too(web: WebPart) -> None:
    answer = web.post("/v1/entries", json=_entry())
    assert answer.status_code == 202
    assert answer.json["subject"].startswith("sub_")


def test_a_receipt_as_text_comes_with_the_subject_in_a_header(web: WebPart) -> None:
    answer = web.post("/v1/entries", json=_entry(), headers={"Prefer": "wait=20"})
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["Assay-Subject"].startswith("sub_")


def test_name_and_email_are_in_no_answer_and_no_file(web: WebPart) -> None:
    answer = web.append(_entry())
    listed = web.get(f"/v1/entries?subject={answer.json['subject']}")
    for each in (answer, listed, web.get(f"/v1/entries/{answer.json['id']}/receipt")):
        assert b"Ada" not in each.data
        assert EMAIL.encode() not in each.data
    files = [path for path in web.database.parent.rglob("*") if path.is_file()]
    assert not [path for path in files if EMAIL.encode() in path.read_bytes()]


def test_a_replay_seals_nothing_and_names_the_same_subject(web: WebPart) -> None:
    first = web.append(_entry(), key="person-1")
    before = _count(web, "sealed_field"), _count(web, "subject"), _count(web, "subject_key")
    again = web.append(_entry(), key="person-1")
    assert again.headers["Idempotency-Replayed"] == "true"
    for name in ("id", "index", "subject"):
        assert again.json[name] == first.json[name]
    assert (_count(web, "sealed_field"), _count(web, "subject"), _count(web, "subject_key")) == before


@pytest.mark.parametrize(
    "change",
    [{"personal": {"name": "Bob"}}, {"personal": {"name": NAME}}, {"subject": "sub_bob"}, {"data": {"country": "NO"}}],
)
def test_other_facts_under_the_same_key_are_another_request(web: WebPart, change: dict[str, Any]) -> None:
    web.append(_entry(), key="person-2")
    read_problem(web.append(_entry(**change), key="person-2"), 422, "idempotency_mismatch")


def test_a_key_of_an_entry_without_facts_is_another_request(web: WebPart) -> None:
    web.append({"action": "customer.registered", "data": {"country": "SE"}}, key="person-3")
    read_problem(web.append(_entry(), key="person-3"), 422, "idempotency_mismatch")


def test_nothing_is_sealed_to_an_erased_subject_and_an_old_key_still_finds_its_entry(web: WebPart) -> None:
    first = web.append(_entry(subject="sub_gone"), key="person-4")
    assert web.call("DELETE", "/v1/subjects/sub_gone").json["fields"] == 2
    assert isinstance(_open(web, first.json["id"]), ErasedByPolicy)
    read_problem(web.append(_entry(subject="sub_gone")), 403, "subject_erased")
    again = web.append(_entry(subject="sub_gone"), key="person-4")
    assert (again.status_code, again.json["id"]) == (201, first.json["id"])


def test_what_tells_requests_apart_does_not_tell_who_it_was(web: WebPart) -> None:
    """The fingerprint outlives the erasure; it is keyed, so that nobody can try names against it."""
    first = web.append(_entry(subject="sub_guess"), key="person-5")
    guess = canonical(["customer.registered", "sub_guess", {}, {"country": "SE"}, PERSON])
    with web.installation.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT fingerprint, entry_id FROM idempotency").all()
    kept = [bytes(row.fingerprint) for row in rows if UUID(bytes=row.entry_id) == parse_entry_id(first.json["id"])]
    assert len(kept) == 1
    assert kept != [sha256(guess).digest()]


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"personal": {"phone": "x"}}, "field_unknown", "/personal/phone"),
        ({"personal": {"name": ""}}, "personal_invalid", "/personal/name"),
        ({"personal": {"name": "A\u202eda"}}, "personal_invalid", "/personal/name"),
        ({"personal": {"email": "nobody"}}, "personal_invalid", "/personal/email"),
        ({"personal": {"name": 7}}, "request_invalid", "/personal/name"),
        ({"personal": []}, "request_invalid", "/personal"),
        (
            {"action": "approval.given", "data": {"what": "x", "verdict": "approved"}},
            "field_unknown",
            "/personal/email",
        ),
        ({"subject": "Ada"}, "subject_invalid", "/subject"),
        ({"personal": {"name": f"Ada {PAN}"}}, "card_number", "/name"),
        ({"personal": {f"n{PAN}": "x"}}, "card_number", None),
    ],
)
def test_facts_that_cannot_be_kept_are_refused_and_leave_nothing(
    web: WebPart, change: dict[str, Any], code: str, pointer: str | None
) -> None:
    before = _count(web, "sealed_field"), _count(web, "subject"), _count(web, "entry")
    answer = web.append(_entry(**change), key=None)
    problem = read_problem(answer, 422, code)
    assert [error["pointer"] for error in problem.get("errors", ())] == ([pointer] if pointer else [])
    assert PAN.encode() not in answer.data
    assert (_count(web, "sealed_field"), _count(web, "subject"), _count(web, "entry")) == before


def test_a_name_too_long_is_refused(web: WebPart) -> None:
    read_problem(web.append(_entry(personal={"name": "a" * 201})), 413, "personal_too_large")


def test_a_subject_is_of_one_tenant(web: WebPart) -> None:
    web.append(_entry(subject="sub_both"))
    web.append(_entry(subject="sub_both"), token=web.tokens[OTHER])
    assert web.call("DELETE", "/v1/subjects/sub_both").json["status"] == "erased"
    other = web.append(_entry(subject="sub_both"), token=web.tokens[OTHER])
    assert other.status_code == 201
    assert _open(web, other.json["id"], OTHER) == Opened(PERSON)


def test_sealing_needs_no_more_than_the_scope_to_write(web: WebPart) -> None:
    token, _ = web.issue(Scope.ENTRIES_WRITE)
    assert web.append(_entry(), token=token).status_code == 201
