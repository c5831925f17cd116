"""After an erasure nothing of the key and the sealed facts is in SQLite's files, and every proof still holds."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.adapters.erasure_journal import FileErasureJournal
from app.adapters.sql.engine import open_engine
from app.adapters.sql.store import SqlStore
from app.adapters.sql.subjects import SqlSubjectStore
from app.subjects.ports import JOURNAL_BATCH, Erasure
from app.tlog.proof import prove_consistency, prove_inclusion, verify_consistency, verify_inclusion
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.people import PERSON, erase_subject, register
from tests.parts.sql_stores import SqlPart, open_part, sqlite_url

PEOPLE = 150
WINDOW = 24  # bytes: a copy of any piece this long counts


@pytest.fixture
def part(tmp_path: Path):
    with open_part(sqlite_url(tmp_path / "ledger.db")) as part:
        yield part


@pytest.fixture
def store(part: SqlPart) -> SqlSubjectStore:
    return SqlSubjectStore(part.store, part.engine)


@pytest.fixture
def journal(tmp_path: Path) -> FileErasureJournal:
    return FileErasureJournal.create(tmp_path / "journal")


def read_files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


def take_secrets(store: SqlSubjectStore, entry_id, subject: str) -> list[bytes]:
    """Return pieces of the subject's key and boxes."""
    boxes = [sealed.box for sealed in store.list_sealed("acme", entry_id)]
    key = store.find_subject("acme", subject).key.secret
    return [whole[at : at + WINDOW] for whole in (key, *boxes) for at in (0, len(whole) - WINDOW)]


@pytest.mark.slow
def test_no_byte_of_a_destroyed_key_or_box_is_left_in_the_files(store, journal, tmp_path) -> None:
    chance = random.Random(7)
    secrets: dict[str, list[bytes]] = {}
    for number in range(PEOPLE):
        subject = f"sub_{number}"
        personal = {"name": "N" * chance.randint(1, 190), "email": f"{number}@example.com"}
        secrets[subject] = take_secrets(store, register(store, subject=subject, personal=personal), subject)
    gone = chance.sample(sorted(secrets), PEOPLE // 2)
    before = read_files(tmp_path)
    assert all(piece in before for pieces in secrets.values() for piece in pieces)  # the search finds what is there

    for subject in gone:
        erase_subject(store, journal, subject=subject)
        if chance.random() < 0.3:
            register(store, subject=f"sub_after{subject[4:]}")  # pages are used again in between

    after = read_files(tmp_path)
    assert [subject for subject in gone if any(piece in after for piece in secrets[subject])] == []
    living = sorted(secrets.keys() - set(gone))
    assert all(piece in after for subject in living for piece in secrets[subject])


def test_a_reader_may_keep_the_old_pages_a_while_and_scrubbing_says_so(store, journal, tmp_path) -> None:
    secrets = take_secrets(store, register(store), "sub_ada")
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subject").fetchone()
        erase_subject(store, journal)
        assert store.scrub() is False
    assert store.scrub() is True
    assert [piece for piece in secrets if piece in read_files(tmp_path)] == []


def test_nothing_personal_is_ever_in_the_files(store, journal, tmp_path) -> None:
    register(store)
    erase_subject(store, journal)
    found = read_files(tmp_path)
    assert b"sub_ada" in found
    assert [value for value in PERSON.values() if value.encode() in found] == []


def test_every_proof_of_before_holds_after_an_erasure_and_the_log_only_grew(part, store, journal) -> None:
    for number in range(5):
        register(store, subject=f"sub_{number}")

    def hash_entries() -> list[bytes]:
        return [leaf_hash(entry.body) for entry in part.list_entries("acme")]

    before = hash_entries()
    old_root, proofs = root_of(before), [prove_inclusion(index, before) for index in range(5)]
    erase_subject(store, journal, subject="sub_3")

    after = hash_entries()
    assert len(after) == 6
    for index, proof in enumerate(proofs):
        verify_inclusion(index=index, size=5, leaf=after[index], proof=proof, root=old_root)
    verify_consistency(
        old_size=5, new_size=6, old_root=old_root, new_root=root_of(after), proof=prove_consistency(5, after)
    )


def test_scrubbing_a_database_that_is_gone_says_so_and_does_not_fail(tmp_path) -> None:
    engine = open_engine(sqlite_url(tmp_path / "gone" / "ledger.db"))
    assert SqlSubjectStore(SqlStore(engine), engine).scrub() is False


def test_what_is_asked_of_the_store_at_once_is_bounded(store) -> None:
    erasure = Erasure(tenant="acme", subject="sub_1", at_ms=1, reason="requested")
    with pytest.raises(ValueError, match="at most"):
        store.list_undone([erasure] * (JOURNAL_BATCH + 1))
