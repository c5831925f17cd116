"""Both engines give the same bytes for whatever is asked of the shipped policies: a gate of CI."""

from __future__ import annotations

from app.adapters.opa import OpaEngine
from app.adapters.opa_process import running_opa
from app.adapters.rego import RegoEngine
from app.policy.bundle import make_bundle
from app.policy.parity import compare_engines
from app.policy.query import Query
from scripts.parity import POLICIES, compare, draw
from tests.parts.policy_inputs import list_entrypoints
from tests.policies.rego_suite import shipped

QUESTIONS = 600
LEAST_ANSWERED = QUESTIONS // 4


def test_the_engines_do_not_differ_on_the_shipped_policies(opa_program):
    policies = shipped()
    asked = list(draw(POLICIES, policies, QUESTIONS))
    assert {question.entrypoint for question in asked} == set(list_entrypoints(policies))
    parity = compare(opa_program, policies, iter(asked))
    assert parity.asked > QUESTIONS
    assert parity.answered >= LEAST_ANSWERED, "inputs that no policy answers compare nothing"
    assert parity.differences == ()


def test_a_difference_is_found_counted_and_shown(opa_program):
    """`upper` is outside the dialect for this reason: Go and Rust do not agree on it."""
    bundle = make_bundle({"t/t.rego": b'package t\n\ndecide := {"x": upper(input.x)}\n'}, name="t")
    questions = [Query(entrypoint="t/decide", document={"x": text}) for text in ("a", "ß", 1)]
    with running_opa(opa_program, bundle) as server:
        opa, embedded = OpaEngine(server.url, timeout_s=5), RegoEngine(lambda _: bundle)
        parity = compare_engines(embedded, opa, questions, bundle_digest=bundle.digest)
        opa.close()
        embedded.close()
    assert (parity.asked, parity.answered, parity.different) == (3, 2, 1)
    (difference,) = parity.differences
    assert difference.document == {"x": "ß"}
    assert {difference.first, difference.second} == {'{"x":"SS"}', '{"x":"ß"}'}
