"""Setting up: the state folder with its secrets, and tenants with their logs."""

from __future__ import annotations

import os

from app.adapters.anchor_file import FileAnchor
from app.adapters.bundle_key import create_bundle_key
from app.adapters.erasure_journal import FileErasureJournal
from app.adapters.keyfile import create_key_file
from app.credentials.pepper import create_pepper
from app.errors import Conflict
from app.ledger.entry import Draft
from app.ledger.ports import Tenant
from app.settings import Settings
from app.wiring.installation import BUNDLE_KEYS, JOURNAL_FILE, PAYMENT_SECRET, TOKEN_SECRET, Installation

SECRET_BYTES = 32


def initialise(settings: Settings) -> list[str]:
    """Create the state folder and its secrets; return what was created. Safe to repeat.

    The secrets are last: where they are, the journal was, and one that is missing was lost. An empty one in its place
    would let a restored backup bring erased people back (`assay subject rebuild-journal`).
    """
    created = []
    folder = settings.state_dir / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    FileAnchor.create(settings.state_dir / "anchors")
    if not (folder / TOKEN_SECRET).exists():
        FileErasureJournal.create(settings.state_dir / JOURNAL_FILE)
    if key := create_bundle_key(settings.state_dir / BUNDLE_KEYS):
        created.append(str(key))
    for name in (TOKEN_SECRET, PAYMENT_SECRET):
        path = folder / name
        if not path.exists():
            create_pepper(path, os.urandom(SECRET_BYTES))
            created.append(str(path))
    return created


def add_tenant(installation: Installation, tenant_id: str) -> tuple[Tenant, str]:
    """Create a tenant with its log key and its first policies; its first entry announces that key, which is returned.

    A crash between the steps leaves a key file or a tenant without its first entry; calling again completes it.
    """
    origin = f"{installation.settings.origin_host}/{tenant_id}"
    tenant = Tenant(id=tenant_id, origin=origin)
    known = installation.keyring.known(tenant)
    vkey = known[0] if known else create_key_file(installation.settings.state_dir / "keys", origin)
    try:
        installation.store.add_tenant(tenant)
    except Conflict:
        if installation.store.find_tenant(tenant_id) != tenant:
            raise
    if not _has_entries(installation, tenant_id):
        installation.append(tenant_id, Draft(action="key.added", actor="operator:init", data={"vkey": vkey}))
    installation.policies.adopt(tenant_id)
    return tenant, vkey


def _has_entries(installation: Installation, tenant_id: str) -> bool:
    head = installation.store.read_head(tenant_id)
    return head.size > 0 or bool(installation.store.list_pending(tenant_id, 0, 1).entries)
