"""OPA itself loads our archives, verifies our signatures, pulls from us, and keeps what it has if one is bad."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server

from app.adapters.bundle_key import BundleKey, retire_bundle_key, rotate_bundle_key
from app.credentials.ports import Scope
from app.policy.archive import format_archive, parse_archive
from app.policy.bundle import make_bundle
from app.policy.signing import sign_archive
from app.wiring import BUNDLE_KEYS, find_shipped
from app.wiring.policies import load_folder
from tests.parts.assay import find_free_port, wait_until
from tests.parts.bundles import make_signer
from tests.parts.web import WebPart, open_web

BUNDLE, TESTS = load_folder(find_shipped("policies"))
NEXT = make_bundle({**BUNDLE.files, "marker/marker.rego": b'package marker\n\nx := "next"\n'}, name="assay")
ODD = make_bundle(
    {
        "a/a.rego": b"package a\n\nx := data.data.d.rows[0]\n",
        "data/d/data.json": (
            '{"version": "1", "rows": ["\u2028\u2029\\u2028 <&> \\u00e9 \\b\\f\\n\\t\\" \\u0001 \U0001f600"],'
            ' "n": [9007199254740991, -1, 0], "z": null, "a": {"": true, "B": [], "a": {}}}'
        ).encode(),
        "data/d/schema.json": b'{"type": "object"  }',
    },
    name="odd",
)
PATIENCE_S = 20


@pytest.fixture
def opa(opa_program):
    return str(opa_program)


@pytest.fixture
def signer(tmp_path):
    return make_signer(tmp_path / "keys")


def load(
    opa: str, folder: Path, archive: bytes, signer, *, key_id: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Let OPA load and verify an archive, as it does before anything else."""
    (folder / "bundle.tar.gz").write_bytes(archive)
    (folder / "key.pem").write_text(signer.public_pem)
    words = [
        "--verification-key",
        "key.pem",
        "--verification-key-id",
        key_id or signer.key_id,
        "--signing-alg",
        "ES256",
    ]
    return subprocess.run(
        [opa, "build", "--bundle", "bundle.tar.gz", *words, "-o", "out.tar.gz"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("bundle", [BUNDLE, ODD], ids=["shipped", "odd"])
@pytest.mark.parametrize("tests", [{}, TESTS], ids=["alone", "with tests"])
def test_opa_verifies_our_signature(opa, tmp_path, signer, bundle, tests) -> None:
    if bundle is ODD and tests:
        tests = {"a/a_test.rego": b"package a_test\n"}
    done = load(opa, tmp_path, sign_archive(bundle, tests=tests, signer=signer), signer)
    assert done.returncode == 0, done.stderr


def test_opa_reads_the_digest_as_the_revision(opa, tmp_path, signer) -> None:
    (tmp_path / "b.tar.gz").write_bytes(sign_archive(BUNDLE, tests={}, signer=signer))
    told = subprocess.run(
        [opa, "inspect", "-f", "json", "b.tar.gz"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["manifest"]["revision"] == BUNDLE.digest


@pytest.mark.parametrize("part", [b'"revision"', b"package kyc", b'"version"', b'"signatures":["'])
def test_opa_refuses_a_flipped_byte_anywhere(opa, tmp_path, signer, part) -> None:
    raw = bytearray(gzip.decompress(sign_archive(BUNDLE, tests={}, signer=signer)))
    raw[raw.index(part) + len(part) + 12] ^= 1
    done = load(opa, tmp_path, gzip.compress(bytes(raw)), signer)
    assert done.returncode != 0


def test_opa_refuses_another_key_an_unsigned_archive_and_a_file_more_or_less(opa, tmp_path, signer) -> None:
    theirs = make_signer(tmp_path / "theirs")
    foreign = sign_archive(BUNDLE, tests={}, signer=theirs)
    assert load(opa, tmp_path, foreign, signer).returncode != 0
    assert load(opa, tmp_path, foreign, signer, key_id=theirs.key_id).returncode != 0
    unsigned = format_archive(BUNDLE, tests={}, signature=None)
    assert load(opa, tmp_path, unsigned, signer).returncode != 0
    token = parse_archive(sign_archive(BUNDLE, tests={}, signer=signer)).signature
    more = format_archive(BUNDLE, tests=TESTS, signature=token)
    assert load(opa, tmp_path, more, signer).returncode != 0
    less = make_bundle({path: BUNDLE.files[path] for path in list(BUNDLE.files)[1:]}, name="assay")
    assert load(opa, tmp_path, format_archive(less, tests={}, signature=token), signer).returncode != 0


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Log nothing."""


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve a WSGI application on loopback while the block runs."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(
    opa: str, folder: Path, url: str, signer, token: str = "none", *, following: BundleKey | None = None
) -> Iterator[str]:
    """Run an OPA server that pulls `assay.tar.gz` from `url` every second; with a `following` key it believes both."""
    keys = {signer.key_id: signer.public_pem} | ({following.key_id: following.public_pem} if following else {})
    config = {
        "services": {"assay": {"url": url, "credentials": {"bearer": {"token": token}}}},
        "bundles": {
            "assay": {
                "service": "assay",
                "resource": "v1/policy/bundles/assay.tar.gz",
                "polling": {"min_delay_seconds": 1, "max_delay_seconds": 1},
                "signing": {} if following else {"keyid": signer.key_id},
            }
        },
        "keys": {key_id: {"algorithm": "ES256", "key": pem} for key_id, pem in keys.items()},
    }
    (folder / "opa.json").write_text(json.dumps(config))
    port = find_free_port()
    words = ["run", "--server", "--addr", f"127.0.0.1:{port}", "--config-file", "opa.json", "--disable-telemetry"]
    with (folder / "opa.log").open("wb") as log:
        process = subprocess.Popen([opa, *words], cwd=folder, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def read_revision(opa_url: str) -> str | None:
    """Return the revision that an OPA server decides by; None before it has one."""
    try:
        said = requests.get(f"{opa_url}/v1/data/routing?provenance=true", timeout=5).json()
    except requests.RequestException:
        return None
    revision: str | None = said.get("provenance", {}).get("bundles", {}).get("assay", {}).get("revision")
    return revision


def promote_next(web: WebPart) -> None:
    """Bring `NEXT` into force in the place of `BUNDLE`."""
    web.installation.policies.life.add("acme", NEXT, TESTS, actor="token:tok_author")
    path = f"/v1/policy/bundles/{NEXT.digest}"
    assert web.post(f"{path}:shadow", json={}).status_code == 200
    approval = {"replaces": BUNDLE.digest, "waive": ["coverage", "parity", "impact"]}
    second = web.issue(Scope.POLICIES_APPROVE)[0]
    assert web.post(f"{path}:activate", json=approval, token=second).status_code == 200


@pytest.mark.slow
def test_an_opa_server_that_was_given_the_next_key_pulls_through_a_rotation(opa, tmp_path) -> None:
    (tmp_path / "state").mkdir()
    with open_web(tmp_path / "state") as web, serving(web.app) as url:
        signer, token = web.installation.policies.signer, web.issue(Scope.POLICIES_READ)[0]
        folder = web.installation.settings.state_dir / BUNDLE_KEYS
        following = rotate_bundle_key(folder)
        with running(opa, tmp_path, url, signer, token, following=following) as opa_url:
            wait_until(lambda: read_revision(opa_url) == BUNDLE.digest, PATIENCE_S, what="a pull signed by the old key")
            assert retire_bundle_key(folder, signer.key_id) == signer.key_id == following.key_id
            promote_next(web)
            wait_until(lambda: read_revision(opa_url) == NEXT.digest, PATIENCE_S, what="a pull signed by the new key")
        assert web.installation.policies.life.read("acme", BUNDLE.digest).bundle == BUNDLE


@pytest.mark.slow
def test_an_opa_server_pulls_the_active_bundle_and_follows_a_promotion(opa, tmp_path) -> None:
    (tmp_path / "state").mkdir()
    with open_web(tmp_path / "state") as web, serving(web.app) as url:
        signer = web.installation.policies.signer
        token = web.issue(Scope.POLICIES_READ)[0]
        with running(opa, tmp_path, url, signer, token) as opa_url:
            wait_until(lambda: read_revision(opa_url) == BUNDLE.digest, PATIENCE_S, what="the first pull")
            promote_next(web)
            wait_until(lambda: read_revision(opa_url) == NEXT.digest, PATIENCE_S, what="the second pull")
            assert requests.get(f"{opa_url}/v1/data/marker/x", timeout=5).json()["result"] == "next"


@pytest.mark.slow
@pytest.mark.parametrize("pinned", [True, False], ids=["one key", "two keys"])
def test_an_opa_server_keeps_what_it_has_when_a_signature_does_not_hold(opa, tmp_path, signer, pinned) -> None:
    following = None if pinned else rotate_bundle_key(tmp_path / "keys")
    unsigned = format_archive(NEXT, tests={}, signature=None)
    good = sign_archive(BUNDLE, tests={}, signer=signer)
    foreign = sign_archive(NEXT, tests={}, signer=make_signer(tmp_path / "theirs"))
    raw = bytearray(gzip.decompress(sign_archive(NEXT, tests={}, signer=signer)))
    raw[raw.index(b'x := "next"') + 6] ^= 1
    served, asked = [good], []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked.append(served[-1])
        start_response("200 OK", [("Content-Type", "application/gzip"), ("ETag", f'"{len(served)}"')])
        return [served[-1]]

    with serving(app) as url, running(opa, tmp_path, url, signer, following=following) as opa_url:
        wait_until(lambda: read_revision(opa_url) == BUNDLE.digest, PATIENCE_S, what="the first pull")
        for bad in (gzip.compress(bytes(raw)), foreign, unsigned, good[:-20], b""):
            served.append(bad)
            seen = len(asked)
            wait_until(lambda seen=seen: len(asked) >= seen + 2, PATIENCE_S, what="two more pulls")
            assert read_revision(opa_url) == BUNDLE.digest
        served.append(sign_archive(NEXT, tests={}, signer=signer))
        wait_until(lambda: read_revision(opa_url) == NEXT.digest, PATIENCE_S, what="the pull of a good one")
