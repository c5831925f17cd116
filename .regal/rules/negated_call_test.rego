package custom.regal.rules.assay["negated-call_test"]

import data.regal.ast

import data.custom.regal.rules.assay["negated-call"] as rule

found(policy) := report if report := rule.report with input as ast.policy(policy)

test_a_negated_call_on_what_may_be_undefined_is_found if {
	count(found(`x if not is_number(input.a.b)`)) == 1
	count(found(`x if not input.a in {1}`)) == 1
	count(found(`x if not count(input.a.b) > 1`)) == 1
	count(found(`x if { some k in [1]; not is_number(table[k]) }`)) == 1
}

test_one_within_a_comprehension_is_found if {
	count(found(`x := [k | some k in [1]; not is_number(table[k])]`)) == 1
}

test_a_negated_look_up_by_what_may_be_undefined_is_found if {
	count(found(`x if not table[input.a]`)) == 1
	count(found("y := input.a\n\nx if not table[y]")) == 1
	count(found("y := input.a\n\nx if not is_number(y)")) == 1
}

test_a_negated_name_passes if {
	count(found(`x if not input.a.b`)) == 0
	count(found("y := input.a\n\nx if not y")) == 0
	count(found("y contains 1\n\nx if { some k in [1]; not y[k]; not k in y }")) == 0
	count(found(`x if { some k in [1]; not table[k].b }`)) == 0
	count(found(`x if { some k in [1]; not near(k); not is_number(k) }`)) == 0
	count(found(`x if { some k in [1]; not words.near(lower(k)) }`)) == 0
}

test_what_is_not_negated_passes if count(found(`x if is_number(input.a.b)`)) == 0
