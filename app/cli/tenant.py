"""`assay tenant`: one log for each."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.opening import open_installation
from app.cli.output import PLAIN, AsJson, Quiet, describe, print_json, print_line, print_table, tell
from app.cli.setup import DEVELOPMENT_WARNING, check_name
from app.wiring import add_tenant

app = typer.Typer(help="Add and list tenants, one log each.", no_args_is_help=True, add_completion=False, **PLAIN)


@app.command(
    help=describe(
        "Add a tenant with a log and a key of its own.",
        "assay tenant add acme",
        more="The name becomes part of the log's origin for ever. Adding it again changes nothing.",
    )
)
def add(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens, at most 63.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Add a tenant."""
    check_name(name)
    with open_installation() as installation:
        tenant, vkey = add_tenant(installation, name)
        folder = installation.settings.state_dir / "keys"
    tell(f"WARNING: {DEVELOPMENT_WARNING.format(folder=folder)}", quiet=quiet)
    if as_json:
        print_json({"tenant": tenant.id, "origin": tenant.origin, "vkey": vkey})
        return
    tell(f"the log {tenant.origin} is ready; its verifier key:", quiet=quiet)
    print_line(vkey)


@app.command(
    "list", help=describe("List the tenants, their logs and sizes.", "assay tenant list", "assay tenant list --json")
)
def list_all(as_json: AsJson = False) -> None:
    """List the tenants."""
    with open_installation() as installation:
        tenants = installation.store.list_tenants()
        sizes = {tenant.id: installation.store.read_head(tenant.id).size for tenant in tenants}
    if as_json:
        print_json(
            [
                {"tenant": tenant.id, "origin": tenant.origin, "size": sizes[tenant.id], "frozen": tenant.frozen}
                for tenant in tenants
            ]
        )
        return
    rows = [(t.id, t.origin, sizes[t.id], "frozen" if t.frozen else "open") for t in tenants]
    print_table(("TENANT", "ORIGIN", "SIZE", "STATE"), rows, empty="no tenants: `assay tenant add NAME`")
