"""Waiting for publication: a write with `Prefer: wait` answers when its entry is under a checkpoint.

Who waits need not be a thread: the watch tells whoever has `give`, by its own thread.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from app.errors import AssayError, Rejected, Unavailable
from app.ledger.ports import Exposed, Heard, LedgerStore, Placed
from app.ledger.prove import Prepared, Prover, Published

log = logging.getLogger("assay.wait")

WAITERS_LIMIT = 4096
"""Requests that may wait in one process; one more is answered 503."""
POLL_S = 1.0
"""How often waiters are looked at even if no wake-up arrives, in seconds."""
EXPIRE_EVERY_S = 0.1
"""How often it is looked for those who have waited long enough, in seconds."""

Answer = TypeVar("Answer")
Told_contra = TypeVar("Told_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Position:
    """Where an entry stands, and the exposed checkpoint that covers it."""

    index: int
    published: Published


class Done(Protocol[Told_contra]):
    """Whoever is told how something ended: once, by any thread, and neither call may raise or wait."""

    def give(self, answer: Told_contra) -> None:
        """Take the answer."""
        ...

    def fail(self, error: BaseException) -> None:
        """Take the error in place of an answer."""
        ...


class Awaiting(Protocol):
    """Whoever waits for the publication of an entry."""

    expires_s: float
    """When it has waited long enough, by the monotonic clock."""

    def give(self, position: Position | None) -> None:
        """Take the position, or None when it has waited long enough. Called once; must not raise."""
        ...


class Waiter(Generic[Answer]):
    """One answer that one thread waits for and another gives.

    A lock and two fields: a Future costs ten times as much.
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
        self._given.release()

    def fail(self, error: BaseException) -> None:
        """Let the one who waits raise `error`."""
        self._error = error
        self._given.release()

    def wait(self) -> Answer:
        """Return the answer, or raise the error, once it is given."""
        self._given.acquire()
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]  # given, or there is an error


class _Told:
    """Somebody who is told, and need not be a thread."""

    __slots__ = ("_done", "expires_s")

    def __init__(self, done: Done[Position | None], expires_s: float) -> None:
        self._done = done
        self.expires_s = expires_s

    def give(self, position: Position | None) -> None:
        self._done.give(position)


class PublicationWatch:
    """Answers every waiter of a process, with one query a publication at most. Safe for threads."""

    def __init__(self, store: LedgerStore, prover: Prover) -> None:
        """Start the two threads: one hears of publications, one answers waiters."""
        self._store = store
        self._prover = prover
        self._lock = threading.Lock()
        self._waiters: dict[str, dict[int, list[Awaiting]]] = defaultdict(dict)
        self._waiting = 0
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._placed: dict[str, tuple[Placed, Prepared]] = {}
        self._closed = threading.Event()
        self._wanted = threading.Event()
        for run in (self._listen, self._answer):
            threading.Thread(target=run, name=f"publication-{run.__name__}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many wait for a publication."""
        return self._waiting

    def require_room(self) -> None:
        """Raise Unavailable if as many wait as may."""
        if self._waiting >= WAITERS_LIMIT:
            raise Unavailable("too many requests are waiting for publication", code="overloaded")

    def expect(self, tenant: str, seq: int, waiter: Awaiting) -> None:
        """Answer `waiter` when entry `seq` is published, or with None when it has waited long enough.

        Called before the entry is committed, so that no publication of it can be missed. Several may wait for one
        entry: the replays of one idempotency key.
        """
        with self._lock:
            self._waiting += 1
            self._waiters[tenant].setdefault(seq, []).append(waiter)
        if not self._wanted.is_set():
            self._wanted.set()

    def nudge(self, tenant: str) -> None:
        """Look at once: somebody waits for an entry that may be published already."""
        self._heard.put(Exposed(tenant))

    def forget(self, tenant: str, seq: int, waiter: Awaiting) -> bool:
        """Take the waiter off the list; False if it is not on it, because its answer is on the way."""
        with self._lock:
            return self._take_off(tenant, seq, waiter)

    def _take_off(self, tenant: str, seq: int, waiter: Awaiting) -> bool:
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
        waiter: Waiter[Position | None] = Waiter()
        self.wait_then(tenant, seq, waiter, timeout_s=timeout_s)
        return waiter.wait()

    def wait_then(self, tenant: str, seq: int, done: Done[Position | None], *, timeout_s: float) -> None:
        """Tell `done` what `wait` returns, without waiting."""
        if self._waiting >= WAITERS_LIMIT:
            done.give(None)
            return
        self.expect(tenant, seq, _Told(done, time.monotonic() + timeout_s))
        self.nudge(tenant)

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
        """Stop the threads; whoever waits is told that it has waited long enough."""
        self._closed.set()
        self._wanted.set()
        self._heard.put(None)

    def _listen(self) -> None:
        for heard in self._store.publications(POLL_S):
            if self._closed.is_set():
                return
            if heard is not None:
                self._heard.put(heard)
            else:
                with self._lock:
                    tenants = [name for name, waiters in self._waiters.items() if waiters]
                for name in tenants:
                    self.nudge(name)
            self._rest()

    def _rest(self) -> None:
        """Hear nothing for a while if nobody waits; to hear of each publication costs, and on SQLite to look for it."""
        self._wanted.clear()
        if not self._waiting:
            self._wanted.wait(POLL_S)

    def _answer(self) -> None:
        expire_at_s = 0.0
        while not self._closed.is_set():
            for heard in self._take_heard():
                try:
                    if isinstance(heard, Placed):
                        self._prepare(heard)
                    else:
                        self._answer_tenant(heard)
                except AssayError:
                    continue  # the store is away: the listener's next poll nudges again, and waits are bounded
                except Exception:
                    log.exception("waiters of %s are not answered", heard.tenant)
            if (now_s := time.monotonic()) >= expire_at_s:
                expire_at_s = now_s + EXPIRE_EVERY_S
                self._let_go(now_s)
        self._let_go(math.inf)

    def _take_heard(self) -> list[Placed | Exposed]:
        """Return what was heard, each once and in its order, or nothing after a while."""
        heard: dict[Heard, None] = {}
        with suppress(queue.Empty):
            heard[self._heard.get(timeout=EXPIRE_EVERY_S)] = None
            while True:
                heard[self._heard.get_nowait()] = None
        return [each for each in heard if each is not None]

    def _list_awaited(self, tenant: str) -> list[int]:
        with self._lock:
            return list(self._waiters[tenant])

    def _prepare(self, placed: Placed) -> None:
        """Make the proofs of those who wait, while the sequencer signs: it leaves a processor free meanwhile."""
        indexes = placed.find_all(self._list_awaited(placed.tenant)).values()
        self._placed[placed.tenant] = placed, self._prover.prepare(placed.tenant, indexes, placed.size, placed.leaves)

    def _answer_tenant(self, exposed: Exposed) -> None:
        tenant = exposed.tenant
        seqs = self._list_awaited(tenant)
        if not seqs:
            return
        answer = self._answer_by_hint(exposed, seqs) or self._look_up(tenant, seqs)
        if answer is not None:
            self._give(tenant, *answer)

    def _answer_by_hint(self, exposed: Exposed, seqs: Sequence[int]) -> tuple[Published, dict[int, int]] | None:
        """Return the checkpoint and {seq: index} of those who wait, if we were told all that concerns them."""
        held = self._placed.get(exposed.tenant)
        if exposed.note is None or held is None:
            return None
        placed, prepared = held
        try:
            published = self._prover.open_announced(exposed.tenant, exposed.note)
        except Rejected as error:
            log.warning(
                "%s: the database is asked, since no key in our state folder has signed an announced checkpoint: %s",
                exposed.tenant,
                error,
            )
            return None
        found = placed.find_all(seqs)
        if published.size != placed.size or any(seq < placed.last_seq and seq not in found for seq in seqs):
            return None
        del self._placed[exposed.tenant]
        if not self._prover.take(exposed.tenant, prepared, published):
            log.warning(
                "%s: tiles are read anew, since what was announced, or what is stored, does not give the signed root; "
                "if this comes again, run `assay verify`",
                exposed.tenant,
            )
            return None
        return published, found

    def _look_up(self, tenant: str, seqs: Sequence[int]) -> tuple[Published, dict[int, int]] | None:
        """Return the newest checkpoint and {seq: index} of those who wait, from the store."""
        note, found = self._store.list_published(tenant, seqs)
        return (self._prover.open_published(tenant, note), found) if note is not None else None

    def _give(self, tenant: str, published: Published, found: dict[int, int]) -> None:
        done: list[tuple[Awaiting, int]] = []
        with self._lock:
            for seq, index in found.items():
                if index < published.size:
                    done += [(waiter, index) for waiter in self._waiters[tenant].pop(seq, ())]
            self._waiting -= len(done)
        for waiter, index in done:
            waiter.give(Position(index, published))

    def _let_go(self, now_s: float) -> None:
        """Tell those who have waited long enough that there is no position yet."""
        with self._lock:
            done = [
                waiter
                for tenant, of_tenant in self._waiters.items()
                for seq, waiters in list(of_tenant.items())
                for waiter in [*waiters]
                if waiter.expires_s < now_s and self._take_off(tenant, seq, waiter)
            ]
        for waiter in done:
            waiter.give(None)
