"""Reconcile: find evidence for payments whose fate is unknown, and move them by it alone.

Two kinds of evidence: the answer to a same-key replay, while the PSP certainly remembers the key, and a look-up by
our own reference. "The PSP has no such reference" counts only once the PSP's settle delay has passed since the last
send. Time alone never makes a payment FAILED. A crashed payment (PROCESSING past its lease) is treated the same.

Any number of reconcilers may run at once: taking an intent moves its `next_check_at` under lock, and a replay raises
and commits `sends` before the socket opens, so an observer whose knowledge is out of date is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.errors import Broken, Unavailable
from app.payments.intent import Attempt, AttemptState, Intent, hash_request
from app.payments.ports import (
    Clock,
    Connector,
    NotSent,
    Outcome,
    PaymentStore,
    PaymentTransaction,
    Unknown,
)
from app.payments.settle import PROCESSING_LEASE_S, Evidence, settle, weigh

RECONCILE_BATCH_MAX: Final = 100
SENDS_MAX: Final = 8
"""After so many hand-overs to a connector we only look up: each replay restarts the settle delay."""

REPLAY_WITHIN_S: Final = PROCESSING_LEASE_S / 2
"""A replay that could not start in this time is left to the next round: the lease may end before it does."""

Report = Callable[[Intent, Exception], None]
"""Told of an intent that cannot be looked into, and why."""

_UNDECIDED: Final = Unknown(code="unknown")


def reconcile(
    *,
    store: PaymentStore,
    connectors: Mapping[str, Connector],
    clock: Clock,
    actor: str,
    tenant: str | None = None,
    limit: int = RECONCILE_BATCH_MAX,
    is_stopping: Callable[[], bool] = lambda: False,
    report: Report | None = None,
) -> list[Intent]:
    """Look for evidence for up to `limit` due intents, and return those looked at, as they stand then.

    Of one tenant, or of all when `tenant` is None. An intent whose PSP is not connected stays due. One that cannot be
    looked into goes to `report`, and the others come to their turn; without `report`, and when the store is away, the
    error is raised. `is_stopping` is asked before each.
    """
    looked_at = []
    for intent in store.list_due(tenant, clock.now(), limit):
        if is_stopping():
            break
        if intent.psp not in connectors:
            continue
        try:
            found = reconcile_intent(intent, store=store, connector=connectors[intent.psp], clock=clock, actor=actor)
        except Unavailable:
            raise
        except Exception as error:
            if report is None:
                raise
            report(intent, error)
            continue
        if found is not None:
            looked_at.append(found)
    return looked_at


def reconcile_intent(
    intent: Intent, *, store: PaymentStore, connector: Connector, clock: Clock, actor: str
) -> Intent | None:
    """Look for evidence for one due intent; None when somebody else has taken it on."""
    deadline_s = clock.monotonic_s() + REPLAY_WITHIN_S
    with store.transaction() as tx:
        taken = _take(tx, intent, connector, now=clock.now())
    if taken is None:
        return None

    outcome, evidence = _seek_evidence(taken, connector, deadline_s=deadline_s, clock=clock)

    with store.transaction() as tx:
        return settle(tx, taken.attempt, outcome, evidence=evidence, now=clock.now(), actor=actor)


def may_replay(attempt: Attempt, connector: Connector, now: datetime) -> bool:
    """Return whether sending `attempt` again under its key cannot charge twice, and may still teach us something.

    Not when the clock runs behind the last send: we cannot tell then how old the key is.
    """
    age_s = (now - attempt.created_at).total_seconds()
    return (
        attempt.state in {AttemptState.SENT, AttemptState.UNKNOWN}
        and now >= attempt.last_sent_at
        and age_s < connector.key_fresh_s
        and attempt.sends < SENDS_MAX
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """An attempt that is ours to look into until the lease ends; a replay is already counted in `sends`."""

    attempt: Attempt
    replay: bool


def _take(tx: PaymentTransaction, intent: Intent, connector: Connector, *, now: datetime) -> _Taken | None:
    locked = tx.lock_intent(intent.tenant, intent.id)
    if locked.next_check_at is None or locked.next_check_at > now or locked.active_attempt_id is None:
        return None
    attempt = tx.read_attempt(locked.tenant, locked.active_attempt_id)
    if hash_request(attempt.money, attempt.payment_method, attempt.psp) != attempt.request_hash:
        raise Broken("the attempt is not the request that was committed to", code="request_changed")

    replay = may_replay(attempt, connector, now)
    if replay:
        sending = replace(attempt, sends=attempt.sends + 1, last_sent_at=now)
        tx.update_attempt(attempt, sending)
        attempt = sending
    lease_end = now + timedelta(seconds=PROCESSING_LEASE_S)
    tx.update_intent(locked, replace(locked, next_check_at=lease_end))
    return _Taken(attempt=attempt, replay=replay)


def _seek_evidence(taken: _Taken, connector: Connector, *, deadline_s: float, clock: Clock) -> tuple[Outcome, Evidence]:
    """Return the best evidence to be had now: a replay if one may be sent, else what our reference finds."""
    attempt = taken.attempt
    if taken.replay and clock.monotonic_s() < deadline_s:
        outcome = weigh(_UNDECIDED, connector.charge(attempt, idempotency_key=attempt.key))
        if not isinstance(outcome, Unknown):
            return outcome, Evidence.REPLAY
    asked_at = clock.now()
    found = connector.find_by_reference(attempt)
    return found or _judge_absence(attempt, connector, asked_at), Evidence.LOOKUP


def _judge_absence(attempt: Attempt, connector: Connector, asked_at: datetime) -> NotSent | Unknown:
    """Return what it means that the PSP had nothing under our reference at `asked_at`."""
    since_send_s = (asked_at - attempt.last_sent_at).total_seconds()
    if since_send_s < connector.settle_delay_s:
        return Unknown(code="not_found_yet")
    return NotSent(code="no_such_reference")
