"""A PSP in memory that keeps Stripe's promises and breaks everything else it is told to break."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta

from app.payments.intent import Attempt
from app.payments.ports import Captured, Declined, NotSent, Outcome, RequiresAction, Unknown

FAULTS = (
    "none",
    "refused",
    "lost_before",
    "lost_after",
    "late",
    "failed_before",  # the PSP itself failed, and says so to every replay; nothing was charged
    "failed_after",  # the same, and it had charged
    "crash_before",
    "crash_after",
)
KEY_FORGOTTEN_AFTER = timedelta(hours=24)


class Crash(BaseException):
    """The process died here."""


class FakePsp:
    psp = "stripe"
    key_fresh_s = 23 * 3600
    settle_delay_s = 7200

    def __init__(
        self, now: Callable[[], datetime], *, lag_s: int = 0, on_request: Callable[[Attempt], None] | None = None
    ) -> None:
        self.now = now
        self.lag = timedelta(seconds=lag_s)
        self.on_request = on_request or (lambda attempt: None)
        self.faults: deque[str] = deque()
        self.lookups_fail = False
        self.requests: Counter[str] = Counter()
        self.charges: list[Attempt] = []
        self._known: dict[str, tuple[datetime, Outcome]] = {}  # by our attempt, for look-ups
        self._keys: dict[str, tuple[datetime, Outcome]] = {}
        self._late: list[tuple[datetime, Attempt, str]] = []
        self._lock = threading.RLock()

    def live_charges(self, payment: str) -> list[Attempt]:
        return [charge for charge in self.charges if charge.intent_id == payment]

    def charge(self, attempt: Attempt, *, idempotency_key: str) -> Outcome:
        with self._lock:
            self.on_request(attempt)
            fault = self.faults.popleft() if self.faults else "none"
            if fault == "refused":
                return NotSent(code="refused")
            self.requests[idempotency_key] += 1
            if fault == "late":
                self._late.append((self.now() + timedelta(seconds=300), attempt, idempotency_key))
            if fault == "crash_before":
                raise Crash
            if fault in {"late", "lost_before"}:
                return Unknown(code=fault)
            outcome = self._carry_out(attempt, idempotency_key, fault, at=self.now())
            if fault == "crash_after":
                raise Crash
            return Unknown(code=fault) if fault == "lost_after" else outcome

    def find_by_reference(self, attempt: Attempt) -> Captured | Declined | RequiresAction | Unknown | None:
        with self._lock:
            if self.lookups_fail:
                return Unknown(code="lookup_failed")
            self.deliver_late()
            known_at, outcome = self._known.get(attempt.id, (None, None))
            if known_at is None or known_at + self.lag > self.now():
                return None
            return outcome

    def deliver_late(self) -> None:
        """Carry out what was on its way for so long that its sender gave up."""
        due = [late for late in self._late if late[0] <= self.now()]
        self._late = [late for late in self._late if late[0] > self.now()]
        for arrived_at, attempt, key in due:
            self._carry_out(attempt, key, "none", at=arrived_at)

    def _carry_out(self, attempt: Attempt, key: str, fault: str, *, at: datetime) -> Outcome:
        first_at, stored = self._keys.get(key, (None, None))
        if first_at is not None and stored is not None and at < first_at + KEY_FORGOTTEN_AFTER:
            return stored
        outcome = self._process(attempt, fault)
        if not isinstance(outcome, Unknown) or fault == "failed_after":
            truth = outcome if not isinstance(outcome, Unknown) else Captured(psp_reference=f"psp_{attempt.id}")
            self._known[attempt.id] = (at, truth)
        self._keys[key] = (at, outcome)
        return outcome

    def _process(self, attempt: Attempt, fault: str) -> Outcome:
        if fault == "failed_before":
            return Unknown(code="http_500")
        if attempt.payment_method == "pm_declined":
            return Declined(code="card_declined", psp_reference=f"psp_{attempt.id}")
        if attempt.payment_method == "pm_challenge":
            return RequiresAction(psp_reference=f"psp_{attempt.id}")
        self.charges.append(attempt)
        if fault == "failed_after":
            return Unknown(code="http_500")
        return Captured(psp_reference=f"psp_{attempt.id}")
