"""Small valid values of `app.tlog`: keys from fixed seeds, trees of cheap leaves, and what they sign."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from nacl.signing import SigningKey

from app.tlog.checkpoint import Checkpoint, sign_checkpoint
from app.tlog.cosignature import sign_cosignature
from app.tlog.note import COSIGNATURE_V1, ED25519, SignedNote, VerifierKey, format_note
from app.tlog.policy import Group, Log, Policy, Witness
from app.tlog.proof import prove_inclusion
from app.tlog.receipt import Receipt
from app.tlog.tile import ExpandedTile, ReadTile, Tile, expand_tile
from app.tlog.tree import root_of

ORIGIN = "log.example/tenant"
NOW_S = 1_767_139_200


class Signer:
    """A key pair: what an HSM would hold, and its public half."""

    def __init__(self, name: str, algorithm: int = ED25519, seed: int = 1) -> None:
        self._secret = SigningKey(seed.to_bytes(32, "big"))
        self.key = VerifierKey(name=name, algorithm=algorithm, public_key=bytes(self._secret.verify_key))

    def sign(self, message: bytes) -> bytes:
        return self._secret.sign(message).signature


LOG = Signer(ORIGIN)
WITNESSES = [Signer(f"w{n}.example", COSIGNATURE_V1, seed=100 + n) for n in range(4)]
POLICY = Policy(
    logs=(Log(key=LOG.key, url="http://log.example/"),),
    witnesses=tuple(Witness(name=f"w{n}", key=witness.key) for n, witness in enumerate(WITNESSES)),
    groups=(
        Group(name="two-of-three", threshold=2, members=("w0", "w1", "w2")),
        Group(name="both", threshold=2, members=("two-of-three", "w3")),
    ),
    quorum="both",
)


def make_leaves(count: int) -> list[bytes]:
    return [sha256(number.to_bytes(8, "big")).digest() for number in range(count)]


def make_checkpoint(leaves: list[bytes], origin: str = ORIGIN) -> Checkpoint:
    return Checkpoint(origin=origin, size=len(leaves), root=root_of(leaves))


def make_signed(leaves: list[bytes], cosigners: Iterable[Signer] = (), log: Signer = LOG) -> SignedNote:
    note = sign_checkpoint(make_checkpoint(leaves, log.key.name), log.key, log.sign)
    return note.add(*(sign_cosignature(note.text, by.key, NOW_S, by.sign) for by in cosigners))


def make_receipt(index: int, leaves: list[bytes], cosigners: Iterable[Signer] = WITNESSES) -> Receipt:
    return Receipt(
        index=index,
        proof=tuple(prove_inclusion(index, leaves)),
        checkpoint=format_note(make_signed(leaves, cosigners)),
        extra=b"a hint",
    )


def make_reader(tiles: Iterable[Tile]) -> ReadTile:
    """Serve the widest bytes seen of each tile, as a store does."""
    stored: dict[tuple[int, int], ExpandedTile] = {}
    for tile in tiles:
        stored[tile.id.level, tile.id.index] = expand_tile(tile.data)
    return lambda level, index, _width: stored[level, index]
