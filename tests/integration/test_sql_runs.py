"""Leaves in runs, on both databases: where an entry stands, and which leaf has a hash."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from app.adapters.sql.engine import reading, writing
from app.ledger.ports import LostSwapError, Tenant
from app.ledger.publish import full_tiles
from app.tlog.tile import TreeEdge
from tests.contract.ledger_store_contract import append, grown, make_row
from tests.fakes.ledger_stores import DURABLE, database, opened

HASHES = [sha256(b"%d" % index).digest() for index in range(1300)]


@pytest.fixture(params=DURABLE)
def url(request):
    with database(request.param, request) as url:
        yield url


@pytest.fixture
def store(url):
    with opened(url) as store:
        store.add_tenant(Tenant(id="a", origin="log.example/a"))
        yield store


def integrate(store, seqs, hashes):
    """Integrate as the sequencer does, with the tiles that become full."""
    batch = grown(store, seqs, hashes=hashes)
    assert batch.old.size == 0
    _, tiles = TreeEdge().append(hashes)
    store.integrate(replace(batch, tiles=full_tiles(tiles)))


def without_protection(store, table):
    with writing(store._engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"DROP TRIGGER {table}_refuses_update")
        else:
            connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")


def test_a_leaf_is_found_by_its_hash_in_full_tiles_and_at_the_edge(store):
    integrate(store, range(1, 1301), HASHES)
    without_protection(store, "tile")
    with writing(store._engine) as connection:  # a tile of before migration 0009
        connection.exec_driver_sql("UPDATE tile SET marks = NULL WHERE level = 0 AND number = 1")
    for index in (0, 255, 256, 300, 1279, 1280, 1299):
        assert store.find_position("a", HASHES[index]) == index
    assert store.find_position("a", HASHES[7][:3] + bytes(29)) is None, "its beginning is that of another leaf"
    assert store.find_position("a", HASHES[7][16:] + HASHES[8][:16]) is None, "it lies across two leaves"


def test_each_entry_of_a_run_has_its_own_place(store):
    found = append(store, *[make_row() for _ in range(600)])
    seqs = [result.seq for result in found]
    kept = [*seqs[:100], *seqs[101:]]  # two runs, cut at two tiles
    integrate(store, kept, HASHES[: len(kept)])
    assert store.list_positions("a", seqs) == {seq: index for index, seq in enumerate(kept)}
    assert store.find_entry("a", found[100].id).index is None
    for index in (0, 99, 100, 254, 255, 256, 598):
        entry_id = found[seqs.index(kept[index])].id
        assert store.find_entry("a", entry_id).index == index
    with reading(store._engine) as connection:
        rows = connection.exec_driver_sql("SELECT idx, width FROM leaf_run ORDER BY idx").all()
    assert rows == [(0, 100), (100, 156), (256, 256), (512, 87)]
    bodies = store.list_bodies("a", 0, 599)
    assert [store.list_bodies("a", start, start + 3) for start in (98, 254, 597)] == [
        bodies[98:101],
        bodies[254:257],
        bodies[597:],
    ]
    assert [entry.seq for entry in store.list_pending("a", 0, 10).entries] == [seqs[100]]


def test_what_another_process_integrated_is_pending_no_more(store, url):
    seqs = [result.seq for result in append(store, *[make_row() for _ in range(9)])]
    assert [entry.seq for entry in store.list_pending("a", 0, 99).entries] == seqs
    with opened(url) as other:
        for some in (seqs[:2], seqs[5:7]):
            other.integrate(grown(other, some))
            left = [seq for seq in seqs if seq not in store.list_positions("a", seqs)]
            assert [entry.seq for entry in store.list_pending("a", 0, 99).entries] == left
        stale = grown(store, seqs[2:5])
        other.integrate(grown(other, seqs[2:4]))
        with pytest.raises(LostSwapError):
            store.integrate(stale)
    assert [entry.seq for entry in store.list_pending("a", 0, 99).entries] == [seqs[4], *seqs[7:]]
    store.integrate(grown(store, [seqs[4]]))
    assert [entry.seq for entry in store.list_pending("a", seqs[1], 1).entries] == [seqs[7]]


def test_what_is_settled_is_not_pending_for_whoever_asks_from_the_beginning(store):
    seqs = [result.seq for result in append(store, *[make_row() for _ in range(9)])]
    assert [entry.seq for entry in store.list_pending("a", 0, 99).entries] == seqs
    store.integrate(grown(store, seqs[:8], settled_seq=seqs[7]))
    for after_seq in (seqs[7], 0, seqs[7]):
        assert [entry.seq for entry in store.list_pending("a", after_seq, 99).entries] == seqs[8:]
