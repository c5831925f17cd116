"""The kill loop: a process that appends and publishes is killed again and again, and nothing that it promised is lost.

Used by the test beside it (short) and by `make soak` (long).
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from app.adapters.anchor_file import FileAnchor
from app.adapters.sql.store import SqlStore
from app.ledger.publish import Sequencer
from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.ledger import TENANT, Keys
from tests.simulation.victim import HALTED, NEVER_REACHED, POINTS, Order, read_journal, run

DEADLINE_S = 60.0
LIFE_S = 0.6
"""How long a victim without a point lives at most."""
MAX_VISITS = 4
AT_RANDOM = "at a random time"
DATABASE_CRASH = "the database server, then the process"


@dataclass(slots=True, kw_only=True)
class Report:
    """What the loop did and found; `losses` and the like must be 0."""

    database: str
    kills: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    acknowledged: int = 0
    published: int = 0
    signatures: int = 0
    lost: int = 0
    duplicates: int = 0
    strangers: int = 0
    inconsistent: int = 0
    repairs: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.duplicates or self.strangers or self.inconsistent or self.repairs)

    def format(self) -> str:
        """Return the report as people read it."""
        lines = [f"kill loop on {self.database}: {self.kills.total()} kills in {self.seconds:.0f} s"]
        lines += [f"  {count:4}  {point}" for point, count in sorted(self.kills.items())]
        for name in ("asked", "acknowledged", "published", "signatures"):
            lines.append(f"  {name:<34}{getattr(self, name):>8}")
        for name, words in _MUST_BE_ZERO.items():
            lines.append(f"  {words:<34}{getattr(self, name):>8}")
        return "\n".join(lines)


_MUST_BE_ZERO = {
    "lost": "acknowledged and lost",
    "duplicates": "keys with two entries",
    "strangers": "entries that nobody asked for",
    "inconsistent": "signatures off the final log",
    "repairs": "restarts that needed repair",
}


class KillLoop:
    """Kills victims on one database. `crash_database` kills the server and starts it again."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        folder: Path,
        seed: int,
        crash_database: Callable[[], None] | None = None,
    ) -> None:
        """The database is migrated and has no tenants yet."""
        self._url = url
        self._folder = folder
        self._random = random.Random(seed)
        self._crash_database = crash_database
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([run.__module__])
        self._rounds = 0
        self.report = Report(database=name)
        FileAnchor.create(folder / "anchors")
        with closing(SqlStore.open(url)) as store:
            store.add_tenant(TENANT)

    def run(self, kills: int) -> Report:
        """Kill that often: every point in turn, and as often at random times; then check everything."""
        started_s = time.monotonic()
        while self.report.kills.total() + self.report.repairs < kills:
            for point in (POINTS[self._rounds // 2 % len(POINTS)], None):
                self._kill_once(point)
        self._check()
        self.report.seconds = time.monotonic() - started_s
        return self.report

    def _kill_once(self, point: str | None) -> None:
        self._rounds += 1
        order = Order(
            url=self._url,
            folder=self._folder,
            round=self._rounds,
            point=point,
            visits=self._random.randint(1, MAX_VISITS),
            deadline_s=DEADLINE_S,
        )
        victim = self._processes.Process(target=run, args=(order,), daemon=True)
        victim.start()
        how = point or AT_RANDOM
        if point is None:
            victim.join(self._random.uniform(0.0, LIFE_S))
            if self._crash_database and self._random.random() < 0.5:
                how = DATABASE_CRASH
                self._crash_database()
                victim.join(self._random.uniform(0.0, LIFE_S))
            victim.kill()
        victim.join(DEADLINE_S + 5)
        if victim.exitcode == -signal.SIGKILL:
            self.report.kills[how] += 1
        else:
            assert victim.exitcode in {HALTED, NEVER_REACHED}, f"{how}: exit code {victim.exitcode}"
            self.report.repairs += 1
            assert victim.exitcode == HALTED, f"{point} was not reached in {DEADLINE_S} s"

    def _check(self) -> None:
        """Publish what is left, by a process that nobody kills, and compare the log with what clients were told."""
        report = self.report
        with closing(SqlStore.open(self._url)) as store:
            anchor = FileAnchor(self._folder / "anchors")
            with Sequencer(store=store, tenant=TENANT, anchor=anchor, keyring=Keys()) as sequencer:
                while sequencer.step():
                    pass
                report.published = sequencer.head.size
            bodies = store.list_bodies(TENANT.id, 0, report.published)
            checkpoints = [note for _, note in store.list_checkpoints(TENANT.id, 0, 10**6)]
            acknowledged = {key: int(seq) for key, seq in read_journal(self._folder / "acknowledged")}
            seqs = sorted(acknowledged.values())
            indexes: dict[int, int] = {}
            for start in range(0, len(seqs), 1_000):
                indexes |= store.list_positions(TENANT.id, seqs[start : start + 1_000])
        self._compare(bodies, acknowledged, indexes)
        self._compare_signatures([leaf_hash(body) for body in bodies], checkpoints)

    def _compare(self, bodies: list[bytes], acknowledged: dict[str, int], indexes: dict[int, int]) -> None:
        report = self.report
        asked = {key for [key] in read_journal(self._folder / "asked")}
        keys = [orjson.loads(body)["ref"]["order"] for body in bodies]
        report.asked, report.acknowledged = len(asked), len(acknowledged)
        report.duplicates = len(keys) - len(set(keys))
        report.strangers = len(set(keys) - asked)
        for key, seq in acknowledged.items():
            index = indexes.get(seq)
            report.lost += index is None or keys[index] != key

    def _compare_signatures(self, leaves: list[bytes], checkpoints: list[bytes]) -> None:
        """Every checkpoint ever signed, exposed or not, must be one of the final log: a prefix of it."""
        texts = {bytes.fromhex(text) for [text] in read_journal(self._folder / "signed")}
        texts |= {parse_note(note).text for note in checkpoints}
        self.report.signatures = len(texts)
        for text in texts:
            checkpoint = parse_checkpoint(text)
            fits = checkpoint.size <= len(leaves) and root_of(leaves[: checkpoint.size]) == checkpoint.root
            self.report.inconsistent += not fits
