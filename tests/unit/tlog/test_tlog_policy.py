"""The trust file and the receipt: what a verifier believes, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.errors import Malformed, Rejected, TooLarge
from app.tlog.note import COSIGNATURE_V1, NoKnownSignature, SignatureError, format_note, format_vkey
from app.tlog.policy import Group, Log, Policy, QuorumNotMet, Witness, format_policy, parse_policy
from app.tlog.proof import ProofError
from app.tlog.receipt import Receipt, format_receipt, parse_receipt, verify_receipt
from tests.parts.tlog_samples import (
    LOG,
    NOW_S,
    ORIGIN,
    POLICY,
    WITNESSES,
    Signer,
    make_leaves,
    make_receipt,
    make_signed,
)

LEAVES = make_leaves(20)
RECEIPT = make_receipt(7, LEAVES)
LOG_LINE = f"log {format_vkey(LOG.key)}\n"
W = [f"witness w{n} {format_vkey(witness.key)}\n" for n, witness in enumerate(WITNESSES)]


def _read(*lines: str) -> Policy:
    return parse_policy("".join(lines).encode())


def _signed_by(*witnesses: int) -> bytes:
    return format_note(make_signed(LEAVES, [WITNESSES[n] for n in witnesses]))


@pytest.mark.parametrize(
    ("signers", "met"),
    [((), False), ((0, 1), False), ((0, 3), False), ((0, 1, 3), True), ((1, 2, 3), True), ((0, 1, 2, 3), True)],
)
def test_a_quorum_of_nested_groups_is_counted(signers: tuple[int, ...], met: bool) -> None:
    verified = POLICY.verify_checkpoint(_signed_by(*signers), require_quorum=False)
    assert verified.quorum_met is met
    assert [by.key for by in verified.cosignatures] == [WITNESSES[n].key for n in signers]
    assert {by.timestamp_s for by in verified.cosignatures} <= {NOW_S}
    if met:
        assert POLICY.verify_checkpoint(_signed_by(*signers)) == verified
    else:
        with pytest.raises(QuorumNotMet):
            POLICY.verify_checkpoint(_signed_by(*signers))


def test_the_words_any_and_all_are_numbers() -> None:
    policy = _read(*W, "group some any w0 w1\n", "group every all w2 w3\n", "group one 1 some every\n", "quorum one\n")
    assert [group.threshold for group in policy.groups] == [1, 2, 1]


def test_a_single_witness_can_be_the_quorum() -> None:
    policy = _read(LOG_LINE, W[0], W[1], "quorum w1\n")
    assert policy.verify_checkpoint(_signed_by(1)).quorum_met
    with pytest.raises(QuorumNotMet):
        policy.verify_checkpoint(_signed_by(0))


def test_no_quorum_is_met_by_the_log_alone_and_still_needs_the_log() -> None:
    policy = Policy(logs=(Log(key=LOG.key),))
    assert policy.verify_checkpoint(_signed_by()).cosignatures == ()
    with pytest.raises(NoKnownSignature):
        Policy(logs=()).verify_checkpoint(_signed_by(0, 1, 2, 3))


def test_a_quorum_of_witnesses_does_not_stand_in_for_the_log() -> None:
    with pytest.raises(NoKnownSignature):
        replace(POLICY, logs=(Log(key=Signer(ORIGIN, seed=9).key),)).verify_checkpoint(_signed_by(0, 1, 2, 3))


def test_a_false_cosignature_rejects_the_checkpoint_even_when_the_quorum_is_met() -> None:
    note = make_signed(LEAVES, WITNESSES)
    *lines, last = note.signatures
    false = replace(note, signatures=(*lines, replace(last, signature=lines[-1].signature)))
    with pytest.raises(SignatureError):
        _read(LOG_LINE, *W, "group g any w0 w1 w2 w3\nquorum g\n").verify_checkpoint(format_note(false))


def test_a_policy_survives_its_own_spelling() -> None:
    assert parse_policy(format_policy(POLICY)) == POLICY
    spelled = b"# c\n \t \n\tlog  %s\thttp://x/ \n quorum\tnone\n" % format_vkey(LOG.key).encode()
    assert parse_policy(spelled) == Policy(logs=(Log(key=LOG.key, url="http://x/"),))


def test_names_are_octets_and_look_alikes_are_two() -> None:
    lines = b"witness \xff " + format_vkey(WITNESSES[0].key).encode() + b"\n"
    lines += b"witness \xe2\x84\xaa " + format_vkey(WITNESSES[1].key).encode() + b"\n"
    lines += (
        b"witness K " + format_vkey(WITNESSES[2].key).encode() + b"\ngroup g\xc2\xa0 all \xff K\nquorum g\xc2\xa0\n"
    )
    assert format_policy(parse_policy(lines)) == lines.replace(b" all ", b" 2 ")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "newline"),
        (["quorum none"], "newline"),
        (["\n"], "quorum line"),
        (["quorum none\r\n"], "control"),
        (["quorum \x7f\n"], "control"),
        (["quorum none\nquorum none\n"], "line 2"),
        (["quorum\n"], "line 1"),
        (["quorum none none\n"], "line 1"),
        (["QUORUM none\n"], "line 1"),
        (["quorum w0\n", W[0]], "line 1"),
        (["\n# x\nlog nonsense\nquorum none\n"], "line 3"),
        (["log\n"], "line 1"),
        ([LOG_LINE[:-1] + " http://a http://b\n"], "line 1"),
        ([LOG_LINE, LOG_LINE], "line 2: a log's key stands twice"),
        ([LOG_LINE, f"log {format_vkey(Signer('renamed').key)}\n"], "line 2: a log's key stands twice"),
        ([f"log {format_vkey(WITNESSES[0].key)}\n"], "line 1"),
        (["witness w\n"], "line 1"),
        ([f"witness w {format_vkey(LOG.key)}\n"], "line 1"),
        ([W[0], W[0]], "line 2"),
        ([W[0], W[0].replace("w0", "w9", 1)], "line 2"),
        ([W[0], W[1].replace("w1", "w0", 1)], "line 2: a name"),
        ([W[0].replace("w0", "none", 1)], "line 1: a name"),
        ([W[0], "group none any w0\n"], "line 2: a name"),
        ([W[0], "group w0 any w0\n"], "line 2: a name"),
        ([W[0], "group g any\n"], "line 2"),
        ([W[0], "group g any w0 w0\n"], "line 2: a member"),
        ([W[0], "group g any w0\ngroup h any w0\n"], "line 3: a member"),
        ([W[0], "group g any w0 unknown\n"], "line 2: a member"),
        ([W[0], "group g any w0 none\n"], "line 2: a member"),
        ([W[0], "group g any g\n"], "line 2: a member"),
        ([W[0], "group g any h\ngroup h any w0\n"], "line 2: a member"),
        ([W[0], "group g 0 w0\n"], "line 2"),
        ([W[0], "group g 2 w0\n"], "line 2"),
        ([W[0], "group g 01 w0\n"], "line 2"),
        ([W[0], "group g most w0\n"], "line 2"),
    ],
)
def test_a_line_that_is_not_understood_rejects_the_policy_and_is_named(lines: list[str], why: str) -> None:
    with pytest.raises(Malformed, match=why):
        _read(*lines)


def test_a_policy_has_bounds() -> None:
    with pytest.raises(TooLarge):
        _read("\n" * 1_025)
    with pytest.raises(TooLarge):
        _read("#" + "x" * 262_144 + "\n")
    logs = [f"log {format_vkey(Signer(ORIGIN, seed=n).key)}\n" for n in range(1, 66)]
    witnesses = [f"witness w{n} {format_vkey(Signer('w', COSIGNATURE_V1, n).key)}\n" for n in range(1, 66)]
    assert len(_read(*logs[:64], *witnesses[:64], "quorum none\n").logs) == 64
    for lines in (logs, witnesses):
        with pytest.raises(Malformed, match="line 65"):
            _read(*lines)


def test_groups_nested_as_deep_as_allowed_are_counted_and_one_more_is_refused() -> None:
    groups = ["group g0 all w0\n"] + [f"group g{n} all g{n - 1}\n" for n in range(1, 65)]
    policy = _read(LOG_LINE, W[0], *groups[:64], "quorum g63\n")
    assert policy.verify_checkpoint(_signed_by(0)).quorum_met
    with pytest.raises(Malformed, match="more than 64 groups"):
        _read(LOG_LINE, W[0], *groups, "quorum g64\n")


def test_a_policy_built_by_hand_cannot_count_a_witness_twice() -> None:
    one, two = (Witness(name=f"w{n}", key=WITNESSES[n].key) for n in range(2))
    pair = Group(name="g", threshold=1, members=("w0",))
    for parts in (
        {"witnesses": (one, replace(two, key=one.key))},
        {"witnesses": (one, replace(two, name="w0"))},
        {"witnesses": (one,), "groups": (replace(pair, name="w0"),)},
        {"witnesses": (one,), "groups": (pair, replace(pair, name="h"))},
    ):
        with pytest.raises(Malformed):
            Policy(logs=(), quorum="none", **parts)  # type: ignore[arg-type]  # parts are of two types
    with pytest.raises(Malformed):
        replace(pair, threshold=0)


def test_a_quorum_that_nobody_defines_is_never_met() -> None:
    with pytest.raises(QuorumNotMet):
        replace(POLICY, quorum="missing").verify_checkpoint(_signed_by(0, 1, 2, 3))


def test_a_receipt_proves_its_entry() -> None:
    receipt = parse_receipt(format_receipt(RECEIPT))
    assert receipt == RECEIPT
    verified = verify_receipt(receipt, LEAVES[7], POLICY)
    assert (verified.checkpoint.size, verified.quorum_met, verified.log_keys) == (20, True, (LOG.key,))


def test_the_receipt_of_the_only_entry_has_no_hashes() -> None:
    receipt = make_receipt(0, LEAVES[:1])
    assert receipt.proof == ()
    verify_receipt(parse_receipt(format_receipt(receipt)), LEAVES[0], POLICY)


def test_a_receipt_for_another_entry_place_log_or_proof_fails() -> None:
    other = Policy(logs=(Log(key=Signer("other.example", seed=5).key),))
    for receipt, leaf, policy, error in (
        (RECEIPT, LEAVES[8], POLICY, ProofError),
        (replace(RECEIPT, index=8), LEAVES[7], POLICY, ProofError),
        (replace(RECEIPT, index=20), LEAVES[7], POLICY, ProofError),
        (replace(RECEIPT, proof=RECEIPT.proof[:-1]), LEAVES[7], POLICY, ProofError),
        (RECEIPT, LEAVES[7], other, NoKnownSignature),
        (replace(RECEIPT, checkpoint=_signed_by(0, 3)), LEAVES[7], POLICY, QuorumNotMet),
        (replace(RECEIPT, checkpoint=b"no note\n"), LEAVES[7], POLICY, Malformed),
    ):
        with pytest.raises(error):
            verify_receipt(receipt, leaf, policy)


def test_a_receipt_without_quorum_can_be_verified_only_when_asked_and_says_so() -> None:
    lonely = make_receipt(7, LEAVES, cosigners=[])
    assert not verify_receipt(lonely, LEAVES[7], POLICY, require_quorum=False).quorum_met


def test_extra_is_a_hint_that_nobody_vouches_for() -> None:
    for extra in (None, b"", b"anything"):
        receipt = replace(RECEIPT, extra=extra)
        assert parse_receipt(format_receipt(receipt)) == receipt
        verify_receipt(receipt, LEAVES[7], POLICY)


@pytest.mark.parametrize(
    "change",
    [
        {"index": -1},
        {"index": 2**63 - 1},
        {"proof": (bytes(32),) * 64},
        {"proof": (bytes(31),)},
        {"checkpoint": b""},
        {"checkpoint": b"x" * 1_048_577},
        {"extra": b"x" * 131_073},
    ],
)
def test_a_receipt_has_bounds(change: dict[str, object]) -> None:
    with pytest.raises(Rejected):
        replace(RECEIPT, **change)  # type: ignore[arg-type]  # one bad field each


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"c2sp.org/tlog-proof@v2\nindex 0",
        b"c2sp.org/tlog-proof@v1",
        b"c2sp.org/tlog-proof@v1\nindex",
        b"c2sp.org/tlog-proof@v1\nindex 00",
        b"c2sp.org/tlog-proof@v1\nindex 0\nextra QQ==",
        b"c2sp.org/tlog-proof@v1\nextra QQ==\nextra QQ==\nindex 0",
        b"c2sp.org/tlog-proof@v1\nextra QR==\nindex 0",
        b"c2sp.org/tlog-proof@v1\r\nindex 0",
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + b"A" * 270_000,
    ],
)
def test_bytes_that_are_no_receipt_are_refused(head: bytes) -> None:
    with pytest.raises(Rejected):
        parse_receipt(head + b"\n\n" + RECEIPT.checkpoint)


def test_a_receipt_cut_before_its_checkpoint_is_refused() -> None:
    data = format_receipt(RECEIPT)
    for end in range(data.index(b"\n\n") + 3):
        with pytest.raises(Rejected):
            parse_receipt(data[:end])


def test_the_largest_receipt_can_be_read_back() -> None:
    receipt = Receipt(index=2**63 - 2, proof=(bytes(32),) * 63, checkpoint=b"x" * 1_048_576, extra=b"x" * 131_072)
    assert parse_receipt(format_receipt(receipt)) == receipt
