"""Waiting for publication: a write with `Prefer: wait` answers when its entry is under a checkpoint."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import AssayError, Unavailable
from app.ledger.ports import LedgerStore
from app.ledger.prove import Prover, Published

WAITERS_LIMIT = 4096
"""Requests that may wait in one process; one more is answered 503."""
POLL_S = 1.0
"""How often waiters are looked at even if no wake-up arrives, in seconds."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Position:
    """Where an entry stands, and the exposed checkpoint that covers it."""

    index: int
    published: Published


class Waiter(Generic[Answer]):
    """One answer that one thread waits for and another gives; a second one, after an unclear commit, changes nothing.

    A lock and two fields: every write waits for two of these, and a Future costs ten times as much.
    """

    __slots__ = ("_answer", "_error", "_given")

    def __init__(self) -> None:
        """Nothing is given yet."""
        self._given = threading.Lock()
        self._given.acquire()
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def give(self, answer: Answer) -> None:
        """Answer the one who waits."""
        self._answer = answer
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Let the one who waits raise `error`."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # it was answered before, and nobody has looked yet
            self._given.release()

    def wait(self, timeout_s: float = -1) -> Answer | None:
        """Return the answer, or None after `timeout_s` (never, if it is negative). For one thread, once answered."""
        if not self._given.acquire(timeout=timeout_s):
            return None
        if self._error is not None:
            raise self._error
        return self._answer


class PublicationWatch:
    """Answers every waiter of a process with one query per publication. Safe for threads."""

    def __init__(self, store: LedgerStore, prover: Prover) -> None:
        """Start the two threads: one hears of publications, one answers waiters."""
        self._store = store
        self._prover = prover
        self._lock = threading.Lock()
        self._waiters: dict[str, dict[int, list[Waiter[Position]]]] = defaultdict(dict)
        self._waiting = 0
        self._nudges: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        for run in (self._listen, self._answer):
            threading.Thread(target=run, name=f"publication-{run.__name__}", daemon=True).start()

    def require_room(self) -> None:
        """Raise Unavailable if as many wait as may."""
        if self._waiting >= WAITERS_LIMIT:
            raise Unavailable("too many requests are waiting for publication", code="overloaded")

    def expect(self, tenant: str, seq: int, waiter: Waiter[Position]) -> None:
        """Answer `waiter` when entry `seq` is published.

        Called before the entry is committed, so that no publication of it can be missed. Several may wait for one
        entry: the replays of one idempotency key.
        """
        with self._lock:
            self._waiting += 1
            self._waiters[tenant].setdefault(seq, []).append(waiter)

    def nudge(self, tenant: str) -> None:
        """Look at once: somebody waits for an entry that may be published already."""
        self._nudges.put(tenant)

    def forget(self, tenant: str, seq: int, waiter: Waiter[Position]) -> bool:
        """Take the waiter off the list; False if it is not on it, because its answer is on the way."""
        with self._lock:
            waiters = self._waiters[tenant].get(seq, [])
            if waiter not in waiters:
                return False
            self._waiting -= 1
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[tenant][seq]
            return True

    def wait(self, tenant: str, seq: int, *, timeout_s: float) -> Position | None:
        """Return where the committed entry `seq` stands once it is published, or None after `timeout_s`.

        None at once if as many wait as may: what is committed stands, and its receipt is fetched later.
        """
        if self._waiting >= WAITERS_LIMIT:
            return None
        waiter: Waiter[Position] = Waiter()
        self.expect(tenant, seq, waiter)
        self.nudge(tenant)
        position = waiter.wait(timeout_s)
        if position is None and not self.forget(tenant, seq, waiter):
            return waiter.wait()
        return position

    def wait_for_all(self, tenant: str, seqs: Sequence[int], *, timeout_s: float) -> dict[int, int]:
        """Return {seq: index} of those of the committed entries that are published, at the latest after `timeout_s`.

        Entries of one transaction are published in their order, so the last one is waited for.
        """
        if not seqs:
            return {}
        self.wait(tenant, max(seqs), timeout_s=timeout_s)
        note, found = self._store.list_published(tenant, seqs)
        if note is None:
            return {}
        size = self._prover.open_published(tenant, note).size
        return {seq: index for seq, index in found.items() if index < size}

    def close(self) -> None:
        """Stop the threads; waiters run into their timeouts."""
        self._closed.set()
        self._nudges.put(None)

    def _listen(self) -> None:
        for tenant in self._store.publications(POLL_S):
            if self._closed.is_set():
                return
            with self._lock:
                tenants = [tenant] if tenant else [name for name, waiters in self._waiters.items() if waiters]
            for name in tenants:
                self.nudge(name)

    def _answer(self) -> None:
        while (first := self._nudges.get()) is not None:
            tenants = {first}
            while not self._nudges.empty():
                tenant = self._nudges.get()
                if tenant is None:
                    return
                tenants.add(tenant)
            for tenant in tenants:
                try:
                    self._answer_tenant(tenant)
                except AssayError:
                    continue  # the store is away: the listener's next poll nudges again, and waits are bounded

    def _answer_tenant(self, tenant: str) -> None:
        with self._lock:
            seqs = list(self._waiters[tenant])
        if not seqs:
            return
        note, found = self._store.list_published(tenant, seqs)
        if note is None:
            return
        published = self._prover.open_published(tenant, note)
        done: list[tuple[Waiter[Position], int]] = []
        with self._lock:
            for seq, index in found.items():
                if index < published.size:
                    done += [(waiter, index) for waiter in self._waiters[tenant].pop(seq, ())]
            self._waiting -= len(done)
        for waiter, index in done:
            waiter.give(Position(index, published))
