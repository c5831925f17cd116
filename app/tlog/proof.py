"""Inclusion and consistency proofs (RFC 9162, sections 2.1.3 and 2.1.4).

A proof is a list of roots of subtrees. Which subtrees depends on the sizes alone (`…_ranges`), so that a prover
may take the hashes from leaves (here) or from tiles (`tile`). Nothing is trusted: each `verify_…` bounds first.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import Rejected
from app.tlog.tree import EMPTY_ROOT, HASH_SIZE, MAX_SIZE, node_hash, root_of

MAX_INCLUSION_HASHES = 63
MAX_CONSISTENCY_HASHES = 64

Range = tuple[int, int]


class ProofError(Rejected):
    """The proof does not show what it claims, or no such proof exists."""

    code = "proof_invalid"


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the leaf ranges `[begin, end)` whose roots are the audit path of `index`, nearest first.

    Requires `0 <= index < size`.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"no leaf {index} in a tree of {size}")
    begin, end = 0, size
    ranges = []
    while end - begin > 1:
        split = begin + (1 << (end - begin - 1).bit_length() - 1)
        if index < split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((begin, split))
            begin = split
    ranges.reverse()
    return ranges


def consistency_ranges(old_size: int, new_size: int) -> list[Range]:
    """Return the leaf ranges whose roots prove that the new tree extends the old one, in proof order.

    Requires `1 <= old_size <= new_size`.
    """
    if not 1 <= old_size <= new_size <= MAX_SIZE:
        raise ProofError(f"no proof from size {old_size} to size {new_size}")
    begin, end = 0, new_size
    ranges = []
    while old_size != end:
        split = begin + (1 << (end - begin - 1).bit_length() - 1)
        if old_size <= split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((begin, split))
            begin = split
    if begin > 0:
        ranges.append((begin, end))
    ranges.reverse()
    return ranges


def prove_inclusion(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Return the audit path of leaf `index`, nearest sibling first, from leaf hashes.

    Requires `0 <= index < len(leaves)`.
    """
    return [root_of(leaves[begin:end]) for begin, end in inclusion_ranges(index, len(leaves))]


def prove_consistency(old_size: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Return the proof that the tree over `leaves` extends the tree over its first `old_size`.

    Requires `1 <= old_size <= len(leaves)`; empty when they are equal.
    """
    return [root_of(leaves[begin:end]) for begin, end in consistency_ranges(old_size, len(leaves))]


def verify_inclusion(*, index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raise `ProofError` unless the leaf hash is at `index` of the tree of `size` with `root` (2.1.3.2)."""
    _require_hashes([leaf, root], proof, MAX_INCLUSION_HASHES)
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"no leaf {index} in a tree of {size}")

    sides = _sides(index, size - 1)
    if len(proof) != len(sides):
        raise ProofError(f"the proof has {len(proof)} hashes where {len(sides)} are needed")
    node = leaf
    for sibling, is_left in zip(proof, sides, strict=True):
        node = node_hash(sibling, node) if is_left else node_hash(node, sibling)
    if node != root:
        raise ProofError("the leaf is not in the tree with this root")


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise `ProofError` unless the new tree extends the old one (2.1.4.2).

    Requires `1 <= old_size`: of an empty tree nothing can be proven, see `verify_growth`.
    """
    _require_hashes([old_root, new_root], proof, MAX_CONSISTENCY_HASHES)
    if not 1 <= old_size <= new_size <= MAX_SIZE:
        raise ProofError(f"no proof from size {old_size} to size {new_size}")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise ProofError("trees of one size must have one root and no proof")
        return

    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    shift = (old_size & -old_size).bit_length() - 1
    sides = _sides(old_size - 1 >> shift, new_size - 1 >> shift)
    if len(path) != len(sides) + 1:
        raise ProofError(f"the proof has {len(proof)} hashes, which is not what it needs")
    old_node = new_node = path[0]
    for sibling, is_left in zip(path[1:], sides, strict=True):
        old_node = node_hash(sibling, old_node) if is_left else old_node
        new_node = node_hash(sibling, new_node) if is_left else node_hash(new_node, sibling)
    if old_node != old_root or new_node != new_root:
        raise ProofError("the new tree does not extend the old one")


def verify_growth(*, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise `ProofError` unless the new tree extends the old one, which may be empty.

    The rule of tlog-witness: anything extends the empty tree, with an empty proof. An empty tree has `EMPTY_ROOT`.
    """
    if old_size != 0:
        verify_consistency(old_size=old_size, new_size=new_size, old_root=old_root, new_root=new_root, proof=proof)
        return
    _require_hashes([old_root, new_root], proof, 0)
    if not 0 <= new_size <= MAX_SIZE:
        raise ProofError(f"no tree of size {new_size}")
    if old_root != EMPTY_ROOT or (new_size == 0 and new_root != EMPTY_ROOT):
        raise ProofError("an empty tree with a root of its own")


def _sides(fn: int, sn: int) -> list[bool]:
    """Return for each hash of a path, nearest first, whether it is a left sibling (steps 4 of the RFC).

    `fn` is the place of the node, `sn` that of the last node of its row.
    """
    sides = []
    while sn:
        is_left = fn & 1 == 1 or fn == sn
        sides.append(is_left)
        while is_left and fn and not fn & 1:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    return sides


def _require_hashes(ends: list[bytes], proof: Sequence[bytes], limit: int) -> None:
    if len(proof) > limit:
        raise ProofError(f"a proof of more than {limit} hashes")
    if any(len(value) != HASH_SIZE for value in (*ends, *proof)):
        raise ProofError(f"a hash that is not {HASH_SIZE} bytes")
