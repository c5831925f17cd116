"""What a NOTIFY on `assay_published` says: in JSON where entries were placed, or the checkpoint that was exposed.

All of it is hints, and read as such: what does not fit into 8,000 bytes is left out, what cannot be read is looked up.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence

from app.ledger.ports import Exposed, Integration, Placed, Run

WORDS_LIMIT_BYTES = 7900
"""PostgreSQL takes 8,000 bytes, less one."""
LEAVES_TOLD_LIMIT = 180
"""Leaves whose hashes fit beside the rest, 43 bytes each."""


def format_placed(batch: Integration) -> str:
    """Return the words for entries that have their indexes; "" if that takes too many: everybody looks."""
    runs = find_runs(batch.seqs, batch.old.size)
    if runs != sorted(runs):  # the sequencer keeps to the order of the numbers, and nothing else says so
        return ""
    told = {"tenant": batch.tenant, "size": batch.new.size, "runs": runs}
    if len(batch.leaf_hashes) <= LEAVES_TOLD_LIMIT:
        leaves = b2a_base64(b"".join(batch.leaf_hashes), newline=False).decode()
        words = json.dumps({**told, "leaves": leaves})
        if len(words) <= WORDS_LIMIT_BYTES:
            return words
    words = json.dumps(told)
    return words if len(words) <= WORDS_LIMIT_BYTES else ""


def format_exposed(tenant: str, note: bytes) -> str:
    """Return the words for an exposed checkpoint; without it if it has more cosignatures than can be said."""
    words = json.dumps({"tenant": tenant, "note": note.decode()})
    return words if len(words) <= WORDS_LIMIT_BYTES else json.dumps({"tenant": tenant, "note": None})


def parse_heard(words: str) -> Placed | Exposed | None:
    """Return what is said; None, which has everybody look, if that is unclear."""
    try:
        said = json.loads(words)
        tenant = str(said["tenant"])
        if "note" in said:
            return Exposed(tenant, said["note"] and said["note"].encode())
        runs = tuple(Run(int(seq), int(index), int(count)) for seq, index, count in said["runs"])
        leaves = a2b_base64(said.get("leaves", ""), strict_mode=True)
        return Placed(tenant, int(said["size"]), runs, leaves) if runs else None
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def find_runs(seqs: Sequence[int], index: int) -> list[Run]:
    """Return the runs of these numbers; the first entry has this index."""
    runs: list[Run] = []
    start = 0
    rising = list(seqs) == sorted(seqs)
    while start < len(seqs):
        in_a_row = rising and seqs[-1] - seqs[start] == len(seqs) - 1 - start
        stop = len(seqs) if in_a_row else _find_end(seqs, start)
        runs.append(Run(seqs[start], index + start, stop - start))
        start = stop
    return runs


def _find_end(seqs: Sequence[int], start: int) -> int:
    """Return where the run that begins at `start` is over."""
    stop = start + 1
    while stop < len(seqs) and seqs[stop] == seqs[stop - 1] + 1:
        stop += 1
    return stop
