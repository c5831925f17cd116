"""Receipts: one file that proves offline that an entry is in the log (C2SP tlog-proof, a draft)."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import Malformed, TooLarge
from app.tlog.encoding import format_base64, parse_base64, parse_decimal, parse_text
from app.tlog.note import MAX_NOTE_BYTES
from app.tlog.policy import Policy, VerifiedCheckpoint
from app.tlog.proof import MAX_INCLUSION_HASHES, verify_inclusion
from app.tlog.tree import MAX_SIZE, require_hashes

MAX_EXTRA_BYTES = 131_072  # room for the largest entry and what opens it
MAX_HEAD_BYTES = 2 * MAX_EXTRA_BYTES  # base64 of that, and the hashes
_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The entry at `index` is in the tree of `checkpoint`, a signed note kept as it came.

    Nobody vouches for `extra`: use it only to rebuild the leaf hash, or as a hint.
    """

    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE or len(self.proof) > MAX_INCLUSION_HASHES:
            raise Malformed("a receipt whose index or proof is out of range")
        require_hashes(self.proof)
        if not 1 <= len(self.checkpoint) <= MAX_NOTE_BYTES or len(self.extra or b"") > MAX_EXTRA_BYTES:
            raise TooLarge("a receipt without a checkpoint, or with too long a part")


def parse_receipt(data: bytes) -> Receipt:
    """Return the receipt; raise unless it is spelled as `format_receipt` would. Nothing is verified yet."""
    head, blank, checkpoint = data.partition(b"\n\n")
    header, *lines = parse_text(head, MAX_HEAD_BYTES).split("\n")
    if header != _HEADER or not blank:
        raise Malformed("not a tlog-proof of version 1")
    extra = parse_base64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else None
    if not lines or not lines[0].startswith("index "):
        raise Malformed("a receipt without an index")
    return Receipt(
        index=parse_decimal(lines[0][6:], MAX_SIZE),
        proof=tuple(parse_base64(line) for line in lines[1:]),
        checkpoint=checkpoint,
        extra=extra,
    )


def format_receipt(receipt: Receipt) -> bytes:
    """Return the bytes of a `.tlog-proof` file."""
    extra = [] if receipt.extra is None else [f"extra {format_base64(receipt.extra)}"]
    lines = [_HEADER, *extra, f"index {receipt.index}", *map(format_base64, receipt.proof)]
    return "\n".join(lines).encode() + b"\n\n" + receipt.checkpoint


def verify_receipt(receipt: Receipt, leaf: bytes, policy: Policy, *, require_quorum: bool = True) -> VerifiedCheckpoint:
    """Return the checkpoint, having verified all: signatures, quorum, and the leaf hash at its index; else raise.

    The caller computes `leaf` from the entry itself. With `require_quorum=False` a missing quorum is only reported.
    """
    verified = policy.verify_checkpoint(receipt.checkpoint, require_quorum=require_quorum)
    verify_inclusion(
        index=receipt.index,
        size=verified.checkpoint.size,
        leaf=leaf,
        proof=receipt.proof,
        root=verified.checkpoint.root,
    )
    return verified
