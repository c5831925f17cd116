"""Rules and their METADATA, from the text of modules."""

from __future__ import annotations

import pytest

from app.policy.annotation import Annotation, find_entrypoint_title, list_rules
from app.policy.decision import Reason
from app.policy.explain import Trace, explain, list_queries, say
from tests.policies.rego_suite import shipped

MODULE = """# A comment.
# METADATA
# title: The package
package a.b

import data.c

# METADATA
# title: "What is asked"
# description: |
#   Two lines, with a key: inside,
#   of text.
# entrypoint: true
# custom:
#   control: A-1
#   statute: Some Act, s. 2
#   effective_from: "2026-01-01"
decide := {"x": 1} if {
\tinput.y
} else := {
\t"x": 2,
} if {
\tnot input.y
}

# METADATA
# title: A set
listed contains 1 if input.y

# no annotation of its own
listed contains 2

default flag := false

flag if helper(input.y)

helper(y) if y == 1
"""


@pytest.fixture(scope="module")
def rules():
    return list_rules({"a/b.rego": MODULE})


def test_every_definition_is_found_with_its_lines(rules):
    assert [(rule.name, rule.first, rule.last) for rule in rules] == [
        ("decide", 18, 24),
        ("listed", 28, 28),
        ("listed", 31, 31),
        ("flag", 33, 33),
        ("flag", 35, 35),
        ("helper", 37, 37),
    ]
    assert rules[0].query == "data.a.b.decide"


def test_an_annotation_is_read_with_what_is_custom_and_a_text_of_lines(rules):
    assert rules[0].annotation == Annotation(
        title="What is asked",
        description="Two lines, with a key: inside, of text.",
        control="A-1",
        statute="Some Act, s. 2",
        effective_from="2026-01-01",
        entrypoint=True,
    )
    assert find_entrypoint_title(rules, "a/b/decide") == "What is asked"
    assert find_entrypoint_title(rules, "a/b/listed") == "A set"
    assert find_entrypoint_title(rules, "a/b/none") is None


def test_a_further_definition_has_the_annotation_of_its_name_and_another_name_none(rules):
    assert rules[2].annotation.title == "A set"
    assert rules[5].annotation == Annotation()


def test_the_shipped_entrypoints_say_what_they_are():
    shown = [rule for rule in list_rules(shipped().modules) if rule.annotation.entrypoint]
    assert {"payments", "kyc", "routing", "sanctions"} <= {rule.package for rule in shown}
    assert all(rule.annotation.title and rule.annotation.control for rule in shown)


@pytest.mark.parametrize("text", ["", "package", "package a\n#", "# METADATA", "}\n]\n", "package a\n\nx", "🙂 := 1"])
def test_text_that_is_no_module_is_read_without_harm(text):
    assert len(list_rules({"a.rego": text})) <= 1


def explained(rules, covered, values):
    trace = Trace(value=None, covered={"a/b.rego": covered}, not_covered={}, values=values)
    return explain(rules, trace)


def test_only_rules_that_were_looked_at_are_told_with_what_they_came_to(rules):
    reasons = [{"code": "no", "message": "Not today."}]
    steps = explained(
        rules,
        [18, 19, 28, 33, 35],
        {"data.a.b.decide": {"verdict": "deny", "reasons": reasons}, "data.a.b.listed": [1], "data.a.b.flag": False},
    )
    assert [(step.rule.name, step.outcome) for step in steps] == [
        ("decide", "deny"),
        ("listed", "has a value"),
        ("flag", "does not hold"),
        ("flag", "does not hold"),
    ]
    assert steps[0].lines == (18, 19)
    assert steps[0].reasons == (Reason(code="no", message="Not today."),)
    assert say(steps[0]) == "What is asked [A-1, Some Act, s. 2]: deny (Not today.)"


def test_a_functions_value_is_never_asked_and_a_rules_value_is_never_told(rules):
    steps = explained(rules, [28, 37], {"data.a.b.listed": ["secret"]})
    assert [say(step) for step in steps] == ["A set: has a value", "a.b.helper: was used"]
    assert "secret" not in str(steps)


def test_what_is_true_holds(rules):
    assert explained(rules, [35], {"data.a.b.flag": True})[0].outcome == "holds"
    assert explained(rules, [35], {"data.a.b.flag": None})[0].outcome == "does not hold"


@pytest.mark.parametrize("reasons", [None, {}, ["x"], [{"code": "a"}], [{"code": "a", "message": "b", "more": "c"}]])
def test_reasons_of_another_shape_are_left_out(rules, reasons):
    [step] = explained(rules, [18], {"data.a.b.decide": {"verdict": "deny", "reasons": reasons}})
    assert step.reasons == ()


def test_each_name_is_asked_once_and_functions_are_not(rules):
    assert list_queries(rules) == ["data.a.b.decide", "data.a.b.flag", "data.a.b.listed"]
