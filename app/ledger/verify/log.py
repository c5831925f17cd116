"""Verifying a log from end to end: every entry, every stored hash, every checkpoint.

In this order: what the newest checkpoint claims and who signed it; what the entries hash to; whether that is the
signed root; whether everything else that is stored agrees. The first thing that is wrong ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from app.errors import Rejected, Unavailable
from app.ledger.entry import Entry, parse_entry
from app.ledger.keys import LOG_FROZEN, KeyHistory
from app.ledger.ports import Head
from app.ledger.verify.head import RememberedHead
from app.ledger.verify.rehash import Progress, Rehashed, Task, rehash_all
from app.ledger.verify.report import Level, Outcome, Place, Report, TamperedError, level_of, not_shown_by
from app.ledger.verify.source import LogSource
from app.ledger.verify.tree import RehashedTree, blame_entry, blame_leaf_tile, verify_upper_tiles
from app.ledger.verify.trust import (
    KeyMissingError,
    Signed,
    extend_policy,
    log_keys,
    read_claim,
    read_key_history,
    verify_newest,
    verify_signed,
    verify_signer_was_valid,
)
from app.tlog.checkpoint import Checkpoint
from app.tlog.policy import Policy, VerifiedCheckpoint
from app.tlog.tile import TILE_WIDTH
from app.tlog.tree import HASH_SIZE

NEWEST = "checkpoint"
HISTORY = "checkpoint history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to verify a log.

    `start`: entries before it are not re-hashed, only their tiles (rounded down to a bundle). `deep`: parse every
    entry. `entry_id`: also answer for this entry; needs `start` 0. `anchor`: a checkpoint kept outside the log.
    """

    remembered: RememberedHead | None = None
    anchor: bytes | None = None
    start: int = 0
    deep: bool = False
    entry_id: str | None = None
    require_quorum: bool = True
    workers: int = 1


def verify_log(source: LogSource, trust: Policy, options: Options, *, progress: Progress | None = None) -> Report:
    """Return what is to be said about the log. Only faults of our own are raised."""
    run = _Verification(source, trust, options, progress)
    try:
        return run.report()
    except TamperedError as error:
        outcome, summary, place = Outcome.INVALID, str(error), error.place
    except Unavailable as error:
        outcome, summary, place = Outcome.NOT_CHECKED, str(error), None
    known = run.claim
    return Report(
        outcome=outcome,
        target=source.name,
        summary=summary,
        place=place,
        origin=known.origin if known else None,
        size=known.size if known else None,
        root=known.root if known else None,
        counts=run.counts,
        deep=options.deep,
    )


class _Verification:
    """One run of `verify_log`: what is known so far."""

    def __init__(self, source: LogSource, trust: Policy, options: Options, progress: Progress | None) -> None:
        self._source = source
        self._trust = trust
        self._options = options
        self._progress = progress
        self._anchored = False
        self._strangers = 0
        self.claim: Checkpoint | None = None
        self.counts: dict[str, int] = {}

    def report(self) -> Report:
        """Verify everything; return a report that is not INVALID, or raise."""
        note = self._source.find_checkpoint()
        head = self._source.find_head()
        if note is None:
            return self._nothing_published(head)
        claim = self.claim = read_claim(note, NEWEST)
        verified = self._open_newest(note)
        self._verify_not_smaller(claim, head)

        size = max(claim.size, head.size if head else 0)
        rehashed, verify_rest = self._rehash(size)
        tree = self._verify_root(rehashed, claim, head, size)
        if rehashed.mismatch is not None:
            raise TamperedError(blame_leaf_tile(self._source, tree, rehashed.mismatch))
        self.counts["tiles"] = -(-size // TILE_WIDTH) + verify_upper_tiles(self._source, tree)
        self._verify_head(tree, head, rehashed)

        history = None if self._options.start else read_key_history(claim.origin, rehashed.watched)
        checkpoints = self._verify_checkpoints(tree, history)
        verified = self._verify_keys(note, verified, history, checkpoints)
        self._verify_outside_heads(tree, claim, len(checkpoints))
        if rehashed.malformed is not None:
            raise TamperedError(rehashed.malformed)
        verify_rest()
        self.counts |= {"pending": self._source.count_pending(), "unpublished": size - claim.size}
        return self._conclude(note, verified, rehashed)

    def _nothing_published(self, head: Head | None) -> Report:
        if self._options.remembered is not None:
            self._raise_smaller("nothing", NEWEST)
        integrated = head.size if head else 0
        summary = f"this log has published no checkpoint yet ({integrated} entries are integrated)"
        self.counts |= {"pending": self._source.count_pending(), "unpublished": integrated}
        return Report(outcome=Outcome.NOT_IN_LOG, target=self._source.name, summary=summary, counts=self.counts)

    def _open_newest(self, note: bytes) -> VerifiedCheckpoint | None:
        """Return the newest checkpoint verified; None if only a key of the log's own history may help."""
        try:
            return verify_newest(note, self._trust, NEWEST)
        except KeyMissingError:
            names = {key.name for key in log_keys(self._trust)}
            if self._options.start or (self.claim and self.claim.origin not in names):
                raise
            return None

    def _verify_not_smaller(self, claim: Checkpoint, head: Head | None) -> None:
        remembered = self._options.remembered
        if remembered is not None and claim.size < remembered.size:
            self._raise_smaller(f"size {claim.size}, root {claim.root.hex()}", NEWEST)
        if head is not None and head.size < claim.size:
            what = f"says {head.size} entries, and a checkpoint of {claim.size} was signed"
            raise TamperedError(Place(what=what, checkpoint_size=claim.size, entry_index=head.size, path="head row"))

    def _raise_smaller(self, shown: str, path: str) -> None:
        remembered = self._options.remembered
        seen = remembered.describe() if remembered else ""
        size = self.claim.size if self.claim else 0
        what = f"the log is smaller than it was: shown now is {shown}; you remember {seen}"
        raise TamperedError(Place(what=what, checkpoint_size=size, path=path))

    def _rehash(self, size: int) -> tuple[Rehashed, Callable[[], None]]:
        """Return what the entries hash to, before `start` by their tiles' stored roots, and the call for the rest."""
        options = self._options
        first = min(options.start, size) // TILE_WIDTH
        bundles = -(-size // TILE_WIDTH)
        task = Task(start=first, stop=bundles, size=size, deep=options.deep, entry_id=options.entry_id)
        later, verify_rest = rehash_all(self._source, task, workers=options.workers, progress=self._progress)
        self.counts |= {"entries": later.entries, "bytes": later.octets, "bundles": bundles - first}
        rehashed = Rehashed(roots=self._read_roots(first, size))
        rehashed.add(later)
        return rehashed, verify_rest

    def _read_roots(self, bundles: int, size: int) -> bytearray:
        """Return the stored roots of the first full level 0 tiles; the signed root will tell whether they are true."""
        roots = bytearray()
        for number in range(-(-bundles // TILE_WIDTH)):
            width = min(TILE_WIDTH, size // TILE_WIDTH - number * TILE_WIDTH)
            roots += self._source.read_tiles(1, number, width)[0]
        return roots[: bundles * HASH_SIZE]

    def _verify_root(self, rehashed: Rehashed, claim: Checkpoint, head: Head | None, size: int) -> RehashedTree:
        """Return the tree of the entries, if its root is the signed one; else blame the first entry that is not."""
        mismatch = rehashed.mismatch
        if rehashed.short:
            damaged = rehashed.damage
            if mismatch is None and damaged is not None:
                raise TamperedError(damaged)
        else:
            tree = RehashedTree(self._source, size, rehashed)
            if tree.root(claim.size) == claim.root:
                return tree
            if mismatch is None:
                raise TamperedError(self._bracket(tree, claim))
        number = mismatch or 0
        place = blame_entry(self._source, number, claim.size, claim.root) if number * TILE_WIDTH < claim.size else None
        if place is None and head is not None:  # it is among the integrated entries that no checkpoint covers yet
            place = blame_entry(self._source, number, head.size, head.root)
        raise TamperedError(place or Place(what=f"bundle {number} changed while it was being verified"))

    def _bracket(self, tree: RehashedTree, claim: Checkpoint) -> Place:
        """Return where entries and tiles, in agreement, part from what was signed: after the last good checkpoint."""
        good, bad = 0, claim.size
        for _, checkpoint in self._list_signed():
            if checkpoint.size <= tree.size and checkpoint.checkpoint.root == tree.root(checkpoint.size):
                good = max(good, checkpoint.size)
            else:
                bad = min(bad, checkpoint.size)
        return Place(
            what=f"one or more of the entries {good} to {bad - 1} are not those that were signed (all stored hashes "
            "agree with them, and not with the signed root)",
            entry_index=good,
            checkpoint_size=bad,
        )

    def _list_signed(self) -> Iterator[tuple[str, Signed]]:
        """Yield the stored checkpoints with their place, as far as the trusted keys reach."""
        for size, note in self._source.list_checkpoints():
            place = f"{HISTORY}, size {size}"
            yield place, verify_signed(note, log_keys(self._trust), (), place)

    def _verify_head(self, tree: RehashedTree, head: Head | None, rehashed: Rehashed) -> None:
        """Verify the row of the integrated head: its root, and whether the log has ended."""
        if head is None:
            return
        if tree.root(head.size) != head.root:
            raise TamperedError(Place(what=f"its root is not that of the {head.size} entries", path="head row"))
        last = rehashed.watched[-1:] if not self._options.start else []
        ends = any(index == head.size - 1 and LOG_FROZEN.encode() in body[:32] for index, body in last)
        if not self._options.start and ends != head.frozen:
            raise TamperedError(Place(what=f"says frozen is {head.frozen}, and the entries do not", path="head row"))

    def _verify_checkpoints(self, tree: RehashedTree, history: KeyHistory | None) -> list[Signed]:
        """Return the stored checkpoints, each signed and a prefix of the tree."""
        keys = log_keys(self._trust) | {life.key for life in (history.lives if history else ())}
        cosigners = [witness.key for witness in self._trust.witnesses]
        found = []
        for size, note in self._source.list_checkpoints():
            place = f"{HISTORY}, size {size}"
            signed = verify_signed(note, keys, cosigners, place)
            if self.claim is None or signed.checkpoint.origin != self.claim.origin or signed.size != size:
                what = f"stored as size {size}, it is of {signed.checkpoint.origin}, size {signed.size}"
                raise TamperedError(Place(what=what, checkpoint_size=size, path=place))
            if size > tree.size or tree.root(size) != signed.checkpoint.root:
                what = "its root is not that of the entries before it"
                raise TamperedError(Place(what=what, checkpoint_size=size, path=place))
            if history is not None:
                verify_signer_was_valid(history, signed, place)
            self._strangers += not signed.signers
            found.append(signed)
        self.counts["checkpoints"] = max(len(found), 1)
        return found

    def _verify_keys(
        self, note: bytes, verified: VerifiedCheckpoint | None, history: KeyHistory | None, checkpoints: list[Signed]
    ) -> VerifiedCheckpoint:
        """Return the newest checkpoint, by a key that could sign it and that the auditor's own keys vouch for."""
        policy = self._trust
        if history is not None:
            vouching = [*checkpoints, *self._remembered_signed(history)]
            policy = extend_policy(policy, history, vouching)
            signed = verify_signed(note, log_keys(policy), (), NEWEST)
            if signed.signers:
                verify_signer_was_valid(history, signed, NEWEST)
        verified = verified or verify_newest(note, policy, NEWEST)
        if self._options.require_quorum and not verified.quorum_met:
            level = level_of(policy, verified)
            what = (
                f"{level.cosigned} of {level.witnesses} witnesses cosigned it, which is not the quorum {policy.quorum}"
            )
            raise TamperedError(Place(what=what, checkpoint_size=verified.checkpoint.size, path=NEWEST))
        return verified

    def _remembered_signed(self, history: KeyHistory) -> list[Signed]:
        remembered = self._options.remembered
        if remembered is None or remembered.origin != history.origin:
            return []
        keys = log_keys(self._trust) | {life.key for life in history.lives}
        return [verify_signed(remembered.note, keys, (), "the head you remember")]

    def _verify_outside_heads(self, tree: RehashedTree, claim: Checkpoint, kept: int) -> None:
        """Verify that the log extends the auditor's last head and the anchor."""
        heads = []
        remembered = self._options.remembered
        if remembered is not None:
            heads.append(("you remember", remembered.size, remembered.root))
        if self._options.anchor is not None:
            anchor = verify_newest(self._options.anchor, self._trust, "anchor").checkpoint
            heads.append(("the anchor has", anchor.size, anchor.root))
        for who, size, root in heads:
            if size > tree.size or tree.root(size) != root:
                what = (
                    f"the log is another than it was: shown now is size {claim.size}, root {claim.root.hex()}; {who} "
                    f"size {size}, root {root.hex()}, which is not a prefix of it"
                )
                raise TamperedError(Place(what=what, checkpoint_size=claim.size, path=NEWEST))
        self._anchored = bool(heads)
        if remembered is not None and self._source.find_head() is not None and kept < remembered.checkpoints:
            what = f"{remembered.checkpoints - kept} checkpoints that you have seen are no longer kept"
            raise TamperedError(Place(what=what, checkpoint_size=remembered.size, path=HISTORY))

    def _conclude(self, note: bytes, verified: VerifiedCheckpoint, rehashed: Rehashed) -> Report:
        checkpoint, options = verified.checkpoint, self._options
        level = level_of(self._trust, verified, anchored=self._anchored)
        first = self._first(checkpoint.size)
        which = f"entries {first} to {checkpoint.size - 1}" if first else f"all {checkpoint.size} entries"
        report = Report(
            outcome=Outcome.VALID,
            target=self._source.name,
            summary=f"{which} are those that {checkpoint.origin} signed",
            origin=checkpoint.origin,
            size=checkpoint.size,
            root=checkpoint.root,
            level=level,
            counts=self.counts,
            deep=options.deep,
            proven=tuple(self._list_proven(checkpoint)),
            not_proven=tuple(self._list_unproven(level, rehashed)),
            checkpoint=note,
        )
        if options.entry_id is None:
            return report
        return _answer_for_entry(report, options.entry_id, rehashed, self._source)

    def _first(self, size: int) -> int:
        """Return the first entry that was re-hashed."""
        return min(self._options.start, size) // TILE_WIDTH * TILE_WIDTH

    def _list_proven(self, checkpoint: Checkpoint) -> Iterator[str]:
        first = self._first(checkpoint.size)
        yield f"entries {first} to {checkpoint.size - 1} were re-hashed" if checkpoint.size else "the log is empty"
        if self._options.deep:
            yield "each of them is canonical and in the entry format"
        yield "they lead through every stored tile to the root that the log signed"
        if self.counts["checkpoints"] > 1:
            yield f"{self.counts['checkpoints']} stored checkpoints are signed, and each is a prefix of the log"
        if self._options.remembered is not None:
            yield f"the log extends the head you remember, {self._options.remembered.describe()}"
        if self._options.anchor is not None:
            yield "the log extends the anchor"

    def _list_unproven(self, level: Level, rehashed: Rehashed) -> Iterator[str]:
        yield from not_shown_by(level)
        size = self.claim.size if self.claim else 0
        yield f"anything about entries after the first {size}"
        if self._options.start:
            yield f"entries before {self._options.start // TILE_WIDTH * TILE_WIDTH}: only their tiles were checked"
            yield "that keys were valid when they signed: key entries before the start were not read"
        if not self._options.deep:
            yield "that every entry is well formed: only the hashes were checked (--deep parses each)"
        if rehashed.unknown_actions:
            yield f"the schema of {rehashed.unknown_actions} entries whose actions this version does not know"
        if self._options.remembered is None:
            yield "that the log has not shrunk since you last looked: no head was remembered"
        if self._strangers:
            yield f"who signed {self._strangers} older checkpoints: their keys are not known; their roots are right"
        yield "sealed values: only their commitments are in the log"
        yield from self._source.list_unproven(deep=self._options.deep)


def _answer_for_entry(report: Report, entry_id: str, rehashed: Rehashed, source: LogSource) -> Report:
    """Return the report of a valid log, narrowed to one entry."""
    size = report.size or 0
    found = [(index, entry) for index, entry in _parse_watched(rehashed) if entry.id == entry_id]
    if not found or found[0][0] >= size:
        known = bool(found) or source.has_pending(entry_id)
        state = "is stored, and no checkpoint covers it yet" if known else f"is not among the first {size} entries"
        return replace(report, outcome=Outcome.NOT_IN_LOG, summary=f"{entry_id} {state}")
    index, entry = found[0]
    report = replace(report, summary=f"{entry_id} is entry {index} of {report.origin}, and the whole log is valid")
    erasures = [
        (at, erasure)
        for at, erasure in _parse_watched(rehashed)
        if index < at < size and erasure.action == "subject.erased" and erasure.subject == entry.subject
    ]
    if not (entry.sealed and entry.subject and erasures):
        return report
    at, erasure = erasures[0]
    summary = f"{entry_id} is proven at index {index}; its sealed values were erased by entry {at} ({erasure.id})"
    return replace(report, outcome=Outcome.ERASED, summary=summary)


def _parse_watched(rehashed: Rehashed) -> Iterator[tuple[int, Entry]]:
    for index, body in rehashed.watched:
        try:
            yield index, parse_entry(body)
        except Rejected:
            continue
