"""Runs of leaves: how a batch is cut, and which numbers are still open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.sql.runs import NO_END, Covered, cut_runs, find_leaf, make_marks
from app.ledger.ports import Head, Integration


def batch_of(seqs, size=0):
    head = Head(size=size, root=bytes(32), settled_seq=0, frozen=False)
    hashes = [seq.to_bytes(32, "big") for seq in seqs]
    return Integration(tenant="a", old=head, new=head, seqs=seqs, leaf_hashes=hashes, tiles=())


@given(seqs=st.lists(st.integers(1, 900), unique=True, max_size=700), size=st.integers(0, 1000))
def test_every_leaf_is_in_one_run_that_lies_in_one_tile(seqs, size):
    placed = []
    for idx, seq, width, hashes in cut_runs(batch_of(seqs, size)):
        assert idx // 256 == (idx + width - 1) // 256
        placed += [(idx + n, seq + n, hashes[32 * n : 32 * n + 32]) for n in range(width)]
    assert placed == [(size + n, seq, seq.to_bytes(32, "big")) for n, seq in enumerate(seqs)]


def test_a_batch_in_a_row_is_cut_at_tiles_alone():
    assert [run[:3] for run in cut_runs(batch_of(range(11, 411), 200))] == [
        (200, 11, 56),
        (256, 67, 256),
        (512, 323, 88),
    ]


@given(runs=st.sets(st.integers(0, 60)).map(sorted), after=st.integers(0, 200))
def test_the_holes_are_what_no_run_covers(runs, after):
    covered = Covered(0, 0, [(seq * 3, 1 + seq % 3) for seq in runs])
    starts, stops = covered.find_holes(after)
    assert stops[-1] == NO_END
    open_numbers = {seq for start, stop in zip(starts, stops, strict=True) for seq in range(start, min(stop, 300))}
    taken = {seq * 3 + n for seq in runs for n in range(1 + seq % 3)}
    assert open_numbers == set(range(after + 1, 300)) - taken


def test_what_is_settled_is_forgotten():
    covered = Covered(5, 0, [(1, 2), (4, 1), (8, 2)])
    covered.add(7, 9, [(3, 1), (10, 1)])
    assert (covered.size, covered.since, covered._spans) == (7, 9, [(10, 11)])
    assert covered.find_holes(9) == ([11], [NO_END])


@pytest.mark.parametrize(("leaf", "index"), [(b"a" * 32, 4), (b"b" * 32, 5), (b"a" * 16 + b"b" * 16, None)])
def test_a_leaf_is_found_at_its_place_and_at_the_lowest(leaf, index):
    rows = [(9, b"b" * 32 + b"a" * 32), (4, b"a" * 32 + b"b" * 32)]
    assert find_leaf(rows, leaf) == index


def test_a_leaf_tile_has_marks_and_those_above_have_none():
    tile = b"".join(n.to_bytes(4, "big") * 8 for n in range(256))
    assert make_marks(0, tile) == b"".join(n.to_bytes(4, "big")[:3] for n in range(256))
    assert make_marks(1, tile) is None
