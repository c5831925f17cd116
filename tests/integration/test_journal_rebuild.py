"""The erasure journal is lost: nothing is served without it, and it comes back from the log's own entries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.adapters.erasure_journal import FileErasureJournal, JournalUnavailableError
from app.subjects.ports import Erasure
from app.wiring import initialise
from tests.parts.web import TENANT, WebPart, open_web
from tests.unit.cli.cli_calls import Call, make_call


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.setenv("ASSAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return make_call(monkeypatch, capsys)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


def _register(web: WebPart, subject: str) -> None:
    body = {"action": "customer.registered", "subject": subject, "data": {"country": "SE"}, "personal": {"name": "Ada"}}
    assert web.append(body).status_code == 201


def _erase(web: WebPart, subject: str) -> None:
    erased = web.call("DELETE", f"/v1/subjects/{subject}?reason=gdpr.art17", headers={"Prefer": "wait=20"})
    assert erased.json["status"] == "erased"


def _read(state: Path) -> list[Erasure]:
    return list(FileErasureJournal(state / "erasures.jsonl").read())


def _copy_database(state: Path, target: Path) -> None:
    target.mkdir()
    for path in state.glob("assay.db*"):
        if not path.name.endswith(".lock"):
            shutil.copy(path, target)


def _put_back(backup: Path, state: Path) -> None:
    for path in state.glob("assay.db*"):
        if not path.name.endswith(".lock"):
            path.unlink()
    for path in backup.iterdir():
        shutil.copy(path, state)


def test_a_lost_journal_stops_everything_and_comes_back_line_by_line(call: Call, state: Path) -> None:
    with open_web(state) as web:
        for subject in ("sub_1", "sub_2", "sub_live"):
            _register(web, subject)
        _erase(web, "sub_1")
        _erase(web, "sub_2")
        before = (state / "erasures.jsonl").read_bytes()
        (state / "erasures.jsonl").unlink()
        initialise(web.installation.settings)  # as `assay init` and `assay dev` do
        with pytest.raises(JournalUnavailableError):
            web.installation.replay_erasures()
    rebuilt = call("subject", "rebuild-journal", "--json")
    assert rebuilt.code == 0
    assert json.loads(rebuilt.out) == {"acme": {"known": 2, "added": 2}, "other": {"known": 0, "added": 0}}
    assert (state / "erasures.jsonl").read_bytes() == before
    with open_web(state) as web:
        assert web.installation.replay_erasures().standing == 2
    assert "0 of them were not in the journal" in call("subject", "rebuild-journal").err


def test_journal_and_database_lost_together_come_back_in_order_and_erase_again(
    call: Call, state: Path, tmp_path: Path
) -> None:
    with open_web(state, tenants=[TENANT]) as web:
        _register(web, "sub_1")
    _copy_database(state, tmp_path / "backup")
    with open_web(state, tenants=[TENANT]) as web:
        _erase(web, "sub_1")
    before = _read(state)
    assert call("export", "copy", "--tenant", TENANT, "--quiet").code == 0

    _put_back(tmp_path / "backup", state)
    (state / "erasures.jsonl").unlink()
    refused = call("subject", "rebuild-journal")
    assert (refused.code, "assay ledger recover" in refused.err) == (1, True)
    assert not (state / "erasures.jsonl").exists()
    assert call("ledger", "recover", "--tenant", TENANT, "--from", "copy").code == 0
    assert call("subject", "rebuild-journal").code == 0
    assert _read(state) == before
    with open_web(state, tenants=[TENANT]) as web:
        subjects = web.installation.subject_store()
        assert subjects.find_subject(TENANT, "sub_1").key is not None, "the backup brought it back"
        assert web.installation.replay_erasures().erased == 1
        assert subjects.find_subject(TENANT, "sub_1").key is None
