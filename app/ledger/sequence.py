"""The sequencer process: one loop that publishes the logs of all tenants."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from app.errors import AssayError, Unavailable
from app.ledger.ports import LedgerStore, NotLeaderError, Tenant
from app.ledger.publish import BATCH_LIMIT, Sequencer

log = logging.getLogger("assay.sequencer")

TENANTS_EVERY_S = 2.0
"""How often new tenants are looked for, and lost sequencers taken up again, in seconds."""
WAKE_LIMIT_S = 0.5
"""Longest sleep between two looks at what is pending, in seconds; a wake-up usually ends it at once."""

DRAIN_STEPS = 64
"""Turns that stopping gives every log, so that what is pending is published first."""

LINGER_S = 0.008
LINGER_PER_ENTRY_S = 0.0005
"""How long a publication waits, once there is an entry, for as many as the last one carried: for each of those this
long, up to the maximum, in seconds.

A publication costs every process some work, whatever it carries, and its answers bring the next requests in together:
under load fewer and larger ones carry more. Who is alone is answered at once.
"""

OnPublished = Callable[[str, int, int, float], None]
"""Called after each publication with tenant, entries integrated, size and seconds taken."""


class SequencerLoop:
    """Publishes every tenant's log until told to stop. A halted log stays halted until the process is restarted."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        open_sequencer: Callable[[Tenant], Sequencer],
        on_published: OnPublished = lambda *_: None,
    ) -> None:
        """`open_sequencer` builds the sequencer of one tenant."""
        self._store = store
        self._open_sequencer = open_sequencer
        self._on_published = on_published
        self._held: dict[str, Sequencer] = {}
        self._halted: dict[str, str] = {}

    @property
    def halted(self) -> Mapping[str, str]:
        """Tenants that are not published any more, and why: a person must look."""
        return self._halted

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set, then what is pending, then release all locks."""
        look_at_s = 0.0
        while not stop.is_set():
            if time.monotonic() >= look_at_s:
                self._take_up()
                look_at_s = time.monotonic() + TENANTS_EVERY_S
            count = self.step()
            if count >= BATCH_LIMIT:
                continue  # there may be more, of which nobody has told us: we were away, or a hint was lost
            heard = self._wait(stop, WAKE_LIMIT_S, 1)
            if 0 < heard < count:
                self._wait(stop, min(LINGER_S, count * LINGER_PER_ENTRY_S), count - heard)
        for _ in range(DRAIN_STEPS):
            if not self.step():
                break
        for tenant in list(self._held):
            self._release(tenant)

    def step(self) -> int:
        """Give every log one turn; return how many entries were integrated."""
        return sum(self._step(tenant) for tenant in list(self._held))

    def _step(self, tenant: str) -> int:
        started_s = time.perf_counter()
        try:
            count = self._held[tenant].step()
        except Unavailable as error:  # the outcome may be unknown: the sequencer is opened anew, from what is durable
            log.warning("publishing %s is delayed: %s", tenant, error)
            self._release(tenant)
            return 0
        except Exception as error:  # noqa: BLE001 -- one log's trouble must not stop the others
            self._halt(tenant, error)
            return 0
        if count:
            self._on_published(tenant, count, self._held[tenant].head.size, time.perf_counter() - started_s)
        return count

    def _take_up(self) -> None:
        """Open a sequencer for each tenant that nobody else publishes."""
        try:
            tenants = self._store.list_tenants()
        except Unavailable as error:
            log.warning("the store is away: %s", error)
            return
        for tenant in tenants:
            if tenant.id not in self._held and tenant.id not in self._halted:
                self._open(tenant)

    def _open(self, tenant: Tenant) -> None:
        try:
            sequencer = self._open_sequencer(tenant)
            sequencer.__enter__()
        except NotLeaderError:
            return
        except Unavailable as error:
            log.warning("%s cannot be opened yet: %s", tenant.id, error)
            return
        except Exception as error:  # noqa: BLE001 -- one log's trouble must not stop the others
            self._halt(tenant.id, error)
            return
        self._held[tenant.id] = sequencer

    def _halt(self, tenant: str, error: Exception) -> None:
        ours = isinstance(error, AssayError)
        log.critical("%s is no longer published: %s", tenant, error, exc_info=None if ours else error)
        self._halted[tenant] = str(error) if ours else type(error).__name__
        self._release(tenant)

    def _release(self, tenant: str) -> None:
        sequencer = self._held.pop(tenant, None)
        if sequencer is None:
            return
        try:
            sequencer.__exit__(None, None, None)
        except Exception as error:  # noqa: BLE001 -- what cannot be unlocked is gone already, with its connection
            log.warning("the lock of %s went with its connection: %s", tenant, error)

    def _wait(self, stop: threading.Event, timeout_s: float, rows: int) -> int:
        """Return how many entries we hear of, once it is `rows` or after the timeout."""
        try:
            return self._store.wait_for_append(timeout_s, rows)
        except Unavailable:
            stop.wait(timeout_s)
            return 0
