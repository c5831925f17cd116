"""A process that appends and publishes until it is killed, at a named point or from outside.

What its clients did is in files that outlive it, one line each: `asked` (a key before its append), `acknowledged` (key
and seq after it), `signed` (a checkpoint's text, in hex). The next victim first asks again for what was not answered.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import uuid_utils

from app.adapters.anchor_file import FileAnchor
from app.adapters.sql.store import SqlStore
from app.errors import AssayError, Unavailable
from app.ledger.group import GroupCommit
from app.ledger.ports import Tenant
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.ledger.sequence import SequencerLoop
from app.ledger.wait import PublicationWatch
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from tests.fakes.ledger import STEPS, TENANT, Faults, FaultyCosigner, FaultyStore, Keys, make_row

POINTS = (
    *STEPS,
    *("integrate.inside", "anchor.torn", "anchor.written"),
    *("append.inside", "append.committed", "append.answered"),
)
"""Every boundary between two steps, and what is half done inside some of them."""
APPENDERS = 3
RETRY_S = 0.02
HALTED, NEVER_REACHED = 3, 4
"""Exit codes of a victim that nobody killed: it refused to publish; its point never came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a victim does: on which database, in which folder, and where it dies (None: when it is killed)."""

    url: str
    folder: Path
    round: int
    point: str | None
    visits: int
    deadline_s: float


class Death(Faults):
    """Dies, as by kill -9, at a given visit of a given point."""

    def __init__(self, point: str | None, visits: int) -> None:
        super().__init__()
        self._point = point
        self._left = visits
        self._lock = threading.Lock()

    def hit(self, point: str) -> None:
        if point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Journal:
    """A file of lines that survives a kill -9: each line is one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def read_journal(path: Path) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class DyingAnchor(FileAnchor):
    """An anchor that may die before and after a write."""

    def __init__(self, folder: Path, death: Death) -> None:
        super().__init__(folder)
        self._death = death

    def write(self, origin: str, checkpoint: bytes) -> None:
        with self._death.around("anchor"):
            super().write(origin, checkpoint)


class DyingStore:
    """What the appenders write to: may die before and after the commit."""

    def __init__(self, store: SqlStore, death: Death) -> None:
        self._store = store
        self._death = death

    def transaction(self) -> AbstractContextManager[Any]:
        return self._dying(self._store.transaction())

    def appending(self) -> AbstractContextManager[Any]:
        return self._dying(self._store.appending())

    @contextmanager
    def _dying(self, transaction: AbstractContextManager[Any]) -> Iterator[Any]:
        with transaction as tx:
            yield tx
            self._death.hit("append.inside")
        self._death.hit("append.committed")


def run(order: Order) -> None:
    """Append and publish until killed, or until the deadline."""
    logging.disable(logging.ERROR)  # a crashed database is told of at length; what halts us is CRITICAL
    death = Death(order.point, order.visits)
    store = SqlStore.open(order.url)
    _die_inside(store, death)
    signed = Journal(order.folder / "signed")
    keyring = Keys(lambda checkpoint: _note(signed, checkpoint), death)

    def build(tenant: Tenant) -> Sequencer:
        return Sequencer(
            store=FaultyStore(store, death),
            tenant=tenant,
            anchor=DyingAnchor(order.folder / "anchors", death),
            keyring=keyring,
            cosigner=FaultyCosigner(death),
        )

    loop = SequencerLoop(store=store, open_sequencer=build)
    stop = threading.Event()
    group = GroupCommit(DyingStore(store, death), PublicationWatch(store, Prover(store)))
    works: list[tuple[Any, tuple[Any, ...]]] = [(loop.run, (stop,))]
    works += [(_append, (group, order, number, death)) for number in range(APPENDERS)]
    for work, arguments in works:
        threading.Thread(target=work, args=arguments, daemon=True).start()
    deadline_s = time.monotonic() + order.deadline_s
    while time.monotonic() < deadline_s:
        time.sleep(RETRY_S)
        if loop.halted:
            os.write(2, f"{loop.halted}\n".encode())
            os._exit(HALTED)
    os._exit(NEVER_REACHED)


def _note(signed: Journal, checkpoint: Checkpoint) -> None:
    signed.write(format_checkpoint(checkpoint).hex())


def _die_inside(store: SqlStore, death: Death) -> None:
    """Put points into the middle of an integration, and of the anchor's write.

    On PostgreSQL an integration is one statement: its middle is the server's.
    """
    backend: Any = store._backend
    step = "insert_leaves" if hasattr(backend, "insert_leaves") else "integrate"
    rest, pwrite = getattr(backend, step), os.pwrite

    def die_or_go_on(*arguments: Any) -> Any:
        death.hit("integrate.inside")
        return rest(*arguments)

    def write_in_two(file: int, data: bytes, at: int) -> int:
        middle = pwrite(file, data[: len(data) // 2], at)
        death.hit("anchor.torn")
        end = middle + pwrite(file, data[middle:], at + middle)
        death.hit("anchor.written")
        return end

    setattr(backend, step, die_or_go_on)
    os.pwrite = write_in_two  # this process writes nothing else with it


def _append(group: GroupCommit, order: Order, number: int, death: Death) -> None:
    """Be a client that asks again, under the same key, until it is answered."""
    asked, acknowledged = Journal(order.folder / "asked"), Journal(order.folder / "acknowledged")
    for key in _list_keys(order, number):
        asked.write(key)
        while True:
            try:
                entry_id = UUID(int=uuid_utils.uuid7().int)
                row = make_row(entry_id.int & (2**62 - 1), time_ms=entry_id.int >> 80, key=key, ref={"order": key})
                [result] = group.append([row])
                break
            except Unavailable:
                time.sleep(RETRY_S)
            except AssayError as error:
                os.write(2, f"{error!r}\n".encode())
                os._exit(HALTED)
        death.hit("append.answered")
        acknowledged.write(key, result.seq)


def _list_keys(order: Order, number: int) -> Iterator[str]:
    if number == 0:
        answered = {key for key, _ in read_journal(order.folder / "acknowledged")}
        yield from sorted({key for [key] in read_journal(order.folder / "asked")} - answered)
    count = 0
    while True:
        count += 1
        yield f"k{order.round}.{number}.{count}"


__all__ = ["HALTED", "NEVER_REACHED", "POINTS", "TENANT", "Order", "read_journal", "run"]
