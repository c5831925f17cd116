"""Keys, freezing, recovery and witnesses, as an operator works them: the real commands beside a running service."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.cli.ledger import read_status
from app.settings import Settings
from app.wiring import Installation
from tests.parts.assay import STOP_LIMIT_S, TENANT, Assay, find_free_port, wait_until

pytestmark = pytest.mark.slow

VALID, INVALID = 0, 1
BEGUN = 3
"""Entries of a new log: its key, and its first policies kept and activated."""


@pytest.fixture
def assay(tmp_path: Path) -> Assay:
    made = Assay(tmp_path)
    made.vkey = made.init()
    return made


@contextmanager
def _sequencer(assay: Assay) -> Iterator[subprocess.Popen[str]]:
    """Run the sequencer alone while the block runs."""
    process = assay.start("sequencer", "--verbose")
    try:
        yield process
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, output


def _status(assay: Assay) -> dict[str, Any]:
    """Return what `assay ledger status` says, without starting a process."""
    installation = Installation(Settings(state_dir=assay.state, trust_file=assay.environment.get("ASSAY_TRUST_FILE")))
    with closing(installation.store):
        problem = installation.check_readiness()[f"log:{TENANT}"]
        return read_status(installation, installation.read_tenant(TENANT), problem)


def _is_published(assay: Assay) -> bool:
    status = _status(assay)
    return status["pending"] == 0 and status["published"] == status["size"] > 0


def _publish(assay: Assay) -> None:
    """Let the sequencer publish all that is pending."""
    with _sequencer(assay):
        wait_until(lambda: _is_published(assay))


def _verify(assay: Assay, *keys: str) -> subprocess.CompletedProcess[str]:
    words = [word for key in keys for word in ("--key", key)]
    database = f"sqlite:///{assay.state / 'assay.db'}"
    return assay.run("verify", "database", database, "--tenant", TENANT, "--no-state", *words, code=None)


def test_a_key_is_rotated_and_retired_and_verifiers_follow(assay: Assay) -> None:
    old = assay.vkey
    with _sequencer(assay):
        wait_until(lambda: _is_published(assay))
        new = assay.run("key", "rotate", "--tenant", TENANT, "--quiet").stdout.strip()
        assert new != old
        assert _verify(assay, old).returncode == _verify(assay, new).returncode == VALID

        assay.run("key", "retire", old, "--tenant", TENANT, "--yes")
        assay.run("key", "retire", old, "--tenant", TENANT, "--yes")  # as after an interruption
        refused = assay.run("key", "retire", new, "--tenant", TENANT, "--yes", code=1)
        assert "the last active key cannot be retired" in refused.stderr
        assay.issue_token("entries:read")
        wait_until(lambda: _status(assay)["pending"] == 0 and _status(assay)["published"] == BEGUN + 3)
    keys = json.loads(assay.run("key", "list", "--tenant", TENANT, "--json").stdout)
    assert [(key["vkey"], key["added"], key["retired"]) for key in keys] == [(old, 0, BEGUN + 1), (new, BEGUN, None)]
    assert _verify(assay, new).returncode == VALID
    assert [path.suffix for path in sorted((assay.state / "keys").glob("*/*"))].count(".key") == 1


def test_the_sequencer_says_what_it_published(assay: Assay) -> None:
    process = assay.start("sequencer", "--verbose")
    wait_until(lambda: _status(assay)["published"] == BEGUN)
    process.terminate()
    output, _ = process.communicate(timeout=STOP_LIMIT_S)
    assert f"published demo: {BEGUN} entries, size {BEGUN}" in output


def test_a_frozen_log_takes_nothing_more_and_stays_provable(assay: Assay) -> None:
    refused = assay.run("ledger", "freeze", "--tenant", TENANT, "--reason", "no code", "--yes", code=1)
    assert "error:" in refused.stderr
    assay.run("ledger", "freeze", "--tenant", TENANT, "--reason", "successor.started", "--yes")
    again = assay.run("ledger", "freeze", "--tenant", TENANT, "--reason", "successor.started", "--yes", code=1)
    assert "error:" in again.stderr
    with _sequencer(assay):
        wait_until(lambda: _status(assay)["published"] == BEGUN + 1)
    status = assay.run("ledger", "status", "--tenant", TENANT).stdout
    assert "frozen" in status
    assert f"size:           {BEGUN + 1}" in status
    assert assay.run("token", "issue", "-t", TENANT, "-s", "entries:read", code=1).stdout == ""
    assert assay.run("key", "rotate", "--tenant", TENANT, code=1).stdout == ""
    assert _verify(assay, assay.vkey).returncode == VALID


def test_an_older_backup_is_refused_and_recovered_from_an_export(assay: Assay) -> None:
    _publish(assay)
    backup, database = assay.folder / "backup.db", assay.state / "assay.db"
    assert not database.with_name("assay.db-wal").exists() or not database.with_name("assay.db-wal").stat().st_size
    shutil.copy(database, backup)
    for _ in range(3):
        assay.issue_token("entries:read")
    _publish(assay)
    assay.run("export", "copy", "--tenant", TENANT)

    for leftover in assay.state.glob("assay.db*"):
        if not leftover.name.endswith(".lock"):
            leftover.unlink()
    shutil.copy(backup, database)

    process = assay.start("sequencer")
    assert process.stdout is not None
    said = process.stdout.readline()
    assert "is no longer published" in said
    assert f"entries {BEGUN} to {BEGUN + 2} were signed and are not in this database" in said
    process.terminate()
    process.communicate(timeout=STOP_LIMIT_S)
    assert f"{BEGUN} to {BEGUN + 2}" in _status(assay)["problem"]

    told = assay.run("ledger", "recover", "--tenant", TENANT, code=1)
    assert "behind" in told.stdout
    assert "--from" in told.stderr
    done = assay.run("ledger", "recover", "--tenant", TENANT, "--from", "copy")
    assert "3 entries are back" in done.stderr
    assert "sound" in assay.run("ledger", "recover", "--tenant", TENANT).stdout
    assay.issue_token("entries:read")
    _publish(assay)
    assert _status(assay)["published"] == BEGUN + 4
    assert _verify(assay, assay.vkey).returncode == VALID


def test_recovery_waits_for_the_service_to_stop(assay: Assay) -> None:
    with _sequencer(assay):
        wait_until(lambda: _status(assay)["published"] == BEGUN)
        assert assay.run("ledger", "recover", "--tenant", TENANT, code=3).stdout == ""


def test_a_witness_cosigns_what_the_log_publishes(assay: Assay) -> None:
    port, name = find_free_port(), "witness.example/w1"
    words = ("--name", name, "--state", "witness")
    witness = assay.run("witness", "init", *words, "--quiet").stdout.strip()
    assert assay.run("witness", "init", *words, code=1).stdout == ""
    trust = assay.folder / "trust.txt"
    trust.write_text(f"log {assay.vkey}\nwitness w1 {witness} http://127.0.0.1:{port}\nquorum w1\n")
    (assay.folder / "logs.txt").write_text(f"log {assay.vkey}\n")
    process = assay.start("witness", "serve", *words, "--logs", "logs.txt", "--port", str(port))
    try:
        assay.environment |= {"ASSAY_TRUST_FILE": str(trust), "ASSAY_WITNESS_MODE": "require"}
        _publish(assay)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, output
    assert _status(assay)["witnesses"] == "1 of 1 cosigned"
    database = f"sqlite:///{assay.state / 'assay.db'}"
    report = assay.run("verify", "database", database, "--tenant", TENANT, "--trust", "trust.txt", "--no-state")
    assert "witnessed by quorum w1: 1 of 1" in report.stdout
