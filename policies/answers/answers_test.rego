package answers_test

import data.answers

catalogue := {
	"stop": {"verdict": "deny", "control": "T-1", "message": "Stop."},
	"look": {"verdict": "review", "control": "T-2", "message": "Look."},
	"note": {"verdict": "allow", "control": "T-3", "message": "Note."},
}

combined(codes) := answers.combine({answers.found(catalogue, code) | some code in codes}, {"fact": 1})

test_nothing_found_is_allow if combined([]) == {"verdict": "allow", "reasons": [], "output": {"fact": 1}}

test_deny_wins_over_review_and_review_over_allow if {
	combined(["note", "look", "stop"]).verdict == "deny"
	combined(["note", "look"]).verdict == "review"
	combined(["note"]).verdict == "allow"
}

test_every_reason_is_kept_in_order_of_its_code if {
	codes := [reason.code | some reason in combined(["stop", "note", "look"]).reasons]
	codes == ["look", "note", "stop"]
}

test_a_statute_is_cited if {
	finding := answers.cited(catalogue, "stop", "Act 1")
	finding.reason == {"code": "stop", "control": "T-1", "message": "Stop.", "statute": "Act 1"}
}

named(code) := answers.found(catalogue, code)

named_with_law(code) := answers.cited(catalogue, code, "Act 1")

test_a_code_outside_the_catalogue_is_no_finding if {
	not named("other")
	not named_with_law("other")
	named("stop")
	named_with_law("stop")
}

test_a_verdict_nobody_knows_is_no_answer if {
	not answers.strictest({"allow", "maybe"})
	not answers.strictest(set())
}
