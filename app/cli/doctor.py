"""`assay doctor`: what is missing, in the order in which one would look."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import typer

from app.adapters.sql.engine import open_engine
from app.adapters.sql.migrate import require_current
from app.cli.configuring import find_problems, open_settings
from app.cli.output import EXIT_NOT_DONE, AsJson, command, describe, print_json, print_table
from app.errors import AssayError, Broken, Unavailable
from app.ledger.ports import NotLeaderError, Tenant
from app.settings import Settings
from app.wiring import CLOCK, PAYMENT_SECRET, TOKEN_SECRET, Installation

FREE_LIMIT_BYTES = 1 << 30
DUE_LIMIT_S = 600
"""How long a payment may be due for a look before something must be wrong, in seconds."""
OTHERS = 0o077


@command(
    describe(
        "Check this installation: Python, settings, files, disk, database, keys, processes. Exit 1 if one is wrong.",
        "assay doctor",
        "assay doctor --json",
    )
)
def doctor(as_json: AsJson = False) -> None:
    """Check this installation."""
    checks = list(run_checks(open_settings()))
    if as_json:
        print_json([{"check": name, "ok": problem is None, "problem": problem} for name, problem in checks])
    else:
        rows = [("ok" if problem is None else "FAIL", name, problem or "") for name, problem in checks]
        print_table(("", "CHECK", "PROBLEM"), rows)
    if any(problem for _, problem in checks):
        raise typer.Exit(EXIT_NOT_DONE)


def run_checks(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield each check with its problem, or None; what needs the database only once that answers."""
    yield f"Python {sys.version_info.major}.{sys.version_info.minor}", None
    yield "settings", "; ".join(find_problems(settings)) or None
    yield f"state folder {settings.state_dir}", _problem_of(lambda: _check_state(settings.state_dir))
    yield "disk", _problem_of(lambda: _check_disk(settings.state_dir))
    database = _problem_of(lambda: _check_schema(settings))
    yield "database and schema", database
    if database is None:
        yield from _check_logs(settings)


def _check_logs(settings: Settings) -> Iterator[tuple[str, str | None]]:
    installation = Installation(settings)
    try:
        for tenant in installation.store.list_tenants():
            yield f"key of {tenant.id}", _problem_of(partial(_check_key, installation, tenant))
            yield f"sequencer of {tenant.id}", _problem_of(partial(_check_sequencer, installation, tenant))
            yield f"policies of {tenant.id}", _problem_of(partial(_check_policies, installation, tenant))
        yield "reconciler", _problem_of(partial(_check_reconciler, installation))
        yield from installation.check_readiness().items()
    finally:
        installation.store.close()


def _problem_of(check: Callable[[], None]) -> str | None:
    try:
        check()
    except AssayError as error:
        return str(error)
    return None


def _check_state(folder: Path) -> None:
    if not folder.is_dir():
        raise Unavailable("it is not there: run `assay init`")
    if stat.S_IMODE(folder.stat().st_mode) & OTHERS:
        raise Broken(f"others may look into it: chmod 700 {folder}")
    for name in (TOKEN_SECRET, PAYMENT_SECRET):
        secret = folder / "secrets" / name
        if not secret.is_file():
            raise Unavailable(f"{secret} is missing: restore it, or run `assay init` and issue new tokens")
        if stat.S_IMODE(secret.stat().st_mode) & OTHERS:
            raise Broken(f"others may read it: chmod 600 {secret}")


def _check_disk(folder: Path) -> None:
    place = folder if folder.is_dir() else Path.cwd()
    free = shutil.disk_usage(place).free
    if free < FREE_LIMIT_BYTES:
        raise Unavailable(f"{free >> 20} MiB are free; have at least {FREE_LIMIT_BYTES >> 20}")


def _check_schema(settings: Settings) -> None:
    if settings.embedded and not Path(settings.database.removeprefix("sqlite:///")).is_file():
        raise Unavailable("there is no database: run `assay init`")
    engine = open_engine(settings.database, pool_size=2)
    try:
        require_current(engine)
    finally:
        engine.dispose()


def _check_key(installation: Installation, tenant: Tenant) -> None:
    installation.keyring.active(tenant)


def _check_policies(installation: Installation, tenant: Tenant) -> None:
    installation.policies.verify_active(tenant.id)


def _check_sequencer(installation: Installation, tenant: Tenant) -> None:
    """Raise unless somebody holds the sequencer's lock."""
    if tenant.frozen:
        return
    try:
        with installation.store.sequencer_lock(tenant.id):
            pass
    except NotLeaderError:
        return
    raise Unavailable("it is not running: `assay up`, or `assay sequencer`")


def _check_reconciler(installation: Installation) -> None:
    """Raise if a payment has been due for too long."""
    overdue = installation.payment_store().list_due(None, CLOCK.now() - timedelta(seconds=DUE_LIMIT_S), 1)
    if overdue:
        raise Unavailable(
            f"{overdue[0].id} is due for over {DUE_LIMIT_S} s: is `assay payments reconcile --watch` running, "
            f"and {overdue[0].psp} connected?"
        )
