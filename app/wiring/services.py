"""What the web application calls: everything that one process needs, built once."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from app.adapters.sql.payments import SqlPaymentStore
from app.adapters.sql.subjects import keep_newcomers
from app.credentials.authenticator import Authenticator
from app.credentials.merchant_token import Principal
from app.ledger.action import Registry
from app.ledger.entry import Entry
from app.ledger.group import GroupCommit
from app.ledger.keys import KeyLife
from app.ledger.ports import LedgerStore
from app.ledger.prove import Prover
from app.ledger.wait import PublicationWatch
from app.payments.checkout import Checkout
from app.policy.authorize import Authorize
from app.policy.bundle import Bundle
from app.policy.decision import Decision
from app.settings import Settings
from app.subjects.decider import Case
from app.subjects.erase import AlreadyErased, Erased
from app.subjects.group import GroupDecide
from app.subjects.personal import ErasedByPolicy
from app.subjects.recall import Recall
from app.subjects.release import Released
from app.subjects.shadow import Shadow
from app.wiring.installation import (
    PAYMENT_SECRET,
    TOKEN_SECRET,
    Installation,
    LogState,
    find_shipped,
    new_entry_id,
    now_ms,
)
from app.wiring.policies import Policies

FINGERPRINT_CONTEXT = b"assay/fingerprint/v1\0"
"""Keeps the fingerprints of requests apart from all else that the secret is used for."""


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
    authorize: Authorize
    policies: Policies
    decide: Callable[[Case], Decision]
    group_decide: GroupDecide
    shadow: Shadow
    checkout: Checkout
    payment_store: SqlPaymentStore
    recall: Callable[[str], Recall]
    read_bundle: Callable[[str, str], Bundle]
    erase: Erase
    release: Release
    log_keys: Callable[[str], Sequence[KeyLife]]
    errors_page: str
    log_states: Callable[[], Sequence[LogState]]
    reverified: Callable[[], Mapping[str, Entry | None]]
    readiness: Callable[[], Mapping[str, str | None]]
    fingerprint: Callable[[bytes], bytes]
    now_ms: Callable[[], int]
    new_entry_id: Callable[[], UUID]


class Release(Protocol):
    """Hands out sealed facts, as app.subjects.release.release does."""

    def __call__(
        self, tenant: str, entry_id: UUID, paths: Collection[str] = (), *, reason: str, actor: str
    ) -> Released | ErasedByPolicy:
        """Return the facts, once it is logged that they are handed out."""
        ...


class Erase(Protocol):
    """Erases a person's data, as app.subjects.erase.erase does."""

    def __call__(self, tenant: str, subject: str, *, reason: str, actor: str) -> Erased | AlreadyErased:
        """Return what was done."""
        ...


def build_services(installation: Installation) -> Services:
    """Return what the web application calls; starts the threads of this process."""
    store = installation.store
    installation.policies.adopt_where_missing()
    prover = Prover(store, lambda tenant: installation.keyring.known(installation.read_tenant(tenant)))
    watch = PublicationWatch(store, prover)
    tokens = Authenticator(
        store=installation.token_store(), pepper=installation.secret(TOKEN_SECRET), monotonic_s=time.monotonic
    )
    group = GroupCommit(store, watch, keep=keep_newcomers)
    secret = installation.secret(PAYMENT_SECRET).secret
    return Services(
        settings=installation.settings,
        store=store,
        registry=installation.registry,
        prover=prover,
        watch=watch,
        group=group,
        policies=installation.policies,
        decide=installation.decide,
        group_decide=installation.group_decide(group),
        shadow=installation.shadow,
        checkout=installation.checkout(),
        payment_store=installation.payment_store(),
        recall=lambda tenant: installation.recall(installation.read_tenant(tenant), prover=prover),
        read_bundle=installation.read_bundle,
        erase=installation.erase,
        release=installation.release,
        authenticate=lambda presented: tokens.authenticate(presented, now_ms=now_ms()),
        authorize=installation.policies.authorizer().require,
        log_keys=installation.log_keys,
        errors_page=(find_shipped("docs") / "errors.md").read_text(),
        log_states=installation.log_states,
        reverified=installation.reverified,
        readiness=installation.check_readiness,
        fingerprint=lambda request: hmac.digest(secret, FINGERPRINT_CONTEXT + request, "sha256"),
        now_ms=now_ms,
        new_entry_id=new_entry_id,
    )
