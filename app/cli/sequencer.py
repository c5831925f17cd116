"""`assay sequencer`: the process that publishes every log."""

from __future__ import annotations

from typing import Annotated

import typer

from app.adapters.collector import spare_collector
from app.cli.configuring import open_settings, require_fit_to_serve
from app.cli.logs import start_logging
from app.cli.opening import open_installation
from app.cli.output import command, describe, tell
from app.cli.process import Follow, follow_parent, stop_on_signals
from app.ledger.sequence import SequencerLoop


@command(
    describe(
        "Run the publisher of all logs alone, until SIGTERM; what is pending is published first.",
        "assay sequencer",
        "assay sequencer --verbose",
        more="A second one waits: one process publishes a log at a time. A log that it refuses to sign is named here.",
    )
)
def sequencer(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print each publication.")] = False,
    follow: Follow = None,
) -> None:
    """Run the publisher."""
    start_logging()
    stop = stop_on_signals()
    follow_parent(follow)
    settings = open_settings()
    require_fit_to_serve(settings)

    def report(tenant: str, count: int, size: int, took_s: float) -> None:
        if verbose:
            tell(f"published {tenant}: {count} entries, size {size}, {took_s * 1000:.1f} ms")

    with open_installation(settings) as installation:
        loop = SequencerLoop(store=installation.store, open_sequencer=installation.sequencer, on_published=report)
        spare_collector()
        loop.run(stop)
