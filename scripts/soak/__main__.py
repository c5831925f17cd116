"""The long runs (`make soak`): kill -9 at every step, on SQLite and on PostgreSQL, and of PostgreSQL itself.

Prints a report; exit code 1 if anything acknowledged was lost, doubled or signed inconsistently.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the tests are no installed package

from app.adapters.sql.migrate import upgrade
from tests.fakes.ledger_stores import sqlite_url
from tests.parts.postgres import PostgresMissing, running_postgres
from tests.simulation.kill_loop import KillLoop, Report

KILLS = 240
"""For each database."""


def soak_sqlite(kills: int, seed: int) -> Report:
    with tempfile.TemporaryDirectory(prefix="assay-soak-") as folder:
        place = Path(folder)
        return KillLoop(name="SQLite", url=sqlite_url(place), folder=place, seed=seed).run(kills)


def soak_postgres(kills: int, seed: int) -> Report:
    with tempfile.TemporaryDirectory(prefix="assay-soak-") as folder, running_postgres() as server:

        def crash() -> None:
            server.crash()
            server.start()

        url = server.create_database(upgrade)
        return KillLoop(name="PostgreSQL", url=url, folder=Path(folder), seed=seed, crash_database=crash).run(kills)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=KILLS, help="kills for each database (%(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the random times")
    asked = parser.parse_args()
    print(f"soak: {asked.kills} kills for each database, --seed {asked.seed}", flush=True)
    clean = True
    for soak in (soak_sqlite, soak_postgres):
        try:
            report = soak(asked.kills, asked.seed)
        except PostgresMissing as error:
            print(f"MISSING PART, not run: {error}")
            clean = False
            continue
        print(report.format(), flush=True)
        clean = clean and report.is_clean
    print("clean" if clean else "NOT CLEAN")
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
