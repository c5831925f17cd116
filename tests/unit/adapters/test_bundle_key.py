"""The key that signs archives: closed, deterministic, and never confused with another."""

from __future__ import annotations

import base64
import json
import stat

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.adapters.bundle_key import PUBLIC_SUFFIX, SIGNING_FILE, FileBundleSigner, create_bundle_key
from app.errors import Broken, Refused, Unavailable

CLAIMS = {"files": [{"name": "a", "hash": "b", "algorithm": "SHA-256"}]}


@pytest.fixture
def folder(tmp_path):
    create_bundle_key(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def signer(folder):
    return FileBundleSigner(folder)


def test_a_key_is_made_once_and_closed_to_others(folder) -> None:
    before = (folder / SIGNING_FILE).read_bytes()
    assert create_bundle_key(folder) is None
    assert (folder / SIGNING_FILE).read_bytes() == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_the_same_claims_give_the_same_signature_that_anybody_can_check(signer) -> None:
    token = signer.sign(CLAIMS)
    assert signer.sign(dict(reversed(CLAIMS.items()))) == token
    assert jwt.decode(token, signer.public_pem, algorithms=["ES256"]) == CLAIMS
    assert jwt.get_unverified_header(token)["kid"] == signer.key_id
    assert signer.verify(token) == CLAIMS


def test_a_key_put_beside_ours_is_believed_and_does_not_sign(signer, folder, tmp_path) -> None:
    create_bundle_key(tmp_path / "theirs")
    theirs = FileBundleSigner(tmp_path / "theirs")
    with pytest.raises(Refused, match="not believed"):
        signer.verify(theirs.sign(CLAIMS))
    [public] = (tmp_path / "theirs").glob(f"*{PUBLIC_SUFFIX}")
    (folder / public.name).write_bytes(public.read_bytes())
    both = FileBundleSigner(folder)
    assert both.verify(theirs.sign(CLAIMS)) == CLAIMS
    assert both.key_id == signer.key_id


def _encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_no_other_algorithm_and_no_altered_token_is_believed(signer) -> None:
    token = signer.sign(CLAIMS)
    header, payload, signature = token.split(".")
    none = _encode({"alg": "none", "kid": signer.key_id})
    hmac = jwt.encode(CLAIMS, "k" * 32, algorithm="HS256", headers={"kid": signer.key_id})
    other = jwt.encode(CLAIMS, ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": signer.key_id})
    forged = [f"{none}.{payload}.", f"{none}.{payload}.{signature}", hmac, other, f"{header}.{_encode([])}.{signature}"]
    forged += [
        token[:-4],
        f"{token}A",
        f"{header}.{payload}",
        "",
        "a.b.c",
        "é.é.é",
        f"{_encode([])}.{payload}.{signature}",
    ]
    forged += [f"{_encode({'alg': 'ES256', 'kid': ['x']})}.{payload}.{signature}"]
    for each in forged:
        with pytest.raises(Refused) as refused:
            signer.verify(each)
        assert refused.value.code == "bundle_signature_invalid"


def test_without_a_key_the_way_out_is_said(tmp_path) -> None:
    with pytest.raises(Unavailable, match="assay init") as missing:
        FileBundleSigner(tmp_path)
    assert missing.value.code == "bundle_key_missing"


def test_an_open_or_damaged_or_other_key_is_not_used(folder) -> None:
    path = folder / SIGNING_FILE
    path.chmod(0o640)
    with pytest.raises(Broken, match="chmod 600"):
        FileBundleSigner(folder)
    path.chmod(0o600)
    pem = path.read_bytes()
    others = [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())]
    unfit = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in others]
    for data in (b"", pem[:-40], pem.replace(b"P", b"Q"), *unfit):
        path.write_bytes(data)
        with pytest.raises(Broken):
            FileBundleSigner(folder)
    path.write_bytes(pem)
    FileBundleSigner(folder)
    [public] = folder.glob(f"*{PUBLIC_SUFFIX}")
    public.rename(folder / f"{'0' * 16}{PUBLIC_SUFFIX}")
    with pytest.raises(Broken, match="its name"):
        FileBundleSigner(folder)


def test_the_secret_is_in_no_repr(signer, folder) -> None:
    assert repr(signer) == f"FileBundleSigner({signer.key_id})"
