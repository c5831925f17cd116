"""One changed byte anywhere is found: in any value of the database, any file of an export, any byte of a receipt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.ledger.verify import Outcome, verify_receipt_file
from tests.parts.tampering import TRUST, Sound, build_sound, flip, open_tampered, verify_database, verify_export

FLIPS = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Not evidence, and said so in every report: when rows were written, and fingerprints. `settled_seq` and `tenant.id`
# are the sequencer's and the reader's own bookkeeping. Integers change by one.
COLUMNS = {
    "entry": ("seq", "tenant", "id", "body", "action", "subject"),
    "entry_ref": ("tenant", "value", "seq"),
    "idempotency": ("tenant", "idem", "entry_id"),
    "leaf_run": ("tenant", "idx", "seq", "width", "hashes"),
    "tile": ("tenant", "level", "number", "data", "root", "marks"),
    "checkpoint": ("tenant", "size", "note"),
    "head": ("tenant", "size", "root", "frozen"),
    "tenant": ("origin", "state"),
}
WITHOUT_ROWID = {
    "entry_ref": "(tenant, value, seq)",
    "idempotency": "(tenant, idem)",
}
UNAUTHENTICATED_FILES = {"keys"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return build_sound(tmp_path_factory.mktemp("sound"))


def change_cell(database: Path, table: str, column: str, row: int, at: int) -> bool:
    """Change one byte, character or number of one cell; return whether there was one to change."""
    connection = open_tampered(database)
    key = WITHOUT_ROWID.get(table, "rowid")
    count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - names of our own table above
    where = f"{key} = (SELECT {key.strip('()')} FROM {table} LIMIT 1 OFFSET {row % count})"  # noqa: S608 - as above
    value = connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()[0]  # noqa: S608 - as above
    if isinstance(value, bytes) and value:
        value = flip(value, at % len(value))
    elif isinstance(value, str):
        place = at % len(value)
        value = value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]
    elif isinstance(value, int):
        value = 1 - value if column == "frozen" else value + 10_000
    else:
        connection.close()
        return False
    connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {where}", (value,))  # noqa: S608 - as above
    connection.close()
    return True


@pytest.mark.slow
@FLIPS
@given(
    cell=st.sampled_from([(table, column) for table, columns in COLUMNS.items() for column in columns]),
    row=st.integers(0, 10_000),
    at=st.integers(0, 100_000),
)
def test_one_changed_byte_of_any_row_is_found(
    sound: Sound, tmp_path: Path, cell: tuple[str, str], row: int, at: int
) -> None:
    copy = Path(shutil.copy(sound.database, tmp_path / "copy.db"))
    if change_cell(copy, *cell, row, at):
        report = verify_database(copy, sound.remembered)
        assert report.outcome is Outcome.INVALID, (cell, report.summary)
        assert report.place is not None


@pytest.mark.slow
@FLIPS
@given(file=st.integers(0, 1_000), at=st.integers(0, 1_000_000))
def test_one_changed_byte_of_any_file_of_an_export_is_found(sound: Sound, tmp_path: Path, file: int, at: int) -> None:
    files = sorted(p for p in sound.export.rglob("*") if p.is_file() and p.name not in UNAUTHENTICATED_FILES)
    chosen = files[file % len(files)]
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sound.export, copy)
    data = chosen.read_bytes()
    (copy / chosen.relative_to(sound.export)).write_bytes(flip(data, at % len(data)))
    report = verify_export(copy, sound.remembered)
    assert report.outcome is Outcome.INVALID, (chosen, report.summary)
    assert report.place is not None


def test_every_single_byte_of_a_receipt_matters(sound: Sound) -> None:
    data = sound.receipt.read_bytes()
    survived = [
        at for at in range(len(data)) if verify_receipt_file(flip(data, at), TRUST).outcome is not Outcome.INVALID
    ]
    assert survived == []


def test_every_truncation_of_a_receipt_is_found(sound: Sound) -> None:
    data = sound.receipt.read_bytes()
    assert {verify_receipt_file(data[:end], TRUST).outcome for end in range(len(data))} == {Outcome.INVALID}
