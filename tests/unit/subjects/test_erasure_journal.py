"""The journal file: durable, shared, and unreadable rather than wrong."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.erasure_journal import (
    FileErasureJournal,
    JournalBrokenError,
    JournalUnavailableError,
    _digest,
    format_line,
    parse_line,
)
from app.errors import Malformed
from app.subjects.ports import Erasure

LAW = settings(deadline=None)  # how long an example takes is the machine's business
ADA = Erasure(tenant="acme", subject="sub_ada", at_ms=1_760_000_000_000, reason="requested")
BOB = Erasure(tenant="acme", subject="sub_bob", at_ms=1_760_000_000_001, reason="gdpr.art17")
WORDS = st.from_regex(r"[A-Za-z0-9_.-]{1,60}", fullmatch=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "erasures"


@pytest.fixture
def journal(path):
    return FileErasureJournal.create(path)


def test_what_was_appended_is_read_in_order_also_by_another_process(journal, path) -> None:
    assert list(journal.read()) == []
    journal.append(ADA)
    journal.append(BOB)
    journal.append(ADA)
    assert list(FileErasureJournal(path).read()) == [ADA, BOB, ADA]


def test_only_the_owner_may_read_it_and_making_it_again_keeps_it(journal, path) -> None:
    journal.append(ADA)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(FileErasureJournal.create(path).read()) == [ADA]


def test_a_missing_file_is_not_an_empty_journal(tmp_path) -> None:
    journal = FileErasureJournal(tmp_path / "unmounted" / "erasures")
    with pytest.raises(JournalUnavailableError):
        list(journal.read())
    with pytest.raises(JournalUnavailableError):
        journal.append(ADA)
    with pytest.raises(JournalUnavailableError):
        FileErasureJournal.create(tmp_path / "unmounted" / "erasures")


def test_a_write_cut_short_was_never_acknowledged_and_is_written_over(journal, path) -> None:
    line = format_line(BOB)
    for cut in range(1, len(line)):
        path.write_bytes(format_line(ADA) + line[:cut])
        assert list(journal.read()) == [ADA]
        journal.append(BOB)
        assert list(journal.read()) == [ADA, BOB]
    path.write_bytes(b"x" * 900)
    journal.append(ADA)
    assert list(journal.read()) == [ADA]
    journal.append(BOB)
    assert list(journal.read()) == [ADA, BOB]
    path.write_bytes(line[:7])
    journal.append(ADA)
    assert list(journal.read()) == [ADA]


def test_a_full_disk_is_said_and_what_was_there_stays(journal, path, monkeypatch) -> None:
    journal.append(ADA)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[:9], at))
    with pytest.raises(JournalUnavailableError, match="part"):
        journal.append(BOB)
    monkeypatch.undo()
    assert list(journal.read()) == [ADA]
    journal.append(BOB)
    assert list(journal.read()) == [ADA, BOB]


def test_nothing_is_acknowledged_before_it_is_on_the_disk(journal, monkeypatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(JournalUnavailableError):
        journal.append(ADA)


def test_an_altered_line_stops_the_reader_and_is_named(journal, path) -> None:
    journal.append(ADA)
    journal.append(BOB)
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(JournalBrokenError, match=r"line [12]"):
            list(journal.read())


def test_a_line_without_end_is_broken_and_no_memory_is_spent_on_it(journal, path) -> None:
    path.write_bytes(b"x" * 5_000_000 + b"\n")
    with pytest.raises(JournalBrokenError, match="line 1"):
        list(journal.read())


def test_many_writers_never_mix_their_lines(path) -> None:
    FileErasureJournal.create(path)
    erasures = [Erasure(tenant="acme", subject=f"sub_{n}", at_ms=n, reason="requested") for n in range(60)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda erasure: FileErasureJournal(path).append(erasure), erasures))
    found = list(FileErasureJournal(path).read())
    assert sorted(found, key=lambda erasure: erasure.at_ms) == erasures


@LAW
@given(WORDS, WORDS, st.integers(0, 2**53 - 1), WORDS)
def test_a_line_says_exactly_what_was_erased(tenant, subject, at_ms, reason) -> None:
    erasure = Erasure(tenant=tenant, subject=subject, at_ms=at_ms, reason=reason)
    assert parse_line(format_line(erasure)) == erasure


@LAW
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_parser(line) -> None:
    with pytest.raises(Malformed):
        parse_line(line)


def test_another_format_with_a_right_digest_is_refused() -> None:
    for body in (b"[]", b'{"v":1}', format_line(ADA).split(b" ")[0].replace(b'"v":1', b'"v":2')):
        with pytest.raises(Malformed, match="format"):
            parse_line(body + b" " + _digest(body) + b"\n")


def test_an_erasure_too_long_for_a_line_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="fewer"):
        format_line(Erasure(tenant="t" * 1000, subject="sub_1", at_ms=1, reason="r"))


def test_a_missing_journal_that_is_rebuilt_gets_its_name_once_it_is_whole(path) -> None:
    with FileErasureJournal.rebuilding(path) as rebuilt:
        rebuilt.append(ADA)
        assert not path.exists()
    assert list(FileErasureJournal(path).read()) == [ADA]
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rebuilding_that_failed_leaves_no_journal_and_the_next_begins_anew(path) -> None:
    def fail_halfway() -> None:
        with FileErasureJournal.rebuilding(path) as rebuilt:
            rebuilt.append(ADA)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert not path.exists()
    with FileErasureJournal.rebuilding(path) as rebuilt:
        rebuilt.append(BOB)
    assert list(FileErasureJournal(path).read()) == [BOB]


def test_rebuilding_adds_to_a_journal_that_is_there(journal, path) -> None:
    journal.append(ADA)
    with FileErasureJournal.rebuilding(path) as rebuilt:
        rebuilt.append(BOB)
    assert list(journal.read()) == [ADA, BOB]


def test_a_journal_that_somebody_else_made_meanwhile_is_not_replaced(path) -> None:
    def rebuild() -> None:
        with FileErasureJournal.rebuilding(path) as rebuilt:
            FileErasureJournal.create(path).append(BOB)
            rebuilt.append(ADA)

    with pytest.raises(JournalUnavailableError):
        rebuild()
    assert list(FileErasureJournal(path).read()) == [BOB]
