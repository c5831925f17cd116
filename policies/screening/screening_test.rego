package screening_test

import data.screening

plain := {
	"list": "t-list",
	"score": 9000,
	"entity_type": "person",
	"alias": "primary",
	"birth": "unknown",
	"country": "unknown",
	"cleared": "never",
}

table := {
	"max_hits": 3,
	"entity_types": ["person", "vessel"],
	"conflict": {"birth": 1500, "country": 700, "entity_type": 2500},
	"lists": {
		"t-list": {"denies": true, "deny_from": 9300, "review_from": 8500, "statute": "T act"},
		"t-soft": {"denies": false, "deny_from": 9300, "review_from": 8500, "statute": "S act"},
	},
}

screen(hits) := answer if {
	asked := {"screening": {"entity_type": "person", "hits": hits}}
	answer := screening.decide with input as asked with data.data.screening as table
}

one(changes) := screen([object.union(plain, changes)])

codes(answer) := [reason.code | some reason in answer.reasons]

test_no_hits_pass if {
	screen([]) == {
		"verdict": "allow",
		"reasons": [],
		"output": {"hits": 0, "cleared": 0, "weak": 0, "denying": 0},
	}
}

test_below_the_bands_passes if {
	one({"score": 8499}).verdict == "allow"
	codes(one({"score": 8500})) == ["sanctions_hit_possible"]
}

test_a_name_alone_however_near_goes_to_a_person if {
	answer := one({"score": 10000})
	answer.verdict == "review"
	codes(answer) == ["sanctions_hit_possible"]
}

test_a_near_name_with_evidence_is_denied_with_the_list_behind_it if {
	answer := one({"score": 9300, "birth": "match"})
	answer.verdict == "deny"
	codes(answer) == ["sanctions_hit"]
	answer.reasons[0].statute == "T act"
	one({"score": 9300, "country": "match"}).verdict == "deny"
	one({"score": 9299, "country": "match"}).verdict == "review"
}

test_a_list_without_a_name_denies_all_the_same if {
	asked := {"screening": {"entity_type": "person", "hits": [object.union(plain, {"score": 9300, "birth": "match"})]}}
	answer := screening.decide with input as asked
		with data.data.screening as table
		with data.data.screening.lists as {"t-list": object.remove(table.lists["t-list"], ["statute"])}
	answer.verdict == "deny"
	answer.reasons[0].statute == "not named in the table"
}

test_a_list_that_does_not_deny_is_reviewed if {
	one({"list": "t-soft", "score": 10000, "birth": "match"}).verdict == "review"
}

test_what_contradicts_takes_off_the_score if {
	one({"score": 9999, "birth": "conflict"}).verdict == "allow"
	one({"score": 9199, "country": "conflict"}).verdict == "allow"
	one({"score": 9200, "country": "conflict"}).verdict == "review"
	one({"score": 10000, "entity_type": "vessel"}).verdict == "allow"
}

test_a_weak_alias_alone_is_noted if {
	answer := one({"score": 10000, "alias": "weak"})
	answer.verdict == "allow"
	codes(answer) == ["sanctions_weak_alias"]
}

test_a_weak_alias_with_evidence_is_reviewed_and_never_denies if {
	answer := one({"score": 10000, "alias": "weak", "birth": "match"})
	codes(answer) == ["sanctions_hit_possible"]
}

test_a_cleared_pair_stays_cleared_while_nothing_changes if {
	answer := one({"score": 10000, "birth": "match", "cleared": "same"})
	answer.verdict == "allow"
	codes(answer) == ["sanctions_cleared_before"]
}

test_a_cleared_pair_that_changed_is_reviewed if {
	answer := one({"cleared": "changed"})
	answer.verdict == "review"
	codes(answer) == ["sanctions_cleared_changed", "sanctions_hit_possible"]
}

test_a_cleared_hit_does_not_clear_another if {
	clear := object.union(plain, {"cleared": "same"})
	answer := screen([clear, plain])
	answer.verdict == "review"
	codes(answer) == ["sanctions_cleared_before", "sanctions_hit_possible"]
}

test_a_hit_that_cannot_be_read_is_reviewed if {
	some changes in [
		{"score": "9000"}, {"score": -1}, {"score": 10001}, {"alias": "nick"}, {"birth": "maybe"}, {"country": ""},
		{"cleared": "yes"}, {"entity_type": "ghost"}, {"list": "t-none"},
	]
	codes(one(changes)) == ["sanctions_hit_unreadable"]
}

test_a_hit_without_a_fact_is_reviewed if {
	every name, _ in plain {
		codes(screen([object.remove(plain, {name})])) == ["sanctions_hit_unreadable"]
	}
}

test_another_kind_of_subject_is_reviewed if {
	asked := {"screening": {"entity_type": "ghost", "hits": []}}
	answer := screening.decide with input as asked with data.data.screening as table
	codes(answer) == ["sanctions_hit_unreadable"]
}

test_too_many_hits_are_reviewed if {
	many := [object.union(plain, {"score": score}) | some score in [1, 2, 3, 4]]
	codes(screen(many)) == ["sanctions_hits_too_many"]
}

test_no_hits_sent_is_no_answer if {
	not screening.decide with input as {"screening": {"entity_type": "person"}}
	not screening.decide with input as {"screening": {"hits": []}}
	not screening.decide with input as {}
}

test_every_shipped_list_has_its_bands_in_order if {
	every name, bands in data.data.screening.lists {
		bands.review_from <= bands.deny_from
		bands.deny_from <= 10000
		is_boolean(bands.denies)
		count(bands.statute) > 0
		count(name) > 0
	}
}
