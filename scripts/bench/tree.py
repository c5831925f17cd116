"""Leaf hashes, tree, tiles, root and signature in batches of 256, at 10^6 leaves.

    python -m scripts.bench.tree [--runs 5] [--leaves 1000000] [--batches 100]

Yardstick of the same run: pymerkle's tree in memory (bench extra only: GPL), which appends the same entries and gives
its root for each batch; it makes no tiles and signs nothing. Building its 10^6 leaves takes half a minute.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import time
from typing import Any

from nacl.signing import SigningKey

from app.ledger.publish import full_tiles
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from app.tlog.note import ED25519, SignatureLine, SignedNote, VerifierKey, format_note, verify_note
from app.tlog.tile import TreeEdge
from app.tlog.tree import leaf_hash
from scripts.bench.figures import Figure, at_least, open_parser, profile_top, show
from scripts.bench.verify import make_row

BATCH = 256
BUILD_CHUNK = 4096
ORIGIN = "bench.localhost/tree"
GOAL = 4.0
MISSING = "NOT COMPARED: pymerkle is not installed (`make bench` installs it)"


class OurTree:
    """What the sequencer does with a batch, less the store."""

    def __init__(self, entries: list[bytes]) -> None:
        """Build the edge."""
        self._edge = TreeEdge()
        self._secret = SigningKey(bytes(32))
        self._key = VerifierKey(name=ORIGIN, algorithm=ED25519, public_key=bytes(self._secret.verify_key))
        for start in range(0, len(entries), BUILD_CHUNK):
            self._edge, _ = self._edge.append(map(leaf_hash, entries[start : start + BUILD_CHUNK]))

    def add(self, batch: list[bytes]) -> bytes:
        """Add the entries, and return the root that was signed."""
        self._edge, tiles = self._edge.append([leaf_hash(entry) for entry in batch])
        full_tiles(tiles)
        frontier = self._edge.frontier
        root = frontier.root()
        text = format_checkpoint(Checkpoint(origin=ORIGIN, size=frontier.size, root=root))
        line = SignatureLine(name=ORIGIN, key_id=self._key.key_id, signature=self._secret.sign(text).signature)
        note = SignedNote(text=text, signatures=(line,))
        verify_note(note, [self._key])
        format_note(note)
        return root


class TheirTree:
    """pymerkle's tree in memory."""

    def __init__(self, entries: list[bytes]) -> None:
        """Build the tree."""
        self._tree: Any = importlib.import_module("pymerkle").InmemoryTree(algorithm="sha256")
        for entry in entries:
            self._tree.append_entry(entry)

    def add(self, batch: list[bytes]) -> bytes:
        """Add the entries, and return the root."""
        for entry in batch:
            self._tree.append_entry(entry)
        root: bytes = self._tree.get_root()
        return root


def leaves_per_s(tree: OurTree | TheirTree, batches: list[list[bytes]]) -> tuple[float, bytes]:
    """Return leaves per second over the batches, and the last root."""
    root = b""
    started_s = time.perf_counter()
    for batch in batches:
        root = tree.add(batch)
    return len(batches) * BATCH / (time.perf_counter() - started_s), root


def make_batches(first: int, count: int) -> list[list[bytes]]:
    """Return batches of entries of 500 bytes."""
    return [
        [make_row(number).body for number in range(start, start + BATCH)]
        for start in range(first, first + count * BATCH, BATCH)
    ]


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return the figure; without a ratio if pymerkle is missing."""
    entries = [make_row(number).body for number in range(asked.leaves)]
    trees: list[OurTree | TheirTree] = []
    if importlib.util.find_spec("pymerkle"):
        print("building pymerkle's tree …", flush=True)
        trees.append(TheirTree(entries))
    else:
        print(MISSING, flush=True)
    trees.append(OurTree(entries))
    gc.collect()
    gc.freeze()  # neither tree pays for looking at the other's objects
    runs: list[list[tuple[float, bytes]]] = []
    for run in range(asked.runs):
        batches = make_batches(asked.leaves + run * asked.batches * BATCH, asked.batches)
        runs.append([leaves_per_s(tree, batches) for tree in trees])
    *theirs, ours = zip(*runs, strict=True)
    last = make_batches(asked.leaves + asked.runs * asked.batches * BATCH, asked.batches)
    top = profile_top(lambda: leaves_per_s(trees[-1], last))
    same = all(roots[0][1] == roots[-1][1] for roots in runs)
    return [
        Figure(
            part="tree",
            work=f"tree + tiles + root + signature, batches of {BATCH}, at {asked.leaves:,}",
            unit="leaves/s",
            values=[rate for rate, _root in ours],
            yardstick="pymerkle in memory" if theirs else "",
            yardstick_values=[rate for rate, _root in theirs[0]] if theirs else (),
            goals=[at_least(GOAL)],
            note=f"{'roots agree' if same else 'ROOTS DIFFER: not the same tree'}; {top}"
            if theirs
            else f"{MISSING}; {top}",
            bad=int(not same),
        )
    ]


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=100, help="in one run (%(default)s)")
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
