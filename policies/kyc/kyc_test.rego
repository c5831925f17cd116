package kyc_test

import data.kyc

table := {"AA": "allowed", "BB": "blocked", "CC": "review"}

test_an_allowed_country_passes_without_a_reason if {
	answer := kyc.decide with input as {"payer": {"country": "AA"}} with data.data.kyc.countries as table
	answer == {"verdict": "allow", "reasons": [], "output": {}}
}

test_a_blocked_country_is_denied if {
	answer := kyc.decide with input as {"payer": {"country": "BB"}} with data.data.kyc.countries as table
	answer.verdict == "deny"
	answer.reasons[0].code == "country_blocked"
	answer.reasons[0].statute == "FATF Recommendation 19"
}

test_a_high_risk_country_is_reviewed if {
	answer := kyc.decide with input as {"payer": {"country": "CC"}} with data.data.kyc.countries as table
	answer.verdict == "review"
	answer.reasons[0].code == "country_review"
}

test_an_unknown_country_is_reviewed if {
	answer := kyc.decide with input as {"payer": {"country": "ZZ"}} with data.data.kyc.countries as table
	answer.verdict == "review"
	answer.reasons[0].code == "country_unknown"
}

test_case_matters_so_a_sloppy_code_is_reviewed if {
	answer := kyc.decide with input as {"payer": {"country": "aa"}} with data.data.kyc.countries as table
	answer.reasons[0].code == "country_unknown"
}

test_a_misspelt_standing_in_the_table_is_reviewed if {
	answer := kyc.decide with input as {"payer": {"country": "AA"}} with data.data.kyc.countries as {"AA": "alowed"}
	answer.verdict == "review"
}

test_no_country_is_no_answer if {
	not kyc.decide with input as {"payer": {}}
}

test_the_shipped_table_has_only_known_standings if {
	standings := {standing | some standing in data.data.kyc.countries}
	count(standings - {"allowed", "blocked", "review"}) == 0
}
