"""What is settled on PostgreSQL: up to which number every transaction that drew one has ended (ADR 8).

It rests on a trigger of `entry`: a transaction has its id before it draws a number.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import LiteralString

_DRAWN_AND_OLDEST_XID = """
SELECT last_value - (NOT is_called)::int, pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM entry_seq_seq"""
_OWN_XID = "SELECT pg_current_xact_id()::text::bigint"
_OLDEST_XID = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


class Horizon:
    """Up to which sequence number every transaction that drew one has ended.

    A mark is a number M that was the last drawn, and an xid X assigned after M was read: whoever drew up to M has
    an id below X. Once no id below X runs, M is settled. (`pg_snapshot_xmax` would not do for X: it is one past the
    last *completed* id, and a running one may be above it.)
    """

    def __init__(self) -> None:
        """Start with nothing settled."""
        self._settled = 0
        self._mark: tuple[int, int] | None = None
        self._looked_at_s = -math.inf
        self._lock = threading.Lock()

    def read_settled(self, ask: Callable[[LiteralString], Sequence[int]], every_s: float) -> int:
        """Return the settled number, good for statements that begin after this call. `ask` autocommits.

        It is looked up unless it was within `every_s`, in seconds.

        A new mark is made as soon as the last one is settled: under load it is so at the next look, and no entry is
        looked at twice.
        """
        with self._lock:
            if time.monotonic() - self._looked_at_s < every_s:
                return self._settled
            self._looked_at_s = time.monotonic()
            drawn, oldest_xid = ask(_DRAWN_AND_OLDEST_XID)
            self._settle(oldest_xid)
            if self._mark is None and drawn > self._settled:
                self._mark = (drawn, ask(_OWN_XID)[0])
                self._settle(ask(_OLDEST_XID)[0])
            return self._settled

    def _settle(self, oldest_xid: int) -> None:
        if self._mark is not None and oldest_xid >= self._mark[1]:
            self._settled = self._mark[0]
            self._mark = None
