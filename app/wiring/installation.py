"""One installation of Assay: the adapters that its settings ask for, behind the ports of the core."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from uuid import UUID

import uuid_utils

from app.adapters.anchor_file import FileAnchor
from app.adapters.connectors.stripe import StripeConnector
from app.adapters.erasure_journal import FileErasureJournal
from app.adapters.keyfile import FileKeyRing
from app.adapters.rego import RegoEngine
from app.adapters.sql.engine import open_engine
from app.adapters.sql.payments import SqlPaymentStore
from app.adapters.sql.policies import SqlBundleStore
from app.adapters.sql.store import SqlStore
from app.adapters.sql.subjects import SqlSubjectStore
from app.adapters.sql.tokens import SqlTokenStore
from app.credentials.pepper import Pepper, read_pepper
from app.errors import AssayError, Malformed
from app.ledger.anchored import verify_anchored
from app.ledger.append import append, prepare
from app.ledger.cosign import Cosigners
from app.ledger.entry import Draft, Entry, parse_entry
from app.ledger.group import GroupCommit
from app.ledger.keys import KEY_ACTIONS, KeyEntry, KeyLife, read_history
from app.ledger.ports import AppendResult, EntryRow, EntryWriter, Tenant
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.ledger.registry import open_registry
from app.payments.checkout import Checkout
from app.payments.ports import Clock, Connector
from app.policy.bundle import Bundle
from app.policy.decision import Decision
from app.policy.ports import PolicyEngine
from app.settings import Settings
from app.subjects.decider import Case, Decider
from app.subjects.erase import AlreadyErased, Erased, Replay, erase, replay_journal
from app.subjects.group import GroupDecide
from app.subjects.personal import ErasedByPolicy
from app.subjects.recall import Recall, open_tree
from app.subjects.release import Released, release
from app.subjects.shadow import Shadow
from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.tile import expand_tile
from app.wiring.policies import Policies, open_decider, open_policy_engine
from app.wiring.witnesses import open_cosigners

PUBLISH_LAG_LIMIT_S = 10
"""An entry that waits longer than this for its checkpoint makes us not ready, in seconds."""
JOURNAL_FILE = "erasures.jsonl"
BUNDLE_KEYS = "bundle_keys"
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
    package = Path(__file__).parents[1]
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
        self.policy_engine = open_policy_engine(settings, self.policies.library.read_loaded)

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
        if self.settings.trust_file is not None and tenant.id not in self._cosigners:
            self._cosigners[tenant.id] = open_cosigners(self.settings, self.settings.trust_file)
        return self._cosigners.get(tenant.id)

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

    @cached_property
    def decider(self) -> Decider:
        """What asks a bundle, and puts the answer on the log."""
        return self._open_decider(self.policy_engine)

    @cached_property
    def shadow(self) -> Shadow:
        """What asks the bundle on trial, with an engine of its own."""
        library = self.policies.library
        trial = self._open_decider(RegoEngine(library.read_loaded, workers=1))
        return Shadow(find_bundle=library.find_shadow, decide=trial.decide)

    def _open_decider(self, engine: PolicyEngine) -> Decider:
        return open_decider(
            self.subject_store(), self.append_in, self.prepare_row, engine, now=CLOCK.now, new_id=new_entry_id
        )

    def decide(self, case: Case) -> Decision:
        """Decide with the tenant's active bundle, and have the one on trial asked too."""
        decision = self.decider.decide(case, bundle=self.active_bundle(case.tenant).ref)
        self.shadow.ask(case, decision)
        return decision

    def group_decide(self, commit: GroupCommit) -> GroupDecide:
        """Return what decides about newcomers together, with the bundles in force."""
        return GroupDecide(self.decider, find_bundle=lambda tenant: self.active_bundle(tenant).ref, commit=commit)

    def checkout(self) -> Checkout:
        """Return what makes payments."""
        return Checkout(
            store=self.payment_store(),
            append=self.append_in,
            decide=self.decide,
            connectors=self.connectors(),
            secret=self.secret(PAYMENT_SECRET).secret,
            clock=CLOCK,
            new_id=new_entry_id,
            random_bytes=os.urandom,
        )

    def read_bundle(self, tenant: str, digest: str) -> Bundle:
        """Return a bundle that this tenant ever kept. Raises NotFound (`bundle_unknown`)."""
        return self.policies.library.read(tenant, digest)

    def active_bundle(self, tenant: str) -> Bundle:
        """Return the bundle that decides for this tenant; a promotion elsewhere is seen within a second."""
        return self.policies.library.active(tenant)

    def recall(self, tenant: Tenant, *, size: int | None = None, prover: Prover | None = None) -> Recall:
        """Return what reads a log's past decisions back, against its newest signed tree or that of `size`."""
        tree = open_tree(self.store, tenant, self.keyring.known(tenant), size=size)
        return Recall(tree, prover=prover or Prover(self.store), subjects=self.subject_store())

    def release(
        self, tenant: str, entry_id: UUID, paths: Collection[str] = (), *, reason: str, actor: str
    ) -> Released | ErasedByPolicy:
        """Hand out sealed facts of an entry, once it is logged that they are."""
        return release(
            tenant,
            entry_id,
            paths,
            reader=self.store,
            store=self.subject_store(),
            append=self.append_in,
            reason=reason,
            actor=actor,
            new_id=new_entry_id,
        )

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
        checks: dict[str, str | None] = {"database": None, "policy": self.policy_engine.find_problem()}
        try:
            for tenant in self.store.list_tenants():
                checks[f"log:{tenant.id}"] = self._find_log_problem(tenant)
        except AssayError as error:
            checks["database"] = str(error)
        return checks

    def log_states(self) -> list[LogState]:
        """Return how every log stands."""
        return [self._read_state(tenant) for tenant in self.store.list_tenants()]

    def reverified(self) -> dict[str, Entry | None]:
        """Return each open log with its newest entry `policy.reverified`, whoever wrote it; None if it has none."""
        found = {
            tenant.id: self.policies.store.find_reverified(tenant.id)
            for tenant in self.store.list_tenants()
            if not tenant.frozen
        }
        return {tenant: None if stored is None else parse_entry(stored.body) for tenant, stored in found.items()}

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

    def prepare_row(self, tenant: str, draft: Draft, entry_id: UUID) -> EntryRow:
        """Return the row of an entry that somebody else commits."""
        return prepare(self.registry, tenant, draft, entry_id=entry_id)

    def append_in(self, tx: EntryWriter, tenant: str, draft: Draft, entry_id: UUID) -> AppendResult:
        """Append one entry in the caller's transaction."""
        return append(tx, self.registry, tenant, draft, entry_id=entry_id)

    def append(self, tenant: str, draft: Draft) -> UUID:
        """Append one entry of our own in a transaction of its own, and return its id."""
        entry_id = new_entry_id()
        with self.store.transaction() as tx:
            self.append_in(tx, tenant, draft, entry_id)
        return entry_id
