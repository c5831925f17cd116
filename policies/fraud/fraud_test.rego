package fraud_test

import data.fraud

table := {
	"missing_up_to_minor": {"EUR": 1000},
	"signals": {
		"noted": {"review_over": 5, "deny_over": 10, "not_evaluated": "note"},
		"wanted": {"review_over": 5, "deny_over": 10, "not_evaluated": "review_over"},
	},
}

assess(signals, amount_minor, currency) := answer if {
	asked := {"fraud": {"amount_minor": amount_minor, "currency": currency, "signals": signals}}
	answer := fraud.decide with input as asked with data.data.fraud as table
}

codes(answer) := [reason.code | some reason in answer.reasons]

test_signals_within_their_limits_pass if {
	assess({"noted": 5, "wanted": 0}, 5000, "EUR") == {
		"verdict": "allow",
		"reasons": [],
		"output": {"evaluated": 2, "not_evaluated": 0, "signals": "", "missed": ""},
	}
}

test_over_a_limit_is_reviewed_and_over_the_next_denied if {
	reviewed := assess({"noted": 6, "wanted": 0}, 1, "EUR")
	reviewed.verdict == "review"
	codes(reviewed) == ["fraud_signal"]
	denied := assess({"noted": 6, "wanted": 11}, 1, "EUR")
	denied.verdict == "deny"
	codes(denied) == ["fraud_signal", "fraud_signal_high"]
	denied.output.signals == "noted wanted"
}

test_a_signal_that_was_not_evaluated_is_never_read_as_clean if {
	answer := assess({"noted": 0}, 1000, "EUR")
	answer.verdict == "allow"
	codes(answer) == ["fraud_not_evaluated_noted"]
	answer.output.not_evaluated == 1
}

test_over_an_amount_it_is_reviewed if {
	answer := assess({"noted": 0}, 1001, "EUR")
	answer.verdict == "review"
	codes(answer) == ["fraud_not_evaluated"]
	answer.output.missed == "wanted"
}

test_a_currency_without_a_limit_has_none_to_be_within if {
	assess({"noted": 0}, 1, "XTS").verdict == "review"
}

test_what_is_no_number_was_not_evaluated if {
	every value in [null, "clean", false, -1, {}] {
		answer := assess({"noted": value, "wanted": 0}, 1, "EUR")
		codes(answer) == ["fraud_not_evaluated_noted"]
	}
}

test_a_table_that_does_not_say_what_absence_means_is_reviewed if {
	asked := {"fraud": {"amount_minor": 1, "currency": "EUR", "signals": {}}}
	answer := fraud.decide with input as asked
		with data.data.fraud.signals as {"odd": {"review_over": 0, "deny_over": 1}}
	codes(answer) == ["fraud_not_evaluated"]
}

test_a_signal_nobody_knows_is_reviewed if {
	codes(assess({"noted": 0, "wanted": 0, "other": 0}, 1, "EUR")) == ["fraud_signal_unknown"]
}

test_no_signals_sent_is_no_answer if {
	not fraud.decide with input as {"fraud": {"amount_minor": 1, "currency": "EUR"}}
	not fraud.decide with input as {"fraud": {"signals": {}, "currency": "EUR"}}
	not fraud.decide with input as {"fraud": {"signals": {}, "amount_minor": 1}}
	not fraud.decide with input as {}
}

test_every_shipped_signal_has_limits_and_says_what_its_absence_means if {
	every signal in data.data.fraud.signals {
		signal.review_over <= signal.deny_over
		signal.not_evaluated in {"note", "review_over"}
	}
}
