"""Our client against our witness, over a loopback socket: quorum, forks, restarts, and everything malformed."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.adapters.witness_http import (
    MAX_ANSWER_BYTES,
    HttpWitness,
    WitnessDisputeError,
    WitnessRefusedError,
)
from app.errors import Broken, Rejected, Unavailable
from app.ledger.cosign import Cosigners, Mode, WitnessEvent
from app.ledger.ports import WitnessConflictError
from app.ledger.witness import MAX_BODY_BYTES, format_request
from app.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from app.tlog.cosignature import verify_cosignatures
from app.tlog.note import VerifierKey, format_note, parse_note, parse_signatures, sign_note
from app.tlog.policy import Group, Log, Policy
from app.tlog.policy import Witness as TrustedWitness
from app.tlog.proof import prove_consistency
from app.tlog.tree import root_of
from tests.fakes.witnesses import FORK, LEAVES, LOG, LOG_SEED, ORIGIN, make_body, make_note
from tests.parts.witness_process import create_witness, running_witness, wait_until_up

TIMEOUT_S = 10.0


class RunningWitness:
    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        folder.mkdir()
        self.folder = folder
        self.key: VerifierKey = create_witness(folder, name)
        self.url = stack.enter_context(running_witness(folder, name))

    def client(self, timeout_s: float = TIMEOUT_S) -> HttpWitness:
        return HttpWitness(self.key.name, self.url, timeout_s=timeout_s)

    def stored(self) -> bytes | None:
        response = requests.get(self.url + monitoring_path(), timeout=TIMEOUT_S)
        return response.content if response.status_code == 200 else None


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[RunningWitness]:
    with ExitStack() as stack:
        yield RunningWitness(tmp_path / "w1", "w1.example", stack)


@pytest.fixture(scope="module")
def long_witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWitness]:
    """One witness for many bad requests; it is at size 5 and stays there."""
    with ExitStack() as stack:
        running = RunningWitness(tmp_path_factory.mktemp("witness") / "w", "w.example", stack)
        running.client().add_checkpoint(0, [], make_note(5))
        yield running


def monitoring_path(origin: str = ORIGIN) -> str:
    return f"/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"


def proof(old_size: int, size: int, leaves: list[bytes] = LEAVES) -> list[bytes]:
    return prove_consistency(old_size, leaves[:size]) if old_size else []


def post(url: str, body: bytes | Iterator[bytes], **options) -> requests.Response:
    return requests.post(url + "/add-checkpoint", data=body, timeout=TIMEOUT_S, **options)


def test_a_log_grows_and_its_cosignatures_verify_and_are_shown_to_monitors(witness: RunningWitness) -> None:
    client = witness.client()
    for old_size, size in [(0, 1), (1, 5), (5, 5), (5, 40)]:
        lines = client.add_checkpoint(old_size, proof(old_size, size), make_note(size))
        note = parse_note(make_note(size)).add(*parse_signatures(("\n".join(lines) + "\n").encode()))
        assert [found.key for found in verify_cosignatures(note, [witness.key])] == [witness.key]
        assert witness.stored() == format_note(note)


def test_a_replay_and_a_rollback_are_conflicts_with_the_size_of_the_witness(witness: RunningWitness) -> None:
    client = witness.client()
    client.add_checkpoint(0, [], make_note(7))
    for old_size, size in [(0, 7), (0, 3), (3, 5), (5, 7)]:
        with pytest.raises(WitnessConflictError) as conflict:
            client.add_checkpoint(old_size, proof(old_size, size), make_note(size))
        assert conflict.value.size == 7
    answer = post(witness.url, make_body(0, 7))
    assert (answer.status_code, answer.headers["Content-Type"], answer.text) == (409, "text/x.tlog.size", "7\n")


def test_a_fork_is_a_dispute_at_the_same_size_and_at_a_larger_one(witness: RunningWitness) -> None:
    client = witness.client()
    client.add_checkpoint(0, [], make_note(7))
    before = witness.stored()
    for size in (7, 12):
        with pytest.raises(WitnessDisputeError, match="422"):
            client.add_checkpoint(7, proof(7, size, FORK), make_note(size, FORK))
    assert witness.stored() == before


def test_an_unknown_log_and_a_strangers_signature_are_refused(long_witness: RunningWitness) -> None:
    checkpoint = Checkpoint(origin="log.example/unknown", size=5, root=root_of(LEAVES[:5]))
    unknown = format_note(sign_note(format_checkpoint(checkpoint), checkpoint.origin, LOG_SEED))
    with pytest.raises(WitnessRefusedError, match="404"):
        long_witness.client().add_checkpoint(0, [], unknown)
    with pytest.raises(WitnessRefusedError, match="403"):
        long_witness.client().add_checkpoint(5, [], make_note(5, seed=bytes(32)))
    assert requests.get(long_witness.url + monitoring_path("log.example/unknown"), timeout=5).status_code == 404


def test_an_oversize_body_is_a_bad_request_with_or_without_a_length(long_witness: RunningWitness) -> None:
    before = long_witness.stored()
    big = b"old 5\n" + b"A" * (MAX_BODY_BYTES * 20)
    assert post(long_witness.url, big).status_code == 400
    assert post(long_witness.url, iter([big[:70_000], big[70_000:]])).status_code == 400
    assert post(long_witness.url, iter([make_body(5, 5)])).status_code == 200
    assert post(long_witness.url, b"").status_code == 400
    assert parse_note(long_witness.stored() or b"").text == parse_note(before or b"").text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.tuples(st.integers(0, 400), st.integers(1, 30), st.binary(max_size=20)).map(
        lambda cut: make_body(5, 9)[: cut[0]] + cut[2] + make_body(5, 9)[cut[0] + cut[1] :]
    )
)
def test_whatever_is_malformed_gets_4xx_over_the_wire_and_changes_nothing(
    long_witness: RunningWitness, body: bytes
) -> None:
    if make_note(9) in body:
        return
    before = long_witness.stored()
    assert post(long_witness.url, body).status_code in {400, 403, 404, 409, 422}
    assert long_witness.stored() == before


def test_of_many_requests_at_once_the_stored_size_never_goes_back(witness: RunningWitness) -> None:
    cosigned, conflicts = [], []

    def ask(kind: int) -> None:
        client, size = witness.client(), 0
        while size < 40:
            target = min(40, size + 1 + kind % 3)
            try:
                client.add_checkpoint(size, proof(size, target), make_note(target))
                cosigned.append((size, target))
                size = target
            except WitnessConflictError as conflict:
                conflicts.append(conflict.size)
                size = conflict.size

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = sorted(cosigned)
    assert [step[0] for step in steps] == [0, *(step[1] for step in steps[:-1])], "each step begins where one ended"
    assert steps[-1][1] == 40
    assert conflicts


def test_kill_9_between_storing_and_answering_loses_nothing_and_rolls_nothing_back(witness: RunningWitness) -> None:
    client = witness.client()
    client.add_checkpoint(0, [], make_note(5))
    (witness.folder / "die").touch()
    with pytest.raises(Unavailable):
        client.add_checkpoint(5, proof(5, 9), make_note(9))
    wait_until_up(witness.url)
    with pytest.raises(WitnessConflictError) as conflict:
        client.add_checkpoint(5, proof(5, 9), make_note(9))
    assert conflict.value.size == 9
    with pytest.raises(WitnessDisputeError):
        client.add_checkpoint(9, proof(9, 9, FORK), make_note(9, FORK))
    assert client.add_checkpoint(9, [], make_note(9))


def make_policy(keys: list[VerifierKey]) -> Policy:
    trusted = tuple(TrustedWitness(name=key.name, key=key) for key in keys)
    group = Group(name="two", threshold=2, members=tuple(key.name for key in keys))
    return Policy(logs=(Log(key=LOG),), witnesses=trusted, groups=(group,), quorum="two")


def cosign(cosigners: Cosigners, size: int, leaves: list[bytes] = LEAVES) -> bytes:
    note = parse_note(make_note(size, leaves))
    return format_note(cosigners.cosign(parse_checkpoint(note.text), note, lambda old, new: proof(old, new, leaves)))


@pytest.mark.slow
def test_a_quorum_of_two_of_three_real_witnesses_outlives_one_and_not_two(tmp_path: Path) -> None:
    events: list[WitnessEvent] = []
    with ExitStack() as stack:
        stacks = [stack.enter_context(ExitStack()) for _ in range(3)]
        running = [RunningWitness(tmp_path / f"w{n}", f"w{n}.example", each) for n, each in enumerate(stacks)]
        policy = make_policy([each.key for each in running])
        clients = [each.client() for each in running]
        cosigners = Cosigners(policy, clients, mode=Mode.REQUIRE, timeout_s=TIMEOUT_S, report=events.append)
        assert policy.verify_checkpoint(cosign(cosigners, 5)).quorum_met

        stacks[0].close()
        for size in (6, 7, 30):
            assert policy.verify_checkpoint(cosign(cosigners, size)).quorum_met

        stacks[1].close()
        with pytest.raises(Unavailable) as missing:
            cosign(cosigners, 31)
        assert missing.value.code == "witness_quorum"

        collecting = Cosigners(policy, clients, mode=Mode.COLLECT, timeout_s=TIMEOUT_S, report=events.append)
        verified = policy.verify_checkpoint(cosign(collecting, 32), require_quorum=False)
        assert [found.key for found in verified.cosignatures] == [running[2].key]
        assert not verified.quorum_met


@pytest.mark.slow
def test_after_a_fork_no_honest_quorum_cosigns_and_a_person_must_look(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = [RunningWitness(tmp_path / f"w{n}", f"w{n}.example", stack) for n in range(2)]
        policy = make_policy([each.key for each in running])
        for leaves, size in ((LEAVES, 9), (LEAVES, 12)):
            fresh = Cosigners(
                policy, [each.client() for each in running], mode=Mode.REQUIRE, timeout_s=TIMEOUT_S, report=print
            )
            cosign(fresh, size, leaves)
        for size in (10, 12, 20):  # behind the witnesses, beside them, ahead of them
            clone = Cosigners(
                policy, [each.client() for each in running], mode=Mode.REQUIRE, timeout_s=TIMEOUT_S, report=print
            )
            with pytest.raises(Broken) as disputed:
                cosign(clone, size, FORK)
            assert disputed.value.code == "witness_dispute"


@contextmanager
def scripted_server(answer: bytes, *, pause_s: float = 0.0) -> Iterator[str]:
    """Serve a raw HTTP answer to every POST, byte by byte if there is a pause."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.close_connection = True
            try:
                for start in range(0, len(answer), 1 if pause_s else len(answer)):
                    self.wfile.write(answer[start : start + (1 if pause_s else len(answer))])
                    self.wfile.flush()
                    time.sleep(pause_s)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *_) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def http(status: str, body: bytes = b"", content_type: str = "text/plain", extra: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode()
        + body
    )


@pytest.mark.parametrize(
    ("answer", "old_size", "error"),
    [
        (http("409 Conflict", b"3\n", "text/x.tlog.size"), 5, WitnessConflictError),
        (http("409 Conflict", b"3\n", "text/x.tlog.size; charset=utf-8"), 5, WitnessConflictError),
        (http("409 Conflict", b"7\n", "text/x.tlog.size"), 7, WitnessDisputeError),  # as v1.0.0 had it
        (http("409 Conflict", b"another root\n"), 7, WitnessDisputeError),
        (http("409 Conflict", b"3\n"), 5, WitnessRefusedError),
        (http("409 Conflict", b"-3\n", "text/x.tlog.size"), 5, WitnessRefusedError),
        (http("409 Conflict", b"99999999999999999999\n", "text/x.tlog.size"), 5, WitnessRefusedError),
        (http("422 Unprocessable Entity", b"bad"), 5, WitnessDisputeError),
        (http("403 Forbidden", b"who?"), 5, WitnessRefusedError),
        (http("404 Not Found"), 5, WitnessRefusedError),
        (http("400 Bad Request"), 5, WitnessRefusedError),
        (http("500 Oops", b"\xff\x1b[31m"), 5, WitnessRefusedError),
        (http("302 Found", extra="Location: http://127.0.0.1:1/\r\n"), 5, WitnessRefusedError),
        (http("200 OK", b"\x1f\x8b", extra="Content-Encoding: gzip\r\n"), 5, WitnessRefusedError),
        (http("200 OK", b"a" * (MAX_ANSWER_BYTES + 1)), 5, Unavailable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ncut", 5, Unavailable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 5, Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut", 5, Unavailable),
        (b"not http at all\r\n\r\n", 5, Unavailable),
        (b"", 5, Unavailable),
    ],
)
def test_every_answer_of_a_witness_becomes_the_right_error(
    answer: bytes, old_size: int, error: type[Exception]
) -> None:
    with scripted_server(answer) as url, pytest.raises(error) as raised:
        HttpWitness("w", url, timeout_s=TIMEOUT_S).add_checkpoint(old_size, proof(old_size, 7), make_note(7))
    assert "\x1b" not in str(raised.value)


def test_a_chunked_answer_is_read_whole() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n5\r\n\ntwo\n\r\n0\r\n\r\n"
    with scripted_server(chunked) as url:
        lines = HttpWitness("w", url, timeout_s=TIMEOUT_S).add_checkpoint(5, proof(5, 7), make_note(7))
    assert lines == ["one", "two"]


def test_an_answer_that_drips_is_cut_off() -> None:
    lines = "— w AAAA\n".encode() * 400
    with scripted_server(http("200 OK", lines), pause_s=0.002) as url:
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            HttpWitness("w", url, timeout_s=0.5).add_checkpoint(5, proof(5, 7), make_note(7))
        assert time.monotonic() - began_s < 5


def test_a_witness_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = HttpWitness("w", f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(Unavailable, match="Timeout"):
            client.add_checkpoint(5, proof(5, 7), make_note(7))


def test_neither_a_proxy_nor_credentials_of_the_environment_are_used(
    long_witness: RunningWitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert long_witness.client().add_checkpoint(5, [], make_note(5))


@pytest.mark.parametrize(
    "url",
    [
        "http://witness.example",
        "http://192.0.2.1",
        "http://127.0.0.1.example",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "https://",
        "https://user:pass@witness.example",
        "https://witness.example/?a=b",
        "https://witness.example:port",
        "https://[::1",
        "witness.example",
        "",
    ],
)
def test_a_witness_is_reached_by_https_or_on_this_machine_only(url: str) -> None:
    with pytest.raises(Rejected):
        HttpWitness("w", url, timeout_s=1)


@pytest.mark.parametrize(
    "url", ["https://witness.example/w", "http://127.0.0.1:9", "http://[::1]:9", "http://localhost"]
)
def test_https_anywhere_and_http_to_loopback_are_allowed(url: str) -> None:
    assert HttpWitness("w", url, timeout_s=1).name == "w"


def test_a_proof_longer_than_the_protocol_allows_is_not_sent(long_witness: RunningWitness) -> None:
    with pytest.raises(Unavailable, match="63"):
        long_witness.client().add_checkpoint(5, [LEAVES[0]] * 64, make_note(7))
    assert format_request(0, [], b"note\n") == b"old 0\n\nnote\n"
