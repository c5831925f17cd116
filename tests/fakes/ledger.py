"""A ledger in memory that fails where it is told to, and remembers every signature: for unit tests and simulations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from nacl.signing import SigningKey

from app.adapters.memory import MemoryStore
from app.errors import Unavailable
from app.ledger.append import prepare
from app.ledger.entry import Draft
from app.ledger.ports import AppendResult, EntryRow, NotLeaderError, Tenant
from app.ledger.publish import Sequencer
from app.ledger.registry import open_registry
from app.tlog.checkpoint import Checkpoint, parse_checkpoint
from app.tlog.note import ED25519, SignedNote, VerifierKey, format_vkey
from app.tlog.policy import Log, Policy
from app.tlog.tree import root_of

START_MS = 1_700_000_000_000
TENANT = Tenant(id="acme", origin="log.example/acme")
OTHER = Tenant(id="other", origin="log.example/other")
REGISTRY = open_registry()
DIGEST = "0a" * 32


def make_entry_id(number: int, *, time_ms: int = START_MS) -> UUID:
    """Return a UUIDv7 of this time, one for each number below 2**62."""
    return UUID(int=(time_ms << 80) | (7 << 76) | (2 << 62) | number)


def make_draft(**values: Any) -> Draft:
    """Return a draft that the registry takes."""
    default: dict[str, Any] = {
        "action": "document.recorded",
        "actor": "merchant:shop",
        "data": {"kind": "contract", "sha256": DIGEST},
    }
    return Draft(**{**default, **values})


def make_row(
    number: int, tenant: str = TENANT.id, *, key: str | None = None, time_ms: int = START_MS, **values: Any
) -> EntryRow:
    """Return a row ready to append; `key` is an idempotency key."""
    draft = make_draft(idem=sha256(key.encode()).digest() if key else None, **values)
    fingerprint = sha256(repr(sorted(draft.data.items())).encode()).digest() if key else None
    return prepare(REGISTRY, tenant, draft, entry_id=make_entry_id(number, time_ms=time_ms), fingerprint=fingerprint)


def append_rows(store: Any, rows: Sequence[EntryRow]) -> list[AppendResult]:
    """Append in a transaction of its own."""
    with store.transaction() as tx:
        results: list[AppendResult] = tx.append_entries(rows)
        return results


class Faults:
    """Where to fail: `plan[point]` holds how many calls to let pass before the one that raises Unavailable."""

    def __init__(self) -> None:
        self.plan: dict[str, int] = {}
        self.raised: list[str] = []

    def hit(self, point: str) -> None:
        """Raise at a planned point."""
        if point not in self.plan:
            return
        if self.plan[point]:
            self.plan[point] -= 1
            return
        del self.plan[point]
        self.raised.append(point)
        raise Unavailable(f"fault at {point}")

    @contextmanager
    def around(self, point: str) -> Iterator[None]:
        """Fail before or after what is done inside."""
        self.hit(f"{point}.before")
        yield
        self.hit(f"{point}.after")


STEPS = (
    *("list_pending.before", "integrate.before", "integrate.after", "sign.before", "sign.after"),
    *("anchor.before", "anchor.after", "cosign.before", "cosign.after", "expose.before", "expose.after"),
)
"""Every boundary between two steps of a publication."""


class FaultyStore:
    """A store whose writes fail before or after they happened."""

    def __init__(self, store: Any, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list_pending(self, *arguments: Any) -> Any:
        with self._faults.around("list_pending"):
            return self._store.list_pending(*arguments)

    def integrate(self, batch: Any) -> None:
        with self._faults.around("integrate"):
            self._store.integrate(batch)

    def expose(self, *arguments: Any) -> None:
        with self._faults.around("expose"):
            self._store.expose(*arguments)


class MemoryAnchor:
    """An anchor that survives every store."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.stored: dict[str, bytes] = {}
        self.held: set[str] = set()
        self._faults = faults or Faults()

    @contextmanager
    def hold(self, origin: str) -> Iterator[None]:
        if origin in self.held:
            raise NotLeaderError("held")
        self.held.add(origin)
        try:
            yield
        finally:
            self.held.discard(origin)

    def find(self, origin: str) -> bytes | None:
        return self.stored.get(origin)

    def write(self, origin: str, checkpoint: bytes) -> None:
        with self._faults.around("anchor"):
            self.stored[origin] = checkpoint


@dataclass(slots=True)
class Signatures:
    """Every checkpoint that was ever signed, with the leaves that the signer's store had then."""

    signed: list[tuple[Checkpoint, tuple[bytes, ...]]] = field(default_factory=list)

    def find_fork(self) -> tuple[Checkpoint, Checkpoint] | None:
        """Return two signed checkpoints of one origin that are not of one growing log, or None."""
        for position, (one, leaves) in enumerate(self.signed):
            if root_of(leaves[: one.size]) != one.root:
                return one, one
            for other, longer in self.signed[position + 1 :]:
                common = min(one.size, other.size)
                if one.origin == other.origin and leaves[:common] != longer[:common]:
                    return one, other
        return None


class RecordingSigner:
    """A signer with a fixed seed for each name."""

    def __init__(self, name: str, record: Callable[[Checkpoint], None], faults: Faults) -> None:
        self._seed = SigningKey(sha256(name.encode()).digest())
        self.key = VerifierKey(name=name, algorithm=ED25519, public_key=bytes(self._seed.verify_key))
        self._record = record
        self._faults = faults

    @property
    def vkey(self) -> str:
        return format_vkey(self.key)

    def sign(self, message: bytes) -> bytes:
        with self._faults.around("sign"):
            self._record(parse_checkpoint(message))
            return self._seed.sign(message).signature


class Keys:
    """One key for each origin (publish.KeyRing)."""

    def __init__(self, record: Callable[[Checkpoint], None] = lambda _: None, faults: Faults | None = None) -> None:
        self._record = record
        self._faults = faults or Faults()

    def active(self, tenant: Tenant) -> list[RecordingSigner]:
        return [RecordingSigner(tenant.origin, self._record, self._faults)]

    def known(self, tenant: Tenant) -> list[str]:
        return [signer.vkey for signer in self.active(tenant)]


def make_trust(tenant: Tenant = TENANT) -> Policy:
    """Return the auditor's trust in the fake key of this log."""
    return Policy(logs=(Log(key=Keys().active(tenant)[0].key),))


class FaultyCosigner:
    """Witnesses that sign nothing, and fail when told."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def cosign(self, checkpoint: Checkpoint, note: SignedNote, prove: Callable[[int, int], list[bytes]]) -> SignedNote:
        with self._faults.around("cosign"):
            return note


@dataclass(slots=True)
class World:
    """A store, an anchor outside it, and the book of signatures."""

    tenant: Tenant = TENANT
    store: MemoryStore = field(default_factory=MemoryStore)
    faults: Faults = field(default_factory=Faults)
    signatures: Signatures = field(default_factory=Signatures)
    anchor: MemoryAnchor = field(init=False)

    def __post_init__(self) -> None:
        self.anchor = MemoryAnchor(self.faults)
        self.store.add_tenant(self.tenant)

    def sequencer(self, *, store: MemoryStore | None = None, anchor: Any = None) -> Sequencer:
        """Return a new sequencer over this store, or over another one."""
        own = store or self.store

        def record(checkpoint: Checkpoint) -> None:
            self.signatures.signed.append((checkpoint, tuple(own.logs[self.tenant.id].leaves[: checkpoint.size])))

        return Sequencer(
            store=FaultyStore(own, self.faults),
            tenant=self.tenant,
            anchor=anchor or self.anchor,
            keyring=Keys(record, self.faults),
            cosigner=FaultyCosigner(self.faults),
        )

    def append(self, *numbers: int) -> list[AppendResult]:
        """Append one entry for each number."""
        return append_rows(self.store, [make_row(number, self.tenant.id) for number in numbers])

    def publish(self) -> int:
        """Publish everything with a fresh sequencer; return the size."""
        with self.sequencer() as sequencer:
            while sequencer.step():
                pass
            return sequencer.head.size
