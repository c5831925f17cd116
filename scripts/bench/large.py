"""Large logs for benchmarks, made by the real sequencer.

A log on SQLite takes most of a minute at 10^6 entries, so it is kept in the temporary directory, by size and schema,
and copied; PostgreSQL is filled each time, then vacuumed and analysed, as autovacuum would have done meanwhile.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from app.adapters.sql.migrate import newest_revision, upgrade
from app.ledger.ports import EntryRow
from app.ledger.publish import BATCH_LIMIT
from app.settings import Settings
from app.wiring import Installation, add_tenant, initialise
from scripts.bench.service import TENANT
from scripts.bench.verify import KEPT, make_row, vacuum


def seed_log(settings: Settings, size: int) -> None:
    """Fill the installation of `settings`, which is empty, with a published log of `size` entries."""
    if settings.embedded:
        shutil.copytree(_keep_log(size), settings.state_dir, dirs_exist_ok=True)
    else:
        _build_log(settings, size)
        vacuum(settings.database)


def make_rows(start: int, count: int) -> list[EntryRow]:
    """Return rows of 500 bytes; those of different numbers differ. Requires `start >= 1`."""
    made = map(make_row, range(start, start + count))
    return [EntryRow(tenant=TENANT, id=row.id, body=row.body, action=row.action) for row in made]


def _keep_log(size: int) -> Path:
    """Return the state folder of a log of this size; a crash while it is built leaves another folder."""
    kept = KEPT / f"log-{size}-{newest_revision()}"
    if not kept.exists():
        KEPT.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="fresh-", dir=KEPT))
        print(f"building {size:,} entries in {kept} …", flush=True)
        _build_log(Settings(state_dir=fresh), size)
        fresh.replace(kept)
    return kept


def _build_log(settings: Settings, size: int) -> None:
    upgrade(settings.database)
    initialise(settings)
    installation = Installation(settings)
    add_tenant(installation, TENANT)
    with installation.sequencer(installation.read_tenant(TENANT)) as sequencer:
        while sequencer.step():
            pass
        for start in range(sequencer.head.size, size, BATCH_LIMIT):
            with installation.store.transaction() as tx:
                tx.append_entries(make_rows(start, min(BATCH_LIMIT, size - start)))
            while sequencer.step():
                pass
        if sequencer.head.size != size:
            raise SystemExit(f"the log has {sequencer.head.size} entries, not {size}")
    installation.store.close()
