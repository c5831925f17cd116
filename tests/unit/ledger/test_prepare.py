"""Proofs made of leaves that were announced: the same as from the store, and nothing of them stays if they lie."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ledger.prove import Prover, Published
from app.tlog.proof import verify_inclusion
from app.tlog.tile import expand_tile
from app.tlog.tree import root_of

LOG = "acme"


class Leaves:
    """A log of hashes that counts the tiles that are read."""

    def __init__(self, size: int = 0) -> None:
        self.leaves: list[bytes] = []
        self.tiles_read = 0
        self.grow(size)

    def grow(self, count: int) -> bytes:
        """Return the new leaves, joined."""
        new = [sha256(b"%d" % number).digest() for number in range(len(self.leaves), len(self.leaves) + count)]
        self.leaves += new
        return b"".join(new)

    def read_tile(self, tenant: str, level: int, number: int, width: int) -> bytes:
        self.tiles_read += 1
        span = 256**level
        first = 256 * number
        return b"".join([root_of(self.leaves[at * span : (at + 1) * span]) for at in range(first, first + width)])

    def read_tiles(self, tenant: str, wanted) -> list[bytes]:
        return [self.read_tile(tenant, *each) for each in wanted]

    def publish(self) -> Published:
        return Published(len(self.leaves), root_of(self.leaves), b"note")


def known_until(size: int) -> tuple[Leaves, Prover]:
    """Return a log, and a prover that has made a proof in it."""
    log = Leaves(size)
    prover = Prover(log)
    assert prover.take(LOG, prover.prepare(LOG, [size - 1] if size else [], size), log.publish())
    log.tiles_read = 0
    return log, prover


def verify(log: Leaves, published: Published, index: int) -> None:
    proof = published.proofs[index]
    verify_inclusion(index=index, size=published.size, leaf=log.leaves[index], proof=proof, root=published.root)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 600), st.lists(st.integers(1, 600), min_size=1, max_size=4))
def test_proofs_of_announced_leaves_hold_and_no_tile_is_read(size: int, counts: list[int]) -> None:
    log, prover = known_until(size)
    for count in counts:
        before = len(log.leaves)
        leaves = log.grow(count)
        new = range(before, before + count)
        prepared = prover.prepare(LOG, new, len(log.leaves), leaves)
        published = log.publish()
        assert prover.take(LOG, prepared, published)
        for index in new:
            verify(log, published, index)
    assert log.tiles_read == 0


@pytest.mark.parametrize("size", [65_536 - 3, 65_536 - 256, 65_536])
def test_every_level_of_tiles_grows_by_what_is_announced(size: int) -> None:
    log, prover = known_until(size)
    leaves = log.grow(300)
    prepared = prover.prepare(LOG, [size + 299], size + 300, leaves)
    published = log.publish()
    assert prover.take(LOG, prepared, published)
    assert log.tiles_read == 0
    assert len(prepared.told) >= 3
    verify(log, published, size + 299)


@pytest.mark.parametrize(
    ("size", "count", "wrong"), [(10, 5, 0), (10, 5, 4), (250, 20, 3), (250, 20, 6), (256, 600, 0)]
)
def test_a_wrong_leaf_is_noticed_and_nothing_of_it_is_kept(size: int, count: int, wrong: int) -> None:
    log, prover = known_until(size)
    leaves = log.grow(count)
    lie = leaves[: 32 * wrong] + bytes(32) + leaves[32 * (wrong + 1) :]
    prepared = prover.prepare(LOG, range(size, size + count), size + count, lie)
    published = log.publish()
    assert not prover.take(LOG, prepared, published)
    assert not published.proofs
    again = prover.prepare(LOG, range(size, size + count), size + count)
    assert prover.take(LOG, again, published)
    for index in published.proofs:
        verify(log, published, index)


@pytest.mark.parametrize(("size", "count"), [(300, 10), (250, 20), (256, 300)])
def test_tiles_that_were_read_meanwhile_are_no_hindrance(size: int, count: int) -> None:
    log, prover = known_until(size)
    leaves = log.grow(count)
    prover.read_tile(LOG, 0, size // 256, min(256, len(log.leaves) - size // 256 * 256))
    prepared = prover.prepare(LOG, [size], size + count, leaves)
    published = log.publish()
    assert prover.take(LOG, prepared, published)
    assert prepared.told
    assert log.tiles_read == 1
    verify(log, published, size)


def test_a_tile_that_was_read_wrong_is_read_again_once_a_root_tells() -> None:
    log = Leaves(300)
    prover = Prover(log)
    log.leaves[299] = bytes(32)
    prover.prepare(LOG, [299], 300)
    log.leaves[299:] = []
    log.grow(1)
    other = Leaves(300)
    prover._keep(("other", 0, 1), expand_tile(other.read_tile("other", 0, 1, 44)))
    leaves = log.grow(5)
    assert not prover.take(LOG, prover.prepare(LOG, [301], 305, leaves), log.publish())
    assert list(prover._tiles) == [("other", 0, 1)]
    published = log.publish()
    assert prover.take(LOG, prover.prepare(LOG, [301], 305, leaves), published)
    verify(log, published, 301)


SAID = {"short": b"x", "odd": bytes(33), "too-many": bytes(32 * 400), "a-tile-too-many": bytes(32 * 566), "none": b""}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_leaves_that_cannot_be_those_of_the_tree_are_as_none(said: bytes) -> None:
    log, prover = known_until(300)
    log.grow(10)
    prepared = prover.prepare(LOG, [305], 310, said)
    assert not prepared.told
    published = log.publish()
    assert prover.take(LOG, prepared, published)
    verify(log, published, 305)


@pytest.mark.parametrize("size", [300, 256 * 256 + 256 - 5])
def test_without_the_leaves_before_them_the_tiles_are_read(size: int) -> None:
    log = Leaves(size)
    prover = Prover(log)
    leaves = log.grow(10)
    prepared = prover.prepare(LOG, [size], size + 10, leaves)
    assert not prepared.told
    assert log.tiles_read
    published = log.publish()
    assert prover.take(LOG, prepared, published)
    verify(log, published, size)


def test_for_nobody_nothing_is_read_or_made() -> None:
    log, prover = known_until(300)
    prepared = prover.prepare(LOG, [], 305, log.grow(5))
    assert prover.take(LOG, prepared, log.publish())
    assert not prepared.told
    assert not prover.prepare(LOG, [307], 310, log.grow(5)).told
    assert log.tiles_read == 1
