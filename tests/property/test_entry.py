"""Laws of entries: parse and format are inverse, one spelling, commitments hide and bind, no card number comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.errors import Malformed, Rejected
from app.ledger.append import prepare
from app.ledger.canonical import MAX_INTEGER, canonical
from app.ledger.entry import Draft, commitment, format_entry, format_entry_id, parse_entry, verify_commitment
from tests.fakes.ledger import REGISTRY, make_draft, make_entry_id
from tests.property.test_canonical import keys, scalars, trees

LAW = settings(deadline=None, max_examples=120)
SECRET = "Zanzibar-4711"

salts = st.binary(min_size=32, max_size=32)
refs = st.dictionaries(
    st.from_regex(r"[a-z][a-z_]{0,31}", fullmatch=True), st.from_regex(r"[!-~]{1,40}", fullmatch=True), max_size=8
)
drafts = st.builds(
    Draft,
    action=st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True),
    actor=st.from_regex(r"[a-z]{1,16}:[A-Za-z0-9_.@-]{1,20}", fullmatch=True),
    subject=st.none() | st.from_regex(r"sub_[A-Za-z0-9]{1,20}", fullmatch=True),
    ref=refs,
    data=st.dictionaries(keys, trees(scalars), max_size=4),
    sealed=st.dictionaries(keys, st.builds(commitment, salts, keys, scalars), max_size=3),
    idem=st.none() | salts,
)
entry_ids = st.builds(
    lambda number, time_ms: make_entry_id(number, time_ms=time_ms), st.integers(0, 2**62 - 1), st.integers(0, 2**48 - 1)
)


@LAW
@given(draft=drafts, entry_id=entry_ids)
def test_an_entry_is_read_back_as_it_was_drafted(draft: Draft, entry_id: Any) -> None:
    body = format_entry(draft, entry_id=entry_id)
    entry = parse_entry(body)
    assert entry.body == body
    assert (entry.id, entry.time_ms) == (format_entry_id(entry_id), entry_id.int >> 80)
    assert (entry.action, entry.actor, entry.subject) == (draft.action, draft.actor, draft.subject)
    assert (entry.ref, entry.data, entry.sealed) == (draft.ref, draft.data, draft.sealed)
    assert entry.idem == (draft.idem.hex() if draft.idem else None)
    assert canonical(json.loads(body)) == body


@LAW
@given(draft=drafts, entry_id=entry_ids, spell=st.integers(0, 5), at=st.integers(0, 2**16))
def test_the_same_json_in_another_spelling_is_malformed(draft: Draft, entry_id: Any, spell: int, at: int) -> None:
    body = format_entry(draft, entry_id=entry_id)
    document = json.loads(body)
    members = list(document)
    other = [
        lambda: json.dumps(document, sort_keys=True, separators=(",", ": ")),
        lambda: json.dumps({name: document[name] for name in reversed(members)}, separators=(",", ":")),
        lambda: body.decode().replace("a", "\\u0061", 1),
        lambda: body.decode()[:-1] + f",{json.dumps(members[-1])}:{json.dumps(document[members[-1]])}}}",
        lambda: body.decode()[: at % len(body)] + " " + body.decode()[at % len(body) :],
        lambda: body.decode() + "\t",
    ][spell]().encode(errors="replace")
    assume(other != body)
    try:
        entry = parse_entry(other)
    except Malformed:
        return
    assert entry.body == other == canonical(json.loads(other)), "a space inside a string is another entry, well spelled"
    assert json.loads(other) != document


@LAW
@given(draft=drafts, entry_id=entry_ids, at=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_a_flipped_bit_is_malformed_or_another_entry(draft: Draft, entry_id: Any, at: int, bit: int) -> None:
    body = bytearray(format_entry(draft, entry_id=entry_id))
    whole = parse_entry(bytes(body))
    body[at % len(body)] ^= 1 << bit
    try:
        assert parse_entry(bytes(body)) != whole
    except Malformed:
        return


@LAW
@given(data=st.binary(max_size=200) | st.text(max_size=60).map(str.encode) | trees(scalars).map(canonical))
def test_any_bytes_are_an_entry_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_entry(data)


@LAW
@given(salt=salts, path=keys, value=trees(scalars), other=st.tuples(salts, keys, trees(scalars)))
def test_a_commitment_binds_its_salt_path_and_value(salt: bytes, path: str, value: Any, other: Any) -> None:
    logged = commitment(salt, path, value)
    verify_commitment(logged, salt=salt, path=path, value=value)
    for changed in [(other[0], path, value), (salt, other[1], value), (salt, path, other[2]), other]:
        same = changed[:2] == (salt, path) and canonical(changed[2]) == canonical(value)
        if not same:
            with pytest.raises(Rejected):
                verify_commitment(logged, salt=changed[0], path=changed[1], value=changed[2])


@LAW
@given(salt=salts, other=salts, path=keys, value=scalars)
def test_equal_values_under_two_salts_have_unlike_commitments(salt: bytes, other: bytes, path: str, value: Any) -> None:
    assume(salt != other)
    assert commitment(salt, path, value) != commitment(other, path, value)


@LAW
@given(
    path=st.sampled_from(["kind", "sha256", "title", "size_bytes", "more"]),
    value=st.sampled_from([SECRET, f"{SECRET}\ud800", [SECRET], {SECRET: 1.5}, {"a": SECRET}, SECRET.encode(), 0.5]),
    where=st.sampled_from(["data", "ref", "actor", "subject", "sealed"]),
)
def test_no_error_about_a_draft_repeats_what_was_in_it(path: str, value: Any, where: str) -> None:
    assume((path, value) != ("title", SECRET))
    held: Any = {path: value} if where in {"data", "sealed", "ref"} else f"{value}"
    if where == "data":
        held = {"kind": "a", "sha256": "00" * 32, path: value}
    if where in {"ref", "sealed"}:
        held = {path: f"{value} "}
    with pytest.raises(Rejected) as caught:
        prepare(REGISTRY, "acme", make_draft(**{where: held}), entry_id=make_entry_id(1))
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r} {error} {getattr(error, 'pointer', '')}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@LAW
@given(number=st.integers(0, MAX_INTEGER), field=st.sampled_from(["recorded_at_s", "amount_minor"]))
def test_a_draft_that_is_taken_holds_exactly_what_was_sent(number: int, field: str) -> None:
    facts = {
        "record_action": "A",
        "recorded_at_s": 1,
        "amount_minor": 1,
        "currency": "USD",
        "compliance_status": "PASSED",
        field: number,
    }
    try:
        row = prepare(REGISTRY, "acme", make_draft(action="record.logged", data=facts), entry_id=make_entry_id(1))
    except Rejected:
        return
    assert parse_entry(row.body).data == facts
