package authz_test

import data.authz

table := {
	"scopes": ["a:read", "a:write"],
	"operations": {
		"GET /a": "a:read",
		"GET /odd": "b:read",
		"GET /open": "public",
	},
}

ask(operation, scopes) := answer if {
	asked := {"authz": {"operation": operation, "scopes": scopes}}
	answer := authz.decide with input as asked with data.data.authz as table
}

test_the_scope_of_the_row_is_allowed_and_no_other if {
	ask("GET /a", ["a:read"]) == {"verdict": "allow", "reasons": [], "output": {"needs": "a:read"}}
	answer := ask("GET /a", ["a:write"])
	answer.verdict == "deny"
	answer.reasons[0].code == "scope_missing"
	answer.output.needs == "a:read"
}

test_what_is_public_needs_no_scope if ask("GET /open", []).verdict == "allow"

test_a_scope_called_public_is_no_key if ask("GET /a", ["public"]).verdict == "deny"

test_an_operation_without_a_row_is_nobodys if {
	answer := ask("GET /b", ["a:read", "a:write", "public"])
	answer.verdict == "deny"
	answer.reasons[0].code == "operation_unlisted"
}

test_a_row_with_a_scope_that_does_not_exist_allows_nobody if {
	ask("GET /odd", ["b:read"]).verdict == "deny"
}

test_no_operation_is_no_answer if {
	not authz.decide with input as {"authz": {"scopes": []}}
	not authz.decide with input as {}
}

test_every_shipped_row_names_a_scope_that_exists if {
	every needed in data.data.authz.operations {
		needed in ({"public"} | {scope | some scope in data.data.authz.scopes})
	}
}
