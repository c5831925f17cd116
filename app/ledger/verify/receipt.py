"""Verifying one receipt: a file that proves offline that its entry is in the log (C2SP tlog-proof).

The entry is in the receipt's `extra`, which nobody vouches for; that its hash is the leaf which the proof leads from
does. Only the keys of the trust file count: a receipt cannot tell of a key's life.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.errors import Malformed, Rejected, Unavailable
from app.ledger.canonical import parse_json
from app.ledger.entry import Entry, Opening, parse_entry, verify_commitment
from app.ledger.verify.head import RememberedHead
from app.ledger.verify.report import Level, Outcome, Place, Report, TamperedError, level_of, not_shown_by
from app.ledger.verify.trust import read_claim, verify_newest
from app.tlog.encoding import format_base64, parse_base64
from app.tlog.policy import Policy, VerifiedCheckpoint
from app.tlog.proof import ProofError, verify_inclusion
from app.tlog.receipt import Receipt, parse_receipt
from app.tlog.tree import leaf_hash

SEALED_LIMIT_BYTES = 1_048_576
ERASED = "subject.erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proven:
    receipt: Receipt
    entry: Entry
    verified: VerifiedCheckpoint


def parse_openings(data: bytes) -> dict[str, Opening | None]:
    """Return the values of a file {path: {"value", "salt": base64} | null}; null says that it was erased.

    Raises Malformed.
    """
    document = parse_json(data, limit_bytes=SEALED_LIMIT_BYTES)
    if not isinstance(document, dict):
        raise Malformed("a file of sealed values is an object {path: {value, salt}}")
    openings: dict[str, Opening | None] = {}
    for path, found in document.items():
        if found is not None and not (isinstance(found, dict) and found.keys() == {"value", "salt"}):
            raise Malformed(f"{path}: give value and salt, or null if it was erased", pointer=f"/{path}")
        opening = None if found is None else Opening(value=found["value"], salt=parse_base64(str(found["salt"])))
        openings[path] = opening
    return openings


def format_openings(openings: Mapping[str, Opening | None]) -> dict[str, Any]:
    """Return the document that `parse_openings` reads."""
    return {
        path: None if each is None else {"value": each.value, "salt": format_base64(each.salt)}
        for path, each in openings.items()
    }


def verify_receipt_file(
    data: bytes,
    trust: Policy,
    *,
    target: str = "receipt",
    entry: bytes | None = None,
    openings: Mapping[str, Opening | None] | None = None,
    erasure: bytes | None = None,
    remembered: RememberedHead | None = None,
    require_quorum: bool = True,
) -> Report:
    """Return what is to be said about one receipt. Only faults of our own are raised.

    `entry`: its bytes, if the receipt does not hold them. `openings`: sealed values to check, None for those that are
    said to be erased; those not named are not proven. `erasure`: the receipt of the `subject.erased` entry that says
    why they are gone.
    """
    try:
        proven = _verify(data, trust, entry, target=target, require_quorum=require_quorum)
        level = level_of(trust, proven.verified, anchored=_is_remembered(proven, remembered))
        report = _describe(proven, level, target)
        if openings is None:
            return report
        _verify_openings(proven.entry, openings, target)
        if missing := sorted(path for path, opening in openings.items() if opening is None):
            erased_by = _verify_erasure(erasure, proven, trust, require_quorum=require_quorum)
            return _erased(report, missing, erased_by)
    except TamperedError as error:
        return Report(outcome=Outcome.INVALID, target=target, summary=str(error), place=error.place)
    except Unavailable as error:
        return Report(outcome=Outcome.NOT_CHECKED, target=target, summary=str(error))
    return _opened(report, proven.entry, openings)


def _verify(data: bytes, trust: Policy, entry: bytes | None, *, target: str, require_quorum: bool) -> _Proven:
    """Return what the receipt proves. Raises TamperedError, or Unavailable if something to check it is missing."""
    try:
        receipt = parse_receipt(data)
    except Rejected as error:
        raise TamperedError(Place(what=f"not a receipt: {error}", path=target)) from error
    claim = read_claim(receipt.checkpoint, f"{target}, checkpoint")
    verified = verify_newest(receipt.checkpoint, trust, f"{target}, checkpoint")
    if require_quorum and not verified.quorum_met:
        what = f"{len(verified.cosignatures)} cosignatures are not the quorum {trust.quorum}"
        raise TamperedError(Place(what=what, checkpoint_size=claim.size, path=f"{target}, checkpoint"))
    body = receipt.extra if entry is None else entry
    if body is None:
        raise Unavailable("the receipt does not hold its entry: give the entry's bytes with --entry")
    try:
        verify_inclusion(
            index=receipt.index, size=claim.size, leaf=leaf_hash(body), proof=receipt.proof, root=claim.root
        )
    except ProofError as error:
        what = f"entry, index and proof do not lead to the signed root: {error}"
        raise TamperedError(Place(what=what, entry_index=receipt.index, path=target)) from error
    try:
        return _Proven(receipt=receipt, entry=parse_entry(body), verified=verified)
    except Rejected as error:
        raise TamperedError(Place(what=f"logged, but {error}", entry_index=receipt.index, path=target)) from error


def _is_remembered(proven: _Proven, remembered: RememberedHead | None) -> bool:
    """Say whether its checkpoint is the head that is remembered. Raises TamperedError if it contradicts it."""
    claim = proven.verified.checkpoint
    if remembered is None or (remembered.origin, remembered.size) != (claim.origin, claim.size):
        return False
    if remembered.root != claim.root:
        what = (
            f"the log has shown two trees of one size: this one has root {claim.root.hex()}; you remember "
            f"{remembered.describe()}"
        )
        raise TamperedError(Place(what=what, checkpoint_size=claim.size))
    return True


def _describe(proven: _Proven, level: Level, target: str) -> Report:
    entry, checkpoint = proven.entry, proven.verified.checkpoint
    unproven = [*not_shown_by(level), f"anything about other entries, or after size {checkpoint.size}"]
    unproven.append("that this checkpoint and others you have seen are of one history: verify the log for that")
    unproven.append("that the key was not retired before it signed: only the log tells")
    if entry.sealed:
        unproven.append(_sealed_still(entry.sealed))
    return Report(
        outcome=Outcome.VALID,
        target=target,
        summary=f"{entry.id} ({entry.action}) is entry {proven.receipt.index} of {checkpoint.origin}",
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root,
        level=level,
        counts={"entries": 1, "bytes": len(entry.body), "checkpoints": 1},
        deep=True,
        proven=(
            f"the entry was re-hashed, and {len(proven.receipt.proof)} hashes lead from it to the root that was signed",
            "the entry is canonical and in the entry format",
        ),
        not_proven=tuple(unproven),
        checkpoint=proven.receipt.checkpoint,
    )


def _sealed_still(paths: Collection[str]) -> str:
    return f"the sealed values ({', '.join(sorted(paths))}): only their commitments are logged (--sealed FILE)"


def _opened(report: Report, entry: Entry, openings: Mapping[str, Opening | None]) -> Report:
    """Return the report with the values that were checked, and those that nobody gave."""
    proven = (f"these sealed values are those that were logged: {', '.join(sorted(openings))}",) if openings else ()
    closed = entry.sealed.keys() - openings.keys()
    unproven = [line for line in report.not_proven if line != _sealed_still(entry.sealed)]
    return replace(
        report,
        proven=(*report.proven, *proven),
        not_proven=(*unproven, _sealed_still(closed)) if closed else tuple(unproven),
    )


def _verify_openings(entry: Entry, openings: Mapping[str, Opening | None], target: str) -> None:
    for path, opening in openings.items():
        if path not in entry.sealed:
            raise TamperedError(Place(what=f"the entry seals no value at {path}", entry_id=entry.id, path=target))
        try:
            if opening is not None:
                verify_commitment(entry.sealed[path], salt=opening.salt, path=path, value=opening.value)
        except (Rejected, ValueError) as error:
            raise TamperedError(Place(what=str(error), entry_id=entry.id, path=target)) from error


def _verify_erasure(data: bytes | None, proven: _Proven, trust: Policy, *, require_quorum: bool) -> Entry:
    """Return the entry that erased the subject. Raises Unavailable without one, TamperedError if it proves nothing."""
    if data is None:
        raise Unavailable("values are missing, and nothing says that they were erased: give --erasure RECEIPT")
    erased = _verify(data, trust, None, target="erasure", require_quorum=require_quorum)
    same_log = erased.verified.checkpoint.origin == proven.verified.checkpoint.origin
    same_subject = proven.entry.subject is not None and erased.entry.subject == proven.entry.subject
    if not (
        same_log and same_subject and erased.entry.action == ERASED and erased.receipt.index > proven.receipt.index
    ):
        what = f"is no later {ERASED} of the same subject in the same log"
        raise TamperedError(Place(what=what, entry_index=erased.receipt.index, path="erasure"))
    return erased.entry


def _erased(report: Report, missing: list[str], erasure: Entry) -> Report:
    return replace(
        report,
        outcome=Outcome.ERASED,
        summary=f"{report.summary}; its sealed values ({', '.join(missing)}) were erased by {erasure.id}",
        proven=(*report.proven, f"{erasure.id} ({ERASED}) is in the log after it"),
    )
