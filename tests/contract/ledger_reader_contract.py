"""What every ledger store promises to its readers (`LedgerReader` in app/ledger/ports.py)."""

from __future__ import annotations

import itertools

import pytest

from app.errors import NotFound
from app.ledger.ports import EntryFilter, EntryRow, StoredEntry
from tests.contract.ledger_store_contract import (
    START_MS,
    A,
    B,
    append,
    grown,
    hash_at,
    integrate_pending,
    keyed,
    make_row,
    tile_at,
)

FILTERS = [
    EntryFilter(),
    EntryFilter(action="action.1"),
    EntryFilter(subject="sub_1"),
    EntryFilter(ref="pi_1"),
    EntryFilter(ref="every", action="action.2"),
    EntryFilter(from_ms=START_MS + 30),
    EntryFilter(to_ms=START_MS + 30),
    EntryFilter(from_ms=START_MS + 30, to_ms=START_MS + 31),
    EntryFilter(action="action.1", subject="sub_1", ref="pi_1", from_ms=START_MS, to_ms=START_MS + 100),
    EntryFilter(subject="nobody"),
    EntryFilter(from_ms=1 << 60),
    EntryFilter(to_ms=-1),
]


def walk(store, where, *, limit, tenant="a", stop=1_000_000):
    """Return all entries that match, page by page."""
    found: list[StoredEntry] = []
    start: int | None = 0
    while start is not None:
        page = store.list_entries(tenant, where, start=start, stop=stop, limit=limit)
        assert len(page.entries) <= limit
        assert page.next_index is None or page.next_index > start
        found += page.entries
        start = page.next_index
    return found


def matches(row: EntryRow, where: EntryFilter) -> bool:
    time_ms = row.id.int >> 80
    return (
        where.action in (None, row.action)
        and where.subject in (None, row.subject)
        and (where.ref is None or where.ref in row.refs)
        and (where.from_ms is None or time_ms >= where.from_ms)
        and (where.to_ms is None or time_ms < where.to_ms)
    )


class LedgerReaderContract:
    @pytest.fixture(autouse=True)
    def _logs(self, store):
        store.add_tenant(A)
        store.add_tenant(B)

    def test_tiles_of_every_width_are_there_up_to_the_tree_and_not_beyond(self, store):
        size = 0
        for size in (1, 255, 256, 257, 65_535, 65_536, 65_537):
            head = store.read_head("a")
            seqs = range(head.size + 1, size + 1)  # leaves without entries: only hashes matter here
            store.integrate(grown(store, seqs, size=size))
            for level in range(3):
                self.check_edge(store, level, size >> 8 * level)
        with pytest.raises(NotFound):
            store.read_tile("b", 0, 0, 1)

    def test_several_tiles_come_in_the_order_they_were_asked_for_or_not_at_all(self, store):
        store.integrate(grown(store, range(1, 65_794), size=65_793))
        wanted = [(1, 1, 1), (0, 256, 256), (2, 0, 1), (0, 257, 1), (0, 3, 256), (1, 0, 256), (0, 3, 7)]
        tiles = [tile_at(level, number).data[: width * 32] for level, number, width in wanted]
        assert store.read_tiles("a", wanted) == tiles
        for beyond in ((0, 257, 2), (1, 1, 2), (0, 258, 256)):
            with pytest.raises(NotFound):
                store.read_tiles("a", [*wanted, beyond])

    def check_edge(self, store, level, hashes):
        """Check the last full tile and the partial one of a level with this many hashes."""
        full, width = divmod(hashes, 256)
        for number, there in ((full - 1, 256), (full, width)):
            for asked in {1, there - 1, there} & set(range(1, there + 1)) if number >= 0 else ():
                assert store.read_tile("a", level, number, asked) == tile_at(level, number).data[: asked * 32]
        for asked in {width + 1, 256}:
            with pytest.raises(NotFound):
                store.read_tile("a", level, full, asked)
        with pytest.raises(NotFound):
            store.read_tile("a", level, full + 1, 1)

    def test_bodies_come_in_the_order_of_the_index(self, store):
        rows = [make_row(body=b"x" * (n % 300 + 1)) for n in range(600)]
        by_seq = dict(zip([result.seq for result in append(store, *rows)], rows, strict=True))
        append(store, make_row("b"))
        bodies = [by_seq[seq].body for seq in integrate_pending(store, shuffled=True)]
        integrate_pending(store, "b")
        append(store, make_row())
        assert store.list_bodies("a", 0, 1000) == bodies
        assert store.list_bodies("a", 17, 300) == bodies[17:300]
        assert store.list_bodies("a", 600, 601) == []

    def test_a_position_is_the_lowest_index_with_the_hash(self, store):
        results = append(store, *[make_row() for _ in range(4)])
        hashes = [hash_at(9), hash_at(7), hash_at(9), hash_at(7)]
        store.integrate(grown(store, [result.seq for result in results], hashes=hashes))
        assert store.find_position("a", hash_at(7)) == 1
        assert store.find_position("a", hash_at(8)) is None
        assert store.find_position("b", hash_at(7)) is None

    def test_positions_of_many_numbers_come_in_one_call(self, store):
        seqs = [result.seq for result in append(store, *[make_row() for _ in range(5000)])]
        assert store.list_positions("a", seqs) == {}
        store.integrate(grown(store, seqs))
        assert store.list_positions("a", [*seqs, seqs[-1] + 1]) == {seq: n for n, seq in enumerate(seqs)}
        assert store.list_positions("b", seqs) == {}
        assert store.list_positions("a", []) == {}

    @pytest.fixture
    def listed(self, store):
        """Return the rows in index order, which is not the order they were appended in."""
        rows = [
            make_row(
                time_ms=START_MS + n,
                action=f"action.{n % 3}",
                subject=f"sub_{n % 5}" if n % 2 else None,
                refs=(f"pi_{n % 7}", "every") if n % 4 else (),
            )
            for n in range(120)
        ]
        by_seq = dict(zip([result.seq for result in append(store, *rows)], rows, strict=True))
        append(store, make_row("b", time_ms=START_MS, action="action.1", subject="sub_1", refs=("pi_1",)))
        integrate_pending(store, "b")
        ordered = [by_seq[seq] for seq in integrate_pending(store, shuffled=True)]
        append(store, make_row(time_ms=START_MS, action="action.1", subject="sub_1", refs=("pi_1",)))
        return ordered

    def test_a_filter_finds_all_that_match_in_index_order(self, store, listed):
        for where, limit in itertools.product(FILTERS, (1, 7, 1000)):
            found = [(entry.index, entry.body) for entry in walk(store, where, limit=limit)]
            assert found == [(n, row.body) for n, row in enumerate(listed) if matches(row, where)], where

    def test_a_page_stays_within_start_and_stop(self, store, listed):
        where = EntryFilter(ref="every")
        everything = [entry.index for entry in walk(store, where, limit=1000)]
        page = store.list_entries("a", where, start=30, stop=60, limit=1000)
        assert [entry.index for entry in page.entries] == [n for n in everything if 30 <= n < 60]
        assert page.next_index is None
        assert store.list_entries("a", where, start=60, stop=60, limit=9).next_index is None
        assert [entry.index for entry in walk(store, where, limit=2, stop=60)] == [n for n in everything if n < 60]

    def test_the_log_of_no_tenant_has_no_entries(self, store):
        assert store.list_entries("nobody", EntryFilter(), start=0, stop=9, limit=9).entries == []

    @pytest.mark.parametrize("where", [EntryFilter(action="rare"), EntryFilter(subject="sub", action="rare")])
    def test_a_filter_that_nearly_all_pass_by_is_paged_with_bounded_work(self, store, where):
        rows = [make_row(subject="sub") for _ in range(20_001)]
        rows[-1] = make_row(subject="sub", action="rare")
        for start in range(0, len(rows), 5000):
            append(store, *rows[start : start + 5000])
        integrate_pending(store)
        page = store.list_entries("a", where, start=0, stop=99_999, limit=5)
        assert (page.entries, page.next_index) == ([], 10_000)
        assert [entry.index for entry in walk(store, where, limit=5)] == [20_000]

    def test_a_tenant_sees_nothing_of_another(self, store):
        row = keyed(b"key", subject="sub", refs=("ref",))
        [result] = append(store, row)
        integrate_pending(store)
        store.expose("a", 1, b"note")
        assert store.find_entry("b", row.id) is None
        assert store.list_bodies("b", 0, 9) == []
        assert store.find_position("b", hash_at(0)) is None
        assert store.list_positions("b", [result.seq]) == {}
        assert store.list_checkpoints("b", 0, 9) == []
        assert store.read_head("b").size == 0
        for where in (EntryFilter(), EntryFilter(subject="sub"), EntryFilter(ref="ref"), EntryFilter(from_ms=0)):
            assert walk(store, where, limit=9, tenant="b") == []
