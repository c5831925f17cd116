"""Which processor a process runs on, where the scheduler left to itself costs much.

Two processes that take turns: it wakes each of them on a processor that is idle. On a virtual machine that takes some
35 µs each way, most of them charged to us; to change from one process to the other takes 3 µs.

A web process: Python runs on one processor at a time, and its threads would carry it from one to the other several
times a request, away from what the caches hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable
from typing import Any, Final


def _find_reader() -> Callable[[], int] | None:
    """Return what tells the processor that the calling thread runs on, where threads can be bound to one."""
    found: Any = getattr(ctypes.PyDLL(None), "sched_getcpu", None)
    return found if hasattr(os, "sched_setaffinity") else None


_read_processor: Final = _find_reader()


SHARERS_LIMIT: Final = 8
"""Processes of ours that one processor may be given to, those of other installations on this machine included."""


class Place:
    """The processor of this process, one of several alike that their parent started."""

    def __init__(self, namespace: str = "assay") -> None:
        """None is taken. Those of one `namespace` on this machine share its processors out evenly."""
        self._namespace = namespace
        self.before: set[int] | None = None
        """Where this process might run before it took one; None while it has none."""
        self._claims: tuple[socket.socket, socket.socket] | None = None

    def take(self, siblings: int) -> int | None:
        """Bind the calling thread, and those it starts, to a processor that no sibling of ours has; return it.

        It is one that as few others as possible have taken, and ours until the process ends, however it ends. None is
        taken where there are fewer than `siblings`, or one: the scheduler then shares them out better.
        """
        if _read_processor is None:
            return None
        every = os.sched_getaffinity(0)
        if len(every) < max(siblings, 2):
            return None
        for place in range(SHARERS_LIMIT):
            for processor in sorted(every):
                self._claims = self._claim(processor, place)
                if self._claims is not None:
                    self.before = every
                    os.sched_setaffinity(0, {processor})
                    return processor
        return None

    def _claim(self, processor: int, place: int) -> tuple[socket.socket, socket.socket] | None:
        """Return our claims to this processor, against siblings and to a place among all, if we can have both."""
        against_siblings = _claim(f"\0{self._namespace}/{os.getppid()}/{processor}")
        if against_siblings is None:
            return None
        among_others = _claim(f"\0{self._namespace}/{processor}/{place}")
        if among_others is None:
            against_siblings.close()
            return None
        return against_siblings, among_others


def _claim(name: str) -> socket.socket | None:
    """Return what holds a name of the kernel's, without a file, until it is closed; None if another process has it."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(name)
    except OSError:
        claim.close()
        return None
    return claim


PLACE: Final = Place()
"""This process's own."""


class Partner:
    """A process that a thread of ours asks and waits for."""

    def __init__(self, pid: int) -> None:
        """The process `pid` is a child of ours."""
        self._pid = pid
        self._is_bound = False
        if PLACE.before is not None:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, PLACE.before)  # a child inherits the binding

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
            os.sched_setaffinity(self._pid, here if alone else PLACE.before or before)
            self._is_bound = alone
            os.sched_setaffinity(0, here)
            return before
        return None


def leave(before: set[int] | None) -> None:
    """Let this thread go wherever it might before it joined; its partner stays until it is joined again."""
    if before is not None:
        with contextlib.suppress(OSError):  # the operator took all of those from us meanwhile
            os.sched_setaffinity(0, before)
