"""An OPA server that is killed, frozen, slow, garbled or out of date never allows anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from app.adapters.opa import DECISION_HEADER, MIN_VERSION, OpaEngine
from app.adapters.opa_process import running_opa
from app.errors import Malformed, Unavailable
from app.policy.bundle import make_bundle
from app.policy.decide import decide
from app.policy.decision import Allow, Deny
from app.policy.query import Query
from tests.parts.assay import freeze, is_running, list_children, wait_until
from tests.parts.opa import answering, http_answer

ROOT = Path(__file__).parents[2]
MODULE = b'package t\n\ndecide := {"verdict": "allow", "reasons": [], "output": {}}\n'
BUNDLE = make_bundle({"t/t.rego": MODULE}, name="t")
VERSION = ".".join(map(str, MIN_VERSION))
ALLOW = {"verdict": "allow", "reasons": [], "output": {}}
TIMEOUT_S = 1.0


def open_engine(url, timeout_s=TIMEOUT_S):
    return OpaEngine(url, timeout_s=timeout_s)


def decide_by(engine, bundle=BUNDLE):
    return decide(
        engine,
        Query(entrypoint="t/decide", document={"x": 1}),
        bundle=bundle.ref,
        now=datetime.now(UTC),
        salt=bytes(32),
        new_id=uuid4,
        monotonic_ns=time.monotonic_ns,
    )


def failure_of(engine):
    decision = decide_by(engine)
    assert type(decision.outcome) is Deny
    assert decision.outcome.reasons[0].code == "engine_failed"
    return decision.outcome.output["failure"]


def answer(**changes):
    body = {"result": ALLOW, "provenance": {"version": VERSION, "bundles": {"assay": {"revision": BUNDLE.digest}}}}
    return json.dumps({**body, **changes}).encode()


def provenance(version=VERSION, **bundles):
    return {"version": version, "bundles": {name: {"revision": revision} for name, revision in bundles.items()}}


def test_an_answer_as_it_should_be_is_an_allow():
    """What the faults below are variations of."""
    with answering(http_answer("200 OK", answer())) as url:
        assert type(decide_by(open_engine(url)).outcome) is Allow


def test_opas_own_decision_log_can_name_our_decision_as_the_operators_page_says(opa_program):
    names = f"decision_logs.request_context.http.headers[0]={DECISION_HEADER}"
    options = ["--log-level=info", "--set", "decision_logs.console=true", "--set", names]
    with running_opa(opa_program, BUNDLE, options=options) as server:
        decision = decide_by(open_engine(server.url))
        assert type(decision.outcome) is Allow
        wait_until(lambda: decision.decision_id in server.log.read_text())
    assert f"request_context: {{http: {{headers: [{DECISION_HEADER}]}}}}" in (ROOT / "docs/operating.md").read_text()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (http_answer("200 OK", answer(provenance=provenance(assay="f" * 64))), "wrong_bundle"),
        (http_answer("200 OK", answer(provenance=provenance(other=BUNDLE.digest))), "wrong_bundle"),
        (http_answer("200 OK", answer(provenance={})), "wrong_bundle"),
        (http_answer("200 OK", answer(provenance=[])), "wrong_bundle"),
        (http_answer("200 OK", answer(provenance=None)), "wrong_bundle"),
        (http_answer("200 OK", answer(provenance=provenance("1.22.1", assay=BUNDLE.digest))), "error"),
        (http_answer("200 OK", answer(provenance=provenance("0.99.0", assay=BUNDLE.digest))), "error"),
        (http_answer("200 OK", answer(provenance=provenance("edge", assay=BUNDLE.digest))), "error"),
        (http_answer("200 OK", answer(provenance=provenance(7, assay=BUNDLE.digest))), "error"),
        (http_answer("200 OK", json.dumps({"provenance": provenance(assay=BUNDLE.digest)}).encode()), "undefined"),
        (http_answer("200 OK", answer(result=None)), "answer_refused"),
        (http_answer("200 OK", answer(result=[ALLOW])), "answer_refused"),
        (http_answer("200 OK", answer(result={"verdict": "yes"})), "answer_refused"),
        (http_answer("200 OK", answer(result={**ALLOW, "output": {"x": 0.5}})), "answer_refused"),
        (http_answer("200 OK", answer()[:-1]), "answer_refused"),
        (http_answer("200 OK", answer() + answer()), "answer_refused"),
        (http_answer("200 OK", answer().replace(b'"result"', b'"result": {}, "result"')), "answer_refused"),
        (http_answer("200 OK", b""), "answer_refused"),
        (http_answer("200 OK", b"\xff\xfe"), "answer_refused"),
        (http_answer("200 OK", b"<html>Allow</html>"), "answer_refused"),
        (http_answer("200 OK", answer(padding="a" * 100_000)), "answer_refused"),
        (http_answer("200 OK", answer())[:-10], "unreachable"),
        (http_answer("500 Internal Server Error", answer()), "error"),
        (http_answer("503 Service Unavailable", answer()), "error"),
        (http_answer("404 Not Found", answer()), "error"),
        (http_answer("206 Partial Content", answer()), "error"),
        (http_answer("302 Found\r\nLocation: /v1/data/t/decide", answer()), "error"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "unreachable"),
        (b"\x00" * 10_000, "unreachable"),
        (b"", "unreachable"),
    ],
)
def test_whatever_is_not_the_whole_answer_of_this_bundle_is_a_deny(sent, expected):
    with answering(sent) as url:
        assert failure_of(open_engine(url)) == expected


@pytest.mark.parametrize("piece", [1, 40])
def test_an_answer_that_trickles_in_is_not_waited_for_beyond_the_timeout(piece):
    whole = http_answer("200 OK", answer())
    head, body = whole[:-200], whole[-200:]
    parts = [head] + [body[at : at + piece] for at in range(0, len(body), piece)]
    with answering(*parts, pause_s=0.3) as url:
        started_s = time.monotonic()
        assert failure_of(open_engine(url, timeout_s=0.5)) == "timeout"
        assert time.monotonic() - started_s < 2.0


def test_a_server_that_says_nothing_is_not_waited_for_beyond_the_timeout():
    with answering(b"", pause_s=1.0) as url:
        started_s = time.monotonic()
        assert failure_of(open_engine(url, timeout_s=0.3)) == "timeout"
        assert time.monotonic() - started_s < 0.9


@pytest.mark.parametrize("by_socket", [True, False])
def test_a_killed_server_denies_and_says_so(opa_program, by_socket):
    with running_opa(opa_program, BUNDLE, by_socket=by_socket) as server:
        engine = open_engine(server.url)
        assert type(decide_by(engine).outcome) is Allow
        assert engine.find_problem() is None
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(server.pid))
        for _ in range(3):
            assert failure_of(engine) == "unreachable"
        assert "not reachable" in engine.find_problem()
        engine.close()


def test_a_frozen_server_denies_in_time_and_answers_when_it_goes_on(opa_program):
    with running_opa(opa_program, BUNDLE) as server:
        engine = open_engine(server.url, timeout_s=0.5)
        assert type(decide_by(engine).outcome) is Allow
        freeze(server.pid)
        with ThreadPoolExecutor(8) as pool:
            failures = set(pool.map(lambda _: failure_of(engine), range(16)))
        assert failures == {"timeout"}
        assert "no answer" in engine.find_problem()
        os.kill(server.pid, signal.SIGCONT)
        wait_until(lambda: engine.find_problem() is None)
        assert type(decide_by(engine).outcome) is Allow
        engine.close()


def test_a_frozen_server_holds_many_questions_up_no_longer_than_one(opa_program):
    with running_opa(opa_program, BUNDLE) as server:
        engine = open_engine(server.url, timeout_s=0.5)
        freeze(server.pid)
        started_s = time.monotonic()
        questions = [Query(entrypoint="t/decide", document={"x": number}) for number in range(64)]
        answers = engine.evaluate_all(questions, bundle_digest=BUNDLE.digest)
        assert [answer.failure for answer in answers] == ["timeout"] * 64
        assert time.monotonic() - started_s < 64 * 0.5 / 8, "eight threads, each with its own time, would take four"
        engine.close()


def test_a_server_with_an_older_bundle_denies(opa_program):
    newer = make_bundle({"t/t.rego": MODULE + b"\n# changed\n"}, name="t")
    with running_opa(opa_program, BUNDLE) as server:
        engine = open_engine(server.url)
        decision = decide_by(engine, newer)
        assert type(decision.outcome) is Deny
        assert decision.outcome.output["failure"] == "wrong_bundle"
        assert decision.engine.version == VERSION
        engine.close()


def test_a_server_stopped_under_load_gives_allows_before_and_denies_after_and_nothing_else(opa_program):
    with running_opa(opa_program, BUNDLE) as server, ThreadPoolExecutor(16) as pool:
        engine = open_engine(server.url)
        decisions = [pool.submit(decide_by, engine) for _ in range(600)]
        wait_until(lambda: sum(one.done() for one in decisions) > 100)
        os.kill(server.pid, signal.SIGKILL)
        outcomes = [decision.result().outcome for decision in decisions]
        engine.close()
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds == {Allow, Deny}
    assert {outcome.output["failure"] for outcome in outcomes if type(outcome) is Deny} == {"unreachable"}


@pytest.mark.parametrize(
    "url",
    [
        "http://opa.example.com:8181",
        "http://10.0.0.7:8181",
        "https://127.0.0.1:8181",
        "http://127.0.0.1",
        "http://127.0.0.1:8181/v1/data",
        "http://user@127.0.0.1:8181",
        "unix://relative/path",
        "unix:///",
        "ftp://127.0.0.1:21",
        "",
    ],
)
def test_opa_is_asked_beside_us_and_nowhere_else(url):
    with pytest.raises(Malformed):
        open_engine(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8181", "http://[::1]:8181/", "http://localhost:1", "unix:///run/opa"]
)
def test_nothing_is_asked_before_a_decision_is(url):
    assert open_engine(url).ref.version == "unknown"


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with answering(http_answer("200 OK", answer())) as url:
        assert type(decide_by(open_engine(url)).outcome) is Allow


def test_a_bundle_that_opa_refuses_does_not_come_up(opa_program, monkeypatch):
    monkeypatch.setattr("app.adapters.opa_process.START_LIMIT_S", 1.0)
    broken = make_bundle({"t/t.rego": b"package t\n\nx := := 1\n"}, name="t")
    with pytest.raises(Unavailable, match=r"(?s)did not come up.*rego_parse_error"), running_opa(opa_program, broken):
        pass


VICTIM = """
import sys
from app.adapters.opa_process import running_opa
from pathlib import Path
from tests.integration.test_opa_faults import BUNDLE
with running_opa(Path(sys.argv[1]), BUNDLE) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_does_not_outlive_who_started_it(opa_program, number):
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, opa_program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as victim:
        pid = int(victim.stdout.readline())
        started = set(list_children(victim.pid))
        assert pid in started
        victim.send_signal(number)
        victim.wait(10)
        wait_until(lambda: not any(map(is_running, started)), 5.0, what="the end of OPA and its follower")
