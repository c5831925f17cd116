"""The laws of sealing: what was sealed opens, and nothing else does."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ledger.canonical import MAX_INTEGER, canonical
from app.ledger.entry import commitment, verify_commitment
from app.ledger.verify.receipt import format_openings, parse_openings
from app.subjects.seal import (
    NONCE_BYTES,
    SealBrokenError,
    SealedField,
    SubjectKey,
    open_field,
    open_with_salt,
    seal_fields,
)

LAW = settings(deadline=None)  # how long an example takes is the machine's business
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(
    lambda text: unicodedata.normalize("NFC", text)
)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ASCII, inner, max_size=3), max_leaves=6
)
PLACES = st.fixed_dictionaries({"tenant": ASCII, "subject": ASCII, "entry_id": st.uuids()})
KEYS = st.binary(min_size=32, max_size=32).map(SubjectKey)
KEY = SubjectKey(bytes(range(32)))
PLACE = {"tenant": "acme", "subject": "sub_1", "entry_id": UUID("019a0000-0000-7000-8000-000000000001")}


def seal_one(value, key, place, path="name") -> tuple[SealedField, str]:
    sealing = seal_fields({path: value}, key=key, random_bytes=os.urandom, **place)
    return sealing.fields[0], sealing.commitments[path]


@LAW
@given(VALUES, KEYS, PLACES, ASCII)
def test_what_was_sealed_opens_as_it_was(value, key, place, path) -> None:
    sealed, expected = seal_one(value, key, place, path)
    assert open_field(sealed, key=key, expected=expected) == value
    opening = open_with_salt(sealed, key=key, expected=expected)
    verify_commitment(expected, salt=opening.salt, path=path, value=opening.value)
    assert parse_openings(canonical(format_openings({path: opening, "gone": None}))) == {path: opening, "gone": None}


@LAW
@given(VALUES, PLACES, st.data())
def test_any_changed_bit_of_the_box_or_the_commitment_is_noticed(value, place, data) -> None:
    sealed, expected = seal_one(value, KEY, place)
    bit = data.draw(st.integers(0, 8 * len(sealed.box) - 1))
    box = bytearray(sealed.box)
    box[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealBrokenError):
        open_field(replace(sealed, box=bytes(box)), key=KEY, expected=expected)
    place_in_text = data.draw(st.integers(0, len(expected) - 1))
    letter = "B" if expected[place_in_text] == "A" else "A"
    with pytest.raises(SealBrokenError):
        open_field(sealed, key=KEY, expected=expected[:place_in_text] + letter + expected[place_in_text + 1 :])


@LAW
@given(VALUES, PLACES, PLACES, ASCII)
def test_a_box_does_not_open_anywhere_else(value, place, elsewhere, path) -> None:
    sealed, expected = seal_one(value, KEY, place)
    for name, moved in [*elsewhere.items(), ("path", path)]:
        if moved != getattr(sealed, name):
            with pytest.raises(SealBrokenError):
                open_field(replace(sealed, **{name: moved}), key=KEY, expected=expected)


@LAW
@given(VALUES, PLACES, KEYS, KEYS)
def test_a_box_does_not_open_with_another_subjects_key(value, place, key, other) -> None:
    sealed, expected = seal_one(value, key, place)
    if key != other:
        with pytest.raises(SealBrokenError):
            open_field(sealed, key=other, expected=expected)


@LAW
@given(TEXT, TEXT, PLACES)
def test_an_operator_with_the_key_cannot_pass_off_another_value(logged, other, place) -> None:
    """Whoever holds key and database can seal anything; what opens is still only what the log commits to."""
    _, expected = seal_one(logged, KEY, place)
    forged, _ = seal_one(other, KEY, place)
    with pytest.raises(SealBrokenError):
        open_field(forged, key=KEY, expected=expected)


@LAW
@given(VALUES, PLACES)
def test_sealing_twice_shows_nothing_in_common(value, place) -> None:
    (first, first_commitment), (second, second_commitment) = seal_one(value, KEY, place), seal_one(value, KEY, place)
    assert first.box[:NONCE_BYTES] != second.box[:NONCE_BYTES]
    assert first.box[NONCE_BYTES:] != second.box[NONCE_BYTES:]
    assert first_commitment != second_commitment


@LAW
@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_a_box_are_broken_and_no_crash(box) -> None:
    sealed, expected = seal_one("x", KEY, PLACE)
    with pytest.raises(SealBrokenError):
        open_field(replace(sealed, box=box), key=KEY, expected=expected)


@LAW
@given(TEXT, st.binary(min_size=32, max_size=32))
def test_the_commitment_is_the_ledgers(value, salt) -> None:
    sealing = seal_fields({"name": value}, key=KEY, random_bytes=lambda count: salt[:count], **PLACE)
    assert sealing.commitments == {"name": commitment(salt, "name", value)}
