"""Wycheproof's Ed25519 signatures, through the one function that verifies signatures."""

from __future__ import annotations

import json
from pathlib import Path

from app.tlog.note import ED25519, SignatureError, VerifierKey


def _verdict(key: VerifierKey, message: bytes, signature: bytes) -> str:
    try:
        key.verify(message, signature)
    except SignatureError:
        return "invalid"
    return "valid"


def test_all_151_wycheproof_signatures_get_their_verdict(shared_dir: Path) -> None:
    vectors = json.loads((shared_dir / "vectors/wycheproof/ed25519_test.json").read_bytes())
    seen, wrong = 0, []
    for group in vectors["testGroups"]:
        key = VerifierKey(name="w", algorithm=ED25519, public_key=bytes.fromhex(group["publicKey"]["pk"]))
        for test in group["tests"]:
            seen += 1
            if _verdict(key, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])) != test["result"]:
                wrong.append(test["tcId"])
    assert (seen, wrong) == (151, [])
