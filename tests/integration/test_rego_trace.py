"""Rules run for authors: values, coverage, and bounds that hold whatever the policy does."""

from __future__ import annotations

import pytest

from app.adapters.rego_trace import DoesNotCompileError, TraceFailedError, run_rules

RULE = "data.a.x"


def run(text, **options):
    return run_rules({"a/a.rego": f"package a\n\n{text}\n"}, {"d": {"rows": [1]}}, [RULE], **options)


def test_values_and_lines_are_told_and_rules_besides_cover_nothing():
    text = "x := y if input.z\n\ny := data.data.d.rows\n\nnever := 1\n\nf(n) := n"
    found = run(text, document={"z": True}, besides=["data.a.y", "data.a.never"])
    assert found.values == {RULE: [1], "data.a.y": [1], "data.a.never": 1}
    assert found.covered == {"a/a.rego": [3, 5]}
    assert found.not_covered == {"a/a.rego": [7, 9]}
    assert found.errors == {}
    assert "True" not in repr(found)


def test_what_is_undefined_has_no_value():
    assert run("x := 1 if input.z").values == {RULE: None}


def test_an_error_names_its_place_and_does_not_end_the_others():
    found = run_rules(
        {"a/a.rego": "package a\n\nx := 1 / input.z\n\ny := 2\n"}, {}, [RULE, "data.a.y"], document={"z": 0}
    )
    assert found.errors == {RULE: "a/a.rego:3:8: divide by zero"}
    assert found.values == {"data.a.y": 2}


@pytest.mark.parametrize("text", ["x :=", "x := {", "import"])
def test_what_does_not_compile_says_where(text):
    with pytest.raises(DoesNotCompileError, match=r"a/a\.rego:[34]:"):
        run(text)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("x := count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000)])", "timeout"),
        ("f(n) := f(n + 1)\n\nx := f(1)", "panic"),
        (
            'x := [concat("", ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" | some i in numbers.range(1, 30000000)])]',
            "memory",
        ),
    ],
)
def test_a_rule_that_loops_recurses_or_explodes_costs_its_own_process_alone(text, failure):
    with pytest.raises(TraceFailedError) as failed:
        run(text, cpu_limit_s=20.0 if failure == "memory" else 0.5, wall_limit_s=60)
    assert failed.value.failure == failure


def test_what_sleeps_on_the_clock_is_ended_too():
    with pytest.raises(TraceFailedError, match="longer than"):
        run(
            "x := count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000)])", wall_limit_s=0.3
        )


def test_the_environment_is_not_there_to_be_read(monkeypatch):
    monkeypatch.setenv("ASSAY_STRIPE_API_KEY", "sk_live_hidden")
    try:
        found = run("x := opa.runtime()")
    except DoesNotCompileError:
        return
    assert "hidden" not in str(found.values) + str(found.errors)
