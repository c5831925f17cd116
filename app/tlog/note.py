"""Signed notes and the keys that verify them (C2SP signed-note v1.0.0).

A signature is known when its name and key id are those of a given key. Unknown ones are ignored; one known
signature that fails rejects the whole note; a note without any known signature is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from app.errors import Malformed, Rejected
from app.tlog.encoding import format_base64, parse_base64, parse_text, require_line

ED25519 = 0x01
COSIGNATURE_V1 = 0x04  # Ed25519 over a time and a checkpoint, see `cosignature`
KEY_ID_BYTES = 4
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_SIGNATURES = 100
MAX_SIGNATURE_BYTES = 8_192  # of an unknown algorithm: post-quantum ones have nearly 5 kB
MAX_NAME_BYTES = 255
MAX_NOTE_BYTES = 1_048_576
_DASH = "\u2014 "

# y coordinates of the points of order 1, 2, 4 and 8, and their second encodings, which add p = 2**255 - 19.
_P = 2**255 - 19
_Y_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _P, _P + 1, _Y_ORDER_8, _P - _Y_ORDER_8})


class SignatureError(Rejected):
    """A signature of a known key that is false."""

    code = "signature_invalid"


class NoKnownSignature(SignatureError):
    """Nobody whom the verifier knows has signed."""

    code = "signature_missing"


def reject_small_order(public_key: bytes) -> None:
    """Raise unless the key is a point of prime order: a weak key lets anybody sign, or two texts share a signature."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise Malformed(f"an Ed25519 key has {PUBLIC_KEY_BYTES} bytes")
    if int.from_bytes(public_key, "little") % 2**255 in _SMALL_ORDER_Y:
        raise Malformed("an Ed25519 key of small order")
    if not crypto_core_ed25519_is_valid_point(public_key):
        raise Malformed("an Ed25519 key that is not a point of prime order")


def key_id(name: str, algorithm: int, public_key: bytes) -> bytes:
    """Return the 4 bytes that, with the name, say which key signed."""
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A named Ed25519 key for one kind of signature, never a weak one."""

    name: str
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        _require_name(self.name)
        if self.algorithm not in {ED25519, COSIGNATURE_V1}:
            raise Malformed(f"signature type {self.algorithm} is not supported")
        reject_small_order(self.public_key)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, say which key signed."""
        return key_id(self.name, self.algorithm, self.public_key)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Raise `SignatureError` unless this key signed `message` (RFC 8032)."""
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureError(f"an Ed25519 signature has {SIGNATURE_BYTES} bytes")
        try:
            crypto_sign_open(signature + message, self.public_key)
        except BadSignatureError as error:
            raise SignatureError(f"the signature of {self.name} is false") from error


def parse_vkey(text: str) -> VerifierKey:
    """Return the key spelled `name+key id+base64`; the base64 may itself contain a plus."""
    name, _, rest = text.partition("+")
    spelled_id, _, encoded = rest.partition("+")
    data = parse_base64(encoded)
    if not data:
        raise Malformed("a verifier key without a key")
    key = VerifierKey(name=name, algorithm=data[0], public_key=data[1:])
    if spelled_id != key.key_id.hex():
        raise Malformed("a verifier key whose id is not its own")
    return key


def format_vkey(key: VerifierKey) -> str:
    """Return the key as `name+key id+base64`."""
    return f"{key.name}+{key.key_id.hex()}+{format_base64(bytes([key.algorithm]) + key.public_key)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureLine:
    """One signature of a note, verified or not."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _require_name(self.name)
        if len(self.key_id) != KEY_ID_BYTES or not 1 <= len(self.signature) <= MAX_SIGNATURE_BYTES:
            raise Malformed("a signature that is too short or too long")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedNote:
    """The exact bytes that were signed, and 1 to 100 signatures, not yet verified."""

    text: bytes
    signatures: tuple[SignatureLine, ...]

    def __post_init__(self) -> None:
        parse_text(self.text, MAX_NOTE_BYTES)
        if not self.text.endswith(b"\n"):
            raise Malformed("a note's text ends with a newline")
        _require_count(len(self.signatures))

    def add(self, *signatures: SignatureLine) -> SignedNote:
        """Return the note with more signatures after those it has."""
        return SignedNote(text=self.text, signatures=self.signatures + signatures)


def parse_note(data: bytes) -> SignedNote:
    """Return the note of at most 1 MiB; nothing is verified yet."""
    parse_text(data, MAX_NOTE_BYTES)
    text, blank, lines = data.rpartition(b"\n\n")
    if not blank:
        raise Malformed("a note without a blank line before its signatures")
    return SignedNote(text=text + b"\n", signatures=parse_signatures(lines))


def format_note(note: SignedNote) -> bytes:
    """Return the note's bytes."""
    return note.text + b"\n" + format_signatures(note.signatures)


def parse_signatures(data: bytes) -> tuple[SignatureLine, ...]:
    """Return 1 to 100 signature lines, each ending with a newline: a note's end, or a witness's answer."""
    text = parse_text(data, MAX_NOTE_BYTES)
    if not text.endswith("\n"):
        raise Malformed("a signature line ends with a newline")
    _require_count(text.count("\n"))
    return tuple(_parse_signature(line) for line in text[:-1].split("\n"))


def format_signatures(signatures: Iterable[SignatureLine]) -> bytes:
    """Return the lines, each ending with a newline."""
    lines = [f"{_DASH}{line.name} {format_base64(line.key_id + line.signature)}\n" for line in signatures]
    return "".join(lines).encode()


def verify_note(note: SignedNote, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Return which of `keys` signed the text, at least one; raise `SignatureError` as the module says.

    Keys that are not for plain Ed25519 signatures are passed over: see `cosignature`.
    """
    known = find_known(note, [key for key in keys if key.algorithm == ED25519])
    for key, line in known:
        key.verify(note.text, line.signature)
    if not known:
        raise NoKnownSignature("no signature of a known key")
    return tuple(dict.fromkeys(key for key, _ in known))


def find_known(note: SignedNote, keys: Iterable[VerifierKey]) -> list[tuple[VerifierKey, SignatureLine]]:
    """Return the signatures that claim to be by one of `keys`, unverified, with that key."""
    distinct = set(keys)
    by_id = {(key.name, key.key_id): key for key in distinct}
    if len(by_id) != len(distinct):
        raise Malformed("two keys with one name and one id")
    found = [(by_id.get((line.name, line.key_id)), line) for line in note.signatures]
    return [(key, line) for key, line in found if key is not None]


def sign_note(text: bytes, name: str, seed: bytes) -> SignedNote:
    """Return the text signed by the Ed25519 key of the 32-byte `seed`."""
    signer = SigningKey(seed)
    key = VerifierKey(name=name, algorithm=ED25519, public_key=bytes(signer.verify_key))
    line = SignatureLine(name=name, key_id=key.key_id, signature=signer.sign(text).signature)
    return SignedNote(text=text, signatures=(line,))


def _parse_signature(line: str) -> SignatureLine:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise Malformed("not a signature line")
    data = parse_base64(encoded)
    return SignatureLine(name=name, key_id=data[:KEY_ID_BYTES], signature=data[KEY_ID_BYTES:])


def _require_name(name: str) -> None:
    require_line(name, MAX_NAME_BYTES, "a key name")
    if "+" in name or name.split() != [name]:
        raise Malformed("a key name has no space and no plus")


def _require_count(signatures: int) -> None:
    if not 1 <= signatures <= MAX_SIGNATURES:
        raise Malformed(f"a note has 1 to {MAX_SIGNATURES} signatures")
