"""`assay subject open`: an auditor who is given a person's data checks it offline against the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parts.web import TENANT, WebPart, open_web
from tests.unit.cli.cli_calls import Call

PERSON = {"name": "Ada Łovelace", "email": "ada@example.org"}
BODY = {"action": "customer.registered", "data": {"country": "SE"}, "personal": PERSON}


@pytest.fixture
def logged(call: Call, tmp_path: Path) -> dict[str, Any]:
    """An entry that seals facts, published; its id, its receipt's path, and the log's key."""
    call("init")
    with open_web(tmp_path / "state") as web:
        return _log(web, tmp_path)


def _log(web: WebPart, folder: Path) -> dict[str, Any]:
    answer = web.append(BODY).json
    (folder / "receipt").write_text(answer["receipt"])
    return {"id": answer["id"], "subject": answer["subject"], "key": web.vkeys[TENANT]}


def _verify(call: Call, logged: dict[str, Any], values: str) -> Any:
    Path("values.json").write_text(values)
    return call("verify", "receipt", "receipt", "--key", logged["key"], "--sealed", "values.json", "--no-state")


def test_what_is_handed_out_is_verified_with_the_receipt_and_a_changed_letter_is_noticed(
    call: Call, logged: dict[str, Any]
) -> None:
    opened = call("subject", "open", logged["id"], "--tenant", TENANT, "--json")
    assert (opened.code, "logged as ent_" in opened.err) == (0, True)
    values = json.loads(opened.out)
    assert {path: each["value"] for path, each in values.items()} == PERSON
    checked = _verify(call, logged, opened.out)
    assert checked.code == 0
    assert "these sealed values are those that were logged: email, name" in checked.out
    values["name"]["value"] = "Ada Lovelace"
    assert _verify(call, logged, json.dumps(values)).code == 1


def test_of_one_field_the_other_stays_closed_and_unproven(call: Call, logged: dict[str, Any]) -> None:
    opened = call("subject", "open", logged["id"], "--tenant", TENANT, "--field", "email", "--json", "--quiet")
    assert json.loads(opened.out).keys() == {"email"}
    checked = _verify(call, logged, opened.out)
    assert checked.code == 0
    assert "the sealed values (name): only their commitments are logged" in checked.out
    plain = call("subject", "open", logged["id"], "--tenant", TENANT, "--field", "name").out
    assert plain == "name: Ada Łovelace\n"


def test_nothing_is_opened_of_an_erased_person_or_of_another_tenant(call: Call, logged: dict[str, Any]) -> None:
    assert call("subject", "open", logged["id"], "--tenant", "other").code == 1
    call("subject", "erase", logged["subject"], "--tenant", TENANT, "--yes")
    gone = call("subject", "open", logged["id"], "--tenant", TENANT)
    assert (gone.code, gone.out) == (1, "")
    assert "were erased on" in gone.err
