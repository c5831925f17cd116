"""Laws of the whole ledger, over the memory store: whatever is appended in whatever batches, every receipt verifies."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Rejected
from app.ledger.prove import Prover
from app.tlog.proof import verify_consistency, verify_inclusion
from app.tlog.receipt import parse_receipt, verify_receipt
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.ledger import TENANT, World, make_trust

LAW = settings(deadline=None, max_examples=25)
TRUST = make_trust()

batches = st.lists(st.integers(1, 90), min_size=1, max_size=6) | st.just([255, 1, 1]) | st.just([256, 256, 1])


def grow(world: World, sizes: list[int]) -> list[int]:
    """Append and publish batch by batch; return the published sizes."""
    published, total = [], 0
    with world.sequencer() as sequencer:
        for size in sizes:
            world.append(*range(total, total + size))
            total += size
            while sequencer.step():
                pass
            published.append(sequencer.head.size)
    assert published[-1] == total
    return published


@LAW
@given(sizes=batches, flip=st.integers(0, 2**31))
def test_every_receipt_of_every_log_verifies_and_for_its_entry_alone(sizes: list[int], flip: int) -> None:
    world = World()
    grow(world, sizes)
    prover = Prover(world.store)
    published = prover.read_published(TENANT.id)
    bodies = world.store.list_bodies(TENANT.id, 0, published.size)
    for index in {0, published.size - 1, flip % published.size}:
        receipt = parse_receipt(prover.receipt(TENANT.id, index, bodies[index], published))
        assert verify_receipt(receipt, leaf_hash(bodies[index]), TRUST).checkpoint.size == published.size
        other = bytearray(bodies[index])
        other[flip % len(other)] ^= 1 << flip % 8
        with pytest.raises(Rejected):
            verify_receipt(receipt, leaf_hash(bytes(other)), TRUST)


@LAW
@given(sizes=batches, pick=st.integers(0, 2**31))
def test_a_receipt_of_any_older_checkpoint_still_proves(sizes: list[int], pick: int) -> None:
    """Receipts do not expire: the proof at an older size is made from tiles that have grown since."""
    world = World()
    published = grow(world, sizes)
    prover = Prover(world.store)
    leaves = world.store.logs[TENANT.id].leaves
    for size in published:
        index = pick % size
        proof = prover.prove_inclusion(TENANT.id, index, size)
        verify_inclusion(index=index, size=size, leaf=leaves[index], proof=proof, root=root_of(leaves[:size]))


@LAW
@given(sizes=batches)
def test_each_exposed_checkpoint_extends_the_one_before(sizes: list[int]) -> None:
    world = World()
    published = grow(world, sizes)
    prover = Prover(world.store)
    leaves = world.store.logs[TENANT.id].leaves
    assert [size for size, _ in world.store.list_checkpoints(TENANT.id, 0, 10**6)] == published
    for old, new in pairwise(published):
        verify_consistency(
            old_size=old,
            new_size=new,
            old_root=root_of(leaves[:old]),
            new_root=root_of(leaves[:new]),
            proof=prover.prove_consistency(TENANT.id, old, new),
        )
    assert world.signatures.find_fork() is None


@LAW
@given(sizes=batches, ahead=st.integers(1, 2**40))
def test_beyond_the_published_log_nothing_is_proven(sizes: list[int], ahead: int) -> None:
    world = World()
    size = grow(world, sizes)[-1]
    prover = Prover(world.store)
    for index, tree in [(size - 1 + ahead, size), (0, size + ahead), (size + ahead - 1, size + ahead), (-ahead, size)]:
        with pytest.raises(Rejected):
            prover.prove_inclusion(TENANT.id, index, tree)
    for old, new in [(0, size + ahead), (size, size + ahead), (size + ahead, size + ahead), (size + ahead, size)]:
        with pytest.raises(Rejected):
            prover.prove_consistency(TENANT.id, old, new)
