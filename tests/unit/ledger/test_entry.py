"""The entry format: one spelling, an envelope that is checked, commitments."""

from __future__ import annotations

import base64
from dataclasses import replace

import orjson
import pytest

from app.errors import Malformed, Rejected, TooLarge
from app.ledger.entry import (
    ENTRY_LIMIT_BYTES,
    Draft,
    check_draft,
    commitment,
    format_entry,
    format_entry_id,
    parse_entry,
    parse_entry_id,
    time_of_id,
    verify_commitment,
)
from tests.fakes.ledger import START_MS, make_draft, make_entry_id

SECRET = "Zanzibar"
SALT = bytes(range(32))
ENTRY_ID = make_entry_id(1)
FULL = make_draft(
    action="customer.registered",
    subject="sub_1",
    ref={"order": "o-1"},
    data={"country": "GB"},
    sealed={"name": commitment(SALT, "name", "Ada")},
    idem=bytes(32),
)


def respelled(**changes) -> bytes:
    """Return the full entry with fields changed, in canonical spelling; None takes a field away."""
    document = orjson.loads(format_entry(FULL, entry_id=ENTRY_ID)) | changes
    document = {name: value for name, value in document.items() if value is not None}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def test_an_entry_is_these_bytes_for_ever() -> None:
    assert format_entry(FULL, entry_id=ENTRY_ID) == (
        b'{"action":"customer.registered","actor":"merchant:shop","data":{"country":"GB"},'
        b'"id":"ent_018bcfe5680070008000000000000001","idem":"' + b"0" * 64 + b'","ref":{"order":"o-1"},'
        b'"sealed":{"name":"' + commitment(SALT, "name", "Ada").encode() + b'"},"subject":"sub_1",'
        b'"time":1700000000000,"v":1}'
    )


def test_the_time_of_an_entry_is_that_of_its_id() -> None:
    assert time_of_id(ENTRY_ID) == START_MS
    assert parse_entry(format_entry(FULL, entry_id=ENTRY_ID)).time_ms == START_MS


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"v": "1"},
        {"v": None},
        {"id": "ent_" + "0" * 32},
        {"id": "ent_018BCFE5680070008000000000000001"},
        {"id": "018bcfe5680070008000000000000001"},
        {"id": 1},
        {"time": START_MS + 1},
        {"time": str(START_MS)},
        {"action": 1},
        {"action": "Customer.Registered"},
        {"action": ""},
        {"actor": "shop"},
        {"actor": ["merchant:shop"]},
        {"subject": "Ada"},
        {"subject": 1},
        {"ref": []},
        {"ref": {"order": 1}},
        {"ref": {"Order": "o"}},
        {"ref": {"order": ""}},
        {"ref": {"order": "a b"}},
        {"ref": {f"o{letter}": "x" for letter in "abcdefghi"}},
        {"data": []},
        {"data": None},
        {"sealed": {"name": "x"}},
        {"sealed": {"name": 1}},
        {"sealed": {"name": "é" * 44}},
        {"sealed": {"name": "A" * 42 + "B="}},
        {"idem": "0" * 63},
        {"idem": "A" * 64},
        {"more": 1},
    ],
)
def test_an_entry_that_we_would_not_write_is_malformed(changes) -> None:
    assert parse_entry(respelled()).subject == "sub_1"
    with pytest.raises(Malformed):
        parse_entry(respelled(**changes))


def test_a_true_in_place_of_the_time_one_is_malformed() -> None:
    entry_id = make_entry_id(1, time_ms=1)
    body = format_entry(FULL, entry_id=entry_id)
    assert parse_entry(body).time_ms == 1
    with pytest.raises(Malformed):
        parse_entry(body.replace(b'"time":1,', b'"time":true,'))


@pytest.mark.parametrize(
    "spell",
    [
        lambda body: b" " + body,
        lambda body: body + b"\n",
        lambda body: body.replace(b":", b": ", 1),
        lambda body: body.replace(b'"GB"', b'"\\u0047B"'),
        lambda body: body.replace(b'"GB"', '"e\u0301"'.encode()),
        lambda body: body.replace(b'"o-1"', b'"o\\/1"'),
        lambda body: body.replace(b'"v":1', b'"v":1.0'),
        lambda body: body.replace(b'"v":1', b'"v":1e0'),
        lambda body: body.replace(b'"v":1}', b'"v":1,"v":1}'),
        lambda body: b'{"v":1,' + body[1:].replace(b',"v":1', b""),
        lambda body: body[:-1],
        lambda body: body + body,
        lambda body: b"[" + body + b"]",
        lambda _: b"",
        lambda _: b"null",
        lambda _: b"\xff",
    ],
)
def test_another_spelling_of_the_same_entry_is_malformed(spell) -> None:
    body = format_entry(FULL, entry_id=ENTRY_ID)
    assert spell(body) != body
    with pytest.raises(Malformed):
        parse_entry(spell(body))


def test_an_entry_at_the_limit_is_logged_and_one_byte_more_is_not() -> None:
    room = ENTRY_LIMIT_BYTES - len(format_entry(make_draft(data={"x": ""}), entry_id=ENTRY_ID))
    body = format_entry(make_draft(data={"x": "a" * room}), entry_id=ENTRY_ID)
    assert len(parse_entry(body).body) == ENTRY_LIMIT_BYTES
    with pytest.raises(TooLarge) as caught:
        format_entry(make_draft(data={"x": "a" * (room + 1)}), entry_id=ENTRY_ID)
    assert caught.value.code == "entry_too_large"
    with pytest.raises(TooLarge):
        parse_entry(body + b" ")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"actor": SECRET}, "actor_invalid"),
        ({"actor": "merchant:"}, "actor_invalid"),
        ({"actor": "merchant:a b"}, "actor_invalid"),
        ({"actor": "merchant:shop\n"}, "actor_invalid"),
        ({"subject": SECRET}, "subject_invalid"),
        ({"subject": "sub_1\n"}, "subject_invalid"),
        ({"ref": {"order": f"{SECRET} {SECRET}"}}, "ref_invalid"),
        ({"ref": {"order": "x" * 129}}, "ref_invalid"),
        ({"ref": {"order": "é"}}, "ref_invalid"),
        ({"ref": {SECRET: "x"}}, "ref_invalid"),
        ({"ref": {f"o{letter}": "x" for letter in "abcdefghi"}}, "ref_too_many"),
        ({"idem": b"short"}, "idem_invalid"),
        ({"sealed": {"name": SECRET}}, "sealed_invalid"),
    ],
)
def test_a_bad_envelope_is_refused_and_not_repeated(values, code) -> None:
    with pytest.raises(Rejected) as caught:
        check_draft(replace(FULL, **values))
    assert caught.value.code == code
    assert SECRET not in f"{caught.value!r}{caught.value.pointer}"


def test_eight_references_are_taken() -> None:
    check_draft(Draft(action="x", actor="a:b", ref={f"o{letter}": "x" for letter in "abcdefgh"}))


@pytest.mark.parametrize(
    "text",
    ["", "ent_", SECRET, "ent_" + "0" * 32, "ent_018bcfe568007000800000000000000", f"{format_entry_id(ENTRY_ID)}\n"],
)
def test_what_is_no_entry_id_is_malformed_and_not_repeated(text) -> None:
    with pytest.raises(Malformed) as caught:
        parse_entry_id(text)
    assert SECRET not in str(caught.value)


def test_an_entry_id_is_read_back() -> None:
    assert parse_entry_id(format_entry_id(ENTRY_ID)) == ENTRY_ID


@pytest.mark.parametrize("value", [True, "Ada", 1, None, {"a": [1]}])
def test_a_commitment_opens_with_its_salt_path_and_value_alone(value) -> None:
    logged = commitment(SALT, "name", value)
    assert len(base64.b64decode(logged, validate=True)) == 32
    verify_commitment(logged, salt=SALT, path="name", value=value)
    for change in ({"salt": bytes(32)}, {"salt": b""}, {"salt": SALT + b"\0"}, {"path": "email"}, {"value": "Bob"}):
        with pytest.raises(Rejected):
            verify_commitment(logged, **{"salt": SALT, "path": "name", "value": value, **change})


@pytest.mark.parametrize("sent", ["", "é", "\ud800", "A" * 44, "A" * 10_000])
def test_any_text_in_place_of_a_commitment_is_refused(sent) -> None:
    with pytest.raises(Rejected) as caught:
        verify_commitment(sent, salt=SALT, path="name", value=SECRET)
    assert SECRET not in str(caught.value)


def test_a_commitment_under_a_short_salt_is_never_made() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(b"short", "name", "Ada")
