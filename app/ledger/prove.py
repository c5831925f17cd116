"""Proving: checkpoints, tiles, inclusion and consistency proofs, and receipts, read from the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType

from app.errors import NotFound, Rejected
from app.ledger.ports import LedgerReader
from app.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from app.tlog.note import NoKnownSignature, VerifierKey, parse_note, parse_vkey
from app.tlog.receipt import Receipt, format_receipt
from app.tlog.tile import (
    TILE_BYTES,
    TILE_WIDTH,
    ExpandedTile,
    expand_tile,
    prove_consistency_from_tiles,
    prove_inclusion_from_tiles,
    root_from_tiles,
    tile_width,
)
from app.tlog.tree import HASH_SIZE, TILE_HEIGHT

TILE_CACHE_LIMIT = 2048
"""Expanded tiles kept, 16 KiB each: the upper levels of a log of 10^8 entries and its busiest leaves."""


@dataclass(frozen=True, slots=True)
class Published:
    """The newest exposed checkpoint of a log.

    `edge` is what proofs have found of its tree's right edge, `proofs` those that were made before it was exposed.
    """

    size: int
    root: bytes
    note: bytes
    edge: dict[int, bytes] = field(default_factory=dict, compare=False, repr=False)
    proofs: dict[int, list[bytes]] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The proofs of some leaves of a tree whose checkpoint is not exposed yet; they count once that has this `root`.

    It is None if nobody asked for one. `told` is the tiles, by level and number, that were made of what we were told.
    """

    root: bytes | None
    proofs: dict[int, list[bytes]]
    told: Mapping[tuple[int, int], ExpandedTile]


NOTHING_TOLD: Mapping[tuple[int, int], ExpandedTile] = MappingProxyType({})
FILLING_LOCKS = 16
"""Tiles that can be read from the store at one time."""


class NotPublishedError(NotFound):
    """The log has no such entry under a checkpoint yet."""

    code = "not_in_the_log_yet"


def no_keys(tenant: str) -> Iterable[str]:  # noqa: ARG001 - of any tenant
    """Return no key: nothing that is announced counts."""
    return ()


class Prover:
    """Proofs for all tenants of one store, with a bounded cache of expanded tiles. Safe for threads."""

    def __init__(self, reader: LedgerReader, known: Callable[[str], Iterable[str]] = no_keys) -> None:
        """Nothing is read yet. `known` gives the verifier keys of all that ever signed for a tenant's log."""
        self._reader = reader
        self._known = known
        self._keys: dict[str, tuple[VerifierKey, ...]] = {}
        self._tiles: dict[tuple[str, int, int], ExpandedTile] = {}
        self._filling = [threading.Lock() for _ in range(FILLING_LOCKS)]
        self._published: dict[str, Published] = {}
        self._lock = threading.Lock()

    def read_published(self, tenant: str) -> Published:
        """Return the newest exposed checkpoint. Raises NotPublishedError before the first."""
        note = self._reader.find_checkpoint(tenant)
        if note is None:
            raise NotPublishedError("this log has no checkpoint yet; its first entries are being published")
        return self.open_published(tenant, note)

    def open_published(self, tenant: str, note: bytes) -> Published:
        """Return what `note`, a checkpoint from the store, says; parsed once, and kept unless a larger one is known."""
        return self._open(tenant, note, _parse)

    def open_announced(self, tenant: str, note: bytes) -> Published:
        """Return what `note` says that somebody announced: it counts only if the log has signed it.

        Raises SignatureError or Malformed.
        """
        return self._open(tenant, note, self._verify)

    def _open(self, tenant: str, note: bytes, read: Callable[[str, bytes], Checkpoint]) -> Published:
        known = self._published.get(tenant)
        if known is not None and known.note == note:
            return known
        checkpoint = read(tenant, note)
        published = Published(checkpoint.size, checkpoint.root, note)
        if known is None or known.size <= published.size:
            self._published[tenant] = published
        return published

    def _verify(self, tenant: str, note: bytes) -> Checkpoint:
        """Return the checkpoint; the keys are looked up anew if none of those we know has signed it."""
        with suppress(NoKnownSignature):
            return open_checkpoint(note, self._keys.get(tenant, ())).checkpoint
        self._keys[tenant] = keys = tuple(parse_vkey(vkey) for vkey in self._known(tenant))
        return open_checkpoint(note, keys).checkpoint

    def prepare(self, tenant: str, indexes: Collection[int], size: int, leaves: bytes = b"") -> Prepared:
        """Return the audit paths of `indexes` in the integrated tree of `size`, for when its checkpoint is exposed.

        `leaves`, hashes of the last leaves, spares reading the tiles that they fill if those before them are known.
        """
        if not indexes:
            return Prepared(None, {}, NOTHING_TOLD)
        told = self._extend(tenant, size, leaves)
        edge: dict[int, bytes] = {}
        proofs = {index: self._prove(tenant, index, size, edge, told) for index in indexes}
        return Prepared(root_from_tiles(size, _TileReader(self, tenant, (size - 1, size), told)), proofs, told)

    def _extend(self, tenant: str, size: int, leaves: bytes) -> Mapping[tuple[int, int], ExpandedTile]:
        """Return the tiles that grow by the last leaves, all bound by the root; none if one of them has to be read."""
        told: dict[tuple[int, int], ExpandedTile] = {}
        start = size - len(leaves) // HASH_SIZE
        if start < 0 or len(leaves) % HASH_SIZE or not self._fill(tenant, 0, start, leaves, told):
            return NOTHING_TOLD
        return told

    def _fill(
        self, tenant: str, level: int, start: int, hashes: bytes, told: dict[tuple[int, int], ExpandedTile]
    ) -> bool:
        """Put into `told` the tiles with `hashes` from element `start` of a level, and those above that grow by them.

        False if what comes before in one of the tiles is not known.
        """
        roots = []
        first = number = start // TILE_WIDTH
        while hashes:
            place = start % TILE_WIDTH if number == first else 0
            known = self._find((tenant, level, number), place) if place else None
            if place and known is None:
                return False
            before = known.data[: place * HASH_SIZE] if known is not None else b""
            told[level, number] = tile = expand_tile(before + hashes[: TILE_BYTES - len(before)], known)
            hashes = hashes[TILE_BYTES - len(before) :]
            if tile.width == TILE_WIDTH:
                roots.append(tile.subtree(TILE_HEIGHT, 0))
            number += 1
        return not roots or self._fill(tenant, level + 1, first, b"".join(roots), told)

    def take(self, tenant: str, prepared: Prepared, published: Published) -> bool:
        """Keep what was prepared for this checkpoint; False if its root is another one.

        Then something that it was made of is wrong: no tile of this log is kept.
        """
        if prepared.root not in {None, published.root}:
            with self._lock:
                self._tiles = {key: tile for key, tile in self._tiles.items() if key[0] != tenant}
            return False
        for (level, number), tile in prepared.told.items():
            self._keep((tenant, level, number), tile)
        published.proofs.update(prepared.proofs)
        return True

    def prove_inclusion(self, tenant: str, index: int, size: int) -> list[bytes]:
        """Return the audit path of `index` in the tree of `size`.

        Raises Rejected unless `index < size` and a published checkpoint covers `size`.
        """
        if not 0 <= index < size:
            raise Rejected(
                f"index {index} is not below size {size}: a proof needs 0 <= index < size",
                code="index_out_of_range",
                pointer="/index",
            )
        published = self._require_published(tenant, size)
        edge = published.edge if size == published.size else None
        return self._prove(tenant, index, size, edge)

    def _prove(
        self,
        tenant: str,
        index: int,
        size: int,
        edge: dict[int, bytes] | None,
        told: Mapping[tuple[int, int], ExpandedTile] = NOTHING_TOLD,
    ) -> list[bytes]:
        return prove_inclusion_from_tiles(index, size, _TileReader(self, tenant, (index, size), told), edge)

    def read_leaf(self, tenant: str, index: int, size: int) -> bytes:
        """Return the hash of leaf `index` in the tree of `size`, where its proof begins; that has read its tile."""
        number, place = divmod(index, TILE_WIDTH)
        return self.read_tile(tenant, 0, number, tile_width(0, number, size)).subtree(0, place)

    def prove_consistency(self, tenant: str, old_size: int, new_size: int) -> list[bytes]:
        """Return the proof that the tree of `new_size` extends that of `old_size`; empty from size 0."""
        if not 0 <= old_size <= new_size:
            raise Rejected(
                f"size {old_size} is not at most {new_size}: a proof needs 0 <= from <= to",
                code="size_out_of_range",
                pointer="/from",
            )
        self._require_published(tenant, new_size)
        if old_size == 0:
            return []
        return prove_consistency_from_tiles(old_size, new_size, _TileReader(self, tenant))

    def receipt(self, tenant: str, index: int, body: bytes, published: Published) -> bytes:
        """Return the tlog-proof of entry `index` under `published`; its `extra` carries the entry's bytes."""
        proof = published.proofs.get(index)
        if proof is None:
            proof = self.prove_inclusion(tenant, index, published.size)
        return format_receipt(Receipt(index=index, proof=tuple(proof), checkpoint=published.note, extra=body))

    def _require_published(self, tenant: str, size: int) -> Published:
        """Return a checkpoint of `size` or more; the store is asked only if the newest one known is too small."""
        published = self._published.get(tenant)
        if published is None or size > published.size:
            published = self.read_published(tenant)
        if size > published.size:
            raise Rejected(
                f"size {size} is larger than the published {published.size}", code="size_beyond_log", pointer="/size"
            )
        return published

    def read_tile(
        self, tenant: str, level: int, number: int, width: int, path: tuple[int, int] | None = None
    ) -> ExpandedTile:
        """Return a tile at least `width` wide, from the cache if it can be.

        `path`, a leaf and the size of its tree, says what will be asked for next: if several of it are missing, all
        are read together.
        """
        key = (tenant, level, number)
        tile = self._find(key, width)
        if tile is not None:
            return tile
        if path is not None:
            self._read_path(tenant, *path)
        with self._filling[hash(key) % len(self._filling)]:  # those who need the same tile wait for one read of it
            tile = self._find(key, width)
            if tile is None:
                tile = self._expand(key, self._reader.read_tile(tenant, level, number, width))
        return tile

    def _read_path(self, tenant: str, index: int, size: int) -> None:
        """Read the tiles of a path, and of the tree's right edge, in one round trip if more than one is missing."""
        levels = range(-(-(size - 1).bit_length() // TILE_HEIGHT))
        places = {(level, at >> TILE_HEIGHT * (level + 1)) for level in levels for at in (index, size)}
        wanted = [
            (level, number, width)
            for level, number in places
            if (width := tile_width(level, number, size)) and self._find((tenant, level, number), width) is None
        ]
        if len(wanted) > 1:
            for (level, number, _), data in zip(wanted, self._reader.read_tiles(tenant, wanted), strict=True):
                self._expand((tenant, level, number), data)

    def _find(self, key: tuple[str, int, int], width: int) -> ExpandedTile | None:
        tile = self._tiles.get(key)
        return tile if tile is not None and tile.width >= width else None

    def _expand(self, key: tuple[str, int, int], data: bytes) -> ExpandedTile:
        """Expand and remember the tile, from the narrower one that is there."""
        tile = expand_tile(data, self._tiles.get(key))
        self._keep(key, tile)
        return tile

    def _keep(self, key: tuple[str, int, int], tile: ExpandedTile) -> None:
        """Remember the tile; of too many the one kept longest goes."""
        with self._lock:
            self._tiles[key] = tile
            if len(self._tiles) > TILE_CACHE_LIMIT:
                del self._tiles[next(iter(self._tiles))]


def _parse(tenant: str, note: bytes) -> Checkpoint:  # noqa: ARG001 - as `_verify`
    return parse_checkpoint(parse_note(note).text)


class _TileReader:
    """`read_tile` of one tenant, as the proofs from tiles want it."""

    __slots__ = ("_path", "_prover", "_tenant", "_told")

    def __init__(
        self,
        prover: Prover,
        tenant: str,
        path: tuple[int, int] | None = None,
        told: Mapping[tuple[int, int], ExpandedTile] = NOTHING_TOLD,
    ) -> None:
        self._prover = prover
        self._tenant = tenant
        self._path = path
        self._told = told

    def __call__(self, level: int, number: int, width: int) -> ExpandedTile:
        tile = self._told.get((level, number))
        if tile is not None:
            return tile
        return self._prover.read_tile(self._tenant, level, number, width, self._path)
