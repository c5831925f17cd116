"""The only place where adapters meet ports. Everything is built here, from one `Settings`."""

from __future__ import annotations

import hmac
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

import uuid_utils

from app.adapters.anchor_file import FileAnchor
from app.adapters.bundle_key import create_bundle_key
from app.adapters.connectors.stripe import StripeConnector
from app.adapters.erasure_journal import FileErasureJournal
from app.adapters.keyfile import FileKeyRing, create_key_file
from app.adapters.sql.engine import open_engine
from app.adapters.sql.payments import SqlPaymentStore
from app.adapters.sql.policies import SqlBundleStore
from app.adapters.sql.store import SqlStore
from app.adapters.sql.subjects import SqlSubjectStore
from app.adapters.sql.tokens import SqlTokenStore
from app.adapters.witness_http import HttpWitness
from app.credentials.authenticator import Authenticator
from app.credentials.merchant_token import Principal
from app.credentials.pepper import Pepper, create_pepper, read_pepper
from app.errors import AssayError, Conflict, Malformed
from app.ledger.action import Registry
from app.ledger.anchored import verify_anchored
from app.ledger.append import append
from app.ledger.cosign import Cosigners, Mode, WitnessEvent
from app.ledger.entry import Draft, parse_entry
from app.ledger.group import GroupCommit
from app.ledger.keys import KEY_ACTIONS, KeyEntry, KeyLife, read_history
from app.ledger.ports import AppendResult, EntryWriter, LedgerStore, Tenant
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.ledger.registry import open_registry
from app.ledger.wait import PublicationWatch
from app.payments.checkout import Checkout
from app.payments.ports import Clock, Connector
from app.policy.bundle import Bundle
from app.policy_wiring import EngineOfBundles, Policies
from app.settings import Settings
from app.subjects.erase import AlreadyErased, Erased, Replay, erase, replay_journal
from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.policy import parse_policy
from app.tlog.tile import expand_tile

log = logging.getLogger("assay.wiring")

PUBLISH_LAG_LIMIT_S = 10
"""An entry that waits longer than this for its checkpoint makes us not ready, in seconds."""
SECRET_BYTES = 32
JOURNAL_FILE = "erasures.jsonl"
BUNDLE_KEYS = "bundle_keys"
FINGERPRINT_CONTEXT = b"assay/fingerprint/v1\0"
"""Keeps the fingerprints of requests apart from all else that the secret is used for."""
TOKEN_SECRET = "tokens"  # noqa: S105 -- a file name
PAYMENT_SECRET = "payments"  # noqa: S105 -- a file name


def new_entry_id() -> UUID:
    """Return a UUIDv7 of now, ordered within the process even if the clock stands still."""
    return UUID(int=uuid_utils.uuid7().int)


def now_ms() -> int:
    """Return the wall clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


CLOCK = Clock(now=lambda: datetime.now(UTC), monotonic_s=time.monotonic, sleep=time.sleep, random=random.random)


def find_shipped(folder: str) -> Path:
    """Return a folder that ships with Assay: from the checkout, or from the installed package."""
    package = Path(__file__).parent
    checkout = package.parent / folder
    return checkout if checkout.is_dir() else package / "shipped" / folder


@dataclass(frozen=True, slots=True)
class LogState:
    """How far a log is: entries with an index, under a checkpoint, and how long the oldest other one has waited."""

    tenant: str
    size: int
    published_size: int
    waiting_s: int


class Installation:
    """One installation of Assay: its state folder and its store."""

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet but the engine, which connects on first use."""
        self.settings = settings
        self.engine = open_engine(settings.database, pool_size=settings.pool_size)
        self.store = SqlStore(self.engine)
        self.registry = open_registry()
        self.keyring = FileKeyRing(settings.state_dir / "keys")
        self._cosigners: dict[str, Cosigners] = {}
        folder, keys = settings.policies_dir or find_shipped("policies"), settings.state_dir / BUNDLE_KEYS
        bundles = SqlBundleStore(self.store, self.engine)
        self.policies = Policies(folder, keys, store=bundles, append=self.append_in, new_id=new_entry_id)

    def secret(self, name: str) -> Pepper:
        """Return a secret of this installation. Raises Unavailable if `assay init` was not run."""
        return read_pepper(self.settings.state_dir / "secrets" / name)

    def anchor(self) -> FileAnchor:
        """Return the anchor of this installation; `initialise` made its folder."""
        return FileAnchor(self.settings.state_dir / "anchors")

    def read_tenant(self, tenant: str) -> Tenant:
        """Return a tenant. Raises Malformed with the way out if there is none."""
        found = self.store.find_tenant(tenant)
        if found is None:
            raise Malformed(f"there is no tenant {tenant!r}; `assay tenant list` shows them", code="tenant_unknown")
        return found

    def sequencer(self, tenant: Tenant) -> Sequencer:
        """Return the sequencer of one log."""
        return Sequencer(
            store=self.store,
            tenant=tenant,
            anchor=self.anchor(),
            keyring=self.keyring,
            cosigner=self._cosigner(tenant),
        )

    def _cosigner(self, tenant: Tenant) -> Cosigners | None:
        """Return who asks the witnesses of the trust file, kept as long as the process; None without such a file."""
        settings = self.settings
        if settings.trust_file is None:
            return None
        if tenant.id not in self._cosigners:
            policy = parse_policy(settings.trust_file.read_bytes())
            clients = [
                HttpWitness(witness.name, witness.url, timeout_s=settings.witness_timeout_s)
                for witness in policy.witnesses
                if witness.url
            ]
            self._cosigners[tenant.id] = Cosigners(
                policy,
                clients,
                mode=Mode(settings.witness_mode),
                timeout_s=settings.witness_timeout_s,
                report=_report_witness,
            )
        return self._cosigners[tenant.id]

    def token_store(self) -> SqlTokenStore:
        """Return where tokens are kept."""
        return SqlTokenStore(self.store, self.engine)

    def subject_store(self) -> SqlSubjectStore:
        """Return where people's sealed data is kept."""
        return SqlSubjectStore(self.store, self.engine)

    def payment_store(self) -> SqlPaymentStore:
        """Return where payments are kept."""
        return SqlPaymentStore(self.store, self.engine, self.append_in, new_entry_id)

    def erasure_journal(self) -> FileErasureJournal:
        """Return the journal of erasures, outside the database; `initialise` made it."""
        return FileErasureJournal(self.settings.state_dir / JOURNAL_FILE)

    def connectors(self) -> dict[str, Connector]:
        """Return the PSPs that are wired, by name."""
        settings = self.settings
        stripe = StripeConnector(
            api_key=settings.stripe_api_key.get_secret_value(),
            base_address=settings.stripe_api_base,
            connect_timeout_s=settings.psp_connect_timeout_s,
            read_timeout_s=settings.psp_read_timeout_s,
        )
        return {stripe.psp: stripe}

    def checkout(self) -> Checkout:
        """Return what makes payments."""
        return Checkout(
            store=self.payment_store(),
            append=self.append_in,
            engine=EngineOfBundles(self.policies.library.read_loaded),
            active_bundle=self.active_bundle,
            connectors=self.connectors(),
            secret=self.secret(PAYMENT_SECRET).secret,
            clock=CLOCK,
            new_id=new_entry_id,
            random_bytes=os.urandom,
            monotonic_ns=time.perf_counter_ns,
        )

    def read_bundle(self, tenant: str, digest: str) -> Bundle:
        """Return a bundle that this tenant ever kept. Raises NotFound (`bundle_unknown`)."""
        return self.policies.library.read(tenant, digest)

    def active_bundle(self, tenant: str) -> Bundle:
        """Return the bundle that decides for this tenant; a promotion elsewhere is seen within a second."""
        return self.policies.library.active(tenant)

    def erase(self, tenant: str, subject: str, *, reason: str, actor: str) -> Erased | AlreadyErased:
        """Erase a person's data."""
        return erase(
            tenant,
            subject,
            store=self.subject_store(),
            journal=self.erasure_journal(),
            append=self.append_in,
            reason=reason,
            actor=actor,
            new_id=new_entry_id,
        )

    def replay_erasures(self) -> Replay:
        """Erase again what a restored backup brought back; before anything is served."""
        return replay_journal(
            store=self.subject_store(), journal=self.erasure_journal(), append=self.append_in, new_id=new_entry_id
        )

    def log_keys(self, tenant: str) -> Sequence[KeyLife]:
        """Return the log's keys and where each was added and retired, as its own entries say."""
        entries = []
        for stored in self.store.list_log_events(tenant):
            entry = parse_entry(stored.body)
            if stored.index is not None and entry.action in KEY_ACTIONS:
                entries.append(KeyEntry(index=stored.index, action=entry.action, vkey=entry.data.get("vkey")))
        return read_history(self.read_tenant(tenant).origin, entries).lives

    def check_readiness(self) -> dict[str, str | None]:
        """Return what must work before we take traffic, each with its problem or None."""
        checks: dict[str, str | None] = {"database": None}
        try:
            for tenant in self.store.list_tenants():
                checks[f"log:{tenant.id}"] = self._find_log_problem(tenant)
        except AssayError as error:
            checks["database"] = str(error)
        return checks

    def log_states(self) -> list[LogState]:
        """Return how every log stands."""
        return [self._read_state(tenant) for tenant in self.store.list_tenants()]

    def _read_state(self, tenant: Tenant) -> LogState:
        head = self.store.read_head(tenant.id)
        note = self.store.find_checkpoint(tenant.id)
        waiting = () if head.frozen else self.store.list_pending(tenant.id, head.settled_seq, 1).entries
        waiting_s = (now_ms() - parse_entry(waiting[0].body).time_ms) // 1000 if waiting else 0
        return LogState(tenant.id, head.size, parse_checkpoint(parse_note(note).text).size if note else 0, waiting_s)

    def _find_log_problem(self, tenant: Tenant) -> str | None:
        """Return why this log is not being published, or None."""
        state = self._read_state(tenant)
        try:
            verify_anchored(
                tenant.origin,
                self.anchor().find(tenant.origin),
                head=self.store.read_head(tenant.id),
                exposed_size=state.published_size,
                known=self.keyring.known(tenant),
                read_tile=lambda level, number, width: expand_tile(
                    self.store.read_tile(tenant.id, level, number, width)
                ),
            )
        except AssayError as error:
            return str(error)
        if state.waiting_s > PUBLISH_LAG_LIMIT_S:
            return f"an entry waits for publication since {state.waiting_s} s; is `assay sequencer` running?"
        return None

    def append_in(self, tx: EntryWriter, tenant: str, draft: Draft, entry_id: UUID) -> AppendResult:
        """Append one entry in the caller's transaction."""
        return append(tx, self.registry, tenant, draft, entry_id=entry_id)

    def append(self, tenant: str, draft: Draft) -> UUID:
        """Append one entry of our own in a transaction of its own, and return its id."""
        entry_id = new_entry_id()
        with self.store.transaction() as tx:
            self.append_in(tx, tenant, draft, entry_id)
        return entry_id


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the web application calls: one per process."""

    settings: Settings
    store: LedgerStore
    registry: Registry
    prover: Prover
    watch: PublicationWatch
    group: GroupCommit
    authenticate: Callable[[str], Principal]
    checkout: Checkout
    payment_store: SqlPaymentStore
    erase: Erase
    log_keys: Callable[[str], Sequence[KeyLife]]
    errors_page: str
    log_states: Callable[[], Sequence[LogState]]
    readiness: Callable[[], Mapping[str, str | None]]
    fingerprint: Callable[[bytes], bytes]
    now_ms: Callable[[], int]
    new_entry_id: Callable[[], UUID]


def _report_witness(event: WitnessEvent) -> None:
    log.warning("witness %s: %s: %s", event.witness, event.code, event.detail)


class Erase(Protocol):
    """Erases a person's data, as app.subjects.erase.erase does."""

    def __call__(self, tenant: str, subject: str, *, reason: str, actor: str) -> Erased | AlreadyErased:
        """Return what was done."""
        ...


def build_services(installation: Installation) -> Services:
    """Return what the web application calls; starts the threads of this process."""
    store = installation.store
    installation.policies.adopt_where_missing()
    prover = Prover(store)
    watch = PublicationWatch(store, prover)
    tokens = Authenticator(
        store=installation.token_store(), pepper=installation.secret(TOKEN_SECRET), monotonic_s=time.monotonic
    )
    secret = installation.secret(PAYMENT_SECRET).secret
    return Services(
        settings=installation.settings,
        store=store,
        registry=installation.registry,
        prover=prover,
        watch=watch,
        group=GroupCommit(store, watch),
        checkout=installation.checkout(),
        payment_store=installation.payment_store(),
        erase=installation.erase,
        authenticate=lambda presented: tokens.authenticate(presented, now_ms=now_ms()),
        log_keys=installation.log_keys,
        errors_page=(find_shipped("docs") / "errors.md").read_text(),
        log_states=installation.log_states,
        readiness=installation.check_readiness,
        fingerprint=lambda request: hmac.digest(secret, FINGERPRINT_CONTEXT + request, "sha256"),
        now_ms=now_ms,
        new_entry_id=new_entry_id,
    )
