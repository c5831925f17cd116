package custom.regal.rules.assay["bound-head_test"]

import data.regal.ast

import data.custom.regal.rules.assay["bound-head"] as rule

found(policy) := report if report := rule.report with input as ast.policy(policy)

test_a_look_up_in_the_head_of_a_rule_that_iterates_is_found if {
	count(found(`x contains a.b if some a in input.l`)) == 1
	count(found(`x contains f(a.b) if { some a in input.l; a }`)) == 1
	count(found(`x[k] := a.b if some k, a in input.l`)) == 1
	count(found(`x[k] := words.f(rows[k].n) if some k, a in input.l`)) == 1
}

test_what_the_body_bound_passes if {
	count(found(`x contains b if { some a in input.l; b := a.b }`)) == 0
	count(found(`x[k] := words.f(a, "b") if some k, a in input.l`)) == 0
}

test_a_rule_that_does_not_iterate_passes if {
	count(found(`x["law"] := law.name`)) == 0
	count(found(`x := input.a.b if input.a.c`)) == 0
	count(found(`f(a) := a.b if { some c in [1]; c == a.c }`)) == 0
}
