"""What can be a subject's id and a personal fact."""

from __future__ import annotations

import unicodedata
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Rejected, TooLarge
from app.ledger.entry import Draft, check_draft
from app.subjects.subject import (
    EMAIL_LIMIT_CHARS,
    NAME_LIMIT_CHARS,
    format_subject_id,
    parse_personal,
    parse_subject_id,
)

LAW = settings(deadline=None)  # how long an example takes is the machine's business
UUID7 = UUID("019a0000-0000-7000-8000-000000000001")


def is_allowed_in_an_entry(subject: str) -> bool:
    try:
        check_draft(Draft(action="a", actor="a:b", subject=subject))
    except Rejected:
        return False
    return True


@LAW
@given(st.text(max_size=70) | st.from_regex(r"sub_[A-Za-z0-9_]{0,62}\n?", fullmatch=True))
def test_a_subject_id_is_what_an_entry_takes(text: str) -> None:
    if is_allowed_in_an_entry(text):
        assert parse_subject_id(text) == text
    else:
        with pytest.raises(Rejected):
            parse_subject_id(text)


def test_a_new_subject_id_is_one() -> None:
    assert parse_subject_id(format_subject_id(UUID7)) == "sub_019a0000000070008000000000000001"


def test_personal_facts_are_normalised_to_nfc() -> None:
    decomposed = unicodedata.normalize("NFD", "Zoë Åström")
    assert parse_personal({"name": decomposed, "email": "zoe@example.com"}) == {
        "name": "Zoë Åström",
        "email": "zoe@example.com",
    }


@pytest.mark.parametrize(
    "name",
    ["", "   ", None, 7, ["x"], "a\x00b", "a\nb", "a\u2028b", "Eve\u202egnp.exe", "lone\ud800", "a\u0378"],
)
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(Rejected) as refused:
        parse_personal({"name": name})
    assert refused.value.pointer == "/personal/name"


@pytest.mark.parametrize("name", ["محمد\u200cعلی", "क्\u200dष", "O'Brien-Smith, Jr.", "李小龍"])
def test_names_of_the_world_are_names(name: str) -> None:
    assert parse_personal({"name": name}) == {"name": name}


@pytest.mark.parametrize(
    "email", ["ada", "@example.com", "ada@", "a@b@c", "a b@example.com", f"{'x' * 65}@example.com"]
)
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_personal({"email": email})
    assert refused.value.pointer == "/personal/email"
    assert "xample" not in str(refused.value)


def test_too_long_is_said_before_anything_is_done_with_it() -> None:
    for fields in (
        {"name": "x" * (NAME_LIMIT_CHARS + 1)},
        {"name": "\u0958" * NAME_LIMIT_CHARS},  # grows under NFC
        {"email": "x" * 60 + "@" + "y" * (EMAIL_LIMIT_CHARS - 60)},
    ):
        with pytest.raises(TooLarge):
            parse_personal(fields)
    assert parse_personal({"name": "x" * NAME_LIMIT_CHARS})


def test_an_unknown_personal_field_is_refused() -> None:
    with pytest.raises(Rejected) as refused:
        parse_personal({"name": "Ada", "iban": "SE35 5000 0000 0549 1000 0003"})
    assert (refused.value.code, refused.value.pointer) == ("field_unknown", "/personal/iban")
    assert "5000" not in str(refused.value)
