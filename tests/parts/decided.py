"""A log with real decisions in it: the shipped policies, sealed inputs, published by the real sequencer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from uuid_utils.compat import uuid7

from app.adapters.rego import RegoEngine
from app.adapters.sql.engine import open_engine
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore
from app.adapters.sql.subjects import SqlSubjectStore
from app.ledger.append import append
from app.ledger.entry import Draft
from app.ledger.ports import EntryFilter, StoredEntry
from app.ledger.prove import Prover
from app.policy.bundle import Bundle, make_bundle
from app.policy.decide import decide, decision_data, input_document
from app.policy.decision import Mode
from app.policy.query import payment_query
from app.policy.record import ACTION, INPUT, format_input
from app.policy.replay import Past, Unusable
from app.subjects.erase import erase
from app.subjects.personal import append_personal
from app.subjects.recall import Recall, open_tree
from tests.fakes.people import MemoryJournal
from tests.parts.built_logs import REGISTRY, SIGNER, TENANT, BuiltLog
from tests.policies.rego_suite import shipped

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BUNDLE = shipped()
PLAIN: dict[str, Any] = {
    "amount_minor": 1499,
    "currency": "EUR",
    "country": "DE",
    "payer_name": "Ada Lovelace",
    "payer_country": "DE",
}


def change(bundle: Bundle, path: str, old: str, new: str, *, name: str = "candidate") -> Bundle:
    """Return the bundle with one text of one module replaced."""
    files = {each: text.encode() for each, text in bundle.modules.items()}
    assert old in bundle.modules[path]
    files[path] = bundle.modules[path].replace(old, new).encode()
    root = Path(__file__).parents[2] / "policies"
    files |= {f"data/{each}/data.json": (root / f"data/{each}/data.json").read_bytes() for each in bundle.data}
    return make_bundle(files, name=name)


@dataclass(slots=True)
class DecidedLog:
    """A log in SQLite, and who decides."""

    store: SqlStore
    subjects: SqlSubjectStore
    log: BuiltLog
    engine: Any = field(default_factory=lambda: RegoEngine(lambda _: BUNDLE))
    made: int = 0
    last: dict[str, Any] = field(default_factory=dict)

    def decide(
        self,
        *,
        subject: str = "sub_ada",
        mode: Mode = Mode.ENFORCE,
        tamper: Any = lambda data, document: None,
        **facts: Any,
    ) -> str:
        """Decide and log as checkout does; `tamper` may change data and document first. Returns the decision's id."""
        query, now = payment_query(**{**PLAIN, **facts}), NOW + timedelta(seconds=self.made)
        self.made += 1
        salt = os.urandom(32)
        decision = decide(
            self.engine,
            query,
            bundle=BUNDLE.ref,
            now=now,
            salt=salt,
            new_id=uuid7,
            monotonic_ns=lambda: 0,
            mode=mode,
        )
        data, document = decision_data(decision), input_document(query, now)
        tamper(data, document)
        draft = Draft(
            action=ACTION,
            actor="merchant:shop",
            subject=subject,
            ref={"decision": decision.decision_id},
            data=data,
        )
        with self.subjects.transaction() as tx:
            append_personal(
                tx,
                TENANT.id,
                draft,
                {INPUT: format_input(document, salt)},
                entry_id=uuid7(),
                append=lambda tx, tenant, draft, entry_id: append(tx, REGISTRY, tenant, draft, entry_id=entry_id),
                random_bytes=os.urandom,
            )
        return decision.decision_id

    def erase(self, subject: str) -> None:
        erase(
            TENANT.id,
            subject,
            store=self.subjects,
            journal=MemoryJournal(),
            append=lambda tx, tenant, draft, entry_id: append(tx, REGISTRY, tenant, draft, entry_id=entry_id),
            reason="request",
            actor="operator:test",
            new_id=uuid7,
        )

    def list_decisions(self) -> list[StoredEntry]:
        page = self.store.list_entries(TENANT.id, EntryFilter(action=ACTION), start=0, stop=10_000, limit=250)
        return list(page.entries)

    def open_recall(self) -> Recall:
        tree = open_tree(self.store, TENANT, [SIGNER.vkey])
        return Recall(tree, prover=Prover(self.store), subjects=self.subjects)

    def recall(self) -> list[Past | Unusable]:
        """Publish, and read every decision back."""
        self.log.publish()
        return self.open_recall().recall(self.list_decisions())


@contextmanager
def open_decided(folder: Path) -> Iterator[DecidedLog]:
    """Lend a new log."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    upgrade(url)
    engine = open_engine(url, pool_size=2)
    store = SqlStore(engine)
    with closing(store):
        log = BuiltLog(store)
        log.grow(1)
        yield DecidedLog(store, SqlSubjectStore(store, engine), log)
