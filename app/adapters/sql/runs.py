"""Runs of leaves: how the index and the hash of each leaf are stored.

A row of `leaf_run` stands for up to 256 leaves whose indexes and numbers are in a row, and that lie in one tile: a row
for each leaf, with its three indexes, was a seventh of what an entry cost (ADR 21). No two runs have a number or an
index in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from app.adapters.sql import tables as t
from app.adapters.sql.heard import find_runs
from app.ledger.ports import Integration
from app.tlog.tile import TILE_WIDTH
from app.tlog.tree import HASH_SIZE

MARK_BYTES = 3
"""The beginning of a hash that `tile.marks` keeps: enough that few tiles are opened for nothing."""

_POSITION = """(
SELECT CASE WHEN {seq} < r.seq + r.width THEN r.idx + {seq} - r.seq END FROM leaf_run r
WHERE r.tenant = {tenant} AND r.seq <= {seq} ORDER BY r.seq DESC LIMIT 1)"""


def position_of(seq: str, tenant: str) -> str:
    """Return the SQL expression for the index of an entry, NULL until it is integrated, on both databases."""
    return _POSITION.format(seq=seq, tenant=tenant)


_run = t.leaf_run.alias("r")
ENTRY_INDEX: sa.Label[int | None] = (
    sa.select(sa.case((t.entry.c.seq < _run.c.seq + _run.c.width, _run.c.idx + t.entry.c.seq - _run.c.seq)))
    .where(_run.c.tenant == t.entry.c.tenant, _run.c.seq <= t.entry.c.seq)
    .order_by(_run.c.seq.desc())
    .limit(1)
    .correlate(t.entry)
    .scalar_subquery()
    .label("idx")
)
"""The same for a row of `entry`, for SQLAlchemy."""


class LeafRun(NamedTuple):
    """One row: the first index and the first number, how many leaves, and their hashes one after the other."""

    idx: int
    seq: int
    width: int
    hashes: bytes


def cut_runs(batch: Integration) -> list[LeafRun]:
    """Return the rows for the leaves of a batch."""
    start = batch.old.size
    rows = []
    for run in find_runs(batch.seqs, start):
        index, stop = run.first_index, run.first_index + run.length
        while index < stop:
            width = min(stop, (index // TILE_WIDTH + 1) * TILE_WIDTH) - index
            hashes = batch.leaf_hashes[index - start : index - start + width]
            rows.append(LeafRun(index, run.first_seq + index - run.first_index, width, b"".join(hashes)))
            index += width
    return rows


def make_marks(level: int, tile: bytes) -> bytes | None:
    """Return the beginnings of the hashes of a leaf tile; None for the tiles above."""
    if level:
        return None
    return b"".join([tile[at : at + MARK_BYTES] for at in range(0, len(tile), HASH_SIZE)])


def find_leaf(rows: Iterable[tuple[int, bytes]], leaf_hash: bytes) -> int | None:
    """Return the lowest index with this hash among (first index, hashes), some of which may not have it."""
    found = [
        start + at // HASH_SIZE
        for start, hashes in rows
        for at in range(0, len(hashes), HASH_SIZE)
        if hashes.startswith(leaf_hash, at)
    ]
    return min(found, default=None)


class Covered:
    """Which numbers above `since` have their leaf, in one log, as long as its head is where we saw it."""

    def __init__(self, size: int, since: int, runs: Iterable[tuple[int, int]]) -> None:
        """`size` is the head's; `runs` are (first number, how many), in any order."""
        self.since = since
        self._spans: list[tuple[int, int]] = []
        self.add(size, since, runs)

    def add(self, size: int, settled_seq: int, runs: Iterable[tuple[int, int]]) -> None:
        """Take in what was integrated, and forget what is settled."""
        self.size, self.since = size, max(self.since, settled_seq)
        spans: list[tuple[int, int]] = []
        for start, stop in sorted([*self._spans, *((seq, seq + width) for seq, width in runs)]):
            if stop <= self.since + 1:
                continue
            if spans and start <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(stop, spans[-1][1])
            else:
                spans.append((start, stop))
        self._spans = spans

    def find_holes(self, after_seq: int) -> tuple[Sequence[int], Sequence[int]]:
        """Return where the holes above `after_seq` begin and where they end, the last one without end.

        `after_seq` is not below `since`.
        """
        starts = [after_seq + 1, *(max(stop, after_seq + 1) for _, stop in self._spans)]
        stops = [*(start for start, _ in self._spans), NO_END]
        holes = [(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]
        return [start for start, _ in holes], [stop for _, stop in holes]


NO_END = (1 << 63) - 1
