"""The Merkle tree (RFC 9162, section 2.1; the same tree as RFC 6962).

A leaf is SHA-256(0x00 || entry), a node is SHA-256(0x01 || left || right), the empty tree is SHA-256 of nothing.
A tree of n > 1 leaves splits at the largest power of two below n.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from app.errors import Malformed

HASH_SIZE = 32  # bytes
MAX_SIZE = 2**63 - 1  # leaves
TILE_HEIGHT = 8  # a tile holds 2**8 hashes; every eighth row of the tree is a row of tiles
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above `left` and `right`, 32 bytes each."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over all the leaf hashes; `EMPTY_ROOT` for none."""
    row = require_hashes(leaf_hashes)
    if not row:
        return EMPTY_ROOT
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []  # the last node of an odd row belongs to a higher one
        pairs = zip(row[::2], row[1::2], strict=False)
        row = [sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return row[0]


def require_hashes(hashes: Iterable[bytes]) -> list[bytes]:
    """Return the hashes as a list; raise `Malformed` unless each has 32 bytes."""
    checked = list(hashes)
    if not set(map(len, checked)) <= {HASH_SIZE}:
        raise Malformed(f"a hash that is not {HASH_SIZE} bytes")
    return checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """All that is needed to append to a tree: the roots of its complete subtrees, largest first.

    There is one for each set bit of `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.hashes) != self.size.bit_count():
            raise Malformed("a frontier whose hashes do not belong to its size")
        require_hashes(self.hashes)

    def append(self, leaf_hashes: Iterable[bytes]) -> Frontier:
        """Return the frontier with the leaves added in order."""
        return self.extend(leaf_hashes)[0]

    def extend(self, leaf_hashes: Iterable[bytes]) -> tuple[Frontier, list[list[bytes]]]:
        """Return the frontier with the leaves added, and per tile level the elements that this added.

        Level 0 has the leaf hashes themselves, level l the roots of the subtrees of 256**l leaves now complete.
        """
        leaves = require_hashes(leaf_hashes)
        size, hashes = self.size, list(self.hashes)
        added: list[list[bytes]] = [[] for _ in range(0, (size + len(leaves)).bit_length(), TILE_HEIGHT)]
        for leaf in leaves:
            node, carry, height = leaf, size, 0
            while carry & 1:
                node = sha256(b"\x01" + hashes.pop() + node).digest()
                carry >>= 1
                height += 1
                if not height % TILE_HEIGHT:
                    added[height // TILE_HEIGHT].append(node)
            hashes.append(node)
            size += 1
        if leaves:
            added[0] = leaves
        return Frontier(size=size, hashes=tuple(hashes)), added

    def root(self) -> bytes:
        """Return the root of the tree; `EMPTY_ROOT` when there are no leaves."""
        if not self.hashes:
            return EMPTY_ROOT
        *larger, root = self.hashes
        for left in reversed(larger):
            root = node_hash(left, root)
        return root
