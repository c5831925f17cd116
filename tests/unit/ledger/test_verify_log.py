"""What a verification concludes: whose keys count, who else vouches, what is remembered, and what it never claims."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from app.adapters.sql.audit import DatabaseSource
from app.errors import Unavailable
from app.ledger.append import prepare
from app.ledger.entry import Draft
from app.ledger.export import write_export
from app.ledger.ports import EntryRow
from app.ledger.verify import (
    ExportSource,
    Options,
    Outcome,
    RememberedHead,
    default_state_file,
    find_remembered,
    read_trust,
    remember,
    verify_log,
)
from app.ledger.verify.head import StateFileError
from app.tlog.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from app.tlog.cosignature import sign_cosignature
from app.tlog.note import COSIGNATURE_V1, VerifierKey, format_note, parse_note
from app.tlog.policy import Policy, Witness
from tests.parts.built_logs import REGISTRY, SIGNER, TENANT, BuiltLog, SeedSigner, build_sqlite, make_draft, make_id

TRUST = read_trust(None, [SIGNER.vkey])
SUCCESSOR = SeedSigner(TENANT.origin, 2)


def source_of(directory: Path) -> DatabaseSource:
    return DatabaseSource(f"sqlite:///{directory / 'log.db'}", TENANT.id)


def head_of(source: DatabaseSource) -> RememberedHead:
    note = source.find_checkpoint() or b""
    claim = parse_checkpoint(parse_note(note).text)
    return RememberedHead(origin=claim.origin, size=claim.size, root=claim.root, note=note)


def rotate(log: BuiltLog) -> None:
    """Add the successor, publish signed by both, retire the first, publish signed by the successor alone."""
    log.keyring.all.append(SUCCESSOR)
    log.append(Draft(action="key.added", actor="system:assay", data={"vkey": SUCCESSOR.vkey}))
    log.keyring.signers = [SIGNER, SUCCESSOR]
    log.publish()
    log.append(Draft(action="key.retired", actor="system:assay", data={"vkey": SIGNER.vkey}))
    log.keyring.signers = [SUCCESSOR]
    log.append(make_draft(log.count))
    log.publish()


def test_whoever_knows_only_the_first_key_can_follow_a_rotation(tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [4])
    rotate(log)
    report = verify_log(source_of(tmp_path), TRUST, Options(deep=True))
    assert report.outcome is Outcome.VALID, report.summary


def test_a_new_key_that_nothing_vouches_for_is_not_called_tampering(tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [4])
    rotate(log)
    write_export(source_of(tmp_path), tmp_path / "export")
    (tmp_path / "export/checkpoints").unlink()
    export = ExportSource(tmp_path / "export")
    report = verify_log(export, TRUST, Options())
    assert report.outcome is Outcome.NOT_CHECKED
    assert SUCCESSOR.key.key_id.hex() in report.summary
    before = head_of(source_of(tmp_path))
    assert verify_log(export, TRUST, Options(remembered=before)).outcome is Outcome.NOT_CHECKED


def test_a_retired_key_signs_nothing_larger(tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [4])
    rotate(log)
    write_export(source_of(tmp_path), tmp_path / "export")
    checkpoint = tmp_path / "export/checkpoint"
    claim = parse_checkpoint(parse_note(checkpoint.read_bytes()).text)
    stolen = sign_checkpoint(Checkpoint(origin=claim.origin, size=claim.size, root=claim.root), SIGNER.key, SIGNER.sign)
    checkpoint.write_bytes(format_note(stolen))
    report = verify_log(ExportSource(tmp_path / "export"), TRUST, Options())
    assert report.outcome is Outcome.INVALID
    assert f"checkpoint of size {claim.size}" in report.summary


def make_witnessed(directory: Path) -> tuple[ExportSource, Policy]:
    build_sqlite(directory / "log.db", [4])
    write_export(source_of(directory), directory / "export")
    seed = SeedSigner("witness.test/one", 7)
    key = VerifierKey(name="witness.test/one", algorithm=COSIGNATURE_V1, public_key=seed.key.public_key)
    checkpoint = directory / "export/checkpoint"
    note = parse_note(checkpoint.read_bytes())
    checkpoint.write_bytes(format_note(note.add(sign_cosignature(note.text, key, 1_712_345_678, seed.sign))))
    policy = replace(TRUST, witnesses=(Witness(name="one", key=key),), quorum="one")
    return ExportSource(directory / "export"), policy


def test_a_quorum_of_witnesses_is_the_highest_level_and_proves_that_all_see_one_log(tmp_path: Path) -> None:
    export, policy = make_witnessed(tmp_path)
    report = verify_log(export, policy, Options())
    assert report.outcome is Outcome.VALID
    assert report.level is not None
    assert report.level.describe() == "witnessed by quorum one: 1 of 1 witnesses"
    assert not any("other people" in line for line in report.not_proven)


def test_without_the_quorum_that_was_asked_for_a_log_is_not_valid(tmp_path: Path) -> None:
    export, policy = make_witnessed(tmp_path)
    checkpoint = export.directory / "checkpoint"
    note = parse_note(checkpoint.read_bytes())
    checkpoint.write_bytes(format_note(replace(note, signatures=note.signatures[:1])))
    refused = verify_log(export, policy, Options())
    assert refused.outcome is Outcome.INVALID
    assert "0 of 1 witnesses" in refused.summary
    allowed = verify_log(export, policy, Options(require_quorum=False))
    assert allowed.outcome is Outcome.VALID
    assert allowed.level is not None
    assert allowed.level.name == "operator"


@pytest.mark.parametrize("as_anchor", [False, True])
def test_another_log_of_the_same_size_is_caught_and_both_heads_are_named(tmp_path: Path, as_anchor: bool) -> None:
    build_sqlite(tmp_path / "log.db", [4])
    other = tmp_path / "other"
    other.mkdir()
    fork = build_sqlite(other / "log.db", [3])
    fork.append(make_draft(99))
    fork.publish()
    seen, shown = head_of(source_of(other)), head_of(source_of(tmp_path))
    options = Options(anchor=seen.note) if as_anchor else Options(remembered=seen)
    report = verify_log(source_of(tmp_path), TRUST, options)
    assert report.outcome is Outcome.INVALID
    assert seen.root.hex() in report.summary
    assert shown.root.hex() in report.summary


def test_an_anchor_that_the_log_extends_raises_the_level(tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [4])
    anchor = log.anchor.notes[TENANT.origin]
    log.grow(9)
    report = verify_log(source_of(tmp_path), TRUST, Options(anchor=anchor))
    assert report.level is not None
    assert (report.outcome, report.level.name) == (Outcome.VALID, "anchored")


def test_entries_that_wait_are_counted_and_never_called_proven(tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [4])
    log.append(make_draft(4), make_draft(5))
    report = verify_log(source_of(tmp_path), TRUST, Options())
    assert (report.outcome, report.size, report.counts["pending"]) == (Outcome.VALID, 4, 2)
    assert "anything about entries after the first 4" in report.not_proven


def test_a_log_that_has_published_nothing_is_not_in_the_log_yet(tmp_path: Path) -> None:
    build_sqlite(tmp_path / "log.db", [])
    assert verify_log(source_of(tmp_path), TRUST, Options()).outcome is Outcome.NOT_IN_LOG


def test_deep_finds_what_was_logged_and_is_no_entry_while_hashes_alone_do_not(tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [4])
    with log.store.transaction() as tx:
        row = _row(log, 4)._replace(body=_row(log, 4).body.replace(b'"v":1', b'"v": 1'))
        tx.append_entries([row])
    log.publish()
    assert verify_log(source_of(tmp_path), TRUST, Options()).outcome is Outcome.VALID
    report = verify_log(source_of(tmp_path), TRUST, Options(deep=True))
    assert report.outcome is Outcome.INVALID
    assert "tile/entries/000.p/5: logged, but" in report.summary
    assert report.place is not None
    assert report.place.entry_index == 4


def _row(log: BuiltLog, number: int) -> EntryRow:
    assert log.count <= number
    return prepare(REGISTRY, TENANT.id, make_draft(number), entry_id=make_id(number))


@pytest.mark.parametrize("start", [1, 255, 256, 300, 10_000])
def test_a_later_start_rehashes_less_and_says_so(tmp_path: Path, start: int) -> None:
    build_sqlite(tmp_path / "log.db", [600])
    report = verify_log(source_of(tmp_path), TRUST, Options(start=start))
    assert report.outcome is Outcome.VALID
    assert report.counts["entries"] == 600 - min(start, 600) // 256 * 256
    assert any(line.startswith("entries before") for line in report.not_proven)


def test_two_processes_conclude_the_same_as_one(tmp_path: Path) -> None:
    build_sqlite(tmp_path / "log.db", [600])
    one, two = (verify_log(source_of(tmp_path), TRUST, Options(workers=n)) for n in (1, 2))
    assert one == two


@pytest.mark.parametrize("workers", [1, 2])
def test_a_size_that_was_made_up_costs_no_more_than_the_entries_there_are(tmp_path: Path, workers: int) -> None:
    build_sqlite(tmp_path / "log.db", [600])
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("DROP TRIGGER leaf_run_refuses_update")
    connection.execute("UPDATE head SET size = ?", (1 << 60,))
    far = "INSERT INTO leaf_run SELECT tenant, ?, 600, 1, substr(hashes, 87 * 32 + 1) FROM leaf_run WHERE idx = 512"
    connection.execute(far, ((1 << 60) - 1,))
    connection.execute("UPDATE leaf_run SET width = 87, hashes = substr(hashes, 1, 87 * 32) WHERE idx = 512")
    connection.commit()
    report = verify_log(source_of(tmp_path), TRUST, Options(workers=workers))
    assert (report.outcome, report.place and report.place.path) == (Outcome.INVALID, "table tile, tile/0/002")


def test_a_remembered_head_is_found_again_by_origin_and_a_smaller_one_does_not_replace_it(tmp_path: Path) -> None:
    build_sqlite(tmp_path / "log.db", [4]).grow(9)
    larger = head_of(source_of(tmp_path))
    smaller_note = format_note(
        sign_checkpoint(Checkpoint(origin=TENANT.origin, size=4, root=bytes(32)), SIGNER.key, SIGNER.sign)
    )
    smaller = replace(larger, size=4, root=bytes(32), note=smaller_note)
    file = default_state_file({"XDG_STATE_HOME": str(tmp_path / "state")})
    assert find_remembered(file, TENANT.origin) is None
    assert remember(file, smaller)
    assert remember(file, larger)
    assert not remember(file, smaller)
    assert find_remembered(file, TENANT.origin) == larger
    assert find_remembered(file, "ledger.test/other") is None


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"v":1,"heads":{"ledger.test/acme":{}}}', b'{"v":2,"heads":{}}'])
def test_a_damaged_state_file_is_never_taken_for_an_empty_one(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "heads.json"
    file.write_bytes(damage)
    with pytest.raises(StateFileError, match="damaged"):
        find_remembered(file, TENANT.origin)


def test_a_source_that_fails_halfway_could_not_be_checked(tmp_path: Path) -> None:
    build_sqlite(tmp_path / "log.db", [600])

    class Failing(DatabaseSource):
        def read_tiles(self, level: int, number: int, width: int) -> tuple[bytes, ...]:
            raise Unavailable("the network is down")

    report = verify_log(Failing(f"sqlite:///{tmp_path / 'log.db'}", TENANT.id), TRUST, Options())
    assert (report.outcome, report.place) == (Outcome.NOT_CHECKED, None)


def test_a_database_is_only_read(tmp_path: Path) -> None:
    build_sqlite(tmp_path / "log.db", [4]).store.close()
    before = (tmp_path / "log.db").read_bytes()
    shutil.copy(tmp_path / "log.db", tmp_path / "kept.db")
    assert verify_log(source_of(tmp_path), TRUST, Options(deep=True)).outcome is Outcome.VALID
    assert (tmp_path / "log.db").read_bytes() == before
