"""The registry: a closed list, checked before anything is logged."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from app.errors import Conflict, Rejected
from app.ledger.action import Action, Registry
from tests.fakes.ledger import DIGEST, REGISTRY, make_draft

SECRET = "Zanzibar"


def test_an_unknown_action_is_refused_and_not_repeated() -> None:
    with pytest.raises(Rejected) as caught:
        REGISTRY.check(make_draft(action=SECRET))
    assert caught.value.code == "action_unknown"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({"kind": "a"}, "/data"),
        ({"kind": "a", "sha256": SECRET}, "/data/sha256"),
        ({"kind": "a", "sha256": DIGEST, "more": SECRET}, "/data"),
        ({"kind": "a", "sha256": DIGEST, "size_bytes": True}, "/data/size_bytes"),
        ({"kind": "a", "sha256": DIGEST, "size_bytes": -1}, "/data/size_bytes"),
        ({"kind": "a", "sha256": DIGEST, "size_bytes": Decimal("0.5")}, "/data/size_bytes"),
        ({"kind": "a", "sha256": DIGEST, "size_bytes": Decimal("1E+99999999")}, "/data/size_bytes"),
        ({"kind": "a", "sha256": DIGEST, "size_bytes": 10**4_000}, "/data/size_bytes"),
        ({"kind": "a\n", "sha256": DIGEST}, "/data/kind"),
        ({"kind": "a", "sha256": DIGEST + "\n"}, "/data/sha256"),
        ({"kind": "a", "sha256": "\ud800"}, "/data"),
        ({"kind": "a", "sha256": object()}, "/data"),
        ({1: SECRET}, "/data"),
        ([SECRET], "/data"),
        (None, "/data"),
        (SECRET, "/data"),
    ],
)
def test_data_that_the_schema_does_not_allow_is_refused_by_place_and_not_repeated(data, pointer) -> None:
    with pytest.raises(Rejected) as caught:
        REGISTRY.check(make_draft(data=data))
    assert caught.value.code == "data_invalid"
    assert caught.value.pointer == pointer
    assert SECRET not in str(caught.value)


def test_a_personal_field_is_never_taken_as_data() -> None:
    with pytest.raises(Rejected):
        REGISTRY.check(make_draft(action="customer.registered", data={"country": "GB", "name": SECRET}))


def test_a_sealed_field_that_the_action_does_not_have_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        REGISTRY.check(make_draft(sealed={"name": "x"}))
    assert caught.value.code == "field_unknown"


def test_two_actions_of_one_name_are_a_conflict() -> None:
    with pytest.raises(Conflict):
        Registry([Action(name="a", title="A"), Action(name="a", title="Another")])


@pytest.mark.parametrize("action", list(REGISTRY), ids=lambda action: action.name)
def test_every_action_says_what_it_is_and_lets_nothing_else_in(action) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*\.[a-z][a-z0-9_.]*", action.name), "the entry format asks for this spelling"
    assert action.title
    assert action.schema["additionalProperties"] is False
    assert action.required <= action.properties.keys()
    assert not action.personal & action.properties.keys(), "a fact is either personal or not"


def test_what_assay_alone_says_cannot_be_appended_by_a_token() -> None:
    external = {action.name for action in REGISTRY if action.external}
    assert not [name for name in external if name.startswith(("log.", "key.", "decision.", "payment.", "token."))]
    assert "subject.erased" not in external
