"""A log with a fixed key and fork, and witnesses of it that live in this process and misbehave as they are told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from nacl.signing import SigningKey

from app.ledger.ports import Anchor
from app.ledger.witness import Witness, format_request
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from app.tlog.note import COSIGNATURE_V1, ED25519, VerifierKey, format_note, sign_note
from app.tlog.proof import prove_consistency
from app.tlog.tree import leaf_hash, root_of

ORIGIN = "log.example/acme"
LOG_SEED = hashlib.sha256(b"log").digest()
LOG = VerifierKey(name=ORIGIN, algorithm=ED25519, public_key=bytes(SigningKey(LOG_SEED).verify_key))
LEAVES = [leaf_hash(str(number).encode()) for number in range(40)]
FORK = [*LEAVES[:3], leaf_hash(b"another"), *LEAVES[4:]]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class MemoryState:
    """A witness's state in memory (ports.Anchor); the integration tests use files."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, origin: str) -> Iterator[None]:
        with self._lock:
            yield

    def find(self, origin: str) -> bytes | None:
        return self.stored.get(origin)

    def write(self, origin: str, checkpoint: bytes) -> None:
        self.stored[origin] = checkpoint


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def make_signer(name: str) -> tuple[VerifierKey, Callable[[bytes], bytes]]:
    """Return the cosigner's key of this name, and what signs by it."""
    seed = SigningKey(hashlib.sha256(name.encode()).digest())
    key = VerifierKey(name=name, algorithm=COSIGNATURE_V1, public_key=bytes(seed.verify_key))
    return key, lambda message: seed.sign(message).signature


WITNESS, _ = make_signer("example.com/witness")


def make_witness(
    state: Anchor,
    clock: Callable[[], datetime] | None = None,
    *logs: VerifierKey,
    name: str = WITNESS.name,
) -> Witness:
    """Return a witness that trusts `logs`, by default LOG alone."""
    key, sign = make_signer(name)
    trusted: Mapping[str, Sequence[VerifierKey]] = {log.name: (log,) for log in logs or (LOG,)}
    return Witness(key=key, sign=sign, logs=trusted, state=state, now=clock or Clock())


def make_note(
    size: int, leaves: Sequence[bytes] = LEAVES, *, root: bytes | None = None, seed: bytes = LOG_SEED
) -> bytes:
    """Return the checkpoint of the first leaves, signed."""
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root or root_of(leaves[:size]))
    return format_note(sign_note(format_checkpoint(checkpoint), ORIGIN, seed))


def make_body(old_size: int, size: int, leaves: Sequence[bytes] = LEAVES) -> bytes:
    """Return the request that shows the growth from `old_size` to `size`."""
    proof = prove_consistency(old_size, leaves[:size]) if old_size else []
    return format_request(old_size, proof, make_note(size, leaves))
