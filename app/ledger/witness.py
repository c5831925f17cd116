"""A witness: it cosigns a log's checkpoint only if that extends the last one it cosigned (C2SP tlog-witness).

The rules are those of `add-checkpoint`, in this order; each error is one answer of the protocol:

    Malformed, TooLarge     400   the body is not as it should be, or `old` is more than the checkpoint's size
    NotFound                404   an origin that this witness does not know
    SignatureError          403   no signature by a trusted key of the log, or a false one
    WitnessConflictError    409   `old` is not the size last cosigned; it carries that size
    ProofError              422   the proof does not hold, or another root at the same size

Only what is already stored durably is answered. A crash between storing and answering leaves a cosigned checkpoint
that nobody has seen: the log asks again and gets 409, or, at the same size, a newer cosignature.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.errors import Broken, Malformed, NotFound, Rejected, TooLarge
from app.ledger.ports import Anchor, WitnessConflictError
from app.tlog.checkpoint import Checkpoint, Sign, parse_checkpoint
from app.tlog.cosignature import sign_cosignature, verify_cosignatures
from app.tlog.encoding import format_base64, parse_base64, parse_decimal, parse_text
from app.tlog.note import (
    COSIGNATURE_V1,
    ED25519,
    SignatureError,
    SignatureLine,
    SignedNote,
    VerifierKey,
    find_known,
    format_note,
    format_signatures,
    parse_note,
    parse_vkey,
    verify_note,
)
from app.tlog.proof import ProofError, verify_growth
from app.tlog.tree import EMPTY_ROOT, HASH_SIZE, MAX_SIZE

MAX_PROOF_HASHES = 63  # tlog-witness; enough for every tree of up to 2**63 leaves
MAX_BODY_BYTES = 131_072  # the proof has 3 kB; a checkpoint with 16 post-quantum signatures 60 kB
MAX_LOGS = 10_000
MAX_LOGS_BYTES = 4_194_304
_OLD = "old "


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """A request: `proof` shows that `note`, a signed checkpoint, extends the tree of `old_size`. Nothing verified."""

    old_size: int
    proof: tuple[bytes, ...]
    note: SignedNote
    checkpoint: Checkpoint


class Witness:
    """One witness with one key. Safe to share between threads and, through the state's lock, between processes."""

    def __init__(
        self,
        *,
        key: VerifierKey,
        sign: Sign,
        logs: Mapping[str, Sequence[VerifierKey]],
        state: Anchor,
        now: Callable[[], datetime],
    ) -> None:
        """`logs`: the trusted keys of each origin. `state` holds the last cosigned checkpoint of each origin."""
        if key.algorithm != COSIGNATURE_V1:
            raise Malformed("a witness's key is for cosignature/v1 (type 0x04)")
        self._key = key
        self._sign = sign
        self._logs = logs
        self._state = state
        self._now = now

    def add_checkpoint(self, body: bytes) -> bytes:
        """Return the signature lines for the checkpoint in `body`, when it is stored. Raises as the module says.

        Raises Unavailable when the state cannot be locked or written, and Broken when it is damaged: nothing is
        cosigned then.
        """
        request = parse_request(body)
        checkpoint = request.checkpoint
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            raise NotFound("unknown log")
        signed = _only_signed_by(request.note, keys)
        if request.old_size > checkpoint.size:
            raise Malformed("invalid input: the old size is larger than the checkpoint's")

        with self._state.hold(checkpoint.origin):
            stored, stored_at_s = self._read_state(checkpoint.origin)
            check_growth(stored, request)
            timestamp_s = max(int(self._now().timestamp()), stored_at_s)
            line = self._cosign(signed.text, timestamp_s)
            self._state.write(checkpoint.origin, format_note(signed.add(line)))
        return format_signatures([line])

    def find_checkpoint(self, origin: str) -> bytes | None:
        """Return the last cosigned checkpoint of a known origin, for monitors; None if there is none."""
        return self._state.find(origin) if origin in self._logs else None

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins that this witness knows."""
        return tuple(self._logs)

    def _cosign(self, text: bytes, timestamp_s: int) -> SignatureLine:
        try:
            return sign_cosignature(text, self._key, timestamp_s, self._sign)
        except SignatureError as error:  # ours, and nothing that the log could do better
            raise Broken(f"the witness's signer answered with a false signature: {error}", code="signer") from error

    def _read_state(self, origin: str) -> tuple[Checkpoint, int]:
        """Return what was last cosigned and when; the empty tree at time 0 at first. Raises Broken if it is damaged."""
        data = self._state.find(origin)
        if data is None:
            return Checkpoint(origin=origin, size=0, root=EMPTY_ROOT), 0
        try:
            note = parse_note(data)
            stored = parse_checkpoint(note.text)
            cosignatures = verify_cosignatures(note, [self._key])
        except Rejected as error:
            raise Broken(f"the witness's state of {origin} is damaged: {error}", code="witness_state") from error
        if stored.origin != origin or not cosignatures:
            raise Broken(f"the witness's state of {origin} was not cosigned by this witness", code="witness_state")
        return stored, cosignatures[0].timestamp_s


def check_growth(stored: Checkpoint, request: AddCheckpoint) -> None:
    """Raise unless the request's checkpoint extends what is stored: WitnessConflictError or ProofError."""
    if request.old_size != stored.size:
        raise WitnessConflictError(stored.size)
    try:
        verify_growth(
            old_size=stored.size,
            new_size=request.checkpoint.size,
            old_root=stored.root,
            new_root=request.checkpoint.root,
            proof=request.proof,
        )
    except ProofError as error:
        raise ProofError(f"consistency proof: {error}") from error


def parse_request(body: bytes) -> AddCheckpoint:
    """Return the request of an `add-checkpoint` body: `old` line, proof lines, blank line, signed checkpoint."""
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"invalid input: more than {MAX_BODY_BYTES} bytes")
    head, blank, data = body.partition(b"\n\n")
    try:
        if not blank:
            raise Malformed("no blank line before the checkpoint")
        old_size, proof = _parse_head(head)
        note = parse_note(_respell_signatures(data))
    except Rejected as error:
        raise Malformed(f"invalid input: {error}") from error
    try:
        checkpoint = parse_checkpoint(note.text)
    except Rejected as error:
        raise Malformed(f"invalid checkpoint: {error}") from error
    return AddCheckpoint(old_size=old_size, proof=proof, note=note, checkpoint=checkpoint)


def format_request(old_size: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Return the body of an `add-checkpoint` request. Requires `len(proof) <= 63`."""
    lines = [f"{_OLD}{old_size}", *map(format_base64, proof)]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + checkpoint


def parse_logs(data: bytes) -> dict[str, tuple[VerifierKey, ...]]:
    """Return the trusted keys of each origin from `log <vkey>` lines; `#` begins a comment line.

    The `log` line of tlog-policy; a URL after the key is passed over. Raises Malformed, naming the line.
    """
    logs: dict[str, tuple[VerifierKey, ...]] = {}
    for number, line in enumerate(parse_text(data, MAX_LOGS_BYTES).split("\n"), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key = _parse_log(words)
        except Rejected as error:
            raise Malformed(f"line {number}: {error}") from error
        logs[key.name] = (*logs.get(key.name, ()), key)
    if len(logs) > MAX_LOGS:
        raise TooLarge(f"more than {MAX_LOGS} logs")
    return logs


def _parse_log(words: Sequence[str]) -> VerifierKey:
    if words[0] != "log" or not 2 <= len(words) <= 3:  # noqa: PLR2004 -- the keyword, the key and perhaps a URL
        raise Malformed("not a line `log <vkey>`")
    key = parse_vkey(words[1])
    if key.algorithm != ED25519:
        raise Malformed("a log's key is for Ed25519 notes (type 0x01)")
    return key


def _parse_head(head: bytes) -> tuple[int, tuple[bytes, ...]]:
    old, *hashes = parse_text(head, MAX_BODY_BYTES).split("\n")
    if not old.startswith(_OLD):
        raise Malformed("no line `old <size>`")
    if len(hashes) > MAX_PROOF_HASHES:
        raise Malformed(f"a proof of more than {MAX_PROOF_HASHES} hashes")
    proof = tuple(parse_base64(line) for line in hashes)
    if any(len(value) != HASH_SIZE for value in proof):
        raise Malformed(f"a hash that is not {HASH_SIZE} bytes")
    return parse_decimal(old.removeprefix(_OLD), MAX_SIZE), proof


def _only_signed_by(note: SignedNote, keys: Sequence[VerifierKey]) -> SignedNote:
    """Return the note with the signatures by `keys` alone, verified: what a stranger added is not passed on."""
    try:
        verify_note(note, keys)
    except SignatureError as error:
        raise SignatureError(f"invalid signature: {error}") from error
    return SignedNote(text=note.text, signatures=tuple(line for _, line in find_known(note, keys)))


def _respell_signatures(note: bytes) -> bytes:
    """Return the note with the base64 of its signatures spelled canonically.

    Other logs may leave stray bits in it, which Go's decoder ignores and our own parser refuses, rightly where a
    receipt must not have two spellings. Here it is the signature that must decide: 403, not 400. What is not base64
    at all stays, for the parser to refuse.
    """
    text, blank, lines = note.rpartition(b"\n\n")
    return text + blank + b"\n".join(_respell_line(line) for line in lines.split(b"\n"))


def _respell_line(line: bytes) -> bytes:
    name, space, encoded = line.rpartition(b" ")
    try:
        return name + space + format_base64(a2b_base64(encoded, strict_mode=True)).encode()
    except ValueError:
        return line
