package custom.regal.rules.assay["portable-syntax_test"]

import data.regal.ast

import data.custom.regal.rules.assay["portable-syntax"] as rule

found(policy) := report if report := rule.report with input as ast.policy(policy)

test_a_fraction_is_found_wherever_it_is if {
	count(found(`x := 0.5`)) == 1
	count(found(`x if input.a > 1.5`)) == 1
	count(found(`x := {"a": [-0.1]}`)) == 1
}

test_an_integer_passes if count(found(`x := [0, -7, 9007199254740991]`)) == 0

test_interpolation_is_found if count(found(`x := $"{input.name}"`)) == 1

test_a_renamed_import_is_found if {
	count(found(`import data.a as b`)) == 1
	count(found(`import data.a`)) == 0
}

test_a_set_in_an_answer_is_found if {
	count(found(`decide := {"verdict": "allow", "reasons": {1, 2}}`)) == 1
	count(found(`decide := {"verdict": "allow", "reasons": {r | some r in input.r}}`)) == 1
}

test_a_sorted_set_in_an_answer_passes if {
	count(found(`decide := {"verdict": "allow", "reasons": sort({r | some r in input.r})}`)) == 0
	count(found(`other := {"reasons": {1, 2}}`)) == 0
}
