"""`assay payments`: settle what is unknown, by evidence alone (app.payments.reconcile)."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from app.cli.logs import start_logging
from app.cli.opening import open_installation
from app.cli.output import EXIT_NOT_DONE, PLAIN, AsJson, Quiet, describe, print_json, print_line, tell
from app.cli.process import Follow, follow_parent, stop_on_signals
from app.errors import AssayError, Unavailable
from app.payments.intent import Intent
from app.payments.ports import Connector
from app.payments.reconcile import Report
from app.payments.reconcile import reconcile as reconcile_due
from app.wiring import CLOCK, Installation

log = logging.getLogger("assay.payments")

ACTOR = "operator:reconcile"
WATCH_ACTOR = "system:reconcile"
WATCH_EVERY_S = 2.0
NAMED_LIMIT = 1000
"""Payments that were named as stuck and are remembered; past it they are named again."""
ROUNDS_LIMIT = 1000
"""Batches of due payments in one run; more is left to the next."""

app = typer.Typer(help="Settle payments whose fate is unknown.", no_args_is_help=True, add_completion=False, **PLAIN)


@app.callback()
def payments() -> None:
    """Settle payments whose fate is unknown."""


@app.command(
    help=describe(
        "Look for evidence for every payment that is due, and move it by that alone.",
        "assay payments reconcile",
        "assay payments reconcile --tenant demo --json",
        "assay payments reconcile --watch",
        more="Evidence is the answer to a replay under the same key, or a look-up at the PSP; never that time passed. "
        "`assay up` runs it with --watch. Exit 1 if a payment cannot be looked into; the others are.",
    )
)
def reconcile(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="One tenant's; all if absent.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until SIGTERM.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    follow: Follow = None,
) -> None:
    """Settle what is due."""
    start_logging()
    with open_installation() as installation:
        if tenant:
            installation.read_tenant(tenant)
        if watch:
            stop = stop_on_signals()
            follow_parent(follow)
            _watch(installation, tenant, stop, quiet=quiet)
            return
        stuck = Stuck()
        looked_at = reconcile_all(installation, installation.connectors(), tenant, actor=ACTOR, report=stuck.name)
    _report(looked_at, as_json=as_json, quiet=quiet)
    if stuck.named:
        raise typer.Exit(EXIT_NOT_DONE)


class Stuck:
    """Names each payment that cannot be looked into, once: it stays due, and a person must look."""

    def __init__(self) -> None:
        """None is named yet."""
        self.named: set[str] = set()

    def name(self, intent: Intent, error: Exception) -> None:
        """Log it, with the trace if the fault is our own."""
        if intent.id in self.named:
            return
        if len(self.named) >= NAMED_LIMIT:
            self.named.clear()
        self.named.add(intent.id)
        trace = None if isinstance(error, AssayError) else error
        log.error("%s cannot be looked into: %s", intent.id, error, exc_info=trace)


def _watch(installation: Installation, tenant: str | None, stop: threading.Event, *, quiet: bool) -> None:
    """Settle what becomes due until `stop`; a store that is away, and a payment that is broken, end nothing."""
    connectors, stuck = installation.connectors(), Stuck()
    while not stop.is_set():
        try:
            for intent in reconcile_all(
                installation, connectors, tenant, actor=WATCH_ACTOR, report=stuck.name, is_stopping=stop.is_set
            ):
                tell(f"{intent.id}: {intent.state.value}", quiet=quiet)
        except Unavailable as error:
            tell(f"reconciling is delayed: {error}")
        stop.wait(WATCH_EVERY_S)


def reconcile_all(
    installation: Installation,
    connectors: Mapping[str, Connector],
    tenant: str | None,
    *,
    actor: str,
    report: Report,
    is_stopping: Callable[[], bool] = lambda: False,
) -> list[Intent]:
    """Look at every due payment once, in batches; return them as they stand then."""
    looked_at: list[Intent] = []
    for _ in range(ROUNDS_LIMIT):
        batch = reconcile_due(
            store=installation.payment_store(),
            connectors=connectors,
            clock=CLOCK,
            actor=actor,
            tenant=tenant,
            report=report,
            is_stopping=is_stopping,
        )
        looked_at += batch
        if not batch:
            break
    return looked_at


def _report(looked_at: list[Intent], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json([{"id": intent.id, "tenant": intent.tenant, "state": intent.state.value} for intent in looked_at])
        return
    for intent in looked_at:
        print_line(f"{intent.id}  {intent.state.value}")
    counts = Counter(intent.state.value for intent in looked_at)
    tell(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "nothing is due", quiet=quiet)
