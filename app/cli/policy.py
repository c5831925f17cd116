"""`assay policy`: policies written, tested, explained, and held against past decisions."""

from __future__ import annotations

import typer

from app.cli import policy_replay
from app.cli.output import PLAIN

app = typer.Typer(
    help="Replay past decisions, and write and test policies.", no_args_is_help=True, add_completion=False, **PLAIN
)


@app.callback()
def policy() -> None:
    """Replay past decisions, and write and test policies."""


app.command("replay", help=policy_replay.HELP)(policy_replay.replay)
