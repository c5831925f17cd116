"""`assay config`: the settings in force, secrets masked, and whether they may serve."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
import typer
from pydantic import SecretStr

from app.cli.configuring import find_problems, open_settings
from app.cli.output import EXIT_NOT_DONE, PLAIN, AsJson, Quiet, complain, describe, print_json, print_table, tell
from app.settings import Settings

MASK = "********"

app = typer.Typer(help="Show and check the settings.", no_args_is_help=True, add_completion=False, **PLAIN)


@app.command(
    help=describe(
        "Show the settings that were changed; with --effective all of them. Secrets are masked.",
        "assay config show",
        "assay config show --effective",
        "ASSAY_PORT=9000 assay config show --json",
        more="They come from ASSAY_… variables, then from the TOML file that ASSAY_CONFIG names, then from defaults.",
    )
)
def show(
    effective: Annotated[bool, typer.Option("--effective", help="Show defaults too, and what each means.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the settings."""
    settings = open_settings()
    names = list(Settings.model_fields) if effective else sorted(settings.model_fields_set)
    values = {name: mask(name, getattr(settings, name)) for name in names}
    if as_json:
        print_json(values)
        return
    if effective:
        rows = [(name, values[name], Settings.model_fields[name].description or "") for name in names]
        print_table(("SETTING", "VALUE", "MEANS"), rows)
        return
    print_table(("SETTING", "VALUE"), list(values.items()), empty="every setting has its default: add --effective")


@app.command(help=describe("Say whether these settings may serve; exit 1 if not.", "assay config check"))
def check(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Check the settings."""
    problems = find_problems(open_settings())
    if as_json:
        print_json({"problems": problems})
    for problem in problems if not as_json else []:
        complain(problem)
    if problems:
        raise typer.Exit(EXIT_NOT_DONE)
    tell("the settings are fit to serve", quiet=quiet or as_json)


def mask(name: str, value: Any) -> Any:
    """Return what may be shown of a setting, as JSON."""
    if isinstance(value, SecretStr):
        return MASK
    if name == "database_url" and value:
        try:
            return sa.make_url(value).render_as_string(hide_password=True)
        except sa.exc.ArgumentError:
            return MASK
    return value if isinstance(value, int | float | bool) or value is None else str(value)
