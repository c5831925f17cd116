"""Signatures of archives, as OPA verifies them: one JWT that names every file with its hash (`.signatures.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from app.errors import Refused
from app.policy.archive import Unpacked, format_archive, hash_signed_file, list_signed_files
from app.policy.bundle import Bundle

HASH: Final = "SHA-256"


class BundleSigner(Protocol):
    """The key that signs archives, and the keys whose signatures we believe."""

    @property
    def key_id(self) -> str:
        """The name of the signing key, by which OPA finds the public half in its configuration."""
        ...

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a JWT of these claims, the same for the same claims."""
        ...

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a JWT. Raises Refused unless a key that we believe has signed it."""
        ...


def sign_archive(bundle: Bundle, *, tests: Mapping[str, bytes], signer: BundleSigner) -> bytes:
    """Return the signed archive of a bundle, and of tests if there are any."""
    return format_archive(bundle, tests=tests, signature=signer.sign({"files": _list_hashes(bundle, tests)}))


def verify_archive(unpacked: Unpacked, signer: BundleSigner) -> None:
    """Raise Refused (`bundle_signature_invalid`) unless a key that we believe signed exactly this content."""
    if unpacked.signature is None:
        raise _invalid("it is not signed")
    claims = signer.verify(unpacked.signature)
    named = claims.get("files")
    if not isinstance(named, list) or not all(isinstance(each, dict) for each in named):
        raise _invalid("the signature names no files")
    expected = _list_hashes(unpacked.bundle, unpacked.tests)
    if sorted(map(_as_pairs, named)) != sorted(map(_as_pairs, expected)):
        raise _invalid("the signature names other files, or other contents")


def _list_hashes(bundle: Bundle, tests: Mapping[str, bytes]) -> list[dict[str, str]]:
    files = list_signed_files(bundle, tests)
    return [{"name": path, "hash": hash_signed_file(path, files[path]), "algorithm": HASH} for path in sorted(files)]


def _as_pairs(file: Mapping[str, Any]) -> list[tuple[str, str]]:
    return sorted((key, str(value)) for key, value in file.items())


def _invalid(problem: str) -> Refused:
    return Refused(f"the archive's signature does not hold: {problem}", code="bundle_signature_invalid")
