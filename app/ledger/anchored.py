"""The anchor, compared with the database: is what we last signed still there?"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import Broken
from app.ledger.ports import Head
from app.tlog.checkpoint import Checkpoint, open_checkpoint
from app.tlog.note import parse_vkey
from app.tlog.tile import ReadTile, root_from_tiles


class AnchorMismatchError(Broken):
    """The database and the anchor disagree about what we signed: nothing may be signed until a person has looked."""

    code = "anchor_mismatch"

    def __init__(self, message: str, *, lost_from: int | None = None, lost_to: int | None = None) -> None:
        """The entries [lost_from, lost_to) are covered by a signed checkpoint and not in the database, if known."""
        super().__init__(message)
        self.lost_from = lost_from
        self.lost_to = lost_to


def open_own_checkpoint(origin: str, note: bytes, known: Sequence[str]) -> Checkpoint:
    """Return a checkpoint of `origin` that one of our `known` verifier keys has signed. Raises otherwise."""
    checkpoint = open_checkpoint(note, [parse_vkey(text) for text in known]).checkpoint
    if checkpoint.origin != origin:
        raise AnchorMismatchError(f"a checkpoint of {checkpoint.origin} where one of {origin} was expected")
    return checkpoint


def verify_anchored(
    origin: str,
    anchored: bytes | None,
    *,
    head: Head,
    exposed_size: int,
    known: Sequence[str],
    read_tile: ReadTile,
) -> None:
    """Raise AnchorMismatchError unless `anchored`, what we last signed, is a prefix of the tree under `head`.

    `exposed_size` is that of the newest exposed checkpoint: a log that exposed one and has no anchor is refused too.
    """
    if anchored is None:
        if exposed_size:
            raise AnchorMismatchError(
                f"{origin}: the anchor is missing, and this log has signed checkpoints; restore it from its backup, "
                "or run `assay ledger recover`"
            )
        return
    signed = open_own_checkpoint(origin, anchored, known)
    if signed.size > head.size:
        raise AnchorMismatchError(
            f"{origin}: entries {head.size} to {signed.size - 1} were signed and are not in this database, which looks "
            "like an older backup or a copy; run `assay ledger recover`",
            lost_from=head.size,
            lost_to=signed.size,
        )
    if root_from_tiles(signed.size, read_tile) != signed.root:
        raise AnchorMismatchError(
            f"{origin}: the first {signed.size} entries are not those that were signed; a copy of this database has "
            "signed others. Run `assay ledger recover`",
            lost_to=signed.size,
        )
