"""kill -9 at every step boundary and at random times, with real processes on real databases."""

from __future__ import annotations

import pytest

from app.adapters.sql.migrate import upgrade
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from tests.fakes.ledger import TENANT, append_rows, make_row
from tests.fakes.ledger_stores import opened, sqlite_url
from tests.parts.postgres import running_postgres
from tests.simulation.kill_loop import AT_RANDOM, DATABASE_CRASH, KillLoop
from tests.simulation.victim import POINTS

KILLS = 2 * len(POINTS)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9_on_sqlite(tmp_path) -> None:
    report = KillLoop(name="SQLite", url=sqlite_url(tmp_path), folder=tmp_path, seed=1).run(KILLS)
    print(report.format())  # noqa: T201 -- pytest shows it with -s, and when the test fails
    assert report.is_clean
    assert report.kills.keys() == {*POINTS, AT_RANDOM}
    assert report.acknowledged


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9_on_postgresql_and_of_it(tmp_path, postgres_bin) -> None:
    with running_postgres(bin_dir=postgres_bin) as server:

        def crash() -> None:
            server.crash()
            server.start()

        url = server.create_database(upgrade)
        report = KillLoop(name="PostgreSQL", url=url, folder=tmp_path, seed=1, crash_database=crash).run(KILLS)
    print(report.format())  # noqa: T201 -- pytest shows it with -s, and when the test fails
    assert report.is_clean
    assert report.kills.keys() == {*POINTS, AT_RANDOM, DATABASE_CRASH}
    assert report.acknowledged


@pytest.mark.slow
def test_the_report_tells_what_is_lost_doubled_strange_or_signed_off_the_log(tmp_path) -> None:
    url = sqlite_url(tmp_path)
    loop = KillLoop(name="SQLite", url=url, folder=tmp_path, seed=1)
    assert loop.run(2).is_clean
    with opened(url) as store:
        append_rows(store, [make_row(number, ref={"order": "stranger"}) for number in (1, 2)])
    off = Checkpoint(origin=TENANT.origin, size=1, root=bytes(32))
    with (tmp_path / "acknowledged").open("a") as acknowledged, (tmp_path / "signed").open("a") as signed:
        acknowledged.write("never.1 999999\n")
        signed.write(f"{format_checkpoint(off).hex()}\n")
    loop._check()
    report = loop.report
    assert (report.lost, report.duplicates, report.strangers, report.inconsistent) == (1, 1, 1, 1)
    assert not report.is_clean
