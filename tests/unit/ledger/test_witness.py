"""A witness's decision: every answer of the protocol, and nothing stored unless the answer is a cosignature."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64encode
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.witness_server import make_app
from app.errors import Broken, Malformed, NotFound, Rejected, TooLarge
from app.ledger.ports import WitnessConflictError
from app.ledger.witness import MAX_BODY_BYTES, MAX_PROOF_HASHES, Witness, format_request, parse_logs, parse_request
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from app.tlog.cosignature import verify_cosignatures
from app.tlog.note import (
    ED25519,
    SignatureError,
    SignedNote,
    VerifierKey,
    format_note,
    format_vkey,
    parse_note,
    parse_signatures,
    sign_note,
)
from app.tlog.proof import ProofError, prove_consistency
from app.tlog.tree import EMPTY_ROOT, MAX_SIZE, root_of
from tests.fakes.witnesses import (
    FORK,
    LEAVES,
    LOG,
    LOG_SEED,
    NOON,
    ORIGIN,
    WITNESS,
    Clock,
    MemoryState,
    make_body,
    make_note,
    make_witness,
)


def read_timestamp(note: bytes) -> int:
    (cosignature,) = verify_cosignatures(parse_note(note), [WITNESS])
    return cosignature.timestamp_s


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


def test_the_public_sequence_of_requests_is_answered_as_published(shared_dir: Path) -> None:
    vector = json.loads((shared_dir / "vectors/derived/witness_add_checkpoint_sequence.json").read_text())
    public_key = bytes.fromhex(vector["log_public_key_hex"])
    log = VerifierKey(name=vector["origin"], algorithm=ED25519, public_key=public_key)
    app = make_app(make_witness(MemoryState(), None, log))
    for case in vector["cases"]:
        status, headers, body = call(app, case["request_body"].encode())
        assert (case["name"], status) == (case["name"], case["status"])
        assert case["body_contains"] in body.decode()
        if status == 409:
            assert headers["Content-Type"] == vector["conflict_content_type"]
            assert body.decode() == case["body_contains"]


def call(app, body: bytes, path: str = "/add-checkpoint", method: str = "POST", **extra):
    got: dict = {}

    def start_response(status, headers, exc_info=None):
        got.update(status=int(status.split()[0]), headers=dict(headers))

    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        **extra,
    }
    answer = b"".join(app(environ, start_response))
    return got["status"], got["headers"], answer


def test_a_growing_log_is_cosigned_step_by_step(state: MemoryState) -> None:
    witness = make_witness(state)
    for old_size, size in [(0, 1), (1, 2), (2, 7), (7, 7), (7, 8), (8, 40)]:
        lines = witness.add_checkpoint(make_body(old_size, size))
        note = parse_note(make_note(size)).add(*parse_signatures(lines))
        assert [found.key for found in verify_cosignatures(note, [WITNESS])] == [WITNESS]
        assert witness.find_checkpoint(ORIGIN) == format_note(note)


@pytest.mark.parametrize(
    ("body", "error", "why"),
    [
        (make_body(0, 7), WitnessConflictError, "at size 5"),
        (make_body(4, 7), WitnessConflictError, "at size 5"),
        (make_body(6, 7), WitnessConflictError, "at size 5"),
        (make_body(0, 3), WitnessConflictError, "at size 5"),  # a rollback
        (make_body(3, 3), WitnessConflictError, "at size 5"),
        (format_request(5, [], make_note(3)), Malformed, "old size is larger"),
        (format_request(5, [], make_note(7)), ProofError, "consistency proof"),
        (format_request(5, [LEAVES[0]], make_note(5)), ProofError, "consistency proof"),
        (format_request(5, prove_consistency(5, LEAVES[:8]), make_note(7)), ProofError, "consistency proof"),
        (make_body(5, 7, FORK), ProofError, "consistency proof"),
        (make_body(5, 5, FORK), ProofError, "consistency proof"),  # another root at the same size
        (format_request(5, [], make_note(7, seed=hashlib.sha256(b"stranger").digest())), SignatureError, "invalid sig"),
        (make_body(5, 7).replace(ORIGIN.encode(), b"log.example/other"), NotFound, "unknown log"),
        (make_body(5, 7)[:-24] + b"AAAA" + make_body(5, 7)[-20:], SignatureError, "invalid sig"),
        (make_body(5, 7)[:-1], Malformed, "invalid input"),
        (b"", Malformed, "invalid input"),
        (b"old 5\n" + make_note(7), Malformed, "invalid"),
        (make_body(5, 7).replace(b"old 5", b"old 05"), Malformed, "invalid input"),
        (make_body(5, 7).replace(b"old 5", b"old -5"), Malformed, "invalid input"),
        (make_body(5, 7).replace(b"old 5", b"old  5"), Malformed, "invalid input"),
        (make_body(5, 7).replace(b"old 5", b"size 5"), Malformed, "invalid input"),
        (make_body(5, 7).replace(b"old 5", b"old " + str(MAX_SIZE + 1).encode()), Malformed, "invalid input"),
        (format_request(5, [b"short"], make_note(7)), Malformed, "invalid input"),
        (format_request(5, [LEAVES[0]] * (MAX_PROOF_HASHES + 1), make_note(7)), Malformed, "invalid input"),
        (make_body(5, 7) + bytes(MAX_BODY_BYTES), TooLarge, "invalid input"),
    ],
)
def test_whatever_does_not_extend_the_last_checkpoint_is_refused_and_changes_nothing(
    state: MemoryState, body: bytes, error: type[Rejected], why: str
) -> None:
    witness = make_witness(state)
    witness.add_checkpoint(make_body(0, 5))
    before = dict(state.stored)
    with pytest.raises(error, match=why):
        witness.add_checkpoint(body)
    assert state.stored == before


def test_the_first_checkpoint_needs_an_empty_proof(state: MemoryState) -> None:
    with pytest.raises(ProofError, match="consistency proof"):
        make_witness(state).add_checkpoint(format_request(0, [LEAVES[0]], make_note(5)))
    assert state.stored == {}


def test_an_empty_log_has_the_empty_root_and_no_other(state: MemoryState) -> None:
    witness = make_witness(state)
    with pytest.raises(ProofError):
        witness.add_checkpoint(format_request(0, [], make_note(0, root=LEAVES[0])))
    witness.add_checkpoint(format_request(0, [], make_note(0, root=EMPTY_ROOT)))
    witness.add_checkpoint(make_body(0, 5))


def test_a_replayed_request_is_a_conflict_and_the_same_size_asked_anew_is_cosigned_again(state: MemoryState) -> None:
    witness = make_witness(state)
    witness.add_checkpoint(make_body(0, 5))
    with pytest.raises(WitnessConflictError) as conflict:
        witness.add_checkpoint(make_body(0, 5))
    assert conflict.value.size == 5
    witness.add_checkpoint(make_body(5, 5))


def test_cosigned_times_never_go_back_even_if_the_clock_does(state: MemoryState) -> None:
    clock = Clock()
    witness = make_witness(state, clock)
    witness.add_checkpoint(make_body(0, 5))
    clock.now = NOON - timedelta(days=1)
    witness.add_checkpoint(make_body(5, 7))
    assert read_timestamp(state.stored[ORIGIN]) == int(NOON.timestamp())
    clock.now = NOON + timedelta(seconds=1)
    witness.add_checkpoint(make_body(7, 8))
    assert read_timestamp(state.stored[ORIGIN]) == int(NOON.timestamp()) + 1


def test_what_a_stranger_signed_is_neither_stored_nor_passed_on(state: MemoryState) -> None:
    stranger = parse_note(make_note(5, seed=hashlib.sha256(b"stranger").digest())).signatures
    note = parse_note(make_note(5)).add(*stranger)
    make_witness(state).add_checkpoint(format_request(0, [], format_note(note)))
    assert stranger[0] not in parse_note(state.stored[ORIGIN]).signatures


@pytest.mark.parametrize("damage", [b"", b"garbage", make_note(5), make_note(5)[:-9]])
def test_a_witness_whose_state_is_damaged_cosigns_nothing(state: MemoryState, damage: bytes) -> None:
    state.stored[ORIGIN] = damage
    for body in (make_body(0, 7), make_body(5, 7)):
        with pytest.raises(Broken):
            make_witness(state).add_checkpoint(body)
    assert state.stored == {ORIGIN: damage}


def test_a_signer_that_answers_falsely_is_our_fault_and_not_the_logs(state: MemoryState) -> None:
    witness = Witness(key=WITNESS, sign=lambda _: bytes(64), logs={ORIGIN: [LOG]}, state=state, now=Clock())
    with pytest.raises(Broken):
        witness.add_checkpoint(make_body(0, 5))
    assert state.stored == {}


def test_a_log_key_is_not_a_witness_key(state: MemoryState) -> None:
    with pytest.raises(Malformed, match="0x04"):
        Witness(key=LOG, sign=lambda _: b"", logs={}, state=state, now=Clock())


def test_two_origins_do_not_see_each_other(state: MemoryState) -> None:
    other = VerifierKey(name="log.example/other", algorithm=ED25519, public_key=LOG.public_key)
    witness = make_witness(state, None, LOG, other)
    witness.add_checkpoint(make_body(0, 5))
    checkpoint = Checkpoint(origin=other.name, size=2, root=root_of(FORK[:2]))
    witness.add_checkpoint(
        format_request(0, [], format_note(sign_note(format_checkpoint(checkpoint), other.name, LOG_SEED)))
    )
    assert parse_note(state.stored[ORIGIN]).text.split(b"\n")[1] == b"5"
    assert witness.find_checkpoint("log.example/third") is None


def test_of_twin_requests_with_one_old_size_exactly_one_is_cosigned(state: MemoryState) -> None:
    witness = make_witness(state)
    witness.add_checkpoint(make_body(0, 5))
    start, sizes, outcomes = threading.Barrier(8), range(6, 14), []

    def ask(size: int) -> None:
        start.wait()
        try:
            witness.add_checkpoint(make_body(5, size))
            outcomes.append(size)
        except WitnessConflictError as conflict:
            outcomes.append(-conflict.size)

    threads = [threading.Thread(target=ask, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome > 0]
    assert sorted(outcomes) == [-winner] * 7 + [winner]


def test_the_configured_logs_are_read_from_lines_of_a_trust_file() -> None:
    rotated = VerifierKey(name=ORIGIN, algorithm=ED25519, public_key=WITNESS.public_key)
    lines = f"# our logs\n\nlog {format_vkey(LOG)} https://log.example/acme\nlog {format_vkey(rotated)}\n"
    assert parse_logs(lines.encode()) == {ORIGIN: (LOG, rotated)}
    for bad in ("witness w x\n", "log\n", f"log {format_vkey(WITNESS)}\n", f"log {format_vkey(LOG)} a b\n", "log x\n"):
        with pytest.raises(Malformed, match="line 1"):
            parse_logs(bad.encode())


@given(st.integers(0, MAX_SIZE), st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF_HASHES))
def test_a_formatted_request_parses_to_itself(old_size: int, proof: list[bytes]) -> None:
    request = parse_request(format_request(old_size, proof, make_note(7)))
    assert (request.old_size, list(request.proof), format_note(request.note)) == (old_size, proof, make_note(7))


def _mutated() -> st.SearchStrategy[bytes]:
    """Return requests with a few bytes changed, inserted, removed or repeated."""
    good = st.sampled_from([make_body(5, 7), make_body(5, 5), make_body(0, 9), make_body(5, 40, FORK)])
    cut = st.tuples(good, st.integers(0, 300), st.integers(0, 40), st.binary(max_size=40))
    return cut.map(lambda parts: parts[0][: parts[1]] + parts[3] + parts[0][parts[1] + parts[2] :])


@given(st.binary(max_size=300) | _mutated())
def test_a_malformed_body_is_answered_4xx_and_changes_nothing(body: bytes) -> None:
    state = MemoryState()
    app = make_app(make_witness(state))
    call(app, make_body(0, 5))
    before = dict(state.stored)
    status, _, answer = call(app, body)
    if status == 200:  # the mutation did not change what was asked
        assert body.startswith(b"old 5\n")
        assert make_note(7) in body or make_note(5) in body
        return
    assert status in {400, 403, 404, 409, 422}
    assert state.stored == before
    assert answer


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/add-checkpoint", "GET", 405),
        ("/add-checkpoint/", "POST", 404),
        ("/", "GET", 404),
        (f"/{hashlib.sha256(b'log.example/unknown').hexdigest()}/checkpoint", "GET", 404),
        (f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint", "POST", 405),
        (f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint", "GET", 404),  # nothing cosigned yet
    ],
)
def test_other_paths_and_methods_are_refused(state: MemoryState, path: str, method: str, status: int) -> None:
    assert call(make_app(make_witness(state)), b"", path, method)[0] == status


def test_monitors_get_the_last_cosigned_checkpoint(state: MemoryState) -> None:
    app = make_app(make_witness(state))
    call(app, make_body(0, 5))
    path = f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    assert call(app, b"", path, "GET")[::2] == (200, state.stored[ORIGIN])
    assert call(app, b"", path, "HEAD")[::2] == (200, b"")


@pytest.mark.parametrize("length", ["-1", "1e3", "\N{SUPERSCRIPT TWO}"])
def test_a_strange_content_length_is_a_bad_request(state: MemoryState, length: str) -> None:
    assert call(make_app(make_witness(state)), make_body(0, 5), CONTENT_LENGTH=length)[0] == 400


def test_a_body_without_an_end_is_read_no_further_than_the_bound(state: MemoryState) -> None:
    class Endless:
        read_bytes = 0

        def read(self, size: int) -> bytes:
            self.read_bytes += size
            return b"a" * size

    endless = Endless()
    extra = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": endless}
    assert call(make_app(make_witness(state)), b"", **extra)[0] == 400
    assert endless.read_bytes == MAX_BODY_BYTES + 1


def test_our_own_faults_are_a_5xx_without_details(state: MemoryState, caplog: pytest.LogCaptureFixture) -> None:
    state.stored[ORIGIN] = b"secret detail"
    status, _, body = call(make_app(make_witness(state)), make_body(0, 5))
    assert (status, body) == (500, b"internal server error\n")
    assert "damaged" in caplog.text


def test_a_signature_with_stray_base64_bits_is_judged_by_its_signature(state: MemoryState) -> None:
    note = parse_note(make_note(5))
    line = note.signatures[0]
    encoded = b64encode(line.key_id + line.signature).decode()
    assert encoded.endswith("=")
    assert not encoded.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = encoded[:-2] + alphabet[alphabet.index(encoded[-2]) | 1] + "="
    body = format_request(0, [], make_note(5)).replace(encoded.encode(), stray.encode())
    make_witness(state).add_checkpoint(body)
    assert encoded.encode() in state.stored[ORIGIN]


def test_a_signature_repeated_up_to_the_bound_is_refused_before_anything_is_stored(state: MemoryState) -> None:
    note = parse_note(make_note(5))
    full = SignedNote(text=note.text, signatures=note.signatures * 100)
    with pytest.raises(Rejected):
        make_witness(state).add_checkpoint(format_request(0, [], format_note(full)))
    assert state.stored == {}
