"""The key that signs archives: closed, deterministic, and never confused with another."""

from __future__ import annotations

import base64
import json
import stat

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.adapters import bundle_key
from app.adapters.bundle_key import (
    NEXT_FILE,
    PUBLIC_SUFFIX,
    SIGNING_FILE,
    FileBundleSigner,
    create_bundle_key,
    list_bundle_keys,
    retire_bundle_key,
    rotate_bundle_key,
)
from app.errors import AssayError, Broken, Refused, Unavailable

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


def test_a_running_signer_goes_on_with_the_old_key_until_it_is_retired_and_believes_both(signer, folder) -> None:
    before, token = signer.key_id, signer.sign(CLAIMS)
    following = rotate_bundle_key(folder)
    assert rotate_bundle_key(folder) == following
    assert (signer.key_id, signer.sign(CLAIMS)) == (before, token)
    assert [(key.key_id, key.state) for key in list_bundle_keys(folder)] == [
        (before, "signs"),
        (following.key_id, "next"),
    ]
    assert retire_bundle_key(folder, before) == following.key_id
    assert (signer.key_id, signer.public_pem) == (following.key_id, following.public_pem)
    assert jwt.get_unverified_header(signer.sign(CLAIMS))["kid"] == following.key_id
    assert signer.verify(token) == signer.verify(signer.sign(CLAIMS)) == CLAIMS
    assert retire_bundle_key(folder, before) == following.key_id
    assert [key.state for key in list_bundle_keys(folder)] == ["signs", "believed"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_the_private_half_of_a_retired_key_is_gone_even_for_who_holds_its_file_open(signer, folder) -> None:
    rotate_bundle_key(folder)
    with (folder / SIGNING_FILE).open("rb") as old:
        retire_bundle_key(folder, signer.key_id)
        assert old.read().strip() == b""
    assert not (folder / NEXT_FILE).exists()


def test_no_key_is_retired_without_one_to_take_its_place_or_by_another_name(signer, folder) -> None:
    before = (folder / SIGNING_FILE).read_bytes()
    with pytest.raises(AssayError) as alone:
        retire_bundle_key(folder, signer.key_id)
    assert alone.value.code == "key_successor_missing"
    following = rotate_bundle_key(folder)
    for name in (following.key_id, "0" * 16, ""):
        with pytest.raises(AssayError) as unknown:
            retire_bundle_key(folder, name)
        assert unknown.value.code == "key_missing"
    assert (folder / SIGNING_FILE).read_bytes() == before


def test_a_next_key_whose_public_half_was_lost_is_believed_once_it_signs(signer, folder) -> None:
    (folder / (rotate_bundle_key(folder).key_id + PUBLIC_SUFFIX)).unlink()
    retire_bundle_key(folder, signer.key_id)
    assert signer.verify(signer.sign(CLAIMS)) == CLAIMS


def test_keys_have_a_bound(folder, monkeypatch) -> None:
    monkeypatch.setattr(bundle_key, "MAX_PUBLIC_KEYS", 1)
    with pytest.raises(AssayError) as full:
        rotate_bundle_key(folder)
    assert full.value.code == "key_limit"


@pytest.mark.parametrize("step", ["rotate", "retire"])
def test_a_crash_at_any_point_of_a_rotation_leaves_the_old_key_or_the_new_one(folder, monkeypatch, step) -> None:
    """Whatever is made durable is an instant at which the power may go: stop at each in turn, and go on."""
    before = FileBundleSigner(folder).key_id
    token = FileBundleSigner(folder).sign(CLAIMS)
    if step == "retire":
        rotate_bundle_key(folder)
    take = {"rotate": rotate_bundle_key, "retire": lambda folder: retire_bundle_key(folder, before)}[step]
    for stopped_at in range(20):
        with monkeypatch.context() as patched:
            if not _stops(patched, stopped_at, lambda: take(folder)):
                break
        signer = FileBundleSigner(folder)
        assert signer.verify(token) == signer.verify(signer.sign(CLAIMS)) == CLAIMS
        assert [key.state for key in list_bundle_keys(folder)].count("signs") == 1
    assert stopped_at >= 3
    assert (FileBundleSigner(folder).key_id == before) == (step == "rotate")


class _PowerLost(BaseException):
    """The machine stops here."""


def _stops(patched: pytest.MonkeyPatch, at: int, take) -> bool:
    """Say whether the step was stopped at its `at`-th sync."""
    fsync, calls = bundle_key.os.fsync, []

    def stop(file: int) -> None:
        calls.append(file)
        if len(calls) > at:
            raise _PowerLost
        fsync(file)

    patched.setattr(bundle_key.os, "fsync", stop)
    try:
        take()
    except _PowerLost:
        return True
    return False


def test_a_file_is_renamed_into_a_folder_that_is_made_durable(folder, monkeypatch) -> None:
    synced = []
    fsync = bundle_key.os.fsync
    monkeypatch.setattr(bundle_key.os, "fsync", lambda file: (synced.append(bundle_key.os.fstat(file)), fsync(file)))
    rotate_bundle_key(folder)
    assert [stat.S_ISDIR(each.st_mode) for each in synced] == [False, True, False, True]


def test_the_secret_is_in_no_repr(signer, folder) -> None:
    assert repr(signer) == f"FileBundleSigner({signer.key_id})"
