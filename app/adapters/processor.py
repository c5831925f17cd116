"""Two processes that take turns, on one processor.

Left to itself the scheduler wakes each of them on a processor that is idle. On a virtual machine that takes some 35 µs
each way, most of them charged to us; to change from one process to the other takes 3 µs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import Any, Final


def _find_reader() -> Callable[[], int] | None:
    """Return what tells the processor that the calling thread runs on, where threads can be bound to one."""
    found: Any = getattr(ctypes.PyDLL(None), "sched_getcpu", None)
    return found if hasattr(os, "sched_setaffinity") else None


_read_processor: Final = _find_reader()


class Partner:
    """A process that a thread of ours asks and waits for."""

    def __init__(self, pid: int) -> None:
        """The process `pid` is a child of ours."""
        self._pid = pid
        self._is_bound = False

    def join(self, *, alone: bool) -> set[int] | None:
        """Bind the process and this thread to the processor it is on, if it is our only one at work: `alone`.

        Others would have to wait for that processor, and what waits for any finds the next one awake. Returns what
        `leave` needs. Where nothing can be bound, nothing is.
        """
        if _read_processor is None or not (alone or self._is_bound):
            return None
        with contextlib.suppress(OSError, ValueError):
            before = os.sched_getaffinity(0)
            here = {_read_processor()} if alone else before
            os.sched_setaffinity(self._pid, here)
            self._is_bound = alone
            os.sched_setaffinity(0, here)
            return before
        return None


def leave(before: set[int] | None) -> None:
    """Let this thread go wherever it might before it joined; its partner stays until it is joined again."""
    if before is not None:
        with contextlib.suppress(OSError):  # the operator took all of those from us meanwhile
            os.sched_setaffinity(0, before)
