"""Bounds of the tree, its proofs and its tiles."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from app.errors import Malformed, TooLarge
from app.tlog.proof import (
    ProofError,
    consistency_ranges,
    inclusion_ranges,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_growth,
    verify_inclusion,
)
from app.tlog.tile import (
    BundleId,
    TileId,
    TreeEdge,
    expand_tile,
    format_bundle,
    parse_bundle,
    parse_tile_path,
    prove_inclusion_from_tiles,
    root_from_tiles,
    tile_path,
    tile_root,
    tile_width,
)
from app.tlog.tree import EMPTY_ROOT, Frontier, leaf_hash, node_hash, root_of
from tests.parts.tlog_samples import make_leaves, make_reader

LEAVES = make_leaves(600)
MAX_SIZE = 2**63 - 1


def test_an_entry_cannot_pass_for_a_node() -> None:
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize(
    ("size", "hashes"), [(1, ()), (0, (b"x" * 32,)), (-1, ()), (1, (b"x" * 31,)), (MAX_SIZE + 1, (b"x" * 32,))]
)
def test_a_frontier_that_does_not_fit_its_size_is_refused(size: int, hashes: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        Frontier(size=size, hashes=hashes)


def test_a_frontier_does_not_change_when_a_longer_one_is_made() -> None:
    frontier = Frontier().append(LEAVES[:3])
    root = frontier.root()
    frontier.append(LEAVES[3:])
    assert frontier.root() == root
    with pytest.raises(FrozenInstanceError):
        frontier.size = 4  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_leaf_hash_of_another_length_never_enters_a_tree(length: int) -> None:
    with pytest.raises(Malformed):
        Frontier().append([b"x" * length])
    with pytest.raises(Malformed):
        root_of([LEAVES[0], b"x" * length])


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0), (0, MAX_SIZE + 1)])
def test_there_is_no_proof_of_a_leaf_beyond_the_tree(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        inclusion_ranges(index, size)
    with pytest.raises(ProofError):
        verify_inclusion(index=index, size=size, leaf=LEAVES[0], proof=[], root=LEAVES[0])
    with pytest.raises(ProofError):
        prove_inclusion_from_tiles(index, size, make_reader([]))


@pytest.mark.parametrize(("old", "new"), [(0, 5), (6, 5), (-1, 5), (1, MAX_SIZE + 1)])
def test_there_is_no_consistency_proof_backwards_or_from_nothing(old: int, new: int) -> None:
    with pytest.raises(ProofError):
        consistency_ranges(old, new)
    with pytest.raises(ProofError):
        verify_consistency(old_size=old, new_size=new, old_root=LEAVES[0], new_root=LEAVES[0], proof=[])


def test_a_proof_of_more_hashes_than_any_tree_needs_is_refused_before_hashing() -> None:
    with pytest.raises(ProofError, match="more than 63"):
        verify_inclusion(index=0, size=MAX_SIZE, leaf=LEAVES[0], proof=LEAVES[:64], root=LEAVES[0])
    with pytest.raises(ProofError, match="more than 64"):
        verify_consistency(old_size=1, new_size=MAX_SIZE, old_root=LEAVES[0], new_root=LEAVES[0], proof=LEAVES[:65])


def test_the_largest_tree_needs_exactly_the_63_hashes_that_are_allowed() -> None:
    assert len(inclusion_ranges(0, MAX_SIZE)) == 63
    root = LEAVES[0]
    for sibling in LEAVES[1:64]:
        root = node_hash(root, sibling)
    verify_inclusion(index=0, size=MAX_SIZE, leaf=LEAVES[0], proof=LEAVES[1:64], root=root)


def test_hashes_of_another_length_are_refused_in_a_proof() -> None:
    proof = prove_inclusion(3, LEAVES[:8])
    for bad in ({"leaf": b""}, {"root": b"x" * 33}, {"proof": [proof[0][:31], *proof[1:]]}):
        good = {"leaf": LEAVES[3], "root": root_of(LEAVES[:8]), "proof": proof}
        with pytest.raises(ProofError, match="not 32 bytes"):
            verify_inclusion(index=3, size=8, **{**good, **bad})  # type: ignore[arg-type]  # mixed values


def test_an_empty_consistency_proof_between_different_sizes_is_refused() -> None:
    for old in (1, 2, 3):
        with pytest.raises(ProofError):
            verify_consistency(
                old_size=old, new_size=5, old_root=root_of(LEAVES[:old]), new_root=root_of(LEAVES[:5]), proof=[]
            )


def test_anything_grows_from_an_empty_tree_with_an_empty_proof_alone() -> None:
    root = root_of(LEAVES[:5])
    verify_growth(old_size=0, new_size=5, old_root=EMPTY_ROOT, new_root=root, proof=[])
    verify_growth(old_size=0, new_size=0, old_root=EMPTY_ROOT, new_root=EMPTY_ROOT, proof=[])
    verify_growth(
        old_size=2,
        new_size=5,
        old_root=root_of(LEAVES[:2]),
        new_root=root,
        proof=prove_consistency(2, LEAVES[:5]),
    )


@pytest.mark.parametrize(
    ("new_size", "old_root", "new_root", "proof"),
    [
        (5, EMPTY_ROOT, LEAVES[1], [LEAVES[0]]),
        (5, LEAVES[0], LEAVES[1], []),
        (0, EMPTY_ROOT, LEAVES[1], []),
        (-1, EMPTY_ROOT, EMPTY_ROOT, []),
        (MAX_SIZE + 1, EMPTY_ROOT, LEAVES[1], []),
        (5, EMPTY_ROOT, b"short", []),
    ],
)
def test_an_empty_tree_has_no_other_root_and_no_proof(
    new_size: int, old_root: bytes, new_root: bytes, proof: list[bytes]
) -> None:
    with pytest.raises(ProofError):
        verify_growth(old_size=0, new_size=new_size, old_root=old_root, new_root=new_root, proof=proof)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/x000/001",
        "tile/0/1",
        "tile/0/0001",
        "tile/0/x001/",
        "tile/0/001/002",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/07",
        "tile/0/001.p/",
        "tile/0/001.p/999",
        "tile/0/001\n",
        "/tile/0/001",
        "tile/entries/x000/001",
        "tile/entries/001.p/256",
        "tile/data/001",
        "tile/0/\u0661\u0662\u0663",
        "tile/0/x999/x999/x999/x999/x999/999",
        "tile/0/" + "x001/" * 400 + "001",
        "tile/0/../001",
        "",
    ],
)
def test_a_tile_has_one_path_and_any_other_is_refused(path: str) -> None:
    with pytest.raises(Malformed):
        parse_tile_path(path)


def test_a_path_tells_a_tile_from_a_bundle() -> None:
    assert parse_tile_path("tile/63/x001/067.p/112") == TileId(level=63, index=1067, width=112)
    assert parse_tile_path("tile/entries/x001/067") == BundleId(index=1067)
    assert tile_path(TileId(level=0, index=MAX_SIZE >> 8)).startswith("tile/0/x036/")


@pytest.mark.parametrize(
    "place", [{"level": 64}, {"level": -1}, {"index": -1}, {"index": 2**55}, {"width": 0}, {"width": 257}]
)
def test_a_tile_out_of_range_has_no_name(place: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        TileId(**{"level": 0, "index": 0, **place})


def test_a_tile_is_as_wide_as_the_tree_lets_it_be() -> None:
    assert [tile_width(0, index, 600) for index in range(4)] == [256, 256, 88, 0]
    assert [tile_width(1, index, 600) for index in range(2)] == [2, 0]
    assert tile_width(63, 0, MAX_SIZE) == 0


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33, b"x" * 32 * 257])
def test_bytes_that_are_no_tile_are_refused(data: bytes) -> None:
    for read in (tile_root, expand_tile):
        with pytest.raises(Malformed):
            read(data)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 200, 255, 256])
def test_an_expanded_tile_has_every_complete_subtree_and_no_other(width: int) -> None:
    tile = expand_tile(b"".join(LEAVES[:width]))
    assert tile.data == b"".join(LEAVES[:width])
    for height in range(9):
        for index in range(width >> height):
            leaves = LEAVES[index << height : (index + 1) << height]
            assert tile.subtree(height, index) == root_of(leaves)
        for index in (-1, width >> height):
            with pytest.raises(ProofError):
                tile.subtree(height, index)


def test_a_store_that_gives_a_narrower_tile_gets_no_proof_out_of_it() -> None:
    _, tiles = TreeEdge().append(LEAVES[:300])
    with pytest.raises(ProofError, match="too narrow"):
        prove_inclusion_from_tiles(5, 400, make_reader(tiles))


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1])
def test_there_is_no_tree_of_an_impossible_size(size: int) -> None:
    with pytest.raises(ProofError):
        root_from_tiles(size, make_reader([]))


@pytest.mark.parametrize("partials", [(), (b"",), (b"x" * 32, b""), (b"x" * 64,)])
def test_an_edge_whose_partial_tiles_are_not_of_its_size_is_refused(partials: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        TreeEdge(frontier=Frontier().append(LEAVES[:1]), partials=partials)


def test_appending_nothing_stores_nothing() -> None:
    edge, _ = TreeEdge().append(LEAVES[:300])
    assert edge.append([]) == (edge, [])
    assert TreeEdge().append([]) == (TreeEdge(), [])


def test_bundles_hold_the_longest_and_the_shortest_entries() -> None:
    entries = [b"", b"x" * 65_535] * 128
    assert parse_bundle(format_bundle(entries), 256) == entries


def test_entries_that_fit_no_bundle_are_refused() -> None:
    with pytest.raises(TooLarge):
        format_bundle([b"x" * 65_536])
    for entries in ([], [b""] * 257):
        with pytest.raises(Malformed):
            format_bundle(entries)


@pytest.mark.parametrize(
    ("data", "width"),
    [
        (b"", 1),
        (b"\x00", 1),
        (b"\x00\x02x", 1),
        (b"\x00\x01xy", 1),
        (b"\x00\x01x", 2),
        (b"", 0),
        (b"\x00\x00" * 257, 257),
    ],
)
def test_a_bundle_that_is_not_filled_exactly_is_refused(data: bytes, width: int) -> None:
    with pytest.raises(Malformed):
        parse_bundle(data, width)
