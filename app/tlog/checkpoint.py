"""Checkpoints: a log's signed statement of its size and root (C2SP tlog-checkpoint).

The log's key is named as its origin (tlog-policy requires it, tlog-checkpoint recommends it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.errors import Malformed
from app.tlog.encoding import format_base64, parse_base64, parse_decimal, parse_text, require_line
from app.tlog.note import (
    MAX_NAME_BYTES,
    MAX_NOTE_BYTES,
    NoKnownSignature,
    SignatureLine,
    SignedNote,
    VerifierKey,
    parse_note,
    verify_note,
)
from app.tlog.tree import HASH_SIZE, MAX_SIZE

MAX_EXTENSIONS = 16  # lines
MAX_EXTENSION_BYTES = 1_024  # each
_FIXED_LINES = 3

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The log `origin` has `size` entries under `root`. Extension lines are not for our own use."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_line(self.origin, MAX_NAME_BYTES, "an origin")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_SIZE:
            raise Malformed("a checkpoint whose size or root is out of range")
        if len(self.extensions) > MAX_EXTENSIONS:
            raise Malformed(f"a checkpoint with more than {MAX_EXTENSIONS} extension lines")
        for line in self.extensions:
            require_line(line, MAX_EXTENSION_BYTES, "an extension line")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCheckpoint:
    """A checkpoint that `log_keys`, one or more, have signed; the note may carry more, not yet verified."""

    checkpoint: Checkpoint
    log_keys: tuple[VerifierKey, ...]
    note: SignedNote


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Return the checkpoint of a note's text; raise unless it is spelled as `format_checkpoint` would."""
    lines = parse_text(text, MAX_NOTE_BYTES).split("\n")
    if len(lines) <= _FIXED_LINES or lines.pop():
        raise Malformed("a checkpoint has three lines or more, each ending with a newline")
    origin, size, root, *extensions = lines
    return Checkpoint(
        origin=origin,
        size=parse_decimal(size, MAX_SIZE),
        root=parse_base64(root),
        extensions=tuple(extensions),
    )


def format_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the text that a log signs."""
    lines = (
        checkpoint.origin,
        str(checkpoint.size),
        format_base64(checkpoint.root),
        *checkpoint.extensions,
    )
    return "".join(f"{line}\n" for line in lines).encode()


def sign_checkpoint(checkpoint: Checkpoint, key: VerifierKey, sign: Sign) -> SignedNote:
    """Return the checkpoint signed: `sign` gives the Ed25519 signature of its argument by `key`.

    The signature is verified before it leaves: a signing service may answer with another key's.
    Never call this with a checkpoint that does not extend the last one signed.
    """
    if key.name != checkpoint.origin:
        raise Malformed("a log's key is named as its origin")
    text = format_checkpoint(checkpoint)
    line = SignatureLine(name=key.name, key_id=key.key_id, signature=sign(text))
    note = SignedNote(text=text, signatures=(line,))
    verify_note(note, [key])
    return note


def open_checkpoint(data: bytes, log_keys: Iterable[VerifierKey]) -> OpenedCheckpoint:
    """Return the checkpoint of a signed note by one of `log_keys` that is named as the origin.

    Give every key that the log may use: after a rotation there are several.
    """
    note = parse_note(data)
    signers = verify_note(note, log_keys)
    checkpoint = parse_checkpoint(note.text)
    named = tuple(key for key in signers if key.name == checkpoint.origin)
    if not named:
        raise NoKnownSignature("signed by a known key, but not by the log that it names")
    return OpenedCheckpoint(checkpoint=checkpoint, log_keys=named, note=note)
