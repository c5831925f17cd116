"""Tiles, entry bundles and their paths (C2SP tlog-tiles), and proofs from tiles.

Element i of tile n at level l is the root of leaves `[(n*256 + i) * 256**l, (n*256 + i + 1) * 256**l)`. Stored bytes
are immutable: a wider tile begins with the bytes of a narrower one. A prover reads O(log size) tiles through
`read_tile(level, index, width)`, which returns the tile expanded and at least that wide (a full tile will always
do); keep expanded tiles in a cache and a proof costs no hashing but that of the tree's right edge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from app.errors import Malformed, TooLarge
from app.tlog.proof import ProofError, consistency_ranges
from app.tlog.tree import EMPTY_ROOT, HASH_SIZE, MAX_SIZE, TILE_HEIGHT, Frontier, node_hash, root_of

TILE_WIDTH = 1 << TILE_HEIGHT  # hashes, or entries of a bundle
TILE_BYTES = TILE_WIDTH * HASH_SIZE
MAX_LEVEL = 63
MAX_TILE_INDEX = MAX_SIZE >> TILE_HEIGHT
MAX_ENTRY_BYTES = 65_535  # the length is a uint16
_LENGTH_BYTES = 2
_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


def _require_place(index: int, width: int) -> None:
    if not 0 <= index <= MAX_TILE_INDEX or not 1 <= width <= TILE_WIDTH:
        raise Malformed("a tile index or width out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class TileId:
    """Which tile, and how many of its hashes: `width` is 256 for a full tile."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _require_place(self.index, self.width)
        if not 0 <= self.level <= MAX_LEVEL:
            raise Malformed("a tile level out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleId:
    """Which bundle of entries: the one beside the level 0 tile of the same index and width."""

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _require_place(self.index, self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A tile's bytes, as stored and served."""

    id: TileId
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTiles:
    """What one level of a tree has: full tiles `0 <= n < full_tiles`, then a partial one unless its width is 0."""

    level: int
    full_tiles: int
    partial_width: int


def tile_path(tile: TileId | BundleId) -> str:
    """Return the path below the log's prefix, as `tile/0/x001/067.p/112` or `tile/entries/x001/067`."""
    digits = str(tile.index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    number = "".join(f"x{group}/" for group in groups[:-1]) + groups[-1]
    kind = tile.level if isinstance(tile, TileId) else "entries"
    return f"tile/{kind}/{number}" + (f".p/{tile.width}" if tile.width < TILE_WIDTH else "")


def parse_tile_path(path: str) -> TileId | BundleId:
    """Return what `path` names; raise `Malformed` unless it is spelled as `tile_path` would."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise Malformed("not the path of a tile")
    kind, number, partial = match.groups()
    index = int(number.replace("x", "").replace("/", ""))
    width = int(partial) if partial else TILE_WIDTH
    bundle = kind == "entries"
    tile = BundleId(index=index, width=width) if bundle else TileId(level=int(kind), index=index, width=width)
    if tile_path(tile) != path:
        raise Malformed("a tile path that is not canonical")
    return tile


def tiles_for_size(size: int) -> list[LevelTiles]:
    """Return what each level has in a tree of `size`, lowest level first; nothing for an empty tree."""
    levels: list[LevelTiles] = []
    while size > 0:
        levels.append(
            LevelTiles(level=len(levels), full_tiles=size >> TILE_HEIGHT, partial_width=size & (TILE_WIDTH - 1))
        )
        size >>= TILE_HEIGHT
    return levels


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes the tile has in a tree of `size`, 0 to 256; 0 says there is no such tile."""
    return max(0, min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH))


def tile_root(data: bytes) -> bytes:
    """Return the root over the hashes of a tile, which for a full one is its element of the level above."""
    _require_tile(data)
    return root_of([data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)])


def format_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the bundle of 1 to 256 entries of at most 65,535 bytes: each after its uint16 length."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise Malformed(f"a bundle has 1 to {TILE_WIDTH} entries")
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise TooLarge(f"an entry of more than {MAX_ENTRY_BYTES} bytes")
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries)


def parse_bundle(data: bytes, width: int) -> list[bytes]:
    """Return the `width` entries; raise `Malformed` unless they fill `data` exactly."""
    if not 1 <= width <= TILE_WIDTH:
        raise Malformed(f"a bundle has 1 to {TILE_WIDTH} entries")
    entries = []
    at = 0
    for _ in range(width):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > len(data):
            raise Malformed("the bundle is cut short")
        entries.append(data[begin:at])
    if at != len(data):
        raise Malformed("the bundle has more bytes than entries")
    return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandedTile:
    """A tile with its inner nodes: `rows[h]` is the roots of its complete subtrees of 2**h elements, joined."""

    width: int
    rows: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        """The tile's bytes, as stored."""
        return self.rows[0]

    def subtree(self, height: int, index: int) -> bytes:
        """Return the root of elements `[index << height, (index + 1) << height)`; raise unless all are here."""
        if not 0 <= index < self.width >> height:
            raise ProofError("the tile is too narrow")
        at = index * HASH_SIZE
        return self.rows[height][at : at + HASH_SIZE]


ReadTile = Callable[[int, int, int], ExpandedTile]


def expand_tile(data: bytes, narrower: ExpandedTile | None = None) -> ExpandedTile:
    """Return the tile of 1 to 256 hashes with its inner nodes; a full one costs 255 hashes.

    `narrower` is an earlier expansion of the same tile: its nodes are taken over if its bytes begin `data`.
    """
    _require_tile(data)
    known = narrower.rows if narrower is not None and data.startswith(narrower.data) else ()
    rows = [data]
    while len(row := rows[-1]) > HASH_SIZE:
        done = known[len(rows)] if len(rows) < len(known) else b""
        pairs = range(2 * len(done), len(row) - HASH_SIZE, 2 * HASH_SIZE)
        rows.append(done + b"".join([sha256(b"\x01" + row[at : at + 2 * HASH_SIZE]).digest() for at in pairs]))
    return ExpandedTile(width=len(data) // HASH_SIZE, rows=tuple(rows))


def _require_tile(data: bytes) -> None:
    if not HASH_SIZE <= len(data) <= TILE_BYTES or len(data) % HASH_SIZE:
        raise Malformed(f"a tile has 1 to {TILE_WIDTH} hashes of {HASH_SIZE} bytes")


_EMPTY_TILE = ExpandedTile(width=0, rows=())


class _StoredTree:
    """The nodes of the tree of `size`, each tile read at most once."""

    __slots__ = ("_read_tile", "_size", "_tiles")

    def __init__(self, size: int, read_tile: ReadTile) -> None:
        if not 0 <= size <= MAX_SIZE:
            raise ProofError(f"no tree of size {size}")
        self._size = size
        self._read_tile = read_tile
        self._tiles: dict[tuple[int, int], ExpandedTile] = {}

    def subtrees(self, begin: int, end: int) -> list[bytes]:
        """Return the roots of the complete subtrees that make up `[begin, end)`, smallest first."""
        hashes = []
        while begin < end:
            lowest = (end - begin) & (begin - end)
            end -= lowest
            hashes.append(self._node(lowest.bit_length() - 1, end))
        return hashes

    def root(self, begin: int, end: int) -> bytes:
        """Return the root of the leaves `[begin, end)`, a range that a proof names."""
        size = end - begin
        if not size & (size - 1):
            return self._node(size.bit_length() - 1, begin)
        root, *larger = self.subtrees(begin, end)
        for left in larger:
            root = node_hash(left, root)
        return root

    def _node(self, height: int, begin: int) -> bytes:
        """Return the root of the leaves `[begin, begin + 2**height)`."""
        level, row = height >> 3, height & 7
        element = begin >> (level << 3)
        return self.tile(level, element >> TILE_HEIGHT).subtree(row, (element & (TILE_WIDTH - 1)) >> row)

    def tile(self, level: int, index: int) -> ExpandedTile:
        """Return the tile, which is empty when the tree has none of its elements."""
        tile = self._tiles.get((level, index))
        if tile is None:
            width = tile_width(level, index, self._size)
            tile = self._read_tile(level, index, width) if width else _EMPTY_TILE
            self._tiles[level, index] = tile
        return tile


def prove_inclusion_from_tiles(
    index: int, size: int, read_tile: ReadTile, edge: dict[int, bytes] | None = None
) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size`. Requires `0 <= index < size`.

    The same path as `proof.prove_inclusion`, found from the leaf up: in a tile all eight siblings are at hand. `edge`
    keeps the roots of ranges `[begin, size)` by `begin`, at most 63: handed in again for the same tree, it spares
    hashing them.
    """
    tree = _StoredTree(size, read_tile)
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of {size}")
    edge = {} if edge is None else edge
    path = []
    for height in range((size - 1).bit_length()):
        row = height & 7
        if row == 0:
            element = index >> height
            tile, place = tree.tile(height >> 3, element >> TILE_HEIGHT), element & (TILE_WIDTH - 1)
        begin = (index >> height ^ 1) << height
        if begin + (1 << height) <= size:
            path.append(tile.subtree(row, place >> row ^ 1))
        elif begin < size:
            if begin not in edge:
                edge[begin] = tree.root(begin, size)
            path.append(edge[begin])
    return path


def prove_consistency_from_tiles(old_size: int, new_size: int, read_tile: ReadTile) -> list[bytes]:
    """Return the proof that the tree of `new_size` extends that of `old_size`. Requires `1 <= old <= new`."""
    root = _StoredTree(new_size, read_tile).root
    return [root(begin, end) for begin, end in consistency_ranges(old_size, new_size)]


def root_from_tiles(size: int, read_tile: ReadTile) -> bytes:
    """Return the root of the tree of `size`."""
    return _StoredTree(size, read_tile).root(0, size) if size else EMPTY_ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEdge:
    """What a writer of tiles keeps: the frontier, and per level the bytes of the partial tile (b"" if none)."""

    frontier: Frontier = Frontier()  # noqa: RUF009 -- frozen, so one shared default is safe
    partials: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        widths = [level.partial_width for level in tiles_for_size(self.frontier.size)]
        if [len(partial) for partial in self.partials] != [width * HASH_SIZE for width in widths]:
            raise Malformed("partial tiles that do not belong to the frontier's size")

    def append(self, leaf_hashes: Iterable[bytes]) -> tuple[TreeEdge, list[Tile]]:
        """Return the edge with the leaves added, and the tiles to store: the full ones, and the last partials."""
        frontier, added = self.frontier.extend(leaf_hashes)
        tiles: list[Tile] = []
        partials = []
        for level, elements in enumerate(added):
            data = b"".join([*self.partials[level : level + 1], *elements])
            chunks = [data[at : at + TILE_BYTES] for at in range(0, len(data), TILE_BYTES)]
            if elements:
                first = self.frontier.size >> TILE_HEIGHT * (level + 1)
                tiles += [
                    Tile(id=TileId(level=level, index=index, width=len(chunk) // HASH_SIZE), data=chunk)
                    for index, chunk in enumerate(chunks, first)
                ]
            partials.append(data[len(data) // TILE_BYTES * TILE_BYTES :])
        return TreeEdge(frontier=frontier, partials=tuple(partials)), tiles


def edge_from_tiles(size: int, read_tile: ReadTile) -> TreeEdge:
    """Return the edge of the stored tree of `size`, to go on appending."""
    hashes = _StoredTree(size, read_tile).subtrees(0, size)
    partials = [
        read_tile(at.level, at.full_tiles, at.partial_width).data[: at.partial_width * HASH_SIZE]
        if at.partial_width
        else b""
        for at in tiles_for_size(size)
    ]
    return TreeEdge(frontier=Frontier(size=size, hashes=tuple(reversed(hashes))), partials=tuple(partials))
