"""Erases a person, or replays the journal, in processes that are killed (SIGKILL) at one step each.

    python -m tests.parts.erase_victim erase|replay FOLDER

FOLDER holds `template.db` and `template.journal`. For n = 0, 1, 2 … a forked child works on copies, `n.db` and
`n.journal`, and kills itself at its n-th step, until one child gets to the end. Prints how many were killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.adapters.erasure_journal import FileErasureJournal
from app.adapters.sql.engine import open_engine
from app.adapters.sql.store import SqlStore
from app.adapters.sql.subjects import SqlSubjectStore
from tests.fakes.people import erase_subject, replay

MAX_STEPS = 100


class Deadly:
    """Passes every call on, and makes the moments before and after it steps."""

    def __init__(self, target: Any, step: Callable[[], None]) -> None:
        self._target = target
        self._step = step

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._step()
            result = method(*args, **kwargs)
            self._step()
            return result

        return call


class DeadlyStore(Deadly):
    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._target.transaction() as tx:
            yield Deadly(tx, self._step)
            self._step()
        self._step()


def count_down(steps: int) -> Callable[[], None]:
    left = iter(range(steps))

    def step() -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def run_child(mode: str, database: Path, journal_path: Path, steps: int) -> None:
    engine = open_engine(f"sqlite:///{database}")
    step = count_down(steps)
    store = DeadlyStore(SqlSubjectStore(SqlStore(engine), engine), step)
    journal = Deadly(FileErasureJournal(journal_path), step)
    if mode == "erase":
        erase_subject(store, journal)
    else:
        replay(store, journal)


def main(mode: str, folder: Path) -> int:
    for steps in range(MAX_STEPS):
        database, journal = folder / f"{steps}.db", folder / f"{steps}.journal"
        shutil.copy(folder / "template.db", database)
        shutil.copy(folder / "template.journal", journal)
        child = os.fork()
        if child == 0:
            run_child(mode, database, journal, steps)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.stdout.write(f"{steps}\n")
            return os.WEXITSTATUS(status)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
