"""`assay payments`: settle what is unknown, by evidence alone (app.payments.reconcile)."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from app.cli.opening import open_installation
from app.cli.output import PLAIN, AsJson, Quiet, describe, print_json, print_line, tell
from app.cli.process import Follow, follow_parent, stop_on_signals
from app.errors import Unavailable
from app.payments.intent import Intent
from app.payments.reconcile import reconcile as reconcile_due
from app.wiring import CLOCK, Installation

ACTOR = "operator:reconcile"
WATCH_EVERY_S = 2.0
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
        more="Evidence is the answer to a replay under the same key, or a look-up at the PSP; never that time passed.",
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
    with open_installation() as installation:
        if tenant:
            installation.read_tenant(tenant)
        if not watch:
            _report(reconcile_all(installation, tenant), as_json=as_json, quiet=quiet)
            return
        stop = stop_on_signals()
        follow_parent(follow)
        while not stop.is_set():
            try:
                for intent in reconcile_all(installation, tenant):
                    tell(f"{intent.id}: {intent.state.value}", quiet=quiet)
            except Unavailable as error:
                tell(f"reconciling is delayed: {error}")
            stop.wait(WATCH_EVERY_S)


def reconcile_all(installation: Installation, tenant: str | None) -> list[Intent]:
    """Look at every due payment once, in batches; return them as they stand then."""
    looked_at: list[Intent] = []
    store, connectors = installation.payment_store(), installation.connectors()
    for _ in range(ROUNDS_LIMIT):
        batch = reconcile_due(store=store, connectors=connectors, clock=CLOCK, actor=ACTOR, tenant=tenant)
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
