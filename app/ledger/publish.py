"""Publishing: from appended entries to a signed checkpoint, one sequencer per origin.

Each step, and what a crash right after it leaves behind:

    read pending     nothing
    integrate        the head moved, nothing is signed: the next run signs it (`_publish` compares head and anchor)
    sign             a signature that nobody saw; Ed25519 is deterministic, the next run makes the same one
    anchor           a signed checkpoint that nobody saw; the next run exposes the same head or a larger one
    cosign           witnesses at a size that is not yet exposed; the next run proves growth from there
    expose           everything is done

A head is signed only after it is durable, so a lost swap never leaves a second signed head (ADR 9), and only
if the anchor, kept outside the database, is a prefix of it. When in doubt we do not sign.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from app.errors import Broken
from app.ledger.anchored import open_own_checkpoint, verify_anchored
from app.ledger.keys import LOG_FROZEN
from app.ledger.ports import (
    Anchor,
    Head,
    Integration,
    LedgerStore,
    PendingEntry,
    Signer,
    Tenant,
    Tile,
)
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from app.tlog.note import SignatureLine, SignedNote, VerifierKey, format_note, parse_vkey, verify_note
from app.tlog.tile import (
    TILE_WIDTH,
    ExpandedTile,
    edge_from_tiles,
    expand_tile,
    prove_consistency_from_tiles,
    root_from_tiles,
)
from app.tlog.tile import Tile as TouchedTile
from app.tlog.tree import HASH_SIZE, leaf_hash

BATCH_LIMIT = 4096
"""Entries integrated under one signature: about 25 ms of work."""


class KeyRing(Protocol):
    """Which keys sign for a log now: one, or two while a rotation overlaps."""

    def active(self, tenant: Tenant) -> Sequence[Signer]:
        """Return the keys that sign, at least one. Raises Unavailable when they cannot be reached."""
        ...

    def known(self, tenant: Tenant) -> Sequence[str]:
        """Return the verifier keys of all that ever signed for this log, retired ones too."""
        ...


class Cosigner(Protocol):
    """Whoever asks the witnesses."""

    def cosign(self, checkpoint: Checkpoint, note: SignedNote, prove: Callable[[int, int], list[bytes]]) -> SignedNote:
        """Return the note with cosignatures; `prove(old, new)` gives consistency proofs.

        Raises Unavailable when this origin requires a quorum and there is none.
        """
        ...


class Sequencer:
    """The one writer of an origin's tree. Use as a context manager: it holds the anchor and the sequencer lock."""

    def __init__(
        self, *, store: LedgerStore, tenant: Tenant, anchor: Anchor, keyring: KeyRing, cosigner: Cosigner | None = None
    ) -> None:
        """Nothing is read or locked before `__enter__`."""
        self._store = store
        self._tenant = tenant
        self._anchor = anchor
        self._keyring = keyring
        self._cosigner = cosigner
        self._locks = ExitStack()
        self._anchored: bytes | None = None

    def __enter__(self) -> Self:
        """Take the locks and load the tree's edge. Raises NotLeaderError, or AnchorMismatchError."""
        with ExitStack() as locks:
            locks.enter_context(self._anchor.hold(self._tenant.origin))
            locks.enter_context(self._store.sequencer_lock(self._tenant.id))
            self._load()
            self._locks = locks.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the locks."""
        self._locks.close()

    @property
    def head(self) -> Head:
        """The integrated head as this sequencer knows it."""
        return self._head

    def step(self) -> int:
        """Integrate what is pending and publish the head if it is not; return how many entries were integrated.

        Raises Unavailable: leave, and enter again later, since a commit may have happened. Any other error, such as
        LostSwapError or AnchorMismatchError: stop and call a person.
        """
        count = self._integrate()
        if self._head.size > self._exposed_size:
            self._publish()
        return count

    def _load(self) -> None:
        """Read the head and rebuild the edge; refuse a store whose tiles do not give the head's root."""
        tenant = self._tenant.id
        self._head = self._store.read_head(tenant)
        self._edge = edge_from_tiles(self._head.size, self._read_tile)
        if self._edge.frontier.root() != self._head.root:
            raise Broken(f"the tiles of {self._tenant.origin} do not give the root of its head", code="tiles_damaged")
        self._exposed_size = self._read_exposed_size()
        self._check_anchor()

    def _read_exposed_size(self) -> int:
        """Return the size of the newest exposed checkpoint. Raises Broken unless it is one of a prefix of the head."""
        note = self._store.find_checkpoint(self._tenant.id)
        if note is None:
            return 0
        exposed = open_own_checkpoint(self._tenant.origin, note, self._keyring.known(self._tenant))
        if exposed.size > self._head.size or root_from_tiles(exposed.size, self._read_tile) != exposed.root:
            raise Broken(
                f"{self._tenant.origin}: the newest exposed checkpoint, of size {exposed.size}, is not of this tree",
                code="checkpoint_damaged",
            )
        return exposed.size

    def _integrate(self) -> int:
        """Give the next pending entries their indexes, in one transaction."""
        pending = self._store.list_pending(self._tenant.id, self._head.settled_seq, BATCH_LIMIT)
        entries = _until_frozen(pending.entries)
        if self._head.frozen or not entries:
            return 0
        hashes = [leaf_hash(entry.body) for entry in entries]
        edge, tiles = self._edge.append(hashes)
        new = Head(
            size=edge.frontier.size,
            root=edge.frontier.root(),
            settled_seq=max(self._head.settled_seq, pending.settled_seq),
            frozen=entries[-1].action == LOG_FROZEN,
        )
        self._store.integrate(
            Integration(
                tenant=self._tenant.id,
                old=self._head,
                new=new,
                seqs=[entry.seq for entry in entries],
                leaf_hashes=hashes,
                tiles=full_tiles(tiles),
            )
        )
        self._head, self._edge = new, edge
        return len(entries)

    def _publish(self) -> None:
        """Sign the head, anchor it, have it cosigned, expose it."""
        self._check_anchor()
        checkpoint = Checkpoint(origin=self._tenant.origin, size=self._head.size, root=self._head.root)
        note = self._sign(checkpoint)
        signed = format_note(note)
        self._anchor.write(self._tenant.origin, signed)
        self._anchored = signed
        if self._cosigner:
            note = self._cosigner.cosign(checkpoint, note, self._prove)
        self._store.expose(self._tenant.id, checkpoint.size, format_note(note))
        self._exposed_size = checkpoint.size

    def _sign(self, checkpoint: Checkpoint) -> SignedNote:
        """Return the checkpoint signed by every active key; each signature is verified before it leaves."""
        text = format_checkpoint(checkpoint)
        keys, lines = [], []
        for signer in self._keyring.active(self._tenant):
            key = _parse_known(signer.vkey)
            keys.append(key)
            lines.append(SignatureLine(name=key.name, key_id=key.key_id, signature=signer.sign(text)))
        note = SignedNote(text=text, signatures=tuple(lines))
        verify_note(note, keys)
        return note

    def _check_anchor(self) -> None:
        """Refuse to go on unless what we last signed, says the anchor, is a prefix of the head."""
        anchored = self._anchor.find(self._tenant.origin)
        if anchored is not None and anchored == self._anchored:
            return
        known = self._keyring.known(self._tenant)
        verify_anchored(
            self._tenant.origin,
            anchored,
            head=self._head,
            exposed_size=self._exposed_size,
            known=known,
            read_tile=self._read_tile,
        )
        self._anchored = anchored

    def _prove(self, old_size: int, new_size: int) -> list[bytes]:
        """Return a consistency proof; none is needed from an empty tree."""
        if old_size == 0:
            return []
        return prove_consistency_from_tiles(old_size, new_size, self._read_tile)

    def _read_tile(self, level: int, number: int, width: int) -> ExpandedTile:
        return expand_tile(self._store.read_tile(self._tenant.id, level, number, width))


@functools.lru_cache(maxsize=64)
def _parse_known(vkey: str) -> VerifierKey:
    """Return the key, which was looked at before: signers are few, and sign all the time."""
    return parse_vkey(vkey)


def _until_frozen(entries: Sequence[PendingEntry]) -> Sequence[PendingEntry]:
    """Return the entries up to and with `log.frozen`: nothing comes after it."""
    for position, entry in enumerate(entries):
        if entry.action == LOG_FROZEN:
            return entries[: position + 1]
    return entries


def full_tiles(tiles: Sequence[TouchedTile]) -> list[Tile]:
    """Return the full ones among the tiles that an append touched, each with its root, found one level up."""
    touched = {(tile.id.level, tile.id.index): tile.data for tile in tiles}
    full = []
    for tile in tiles:
        level, number = tile.id.level, tile.id.index
        if tile.id.width == TILE_WIDTH:
            above, place = divmod(number, TILE_WIDTH)
            root = touched[level + 1, above][place * HASH_SIZE : (place + 1) * HASH_SIZE]
            full.append(Tile(level, number, tile.data, root))
    return full
