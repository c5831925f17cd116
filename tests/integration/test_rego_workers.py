"""The embedded engine's workers: what they are bounded by, what they cost when they die, and that none is left."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.adapters import rego
from app.adapters.rego import Limits, RegoEngine
from app.adapters.rego_worker import MAX_BUNDLES, Worker
from app.errors import Malformed, NotFound, Unavailable
from app.policy.bundle import make_bundle
from app.policy.ports import EngineFailed
from tests.parts.assay import freeze, is_running, list_children, wait_until

ROOT = Path(__file__).parents[2]
MODULE = b"""package t

echo := {"input": input}

loops := {"x": count({a | some a in numbers.range(1, 20000); some b in numbers.range(1, 20000); b == 0})}

explodes := {"x": count([[a, b] | some a in numbers.range(1, 20000); some b in numbers.range(1, 20000)])}

panics := {"x": strings.count(input.text, "")}

prints := {"x": 1} if print(input.secret)

unknown := {"x": nothing.of_ours(1)}

f(x) := f(x)

recurses := {"x": f(1)}

again := {"x": again.x}

environment := {"x": opa.runtime()}
"""
BUNDLE = make_bundle({"t/t.rego": MODULE}, name="t")


def read(digest):
    if digest != BUNDLE.digest:
        raise NotFound("no such bundle")
    return BUNDLE


@pytest.fixture
def make():
    engines = []

    def make_engine(read_bundle=read, **options):
        engines.append(RegoEngine(read_bundle, **options))
        return engines[-1]

    yield make_engine
    for engine in engines:
        engine.close()


def ask(engine, rule="echo", document=None, digest=BUNDLE.digest):
    return engine.evaluate(f"t/{rule}", document or {}, bundle_digest=digest)


def failure(engine, rule, document=None):
    with pytest.raises(EngineFailed) as caught:
        ask(engine, rule, document)
    assert ask(engine, document={"after": 1}) == {"input": {"after": 1}}, "the next call is answered"
    return caught.value.failure


def list_workers():
    return {pid for pid, command in list_children(os.getpid()).items() if "rego_worker" in command}


def test_a_rule_that_loops_is_stopped_by_the_processor_time_it_may_take(make):
    engine = make(limits=Limits(evaluation_ms=100))
    ask(engine)
    started_s = time.monotonic()
    assert failure(engine, "loops") == "timeout"
    assert time.monotonic() - started_s < 3, "and not by the time that we wait for a worker"


def test_a_rule_that_explodes_is_stopped_by_the_memory_it_may_take(make):
    engine = make(limits=Limits(evaluation_ms=60_000, memory_bytes=96 * 1024 * 1024, wait_s=60))
    assert failure(engine, "explodes") == "memory"


def test_a_function_that_recurses_without_end_costs_its_worker_alone(make):
    assert failure(make(), "recurses") == "panic"


@pytest.mark.parametrize("rule", ["unknown", "again"])
def test_what_opa_would_not_compile_is_an_error(make, rule):
    assert failure(make(), rule) == "error"


def test_a_panic_is_held_and_says_nothing_to_any_stream(make, capfd):
    engine = make()
    ask(engine)
    workers = list_workers()
    assert failure(engine, "panics", {"text": "Lovelace"}) == "panic"
    assert list_workers() == workers
    assert capfd.readouterr() == ("", "")


def test_what_a_policy_prints_reaches_no_stream(make, capfd):
    assert ask(make(), "prints", {"secret": "Lovelace"}) == {"x": 1}
    assert capfd.readouterr() == ("", "")


def test_a_worker_has_nothing_of_our_environment(make, monkeypatch):
    monkeypatch.setenv("ASSAY_STRIPE_API_KEY", "sk_live_secret")
    before = list_workers()
    assert "sk_live_secret" not in str(ask(make(), "environment"))
    (worker,) = list_workers() - before
    assert b"ASSAY_" not in Path(f"/proc/{worker}/environ").read_bytes()


def test_a_compiled_engine_is_never_asked_itself():
    worker = Worker(max_answer_bytes=1_000)
    content = {"digest": BUNDLE.digest, "modules": dict(BUNDLE.modules), "data": {}}
    assert worker.answer(b"B", json.dumps(content).encode()) == (b"+", b"")
    for rule in (b"prints", b"panics"):
        worker.answer(b"E", BUNDLE.digest.encode() + b"data.t." + rule + b'\0{"secret": "Lovelace", "text": "x"}')
    engine = worker._engines[BUNDLE.digest]
    assert engine.take_prints() == []
    assert json.loads(engine.eval_query_as_json("input")) == {}


def test_a_frozen_worker_is_given_up_and_replaced(make):
    engine = make(workers=1, limits=Limits(wait_s=0.5))
    before = list_workers()
    ask(engine)
    (worker,) = list_workers() - before
    freeze(worker)
    assert failure(engine, "echo") == "timeout"
    assert not is_running(worker)


def test_a_worker_that_somebody_killed_while_it_was_idle_costs_no_answer(make):
    engine = make(workers=1)
    before = list_workers()
    ask(engine)
    (worker,) = list_workers() - before
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_running(worker))
    assert ask(engine, document={"after": 1}) == {"input": {"after": 1}}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing can be bound to a processor here")
@pytest.mark.parametrize("rule", ["echo", "loops", "panics"])
def test_a_thread_that_asked_goes_where_it_may_whatever_became_of_the_answer(make, rule):
    before = os.sched_getaffinity(0)
    engine = make()
    ask(engine)
    with contextlib.suppress(EngineFailed):
        ask(engine, rule)
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing can be bound to a processor here")
def test_a_worker_at_work_alone_is_bound_to_a_processor_and_one_of_two_is_not(make):
    engine = make()
    before = list_workers()
    ask(engine)
    (first,) = list_workers() - before
    assert len(os.sched_getaffinity(first)) == 1
    with engine._workers.one():
        ask(engine)
    (second,) = list_workers() - before - {first}
    assert os.sched_getaffinity(second) == os.sched_getaffinity(0)


def test_a_worker_killed_at_work_is_an_error(make):
    engine = make(workers=1, limits=Limits(evaluation_ms=20_000, wait_s=20))
    before = list_workers()
    ask(engine)
    (worker,) = list_workers() - before
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(failure, engine, "loops")
        time.sleep(0.2)
        os.kill(worker, signal.SIGKILL)
        assert answer.result() == "error"


def test_every_worker_busy_is_a_timeout_and_not_another_worker(make):
    engine = make(workers=2, limits=Limits(wait_s=0.1))
    before = list_workers()
    with engine._workers.one(), engine._workers.one():
        with pytest.raises(EngineFailed) as caught:
            ask(engine)
        assert (caught.value.failure, str(caught.value)) == ("timeout", "every worker is busy")
        assert engine.find_problem() == "every worker is busy"
        assert len(list_workers() - before) == 2
    assert ask(engine, document={"after": 1}) == {"input": {"after": 1}}
    assert len(list_workers() - before) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_not_held_and_its_answer_is_not_taken_for_the_next(make, monkeypatch, interruption):
    engine = make(workers=1)
    ask(engine)

    def interrupted(*_):
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(rego, "read_frame", interrupted)
        with pytest.raises(interruption):
            ask(engine, document={"before": 1})
    assert ask(engine, document={"after": 1}) == {"input": {"after": 1}}


def test_bundles_are_read_when_they_are_first_asked_for_and_the_last_few_are_kept(make):
    bundles, asked = {}, []
    for number in range(MAX_BUNDLES + 1):
        text = f'package t\n\necho := {{"bundle": {number}}}\n'
        bundle = make_bundle({"t/t.rego": text.encode()}, name="t")
        bundles[bundle.digest] = bundle

    def read_bundle(digest):
        asked.append(digest)
        return bundles[digest]

    engine = make(read_bundle, workers=1)
    for _ in range(2):
        for number, digest in enumerate(list(bundles)[:MAX_BUNDLES]):
            assert ask(engine, digest=digest) == {"bundle": number}
    assert asked == list(bundles)[:MAX_BUNDLES]
    ask(engine, digest=list(bundles)[MAX_BUNDLES])
    ask(engine, digest=list(bundles)[MAX_BUNDLES - 1])
    assert len(asked) == MAX_BUNDLES + 1
    ask(engine, digest=asked[0])
    assert asked[-1] == asked[0], "the one longest unused went first"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (NotFound("no such bundle"), "wrong_bundle"),
        (Unavailable("the database is away"), "error"),
        (make_bundle({"t/t.rego": b"package t\n"}, name="other"), "wrong_bundle"),
        (make_bundle({"t/t.rego": b"package t\n\nx := := 1\n"}, name="t"), "error"),
    ],
)
def test_a_bundle_that_cannot_be_had_is_no_answer(make, answer, expected):
    def read_bundle(_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    digest = answer.digest if expected == "error" and not isinstance(answer, Exception) else "0" * 64
    with pytest.raises(EngineFailed) as caught:
        ask(make(read_bundle), digest=digest)
    assert caught.value.failure == expected


def test_a_bundle_that_does_not_compile_is_refused_with_the_place(make):
    engine = make()
    with pytest.raises(Malformed, match=r"does not compile: failed at a/a\.rego:2:"):
        engine.verify_bundle(make_bundle({"a/a.rego": b"package a\nx := := 1"}, name="a"))
    engine.verify_bundle(BUNDLE)


def test_a_bundle_that_takes_for_ever_to_compile_is_refused(make):
    deep = b"package a\n\nx := " + b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(Malformed, match="processor time"):
        make(limits=Limits(compile_ms=300)).verify_bundle(make_bundle({"a/a.rego": deep}, name="a"))


def test_a_child_that_was_forked_has_workers_of_its_own_and_leaves_those_at_work_alone(make):
    engine = make(workers=2, limits=Limits(wait_s=2))
    ask(engine)
    with engine._workers.one(), engine._workers.one():
        wait_until(lambda: len(list_workers()) >= 2, 20)  # one that was just forked has not its own name yet
        workers = list_workers()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                answered = ask(engine, document={"child": 1}) == {"input": {"child": 1}}
                status = 0 if answered and list_workers() else 2
                engine.close()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert list_workers() == workers
    assert ask(engine, document={"parent": 1}) == {"input": {"parent": 1}}


def test_an_engine_that_nobody_holds_leaves_no_process():
    before = list_workers()
    engine = RegoEngine(read)
    ask(engine)
    assert list_workers() - before
    del engine
    gc.collect()
    assert not list_workers() - before


VICTIM = """
import sys
from app.adapters.rego import RegoEngine
from app.policy.ports import EngineFailed
from tests.integration.test_rego_workers import BUNDLE, ask, read
engine = RegoEngine(read)
ask(engine)
print("ready", flush=True)
while sys.argv[1] == "busy":
    try:
        ask(engine, "loops")
    except EngineFailed:
        pass
sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_process_however_that_ended(number, state):
    command = [sys.executable, "-c", VICTIM, state]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as victim:
        assert victim.stdout.readline() == b"ready\n"
        time.sleep(0.05)
        workers = set(list_children(victim.pid))
        victim.send_signal(number)
        victim.wait(10)
        assert state == "busy" or workers
        wait_until(lambda: not any(map(is_running, workers)), 5.0, what="the end of the workers")


def test_a_process_that_ends_by_itself_ends_its_workers_without_a_word():
    script = VICTIM.replace("sys.stdin.read()", "")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, "idle"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (b"ready\n", b"")


def test_the_engine_names_its_exact_version(make):
    assert (make().ref.name, make().ref.version) == ("regorus", "0.13.0")
