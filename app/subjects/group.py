"""Group decisions: cases of newcomers that wait are decided together, and committed together.

A request hands its case in and holds no thread; a thread asks the engine for all that wait, and hands what puts each
answer on the log to the group commit. Asking for many costs few wake-ups of few processes, as committing many does.
"""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from app.errors import AssayError, Unavailable
from app.ledger.group import GroupCommit
from app.ledger.ports import EntryRow
from app.ledger.wait import Done, Position
from app.policy.decision import BundleRef, Decision
from app.subjects.decider import Case, Decider, Ready

LANES: Final = 2
"""Threads that decide: cases whose rules are slow hold up one of them."""
CASES_LIMIT: Final = 64
"""Cases decided together."""
QUEUE_LIMIT: Final = 1024
"""Cases that may wait to be decided; one more is answered 503."""


class Logged(NamedTuple):
    """A decision that is on the log, its entry, and where that was published; None if not waited for, or too long."""

    decision: Decision
    row: EntryRow
    position: Position | None


class _Case(NamedTuple):
    case: Case
    done: Done[Logged]
    wait_s: float | None


class GroupDecide:
    """Decides cases of many callers together; may be called from any thread."""

    def __init__(self, decider: Decider, *, find_bundle: Callable[[str], BundleRef], commit: GroupCommit) -> None:
        """`find_bundle` returns what is in force for a tenant, or raises. The threads start with the first case."""
        self._decider = decider
        self._find_bundle = find_bundle
        self._commit = commit
        self._waiting: queue.Queue[_Case] = queue.Queue(QUEUE_LIMIT)
        self._lanes: list[threading.Thread] = []
        self._starting = threading.Lock()

    def decide_then(self, case: Case, done: Done[Logged], *, wait_s: float | None = None) -> None:
        """Tell `done` the decision once it is on the log; with `wait_s` once it is published, or not in time.

        `case.subject` is a new, random id. Raises Unavailable when too many wait, and then tells it nothing.
        """
        if len(self._lanes) < LANES:
            self._start()
        try:
            self._waiting.put_nowait(_Case(case, done, wait_s))
        except queue.Full:
            raise Unavailable("too many cases are waiting to be decided", code="overloaded") from None

    def _start(self) -> None:
        with self._starting:
            while len(self._lanes) < LANES:
                lane = threading.Thread(target=self._run, name="group-decide", daemon=True)
                lane.start()
                self._lanes.append(lane)

    def _run(self) -> None:
        while True:
            by_bundle: defaultdict[str, list[_Case]] = defaultdict(list)
            bundles: dict[str, BundleRef] = {}
            for waiting in self._take():
                try:
                    bundle = self._find_bundle(waiting.case.tenant)
                except Exception as error:  # noqa: BLE001 -- every waiting caller must be answered, whatever happens
                    waiting.done.fail(error)
                else:
                    bundles[bundle.digest] = bundle
                    by_bundle[bundle.digest].append(waiting)
            for digest, cases in by_bundle.items():
                self._decide(cases, bundles[digest])

    def _take(self) -> list[_Case]:
        """Return the cases that wait, at least one."""
        cases = [self._waiting.get()]
        while len(cases) < CASES_LIMIT:
            try:
                cases.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return cases

    def _decide(self, cases: list[_Case], bundle: BundleRef) -> None:
        try:
            found = self._decider.prepare([waiting.case for waiting in cases], bundle=bundle)
        except Exception as error:  # noqa: BLE001 -- as above
            for waiting in cases:
                waiting.done.fail(error)
            return
        for waiting, ready in zip(cases, found, strict=True):
            if isinstance(ready, AssayError):
                waiting.done.fail(ready)
            else:
                self._log(waiting, ready)

    def _log(self, waiting: _Case, ready: Ready) -> None:
        logging = _Logging(ready, waiting.done)
        try:
            if waiting.wait_s is None:
                self._commit.append_then((ready.row,), logging, kept=ready.newcomer)
            else:
                self._commit.publish_then(ready.row, logging, timeout_s=waiting.wait_s, kept=ready.newcomer)
        except Exception as error:  # noqa: BLE001 -- as above
            waiting.done.fail(error)


class _Logging:
    """Passes on what became of one decision: whoever waits is told the decision too."""

    __slots__ = ("_done", "_ready")

    def __init__(self, ready: Ready, done: Done[Logged]) -> None:
        self._ready = ready
        self._done = done

    def give(self, outcome: Any) -> None:
        """Take the results of a commit, or what was written and published."""
        position = outcome[1] if isinstance(outcome, tuple) else None
        self._done.give(Logged(self._ready.decision, self._ready.row, position))

    def fail(self, error: BaseException) -> None:
        """Take the error."""
        self._done.fail(error)
