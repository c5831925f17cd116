"""What every `PolicyEngine` promises, and what the embedded one promises besides."""

from __future__ import annotations

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.adapters import rego
from app.adapters.rego import MAX_ENGINES_PER_THREAD, PooledEngine, RegoEngine
from app.errors import Malformed
from app.policy.bundle import make_bundle
from app.policy.ports import EngineFailed

MODULE = b"""package t

echo := {"input": input}

divides := {"x": 10 / input.by}

conflicts := {"x": 1} if input.a

conflicts := {"x": 2} if input.b

sometimes := {"x": 1} if input.a

panics := {"x": strings.count(input.text, "")}

prints := {"x": 1} if print(input.secret)

text := "<undefined>"

number := 1

fraction := {"x": 0.5}

large := {"x": [n | some n in numbers.range(1, 40000)]}

table := {"row": data.data.rows.by_id[input.id]}

unknown := {"x": nothing.of_ours(1)}
"""
ROWS = b'{"version": "1", "by_id": {"a": 7}}'
BUNDLE = make_bundle({"t/t.rego": MODULE, "data/rows/data.json": ROWS}, name="t")


@pytest.fixture
def engine():
    return RegoEngine(BUNDLE)


def ask(engine, rule, document=None):
    return engine.evaluate(f"t/{rule}", document or {}, bundle_digest=BUNDLE.digest)


def failure(engine, rule, document=None):
    with pytest.raises(EngineFailed) as caught:
        ask(engine, rule, document)
    assert ask(engine, "echo", {"after": 1}) == {"input": {"after": 1}}, "the next call is answered"
    return caught.value.failure


def test_the_input_arrives_as_it_was_sent(engine):
    document = {"text": "Zoltán 名", "whole": 2**53 - 1, "none": None, "list": [True, -1, {"a": []}]}
    assert ask(engine, "echo", document) == {"input": document}


def test_data_is_mounted_where_policies_read_it(engine):
    assert ask(engine, "table", {"id": "a"}) == {"row": 7}
    assert failure(engine, "table", {"id": "b"}) == "undefined"


def test_an_answer_never_depends_on_the_input_before(engine):
    for _ in range(3):
        assert ask(engine, "sometimes", {"a": True}) == {"x": 1}
        assert failure(engine, "sometimes", {"a": False}) == "undefined"
        assert failure(engine, "sometimes") == "undefined"


@pytest.mark.parametrize(
    ("rule", "document", "expected"),
    [
        ("divides", {"by": 0}, "error"),
        ("conflicts", {"a": True, "b": True}, "error"),
        ("unknown", {}, "error"),
        ("absent", {}, "error"),
        ("panics", {"text": "x"}, "panic"),
        ("sometimes", {}, "undefined"),
        ("text", {}, "undefined"),
        ("number", {}, "answer_refused"),
        ("large", {}, "answer_refused"),
        ("Echo; drop", {}, "wrong_entrypoint"),
        ("echo", {"x": 0.5}, "input_refused"),
        ("echo", {"x": 2**53}, "input_refused"),
        ("echo", {"x": "\ud800"}, "input_refused"),
        ("echo", {"x": object()}, "input_refused"),
        ("echo", {"x": "a" * rego.MAX_INPUT_BYTES}, "input_refused"),
    ],
)
def test_whatever_goes_wrong_is_engine_failed_and_the_next_call_is_answered(engine, rule, document, expected):
    assert failure(engine, rule, document) == expected


def test_an_input_nested_without_end_is_refused(engine):
    document: dict = {}
    document["again"] = document
    assert failure(engine, "echo", document) == "input_refused"


def test_another_bundle_than_the_one_asked_for_gives_no_answer(engine):
    with pytest.raises(EngineFailed) as caught:
        engine.evaluate("t/echo", {}, bundle_digest="0" * 64)
    assert caught.value.failure == "wrong_bundle"


def test_an_error_says_where_and_never_what_was_asked(engine):
    with pytest.raises(EngineFailed, match=r"t/t\.rego:5:") as caught:
        ask(engine, "divides", {"by": 0, "name": "Lovelace"})
    assert "Lovelace" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_what_a_policy_prints_reaches_no_stream(engine, capfd):
    assert ask(engine, "prints", {"secret": "Lovelace"}) == {"x": 1}
    assert capfd.readouterr() == ("", "")


def test_an_answer_over_the_budget_is_not_used():
    clock = iter([0, 100_999_999, 200_000_000, 301_000_000])
    engine = RegoEngine(BUNDLE, budget_ms=100, thread_time_ns=lambda: next(clock))
    assert ask(engine, "echo") == {"input": {}}
    with pytest.raises(EngineFailed) as caught:
        ask(engine, "echo")
    assert caught.value.failure == "timeout"


def test_one_engine_serves_many_threads_at_once(engine):
    barrier = threading.Barrier(8)

    def work(worker: int) -> list[object]:
        barrier.wait()
        return [ask(engine, "echo", {"worker": worker, "turn": turn}) for turn in range(50)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers == [[{"input": {"worker": w, "turn": t}} for t in range(50)] for w in range(8)]


def test_a_pool_answers_as_its_engine_does_and_keeps_its_engines_to_its_own_threads(engine):
    pooled = PooledEngine(engine, threads=2)
    before = len(rego._THREAD.engines)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda turn: ask(pooled, "echo", {"turn": turn}), range(64)))
    assert answers == [{"input": {"turn": turn}} for turn in range(64)]
    assert failure(pooled, "panics", {"text": "x"}) == "panic"
    assert ask(pooled, "echo", {"turn": 1}) == {"input": {"turn": 1}}
    assert len(rego._THREAD.engines) == before
    assert pooled.ref == engine.ref


def test_a_panic_in_one_thread_leaves_the_others_working(engine):
    barrier = threading.Barrier(4)

    def work(worker: int) -> list[str]:
        barrier.wait()
        if worker:
            return [str(ask(engine, "echo", {"w": worker})) for _ in range(20)]
        return [failure(engine, "panics", {"text": "x"}) for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, range(4)))
    assert answers[0] == ["panic"] * 3
    assert answers[3] == [str({"input": {"w": 3}})] * 20


def test_an_exception_that_outlives_its_thread_does_not_take_the_engine_with_it(engine, monkeypatch):
    dropped_elsewhere = []
    monkeypatch.setattr(sys, "unraisablehook", dropped_elsewhere.append)
    kept = []

    def work() -> None:
        for rule, document in (("panics", {"text": "x"}), ("divides", {"by": 0})):
            try:
                ask(engine, rule, document)
            except EngineFailed as error:
                kept.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(kept) == 2
    kept.clear()
    gc.collect()
    assert dropped_elsewhere == []


def test_a_thread_keeps_a_bounded_number_of_engines():
    for number in range(MAX_ENGINES_PER_THREAD + 3):
        bundle = make_bundle({"a/a.rego": f"package a\nx := {{'n': {number}}}".replace("'", '"').encode()}, name="a")
        assert RegoEngine(bundle).evaluate("a/x", {}, bundle_digest=bundle.digest) == {"n": number}
    assert len(rego._THREAD.engines) == MAX_ENGINES_PER_THREAD


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_is_not_held(engine, monkeypatch, interruption):
    def interrupted(*_):
        raise interruption

    monkeypatch.setattr(rego, "_evaluate", interrupted)
    with pytest.raises(interruption):
        ask(engine, "echo")


@pytest.mark.parametrize(
    "functions",
    [
        "f(x) := f(x)",
        "f(x) := g(x)\n\ng(x) := 1 if { f(x) }",
        "f(x) := y if { y := data.a.f(x) }",
        'f(x) := y if { y := data.a["f"](x) }',
        "f(x) := 1 if { x } else := f(x)",
    ],
)
def test_functions_that_recurse_are_refused_before_they_can_kill_the_process(functions):
    with pytest.raises(Malformed, match="may call itself"):
        RegoEngine(make_bundle({"a/a.rego": f"package a\n\n{functions}\n".encode()}, name="a"))


def test_rules_that_recurse_are_an_error():
    bundle = make_bundle({"a/a.rego": b"package a\n\nx := y\n\ny := x\n\nz := f(1)\n\nf(n) := z"}, name="a")
    engine = RegoEngine(bundle)
    for rule in ("x", "z"):
        with pytest.raises(EngineFailed) as caught:
            engine.evaluate(f"a/{rule}", {}, bundle_digest=bundle.digest)
        assert caught.value.failure == "error"


def test_a_bundle_that_does_not_parse_is_refused_at_start():
    with pytest.raises(Malformed, match=r"does not compile: failed at a/a\.rego:2:"):
        RegoEngine(make_bundle({"a/a.rego": b"package a\nx := := 1"}, name="a"))


def test_the_engine_names_its_exact_version(engine):
    assert (engine.ref.name, engine.ref.version) == ("regorus", "0.13.0")
