"""Every receipt that the ledger gives, from every store, verifies with the public key alone."""

from __future__ import annotations

import random

import pytest

from app.errors import Rejected
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.tlog.proof import verify_consistency
from app.tlog.receipt import parse_receipt, verify_receipt
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.ledger import OTHER, TENANT, Keys, MemoryAnchor, append_rows, make_row, make_trust
from tests.fakes.ledger_stores import KINDS, any_store

BATCHES = (1, 1, 253, 1, 1, 255, 300, 7)


@pytest.fixture(scope="module", params=KINDS)
def store(request, tmp_path_factory):
    with any_store(request.param, _ModuleRequest(request, tmp_path_factory)) as store:
        numbers = iter(range(10**6))
        for tenant in (TENANT, OTHER):
            store.add_tenant(tenant)
        sequencers = [
            Sequencer(store=store, tenant=tenant, anchor=MemoryAnchor(), keyring=Keys()) for tenant in (TENANT, OTHER)
        ]
        with sequencers[0] as one, sequencers[1] as other:
            for batch in BATCHES:
                rows = [make_row(next(numbers), random.choice([TENANT.id] * 9 + [OTHER.id])) for _ in range(batch)]
                append_rows(store, rows)
                for sequencer in (one, other):
                    while sequencer.step():
                        pass
        yield store


class _ModuleRequest:
    """A request whose `tmp_path` may be asked for once per module."""

    def __init__(self, request, tmp_path_factory) -> None:
        self._request = request
        self._tmp_path_factory = tmp_path_factory

    def getfixturevalue(self, name):
        return self._tmp_path_factory.mktemp("db") if name == "tmp_path" else self._request.getfixturevalue(name)


@pytest.mark.parametrize("tenant", [TENANT, OTHER], ids=lambda tenant: tenant.id)
def test_every_receipt_verifies(store, tenant) -> None:
    prover, trust = Prover(store), make_trust(tenant)
    published = prover.read_published(tenant.id)
    bodies = store.list_bodies(tenant.id, 0, published.size)
    assert len(bodies) == published.size > 50
    for index, body in enumerate(bodies):
        receipt = parse_receipt(prover.receipt(tenant.id, index, body, published))
        assert (receipt.index, receipt.extra) == (index, body)
        verify_receipt(receipt, leaf_hash(body), trust)
        with pytest.raises(Rejected):
            verify_receipt(receipt, leaf_hash(bodies[index - 1]), trust)


def test_every_exposed_checkpoint_extends_those_before(store) -> None:
    prover = Prover(store)
    sizes = [size for size, _ in store.list_checkpoints(TENANT.id, 0, 10**6)]
    leaves = [leaf_hash(body) for body in store.list_bodies(TENANT.id, 0, sizes[-1])]
    assert len(sizes) > 3
    for old in sizes:
        for new in sizes:
            if old < new:
                roots = root_of(leaves[:old]), root_of(leaves[:new])
                proof = prover.prove_consistency(TENANT.id, old, new)
                verify_consistency(old_size=old, new_size=new, old_root=roots[0], new_root=roots[1], proof=proof)


def test_proofs_outside_the_published_log_are_refused(store) -> None:
    prover = Prover(store)
    size = prover.read_published(TENANT.id).size
    for ask in (
        lambda: prover.prove_inclusion(TENANT.id, size, size),
        lambda: prover.prove_inclusion(TENANT.id, 0, size + 1),
        lambda: prover.prove_inclusion(TENANT.id, size, size + 1),
        lambda: prover.prove_consistency(TENANT.id, 1, size + 1),
        lambda: prover.prove_consistency(TENANT.id, size + 1, size + 1),
    ):
        with pytest.raises(Rejected):
            ask()
