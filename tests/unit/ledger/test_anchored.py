"""The anchor against the database: anything but a prefix refuses to sign, and says what is lost."""

from __future__ import annotations

import pytest

from app.errors import AssayError, Rejected
from app.ledger.anchored import AnchorMismatchError, open_own_checkpoint, verify_anchored
from app.ledger.ports import Head, Tenant
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from app.tlog.note import SignatureLine, SignedNote, format_note
from app.tlog.tile import TreeEdge
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.ledger import OTHER, TENANT, Keys
from tests.parts.tlog_samples import make_reader

LEAVES = [leaf_hash(b"%d" % number) for number in range(10)]
FORK = [*LEAVES[:3], leaf_hash(b"another"), *LEAVES[4:]]
KNOWN = Keys().known(TENANT)


def sign(size: int, leaves: list[bytes] = LEAVES, *, tenant: Tenant = TENANT) -> bytes:
    text = format_checkpoint(Checkpoint(origin=tenant.origin, size=size, root=root_of(leaves[:size])))
    signer = Keys().active(tenant)[0]
    line = SignatureLine(name=signer.key.name, key_id=signer.key.key_id, signature=signer.sign(text))
    return format_note(SignedNote(text=text, signatures=(line,)))


def verify(anchored: bytes | None, *, size: int = 10, exposed_size: int = 0) -> None:
    verify_anchored(
        TENANT.origin,
        anchored,
        head=Head(size=size, root=root_of(LEAVES[:size])),
        exposed_size=exposed_size,
        known=KNOWN,
        read_tile=make_reader(TreeEdge().append(LEAVES[:size])[1]),
    )


@pytest.mark.parametrize("size", [1, 3, 9, 10])
def test_a_prefix_of_the_head_is_in_order(size) -> None:
    verify(sign(size), exposed_size=size)


def test_a_log_that_never_signed_needs_no_anchor() -> None:
    verify(None)
    verify(None, size=0)


def test_a_log_that_signed_and_has_no_anchor_is_refused() -> None:
    with pytest.raises(AnchorMismatchError, match="assay ledger recover"):
        verify(None, exposed_size=1)


@pytest.mark.parametrize("size", [0, 1, 7, 9])
def test_an_older_database_is_refused_and_the_lost_range_named(size) -> None:
    with pytest.raises(AnchorMismatchError, match=f"entries {size} to 9 were signed") as caught:
        verify(sign(10), size=size)
    assert (caught.value.lost_from, caught.value.lost_to) == (size, 10)
    assert caught.value.code == "anchor_mismatch"


def test_a_database_with_other_entries_is_refused() -> None:
    verify(sign(3, FORK))
    with pytest.raises(AnchorMismatchError, match="not those that were signed"):
        verify(sign(4, FORK))


def test_an_anchor_that_we_did_not_sign_is_refused() -> None:
    forged = sign(5).replace(b"\n5\n", b"\n4\n")
    for note in (b"", b"x", sign(5)[:-10], forged, sign(5, tenant=OTHER)):
        with pytest.raises(AssayError):
            verify(note)


def test_a_checkpoint_of_another_log_under_our_own_key_is_refused() -> None:
    with pytest.raises(Rejected):
        open_own_checkpoint(TENANT.origin, sign(5), Keys().known(OTHER))
    with pytest.raises(AnchorMismatchError):
        open_own_checkpoint(TENANT.origin, sign(5, tenant=OTHER), [*KNOWN, *Keys().known(OTHER)])
