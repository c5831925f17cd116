package custom.regal.rules.assay["portable-builtins_test"]

import data.regal.ast
import data.regal.config

import data.custom.regal.rules.assay["portable-builtins"] as rule

found(policy) := report if {
	report := rule.report with input as ast.policy(policy) with config.capabilities as data.regal.capabilities.provided
}

test_what_reaches_outside_is_found if {
	outside := {
		`http.send({"method": "get", "url": "http://127.0.0.1"})`, `time.now_ns()`, `rand.intn("a", 9)`,
		`uuid.rfc4122("a")`, `opa.runtime()`, `crypto.sha256("a")`, `io.jwt.decode("a")`, `rego.metadata.rule()`,
		`net.lookup_ip_addr("localhost")`, `time.parse_rfc3339_ns("2026-06-30T00:00:00Z")`,
	}
	every call in outside {
		count(found(sprintf("x := %s", [call]))) == 1
	}
	count(found(`x if { print("hello") }`)) == 1
}

test_a_call_within_another_is_found if count(found(`x := count([y | y := time.now_ns()])`)) == 1

test_what_is_portable_passes if {
	count(found(`x := sort({concat(" ", ["a"]), "b"}) if { count(input.a) + 1 > max([2, 3]); "a" in input.a }`)) == 0
}

test_functions_of_ours_pass if count(found("f(a) := a\n\nx := f(1)\n\ny := words.short(1)")) == 0

test_tests_may_print_json if {
	module := object.union(ast.policy(`x := json.marshal({})`), {"regal": {"file": {"name": "p_test.rego"}}})
	report := rule.report with input as module with config.capabilities as data.regal.capabilities.provided
	count(report) == 0
	count(found(`x := json.marshal({})`)) == 1
}
