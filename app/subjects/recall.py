"""Recall: past decisions read back for replay, each only if everything about it holds.

In this order, and the first that fails names the refusal (docs/decisions.md lists the codes):

    the entry's leaf hash leads to the root of a checkpoint that the log's keys signed
    the entry is a decision, its result has the digest beside it, and it was made of an engine's answer
    its sealed input opens under its subject's key and is what the entry commits to; or it was erased
    the input has the digest that the decision names
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import NotFound, Rejected
from app.ledger.entry import Entry, parse_entry
from app.ledger.ports import EntryFilter, LedgerReader, StoredEntry, Tenant
from app.ledger.prove import NotPublishedError, Prover
from app.ledger.verify.rehash import find_id
from app.policy.record import ACTION, INPUT, DecisionRecord, parse_input, parse_record, verify_result
from app.policy.replay import ERASED, Past, Unusable
from app.subjects.personal import ErasedByPolicy, open_all_personal
from app.subjects.ports import READ_BATCH, SubjectStore
from app.subjects.seal import SealBrokenError
from app.tlog.checkpoint import open_checkpoint
from app.tlog.note import parse_vkey
from app.tlog.proof import ProofError, verify_inclusion
from app.tlog.tile import TILE_WIDTH, ExpandedTile, prove_inclusion_from_tiles, tile_width
from app.tlog.tree import HASH_SIZE, leaf_hash

PROVEN_TILES: Final = 64
"""Tiles of leaf hashes remembered as proven, 8 KiB each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTree:
    """A tree that the log's keys signed: `size` leaves with this 32-byte `root`."""

    tenant: str
    size: int
    root: bytes


def open_tree(reader: LedgerReader, tenant: Tenant, vkeys: Iterable[str], *, size: int | None = None) -> SignedTree:
    """Return the tree of the newest checkpoint, or of the one for `size`, its signature verified.

    Raises NotPublishedError if there is none, and SignatureError if no key of `vkeys` signed it.
    """
    if size is None:
        note = reader.find_checkpoint(tenant.id)
    else:
        note = next((note for found, note in reader.list_checkpoints(tenant.id, size, 1) if found == size), None)
    if note is None:
        raise NotPublishedError("this log has no such checkpoint")
    checkpoint = open_checkpoint(note, map(parse_vkey, vkeys)).checkpoint
    if checkpoint.origin != tenant.origin:
        raise Rejected("the checkpoint is of another log", code="checkpoint_damaged")
    return SignedTree(tenant=tenant.id, size=checkpoint.size, root=checkpoint.root)


def read_decision(reader: LedgerReader, tree: SignedTree, decision_id: str) -> StoredEntry:
    """Return the published entry of a decision. Raises NotFound: absent, not yet published, or another tenant's."""
    after: int | None = 0
    while after is not None:
        page = reader.list_entries(
            tree.tenant, EntryFilter(action=ACTION, ref=decision_id), start=after, stop=tree.size, limit=READ_BATCH
        )
        for stored in page.entries:
            if parse_record(parse_entry(stored.body)).decision_id == decision_id:
                return stored
        after = page.next_index
    raise NotFound("there is no such decision, or it is not published yet", code="decision_unknown")


class Recall:
    """Reads decisions of one log back."""

    def __init__(self, tree: SignedTree, *, prover: Prover, subjects: SubjectStore) -> None:
        """`tree` is what entries must lead to; `prover` reads the log that it is of."""
        self.tree = tree
        self._prover = prover
        self._subjects = subjects
        self._proven: dict[int, bytes] = {}

    def recall(self, stored: Sequence[StoredEntry]) -> list[Past | Unusable]:
        """Return each entry as a past decision, or why it cannot be one. At most `READ_BATCH` entries."""
        if len(stored) > READ_BATCH:
            raise ValueError(f"at most {READ_BATCH} entries at once")
        read = [self._read(each) for each in stored]
        opening = [entry for entry, _ in (pair for pair in read if not isinstance(pair, Unusable))]
        opened = iter(open_all_personal(self._subjects, self.tree.tenant, opening) if opening else ())
        return [
            found if isinstance(found, Unusable) else _unseal(each.index or 0, found[1], next(opened))
            for each, found in zip(stored, read, strict=True)
        ]

    def verify(self, stored: StoredEntry) -> None:
        """Raise Rejected unless the entry leads to the signed root, and NotFound if it is not in that tree."""
        if stored.index is None or stored.index >= self.tree.size:
            raise NotPublishedError("the entry is under no checkpoint yet")
        number, slot = divmod(stored.index, TILE_WIDTH)
        if number not in self._proven:
            while len(self._proven) >= PROVEN_TILES:
                del self._proven[next(iter(self._proven))]
            self._proven[number] = self._prove_tile(number)
        if leaf_hash(stored.body) != self._proven[number][slot * HASH_SIZE : (slot + 1) * HASH_SIZE]:
            raise ProofError("the entry is not the one under the signed root")

    def _prove_tile(self, number: int) -> bytes:
        """Return the leaf hashes of a tile, all of which lead to the signed root. Raises Rejected or NotFound.

        One proof is enough: the audit path of its first leaf holds every other leaf of the tile, hashed up from the
        very bytes that are returned.
        """
        tiles: dict[tuple[int, int], ExpandedTile] = {}

        def read(level: int, place: int, width: int) -> ExpandedTile:
            tile = tiles.get((level, place))
            if tile is None or tile.width < width:
                tile = tiles[level, place] = self._prover.read_tile(self.tree.tenant, level, place, width)
            return tile

        width = tile_width(0, number, self.tree.size)
        row = read(0, number, width).data[: width * HASH_SIZE]
        first = number * TILE_WIDTH
        verify_inclusion(
            index=first,
            size=self.tree.size,
            leaf=row[:HASH_SIZE],
            proof=prove_inclusion_from_tiles(first, self.tree.size, read),
            root=self.tree.root,
        )
        return row

    def _read(self, stored: StoredEntry) -> tuple[Entry, DecisionRecord] | Unusable:
        """Return the verified entry as a decision, or what is wrong with it."""
        try:
            self.verify(stored)
        except NotPublishedError as error:
            return _refuse(stored, error.code)
        except (Rejected, NotFound):
            return _refuse(stored, "entry_not_proven")
        try:
            entry = parse_entry(stored.body)
            record = parse_record(entry)
            verify_result(record)
        except Rejected as error:
            return _refuse(stored, error.code)
        if record.not_replayable is not None:
            return _refuse(stored, record.not_replayable)
        return _refuse(stored, "input_missing") if INPUT not in entry.sealed else (entry, record)


def _unseal(index: int, record: DecisionRecord, opened: object) -> Past | Unusable:
    match opened:
        case ErasedByPolicy():
            code = ERASED
        case SealBrokenError():
            code = opened.code
        case _:
            try:
                document = parse_input(opened.values[INPUT], expected=record.input_digest)  # type: ignore[attr-defined]
                return Past(index=index, record=record, document=document)
            except Rejected as error:
                code = error.code
    return Unusable(index=index, entry_id=record.entry_id, code=code)


def _refuse(stored: StoredEntry, code: str) -> Unusable:
    return Unusable(index=stored.index or 0, entry_id=find_id(stored.body) or "", code=code)
