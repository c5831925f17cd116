"""Group commit: entries that belong to no other change share one transaction.

Requests hand in rows and wait; one thread commits all that wait, at once and without delay. A database commit costs
about as much for a hundred rows as for one, so this is what carries a flash sale.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import Unavailable
from app.ledger.ports import AppendResult, EntryRow, LedgerStore
from app.ledger.wait import Position, PublicationWatch, Waiter

QUEUE_LIMIT = 4096
"""Requests that may wait for a commit; one more is answered 503."""
QUEUE_LIMIT_ROWS = 65_536
"""Rows that may wait for a commit: batches count by their rows. One request is always taken."""
GROUP_LIMIT_ROWS = 4096
"""Rows in one transaction, or those of one request if it has more."""

LINGER_S = 0.008
"""How long a group waits for as many callers as the last one had, in seconds. Who is alone never waits."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Rows to commit, who waits for that, and who waits for their publication, if anybody."""

    rows: Sequence[EntryRow]
    committed: Waiter[list[AppendResult]]
    published: Waiter[Position] | None = None


class GroupCommit:
    """Commits rows of many callers together; `append` may be called from any thread."""

    def __init__(self, store: LedgerStore, watch: PublicationWatch) -> None:
        """Start the committing thread."""
        self._store = store
        self._watch = watch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._waiting_rows = 0
        self._crowd = 1
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def append(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Return the results of `rows` once they are durable: all of them, or none and an error.

        Raises Unavailable when the queue is full, the store is, or the process is stopping.
        """
        job = _Job(rows, Waiter())
        self._hand_in(job)
        return job.committed.wait() or []

    def append_and_wait(self, row: EntryRow, *, timeout_s: float) -> tuple[AppendResult, Position | None]:
        """Return the result of `row`, durable, and where it was published; None for that after `timeout_s`.

        The waiting thread is woken once, by the publication: the commit before it wakes nobody.
        """
        self._watch.require_room()
        published: Waiter[Position] = Waiter()
        job = _Job((row,), Waiter(), published)
        self._hand_in(job)
        position = published.wait(timeout_s)
        result = (job.committed.wait() or [])[0]
        if position is None and not self._watch.forget(row.tenant, result.seq, published):
            position = published.wait()
        return result, position

    def _hand_in(self, job: _Job) -> None:
        with self._closing:
            if self._closed:
                raise Unavailable("the service is stopping", code="stopping")
            waiting = self._waiting_rows
            if self._jobs.qsize() >= QUEUE_LIMIT or (waiting and waiting + len(job.rows) > QUEUE_LIMIT_ROWS):
                raise Unavailable("too many entries are waiting to be written", code="overloaded")
            self._waiting_rows += len(job.rows)
            self._jobs.put(job)

    def close(self) -> None:
        """Commit what was handed in, then stop."""
        with self._closing:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._take_group()
            with self._closing:
                self._waiting_rows -= sum(len(job.rows) for job in group)
            if group:
                self._commit(group)

    def _take_group(self) -> tuple[list[_Job], bool]:
        """Return all that waits, at least one job unless stopping, up to `GROUP_LIMIT_ROWS` rows.

        Callers come in bursts, woken together by a publication: the first of a burst waits a moment for as many as
        came last time, and they cost one commit instead of three.
        """
        job = self._jobs.get()
        deadline_s = time.monotonic() + LINGER_S
        group: list[_Job] = []
        rows = 0
        while job is not None:
            group.append(job)
            rows += len(job.rows)
            if rows >= GROUP_LIMIT_ROWS:
                break
            try:
                wait_s = deadline_s - time.monotonic() if len(group) < self._crowd else 0.0
                job = self._jobs.get(timeout=wait_s) if wait_s > 0 else self._jobs.get_nowait()
            except queue.Empty:
                break
        self._crowd = len(group)
        return group, job is None

    def _commit(self, group: list[_Job]) -> None:
        """Commit the group in one transaction; one caller's bad row must not fail the others.

        If the store is away, or the commit itself fails and may have happened, all are told so. If rows are refused,
        the halves are tried apart, down to the caller at fault.
        """
        expected: list[tuple[_Job, AppendResult]] = []
        results: list[AppendResult] = []
        try:
            with self._store.transaction() as tx:
                results = tx.append_entries([row for job in group for row in job.rows])
                self._expect(group, results, expected)
        except Exception as error:  # noqa: BLE001 -- every waiting caller must be answered, whatever happens
            for job, result in expected:
                self._watch.forget(job.rows[0].tenant, result.seq, job.published or Waiter())
            if isinstance(error, Unavailable) or results or len(group) == 1:
                for job in group:
                    _fail(job, error)
                return
            middle = len(group) // 2
            self._commit(group[:middle])
            self._commit(group[middle:])
            return
        for job, result in expected:
            if result.replayed:
                self._watch.nudge(job.rows[0].tenant)
        start = 0
        for job in group:
            job.committed.give(results[start : start + len(job.rows)])
            start += len(job.rows)

    def _expect(
        self, group: list[_Job], results: Sequence[AppendResult], expected: list[tuple[_Job, AppendResult]]
    ) -> None:
        """Have the watch answer those who wait for publication, before the commit makes a publication possible."""
        start = 0
        for job in group:
            if job.published is not None:
                self._watch.expect(job.rows[0].tenant, results[start].seq, job.published)
                expected.append((job, results[start]))
            start += len(job.rows)


def _fail(job: _Job, error: Exception) -> None:
    job.committed.fail(error)
    if job.published is not None:
        job.published.fail(error)
