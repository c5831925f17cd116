"""What payments need from the outside: connectors to PSPs, a store, a decision, and a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.errors import Conflict
from app.payments.intent import Attempt, Intent
from app.policy.decision import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The PSP holds the money: the full amount, in the currency asked for."""

    psp_reference: str
    code: str = "captured"
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The PSP processed the attempt and refused it for good; nothing was charged."""

    code: str
    message: str = ""
    psp_reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """The send was certainly not processed: it never arrived, was rate limited, or was turned back unread.

    It says nothing about earlier sends. `our_fault`: key, request or configuration are wrong; sending again will
    not help and somebody must look. Never counted as a decline.
    """

    code: str
    message: str = ""
    our_fault: bool = False
    psp_reference: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The PSP may have charged, and we cannot tell yet."""

    code: str
    message: str = ""
    psp_reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiresAction:
    """The PSP waits for the payer (3-D Secure). Nothing is charged until the payer acts, there and nowhere else."""

    psp_reference: str
    code: str = "requires_action"
    message: str = ""


Outcome = Captured | Declined | NotSent | Unknown | RequiresAction
"""What one send told us. `code` and `message` are safe to log and to show: no personal data, no secret."""


Decide = Callable[[Intent], Decision]
"""The policy. The decision is an entry of the log when this returns; if it cannot be logged, this raises."""


class Connector(Protocol):
    """The code that speaks to one PSP. Safe to use from many threads.

    Neither method raises for anything the PSP or the network does.
    """

    @property
    def psp(self) -> str:
        """The PSP's name, as in `PSP_UNITS`."""
        ...

    @property
    def key_fresh_s(self) -> int:
        """How long after its first use the PSP certainly remembers an idempotency key, less a margin."""
        ...

    @property
    def settle_delay_s(self) -> int:
        """How long after a send `find_by_reference` may still miss what the PSP has done with it."""
        ...

    def charge(self, attempt: Attempt, *, idempotency_key: str) -> Outcome:
        """Charge at most once per key, however often it is called within `key_fresh_s` of the first call.

        Sends once: retries are the caller's. Sends our references (payment, attempt, tenant) along, so that
        `find_by_reference` finds the charge without any answer. Returns `Unknown`, and never raises, when the PSP
        may have charged. `NotSent` is about this send alone.
        """
        ...

    def find_by_reference(self, attempt: Attempt) -> Captured | Declined | RequiresAction | Unknown | None:
        """Return what the PSP has under our own reference of `attempt`; it changes nothing there.

        None when the PSP answers that it has nothing, which is evidence only `settle_delay_s` after the last send.
        `Unknown` when it cannot be asked, or has not decided.
        """
        ...


class StaleIntentError(Conflict):
    """The intent, or its attempt, is no longer what the caller read."""

    code = "stale_intent"


class LiveAttemptError(Conflict):
    """The intent has an attempt that is not final yet: a second one could charge twice."""

    code = "live_attempt"


class PaymentTransaction(Protocol):
    """One open transaction. Everything in it, entries included, becomes durable together or not at all.

    Every method is about one tenant and never sees another's rows.
    """

    def insert_intent(self, intent: Intent) -> None:
        """Store a new intent. Raises Conflict if its id exists."""
        ...

    def lock_intent(self, tenant: str, intent_id: str) -> Intent:
        """Return the intent and keep every other transaction from locking it until this one ends.

        Raises NotFound if it is absent, Unavailable if the lock is not had in time.
        """
        ...

    def update_intent(self, before: Intent, after: Intent) -> None:
        """Replace the row if its `state` and `active_attempt_id` are still those of `before` (compare-and-set).

        Only `state`, `code`, `decision_id`, `active_attempt_id`, `next_check_at` and `updated_at` may differ. Raises
        StaleIntentError otherwise.
        """
        ...

    def insert_attempt(self, attempt: Attempt) -> None:
        """Store a new attempt.

        Raises LiveAttemptError while its intent has one that is not final; the database enforces it too (a unique
        index over the intents of live attempts). Raises Conflict if the id or the key exists.
        """
        ...

    def read_attempt(self, tenant: str, attempt_id: str) -> Attempt:
        """Return the attempt. Raises NotFound."""
        ...

    def update_attempt(self, before: Attempt, after: Attempt) -> None:
        """Replace the row if its `state` and `sends` are still those of `before` (compare-and-set).

        Only `state`, `code`, `psp_reference`, `sends` and `last_sent_at` may differ. Raises StaleIntentError otherwise.
        """
        ...

    def list_attempts(self, tenant: str, intent_id: str) -> Sequence[Attempt]:
        """Return the attempts of an intent, oldest first (one per PSP tried: a handful)."""
        ...

    def append(
        self,
        action: str,
        *,
        tenant: str,
        actor: str,
        subject: str | None,
        ref: Mapping[str, str],
        data: Mapping[str, str | int | bool],
        sealed: Mapping[str, str] | None = None,
    ) -> None:
        """Append a ledger entry that is durable when, and only when, this transaction is."""
        ...


class PaymentStore(Protocol):
    """Where intents and attempts are kept. Every implementation passes tests/contract/payment_store_contract.py."""

    def transaction(self) -> AbstractContextManager[PaymentTransaction]:
        """Open a transaction: committed on a clean exit, rolled back on an exception.

        Raises Unavailable when the store cannot be reached. Never held open over a call to a PSP.
        """
        ...

    def find_intent(self, tenant: str, intent_id: str) -> Intent | None:
        """Return the intent without locking it, or None. It waits for no writer, and no writer for it."""
        ...

    def list_due(self, tenant: str | None, now: datetime, limit: int) -> Sequence[Intent]:
        """Return intents with `next_check_at <= now`, the longest due first; of all tenants when `tenant` is None.

        Locks nothing: whoever acts on one locks it and looks again.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and chance, as arguments.

    `now` dates what is stored; `monotonic_s` measures budgets, so a stepping wall clock cannot stretch one.
    `random` returns a float in [0, 1), for jitter only.
    """

    now: Callable[[], datetime]
    monotonic_s: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]
