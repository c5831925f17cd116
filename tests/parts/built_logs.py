"""Logs made by the real sequencer, with fixed keys and entries, so that each can be made again the same."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from nacl.signing import SigningKey

from app.adapters.sql.engine import open_engine
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore
from app.ledger.append import prepare
from app.ledger.entry import Draft, commitment, format_entry_id
from app.ledger.ports import LedgerStore, Tenant
from app.ledger.publish import Sequencer
from app.ledger.registry import open_registry
from app.tlog.note import ED25519, VerifierKey, format_vkey

TENANT = Tenant(id="acme", origin="ledger.test/acme")
SALT = bytes(range(32))
START_MS = 1_712_345_678_000
REGISTRY = open_registry()


class SeedSigner:
    def __init__(self, name: str, number: int) -> None:
        self._key = SigningKey(number.to_bytes(32, "big"))
        self.key = VerifierKey(name=name, algorithm=ED25519, public_key=bytes(self._key.verify_key))
        self.vkey = format_vkey(self.key)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


class SeedKeyRing:
    def __init__(self, *signers: SeedSigner) -> None:
        self.signers = list(signers)
        self.all = list(signers)

    def active(self, _tenant: Tenant) -> Sequence[SeedSigner]:
        return self.signers

    def known(self, _tenant: Tenant) -> Sequence[str]:
        return [signer.vkey for signer in self.all]


class MemoryAnchor:
    def __init__(self) -> None:
        self.notes: dict[str, bytes] = {}

    @contextmanager
    def hold(self, _origin: str) -> Iterator[None]:
        yield

    def find(self, origin: str) -> bytes | None:
        return self.notes.get(origin)

    def write(self, origin: str, checkpoint: bytes) -> None:
        self.notes[origin] = checkpoint


SIGNER = SeedSigner(TENANT.origin, 1)


def make_id(number: int) -> UUID:
    return UUID(int=(START_MS + number) << 80 | 7 << 76 | 2 << 62 | number)


def make_draft(number: int) -> Draft:
    """Return the draft of entry `number`: a key first, then records and now and then a person."""
    if number == 0:
        return Draft(action="key.added", actor="system:assay", data={"vkey": SIGNER.vkey})
    if number % 7 == 3:
        name = commitment(SALT, "name", f"Person {number}")
        return Draft(
            action="customer.registered",
            actor="merchant:shop",
            subject=f"sub_{number:06d}",
            ref={"customer": f"cus_{number}"},
            data={"country": "DE"},
            sealed={"name": name},
            idem=number.to_bytes(32, "big"),
        )
    return Draft(
        action="document.recorded", actor="merchant:shop", data={"kind": "invoice", "sha256": f"{number:064x}"}
    )


class BuiltLog:
    """A log over a store, published whenever asked."""

    def __init__(self, store: LedgerStore, *, keyring: SeedKeyRing | None = None) -> None:
        self.store = store
        self.keyring = keyring or SeedKeyRing(SIGNER)
        self.anchor = MemoryAnchor()
        self.count = 0
        self.ids: list[str] = []
        store.add_tenant(TENANT)

    def append(self, *drafts: Draft) -> None:
        rows = []
        for draft in drafts:
            fingerprint = None if draft.idem is None else draft.idem
            entry_id = make_id(self.count)
            rows.append(prepare(REGISTRY, TENANT.id, draft, entry_id=entry_id, fingerprint=fingerprint))
            self.ids.append(format_entry_id(entry_id))
            self.count += 1
        with self.store.transaction() as tx:
            tx.append_entries(rows)

    def grow(self, size: int) -> None:
        """Append until the log has `size` entries, and publish."""
        self.append(*(make_draft(number) for number in range(self.count, size)))
        self.publish()

    def publish(self) -> None:
        with Sequencer(store=self.store, tenant=TENANT, anchor=self.anchor, keyring=self.keyring) as sequencer:
            while sequencer.step():
                pass


def build_sqlite(file: Path, sizes: Sequence[int]) -> BuiltLog:
    """Return a log in a new SQLite file, published at each of `sizes`."""
    url = f"sqlite:///{file}"
    upgrade(url)
    return build_sql(url, sizes)


def build_sql(url: str, sizes: Sequence[int]) -> BuiltLog:
    """Return a log in a migrated database; its connections are closed with it."""
    store = SqlStore(open_engine(url, pool_size=2))
    log = BuiltLog(store)
    weakref.finalize(log, store.close)
    for size in sizes:
        log.grow(size)
    return log
