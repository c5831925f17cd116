"""`assay verify` and `assay export` as commands: five outcomes with five exit codes, offline where that is promised."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from app.ledger.entry import Draft
from app.ledger.prove import Prover
from app.ledger.verify.source import split_bundle
from tests.parts.built_logs import SALT, SIGNER, TENANT, build_sqlite, make_draft
from tests.parts.tampering import RECEIPT_INDEX, STRANGER, Sound, build_sound, flip

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60
KEY = ("--key", SIGNER.vkey)
START = "from app.cli.main import main; main()"
NO_SOCKETS = """
import socket, sys
def refuse(*_args, **_more):
    raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from app.cli.main import main
sys.argv[0] = "assay"
try:
    main()
finally:
    loaded = {"flask", "sqlalchemy", "requests", "psycopg"} & set(sys.modules)
    assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return build_sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "XDG_"))}
    return {**kept, "XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "200"}


def assay(environment: dict[str, str], *arguments: object, code: str = START) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def test_valid_exits_with_0_and_says_what_was_not_proven(sound: Sound, environment: dict[str, str]) -> None:
    done = assay(environment, "verify", "export", sound.export, *KEY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("VALID  all 700 entries")
    assert "operator's key only" in done.stdout
    assert "Not proven:" in done.stdout
    assert "\x1b" not in done.stdout


def test_invalid_exits_with_1_and_names_the_place(sound: Sound, environment: dict[str, str], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sound.export, tmp_path / "copy"))
    bundle = copy / "tile/entries/001"
    bundle.write_bytes(flip(bundle.read_bytes(), 1000))
    done = assay(environment, "verify", copy, *KEY, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["outcome"], report["exit_code"]) == (1, "invalid", 1)
    assert report["place"]["path"] == "tile/entries/001"
    assert report["place"]["entry_index"] in range(256, 512)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "GET /TENANT/keys"),
        (("--key", "not a key"), "a verifier key"),
        ((*KEY, "--entry", "ent_1", "--start", "300"), "--entry needs the whole log"),
        ((*KEY, "--workers", "0"), "--workers"),
    ],
)
def test_a_mistake_on_the_command_line_exits_with_2(
    sound: Sound, environment: dict[str, str], arguments: tuple[str, ...], says: str
) -> None:
    done = assay(environment, "verify", "export", sound.export, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_what_cannot_be_read_or_reached_exits_with_3_and_is_never_called_invalid(
    sound: Sound, environment: dict[str, str], tmp_path: Path
) -> None:
    stranger = ("--key", STRANGER.vkey)
    broken_state = tmp_path / "state.json"
    broken_state.write_text("{")
    for arguments in (
        ("receipt", tmp_path / "absent", *KEY),
        ("export", tmp_path, *KEY),
        ("database", f"sqlite:///{tmp_path}/absent.db", "--tenant", "acme", *KEY),
        ("database", f"sqlite:///{sound.database}", "--tenant", "nobody", *KEY),
        ("url", "http://127.0.0.1:9/acme", *KEY),
        ("receipt", sound.receipt, *stranger),
        ("export", sound.export, *KEY, "--state", broken_state),
    ):
        done = assay(environment, "verify", *arguments)
        assert (done.returncode, done.stdout.partition("  ")[0]) == (3, "COULD NOT CHECK"), arguments


def test_an_entry_that_is_not_published_exits_with_4(environment: dict[str, str], tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [10])
    log.append(make_draft(10))
    log.store.close()
    url = f"sqlite:///{tmp_path / 'log.db'}"
    for entry_id, says in ((log.ids[10], "no checkpoint covers it yet"), ("ent_" + "0" * 32, "is not among the first")):
        done = assay(environment, "verify", "database", url, "--tenant", "acme", *KEY, "--entry", entry_id)
        assert done.returncode == 4
        assert done.stdout.startswith("NOT YET IN THE LOG")
        assert says in done.stdout


def test_an_entry_whose_sealed_values_were_erased_exits_with_5(environment: dict[str, str], tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [10])
    erasure = Draft(
        action="subject.erased",
        actor="system:assay",
        subject="sub_000003",
        data={"fields": 1, "reason": "requested"},
    )
    log.append(erasure)
    log.publish()
    log.store.close()
    url = f"sqlite:///{tmp_path / 'log.db'}"
    done = assay(environment, "verify", "database", url, "--tenant", "acme", *KEY, "--entry", log.ids[3])
    assert done.returncode == 5
    assert done.stdout.startswith(f"ERASED BY POLICY  {log.ids[3]} is proven at index 3")
    other = assay(environment, "verify", "database", url, "--tenant", "acme", *KEY, "--entry", log.ids[1])
    assert other.returncode == 0


def test_a_receipt_is_verified_offline_without_any_part_of_a_server(sound: Sound, environment: dict[str, str]) -> None:
    done = assay(environment, "verify", sound.receipt, *KEY, code=NO_SOCKETS)
    assert done.returncode == 0, done.stderr
    assert f"is entry {RECEIPT_INDEX} of {TENANT.origin}" in done.stdout
    assert assay(environment, "verify", sound.export, *KEY, code=NO_SOCKETS).returncode == 0


def test_the_remembered_head_is_kept_never_moves_back_and_catches_an_older_log(
    sound: Sound, environment: dict[str, str]
) -> None:
    assert assay(environment, "verify", sound.export, *KEY).returncode == 0
    state = Path(environment["XDG_STATE_HOME"]) / "assay/heads.json"
    kept = state.read_bytes()
    older = assay(environment, "verify", sound.older_export, *KEY)
    assert older.returncode == 1
    assert "size 300" in older.stdout
    assert "size 700" in older.stdout
    assert state.read_bytes() == kept
    assert "the log extends the head you remember" in assay(environment, "verify", sound.export, *KEY).stdout
    assert assay(environment, "verify", sound.older_export, *KEY, "--no-state").returncode == 0


def test_sealed_values_are_checked_against_their_commitments(environment: dict[str, str], tmp_path: Path) -> None:
    log = build_sqlite(tmp_path / "log.db", [10])
    prover = Prover(log.store)
    body = log.store.list_bodies(TENANT.id, 3, 4)[0]
    receipt = tmp_path / "receipt"
    receipt.write_bytes(prover.receipt(TENANT.id, 3, body, prover.read_published(TENANT.id)))
    log.store.close()
    values = tmp_path / "values.json"
    opening = {"value": "Person 3", "salt": base64.b64encode(SALT).decode()}
    for document, code in (
        ({"name": opening}, 0),
        ({"name": {**opening, "value": "Person 4"}}, 1),
        ({}, 0),
        ({"name": None}, 3),
        ({"email": opening}, 1),
        ({"name": 7}, 2),
    ):
        values.write_text(json.dumps(document))
        assert assay(environment, "verify", "receipt", receipt, *KEY, "--sealed", values).returncode == code, document


def test_an_interrupted_export_is_taken_up_again_and_ends_valid(
    sound: Sound, environment: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "export"
    arguments = ("export", target, "--database", f"sqlite:///{sound.database}", "--tenant", "acme")
    assert assay(environment, *arguments).returncode == 0
    for name in ("checkpoint", "tile/0/001", "tile/entries/000"):
        (target / name).unlink()
    assert assay(environment, "verify", target, *KEY).returncode == 3
    again = assay(environment, *arguments, "--json")
    assert json.loads(again.stdout)["kept"] >= 1
    assert assay(environment, "verify", target, *KEY).returncode == 0


def test_a_compressed_export_is_valid_and_a_directory_of_another_log_is_refused(
    sound: Sound, environment: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "export"
    source = ("--database", f"sqlite:///{sound.database}", "--tenant", "acme")
    assert assay(environment, "export", target, *source, "--gzip").returncode == 0
    assert (target / "tile/entries/000.gz").exists()
    assert assay(environment, "verify", target, *KEY, "--deep", "--workers", "2").returncode == 0
    older = ("--database", f"sqlite:///{sound.older_database}", "--tenant", "acme")
    refused = assay(environment, "export", target, *older)
    assert refused.returncode == 1
    assert "Export it into another directory" in refused.stderr


@pytest.fixture
def server(sound: Sound) -> Iterator[str]:
    handler = partial(_Quiet, directory=str(sound.export))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


def test_a_log_is_verified_from_any_web_server_and_what_it_withholds_is_not_called_invalid(
    server: str, sound: Sound, environment: dict[str, str], tmp_path: Path
) -> None:
    assert assay(environment, "verify", server, *KEY, "--workers", "2").returncode == 0
    bundle = sound.export / "tile/entries/001"
    kept = bundle.rename(tmp_path / "kept")
    try:
        assert assay(environment, "verify", server, *KEY).returncode == 3
        entries = split_bundle(kept.read_bytes()) or []
        entries[5] = flip(entries[5], 30)
        bundle.write_bytes(b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries))
        tampered = assay(environment, "verify", server, *KEY)
        assert (tampered.returncode, "entry 261 " in tampered.stdout) == (1, True)
    finally:
        kept.rename(bundle)
