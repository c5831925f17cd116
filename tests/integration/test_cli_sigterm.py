"""SIGTERM under load loses no acknowledged entry (DESIGN.md, 4.7; issue 2, section 9)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import requests

from tests.parts.assay import STOP_LIMIT_S, Assay, wait_until

CLIENTS = 16
ENOUGH = 300
QUICK = 50
BEFORE = 4
"""Entries that a log has by then: its key, its first bundle added and activated, a token."""
ACCEPTED, CREATED = 202, 201

pytestmark = pytest.mark.slow


class Client(threading.Thread):
    """Appends until there is no answer; remembers what was acknowledged, and answers that are none of ours."""

    def __init__(self, assay: Assay, token: str, number: int) -> None:
        super().__init__(name=f"client-{number}")
        self._assay = assay
        self._number = number
        self._headers = {"Authorization": f"Bearer {token}"}
        self.acknowledged: list[str] = []
        self.strange: list[str] = []

    def run(self) -> None:
        prefer = {"Prefer": "wait=10", "Accept": "application/json"} if self._number % 2 else {}
        with requests.Session() as session:
            session.headers.update({**self._headers, **prefer})
            while self._append(session):
                pass

    def _append(self, session: requests.Session) -> bool:
        body = {"action": "approval.given", "data": {"what": f"by client {self._number}", "verdict": "approved"}}
        try:
            answer = session.post(f"{self._assay.url}/v1/entries", json=body, timeout=30)
        except requests.RequestException:
            return False
        if answer.status_code in (ACCEPTED, CREATED):
            self.acknowledged.append(answer.json()["id"])
        elif answer.status_code != 503:
            self.strange.append(f"{answer.status_code}: {answer.text}")
        return answer.status_code in (ACCEPTED, CREATED)


def test_sigterm_under_load_loses_no_acknowledged_entry(tmp_path: Path) -> None:
    assay = Assay(tmp_path)
    assay.init()
    token = assay.issue_token("entries:write", "entries:read")

    process = assay.start("up")
    assay.wait_until_ready(process)
    clients = [Client(assay, token, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_until(lambda: sum(len(client.acknowledged) for client in clients) >= ENOUGH, what="some load")
    process.terminate()
    output, _ = process.communicate(timeout=STOP_LIMIT_S)
    for client in clients:
        client.join(STOP_LIMIT_S)
    assert process.returncode == 0, output
    assert [found for client in clients for found in client.strange] == []

    acknowledged = {entry_id for client in clients for entry_id in client.acknowledged}
    with assay.up():
        missing = acknowledged - _list_published(assay, token)
    assert missing == set(), f"{len(missing)} of {len(acknowledged)} acknowledged entries are gone"


def test_what_is_pending_at_sigterm_is_published_before_the_sequencer_ends(tmp_path: Path) -> None:
    assay = Assay(tmp_path)
    assay.init()
    token = assay.issue_token("entries:write", "entries:read")
    with assay.up():
        for _ in range(QUICK):
            body = {"action": "approval.given", "data": {"what": "quick", "verdict": "approved"}}
            assert assay.request("POST", "/v1/entries", token, body).status_code == ACCEPTED
    status = assay.run("ledger", "status", "--tenant", "demo", "--json", code=None).stdout
    assert '"pending": 0' in status
    assert f'"published": {QUICK + BEFORE}' in status


def _list_published(assay: Assay, token: str) -> set[str]:
    found: set[str] = set()
    after: int | None = 0
    while after is not None:
        page = assay.request("GET", f"/v1/entries?limit=500&after={after}", token).json()
        found |= {entry["id"] for entry in page["entries"] if entry["index"] is not None}
        after = page["next"]
    return found
