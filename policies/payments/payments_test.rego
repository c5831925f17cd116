package payments_test

import data.payments

question(name_tokens, payer_country, payment_country) := {
	"payment": {"amount_minor": 1499, "currency": "EUR", "country": payment_country},
	"payer": {"name_tokens": name_tokens, "country": payer_country},
}

codes(answer) := [reason.code | some reason in answer.reasons]

test_a_plain_payment_is_allowed_and_names_its_psp if {
	answer := payments.decide with input as question(["ada", "lovelace"], "DE", "DE")
	answer.verdict == "allow"
	answer.reasons == []
	answer.output.psp == "stripe"
}

test_deny_wins_over_review_and_every_reason_is_kept_in_order if {
	answer := payments.decide with input as question(["marisol"], "KP", "JP")
	answer.verdict == "deny"
	codes(answer) == ["country_blocked", "no_route", "sanctions_name_near"]
}

test_review_wins_over_allow_and_keeps_the_route if {
	answer := payments.decide with input as question(["ada", "lovelace"], "ZZ", "DE")
	answer.verdict == "review"
	codes(answer) == ["country_unknown"]
	answer.output.psp == "stripe"
}

test_a_listed_name_is_denied_and_names_no_psp if {
	answer := payments.decide with input as question(["marisol", "tvekkander"], "DE", "DE")
	answer.verdict == "deny"
	codes(answer) == ["sanctions_name_match"]
	answer.output == {}
}

test_a_part_without_an_answer_leaves_no_answer if {
	not payments.decide with input as {"payment": {"amount_minor": 1, "currency": "EUR", "country": "DE"}}
	not payments.decide with input as {"payer": {"name_tokens": ["ada"], "country": "DE"}}
	not payments.decide with input as {}
}

test_a_verdict_nobody_knows_is_no_answer if {
	not payments.decide with input as question(["ada"], "DE", "DE")
		with data.kyc.decide as {"verdict": "maybe", "reasons": [], "output": {}}
}

test_reasons_are_sorted_whichever_part_gave_them if {
	answer := payments.decide with input as question(["ada"], "DE", "DE")
		with data.kyc.decide as {"verdict": "review", "reasons": [{"code": "z", "message": "m"}], "output": {}}
		with data.sanctions.decide as {"verdict": "review", "reasons": [{"code": "a", "message": "m"}], "output": {}}
	codes(answer) == ["a", "z"]
}

plain := question(["ada", "lovelace"], "DE", "DE")

hit := {
	"list": "ofac-sdn",
	"score": 9900,
	"entity_type": "person",
	"alias": "primary",
	"birth": "match",
	"country": "unknown",
	"cleared": "never",
}

test_hits_that_were_sent_count if {
	asked := object.union(plain, {"screening": {"entity_type": "person", "hits": [hit]}})
	answer := payments.decide with input as asked
	answer.verdict == "deny"
	codes(answer) == ["sanctions_hit"]
}

test_signals_that_were_sent_count if {
	signals := {"amount_ratio": 501}
	asked := object.union(plain, {"fraud": {"amount_minor": 1499, "currency": "EUR", "signals": signals}})
	answer := payments.decide with input as asked
	answer.verdict == "review"
	codes(answer) == ["fraud_not_evaluated_noted", "fraud_signal"]
	answer.output.psp == "stripe"
}

test_an_addition_that_cannot_be_read_leaves_no_answer if {
	not payments.decide with input as object.union(plain, {"screening": false})
	not payments.decide with input as object.union(plain, {"screening": {}})
	not payments.decide with input as object.union(plain, {"fraud": null})
}
