"""`assay ledger`: how a log stands, its end, and its recovery after the anchor said no."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.opening import open_installation
from app.cli.output import EXIT_NOT_DONE, PLAIN, AsJson, OfTenant, Quiet, Yes, describe, print_json, print_line, tell
from app.cli.verify import guess
from app.errors import Malformed, Refused
from app.ledger.entry import format_entry_id, parse_entry
from app.ledger.freeze import freeze as freeze_log
from app.ledger.ports import Tenant
from app.ledger.recover import Diagnosis, State, diagnose, restore
from app.ledger.verify.source import LogSource
from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.policy import parse_policy
from app.wiring import Installation, new_entry_id

PENDING_LIMIT = 10_000
"""Pending entries are counted up to here."""
WAYS_OUT = {
    State.SOUND: "All that was signed is there; nothing to recover.",
    State.NEVER_SIGNED: "Nothing was signed yet; nothing to recover.",
    State.BEHIND: "Bring the entries back: --from with an export, a mirror or a newer copy of the database. If there "
    "is none, this log ends here: keep it for its proofs, and start a successor with `assay tenant add`.",
    State.DIVERGED: "This database has other entries than those that were signed: a copy that went its own way. "
    "Put the database back that signed them; this one must not sign.",
    State.ANCHOR_MISSING: "Restore the folder `anchors` of the state folder from its backup. Without it nobody can "
    "tell whether this database is the newest, so it must not sign.",
}

app = typer.Typer(help="Look at a log, freeze it, recover it.", no_args_is_help=True, add_completion=False, **PLAIN)


@app.command(
    help=describe(
        "Say how each log stands: size, root, pending entries, checkpoint, anchor, witnesses. Exit 1 if one is unwell.",
        "assay ledger status",
        "assay ledger status --tenant demo --json",
    )
)
def status(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="One log; all if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how each log stands."""
    with open_installation() as installation:
        tenants = [installation.read_tenant(tenant)] if tenant else installation.store.list_tenants()
        problems = installation.check_readiness()
        states = [read_status(installation, each, problems.get(f"log:{each.id}")) for each in tenants]
    if as_json:
        print_json(states)
    else:
        for state in states:
            for name, value in state.items():
                print_line(f"{name + ':':<16}{'-' if value is None else value}")
            print_line()
    if any(state["problem"] for state in states):
        raise typer.Exit(EXIT_NOT_DONE)


@app.command(
    help=describe(
        "End a log for good: `log.frozen` is its last entry, and nothing is appended or signed after it.",
        "assay ledger freeze --tenant demo --reason successor.started",
        more="Everything that was logged stays provable. There is no way back.",
    )
)
def freeze(
    tenant: OfTenant,
    reason: Annotated[str, typer.Option("--reason", help="A code.")],
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """End a log."""
    with open_installation() as installation:
        log = installation.read_tenant(tenant)
        if not yes and not typer.confirm(f"End {log.origin} for good?", err=True):
            raise Refused("nothing was done", code="not_confirmed")
        last = freeze_log(installation.store, installation.registry, tenant, reason=reason, entry_id=new_entry_id())
    tell(f"{log.origin} ends with {format_entry_id(last.id)}; the sequencer publishes it once more", quiet=quiet)


@app.command(
    help=describe(
        "Say what a restored or copied database lacks, and bring it back from an export, a mirror or a newer copy.",
        "assay ledger recover --tenant demo",
        "assay ledger recover --tenant demo --from ./export",
        "assay ledger recover --tenant demo --from sqlite:///newer.db",
        more="Stop the service first. Nothing of the source is trusted: its entries must give the signed root. "
        "Without --from nothing is changed.",
    )
)
def recover(
    tenant: OfTenant,
    source: Annotated[
        str | None, typer.Option("--from", help="An export's directory, a database URL or a server's address.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Bring back what was lost."""
    with open_installation() as installation:
        log = installation.read_tenant(tenant)
        with installation.anchor().hold(log.origin), installation.store.sequencer_lock(tenant):
            diagnosis = read_diagnosis(installation, log)
            copy = open_copy(source, tenant) if source else None
            restored = restore(installation.store, log, diagnosis, copy) if copy else 0
    if as_json:
        lost = (diagnosis.lost_from, diagnosis.lost_to)
        print_json({"log": log.origin, "state": diagnosis.state.value, "lost": lost, "restored": restored})
    elif restored:
        tell(f"{restored} entries are back, and give the signed root: start the service again", quiet=quiet)
    else:
        print_line(f"{log.origin}: {diagnosis.state.value}. {diagnosis.problem or WAYS_OUT[diagnosis.state]}")
        tell(WAYS_OUT[diagnosis.state], quiet=quiet or diagnosis.problem is None)
    if diagnosis.problem and not restored:
        raise typer.Exit(EXIT_NOT_DONE)


def read_diagnosis(installation: Installation, log: Tenant) -> Diagnosis:
    """Return how the log stands towards what was last signed."""
    note = installation.store.find_checkpoint(log.id)
    return diagnose(
        installation.store,
        log,
        installation.anchor().find(log.origin),
        installation.keyring.known(log),
        exposed_size=parse_checkpoint(parse_note(note).text).size if note else 0,
    )


def open_copy(source: str, tenant: str) -> LogSource:
    """Return another copy of the log."""
    found = guess(source, tenant)
    if isinstance(found, Path):
        raise Malformed(f"{source} is a file: give an export's directory, a database URL or an address")
    return found


def read_status(installation: Installation, tenant: Tenant, problem: str | None) -> dict[str, Any]:
    """Return the facts about one log, by name, in the order in which one reads them."""
    store = installation.store
    head = store.read_head(tenant.id)
    pending = len(store.list_pending(tenant.id, head.settled_seq, PENDING_LIMIT).entries)
    note = store.find_checkpoint(tenant.id)
    newest = store.list_bodies(tenant.id, head.size - 1, head.size) if head.size else []
    age_s = int(time.time() - parse_entry(newest[0]).time_ms / 1000) if newest else None
    return {
        "log": tenant.origin,
        "state": "frozen" if tenant.frozen else "open",
        "size": head.size,
        "root": head.root.hex(),
        "pending": f"{PENDING_LIMIT} or more" if pending == PENDING_LIMIT else pending,
        "published": parse_checkpoint(parse_note(note).text).size if note else 0,
        "newest_entry_s": age_s,
        "anchor": "agrees" if problem is None else "see problem",
        "witnesses": _describe_witnesses(installation, note),
        "problem": problem,
    }


def _describe_witnesses(installation: Installation, note: bytes | None) -> str:
    """Return how many of the trust file's witnesses signed the newest checkpoint."""
    path = installation.settings.trust_file
    if path is None:
        return "none configured"
    witnesses = parse_policy(path.read_bytes()).witnesses
    signed = {(line.name, line.key_id) for line in parse_note(note).signatures} if note else set()
    cosigned = sum((witness.key.name, witness.key.key_id) in signed for witness in witnesses)
    return f"{cosigned} of {len(witnesses)} cosigned"
