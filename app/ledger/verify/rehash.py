"""Re-hashing every entry: the part of a verification that takes the time, in one process or several.

Per bundle: hash its entries, compare the 8,192 bytes at once with each stored copy of the tile, hash up to the tile's
root. Nothing is looked at closer unless that differs. Keys and erasures are found by the first bytes of an entry:
in canonical form `action` is its first field.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from operator import itemgetter
from typing import Final

from app.errors import Rejected
from app.ledger.action import Registry
from app.ledger.entry import Draft, parse_entry
from app.ledger.registry import open_registry
from app.ledger.verify.pool import map_ahead
from app.ledger.verify.report import Place, TamperedError
from app.ledger.verify.source import Bundle, LogSource
from app.tlog.tile import TILE_BYTES, TILE_WIDTH, BundleId, tile_path, tile_width
from app.tlog.tree import HASH_SIZE

CHUNK_BUNDLES = 64
"""Bundles of one task: 16,384 entries, about 30 ms of work."""
TASKS_PER_WORKER: Final = 4
MAX_WORKERS = 64

Progress = Callable[[int, int], None]
"""Called with how many entries are done, and how many there are."""

_PREFIX = len(b'{"action":"')
_PREFIX_END = _PREFIX + 4
_WATCHED = frozenset({b"key.", b"log."})
_WATCHED_LETTERS = frozenset({ord("k"), ord("l")})
_first_letter = itemgetter(_PREFIX)
_ERASED = b'{"action":"subject.erased"'
_begin_leaf = sha256(b"\x00").copy
_begin_node = sha256(b"\x01").copy
_PAIRS = struct.Struct(f"{2 * HASH_SIZE}s")
_ID = re.compile(rb'"id":"(ent_[0-9a-f]{32})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Bundles [start, stop) of the tree of `size`; `entry_id` is an entry to look out for, and with it erasures."""

    start: int
    stop: int
    size: int
    deep: bool = False
    entry_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Rehashed:
    """What the entries of a task hash to.

    `roots`: of the full tiles, joined. `edge`: the leaf hashes of a last bundle that is not full, joined.
    `mismatch`: the first bundle that differs from a stored tile. `short`: some bundle has not the entries it should,
    or could not be made sense of (`damage`); then nothing after it is hashed. `malformed`: the first entry that is
    not in the entry format (looked for if `deep`). `watched`: keys, and what was looked out for, by index.
    """

    roots: bytearray = field(default_factory=bytearray)
    edge: bytes = b""
    mismatch: int | None = None
    short: bool = False
    damage: Place | None = None
    malformed: Place | None = None
    watched: list[tuple[int, bytes]] = field(default_factory=list)
    entries: int = 0
    octets: int = 0
    unknown_actions: int = 0

    def add(self, later: Rehashed) -> None:
        """Take in the result of the task that follows."""
        self.roots += later.roots
        self.edge = later.edge
        self.mismatch = later.mismatch if self.mismatch is None else self.mismatch
        self.short = later.short
        self.damage = later.damage
        self.malformed = self.malformed or later.malformed
        self.watched += later.watched
        self.entries += later.entries
        self.octets += later.octets
        self.unknown_actions += later.unknown_actions


def find_id(entry: bytes) -> str | None:
    """Return the id in an entry that need not be well formed."""
    found = _ID.search(entry)
    return found[1].decode() if found else None


def hash_entries(entries: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hashes; a copied state spares a copy of each entry and a look-up of the algorithm."""
    hashes = []
    for entry in entries:
        state = _begin_leaf()
        state.update(entry)
        hashes.append(state.digest())
    return hashes


def root_of_full(row: bytes) -> bytes:
    """Return the root over joined hashes, a power of two of them."""
    while len(row) > HASH_SIZE:
        above = []
        for (pair,) in _PAIRS.iter_unpack(row):
            state = _begin_node()
            state.update(pair)
            above.append(state.digest())
        row = b"".join(above)
    return row


def rehash(source: LogSource, task: Task) -> Rehashed:
    """Return what the task's entries hash to; stops at the first bundle that cannot be hashed."""
    result = Rehashed()
    with without_cycle_search():
        try:
            for bundle in source.iter_bundles(task.start, task.stop, task.size):
                _rehash_bundle(bundle, task, result)
                if result.short:
                    break
        except TamperedError as error:
            result.short, result.damage = True, error.place
    return result


@contextmanager
def without_cycle_search() -> Iterator[None]:
    """Keep the garbage collector from looking at hundreds of rows per bundle, none of them in a cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _rehash_bundle(bundle: Bundle, task: Task, result: Rehashed) -> None:
    entries = bundle.entries
    row = b"".join(hash_entries(entries))
    for tile in bundle.tiles:
        if tile != row and result.mismatch is None:
            result.mismatch = bundle.number
    if len(row) == TILE_BYTES:
        result.roots += root_of_full(row)
    else:
        result.edge = row
    if len(row) != tile_width(0, bundle.number, task.size) * HASH_SIZE:
        result.short = True
        result.mismatch = bundle.number if result.mismatch is None else result.mismatch
    result.entries += len(entries)
    result.octets += sum(map(len, entries))
    if _may_be_watched(entries):
        _collect(bundle, result, lambda entry: entry[_PREFIX:_PREFIX_END] in _WATCHED)
    if task.entry_id is not None:
        wanted = f'"id":"{task.entry_id}"'.encode()
        _collect(bundle, result, lambda entry: wanted in entry or entry.startswith(_ERASED))
    if task.deep:
        for index, entry in enumerate(entries, bundle.number * TILE_WIDTH):
            _parse(index, entry, task.size, result)


def _may_be_watched(entries: Sequence[bytes]) -> bool:
    """Return False if no action begins with the letter of one that is watched: three times as fast as to compare it."""
    try:
        return not _WATCHED_LETTERS.isdisjoint(map(_first_letter, entries))
    except IndexError:  # an entry too short to have an action
        return True


def _collect(bundle: Bundle, result: Rehashed, is_watched: Callable[[bytes], bool]) -> None:
    """Keep the entries that matter to the verification itself."""
    result.watched += [
        (index, entry) for index, entry in enumerate(bundle.entries, bundle.number * TILE_WIDTH) if is_watched(entry)
    ]


def _parse(index: int, body: bytes, size: int, result: Rehashed) -> None:
    """Note an entry that breaks the entry format, or its action's schema; an action of a later version is counted."""
    if result.malformed is not None:
        return
    try:
        entry = parse_entry(body)
        registry, known = _registry()
        if entry.action not in known:
            result.unknown_actions += 1
            return
        registry.check(
            Draft(action=entry.action, actor=entry.actor, ref=entry.ref, data=entry.data, sealed=entry.sealed)
        )
    except Rejected as error:
        number = index // TILE_WIDTH
        path = tile_path(BundleId(index=number, width=tile_width(0, number, size)))
        result.malformed = Place(what=f"logged, but {error}", entry_index=index, entry_id=find_id(body), path=path)


@functools.cache
def _registry() -> tuple[Registry, frozenset[str]]:
    registry = open_registry()
    return registry, frozenset(action.name for action in registry)


def rehash_all(
    source: LogSource, whole: Task, *, workers: int, progress: Progress | None
) -> tuple[Rehashed, Callable[[], None]]:
    """Return what all entries of `whole` hash to, by `workers` processes, and a call for `source.verify_rest`.

    That call returns or raises what the workers found on the side; with one worker it looks only then. Call it once
    nothing is missing in the result. Requires `1 <= workers <= MAX_WORKERS`.
    """
    starts = range(whole.start, whole.stop, CHUNK_BUNDLES)
    tasks = (replace(whole, start=at, stop=min(at + CHUNK_BUNDLES, whole.stop)) for at in starts)
    result = Rehashed()
    with _open_workers(source, min(workers, len(starts))) as pool:
        start = whole.start * TILE_WIDTH
        verify_rest: Callable[[], None] = functools.partial(source.verify_rest, start, whole.size, deep=whole.deep)
        if pool is not None:
            verify_rest = pool.submit(_verify_rest_here, start, whole.size, deep=whole.deep).result
        here = (rehash(source, task) for task in tasks)
        ahead = TASKS_PER_WORKER * workers
        for part in map_ahead(pool, _rehash_here, tasks, ahead=ahead) if pool else here:
            result.add(part)
            if progress:
                progress(result.entries, whole.size - start)
            if result.short:
                break
    result.watched = sorted(set(result.watched))
    return result, verify_rest


@contextmanager
def _open_workers(source: LogSource, workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Yield processes that each have the source open; None if one is enough. At the end no work is left."""
    if workers <= 1:
        yield None
        return
    # Forking is quick, and safe only while we have no other thread.
    method = "fork" if threading.active_count() == 1 and "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_open, initargs=(source,)) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_here: list[LogSource] = []  # in a worker process: its own source


def _open(source: LogSource) -> None:
    _here[:] = [source.reopen()]


def _rehash_here(task: Task) -> Rehashed:
    return rehash(_here[0], task)


def _verify_rest_here(start: int, size: int, *, deep: bool) -> None:
    _here[0].verify_rest(start, size, deep=deep)
