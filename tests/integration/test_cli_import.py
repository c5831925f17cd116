"""`assay import`: exactly once, whatever interrupts it; bad lines by number."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from app.ledger.entry import parse_entry
from app.settings import Settings
from app.wiring import Installation
from tests.parts.assay import TENANT, Assay, kill, wait_until

LINES = 12_000
KILLS = 8


def _record(number: int) -> dict[str, object]:
    return {
        "tx_hash": f"0x{number:064x}",
        "timestamp": 1_712_345_678 + number,
        "user_id": f"usr_{number % 97}",
        "action": "PAYMENT_PROCESSED",
        "metadata": {"amount": 1499.99, "currency": "USD", "compliance_status": "PASSED"},
    }


def _write(path: Path, records: list[object]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in records))
    return path


def _count_entries(assay: Assay) -> int:
    with closing(sqlite3.connect(f"file:{assay.state / 'assay.db'}?mode=ro", uri=True)) as connection:
        count: int = connection.execute("SELECT count(*) FROM entry").fetchone()[0]
        return count


def _read_records(assay: Assay) -> list[dict[str, object]]:
    """Return the data of every record that is stored, published or not."""
    with closing(Installation(Settings(state_dir=assay.state)).store) as store:
        pending = store.list_pending(TENANT, 0, 1_000_000).entries
    entries = [parse_entry(entry.body) for entry in pending]
    return [dict(entry.data) for entry in entries if entry.action == "record.logged"]


@pytest.fixture
def assay(tmp_path: Path) -> Assay:
    made = Assay(tmp_path)
    made.init()
    return made


@pytest.mark.slow
def test_an_import_killed_at_any_point_and_repeated_has_each_line_once(assay: Assay) -> None:
    file = _write(assay.folder / "records.jsonl", [_record(number) for number in range(LINES)])
    dice = random.Random(20)  # repeatable
    for enough in sorted(dice.sample(range(1, LINES - 2000), KILLS)):
        process = assay.start("import", str(file), "--tenant", TENANT, "--quiet")
        wait_until(lambda least=enough: _count_entries(assay) >= least, what=f"{enough} entries")
        time.sleep(dice.uniform(0, 0.05))
        kill(process.pid)
        process.communicate()
        assert _count_entries(assay) < LINES, "it was killed too late to prove anything"
    summary = json.loads(assay.run("import", str(file), "--tenant", TENANT, "--json").stdout)
    assert summary["appended"] + summary["already_there"] == LINES
    hashes = Counter(record["source_tx_hash"] for record in _read_records(assay))
    assert len(hashes) == LINES
    assert set(hashes.values()) == {1}


def test_a_repeated_import_adds_nothing_and_equal_lines_are_all_kept(assay: Assay) -> None:
    twice = _record(1)
    file = _write(assay.folder / "records.jsonl", [twice, _record(2), twice, "", twice])
    first = json.loads(assay.run("import", str(file), "--tenant", TENANT, "--json").stdout)
    assert (first["lines"], first["appended"], first["already_there"]) == (4, 4, 0)
    again = json.loads(assay.run("import", str(file), "--tenant", TENANT, "--json").stdout)
    assert (again["lines"], again["appended"], again["already_there"]) == (4, 0, 4)
    assert len(_read_records(assay)) == 4


def test_bad_lines_are_reported_by_number_and_the_good_ones_are_kept(assay: Assay) -> None:
    yen = {**_record(3), "metadata": {"amount": 10.5, "currency": "JPY", "compliance_status": "PASSED"}}
    records = [_record(1), "{not json", yen, _record(2), '{"a":1,"a":2}', "x" * 70_000, _record(4)]
    file = _write(assay.folder / "records.jsonl", records)
    done = assay.run("import", str(file), "--tenant", TENANT, code=1)
    for number in (2, 3, 5, 6):
        assert f"line {number}:" in done.stderr
    assert "3 appended" in done.stderr
    rejected = [json.loads(line) for line in (assay.folder / "records.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [found["line"] for found in rejected] == [2, 3, 5, 6]
    assert rejected[0]["text"] == "{not json"
    assert all(found["code"] and found["reason"] for found in rejected)

    corrected = _write(file, [_record(1), _record(9), *records[3:4], _record(4)])
    again = assay.run("import", str(corrected), "--tenant", TENANT)
    assert "1 appended, 3 were there already" in again.stderr
    assert not (assay.folder / "records.jsonl.rejected.jsonl").exists()


def test_amounts_are_exact_to_the_last_digit(assay: Assay) -> None:
    record = '{"timestamp":1712345678,"user_id":"usr_1","action":"PAYMENT_PROCESSED","metadata":'
    amounts = ["0.1", "0.30", "1499.99", "9999999999.99", "1.1e2"]
    lines = [f'{record}{{"amount":{text},"currency":"USD","compliance_status":"PASSED"}}}}' for text in amounts]
    assay.run("import", str(_write(assay.folder / "r.jsonl", list(lines))), "--tenant", TENANT)
    found = [entry["amount_minor"] for entry in _read_records(assay)]
    assert found == [10, 30, 149999, 999999999999, 11000]


def test_a_dry_run_checks_and_logs_nothing(assay: Assay) -> None:
    file = _write(assay.folder / "records.jsonl", [_record(1), "oops"])
    done = assay.run("import", str(file), "--tenant", TENANT, "--dry-run", code=1)
    assert "line 2:" in done.stderr
    assert "1 would be appended" in done.stderr
    assert _read_records(assay) == []


def test_another_tenant_is_refused(assay: Assay) -> None:
    file = _write(assay.folder / "records.jsonl", [_record(1)])
    done = assay.run("import", str(file), "--tenant", "nobody", code=1)
    assert "assay tenant list" in done.stderr
