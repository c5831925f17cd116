"""Two tenants: whatever one asks with the other's ids is answered byte for byte as for ids that nobody has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from app.adapters.connectors.sandbox import StripeSandbox
from tests.parts.web import OTHER, PAYMENT, WebPart, open_web

REQUEST = {"X-Request-Id": "the-same-id"}
FORGED = "f" * 15
THEIR_PAYMENT = PAYMENT | {"subject": "sub_theirs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """What the other tenant has; `web` speaks for the first one."""

    web: WebPart
    entry: str
    leaf_hash: str
    payment: str
    index: int


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory):
    with StripeSandbox() as sandbox:
        folder: Path = tmp_path_factory.mktemp("tenants")
        with open_web(folder, stripe_api_base=sandbox.url) as web:
            token = web.tokens[OTHER]
            for number in range(5):
                entry = web.append(key=f"theirs-{number}", token=token).json
            payment = web.post(
                "/v1/payments",
                json=THEIR_PAYMENT,
                token=token,
                headers={"Idempotency-Key": "p", "Prefer": "wait=20"},
            ).json
            assert payment["status"] == "succeeded"
            rendered = web.get(f"/v1/entries/{entry['id']}", token=token).json
            yield Theirs(
                web=web,
                entry=entry["id"],
                leaf_hash=rendered["leaf_hash"],
                payment=payment["id"],
                index=rendered["index"],
            )


def _forge(text: str) -> str:
    """Return an id of the same form that nobody has."""
    return text[: -len(FORGED)] + FORGED


def _raw(answer: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.data, sorted(answer.headers.items())


ENDPOINTS = [
    ("GET", "/v1/entries/{entry}"),
    ("GET", "/v1/entries/{entry}?view=record"),
    ("GET", "/v1/entries/{entry}/receipt"),
    ("GET", "/v1/payments/{payment}"),
    ("GET", "/v1/proofs/inclusion?leaf_hash={leaf_hash}"),
    ("DELETE", "/v1/subjects/{subject}"),
    ("GET", "/v1/entries?ref={payment}"),
    ("GET", "/v1/entries?subject={subject}"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_the_others_ids_look_absent(theirs: Theirs, method: str, path: str) -> None:
    ids = {
        "entry": theirs.entry,
        "payment": theirs.payment,
        "leaf_hash": theirs.leaf_hash,
        "subject": "sub_theirs",
    }
    absent = {name: _forge(text) for name, text in ids.items() if name != "subject"} | {"subject": "sub_nobody"}
    asked = theirs.web.call(method, path.format(**ids), headers=REQUEST)
    assert _raw(asked) == _raw(theirs.web.call(method, path.format(**absent), headers=REQUEST))
    for text in ids.values():
        assert text.encode() not in asked.data


@pytest.mark.parametrize("rest", ["000", "000.p/1", "000.p/7", "001", "nonsense", "000.p/0"])
def test_bundles_of_the_others_log_look_absent(theirs: Theirs, rest: str) -> None:
    asked = theirs.web.get(f"/{OTHER}/tile/entries/{rest}", headers=REQUEST)
    assert asked.status_code == 404
    assert _raw(asked) == _raw(theirs.web.get(f"/nobody/tile/entries/{rest}", headers=REQUEST))


def test_an_index_is_one_of_the_callers_own_log(theirs: Theirs) -> None:
    web = theirs.web
    own = len(web.list_entries())
    assert theirs.index >= own
    assert web.get(f"/v1/proofs/inclusion?index={theirs.index}").json["code"] == "index_out_of_range"
    assert "assay.localhost/acme" in web.get("/v1/proofs/consistency?from=1").json["checkpoint"]


def test_lists_hold_ones_own_entries_only(theirs: Theirs) -> None:
    web = theirs.web
    own = {entry["id"] for entry in web.list_entries()}
    others = {entry["id"] for entry in web.list_entries(token=web.tokens[OTHER])}
    assert own
    assert others
    assert own.isdisjoint(others)


def test_the_others_subject_stays_when_one_erases_the_same_name(theirs: Theirs) -> None:
    web = theirs.web
    web.call("DELETE", "/v1/subjects/sub_theirs")
    held = web.installation.subject_store().find_subject(OTHER, "sub_theirs")
    assert held is not None
    assert held.key is not None


def test_a_log_that_is_not_there_looks_like_one_without_a_checkpoint(theirs: Theirs) -> None:
    for path in ("checkpoint", "tile/0/000", "keys"):
        answer = theirs.web.get(f"/nobody/{path}", token=None)
        assert (answer.status_code, answer.json["code"]) == (404, "not_in_the_log_yet")
