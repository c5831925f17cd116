"""Signed notes, keys, checkpoints and cosignatures: who signed, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.errors import Malformed, Rejected, TooLarge
from app.tlog.checkpoint import Checkpoint, format_checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from app.tlog.cosignature import (
    MAX_TIMESTAMP_S,
    Cosignature,
    cosigned_message,
    sign_cosignature,
    verify_cosignatures,
)
from app.tlog.encoding import parse_base64, parse_decimal
from app.tlog.note import (
    COSIGNATURE_V1,
    ED25519,
    NoKnownSignature,
    SignatureError,
    SignatureLine,
    SignedNote,
    VerifierKey,
    format_note,
    format_vkey,
    key_id,
    parse_note,
    parse_signatures,
    parse_vkey,
    reject_small_order,
    sign_note,
    verify_note,
)
from tests.parts.tlog_samples import LOG, NOW_S, ORIGIN, WITNESSES, Signer, make_checkpoint, make_leaves, make_signed

LEAVES = make_leaves(20)
NOTE = make_signed(LEAVES)
TEXT = NOTE.text
LINE = NOTE.signatures[0]
P = 2**255 - 19
D = -121_665 * pow(121_666, -1, P) % P


def _add(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    """Edwards addition by its textbook formula: a second opinion on which points are weak."""
    (x1, y1), (x2, y2) = one, two
    cross = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + cross, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - cross, -1, P) % P,
    )


def _multiply(count: int, point: tuple[int, int]) -> tuple[int, int]:
    total = (0, 1)
    for bit in f"{count:b}":
        total = _add(total, total)
        if bit == "1":
            total = _add(total, point)
    return total


def _decode_point(encoded: bytes) -> tuple[int, int] | None:
    """Decompress as RFC 8032 does, but let y exceed p and let x = 0 have a sign."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return (P - x if x and x & 1 != sign else x), y


def _spell_small_order_points() -> set[bytes]:
    """Return every encoding of every point of the 8-torsion, found by multiplying random points by the prime order."""
    prime_order = 2**252 + 27742317777372353535851937790883648493
    points: set[tuple[int, int]] = set()
    for y in range(2, 60):
        point = _decode_point(y.to_bytes(32, "little"))
        if point is not None:
            points.add(_multiply(prime_order, point))
    assert len(points) == 8
    assert all(_multiply(8, point) == (0, 1) for point in points)
    spelled = set()
    for _, y in points:
        for number in (y, y + P):
            if number < 2**255:
                spelled |= {(number | sign << 255).to_bytes(32, "little") for sign in (0, 1)}
    return spelled


def test_every_spelling_of_every_small_order_point_is_refused_as_a_key() -> None:
    spelled = _spell_small_order_points()
    assert len(spelled) == 14
    for encoded in spelled:
        with pytest.raises(Malformed, match="small order"):
            reject_small_order(encoded)


def test_a_key_with_a_small_order_part_or_off_the_curve_or_too_long_is_refused() -> None:
    torsion = _decode_point(bytes(32))
    honest = _decode_point(LOG.key.public_key)
    assert torsion is not None
    assert honest is not None
    x, y = _add(honest, torsion)
    mixed = (y | (x & 1) << 255).to_bytes(32, "little")
    for encoded in (mixed, b"\x02" + bytes(31), b"\xff" * 32):
        with pytest.raises(Malformed, match="prime order"):
            reject_small_order(encoded)
    for encoded in (b"", LOG.key.public_key + b"\x00"):
        with pytest.raises(Malformed, match="32 bytes"):
            reject_small_order(encoded)


def test_a_weak_key_can_be_neither_built_nor_parsed() -> None:
    with pytest.raises(Malformed):
        VerifierKey(name="weak", algorithm=ED25519, public_key=bytes(32))
    weak = key_id("weak", ED25519, bytes(32)).hex()
    with pytest.raises(Malformed):
        parse_vkey(f"weak+{weak}+{'AQ' + 'A' * 42}")


def test_a_key_survives_being_spelled_even_with_a_plus_in_its_base64() -> None:
    spelled = [format_vkey(Signer("n.example", seed=seed).key) for seed in range(1, 60)]
    assert any(vkey.count("+") > 2 for vkey in spelled)
    assert [format_vkey(parse_vkey(vkey)) for vkey in spelled] == spelled


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\u00a0b", "a\u2003", "a\u0085", "a\n", "a\x01", "x" * 256, "\ud800"]
)
def test_a_key_name_that_a_note_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(Rejected):
        replace(LOG.key, name=name)


def test_a_vkey_with_another_id_or_type_or_no_key_is_refused() -> None:
    name, spelled_id, encoded = format_vkey(LOG.key).split("+", 2)
    for vkey in (
        f"{name}+{spelled_id.upper()}+{encoded}",
        f"{name}+00000000+{encoded}",
        f"{name}+{spelled_id}+",
        f"{name}+{spelled_id}",
        name,
        f"{name}+{spelled_id}+{encoded} ",
    ):
        with pytest.raises(Malformed):
            parse_vkey(vkey)
    with pytest.raises(Malformed, match="not supported"):
        replace(LOG.key, algorithm=0x06)


def test_a_signature_by_an_unknown_key_is_ignored() -> None:
    stranger = make_signed(LEAVES, log=Signer(ORIGIN, seed=9)).signatures[0]
    assert verify_note(NOTE.add(stranger), [LOG.key]) == (LOG.key,)


def test_a_name_alone_or_an_id_alone_does_not_make_a_key_known() -> None:
    for line in (replace(LINE, key_id=b"1234"), replace(LINE, name="other.example")):
        with pytest.raises(NoKnownSignature):
            verify_note(replace(NOTE, signatures=(line,)), [LOG.key])


def test_one_false_signature_of_a_known_key_rejects_the_whole_note() -> None:
    second = Signer("second.example", seed=2)
    false = SignatureLine(name="second.example", key_id=second.key.key_id, signature=LINE.signature)
    with pytest.raises(SignatureError, match="false"):
        verify_note(NOTE.add(false), [LOG.key, second.key])
    with pytest.raises(SignatureError, match="64 bytes"):
        verify_note(NOTE.add(replace(false, signature=b"short")), [LOG.key, second.key])
    with pytest.raises(SignatureError, match="false"):
        verify_note(NOTE.add(replace(LINE, signature=bytes(64))), [LOG.key])


def test_a_note_signed_by_nobody_known_is_rejected() -> None:
    for keys in ([], [Signer(ORIGIN, seed=9).key], [WITNESSES[0].key]):
        with pytest.raises(NoKnownSignature):
            verify_note(NOTE, keys)


def test_a_key_that_signed_twice_counts_once() -> None:
    assert verify_note(NOTE.add(LINE), [LOG.key, LOG.key]) == (LOG.key,)


def test_two_keys_that_share_name_and_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.tlog.note.key_id", lambda *_: b"same")
    with pytest.raises(Malformed, match="one id"):
        verify_note(NOTE, [LOG.key, Signer(ORIGIN, seed=9).key])


def test_a_text_signed_from_a_seed_verifies() -> None:
    note = sign_note(b"any text\n\nwith blank lines\n\n", ORIGIN, (1).to_bytes(32, "big"))
    assert verify_note(parse_note(format_note(note)), [LOG.key]) == (LOG.key,)


def test_a_note_of_16_signatures_is_accepted_and_one_of_101_is_not() -> None:
    cosigned = [Signer(f"w{n}.example", seed=200 + n) for n in range(99)]
    lines = [replace(LINE, name=by.key.name, key_id=by.key.key_id) for by in cosigned]
    for count in (15, 99):
        data = format_note(NOTE.add(*lines[:count]))
        assert verify_note(parse_note(data), [LOG.key]) == (LOG.key,)
    with pytest.raises(Malformed):
        NOTE.add(*lines, LINE)
    with pytest.raises(Malformed):
        parse_note(format_note(NOTE) + b"".join(format_note(NOTE).splitlines(keepends=True)[-1:] * 100))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\n",
        b"text\n\n- name QUJDREVGRw==\n",
        b"text\n\n\xe2\x80\x94 name\n",
        b"text\n\n\xe2\x80\x94 name QUJDREVGRw==",
        b"text\n\n\xe2\x80\x94 name QUJDREVGRx==\n",
        b"text\n\n\xe2\x80\x94 name QUJDRA==\n",
        b"text\n\n\xe2\x80\x94 name QUJD\n",
        b"text\n\n\xe2\x80\x94  QUJDREVGRw==\n",
        b"text\n\n\xe2\x80\x94 a b QUJDREVGRw==\n",
        b"te\txt\n\n\xe2\x80\x94 name QUJDREVGRw==\n",
        b"te\rxt\n\n\xe2\x80\x94 name QUJDREVGRw==\n",
        b"te\xffxt\n\n\xe2\x80\x94 name QUJDREVGRw==\n",
        b"text\n\n\xe2\x80\x94 name QUJDREVGRw==\n\xe2\x80\x94 name QUJDREVGRw==",
    ],
)
def test_bytes_that_are_no_note_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_note(data)


def test_a_note_splits_at_its_last_blank_line() -> None:
    data = b"\n\n\n\n\xe2\x80\x94 name QUJDREVGRw==\n"
    assert parse_note(data).text == b"\n\n\n"
    assert format_note(parse_note(data)) == data


def test_a_note_of_more_than_a_mebibyte_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        parse_note(b"\xff" * 1_048_577)


def test_a_signature_too_long_for_any_algorithm_is_refused() -> None:
    with pytest.raises(Malformed):
        replace(LINE, signature=b"x" * 8_193)
    with pytest.raises(Malformed):
        replace(LINE, key_id=b"x")
    with pytest.raises(Malformed):
        parse_signatures(b"")


@pytest.mark.parametrize("text", [b"", b"no newline", b"\x00\n", b"\xff\n"])
def test_a_text_that_cannot_be_a_note_is_never_signed(text: bytes) -> None:
    with pytest.raises(Malformed):
        SignedNote(text=text, signatures=(LINE,))
    with pytest.raises(Malformed):
        sign_note(text, ORIGIN, bytes(32))


def test_a_rotated_log_opens_with_either_of_its_keys_or_both() -> None:
    new = Signer(ORIGIN, seed=2)
    both = NOTE.add(*make_signed(LEAVES, log=new).signatures)
    for keys in ([LOG.key], [new.key], [LOG.key, new.key]):
        opened = open_checkpoint(format_note(both), keys)
        assert opened.checkpoint == make_checkpoint(LEAVES)
        assert list(opened.log_keys) == keys


def test_a_log_cannot_sign_a_checkpoint_of_another_origin() -> None:
    other = Signer("other.example", seed=3)
    forged = sign_note(TEXT, "other.example", (3).to_bytes(32, "big"))
    with pytest.raises(NoKnownSignature, match="not by the log"):
        open_checkpoint(format_note(forged), [LOG.key, other.key])
    with pytest.raises(Malformed, match="named as its origin"):
        sign_checkpoint(make_checkpoint(LEAVES), other.key, other.sign)


def test_a_signature_by_the_wrong_key_never_leaves_the_signer() -> None:
    with pytest.raises(SignatureError):
        sign_checkpoint(make_checkpoint(LEAVES), LOG.key, Signer(ORIGIN, seed=2).sign)
    with pytest.raises(SignatureError):
        sign_cosignature(TEXT, WITNESSES[0].key, NOW_S, WITNESSES[1].sign)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": ""},
        {"origin": "two\nlines"},
        {"origin": "x" * 256},
        {"origin": "\udc80"},
        {"size": -1},
        {"size": 2**63},
        {"root": bytes(31)},
        {"extensions": ("",)},
        {"extensions": ("a\nb",)},
        {"extensions": ("x" * 1_025,)},
        {"extensions": ("x",) * 17},
    ],
)
def test_a_checkpoint_that_would_read_otherwise_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(Rejected):
        replace(make_checkpoint(LEAVES), **change)  # type: ignore[arg-type]  # one bad field each


@pytest.mark.parametrize(
    "size", [b"+1", b" 1", b"1 ", b"01", b"-0", b"1_0", b"", b"\xd9\xa1", b"9223372036854775808", b"9" * 5_000]
)
def test_a_size_has_one_spelling(size: bytes) -> None:
    lines = TEXT.split(b"\n")
    with pytest.raises(Malformed):
        parse_checkpoint(b"\n".join([lines[0], size, *lines[2:]]))


@pytest.mark.parametrize("text", [b"", b"a\n", b"a\n1\n", TEXT[:-1], TEXT + b"\n", TEXT[:-2] + b"\n"])
def test_a_checkpoint_has_three_whole_lines(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse_checkpoint(text)


def test_the_largest_checkpoint_with_extensions_survives() -> None:
    checkpoint = Checkpoint(origin="go.sum database tree", size=2**63 - 1, root=bytes(32), extensions=("a", "b \u2014"))
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    "text", ["QQ", "QQ=", "QR==", "QQ==\n", " QQ==", "Q-==", "QQ==QQ==", "====", "\u00e9", "\udc80"]
)
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(Malformed):
        parse_base64(text)
    assert parse_base64("QQ==") == b"A"
    assert parse_base64("") == b""


def test_a_decimal_is_bounded() -> None:
    assert parse_decimal("18446744073709551615", 2**64 - 1) == 2**64 - 1
    for text in ("18446744073709551616", "\u00b2"):
        with pytest.raises(Malformed):
            parse_decimal(text, 2**64 - 1)


def test_a_cosignature_is_verified_with_its_time() -> None:
    note = make_signed(LEAVES, WITNESSES[:2])
    keys = [witness.key for witness in WITNESSES]
    expected = tuple(Cosignature(key=key, timestamp_s=NOW_S) for key in keys[:2])
    assert verify_cosignatures(note, keys) == expected
    assert cosigned_message(TEXT, NOW_S) == b"cosignature/v1\ntime 1767139200\n" + TEXT
    assert len(note.signatures[1].key_id + note.signatures[1].signature) == 76


def test_a_note_without_cosignatures_has_none_and_a_log_key_is_no_cosigner() -> None:
    assert verify_cosignatures(NOTE, [WITNESSES[0].key, LOG.key]) == ()
    with pytest.raises(Malformed, match="cosigner"):
        sign_cosignature(TEXT, LOG.key, NOW_S, LOG.sign)


def test_a_witness_that_cosigned_twice_counts_once_with_the_first() -> None:
    witness = WITNESSES[0]
    later = sign_cosignature(TEXT, witness.key, NOW_S + 9, witness.sign)
    note = make_signed(LEAVES, [witness]).add(later)
    assert verify_cosignatures(note, [witness.key]) == (Cosignature(key=witness.key, timestamp_s=NOW_S),)


@pytest.mark.parametrize("damage", ["time", "signature", "short", "far future"])
def test_a_false_cosignature_of_a_known_witness_rejects_the_note(damage: str) -> None:
    line = sign_cosignature(TEXT, WITNESSES[0].key, NOW_S, WITNESSES[0].sign)
    blob = {
        "time": (NOW_S + 1).to_bytes(8, "big") + line.signature[8:],
        "signature": line.signature[:-1] + bytes([line.signature[-1] ^ 1]),
        "short": line.signature[:-1],
        "far future": (2**63).to_bytes(8, "big") + line.signature[8:],
    }[damage]
    with pytest.raises(SignatureError):
        verify_cosignatures(NOTE.add(replace(line, signature=blob)), [WITNESSES[0].key])


@pytest.mark.parametrize("timestamp_s", [-1, MAX_TIMESTAMP_S + 1])
def test_a_time_that_the_format_cannot_hold_is_never_cosigned(timestamp_s: int) -> None:
    with pytest.raises(Malformed):
        sign_cosignature(TEXT, WITNESSES[0].key, timestamp_s, WITNESSES[0].sign)


def test_a_cosignature_does_not_pass_for_the_log_itself() -> None:
    both = Signer(ORIGIN, COSIGNATURE_V1)
    cosignature = sign_cosignature(TEXT, both.key, NOW_S, both.sign)
    with pytest.raises(NoKnownSignature):
        verify_note(SignedNote(text=TEXT, signatures=(cosignature,)), [LOG.key, both.key])
