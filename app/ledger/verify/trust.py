"""Which keys count: those of the auditor's trust file, and those that they vouch for through the log's own entries.

A key that the auditor does not have is "could not check"; a signature of a known key that is false is tampering, and
so is a true one that stands under another name or key id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from app.errors import Malformed, Rejected, Unavailable
from app.ledger.canonical import parse_json
from app.ledger.entry import ENTRY_LIMIT_BYTES
from app.ledger.keys import KEY_ACTIONS, KeyEntry, KeyHistory, KeyHistoryError, extend_trust, read_history
from app.ledger.verify.report import Place, TamperedError
from app.tlog.checkpoint import Checkpoint, parse_checkpoint
from app.tlog.cosignature import cosigned_message
from app.tlog.note import (
    COSIGNATURE_V1,
    SIGNATURE_BYTES,
    NoKnownSignature,
    SignatureError,
    SignatureLine,
    SignedNote,
    VerifierKey,
    parse_note,
    parse_vkey,
    verify_note,
)
from app.tlog.policy import Log, Policy, VerifiedCheckpoint, parse_policy

_TIMESTAMP_BYTES = 8


class KeyMissingError(Unavailable):
    """Signed by nobody whose key the auditor has: get the key out of band, then verify again."""

    code = "key_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A stored checkpoint whose signatures by `signers` hold; none if they are strangers."""

    size: int
    checkpoint: Checkpoint
    note: bytes
    signers: tuple[VerifierKey, ...]


def read_trust(file: bytes | None, vkeys: Sequence[str]) -> Policy:
    """Return the policy of a trust file (tlog-policy) and more log keys. Raises Malformed."""
    policy = Policy(logs=()) if file is None else parse_policy(file)
    known = {log.key for log in policy.logs}
    added = [key for key in dict.fromkeys(map(parse_vkey, vkeys)) if key not in known]
    return with_keys(policy, added)


def with_keys(policy: Policy, keys: Iterable[VerifierKey]) -> Policy:
    """Return the policy with more log keys."""
    return replace(policy, logs=(*policy.logs, *(Log(key=key) for key in keys)))


def log_keys(policy: Policy) -> frozenset[VerifierKey]:
    """Return the keys of the policy's logs."""
    return frozenset(log.key for log in policy.logs)


def read_claim(note: bytes, place: str) -> Checkpoint:
    """Return what a stored note claims, before anything is verified. Raises TamperedError if it is no checkpoint."""
    return _read_note(note, place)[1]


def _read_note(note: bytes, place: str) -> tuple[SignedNote, Checkpoint]:
    try:
        parsed = parse_note(note)
        return parsed, parse_checkpoint(parsed.text)
    except Rejected as error:
        raise TamperedError(Place(what=f"not a checkpoint: {error}", path=place)) from error


def verify_signed(note: bytes, keys: Collection[VerifierKey], cosigners: Collection[VerifierKey], place: str) -> Signed:
    """Return the checkpoint with those of `keys` that signed it, perhaps none.

    Raises TamperedError for a false signature of a known key, or a true one under another's name.
    """
    parsed, claim = _read_note(note, place)
    try:
        signers = tuple(key for key in verify_note(parsed, keys) if key.name == claim.origin)
    except NoKnownSignature:
        signers = ()
    except SignatureError as error:
        raise TamperedError(Place(what=str(error), checkpoint_size=claim.size, path=place)) from error
    for line in parsed.signatures:
        key = _find_disguised(parsed, line, [*keys, *cosigners])
        if key is not None:
            what = f"a true signature of {key.name} stands under another name or key id"
            raise TamperedError(Place(what=what, checkpoint_size=claim.size, path=place))
    return Signed(size=claim.size, checkpoint=claim, note=note, signers=signers)


def verify_newest(note: bytes, policy: Policy, place: str) -> VerifiedCheckpoint:
    """Return the newest checkpoint, verified by the policy; a missing quorum is only reported in the value.

    Raises TamperedError, or KeyMissingError if nobody has signed whom the policy knows.
    """
    keys, cosigners = log_keys(policy), [witness.key for witness in policy.witnesses]
    signed = verify_signed(note, keys, cosigners, place)
    if not signed.signers:
        raise KeyMissingError(_who_signed(note, signed.checkpoint))
    try:
        return policy.verify_checkpoint(note, require_quorum=False)
    except SignatureError as error:
        raise TamperedError(Place(what=str(error), checkpoint_size=signed.size, path=place)) from error


def read_key_history(origin: str, watched: Iterable[tuple[int, bytes]]) -> KeyHistory | None:
    """Return the life of the log's keys as its entries tell it; None if no entry speaks of keys.

    Raises TamperedError at the first entry that no log can have.
    """
    entries = [entry for index, body in watched if (entry := _find_key_entry(index, body))]
    if all(entry.vkey is None for entry in entries):
        return None
    try:
        return read_history(origin, entries)
    except KeyHistoryError as error:
        raise TamperedError(Place(what=str(error), entry_index=_blamed(origin, entries))) from error


def extend_policy(policy: Policy, history: KeyHistory, checkpoints: Sequence[Signed]) -> Policy:
    """Return the policy with the keys that those it trusts have vouched for."""
    known = log_keys(policy)
    trusted = extend_trust(known, history, [(signed.size, signed.signers) for signed in checkpoints])
    return with_keys(policy, sorted(trusted - known, key=lambda key: key.key_id))


def verify_signer_was_valid(history: KeyHistory, signed: Signed, place: str) -> None:
    """Raise TamperedError unless a key signed that could, at that size."""
    try:
        history.verify_signed_by_valid_key(signed.size, signed.signers)
    except SignatureError as error:
        raise TamperedError(Place(what=str(error), checkpoint_size=signed.size, path=place)) from error


def _find_key_entry(index: int, body: bytes) -> KeyEntry | None:
    try:
        document = parse_json(body, limit_bytes=ENTRY_LIMIT_BYTES)
        action = document["action"]
        vkey = document["data"].get("vkey")
    except (Rejected, LookupError, TypeError, AttributeError):
        return None
    return KeyEntry(index=index, action=action, vkey=vkey) if action in KEY_ACTIONS else None


def _blamed(origin: str, entries: Sequence[KeyEntry]) -> int:
    """Return the index of the first entry that makes the history impossible."""
    history = KeyHistory(origin=origin)
    for entry in entries:
        try:
            history = history.add(entry)
        except KeyHistoryError:
            return entry.index
    return entries[-1].index


def _find_disguised(note: SignedNote, line: SignatureLine, keys: Iterable[VerifierKey]) -> VerifierKey | None:
    """Return the key that made a signature which claims to be another's: one changed byte makes a stranger of it."""
    for key in keys:
        if (line.name, line.key_id) == (key.name, key.key_id):
            continue
        message, signature = note.text, line.signature
        try:
            if key.algorithm == COSIGNATURE_V1:
                message = cosigned_message(message, int.from_bytes(signature[:_TIMESTAMP_BYTES], "big"))
                signature = signature[_TIMESTAMP_BYTES:]
            if len(signature) == SIGNATURE_BYTES:
                key.verify(message, signature)
                return key
        except (SignatureError, Malformed):
            continue
    return None


def _who_signed(note: bytes, checkpoint: Checkpoint) -> str:
    names = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in parse_note(note).signatures[:4])
    return (
        f"the checkpoint of {checkpoint.origin} is signed by {names}, and you have none of these keys; "
        "get the log's verifier key from the operator by another way than this log, and pass it as --key or --trust"
    )
