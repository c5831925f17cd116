"""Shadow decisions: a bundle on trial is asked the same beside the one in force, and its answer is recorded.

Nothing waits for a shadow and nothing acts on it. One thread asks; what it cannot keep up with, or cannot record, is
left out and said in the log of the service. The entry refers to the enforced decision and not to what that was about,
so that the newest entry of a payment is never a shadow.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from app.errors import AssayError
from app.policy.bundle import Bundle
from app.policy.decision import Decision, Mode
from app.policy.record import SHADOW_OF
from app.subjects.decider import Case, Decide

log = logging.getLogger("assay.shadow")

QUEUE_LIMIT: Final = 1024
"""Cases that may wait for their shadow; past it they are left out."""


class Shadow:
    """Asks the bundle on trial, if the tenant has one. One per process; safe for threads."""

    def __init__(self, *, find_bundle: Callable[[str], Bundle | None], decide: Decide) -> None:
        """`find_bundle` returns a tenant's bundle on trial. The thread starts with the first case."""
        self._find_bundle = find_bundle
        self._decide = decide
        self._waiting: queue.Queue[tuple[Case, str] | None] = queue.Queue(QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._starting = threading.Lock()
        self._left_out = 0

    def is_wanted(self, tenant: str) -> bool:
        """Say whether a bundle is on trial, or may be: then asking says what is wrong with it. Never raises."""
        try:
            return self._find_bundle(tenant) is not None
        except AssayError:
            return True

    def ask(self, case: Case, enforced: Decision) -> None:
        """Have the case asked once more, later. Never waits and never raises."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
        try:
            self._waiting.put_nowait((case, enforced.decision_id))
        except queue.Full:
            self._left_out += 1
            log.warning("the shadow bundle cannot keep up: %d decisions were left out so far", self._left_out)

    def close(self) -> None:
        """Ask what is waiting, and end the thread."""
        if self._thread.ident is not None:
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            case, decision_id = waiting
            try:
                bundle = self._find_bundle(case.tenant)
                if bundle is not None:
                    shadow = replace(case, ref={SHADOW_OF: decision_id})
                    self._decide(shadow, bundle=bundle.ref, mode=Mode.SHADOW)
            except Exception:
                log.exception("the shadow of %s was not recorded", decision_id)
