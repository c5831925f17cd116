"""What every `PolicyEngine` promises: the same tests over the embedded engine and over a real OPA server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.adapters.opa import OpaEngine
from app.adapters.opa_process import running_opa
from app.adapters.rego import Limits, RegoEngine
from app.policy.bundle import make_bundle
from app.policy.decide import parse_answer
from app.policy.ports import EngineFailed
from app.policy.query import Query
from app.policy.question import MAX_INPUT_BYTES

MODULE = b"""package t

echo := {"input": input}

divides := {"x": 10 / input.by}

conflicts := {"x": 1} if input.a

conflicts := {"x": 2} if input.b

sometimes := {"x": 1} if input.a

number := 1

text := "<undefined>"

large := {"x": [n | some n in numbers.range(1, 40000)]}

table := {"row": data.data.rows.by_id[input.id]}

loops := {"x": count({a | some a in numbers.range(1, 20000); some b in numbers.range(1, 20000); b == 0})} if input.go

explodes := {"x": count([[a, b] | some a in numbers.range(1, 20000); some b in numbers.range(1, 20000)])} if input.go

allows := {"verdict": "allow", "reasons": [], "output": {}} if 10 / input.by > 0
"""
ROWS = b'{"version": "1", "by_id": {"a": 7}}'
BUNDLE = make_bundle({"t/t.rego": MODULE, "data/rows/data.json": ROWS}, name="t")
TIMEOUT_S = 1.0
MEMORY_BYTES = 128 * 1024 * 1024


@pytest.fixture(scope="module")
def embedded():
    engine = RegoEngine(lambda _: BUNDLE, limits=Limits(memory_bytes=MEMORY_BYTES))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def opa_by_socket(opa_program):
    with running_opa(opa_program, BUNDLE) as server:
        engine = OpaEngine(server.url, timeout_s=TIMEOUT_S)
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def opa_by_port(opa_program):
    with running_opa(opa_program, BUNDLE, by_socket=False) as server:
        engine = OpaEngine(server.url, timeout_s=TIMEOUT_S)
        yield engine
        engine.close()


@pytest.fixture(params=["embedded", "opa_by_socket", "opa_by_port"])
def engine(request):
    return request.getfixturevalue(request.param)


def ask(engine, rule, document=None):
    return engine.evaluate(f"t/{rule}", document or {}, bundle_digest=BUNDLE.digest)


def failure(engine, rule, document=None):
    with pytest.raises(EngineFailed) as caught:
        ask(engine, rule, document)
    assert ask(engine, "echo", {"after": 1}) == {"input": {"after": 1}}, "the next call is answered"
    return caught.value.failure


def test_the_input_arrives_as_it_was_sent(engine):
    document = {"text": "Zoltán 名 <&>\u2028", "whole": 2**53 - 1, "none": None, "list": [True, -1, {"a": []}]}
    assert ask(engine, "echo", document) == {"input": document}


def test_data_is_mounted_where_policies_read_it_and_a_missing_row_is_undefined(engine):
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
        ("divides", {"by": 0}, {"error"}),
        ("allows", {"by": 0}, {"error"}),
        ("conflicts", {"a": True, "b": True}, {"error"}),
        ("loops", {"go": True}, {"timeout"}),
        ("explodes", {"go": True}, {"timeout", "memory"}),
        ("absent", {}, {"error", "undefined"}),
        ("sometimes", {}, {"undefined"}),
        ("number", {}, {"answer_refused"}),
        ("large", {}, {"answer_refused"}),
        ("Echo; drop", {}, {"wrong_entrypoint"}),
        ("../../config", {}, {"wrong_entrypoint"}),
        ("echo", {"x": 0.5}, {"input_refused"}),
        ("echo", {"x": 2**53}, {"input_refused"}),
        ("echo", {"x": "\ud800"}, {"input_refused"}),
        ("echo", {"x": object()}, {"input_refused"}),
        ("echo", {"x": "a" * MAX_INPUT_BYTES}, {"input_refused"}),
        ("echo", {"x": "a" * 2**20}, {"input_refused"}),
    ],
)
def test_whatever_goes_wrong_is_engine_failed_and_the_next_call_is_answered(engine, rule, document, expected):
    assert failure(engine, rule, document) in expected


def ask_all(engine, *questions, bundle=BUNDLE.digest):
    queries = [Query(entrypoint=f"t/{rule}", document=document) for rule, document in questions]
    return [
        answer.failure if isinstance(answer, EngineFailed) else answer
        for answer in engine.evaluate_all(queries, bundle_digest=bundle)
    ]


def test_questions_asked_together_are_answered_each_as_if_alone_and_in_order(engine):
    numbers = range(64)
    assert ask_all(engine, *(("echo", {"n": n}) for n in numbers)) == [{"input": {"n": n}} for n in numbers]
    assert ask_all(engine, ("sometimes", {"a": True}), ("sometimes", {}), ("sometimes", {"a": True})) == [
        {"x": 1},
        "undefined",
        {"x": 1},
    ]


@pytest.mark.parametrize(
    ("rule", "document", "expected"),
    [
        ("divides", {"by": 0}, {"error"}),
        ("loops", {"go": True}, {"timeout"}),
        ("explodes", {"go": True}, {"timeout", "memory"}),
        ("number", {}, {"answer_refused"}),
        ("large", {}, {"answer_refused"}),
        ("Echo; drop", {}, {"wrong_entrypoint"}),
        ("echo", {"x": 0.5}, {"input_refused"}),
        ("echo", {"x": "a" * MAX_INPUT_BYTES}, {"input_refused"}),
    ],
)
def test_one_that_fails_among_many_costs_the_others_no_answer(engine, rule, document, expected):
    before, failed, after = ask_all(engine, ("echo", {"n": 1}), (rule, document), ("echo", {"n": 2}))
    assert (before, after) == ({"input": {"n": 1}}, {"input": {"n": 2}})
    assert failed in expected


def test_many_large_questions_with_large_answers_do_not_block_each_other(engine):
    text = "a" * (MAX_INPUT_BYTES - 1024)
    assert ask_all(engine, *(("echo", {"n": n, "text": text}) for n in range(32))) == [
        {"input": {"n": n, "text": text}} for n in range(32)
    ]


def test_questions_of_an_unknown_bundle_all_fail(engine):
    assert ask_all(engine, ("echo", {}), ("echo", {}), bundle="0" * 64) == ["wrong_bundle"] * 2


def test_an_answer_in_words_of_ours_for_undefined_is_still_no_object(engine):
    assert failure(engine, "text") in {"undefined", "answer_refused"}


def test_an_allow_is_only_ever_what_the_policy_said(engine):
    outcome, _ = parse_answer(ask(engine, "allows", {"by": 2}))
    assert type(outcome).__name__ == "Allow"
    assert failure(engine, "allows", {"by": -2}) == "undefined"


def test_an_input_nested_without_end_is_refused(engine):
    document: dict = {}
    document["again"] = document
    assert failure(engine, "echo", document) == "input_refused"


@pytest.mark.parametrize("digest", ["", "assay", "../" * 20, "\0" * 64])
def test_what_is_no_digest_names_no_bundle(engine, digest):
    with pytest.raises(EngineFailed) as caught:
        engine.evaluate("t/echo", {}, bundle_digest=digest)
    assert caught.value.failure == "wrong_bundle"


def test_another_bundle_than_the_one_asked_for_gives_no_answer(engine):
    with pytest.raises(EngineFailed) as caught:
        engine.evaluate("t/echo", {}, bundle_digest="0" * 64)
    assert caught.value.failure == "wrong_bundle"
    assert ask(engine, "echo") == {"input": {}}


def test_an_error_says_where_and_never_what_was_asked(engine):
    with pytest.raises(EngineFailed, match=r"t/t\.rego:5:") as caught:
        ask(engine, "divides", {"by": 0, "name": "Lovelace"})
    assert "Lovelace" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_one_engine_serves_many_threads_at_once(engine):
    barrier = threading.Barrier(8)

    def work(worker: int) -> list[object]:
        barrier.wait()
        return [ask(engine, "echo", {"worker": worker, "turn": turn}) for turn in range(50)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers == [[{"input": {"worker": w, "turn": t}} for t in range(50)] for w in range(8)]


def test_one_bad_rule_leaves_the_other_threads_working(engine):
    barrier = threading.Barrier(3)

    def work(worker: int) -> list[str]:
        barrier.wait()
        if worker:
            return [str(ask(engine, "echo", {"w": worker})) for _ in range(20)]
        return [failure(engine, "loops", {"go": True}) for _ in range(2)]

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(work, range(3)))
    assert answers[0] == ["timeout"] * 2
    assert answers[2] == [str({"input": {"w": 2}})] * 20


def test_an_engine_that_can_decide_has_no_problem_to_report(engine):
    assert engine.find_problem() is None
