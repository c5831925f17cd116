"""Running a replay over a whole log: shared out among processes, and resumed after any interruption.

The log is cut into chunks of indexes. Each process has a store, an engine and a recall of its own; the parent adds the
tallies up in log order. What is done so far is kept in a file, replaced at once and never half written: after a kill
at any moment, the same command goes on from the last one kept, in the same signed tree.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

from app.adapters.rego import RegoEngine
from app.errors import Rejected, Unavailable
from app.ledger.canonical import canonical
from app.ledger.entry import parse_entry_id, time_of_id
from app.ledger.ports import EntryFilter, StoredEntry, Tenant
from app.ledger.verify.pool import map_ahead
from app.ledger.verify.rehash import find_id, without_cycle_search
from app.policy.bundle import Bundle, load_bundle
from app.policy.decision import EngineRef
from app.policy.record import ACTION
from app.policy.replay import Tally, parse_tally, tally
from app.settings import Settings
from app.subjects.ports import READ_BATCH
from app.wiring import Installation

CHUNK_ENTRIES: Final = 2048
"""Indexes of one task: some hundred decisions, a fraction of a second."""
TASKS_PER_WORKER: Final = 3
"""Tasks handed out ahead, so that no process waits for the slowest."""
SAVE_EVERY_S: Final = 2.0
MAX_WORKERS: Final = 64
ENGINE: Final = EngineRef(name="regorus", version=version("gordon-to-regorus"))
CANDIDATE: Final = "candidate"
"""The name of a bundle that was read from a folder."""
_OTHER_MODES: Final = (b'"mode":"shadow"', b'"mode":"replay"')

Progress = Callable[[int, int], None]
"""Called with how many entries of the log are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to replay: enforced decisions of one log with index in [start, size), logged in [since_ms, until_ms).

    `candidate`: digest of the bundle to run them with; None means each with its own. `folder`: where that bundle is, if
    the store does not have it.
    """

    settings: Settings
    tenant: Tenant
    start: int
    size: int
    since_ms: int | None = None
    until_ms: int | None = None
    candidate: str | None = None
    folder: Path | None = None

    @property
    def identity(self) -> str:
        """What makes two runs the same, however far the log has grown since the first began."""
        named = [self.tenant.origin, self.start, self.since_ms, self.until_ms, self.candidate, CHUNK_ENTRIES]
        return sha256(canonical(named)).hexdigest()


class Replayer:
    """What one process needs to run decisions again. Also for one decision alone."""

    def __init__(self, job: Job, installation: Installation) -> None:
        """Raises NotPublishedError or SignatureError if there is no such signed tree."""
        self._job = job
        self._store = installation.store
        self.recall = installation.recall(job.tenant, size=job.size)
        self.engine = RegoEngine(lambda digest: read_bundle(installation, job, digest), workers=1)

    def run(self, start: int, stop: int) -> Tally:
        """Return the tally of the decisions with index in [start, stop)."""
        result = Tally()
        with without_cycle_search():
            for page in self.pages(start, stop):
                past = self.recall.recall(page)
                result.merge(tally(self.engine, past, bundle_digest=self._job.candidate))
        return result

    def pages(self, start: int, stop: int) -> Iterator[list[StoredEntry]]:
        """Yield the decisions that the job is about, a bounded number at a time."""
        after: int | None = start
        while after is not None:
            page = self._store.list_entries(
                self._job.tenant.id, EntryFilter(action=ACTION), start=after, stop=stop, limit=READ_BATCH
            )
            yield [stored for stored in page.entries if self._is_wanted(stored)]
            after = page.next_index

    def _is_wanted(self, stored: StoredEntry) -> bool:
        """Say whether the entry is of an enforced decision of the time asked for."""
        if not is_enforced(stored):
            return False
        found = find_id(stored.body)
        time_ms = 0 if found is None else time_of_id(parse_entry_id(found))
        since_ms, until_ms = self._job.since_ms, self._job.until_ms
        return (since_ms is None or time_ms >= since_ms) and (until_ms is None or time_ms < until_ms)


def is_enforced(stored: StoredEntry) -> bool:
    """Say whether a decision's entry claims that it was acted on; one that was altered is found out later."""
    return not any(mode in stored.body for mode in _OTHER_MODES)


def read_bundle(installation: Installation, job: Job, digest: str) -> Bundle:
    """Return the bundle of this digest: the candidate's folder, or what the tenant has kept. Raises NotFound."""
    if digest == job.candidate and job.folder is not None:
        return load_bundle(job.folder, name=CANDIDATE)
    return installation.read_bundle(job.tenant.id, digest)


def find_start(installation: Installation, tenant: Tenant, size: int, since_ms: int | None) -> int:
    """Return the lowest index of an entry of `since_ms` or later; `size` if there is none."""
    after: int | None = 0
    while since_ms is not None and after is not None:
        page = installation.store.list_entries(
            tenant.id, EntryFilter(from_ms=since_ms), start=after, stop=size, limit=1
        )
        if page.entries:
            return page.entries[0].index or 0
        after = page.next_index
    return 0 if since_ms is None else size


def run_job(
    job: Job, installation: Installation, *, workers: int, state: ReplayState, progress: Progress
) -> tuple[Job, Tally]:
    """Return the tally of the whole job, and the job as it was begun: a resumed one keeps its tree.

    Raises Unavailable if a process dies; what was done until then is kept, as after any other interruption.
    """
    job, done, total = state.load(job)
    starts = range(done, job.size, CHUNK_ENTRIES)
    tasks = [(start, min(start + CHUNK_ENTRIES, job.size)) for start in starts]
    saved_s = time.monotonic()
    try:
        for (_, stop), part in zip(tasks, _run(job, installation, tasks, workers), strict=True):
            total.merge(part)
            done = stop
            progress(done - job.start, job.size - job.start)
            if time.monotonic() - saved_s >= SAVE_EVERY_S:
                state.save(job, done, total)
                saved_s = time.monotonic()
    except BrokenProcessPool as error:
        raise Unavailable("a process of the replay died; run it again: it goes on", code="worker_died") from error
    finally:
        state.save(job, done, total)
    return job, total


def _run(job: Job, installation: Installation, tasks: list[tuple[int, int]], workers: int) -> Iterator[Tally]:
    """Yield the tallies of the tasks in their order."""
    if workers <= 1 or len(tasks) <= 1:
        replayer = Replayer(job, installation)
        for start, stop in tasks:
            yield replayer.run(start, stop)
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the parent's database connections
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_open, initargs=(job,)) as pool:
        try:
            yield from map_ahead(pool, _run_here, tasks, ahead=workers * TASKS_PER_WORKER)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_here: list[Replayer] = []  # in a worker process: its own


def _open(job: Job) -> None:
    _here[:] = [Replayer(job, Installation(job.settings))]


def _run_here(task: tuple[int, int]) -> Tally:
    return _here[0].run(*task)


class ReplayState:
    """The file that keeps how far a replay is. `resumed_at` is the index where one went on, else None."""

    def __init__(self, folder: Path, *, restart: bool) -> None:
        """`folder` is made when there is something to keep; `restart` passes over what is there."""
        self._folder = folder
        self._restart = restart
        self.resumed_at: int | None = None

    def load(self, job: Job) -> tuple[Job, int, Tally]:
        """Return the job as begun, the index that comes next, and the tally until there."""
        path = self._path(job)
        if self._restart or not path.exists():
            return job, job.start, Tally()
        try:
            kept = json.loads(path.read_bytes())
            size, done, total = int(kept["size"]), int(kept["next"]), parse_tally(kept["tally"])
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise Rejected(f"{path} is no state of a replay: --restart begins anew", code="state_file") from error
        self.resumed_at = done
        return replace(job, size=size), done, total

    def save(self, job: Job, done: int, total: Tally) -> None:
        """Replace the file, so that it is the old or the new one whatever happens."""
        path = self._path(job)
        text = json.dumps({"size": job.size, "next": done, "tally": asdict(total)})
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.tmp")
            with draft.open("w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            draft.replace(path)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written ({error.strerror})", code="state_file") from error

    def drop(self, job: Job) -> None:
        """Forget a replay whose report was delivered."""
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: Job) -> Path:
        return self._folder / f"{job.identity[:32]}.json"
