"""`assay key`: the keys that sign a log's checkpoints, told by the log's own entries (app.ledger.keys)."""

from __future__ import annotations

import time
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.keyfile import create_key_file, retire_key_file
from app.cli.opening import open_installation
from app.cli.output import PLAIN, AsJson, OfTenant, Quiet, Yes, describe, print_json, print_line, print_table, tell
from app.errors import Conflict, Refused, Unavailable
from app.ledger.entry import Draft
from app.ledger.keys import KEY_ADDED, KEY_RETIRED, KeyHistory, KeyLife, check_addition, check_retirement
from app.ledger.ports import LogFrozenError, Tenant
from app.ledger.prove import Prover
from app.tlog.note import parse_vkey
from app.wiring import Installation

ACTOR = "operator:cli"
PUBLISH_LIMIT_S = 15.0
PUBLISH_POLL_S = 0.1

app = typer.Typer(
    help="List, rotate and retire the keys of a log.", no_args_is_help=True, add_completion=False, **PLAIN
)


@app.command("list", help=describe("List a log's keys and where each was added and retired.", "assay key list -t demo"))
def list_all(tenant: OfTenant, as_json: AsJson = False) -> None:
    """List a log's keys."""
    with open_installation() as installation:
        lives = installation.log_keys(tenant)
    if as_json:
        print_json([{"vkey": key.vkey, "added": key.added_at_index, "retired": key.retired_at_index} for key in lives])
        return
    rows = [
        (key.added_at_index, "active" if key.retired_at_index is None else key.retired_at_index, key.vkey)
        for key in lives
    ]
    print_table(("ADDED", "RETIRED", "VERIFIER KEY"), rows, empty="no key is published yet: is the sequencer running?")


@app.command(
    help=describe(
        "Add a new key; the old one signs beside it until you retire it.",
        "assay key rotate --tenant demo",
        "assay key retire 'assay.localhost/demo+0a1b2c3d+AQ…' --tenant demo   # later, when auditors have the new one",
        more="Give the new verifier key to your auditors; from the next checkpoint on, both keys sign.",
    )
)
def rotate(tenant: OfTenant, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Add a new key."""
    with open_installation() as installation:
        owner = installation.read_tenant(tenant)
        if owner.frozen:
            raise LogFrozenError(f"{owner.origin} is frozen: nothing is signed any more, so no key is needed")
        history = _read_history(installation, owner)
        vkey = _find_unannounced(installation, owner, history)
        if vkey is None:
            vkey = create_key_file(installation.settings.state_dir / "keys", owner.origin)
        check_addition(history, vkey, next_index=installation.store.read_head(tenant).size)
        entry_id = installation.append(tenant, Draft(action=KEY_ADDED, actor=ACTOR, data={"vkey": vkey}))
        published = _wait_until_published(installation, tenant, entry_id)
    if as_json:
        print_json({"vkey": vkey, "published": published})
        return
    state = "is published" if published else "waits for the sequencer"
    tell(f"the new key's entry {state}; its verifier key:", quiet=quiet)
    print_line(vkey)


@app.command(
    help=describe(
        "Retire a key: log it, wait until that is published, then destroy its seed for good.",
        "assay key retire 'assay.localhost/demo+0a1b2c3d+AQ…' --tenant demo",
        more="Refused until its successor is published. Old checkpoints stay valid. If interrupted, run it again.",
    )
)
def retire(
    vkey: Annotated[str, typer.Argument(help="The verifier key, as `assay key list` prints it.")],
    tenant: OfTenant,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Retire a key."""
    parse_vkey(vkey)
    with open_installation() as installation:
        owner = installation.read_tenant(tenant)
        if not yes and not typer.confirm(f"Retire {vkey} for good?", err=True):
            raise Refused("nothing was done", code="not_confirmed")
        if not _is_retired(installation, owner, vkey):
            size = Prover(installation.store).read_published(tenant).size
            check_retirement(_read_history(installation, owner), vkey, published_size=size)
            entry_id = installation.append(tenant, Draft(action=KEY_RETIRED, actor=ACTOR, data={"vkey": vkey}))
            if not _wait_until_published(installation, tenant, entry_id):
                raise Unavailable("it is logged and not yet published; run the same command again", code="unpublished")
        retire_key_file(installation.settings.state_dir / "keys", vkey)
    tell(f"{vkey} is retired, and its seed is destroyed", quiet=quiet)


def _read_history(installation: Installation, tenant: Tenant) -> KeyHistory:
    lives = tuple(installation.log_keys(tenant.id))
    last = max((max(life.added_at_index, life.retired_at_index or -1) for life in lives), default=-1)
    return KeyHistory(origin=tenant.origin, lives=lives, last_index=last)


def _find_unannounced(installation: Installation, tenant: Tenant, history: KeyHistory) -> str | None:
    """Return a key that an interrupted rotation made and did not log. Raises Conflict if one is logged and pending."""
    logged = {life.vkey for life in history.lives}
    made = [signer.vkey for signer in installation.keyring.active(tenant) if signer.vkey not in logged]
    pending = installation.store.list_pending(tenant.id, installation.store.read_head(tenant.id).settled_seq, 4096)
    if any(entry.action == KEY_ADDED for entry in pending.entries):
        raise Conflict("a new key is logged and not yet published; is the sequencer running?", code="key_pending")
    return made[0] if made else None


def _is_retired(installation: Installation, tenant: Tenant, vkey: str) -> bool:
    """Say whether `key.retired` of this key is published."""
    found: list[KeyLife] = [life for life in installation.log_keys(tenant.id) if life.vkey == vkey]
    size = Prover(installation.store).read_published(tenant.id).size
    return bool(found) and found[0].retired_at_index is not None and found[0].retired_at_index < size


def _wait_until_published(installation: Installation, tenant: str, entry_id: UUID) -> bool:
    """Say whether the entry was published within `PUBLISH_LIMIT_S`."""
    deadline_s = time.monotonic() + PUBLISH_LIMIT_S
    prover = Prover(installation.store)
    while time.monotonic() < deadline_s:
        entry = installation.store.find_entry(tenant, entry_id)
        if entry is not None and entry.index is not None and entry.index < prover.read_published(tenant).size:
            return True
        time.sleep(PUBLISH_POLL_S)
    return False
