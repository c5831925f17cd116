"""Laws of the tree, its proofs and its tiles."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.tlog.proof import (
    ProofError,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_growth,
    verify_inclusion,
)
from app.tlog.tile import (
    ReadTile,
    TreeEdge,
    edge_from_tiles,
    prove_consistency_from_tiles,
    prove_inclusion_from_tiles,
    root_from_tiles,
    tile_root,
    tiles_for_size,
)
from app.tlog.tree import EMPTY_ROOT, Frontier, node_hash, root_of
from tests.parts.tlog_samples import make_leaves, make_reader

LAW = settings(deadline=None, max_examples=50)
LEAVES = make_leaves(66_000)
EDGE_SIZES = (0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537)
sizes = st.integers(1, 3_000) | st.sampled_from([1, 2, 255, 256, 257, 511, 512, 513, 1_024, 2_048])


@cache
def stored(size: int) -> ReadTile:
    return make_reader(TreeEdge().append(LEAVES[:size])[1])


def mth(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162, 2.1.1, word for word."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else EMPTY_ROOT
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(mth(leaves[:split]), mth(leaves[split:]))


@LAW
@given(size=st.integers(0, 600))
def test_the_root_is_that_of_the_rfc(size: int) -> None:
    assert root_of(LEAVES[:size]) == mth(LEAVES[:size]) == Frontier().append(LEAVES[:size]).root()


@LAW
@given(cuts=st.lists(st.integers(0, 1_500), max_size=8), size=st.integers(0, 1_500))
def test_a_frontier_appended_in_any_split_has_the_root_of_the_whole(cuts: list[int], size: int) -> None:
    frontier, edge, tiles = Frontier(), TreeEdge(), []
    steps = sorted({0, size, *(cut for cut in cuts if cut < size)})
    for begin, end in pairwise(steps):
        frontier = frontier.append(LEAVES[begin:end])
        edge, new = edge.append(LEAVES[begin:end])
        tiles += new
    whole, _ = TreeEdge().append(LEAVES[:size])
    assert frontier == edge.frontier == whole.frontier
    assert frontier.root() == root_of(LEAVES[:size])
    assert edge == whole == edge_from_tiles(size, make_reader(tiles))


def test_every_leaf_of_every_small_tree_proves() -> None:
    for size in range(1, 66):
        leaves = LEAVES[:size]
        for index in range(size):
            verify_inclusion(
                index=index,
                size=size,
                leaf=leaves[index],
                proof=prove_inclusion(index, leaves),
                root=root_of(leaves),
            )


def test_every_pair_of_small_trees_is_consistent() -> None:
    for new in range(1, 40):
        for old in range(1, new + 1):
            proof = prove_consistency(old, LEAVES[:new])
            roots = {"old_root": root_of(LEAVES[:old]), "new_root": root_of(LEAVES[:new])}
            verify_consistency(old_size=old, new_size=new, proof=proof, **roots)
            verify_growth(old_size=old, new_size=new, proof=proof, **roots)


def _claim_inclusion(index: int, size: int) -> dict[str, Any]:
    leaves = LEAVES[:size]
    return {
        "index": index,
        "size": size,
        "leaf": leaves[index],
        "proof": prove_inclusion(index, leaves),
        "root": root_of(leaves),
    }


def _flip(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "big") ^ 1 << bit % 256).to_bytes(32, "big")


@LAW
@given(data=st.data(), size=sizes, bit=st.integers(0, 255))
def test_any_mutated_inclusion_proof_fails(data: st.DataObject, size: int, bit: int) -> None:
    claim = _claim_inclusion(data.draw(st.integers(0, size - 1)), size)
    verify_inclusion(**claim)
    proof = claim["proof"]
    at = data.draw(st.integers(0, len(proof)))
    mutated = [
        {"leaf": _flip(claim["leaf"], bit)},
        {"root": _flip(claim["root"], bit)},
        {"proof": [*proof[:at], claim["root"], *proof[at:]]},
        *({"proof": [*proof[:i], _flip(proof[i], bit), *proof[i + 1 :]]} for i in range(len(proof))),
        *({"proof": proof[:i] + proof[i + 1 :]} for i in range(len(proof))),
        *({"index": index} for index in (claim["index"] ^ 1, claim["index"] + 1, size, -1)),
    ]
    for change in mutated:
        with pytest.raises(ProofError):
            verify_inclusion(**{**claim, **change})


@LAW
@given(data=st.data(), size=sizes)
def test_a_proof_at_another_index_or_for_another_leaf_fails(data: st.DataObject, size: int) -> None:
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    assume(index != other)
    claim = _claim_inclusion(index, size)
    for change in ({"index": other}, {"leaf": LEAVES[other]}):
        with pytest.raises(ProofError):
            verify_inclusion(**{**claim, **change})


@LAW
@given(data=st.data(), new=sizes, bit=st.integers(0, 255))
def test_any_mutated_consistency_proof_fails(data: st.DataObject, new: int, bit: int) -> None:
    old = data.draw(st.integers(1, new))
    proof = prove_consistency(old, LEAVES[:new])
    claim: dict[str, Any] = {
        "old_size": old,
        "new_size": new,
        "old_root": root_of(LEAVES[:old]),
        "new_root": root_of(LEAVES[:new]),
        "proof": proof,
    }
    verify_consistency(**claim)
    at = data.draw(st.integers(0, len(proof)))
    mutated = [
        {"old_root": _flip(claim["old_root"], bit)},
        {"new_root": _flip(claim["new_root"], bit)},
        {"old_size": 0},
        {"old_size": new + 1},
        {"proof": [*proof[:at], claim["old_root"], *proof[at:]]},
        *({"proof": [*proof[:i], _flip(proof[i], bit), *proof[i + 1 :]]} for i in range(len(proof))),
        *({"proof": proof[:i] + proof[i + 1 :]} for i in range(len(proof))),
    ]
    for change in mutated:
        with pytest.raises(ProofError):
            verify_consistency(**{**claim, **change})


@LAW
@given(data=st.data(), new=st.integers(2, 600))
def test_a_rewritten_history_is_never_consistent(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new - 1))
    forged = list(LEAVES[:new])
    forged[data.draw(st.integers(0, old - 1))] = bytes(32)
    with pytest.raises(ProofError):
        verify_consistency(
            old_size=old,
            new_size=new,
            old_root=root_of(LEAVES[:old]),
            new_root=root_of(forged),
            proof=prove_consistency(old, forged),
        )


@LAW
@given(data=st.data(), size=sizes)
def test_proofs_from_tiles_are_those_from_leaves(data: st.DataObject, size: int) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    leaves, read_tile = LEAVES[:size], stored(size)
    assert prove_inclusion_from_tiles(index, size, read_tile) == prove_inclusion(index, leaves)
    assert prove_consistency_from_tiles(old, size, read_tile) == prove_consistency(old, leaves)
    assert root_from_tiles(size, read_tile) == root_of(leaves)


@LAW
@given(data=st.data(), size=sizes)
def test_what_one_proof_found_of_the_right_edge_serves_every_other_of_the_same_tree(
    data: st.DataObject, size: int
) -> None:
    edge: dict[int, bytes] = {}
    for index in data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=5)):
        proof = prove_inclusion_from_tiles(index, size, stored(size), edge)
        assert proof == prove_inclusion(index, LEAVES[:size])
    assert all(root == root_of(LEAVES[begin:size]) for begin, root in edge.items())


@LAW
@given(data=st.data(), size=sizes)
def test_tiles_of_a_later_tree_prove_for_an_earlier_one(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    later = stored(3_333)
    assert prove_inclusion_from_tiles(index, size, later) == prove_inclusion(index, LEAVES[:size])
    assert edge_from_tiles(size, later) == TreeEdge().append(LEAVES[:size])[0]


@pytest.mark.parametrize("size", EDGE_SIZES)
def test_trees_that_just_fill_their_tiles_prove_from_them(size: int) -> None:
    leaves = LEAVES[:size]
    edge, tiles = TreeEdge().append(leaves)
    read_tile = make_reader(tiles)
    root = root_of(leaves)
    assert root_from_tiles(size, read_tile) == edge.frontier.root() == root
    assert edge_from_tiles(size, read_tile) == edge
    for index in sorted({0, size // 2, size - 257, size - 1} & set(range(size))):
        proof = prove_inclusion_from_tiles(index, size, read_tile)
        verify_inclusion(index=index, size=size, leaf=leaves[index], proof=proof, root=root)
        old_root = root_of(leaves[: index + 1])
        proof = prove_consistency_from_tiles(index + 1, size, read_tile)
        verify_consistency(old_size=index + 1, new_size=size, old_root=old_root, new_root=root, proof=proof)


@pytest.mark.parametrize("size", EDGE_SIZES)
def test_appending_stores_exactly_the_tiles_that_the_size_has(size: int) -> None:
    _, tiles = TreeEdge().append(LEAVES[:size])
    named = {(tile.id.level, tile.id.index, tile.id.width) for tile in tiles}
    expected = set()
    for level in tiles_for_size(size):
        expected |= {(level.level, index, 256) for index in range(level.full_tiles)}
        if level.partial_width:
            expected.add((level.level, level.full_tiles, level.partial_width))
    assert named == expected
    stored_bytes = {(tile.id.level, tile.id.index): tile.data for tile in tiles}
    for (level, index), data in stored_bytes.items():
        if level > 0:
            children = [stored_bytes[level - 1, index * 256 + i] for i in range(len(data) // 32)]
            assert data == b"".join(map(tile_root, children))


@LAW
@given(size=sizes)
def test_a_proof_reads_each_tile_once_and_only_a_few(size: int) -> None:
    reads: list[tuple[int, int]] = []
    whole = stored(size)

    def read_tile(level: int, index: int, width: int) -> Any:
        tile = whole(level, index, width)
        assert tile.width == width
        reads.append((level, index))
        return tile

    prove_inclusion_from_tiles(size // 2, size, read_tile)
    assert len(reads) == len(set(reads)) <= 2 * len(tiles_for_size(size))
