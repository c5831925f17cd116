"""`assay sandbox`: the sandbox PSP, a process that loads no part of the ledger."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from app.adapters.connectors.sandbox import serve_sandbox
from app.cli.configuring import open_settings
from app.cli.output import Quiet, command, describe, tell
from app.cli.process import Follow, follow_parent


@command(
    describe(
        "Run the sandbox PSP alone: it speaks Stripe's wire, keeps all in memory, and breaks when asked.",
        "assay sandbox",
        "assay sandbox --port 8081",
        more="On loopback only. It takes keys that begin with sk_test_.",
    )
)
def sandbox(
    host: Annotated[str | None, typer.Option(help="Loopback address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; that of the setting `stripe_api_base` if absent.")] = None,
    quiet: Quiet = False,
    follow: Follow = None,
) -> None:
    """Run the sandbox PSP."""
    base = urlsplit(open_settings().stripe_api_base)
    host, port = host or base.hostname or "127.0.0.1", port or base.port or 8081
    follow_parent(follow)
    tell(f"the sandbox PSP is on http://{host}:{port}", quiet=quiet)
    serve_sandbox(host, port)
