"""The short way of a batch's lines is never wider than the long way, and where it leads it leads to the same row."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import Rejected
from app.ledger.action import Action, Registry
from app.ledger.append import prepare
from app.ledger.canonical import canonical, parse_json
from app.ledger.entry import Draft
from app.ledger.plain import PlainEntries
from app.ledger.ports import EntryRow
from app.web.models import EntryIn
from tests.fakes.ledger import DIGEST, REGISTRY, TENANT, make_entry_id
from tests.property.test_canonical import keys, scalars, trees

LAW = settings(deadline=None, max_examples=400)
PLAIN = PlainEntries(REGISTRY)
ACTOR = "merchant:shop"
ID = make_entry_id(7)
VISA = "4242424242424242"
DOCUMENT = {"kind": "contract", "sha256": DIGEST, "title": "Framework agreement", "size_bytes": 48213}
ORDINARY = [
    {"action": "document.recorded", "data": DOCUMENT},
    {"action": "document.recorded", "data": {"kind": "contract", "sha256": "1234567890" * 6 + "abcd"}},
    {"action": "approval.given", "data": {"what": "a limit", "verdict": "approved"}, "ref": {}, "personal": {}},
    {
        "action": "approval.given",
        "data": {"what": "a limit", "verdict": "refused"},
        "ref": {"order": "o-1", "cart": "c"},
    },
    {"action": "approval.given", "data": {"what": "a limit", "verdict": "approved"}, "subject": "sub_1"},
    {"action": "customer.registered", "data": {"country": "SE"}, "subject": None, "ref": {"a": "same", "b": "same"}},
]
odd = st.one_of(
    trees(scalars),
    st.sampled_from(
        [VISA, f"4242 4242 4242 4242 {DIGEST}", int(VISA), "é", "e\u0301", "a\n", "a\\", "\x00", 1.5, -1, 2**53, 2**70]
    ),
    st.text(max_size=130),
    st.builds(lambda times: "x" * times, st.sampled_from([64, 65, 127, 128, 129, 20_000])),
)
names = st.sampled_from(
    ["action", "data", "ref", "subject", "personal", "metadata", "user_id", "kind", "title", "size_bytes"]
)
changes = st.tuples(st.sampled_from([(), ("data",), ("ref",)]), names | keys, odd)


def take_long_way(value: Any, idem: bytes | None) -> EntryRow:
    """Return the row that one entry alone would become."""
    entry = EntryIn.model_validate(value)
    if entry.personal or not REGISTRY.read(entry.action).external:
        raise Rejected("not in a batch")
    draft = Draft(
        action=entry.action, actor=ACTOR, subject=entry.subject, ref=entry.ref, data=entry.data, idem=idem, plain=True
    )
    said = canonical([draft.action, draft.subject, draft.ref, draft.data])
    fingerprint = hashlib.sha256(said).digest() if idem else None
    return prepare(REGISTRY, TENANT.id, draft, entry_id=ID, fingerprint=fingerprint)


def take_short_way(value: Any, idem: bytes | None = None, *, actor: str = ACTOR) -> EntryRow | None:
    return PLAIN.prepare([value], tenant=TENANT.id, actor=actor, idems=[idem], new_id=lambda: ID)[0]


def change(value: Any, where: tuple[str, ...], name: str, new: Any) -> Any:
    """Return a copy with one member set, deep inside if `where` says so and can be gone to."""
    if not where:
        return {**value, name: new}
    inner = value.get(where[0], {})
    return {**value, where[0]: change(inner, where[1:], name, new)} if isinstance(inner, dict) else value


@LAW
@given(
    value=st.sampled_from(ORDINARY),
    changed=st.lists(changes, max_size=3),
    idem=st.none() | st.binary(min_size=32, max_size=32),
)
@example(value=ORDINARY[0], changed=[(("data",), "size_bytes", int(VISA))], idem=None)
@example(value=ORDINARY[3], changed=[(("ref",), "order", VISA)], idem=None)
@example(value=ORDINARY[3], changed=[((), "ref", {"order": "4242-4242", "cart": "4242-4242"})], idem=None)
@example(value=ORDINARY[4], changed=[((), "subject", f"sub_{VISA}")], idem=None)
@example(value=ORDINARY[4], changed=[((), "subject", "sub_1\n")], idem=None)
@example(value=ORDINARY[4], changed=[((), "subject", "usr_1")], idem=None)
@example(value=ORDINARY[4], changed=[((), "ref", {"Order": "o-1"})], idem=None)
@example(value=ORDINARY[4], changed=[((), "ref", {"order": "o 1"})], idem=None)
@example(value=ORDINARY[4], changed=[((), "ref", {"order": 1})], idem=None)
@example(value=ORDINARY[4], changed=[((), "ref", {f"o_{chr(97 + n)}": "o" for n in range(9)})], idem=None)
@example(value=ORDINARY[0], changed=[((), "personal", {"name": "Ada"})], idem=None)
def test_what_goes_the_short_way_becomes_the_row_of_the_long_way(value: Any, changed: Any, idem: bytes | None) -> None:
    for where, name, new in changed:
        value = change(value, where, name, new)
    with suppress(Rejected, TypeError):  # what comes through HTTP was parsed; what cannot be is tried as it is
        value = parse_json(orjson.dumps(value), limit_bytes=2**20)
    row = take_short_way(value, idem)
    if row is None:
        return
    assert row == take_long_way(value, idem)


@pytest.mark.parametrize("value", ORDINARY)
@pytest.mark.parametrize("idem", [None, bytes(32)])
def test_an_ordinary_entry_goes_the_short_way(value: Any, idem: bytes | None) -> None:
    assert take_short_way(value, idem) == take_long_way(value, idem)


@LAW
@given(value=trees(scalars))
def test_any_json_goes_one_of_the_two_ways(value: Any) -> None:
    if take_short_way(value) is not None:
        take_long_way(value, None)


@pytest.mark.parametrize("actor", ["nobody", f"merchant:{VISA}", 'merchant:"'])
def test_an_actor_that_the_long_way_refuses_has_no_short_way(actor: str) -> None:
    assert take_short_way(ORDINARY[0], actor=actor) is None


def test_an_entry_that_is_too_large_or_not_ascii_has_no_short_way() -> None:
    text = Action(name="text.noted", title="A text", properties={"text": {"type": "string"}}, external=True)
    plain = PlainEntries(Registry([text]))

    def takes(text: str) -> bool:
        value = {"action": "text.noted", "data": {"text": text}}
        rows = plain.prepare([value], tenant=TENANT.id, actor=ACTOR, idems=[None], new_id=lambda: ID)
        return rows != [None]

    assert takes("x y " * 4000)
    assert not takes("x y " * 4096)
    assert not takes("e\u0301")
