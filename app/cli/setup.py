"""`assay init` and `assay migrate`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from app.adapters.sql.engine import open_engine
from app.adapters.sql.migrate import current_revision, newest_revision, upgrade
from app.cli.configuring import open_settings
from app.cli.output import AsJson, Quiet, command, describe, print_json, print_line, tell
from app.errors import Malformed
from app.settings import Settings
from app.wiring import Installation, add_tenant, initialise

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_RESERVED = frozenset({"v1", "docs", "livez", "readyz", "metrics", "openapi"})
DEVELOPMENT_WARNING = "DEVELOPMENT KEY, not encrypted: whoever reads {folder} can sign as you. Not for production."


@command(
    describe(
        "Create the state folder, its secrets, the schema and a first tenant with its log key.",
        "assay init",
        "assay init --tenant acme",
        "ASSAY_STATE_DIR=/var/lib/assay assay init",
        more="Safe to repeat: what is there stays. The key is for development, in a file, not encrypted.",
    )
)
def init(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="The first tenant.")] = "demo",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Create an installation."""
    settings = open_settings()
    check_name(tenant)
    origin, vkey = prepare(settings, tenant, quiet=quiet)
    if as_json:
        print_json({"state_dir": str(settings.state_dir), "tenant": tenant, "origin": origin, "vkey": vkey})
        return
    tell(f"The log {origin} is ready. Its verifier key, to give to whoever verifies:", quiet=quiet)
    print_line(vkey)


def prepare(settings: Settings, tenant: str, *, quiet: bool) -> tuple[str, str]:
    """Make whatever of an installation is missing; return the tenant's origin and verifier key."""
    make_state_dir(settings)
    for path in initialise(settings):
        tell(f"created {path}", quiet=quiet)
    upgrade(settings.database)
    installation = Installation(settings)
    try:
        made, vkey = add_tenant(installation, tenant)
    finally:
        installation.store.close()
    tell(f"WARNING: {DEVELOPMENT_WARNING.format(folder=settings.state_dir / 'keys')}", quiet=quiet)
    return made.origin, vkey


def make_state_dir(settings: Settings) -> None:
    """Create the state folder, closed to others."""
    if not settings.state_dir.exists():
        settings.state_dir.mkdir(mode=0o700, parents=True)


@command(
    describe(
        "Bring the database to the newest schema, in one transaction.",
        "assay migrate --plan",
        "assay migrate",
        more="Migrations only add (expand, then contract): the version before runs on the new schema too.",
    )
)
def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done, and do nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Migrate the database."""
    settings = open_settings()
    make_state_dir(settings)
    engine = open_engine(settings.database, pool_size=1)
    try:
        before = current_revision(engine)
    finally:
        engine.dispose()
    newest = newest_revision()
    if before == newest:
        tell(f"the schema is at {newest}, the newest", quiet=quiet)
        return
    if plan:
        print_line(f"would migrate from {before or 'nothing'} to {newest}")
        return
    upgrade(settings.database)
    tell(f"migrated from {before or 'nothing'} to {newest}", quiet=quiet)


def check_name(name: str) -> None:
    """Raise Malformed unless `name` may stand in an origin and in a URL."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise Malformed(
            "a tenant's name has 1 to 63 lower-case letters, digits and inner hyphens, and is none of ours: "
            + ", ".join(sorted(_RESERVED)),
            code="tenant_name",
        )
