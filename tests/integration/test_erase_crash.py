"""Erasure under kill -9 between any two of its steps: promised means done at the next start, with one receipt."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.adapters.erasure_journal import FileErasureJournal
from app.adapters.sql.subjects import SqlSubjectStore
from app.subjects.erase import AlreadyErased, Erased
from app.subjects.personal import ErasedByPolicy, Opened, SubjectErasedError, open_personal
from app.subjects.ports import Erasure
from tests.fakes.people import ADA, BOB, PERSON, erase_subject, register, replay
from tests.parts.sql_stores import SqlPart, open_part, sqlite_url

ROOT = Path(__file__).resolve().parents[2]
LEAST_STEPS = 10
PROMISE = Erasure(tenant="acme", subject=ADA, at_ms=1_760_000_000_000, reason="requested")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    FileErasureJournal.create(tmp_path / "template.journal")
    with open_part(sqlite_url(tmp_path / "template.db")) as part:
        store = SqlSubjectStore(part.store, part.engine)
        register(store)
        register(store, subject=BOB)
        assert store.scrub()  # everything in the one file that the victims copy
    return tmp_path


def kill_at_every_step(mode: str, folder: Path) -> int:
    """Return how many processes were killed, each one step later than the one before."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.parts.erase_victim", mode, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@contextmanager
def start_again(folder: Path, number: int) -> Iterator[tuple[SqlPart, SqlSubjectStore, FileErasureJournal]]:
    with open_part(sqlite_url(folder / f"{number}.db"), fresh=False) as part:
        yield part, SqlSubjectStore(part.store, part.engine), FileErasureJournal(folder / f"{number}.journal")


def receipts(part: SqlPart) -> int:
    return sum(entry.action == "subject.erased" for entry in part.list_entries("acme"))


def is_whole(part: SqlPart, store: SqlSubjectStore) -> bool:
    """Say whether Ada's facts are there, having checked that all of them are or none, and then with a receipt."""
    opened = open_personal(store, "acme", part.list_entries("acme")[0])
    assert opened == Opened(PERSON) or isinstance(opened, ErasedByPolicy)
    assert receipts(part) == isinstance(opened, ErasedByPolicy)
    assert open_personal(store, "acme", part.list_entries("acme")[1]) == Opened(PERSON)  # Bob's, always
    return isinstance(opened, Opened)


@pytest.mark.slow
def test_a_killed_erasure_is_done_at_the_next_start_if_it_was_promised_and_else_not_begun(folder: Path) -> None:
    killed = kill_at_every_step("erase", folder)
    assert killed >= LEAST_STEPS
    seen = set()
    for number in range(killed + 1):
        with start_again(folder, number) as (part, store, journal):
            promised = bool(list(journal.read()))
            whole = is_whole(part, store)
            assert promised or whole, f"step {number}: destroyed before it was promised"
            seen.add((promised, whole))

            replay(store, journal)
            assert is_whole(part, store) is not promised
            outcome = erase_subject(store, journal)
            assert isinstance(outcome, AlreadyErased if promised else Erased)
            assert not is_whole(part, store)
    assert seen == {(False, True), (True, True), (True, False)}


@pytest.mark.slow
def test_a_killed_replay_is_done_by_the_next(folder: Path) -> None:
    FileErasureJournal(folder / "template.journal").append(PROMISE)
    killed = kill_at_every_step("replay", folder)
    assert killed >= LEAST_STEPS
    for number in range(killed + 1):
        with start_again(folder, number) as (part, store, journal):
            is_whole(part, store)
            replay(store, journal)
            assert not is_whole(part, store)


def test_erased_stays_erased_when_an_older_database_is_restored(tmp_path: Path) -> None:
    database, backup = tmp_path / "ledger.db", tmp_path / "backup.db"
    journal = FileErasureJournal.create(tmp_path / "journal")
    with open_part(sqlite_url(database)) as part:
        store = SqlSubjectStore(part.store, part.engine)
        register(store)
        assert store.scrub()
        shutil.copy(database, backup)
        register(store, subject="sub_later")  # the backup does not know this one
        erase_subject(store, journal)
        erase_subject(store, journal, subject="sub_later")
    shutil.copy(backup, database)

    with open_part(sqlite_url(database), fresh=False) as part:
        store = SqlSubjectStore(part.store, part.engine)
        (entry,) = part.list_entries("acme")
        assert open_personal(store, "acme", entry) == Opened(PERSON)  # why the journal is there
        assert replay(store, journal).erased == 2
        assert isinstance(open_personal(store, "acme", entry), ErasedByPolicy)
        assert [(one.action, one.data["fields"]) for one in part.list_entries("acme")[1:]] == [
            ("subject.erased", 2),
            ("subject.erased", 0),
        ]
        for subject in (ADA, "sub_later"):
            with pytest.raises(SubjectErasedError):
                register(store, subject=subject)
        assert replay(store, journal).standing == 2
