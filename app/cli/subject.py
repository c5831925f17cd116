"""`assay subject`: a person's data, handed out on record or erased, and the journal of erasures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.adapters.erasure_journal import FileErasureJournal
from app.cli.opening import open_installation
from app.cli.output import PLAIN, AsJson, OfTenant, Quiet, Yes, describe, print_json, print_line, tell
from app.errors import Refused
from app.ledger.anchored import open_own_checkpoint
from app.ledger.canonical import canonical
from app.ledger.entry import format_entry_id, parse_entry_id
from app.ledger.ports import Tenant
from app.ledger.verify.receipt import format_openings
from app.subjects.erase import AlreadyErased, Erased
from app.subjects.personal import ErasedByPolicy, SubjectErasedError
from app.subjects.rebuild import rebuild_journal as rebuild
from app.tlog.checkpoint import Checkpoint
from app.wiring import JOURNAL_FILE, Installation

ACTOR = "operator:cli"

app = typer.Typer(help="Hand out or erase a person's data.", no_args_is_help=True, add_completion=False, **PLAIN)


@app.callback()
def subject() -> None:
    """Hand out or erase a person's data."""


@app.command(
    help=describe(
        "Destroy a person's key and sealed facts for ever; every proof stays valid, and the log gets a receipt.",
        "assay subject erase sub_7Qd… --tenant demo",
        "assay subject erase sub_7Qd… --tenant demo --yes --reason gdpr.art17",
    )
)
def erase(
    subject_id: Annotated[str, typer.Argument(help="Who: sub_….", metavar="SUBJECT")],
    *,
    tenant: OfTenant,
    yes: Yes = False,
    reason: Annotated[str, typer.Option("--reason", help="A code.")] = "request",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Erase a person's data."""
    with open_installation() as installation:
        installation.read_tenant(tenant)
        if not yes and not typer.confirm(f"Erase {subject_id} of {tenant} for ever?", err=True):
            raise Refused("nothing was erased", code="not_confirmed")
        outcome = installation.erase(tenant, subject_id, reason=reason, actor=ACTOR)
    if as_json:
        print_json(_to_json(subject_id, outcome))
        return
    match outcome:
        case Erased(fields=fields, receipt=receipt):
            where = f"; the receipt is {format_entry_id(receipt)}" if receipt else "; the log is frozen: no receipt"
            tell(f"{subject_id} is erased: its key and {fields} sealed facts are destroyed{where}", quiet=quiet)
        case AlreadyErased(at_ms=at_ms):
            tell(f"{subject_id} was erased on {_format_time(at_ms)}; nothing was left to do", quiet=quiet)


@app.command(
    "open",
    help=describe(
        "Hand out the sealed facts of an entry; that is an entry of the log before you see them.",
        "assay subject open ent_0192… --tenant demo",
        "assay subject open ent_0192… --tenant demo --field email --json > values.json",
        "assay verify receipt payer.tlog-proof --key VKEY --sealed values.json   # whoever got the file",
        more="--json prints values and salts: with them, and a receipt of the entry, anybody can check that these are "
        "the facts that were logged. Keep such a file as you keep the facts.",
    ),
)
def open_facts(
    entry_id: Annotated[str, typer.Argument(help="Which entry: ent_….", metavar="ENTRY")],
    *,
    tenant: OfTenant,
    path: Annotated[list[str] | None, typer.Option("--field", help="Only this one; repeat for more.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="A code; it is logged.")] = "request",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Hand out sealed facts."""
    with open_installation() as installation:
        installation.read_tenant(tenant)
        outcome = installation.release(tenant, parse_entry_id(entry_id), path or (), reason=reason, actor=ACTOR)
    if isinstance(outcome, ErasedByPolicy):
        raise SubjectErasedError(f"these facts were erased on {_format_time(outcome.at_ms)}; nobody can open them")
    tell(f"logged as {format_entry_id(outcome.logged)}", quiet=quiet)
    if as_json:
        print_json(format_openings(outcome.openings))
        return
    for name, opening in outcome.openings.items():
        print_line(f"{name}: {opening.value if isinstance(opening.value, str) else canonical(opening.value).decode()}")


@app.command(
    help=describe(
        "Rebuild a lost erasure journal from the logs: who was erased, when and why.",
        "assay subject rebuild-journal",
        more="Stop the service first. The entries must give the root that was signed, or nothing is written: after "
        "restoring an older database run `assay ledger recover` before this. A journal that is damaged is to be moved "
        "away first. The next start erases again whom an older backup brought back.",
    )
)
def rebuild_journal(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Rebuild a lost erasure journal."""
    with open_installation() as installation:
        store, tenants = installation.subject_store(), installation.store.list_tenants()
        with FileErasureJournal.rebuilding(installation.settings.state_dir / JOURNAL_FILE) as journal:
            rebuilt = {
                tenant.id: rebuild(
                    tenant.id,
                    find_signed(installation, tenant),
                    reader=installation.store,
                    store=store,
                    journal=journal,
                )
                for tenant in tenants
            }
    if as_json:
        print_json({tenant: {"known": each.known, "added": each.added} for tenant, each in rebuilt.items()})
        return
    for tenant, each in rebuilt.items():
        tell(f"{tenant}: {each.known} erasures are known, {each.added} of them were not in the journal", quiet=quiet)


def find_signed(installation: Installation, tenant: Tenant) -> Checkpoint | None:
    """Return the newest checkpoint that a key of ours signed, by the anchor or the database; None before the first."""
    notes = (installation.anchor().find(tenant.origin), installation.store.find_checkpoint(tenant.id))
    known = installation.keyring.known(tenant)
    signed = [open_own_checkpoint(tenant.origin, note, known) for note in notes if note is not None]
    return max(signed, key=lambda checkpoint: checkpoint.size, default=None)


def _to_json(subject_id: str, outcome: Erased | AlreadyErased) -> dict[str, object]:
    if isinstance(outcome, AlreadyErased):
        return {"subject": subject_id, "outcome": "already_erased", "erased_at": _format_time(outcome.at_ms)}
    receipt = format_entry_id(outcome.receipt) if outcome.receipt else None
    return {"subject": subject_id, "outcome": "erased", "fields": outcome.fields, "receipt": receipt}


def _format_time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms):%Y-%m-%d %H:%M:%S} UTC"
