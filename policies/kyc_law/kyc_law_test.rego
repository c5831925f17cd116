package kyc_law_test

import data.kyc_law

day_ms := 1782777600000

table := {
	"trusted": ["H"],
	"products": ["account", "transfer", "cash"],
	"travelling": ["transfer"],
	"countries": {"AA": ["AA-1", "AA-2"], "BB": [], "CC": ["CC-1", "CC-2"]},
	"rows": {
		"AA-1": row(0, 20260630, "Old act"),
		"AA-2": row(20260630, 99991231, "New act"),
		"CC-1": row(0, 99991231, "One act"),
		"CC-2": row(0, 99991231, "Another act"),
	},
	"travel": {"AA": [{
		"statute": "Travel act",
		"confidence": "H",
		"effective_from": 0,
		"effective_to": 99991231,
		"thresholds": {"transfer": {"currency": "EUR", "from_minor": 100001}},
	}]},
}

row(from, to, statute) := {
	"statute": statute,
	"effective_from": from,
	"effective_to": to,
	"confidence": {"identity": "H", "levels": "H", "thresholds": "H"},
	"identity": [["address", "date_of_birth"], ["name"]],
	"identity_simplified": [["name"]],
	"thresholds": {"account": {"currency": "EUR", "from_minor": 0}, "transfer": {"currency": "EUR", "from_minor": 50000}},
}

person := {
	"country": "AA",
	"product": "transfer",
	"amount_minor": 100000,
	"currency": "EUR",
	"risk": "normal",
	"attributes": ["address", "name"],
}

ask(changes) := answer if {
	asked := {"now_ms": day_ms, "kyc": object.union(person, changes)}
	answer := kyc_law.decide with input as asked with data.data.kyc_law as table
}

codes(answer) := [reason.code | some reason in answer.reasons]

test_what_is_asked_and_at_hand_passes if {
	answer := ask({})
	answer.verdict == "allow"
	answer.reasons == []
	answer.output == {
		"level": "standard",
		"law": "AA-2",
		"effective_from": 20260630,
		"effective_to": 99991231,
		"required": "address|date_of_birth name",
		"missing": "",
		"threshold_minor": 50000,
		"threshold_currency": "EUR",
		"travel": "reduced",
	}
}

test_the_law_of_the_day_before_is_another if {
	before := kyc_law.decide with input as {"now_ms": day_ms - 1, "kyc": person} with data.data.kyc_law as table
	before.output.law == "AA-1"
	before.output.effective_to == 20260630
}

test_what_is_missing_is_denied_with_the_law if {
	answer := ask({"attributes": ["date_of_birth"]})
	answer.verdict == "deny"
	codes(answer) == ["identity_incomplete"]
	answer.reasons[0].statute == "New act"
	answer.output.missing == "name"
}

test_of_two_that_are_enough_either_will_do if {
	ask({"attributes": ["date_of_birth", "name"]}).verdict == "allow"
	ask({"attributes": ["name"]}).output.missing == "address|date_of_birth"
}

test_below_the_threshold_nothing_is_owed if {
	answer := ask({"amount_minor": 49999, "attributes": []})
	answer.verdict == "allow"
	answer.output.level == "none"
	answer.output.required == ""
}

test_the_threshold_itself_is_not_below_it if {
	ask({"amount_minor": 50000, "attributes": []}).verdict == "deny"
}

test_a_high_risk_is_owed_enhanced_measures_at_any_amount if {
	answer := ask({"risk": "high", "amount_minor": 1})
	answer.verdict == "review"
	answer.output.level == "enhanced"
	codes(answer) == ["enhanced_due_diligence"]
	ask({"risk": "high", "enhanced": true}).verdict == "allow"
	ask({"risk": "high", "enhanced": "yes"}).verdict == "review"
}

test_a_low_risk_asks_for_less if {
	answer := ask({"risk": "low", "attributes": ["name"]})
	answer.verdict == "allow"
	answer.output.level == "simplified"
}

test_a_risk_nobody_knows_is_reviewed_as_high if {
	answer := ask({"risk": "medium"})
	codes(answer) == ["enhanced_due_diligence", "risk_unknown"]
}

test_another_currency_is_not_compared if {
	answer := ask({"currency": "USD", "amount_minor": 1})
	answer.verdict == "review"
	codes(answer) == ["currency_not_comparable", "currency_not_comparable"]
	answer.output.level == "standard"
	answer.output.travel == "full"
}

test_a_threshold_of_nothing_needs_no_currency if {
	answer := ask({"currency": "USD", "product": "account"})
	answer.verdict == "allow"
}

test_a_product_without_a_threshold_is_owed_from_nothing if {
	answer := ask({"product": "cash", "amount_minor": 0})
	answer.verdict == "review"
	answer.output.level == "standard"
	codes(answer) == ["threshold_missing"]
	answer.reasons[0].statute == "New act"
}

test_a_product_nobody_knows_is_reviewed if {
	codes(ask({"product": "barter"})) == ["product_unknown"]
}

test_an_unknown_jurisdiction_is_reviewed if {
	answer := ask({"country": "ZZ"})
	answer.verdict == "review"
	codes(answer) == ["jurisdiction_unknown", "travel_rule_missing"]
	answer.output == {}
}

test_a_missing_row_is_reviewed if {
	answer := ask({"country": "BB", "product": "account"})
	answer.verdict == "review"
	codes(answer) == ["law_missing"]
}

test_a_law_that_does_not_say_what_to_know_is_reviewed if {
	asked := {"now_ms": day_ms, "kyc": person}
	nothing := object.union(object.remove(table.rows["AA-2"], ["identity", "statute"]), {"identity": []})
	answer := kyc_law.decide with input as asked
		with data.data.kyc_law as table
		with data.data.kyc_law.rows as object.union(object.remove(table.rows, ["AA-2"]), {"AA-2": nothing})
	codes(answer) == ["identity_unlisted"]
	answer.reasons[0].statute == "not named in the table"
}

test_a_travel_rule_without_a_name_is_reviewed_all_the_same if {
	answer := travelling([object.union(object.remove(table.travel.AA[0], ["statute"]), {"confidence": "L"})])
	codes(answer) == ["law_needs_review"]
	answer.reasons[0].statute == "not named in the table"
}

test_two_laws_of_one_day_are_reviewed if {
	answer := ask({"country": "CC", "product": "account"})
	answer.verdict == "review"
	codes(answer) == ["law_ambiguous"]
}

with_confidence(confidence, changes) := answer if {
	newest := object.union(object.remove(table.rows["AA-2"], ["confidence"]), {"confidence": confidence})
	asked := {"now_ms": day_ms, "kyc": object.union(person, changes)}
	answer := kyc_law.decide with input as asked
		with data.data.kyc_law as table
		with data.data.kyc_law.rows as object.union(object.remove(table.rows, ["AA-2"]), {"AA-2": newest})
}

unsure(part) := codes(answer) if {
	confidence := object.union({"identity": "H", "levels": "H", "thresholds": "H"}, {part: "M"})
	answer := with_confidence(confidence, {})
}

test_a_reading_that_is_not_certain_is_never_a_silent_pass if {
	unsure("identity") == ["law_needs_review"]
	unsure("thresholds") == ["law_needs_review"]
	unsure("levels") == []
}

test_a_part_without_any_confidence_is_not_certain if {
	answer := with_confidence({"identity": "H", "thresholds": "H"}, {"risk": "low"})
	codes(answer) == ["law_needs_review"]
}

travelling(rules) := answer if {
	asked := {"now_ms": day_ms, "kyc": person}
	answer := kyc_law.decide with input as asked with data.data.kyc_law as table with data.data.kyc_law.travel.AA as rules
}

test_a_travel_rule_that_is_not_certain_is_reviewed_with_its_own_law if {
	answer := travelling([object.union(table.travel.AA[0], {"confidence": "L"})])
	codes(answer) == ["law_needs_review"]
	answer.reasons[0].statute == "Travel act"
}

test_without_one_travel_rule_everything_travels if {
	answer := travelling([])
	codes(answer) == ["travel_rule_missing"]
	answer.output.travel == "full"
	doubled := travelling([table.travel.AA[0], object.union(table.travel.AA[0], {"statute": "Other act"})])
	codes(doubled) == ["travel_rule_missing"]
}

test_over_its_limit_everything_travels if ask({"amount_minor": 100001}).output.travel == "full"

test_what_does_not_travel_is_not_asked if ask({"product": "account"}).output.travel == "not_asked"

test_a_question_without_its_facts_is_no_answer if {
	every name, _ in person {
		asked := {"now_ms": day_ms, "kyc": object.remove(person, {name})}
		not kyc_law.decide with input as asked
	}
	not kyc_law.decide with input as {"kyc": person}
	not kyc_law.decide with input as {"now_ms": day_ms, "kyc": object.union(person, {"amount_minor": -1})}
	not kyc_law.decide with input as {"now_ms": day_ms, "kyc": object.union(person, {"amount_minor": "1"})}
}
