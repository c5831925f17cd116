"""Group commit: entries that belong to no other change share one transaction.

Requests hand in rows; one thread commits all that wait, and tells whoever handed them in. A database commit costs
about as much for a hundred rows as for one, so this is what carries a flash sale. A row may bring what is kept beside
the log, and commits with it; what that is, only `keep` knows. A batch gains nothing from a group: it is committed by
itself, while the group's thread and another batch wait for the disk.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from app.errors import Unavailable
from app.ledger.ports import AppendResult, EntryRow, EntryWriter, LedgerStore
from app.ledger.wait import Done, Position, PublicationWatch, Waiter

QUEUE_LIMIT = 4096
"""Requests that may wait for a commit; one more is answered 503."""
QUEUE_LIMIT_ROWS = 65_536
"""Rows that may wait for a commit, batches by their rows, what is kept by its weight. One request is always taken."""
GROUP_LIMIT_ROWS = 4096
"""Rows in one transaction, or those of one request if it has more."""

BATCH_ROWS = 256
"""From so many rows on a request is committed by itself."""
BATCHES_AT_ONCE = 2
"""One more waits, in its order."""

LINGER_S = 0.008
"""How long a group waits for as many callers as the last one had, in seconds. Who is alone never waits."""


Written = tuple[AppendResult, Position | None]
"""A durable entry, and where it was published; None for that if it took too long."""


class Kept(Protocol):
    """What is kept beside the log with one entry."""

    @property
    def weight(self) -> int:
        """How many rows it counts for."""
        ...


Keep = Callable[[Any, Sequence[Any]], None]
"""Write these `Kept` in an open transaction of the store: those of new entries alone, after them."""


class _Awaited:
    """Who waits for the publication of one row. It expires only once the row is durable: before, nothing is known."""

    __slots__ = ("_done", "_timeout_at_s", "expires_s", "result")

    def __init__(self, done: Done[Written], timeout_s: float) -> None:
        self._done = done
        self._timeout_at_s = time.monotonic() + timeout_s
        self.expires_s = math.inf
        self.result: AppendResult | None = None

    def expect(self, result: AppendResult) -> None:
        """Take the result that counts if the commit does: a publication tells that it did."""
        self.result = result

    def give(self, position: Position | None) -> None:
        assert self.result is not None  # noqa: S101 -- the watch knows us since `expect`
        self._done.give((self.result, position))

    def committed(self) -> None:
        self.expires_s = self._timeout_at_s

    def fail(self, error: BaseException) -> None:
        self._done.fail(error)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Rows to commit, and who is told of it: of the commit, or of the publication of the one row.

    `kept` goes with the one row.
    """

    rows: Sequence[EntryRow]
    committed: Done[list[AppendResult]] | None = None
    published: _Awaited | None = None
    kept: Kept | None = None

    @property
    def weight(self) -> int:
        """How many rows it counts for."""
        return len(self.rows) + (self.kept.weight if self.kept else 0)

    def fail(self, error: Exception) -> None:
        """Tell who waits; nobody else tells it anything."""
        for done in (self.committed, self.published):
            if done is not None:
                done.fail(error)


class GroupCommit:
    """Commits rows of many callers together; may be called from any thread."""

    def __init__(self, store: LedgerStore, watch: PublicationWatch, *, keep: Keep | None = None) -> None:
        """Start the committing thread. Without `keep` nothing may be kept."""
        self._store = store
        self._keep = keep
        self._watch = watch
        self._jobs: deque[_Job] = deque()
        self._waiting_rows = 0
        self._closed = False
        self._changing = threading.Lock()
        self._crowd = 1
        self._awaited: float = math.inf
        self._enough = threading.Lock()
        self._enough.acquire()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()
        self._batches = ThreadPoolExecutor(BATCHES_AT_ONCE, "batch-commit")

    def append(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Return the results of `rows` once they are durable: all of them, or none and an error.

        Raises Unavailable when the queue is full, the store is, or the process is stopping.
        """
        waiter: Waiter[list[AppendResult]] = Waiter()
        self.append_then(rows, waiter)
        return waiter.wait()

    def append_and_wait(self, row: EntryRow, *, timeout_s: float) -> Written:
        """Return the result of `row`, durable, and where it was published; None for that after `timeout_s`."""
        waiter: Waiter[Written] = Waiter()
        self.publish_then(row, waiter, timeout_s=timeout_s)
        return waiter.wait()

    def append_then(
        self, rows: Sequence[EntryRow], done: Done[list[AppendResult]], *, kept: Kept | None = None
    ) -> None:
        """Tell `done` what `append` returns, without waiting. Raises Unavailable, and then tells it nothing.

        `kept` goes with a single row.
        """
        self._hand_in(_Job(rows, committed=done, kept=kept))

    def publish_then(self, row: EntryRow, done: Done[Written], *, timeout_s: float, kept: Kept | None = None) -> None:
        """Tell `done` what `append_and_wait` returns, without waiting. Raises Unavailable, and then tells it nothing.

        It is told once, by the publication: the commit before it tells nobody.
        """
        self._watch.require_room()
        self._hand_in(_Job((row,), published=_Awaited(done, timeout_s), kept=kept))

    def _hand_in(self, job: _Job) -> None:
        with self._changing:
            if self._closed:
                raise Unavailable("the service is stopping", code="stopping")
            waiting = self._waiting_rows
            if len(self._jobs) >= QUEUE_LIMIT or (waiting and waiting + job.weight > QUEUE_LIMIT_ROWS):
                raise Unavailable("too many entries are waiting to be written", code="overloaded")
            self._waiting_rows += job.weight
            if len(job.rows) >= BATCH_ROWS:
                self._batches.submit(self._commit_batch, job)
                return
            self._jobs.append(job)
            if len(self._jobs) >= self._awaited:
                self._wake()

    def close(self) -> None:
        """Commit what was handed in, then stop."""
        with self._changing:
            self._closed = True
            if self._awaited < math.inf:
                self._wake()
        self._thread.join()
        self._batches.shutdown()

    def _wake(self) -> None:
        """Wake the committing thread, which waits for this: once, whatever comes in until it waits again."""
        self._awaited = math.inf
        self._enough.release()

    def _wait_for(self, number: int, timeout_s: float) -> None:
        """Return when so many jobs wait or we are closed, or after `timeout_s`; nobody wakes us for fewer."""
        with self._changing:
            if self._closed or len(self._jobs) >= number:
                return
            self._awaited = number
        if self._enough.acquire(timeout=timeout_s):
            return
        with self._changing:
            if self._awaited == math.inf:  # somebody woke us just now
                self._enough.acquire()
            self._awaited = math.inf

    def _run(self) -> None:
        while group := self._take_group():
            self._commit(group)

    def _commit_batch(self, job: _Job) -> None:
        with self._changing:
            self._waiting_rows -= job.weight
        self._commit([job])

    def _take_group(self) -> list[_Job]:
        """Return all that waits, up to `GROUP_LIMIT_ROWS` rows: at least one job, none when all is done.

        Callers come in bursts, woken together by a publication: the first of a burst waits a moment for as many as
        there were last time, and they cost one commit instead of three. Who waits for a publication will not come.
        """
        self._wait_for(1, threading.TIMEOUT_MAX)
        if self._waiting_rows < GROUP_LIMIT_ROWS:
            self._wait_for(self._crowd - self._watch.waiting, LINGER_S)
        group: list[_Job] = []
        rows = 0
        with self._changing:
            while self._jobs and rows < GROUP_LIMIT_ROWS:
                group.append(self._jobs.popleft())
                rows += group[-1].weight
            self._waiting_rows -= rows
        self._crowd = len(group) + self._watch.waiting
        return group

    def _commit(self, group: list[_Job]) -> None:
        """Commit the group in one transaction; one caller's bad row must not fail the others.

        If the store is away, or the commit itself fails and may have happened, all are told so. If rows are refused,
        the halves are tried apart, down to the caller at fault.
        """
        expected: list[tuple[str, _Awaited, AppendResult]] = []
        done: list[tuple[_Job, list[AppendResult]]] = []
        try:
            alone = not any(job.kept for job in group)
            with self._store.appending() if alone else self._store.transaction() as tx:
                results = tx.append_entries([row for job in group for row in job.rows])
                appended = _share_out(group, results)
                self._keep_all(tx, appended)
                done = appended  # nothing is refused from here on
                self._expect(done, expected)
        except Exception as error:  # noqa: BLE001 -- every waiting caller must be answered, whatever happens
            answered = {id(who) for tenant, who, result in expected if not self._watch.forget(tenant, result.seq, who)}
            if isinstance(error, Unavailable) or done or len(group) == 1:
                for job in group:
                    if id(job.published) not in answered:  # it was published, so the commit took place
                        job.fail(error)
                return
            middle = len(group) // 2
            self._commit(group[:middle])
            self._commit(group[middle:])
            return
        for tenant, awaited, result in expected:
            awaited.committed()
            if result.replayed:
                self._watch.nudge(tenant)
        for job, own in done:
            if job.committed is not None:
                job.committed.give(own)

    def _keep_all(self, tx: EntryWriter, appended: Sequence[tuple[_Job, list[AppendResult]]]) -> None:
        """Write what comes with new entries; of a replayed one, the earlier request kept its own."""
        kept = [job.kept for job, own in appended if job.kept is not None and not own[0].replayed]
        if kept:
            assert self._keep is not None  # noqa: S101 -- who hands it in has wired it
            self._keep(tx, kept)

    def _expect(
        self,
        appended: Sequence[tuple[_Job, list[AppendResult]]],
        expected: list[tuple[str, _Awaited, AppendResult]],
    ) -> None:
        """Have the watch answer those who wait for publication, before the commit makes a publication possible."""
        for job, own in appended:
            if job.published is not None:
                tenant, result = job.rows[0].tenant, own[0]
                job.published.expect(result)
                self._watch.expect(tenant, result.seq, job.published)
                expected.append((tenant, job.published, result))


def _share_out(group: Sequence[_Job], results: list[AppendResult]) -> list[tuple[_Job, list[AppendResult]]]:
    """Return each job with the results of its own rows."""
    shares, start = [], 0
    for job in group:
        stop = start + len(job.rows)
        shares.append((job, results[start:stop]))
        start = stop
    return shares
