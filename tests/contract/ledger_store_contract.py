"""What every ledger store promises (app/ledger/ports.py). Subclass it with the fixtures `store` and `peer`.

`peer` is another process's view of the same log where there can be one, else the same store. The tests never hash:
a leaf hash here is any 32 bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from uuid import UUID

import pytest

from app.errors import Conflict, NotFound
from app.ledger.ports import (
    EntryFilter,
    EntryRow,
    Head,
    Integration,
    LogFrozenError,
    LostSwapError,
    NotLeaderError,
    StoredEntry,
    Tenant,
    Tile,
)
from app.tlog.tree import EMPTY_ROOT

START_MS = 1_700_000_000_000
PATIENCE_S = 20.0
A = Tenant(id="a", origin="log.example/a")
B = Tenant(id="b", origin="log.example/b")
_numbers = itertools.count(1)


class Undo(Exception):
    """Raised inside a transaction to roll it back."""


def make_row(tenant="a", *, time_ms=START_MS, body=None, action="payment.created", **values) -> EntryRow:
    number = next(_numbers)
    entry_id = UUID(int=(time_ms << 80) | (7 << 76) | (2 << 62) | number)
    return EntryRow(tenant, entry_id, body or b'{"n":%d}' % number, action, **values)


def keyed(key: bytes, request: bytes = b"r", **values) -> EntryRow:
    return make_row(idem=sha256(key).digest(), fingerprint=sha256(request).digest(), **values)


def append(store, *rows):
    with store.transaction() as tx:
        return tx.append_entries(rows)


def append_and_undo(store, *rows):
    with store.transaction() as tx:
        tx.append_entries(rows)
        raise Undo


def append_and_ignore_refusal(store, good, refused):
    with store.transaction() as tx:
        tx.append_entries([good])
        with contextlib.suppress(LogFrozenError):
            tx.append_entries([refused])


def root_at(size: int) -> bytes:
    return sha256(b"root%d" % size).digest() if size else EMPTY_ROOT


def hash_at(index: int) -> bytes:
    return index.to_bytes(32, "big")


def tile_at(level: int, number: int) -> Tile:
    data = b"".join(hash_at(number * 256 + place) for place in range(256))
    return Tile(level, number, data, hash_at(number))


def grown(store, seqs, *, tenant="a", size=None, hashes=None, frozen=False, settled_seq=0) -> Integration:
    """Return the batch that gives `seqs` the next indexes."""
    old = store.read_head(tenant)
    size = old.size + len(seqs) if size is None else size
    new = Head(size=size, root=root_at(size), settled_seq=settled_seq, frozen=frozen)
    tiles = [
        tile_at(level, number)
        for level in range(4)
        for number in range(old.size >> 8 * (level + 1), size >> 8 * (level + 1))
    ]
    hashes = hashes or [hash_at(index) for index in range(old.size, size)]
    return Integration(tenant=tenant, old=old, new=new, seqs=seqs, leaf_hashes=hashes, tiles=tiles)


def integrate_pending(store, tenant="a", *, shuffled=False):
    pending = store.list_pending(tenant, 0, 1_000_000)
    seqs = [entry.seq for entry in pending.entries]
    if shuffled:
        random.Random(7).shuffle(seqs)
    store.integrate(grown(store, seqs, tenant=tenant, settled_seq=pending.settled_seq))
    return seqs


class Waiting:
    """Runs `call` in a thread; `result` waits for it and says what it returned."""

    def __init__(self, call):
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(call)

    def result(self):
        result = self._future.result(PATIENCE_S)
        self._pool.shutdown()
        return result


class LedgerStoreContract:
    @pytest.fixture(autouse=True)
    def _tenants(self, store):
        store.add_tenant(A)
        store.add_tenant(B)

    def test_a_new_log_is_empty(self, store):
        assert store.read_head("a") == Head(size=0, root=EMPTY_ROOT)
        assert store.find_checkpoint("a") is None
        assert store.list_checkpoints("a", 0, 10) == []
        assert store.list_pending("a", 0, 10).entries == []
        assert store.list_bodies("a", 0, 10) == []

    def test_tenants_are_listed_by_id(self, store):
        store.add_tenant(Tenant(id="Z", origin="log.example/Z"))
        assert store.list_tenants() == [Tenant(id="Z", origin="log.example/Z"), A, B]
        assert store.find_tenant("a") == A
        assert store.find_tenant("nobody") is None

    @pytest.mark.parametrize("taken", [Tenant(id="a", origin="new"), Tenant(id="new", origin=A.origin)])
    def test_an_id_and_an_origin_are_taken_once(self, store, taken):
        with pytest.raises(Conflict):
            store.add_tenant(taken)
        assert store.list_tenants() == [A, B]

    def test_the_head_of_no_log_is_not_found(self, store):
        with pytest.raises(NotFound):
            store.read_head("nobody")

    def test_an_entry_is_readable_once_committed_and_has_no_index_yet(self, store):
        row = make_row(subject="sub_1", refs=("pi_1",))
        [result] = append(store, row)
        assert result.id == row.id
        assert not result.replayed
        assert store.find_entry("a", row.id) == StoredEntry(result.seq, None, row.body)

    def test_results_come_in_the_order_of_the_rows_and_numbers_ascend(self, store):
        rows = [make_row(refs=("r", f"r{n}", "r") if n % 3 else ()) for n in range(1000)]
        results = append(store, *rows)
        assert [result.id for result in results] == [row.id for row in rows]
        assert [result.seq for result in results] == sorted({result.seq for result in results})
        pending = store.list_pending("a", 0, 2000).entries
        assert [(entry.seq, entry.body) for entry in pending] == [
            (result.seq, row.body) for result, row in zip(results, rows, strict=True)
        ]

    def test_one_transaction_takes_entries_of_several_tenants(self, store):
        rows = [make_row("a"), make_row("b"), make_row("a")]
        results = append(store, *rows)
        assert [result.id for result in results] == [row.id for row in rows]
        assert [entry.body for entry in store.list_pending("b", 0, 9).entries] == [rows[1].body]

    def test_appending_nothing_is_fine(self, store):
        assert append(store) == []

    def test_a_rolled_back_transaction_leaves_nothing(self, store):
        kept = make_row(refs=("kept",))
        append(store, kept)
        row = keyed(b"key", refs=("ref",), subject="sub")
        with pytest.raises(Undo):
            append_and_undo(store, row, make_row("b"))
        assert store.find_entry("a", row.id) is None
        assert [entry.body for entry in store.list_pending("a", 0, 9).entries] == [kept.body]
        assert store.list_pending("b", 0, 9).entries == []
        [again] = append(store, keyed(b"key"))
        assert not again.replayed
        integrate_pending(store)
        assert store.list_entries("a", EntryFilter(ref="ref"), start=0, stop=9, limit=9).entries == []

    def test_entries_for_no_tenant_are_refused(self, store):
        with pytest.raises(LogFrozenError):
            append(store, make_row("nobody"))

    def test_a_known_key_is_answered_with_the_earlier_entry_and_its_fingerprint(self, store):
        [first] = append(store, keyed(b"key", b"one"))
        [again] = append(store, keyed(b"key", b"two"))
        assert (again.seq, again.id, again.replayed) == (first.seq, first.id, True)
        assert again.fingerprint == sha256(b"one").digest()
        assert len(store.list_pending("a", 0, 9).entries) == 1

    def test_a_key_counts_within_a_batch_and_within_a_transaction(self, store):
        with store.transaction() as tx:
            rows = [keyed(b"1"), make_row(), keyed(b"2"), keyed(b"1", b"other"), keyed(b"2")]
            results = tx.append_entries(rows)
            [later] = tx.append_entries([keyed(b"1")])
        assert [result.replayed for result in results] == [False, False, False, True, True]
        assert [result.id for result in results] == [rows[n].id for n in (0, 1, 2, 0, 2)]
        assert results[3].fingerprint == rows[0].fingerprint
        assert (later.seq, later.replayed) == (results[0].seq, True)
        assert len(store.list_pending("a", 0, 9).entries) == 3

    def test_old_and_new_keys_mix_in_one_batch(self, store):
        old = [keyed(b"%d" % n) for n in range(0, 20, 2)]
        append(store, *old)
        rows = [keyed(b"%d" % n) for n in range(20)]
        results = append(store, *rows)
        assert [result.replayed for result in results] == [n % 2 == 0 for n in range(20)]
        assert [result.id for result in results[::2]] == [row.id for row in old]
        assert [result.id for result in results[1::2]] == [row.id for row in rows[1::2]]

    def test_a_key_belongs_to_its_tenant(self, store):
        append(store, keyed(b"key"))
        [other] = append(store, keyed(b"key", tenant="b"))
        assert not other.replayed

    def test_of_32_threads_with_one_key_one_makes_the_entry(self, store):
        together = threading.Barrier(32)

        def run():
            together.wait(PATIENCE_S)
            return append(store, keyed(b"key"), make_row("b"))[0]

        with ThreadPoolExecutor(32) as pool:
            results = [future.result(PATIENCE_S) for future in [pool.submit(run) for _ in range(32)]]
        assert [result.replayed for result in results].count(False) == 1
        assert len({(result.seq, result.id) for result in results}) == 1
        assert len(store.list_pending("a", 0, 99).entries) == 1
        assert len(store.list_pending("b", 0, 99).entries) == 32

    def test_pending_pages_skip_nothing(self, store):
        for _ in range(3):
            append(store, *[make_row() for _ in range(7)], make_row("b"))
        everything = [entry.seq for entry in store.list_pending("a", 0, 99).entries]
        assert len(everything) == 21
        found, after = [], 0
        while (pending := store.list_pending("a", after, 4)).entries:
            assert pending.settled_seq >= after
            found += [entry.seq for entry in pending.entries if entry.seq <= pending.settled_seq]
            assert all(seq in found or seq > pending.settled_seq for seq in everything)
            store.integrate(grown(store, [entry.seq for entry in pending.entries], settled_seq=pending.settled_seq))
            after = store.read_head("a").settled_seq
        assert found == everything
        assert after >= everything[-1]

    def test_the_action_and_the_body_come_as_they_were_given(self, store):
        row = make_row(body=bytes(range(256)), action="log.frozen")
        append(store, row)
        [entry] = store.list_pending("a", 0, 1).entries
        assert (entry.action, entry.body) == ("log.frozen", row.body)

    def test_integrating_gives_each_entry_its_index(self, store):
        rows = [make_row() for _ in range(5)]
        results = append(store, *rows)
        seqs = [results[n].seq for n in (3, 1, 4)]
        store.integrate(grown(store, seqs, settled_seq=1))
        assert store.read_head("a") == Head(size=3, root=root_at(3), settled_seq=1)
        assert store.list_positions("a", [result.seq for result in results]) == dict(zip(seqs, range(3), strict=True))
        assert store.find_entry("a", rows[4].id) == StoredEntry(seqs[2], 2, rows[4].body)
        assert store.list_bodies("a", 0, 9) == [rows[n].body for n in (3, 1, 4)]
        assert [entry.seq for entry in store.list_pending("a", 0, 9).entries] == [results[0].seq, results[2].seq]

    @pytest.mark.parametrize("old", [Head(size=1, root=root_at(2)), Head(size=2, root=root_at(1))])
    def test_a_lost_swap_changes_nothing(self, store, old):
        results = append(store, *[make_row() for _ in range(3)])
        store.integrate(grown(store, [results[0].seq, results[1].seq]))
        batch = grown(store, [results[2].seq])
        lost = Integration(
            tenant="a", old=old, new=batch.new, seqs=batch.seqs, leaf_hashes=batch.leaf_hashes, tiles=[tile_at(0, 0)]
        )
        with pytest.raises(LostSwapError):
            store.integrate(lost)
        assert store.read_head("a") == batch.old
        assert store.list_positions("a", batch.seqs) == {}
        with pytest.raises(NotFound):
            store.read_tile("a", 0, 0, 256)
        store.integrate(batch)

    def test_of_two_sequencers_with_one_head_one_wins(self, store, peer):
        results = append(store, *[make_row() for _ in range(2)])
        batches = [grown(store, [results[0].seq]), grown(store, [results[1].seq])]
        together = threading.Barrier(2)

        def run(view, batch):
            together.wait(PATIENCE_S)
            try:
                view.integrate(batch)
            except LostSwapError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            won = list(pool.map(run, (store, peer), batches))
        assert sorted(won) == [False, True]
        assert store.read_head("a").size == 1

    def test_the_settled_number_moves_without_new_leaves(self, store):
        store.integrate(grown(store, [], settled_seq=17))
        assert store.read_head("a") == Head(size=0, root=EMPTY_ROOT, settled_seq=17)

    def test_a_frozen_log_takes_no_entry_and_its_head_stays(self, store):
        [result] = append(store, keyed(b"last", action="log.frozen"))
        store.integrate(grown(store, [result.seq], frozen=True))
        assert store.find_tenant("a") == Tenant(id="a", origin=A.origin, frozen=True)
        with pytest.raises(LogFrozenError):
            append(store, make_row("b"), make_row("a"))
        with pytest.raises(LogFrozenError):
            store.integrate(grown(store, [], settled_seq=9))
        assert store.list_pending("a", 0, 9).entries == []
        assert store.list_pending("b", 0, 9).entries == []
        assert append(store, keyed(b"last"))[0].replayed

    def test_nothing_is_committed_after_a_refusal_that_was_caught(self, store):
        store.integrate(grown(store, [], frozen=True))
        with pytest.raises(LogFrozenError):
            append_and_ignore_refusal(store, keyed(b"key", tenant="b"), make_row("a"))
        assert store.list_pending("b", 0, 9).entries == []
        assert not append(store, keyed(b"key", tenant="b"))[0].replayed

    def test_checkpoints_are_exposed_once_and_listed_by_size(self, store, peer):
        for size in (1, 300, 20):
            store.expose("a", size, b"note %d" % size)
        store.expose("a", 300, b"another")
        assert peer.find_checkpoint("a") == b"note 300"
        assert peer.list_checkpoints("a", 2, 9) == [(20, b"note 20"), (300, b"note 300")]
        assert peer.list_checkpoints("a", 0, 1) == [(1, b"note 1")]
        assert peer.find_checkpoint("b") is None

    def test_the_sequencer_is_woken_by_an_append_of_another_process(self, store, peer):
        store.wait_for_append(0)
        waiting = Waiting(lambda: store.wait_for_append(PATIENCE_S * 2))
        append(peer, make_row())
        waiting.result()

    def test_an_append_before_the_wait_ends_it_at_once(self, store, peer):
        store.wait_for_append(0)
        append(peer, make_row())
        begun_s = time.monotonic()
        store.wait_for_append(PATIENCE_S)
        assert time.monotonic() - begun_s < PATIENCE_S / 2

    def test_several_entries_may_be_waited_for_and_those_integrated_meanwhile_are_no_news(self, store, peer):
        store.wait_for_append(0)
        append(peer, make_row(), make_row())
        assert store.wait_for_append(PATIENCE_S, 2) == 2
        append(store, make_row(), make_row())
        integrate_pending(store)
        append(peer, make_row())
        assert store.wait_for_append(0.2, 2) == 1

    def test_without_an_append_the_wait_ends_in_time(self, store):
        store.wait_for_append(0)
        assert store.wait_for_append(0.02) == 0

    def test_a_publication_is_heard_by_another_process(self, store, peer):
        heard = peer.publications(PATIENCE_S * 2)
        assert next(heard) is None
        waiting = Waiting(lambda: next(heard))
        store.expose("b", 1, b"note")
        assert waiting.result().tenant == "b"
        heard.close()

    def test_a_publication_between_two_looks_is_not_missed(self, store, peer):
        heard = peer.publications(PATIENCE_S * 2)
        next(heard)
        store.expose("a", 1, b"note")
        store.expose("b", 1, b"note")
        assert {next(heard).tenant, next(heard).tenant} == {"a", "b"}
        heard.close()

    def test_without_publications_the_listener_is_polled(self, store):
        heard = store.publications(0.02)
        assert [next(heard), next(heard), next(heard)] == [None, None, None]
        heard.close()

    def test_one_process_sequences_a_log_at_a_time(self, store, peer):
        with store.sequencer_lock("a"):
            with pytest.raises(NotLeaderError), peer.sequencer_lock("a"):
                pass
            with peer.sequencer_lock("b"):
                pass
        with peer.sequencer_lock("a"):
            pass

    def test_the_lock_is_given_back_after_an_error(self, store, peer):
        with pytest.raises(Undo), store.sequencer_lock("a"):
            raise Undo
        with peer.sequencer_lock("a"):
            pass
