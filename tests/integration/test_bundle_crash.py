"""Killed at any step of a bundle's life, nothing is half done: the step did not happen, and can be taken again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.adapters.sql.policies import SqlBundleStore
from app.policy.evidence import Reports
from app.policy.kept import State
from tests.fakes.people import append
from tests.parts.bundles import AUTHOR, SECOND, WAIVE_ALL, make, make_life
from tests.parts.sql_stores import open_part, sqlite_url

ROOT = Path(__file__).parents[2]
FIRST, NEXT = make(1), make(2)
DONE = {"added": 0, "shadowed": 1, "retired": 2, "activated": 2}
"""Steps that were committed before the one that writes this entry."""


def take_steps(store, folder: Path, *, die_at: str | None = None) -> None:
    """Bring the next bundle into force; be killed where the entry `die_at` was just written, before the commit."""

    def append_or_die(tx, tenant, draft, entry_id):
        result = append(tx, tenant, draft, entry_id)
        if draft.action == f"policy.bundle_{die_at}":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    life = make_life(store, folder, append=append_or_die)
    kept, _ = life.add("acme", NEXT, {}, actor=AUTHOR)
    if kept.state is State.DRAFT:
        life.propose("acme", NEXT.digest, Reports(), actor=AUTHOR)
    life.activate("acme", NEXT.digest, replace(WAIVE_ALL, replaces=FIRST.digest), actor=SECOND)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return sqlite_url(tmp_path / "l.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.mark.parametrize("die_at", list(DONE))
def test_a_kill_between_keeping_and_activating_loses_nothing(url, tmp_path, die_at) -> None:
    with open_part(url) as part:
        make_life(SqlBundleStore(part.store, part.engine), tmp_path / "keys").adopt("acme", FIRST, {})
    died = subprocess.run([sys.executable, __file__, url, str(tmp_path / "keys"), die_at], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    with open_part(url, fresh=False) as part:
        store = SqlBundleStore(part.store, part.engine)
        in_force = {state: kept.digest for state, kept in store.find_in_force("acme").items()}
        shadow = {State.SHADOW: NEXT.digest} if DONE[die_at] == 2 else {}
        assert in_force == {State.ACTIVE: FIRST.digest, **shadow}
        assert (store.find_bundle("acme", NEXT.digest) is None) == (DONE[die_at] == 0)
        assert len(part.list_entries("acme")) == 2 + DONE[die_at]
        take_steps(store, tmp_path / "keys")
        assert store.find_in_force("acme")[State.ACTIVE].digest == NEXT.digest
        assert len(part.list_entries("acme")) == 6


if __name__ == "__main__":
    with open_part(sys.argv[1], fresh=False) as opened:
        take_steps(SqlBundleStore(opened.store, opened.engine), Path(sys.argv[2]), die_at=sys.argv[3])
