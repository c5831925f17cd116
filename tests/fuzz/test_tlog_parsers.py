"""Every parser of untrusted bytes: it refuses in one way, and what it accepts has one spelling."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import Rejected
from app.tlog.checkpoint import format_checkpoint, open_checkpoint, parse_checkpoint
from app.tlog.encoding import format_base64, parse_base64, parse_decimal
from app.tlog.note import (
    format_note,
    format_signatures,
    format_vkey,
    parse_note,
    parse_signatures,
    parse_vkey,
)
from app.tlog.policy import format_policy, parse_policy
from app.tlog.proof import ProofError, verify_consistency, verify_growth, verify_inclusion
from app.tlog.receipt import format_receipt, parse_receipt, verify_receipt
from app.tlog.tile import expand_tile, format_bundle, parse_bundle, parse_tile_path, tile_path
from tests.parts.tlog_samples import LOG, POLICY, WITNESSES, make_leaves, make_receipt, make_signed

FUZZ = settings(deadline=None, max_examples=int(os.environ.get("ASSAY_FUZZ_EXAMPLES", "80")))
LEAVES = make_leaves(300)
NOTE = make_signed(LEAVES, WITNESSES)
RECEIPT = make_receipt(77, LEAVES)
ENTRIES = [b"", b"one", b"\n" * 40]
MAX_SIZE = 2**63 - 1


def _text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: parse(data.decode(errors="surrogateescape"))


PARSERS: dict[str, tuple[bytes, Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    "note": (format_note(NOTE), parse_note, format_note),
    "signatures": (format_signatures(NOTE.signatures), parse_signatures, format_signatures),
    "checkpoint": (NOTE.text, parse_checkpoint, format_checkpoint),
    "extended checkpoint": (NOTE.text + b"key value\n", parse_checkpoint, format_checkpoint),
    "vkey": (format_vkey(LOG.key).encode(), _text(parse_vkey), lambda key: format_vkey(key).encode()),
    "receipt": (format_receipt(RECEIPT), parse_receipt, format_receipt),
    "bundle": (format_bundle(ENTRIES), lambda data: parse_bundle(data, len(ENTRIES)), format_bundle),
    "tile": (b"".join(LEAVES[:3]), expand_tile, lambda tile: tile.data),
    "tile path": (b"tile/0/x001/234.p/56", _text(parse_tile_path), lambda tile: tile_path(tile).encode()),
    "bundle path": (b"tile/entries/x001/234", _text(parse_tile_path), lambda tile: tile_path(tile).encode()),
    "base64": (b"AAECAw==", _text(parse_base64), lambda data: format_base64(data).encode()),
    "decimal": (b"1234", _text(lambda text: parse_decimal(text, MAX_SIZE)), lambda n: str(n).encode()),
}
SNIPPETS = [b"\n", b"\n\n", b" ", b"+", b"=", b"0", b"-1", b"\xe2\x80\x94 ", b"\x00", b"\xff", b"\xc2\x85", b"x000/"]


@st.composite
def mutations(draw: st.DrawFn, valid: bytes) -> bytes:
    """Return the valid bytes after up to four small accidents."""
    data = valid
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + draw(st.sampled_from([0, 1, 1, 40])))))
        inserted = draw(st.sampled_from([b"", data[begin:end] * 2, *SNIPPETS]) | st.binary(min_size=1, max_size=3))
        data = data[:begin] + inserted + data[end:]
    return data


def _accepts_only_its_own_spelling(name: str, data: bytes) -> None:
    _, parse, spell = PARSERS[name]
    try:
        value = parse(data)
    except Rejected:
        return
    assert spell(value) == data


@pytest.mark.parametrize("name", PARSERS)
def test_a_valid_sample_is_accepted_and_spelled_as_it_was(name: str) -> None:
    sample, parse, spell = PARSERS[name]
    assert spell(parse(sample)) == sample


@pytest.mark.parametrize("name", PARSERS)
@FUZZ
@given(data=st.binary(max_size=400))
@example(data=b"")
@example(data=b"\n")
@example(data=b"\n\n")
@example(data=b"9" * 5_000)
def test_arbitrary_bytes_are_refused_or_have_one_spelling(name: str, data: bytes) -> None:
    _accepts_only_its_own_spelling(name, data)


@pytest.mark.parametrize("name", PARSERS)
@FUZZ
@given(data=st.data())
def test_damaged_samples_are_refused_or_have_one_spelling(name: str, data: st.DataObject) -> None:
    _accepts_only_its_own_spelling(name, data.draw(mutations(PARSERS[name][0])))


@FUZZ
@given(data=st.binary(max_size=300) | mutations(format_policy(POLICY)))
@example(data=b"quorum none\n")
@example(data=b"# \xff\n\t quorum\tnone \n")
def test_a_policy_is_refused_or_survives_a_round_trip(data: bytes) -> None:
    try:
        policy = parse_policy(data)
    except Rejected:
        return
    assert parse_policy(format_policy(policy)) == policy


@FUZZ
@given(data=mutations(format_note(NOTE)))
def test_a_damaged_checkpoint_opens_as_the_one_that_was_signed_or_not_at_all(data: bytes) -> None:
    try:
        opened = open_checkpoint(data, [LOG.key])
    except Rejected:
        return
    assert opened.note.text == NOTE.text


@FUZZ
@given(data=mutations(format_receipt(RECEIPT)))
def test_a_damaged_receipt_proves_what_it_proved_or_nothing(data: bytes) -> None:
    try:
        receipt = parse_receipt(data)
        verified = verify_receipt(receipt, LEAVES[77], POLICY)
    except Rejected:
        return
    assert (receipt.index, receipt.proof) == (RECEIPT.index, RECEIPT.proof)
    assert verified.checkpoint == parse_checkpoint(NOTE.text)


integers = st.integers(-2, 70) | st.integers() | st.sampled_from([MAX_SIZE, MAX_SIZE + 1, 2**63 - 2])
hashes = st.binary(min_size=32, max_size=32) | st.binary(max_size=40)
proofs = st.lists(st.sampled_from([*LEAVES[:3], b""]) | hashes, max_size=70)


@FUZZ
@given(first=integers, second=integers, ends=st.tuples(hashes, hashes), proof=proofs)
def test_a_made_up_proof_only_ever_raises_a_proof_error(
    first: int, second: int, ends: tuple[bytes, bytes], proof: list[bytes]
) -> None:
    left, right = ends
    with pytest.raises(ProofError):
        verify_inclusion(index=first, size=second, leaf=left, root=right + b"\x00", proof=proof)
    for verify in (verify_consistency, verify_growth):
        try:
            verify(old_size=first, new_size=second, old_root=left, new_root=right, proof=proof)
        except ProofError:
            continue
        assert first == 0 or left == right
