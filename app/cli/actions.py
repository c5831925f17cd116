"""`assay actions`: what can be logged."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from app.cli.output import AsJson, command, describe, print_json, print_line, print_table
from app.ledger.registry import open_registry

SCHEMA_INDENT = 2


@command(
    describe(
        "List what can be logged; with a NAME, show the schema of its data.",
        "assay actions",
        "assay actions document.recorded",
        "assay actions --json",
    )
)
def actions(
    name: Annotated[str | None, typer.Argument(help="One action.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what can be logged."""
    registry = open_registry()
    chosen = [registry.read(name)] if name else list(registry)
    if as_json:
        print_json(
            [
                {
                    "name": action.name,
                    "title": action.title,
                    "external": action.external,
                    "schema": action.schema,
                    "personal": sorted(action.personal),
                }
                for action in chosen
            ]
        )
    elif name:
        (action,) = chosen
        print_line(f"{action.name}: {action.title}")
        print_line(f"appended by: {'merchants, with a token' if action.external else 'Assay alone'}")
        print_line(f"personal, kept outside the log: {', '.join(sorted(action.personal)) or 'nothing'}")
        print_line(json.dumps(action.schema, indent=SCHEMA_INDENT))
    else:
        rows = [(action.name, "merchants" if action.external else "Assay", action.title) for action in chosen]
        print_table(("ACTION", "BY", "MEANS"), rows)
