"""`assay export`: a log as static files that anybody can verify, serve or keep."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import PLAIN, AsJson, Quiet, complain, describe, print_json, print_line
from app.cli.verify import open_database, open_url
from app.cli.verify_output import EXIT_USAGE, shown_progress
from app.ledger.export import write_export
from app.ledger.verify import LogSource

app = typer.Typer(add_completion=False, **PLAIN)


@app.command(
    help=describe(
        "Write a log to a directory: tiles, entries, checkpoints.",
        "assay export ./export --tenant demo                       # from ASSAY_DATABASE_URL",
        "assay export ./export --database sqlite:////var/lib/assay/assay.db --tenant demo",
        "assay export ./export --url https://log.example/demo      # token in ASSAY_TOKEN",
        more="A second run goes on where one was interrupted. Nothing is verified: `assay verify export` does that.",
    )
)
def export(
    directory: Annotated[Path, typer.Argument(help="Where to; it is created.")],
    *,
    database: Annotated[str | None, typer.Option("--database", help="Read this database.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Whose log, in a database.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Read this server.")] = None,
    compressed: Annotated[bool, typer.Option("--gzip", help="Compress the bundles of entries.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a log to a directory."""
    if url and (database or tenant):
        complain("give either --url, or --tenant and perhaps --database")
        raise typer.Exit(EXIT_USAGE)
    source = open_url(url) if url else _open_database(database, tenant)
    with shown_progress(hidden=quiet or as_json) as progress:
        done = write_export(source, directory, compressed=compressed, progress=progress)
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "origin": done.checkpoint.origin,
                "size": done.checkpoint.size,
                "root": done.checkpoint.root.hex(),
                "written": done.written,
                "kept": done.kept,
            }
        )
    elif not quiet:
        print_line(f"{done.checkpoint.origin}, {done.checkpoint.size} entries: {done.written} files written, "
                   f"{done.kept} kept in {directory}")  # fmt: skip
        print_line(f"Verify it: assay verify export {directory} --key VKEY")


def _open_database(database: str | None, tenant: str | None) -> LogSource:
    if database is None and "ASSAY_DATABASE_URL" not in os.environ:
        from app.cli.configuring import open_settings  # noqa: PLC0415 - settings are needed only when nothing else says

        database = open_settings().database
    return open_database(database or os.environ["ASSAY_DATABASE_URL"], tenant)
