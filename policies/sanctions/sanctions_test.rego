package sanctions_test

import data.sanctions

entries := [{"id": "t-1", "tokens": ["bortolan", "szefirides"]}, {"id": "t-2", "tokens": ["al", "hisqar", "qadrenne"]}]

code(tokens) := answer.reasons[0].code if {
	answer := sanctions.decide with input as {"payer": {"name_tokens": tokens}} with data.data.sanctions.entries as entries
}

verdict(tokens) := answer.verdict if {
	answer := sanctions.decide with input as {"payer": {"name_tokens": tokens}} with data.data.sanctions.entries as entries
}

test_the_same_tokens_in_any_order_are_denied if {
	verdict(["szefirides", "bortolan"]) == "deny"
	code(["szefirides", "bortolan"]) == "sanctions_name_match"
}

test_a_listed_name_with_another_word_is_reviewed if {
	verdict(["bortolan", "j", "szefirides"]) == "review"
	code(["bortolan", "j", "szefirides"]) == "sanctions_name_near"
}

test_a_part_of_a_listed_name_is_reviewed if {
	code(["hisqar", "qadrenne"]) == "sanctions_name_near"
	code(["hisqar"]) == "sanctions_name_near"
}

test_a_name_that_shares_one_word_of_several_passes if {
	verdict(["bortolan", "smith"]) == "allow"
}

test_a_name_in_another_script_is_reviewed if {
	code(["ада", "лавлейс"]) == "sanctions_name_unreadable"
	code(["ada", "лавлейс"]) == "sanctions_name_unreadable"
}

test_tokens_that_were_not_normalised_are_reviewed if {
	code(["Bortolan", "Szefirides"]) == "sanctions_name_unreadable"
}

test_an_empty_name_is_reviewed if {
	code([]) == "sanctions_name_unreadable"
}

test_a_name_with_too_many_words_is_reviewed if {
	many := [sprintf("t%d", [n]) | some n in numbers.range(1, 33)]
	code(many) == "sanctions_name_unreadable"
}

test_as_many_words_as_the_bound_are_compared if {
	many := [sprintf("t%d", [n]) | some n in numbers.range(1, 32)]
	verdict(many) == "allow"
}

test_without_a_list_every_name_is_reviewed if {
	answer := sanctions.decide with input as {"payer": {"name_tokens": ["ada"]}} with data.data.sanctions.entries as []
	answer.verdict == "review"
	answer.reasons[0].code == "sanctions_list_missing"
}

test_no_name_is_no_answer if {
	not sanctions.decide with input as {"payer": {}}
}

test_a_reason_does_not_say_which_listed_name_was_met if {
	answer := sanctions.decide with input as {"payer": {"name_tokens": ["bortolan", "szefirides"]}}
		with data.data.sanctions.entries as entries
	not contains(lower(json.marshal(answer)), "bortolan")
	not contains(json.marshal(answer), "t-1")
}

test_every_shipped_entry_denies_itself if {
	every entry in data.data.sanctions.entries {
		answer := sanctions.decide with input as {"payer": {"name_tokens": entry.tokens}}
		answer.verdict == "deny"
	}
}
