"""The tree as the entries give it, and what the stored tiles and checkpoints say about it.

Whatever the entries hash to is compared with what is stored; when the two differ, the signed root says who is right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from app.errors import Malformed
from app.ledger.verify.rehash import Rehashed, find_id, hash_entries
from app.ledger.verify.report import Place, TamperedError
from app.ledger.verify.source import LogSource
from app.tlog.proof import ProofError, verify_inclusion
from app.tlog.tile import (
    TILE_BYTES,
    TILE_WIDTH,
    BundleId,
    ExpandedTile,
    expand_tile,
    prove_inclusion_from_tiles,
    root_from_tiles,
    tile_path,
    tile_root,
    tile_width,
)
from app.tlog.tree import HASH_SIZE, TILE_HEIGHT

CACHE_TILES = 64
"""Expanded tiles kept, 16 KiB each: many checkpoints end in one tile."""


class RehashedTree:
    """The tree of `size` over `roots`, those of its full level 0 tiles, and the leaf hashes after them.

    It answers for any smaller size too. Only leaf hashes of full tiles are read from the source again, and believed
    only if they hash to the root that is known here.
    """

    def __init__(self, source: LogSource, size: int, rehashed: Rehashed) -> None:
        """Requires that nothing is missing in `rehashed`."""
        self.size = size
        self._source = source
        self._rows = [rehashed.edge, bytes(rehashed.roots)]
        while len(self._rows[-1]) >= TILE_BYTES:
            row = self._rows[-1]
            full = range(0, len(row) // TILE_BYTES * TILE_BYTES, TILE_BYTES)
            self._rows.append(b"".join([tile_root(row[at : at + TILE_BYTES]) for at in full]))
        self._cache: OrderedDict[tuple[int, int], ExpandedTile] = OrderedDict()

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` entries. Requires `0 <= size <= self.size`."""
        return root_from_tiles(size, self._read_expanded)

    def read_tile(self, level: int, number: int) -> bytes:
        """Return the tile as wide as this tree has it."""
        full = self.size >> TILE_HEIGHT
        if level == 0:
            return self._rows[0] if number == full else self._read_leaves(number)
        return self._rows[level][number * TILE_BYTES : (number + 1) * TILE_BYTES]

    def list_upper(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the tiles above level 0 as (level, number, data)."""
        for level, row in enumerate(self._rows[1:], start=1):
            for at in range(0, len(row), TILE_BYTES):
                yield level, at // TILE_BYTES, row[at : at + TILE_BYTES]

    def _read_expanded(self, level: int, number: int, _width: int) -> ExpandedTile:
        """Return the tile as wide as it is here: any proof may use a wider one."""
        key = (level, number)
        tile = self._cache.get(key)
        if tile is None:
            tile = expand_tile(self.read_tile(level, number))
            self._cache[key] = tile
            if len(self._cache) > CACHE_TILES:
                self._cache.popitem(last=False)
        return tile

    def _read_leaves(self, number: int) -> bytes:
        """Return the leaf hashes of a full tile, from a stored copy or from the entries."""
        known = self._rows[1][number * HASH_SIZE : (number + 1) * HASH_SIZE]
        for copy in self._source.read_tiles(0, number, TILE_WIDTH):
            if len(copy) == TILE_BYTES and tile_root(copy) == known:
                return copy
        for bundle in self._source.iter_bundles(number, number + 1, self.size):
            row = b"".join(hash_entries(bundle.entries))
            if len(row) == TILE_BYTES and tile_root(row) == known:
                return row
        path = self._source.name_tile(0, number, TILE_WIDTH, 0)
        raise TamperedError(Place(what="no stored copy has the hashes that lead to the tree", path=path))


def verify_upper_tiles(source: LogSource, tree: RehashedTree) -> int:
    """Return how many tiles above level 0 were compared; raise `TamperedError` at the first that differs."""
    tiles = 0
    for level, number, data in tree.list_upper():
        width = len(data) // HASH_SIZE
        for copy, stored in enumerate(source.read_tiles(level, number, width)):
            tiles += 1
            if stored != data:
                at = _first_difference(stored, data)
                raise TamperedError(
                    Place(
                        what=f"hash {at} is not that of the entries below it, which lead to the signed root",
                        path=source.name_tile(level, number, width, copy),
                    )
                )
    return tiles


def blame_leaf_tile(source: LogSource, tree: RehashedTree, number: int) -> Place:
    """Return the place in a level 0 tile that differs from its entries, when the entries are known to be right."""
    width = tile_width(0, number, tree.size)
    data = tree.read_tile(0, number)
    for copy, stored in enumerate(source.read_tiles(0, number, width)):
        if stored != data:
            at = _first_difference(stored, data)
            return Place(
                what=f"hash {at} is not that of its entry, which leads to the signed root",
                entry_index=number * TILE_WIDTH + at,
                path=source.name_tile(0, number, width, copy),
            )
    return Place(what="changed while it was being verified", path=source.name_tile(0, number, width, 0))


def blame_entry(source: LogSource, number: int, size: int, root: bytes) -> Place | None:
    """Return the first place in bundle `number` where entries and tile differ, when the tree is not the signed one.

    None if they do not, as far as the tree of `size` reaches. If the stored tiles prove their hash under the signed
    `root`, the entry is at fault, and it is said how.
    """
    width = tile_width(0, number, size)
    path = tile_path(BundleId(index=number, width=width))
    bundle = next(iter(source.iter_bundles(number, number + 1, size)))
    hashes = hash_entries(bundle.entries)
    suspect = None
    for copy, stored in enumerate(source.read_tiles(0, number, width)):
        leaves = [stored[at : at + HASH_SIZE] for at in range(0, len(stored), HASH_SIZE)]
        at = _first_difference(b"".join(hashes), stored)
        if leaves == hashes:
            continue
        index = number * TILE_WIDTH + at
        entry_id = find_id(bundle.entries[at]) if at < len(hashes) else None
        if at >= len(leaves) or _is_proven(source, copy, index=index, size=size, leaf=leaves[at], root=root):
            return Place(what=_explain(hashes, leaves, at), entry_index=index, entry_id=entry_id, path=path)
        tile = source.name_tile(0, number, width, copy)
        suspect = suspect or Place(
            what=f"it and its hash in {tile} differ, and neither leads to the signed root",
            entry_index=index,
            entry_id=entry_id,
            path=path,
        )
    if suspect is None and len(hashes) != width:
        at = min(len(hashes), width)
        return Place(what=_explain(hashes, hashes[:width], at), entry_index=number * TILE_WIDTH + at, path=path)
    return suspect


def _first_difference(left: bytes, right: bytes) -> int:
    """Return the place of the first hash in which two rows differ."""
    ends = range(0, max(len(left), len(right)), HASH_SIZE)
    return next((at // HASH_SIZE for at in ends if left[at : at + HASH_SIZE] != right[at : at + HASH_SIZE]), 0)


def _is_proven(source: LogSource, copy: int, *, index: int, size: int, leaf: bytes, root: bytes) -> bool:
    """Say whether the stored tiles, those of `copy` where there are several, prove `leaf` under the root."""

    def read(level: int, number: int, width: int) -> ExpandedTile:
        copies = source.read_tiles(level, number, width)
        return expand_tile(copies[min(copy, len(copies) - 1)])

    try:
        proof = prove_inclusion_from_tiles(index, size, read)
        verify_inclusion(index=index, size=size, leaf=leaf, proof=proof, root=root)
    except (ProofError, Malformed, TamperedError):
        return False
    return True


def _explain(found: list[bytes], signed: list[bytes], at: int) -> str:
    """Return how the entries differ from the signed hashes, first at `at`."""
    here, wanted = found[at : at + 1], signed[at : at + 1]
    if not here:
        return "the entry is missing"
    if not wanted:
        return "an entry more than there are"
    inserted = found[at + 1 : at + 2] == wanted
    if inserted and here[0] not in signed[at:]:
        return "an entry was inserted here"
    if here[0] in signed and wanted[0] in found:
        return "entries were put into another order"
    if signed[at + 1 : at + 2] == here:
        return "the entry was deleted; the next one stands in its place"
    return "an entry was inserted here" if inserted else "the entry is not the one that was signed"
