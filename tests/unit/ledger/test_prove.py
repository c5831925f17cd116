"""Proofs and receipts from the store: right ones for what is published, refusals for the rest."""

from __future__ import annotations

import pytest

from app.errors import NotFound, Rejected
from app.ledger import prove as module
from app.ledger.prove import NotPublishedError, Prover
from app.tlog.proof import verify_consistency, verify_inclusion
from app.tlog.receipt import parse_receipt, verify_receipt
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.ledger import OTHER, TENANT, World, make_trust

SIZE = 300


@pytest.fixture(scope="module")
def world():
    world = World()
    world.store.add_tenant(OTHER)
    world.append(*range(SIZE))
    world.publish()
    return world


@pytest.fixture
def prover(world):
    return Prover(world.store)


def test_before_the_first_checkpoint_nothing_is_proven() -> None:
    prover = Prover(World().store)
    with pytest.raises(NotPublishedError) as caught:
        prover.read_published(TENANT.id)
    assert caught.value.code == "not_in_the_log_yet"
    with pytest.raises(NotPublishedError):
        prover.prove_inclusion(TENANT.id, 0, 1)


@pytest.mark.parametrize("index", [0, 1, 255, 256, SIZE - 1])
def test_a_receipt_verifies_with_the_public_key_alone(world, prover, index) -> None:
    body = world.store.list_bodies(TENANT.id, index, index + 1)[0]
    data = prover.receipt(TENANT.id, index, body, prover.read_published(TENANT.id))
    receipt = parse_receipt(data)
    verified = verify_receipt(receipt, leaf_hash(body), make_trust())
    assert (receipt.index, receipt.extra, verified.checkpoint.size) == (index, body, SIZE)
    with pytest.raises(Rejected):
        verify_receipt(receipt, leaf_hash(body + b" "), make_trust())
    with pytest.raises(Rejected):
        verify_receipt(receipt, leaf_hash(body), make_trust(OTHER))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, SIZE])
def test_proofs_hold_at_every_size_that_is_covered(world, prover, size) -> None:
    leaves = world.store.logs[TENANT.id].leaves
    index = size - 1
    proof = prover.prove_inclusion(TENANT.id, index, size)
    verify_inclusion(index=index, size=size, leaf=leaves[index], proof=proof, root=root_of(leaves[:size]))
    proof = prover.prove_consistency(TENANT.id, size, SIZE)
    verify_consistency(
        old_size=size, new_size=SIZE, old_root=root_of(leaves[:size]), new_root=root_of(leaves), proof=proof
    )


class CountingReader:
    """The store, and how often tiles are asked of it."""

    def __init__(self, store) -> None:
        self._store = store
        self.asked: list[int] = []

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def read_tile(self, tenant, level, number, width):
        self.asked.append(1)
        return self._store.read_tile(tenant, level, number, width)

    def read_tiles(self, tenant, wanted):
        self.asked.append(len(wanted))
        return self._store.read_tiles(tenant, wanted)


def test_the_tiles_that_a_proof_lacks_are_read_together_and_once(world) -> None:
    reader = CountingReader(world.store)
    prover = Prover(reader)
    first = prover.prove_inclusion(TENANT.id, 0, SIZE)
    assert reader.asked == [3], "both tiles of level 0, and the one above them"
    assert prover.prove_inclusion(TENANT.id, SIZE - 1, SIZE)
    assert prover.prove_inclusion(TENANT.id, 0, SIZE) == first
    assert reader.asked == [3]
    leaves = world.store.logs[TENANT.id].leaves
    assert [prover.read_leaf(TENANT.id, index, SIZE) for index in range(SIZE)] == leaves
    assert reader.asked == [3], "a leaf is in the tile that its proof has read"
    prover._tiles.pop((TENANT.id, 0, 0))
    assert prover.prove_inclusion(TENANT.id, 0, SIZE) == first
    assert reader.asked == [3, 1]


@pytest.mark.parametrize("index", [-1, SIZE, SIZE + 1, 2**64])
def test_a_proof_for_an_index_outside_the_tree_is_refused(prover, index) -> None:
    with pytest.raises(Rejected) as caught:
        prover.prove_inclusion(TENANT.id, index, SIZE)
    assert caught.value.code == "index_out_of_range"


@pytest.mark.parametrize("size", [SIZE + 1, 512, 2**40, 2**64])
def test_a_proof_beyond_the_published_tree_is_refused(prover, size) -> None:
    for ask in (
        lambda: prover.prove_inclusion(TENANT.id, 0, size),
        lambda: prover.prove_inclusion(TENANT.id, size - 1, size),
        lambda: prover.prove_consistency(TENANT.id, 0, size),
        lambda: prover.prove_consistency(TENANT.id, 1, size),
        lambda: prover.prove_consistency(TENANT.id, size, size),
    ):
        with pytest.raises(Rejected) as caught:
            ask()
        assert caught.value.code == "size_beyond_log"


@pytest.mark.parametrize(("old", "new"), [(-1, 1), (2, 1), (SIZE, 0)])
def test_a_log_does_not_grow_backwards(prover, old, new) -> None:
    with pytest.raises(Rejected) as caught:
        prover.prove_consistency(TENANT.id, old, new)
    assert caught.value.code == "size_out_of_range"


def test_from_nothing_any_tree_grows_without_a_proof(prover) -> None:
    assert prover.prove_consistency(TENANT.id, 0, SIZE) == []
    assert prover.prove_consistency(TENANT.id, SIZE, SIZE) == []


def test_what_is_integrated_and_not_exposed_is_not_proven() -> None:
    world = World()
    world.append(1, 2)
    world.publish()
    prover = Prover(world.store)
    world.append(3)
    world.faults.plan["expose.before"] = 0
    with pytest.raises(Exception, match="expose"):
        world.publish()
    assert world.store.read_head(TENANT.id).size == 3
    with pytest.raises(Rejected):
        prover.prove_inclusion(TENANT.id, 2, 3)
    world.publish()
    assert len(prover.prove_inclusion(TENANT.id, 2, 3)) == 1


def test_one_tenant_never_gets_a_proof_from_the_tiles_of_another(prover) -> None:
    prover.prove_inclusion(TENANT.id, 0, SIZE)
    with pytest.raises(NotFound):
        prover.prove_inclusion(OTHER.id, 0, SIZE)
    with pytest.raises(NotFound):
        prover.read_tile(OTHER.id, 0, 0, 256)


def test_a_partial_tile_in_the_cache_gives_way_to_a_wider_one() -> None:
    world = World()
    prover = Prover(world.store)
    for number in range(1, 20):
        world.append(number)
        size = world.publish()
        leaves = world.store.logs[TENANT.id].leaves
        proof = prover.prove_inclusion(TENANT.id, size - 1, size)
        verify_inclusion(index=size - 1, size=size, leaf=leaves[-1], proof=proof, root=root_of(leaves))


def test_the_cache_of_tiles_is_bounded(world, prover, monkeypatch) -> None:
    monkeypatch.setattr(module, "TILE_CACHE_LIMIT", 2)
    for size in (1, 255, 256, 257, SIZE):
        prover.prove_inclusion(TENANT.id, 0, size)
    assert len(prover._tiles) <= 2
