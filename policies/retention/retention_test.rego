package retention_test

import data.retention

table := {
	"trusted": ["H"],
	"everywhere": ["PCI-1"],
	"countries": {"AA": ["AA-1", "AA-2", "AA-3"], "BB": ["BB-1"], "CC": ["CC-1"], "DD": ["DD-1"], "EE": []},
	"rows": {
		"AA-1": row({"floor_years": 5, "storage_limit": "GDPR"}),
		"AA-2": row({"fields": ["copy"], "floor_years": 5, "ceiling_years": 10, "lock_years": 2}),
		"AA-3": row({"fields": ["log"], "floor_years": 1, "notice_hours": 48}),
		"BB-1": row({"floor_years": 10, "statute": "B act"}),
		"CC-1": row({"floor_years": 1, "clock": "year_end"}),
		"DD-1": row({"floor_years": 1, "clock": "next_january", "confidence": "M"}),
		"PCI-1": row({"fields": ["sad"], "ceiling_years": 0, "at_once": true, "events": ["authorization"]}),
	},
}

row(changes) := object.union(
	{
		"statute": "T act",
		"fields": ["identity"],
		"events": ["relationship_end", "transaction"],
		"clock": "event",
		"effective_from": 20240101,
		"effective_to": 99991231,
		"confidence": "H",
	},
	changes,
)

ended := {
	"countries": ["AA"],
	"field": "identity",
	"events": {"relationship_end": 20260630},
	"held": false,
	"released": 0,
	"asked": false,
}

ask(today, changes) := answer if {
	question := object.union(object.remove(ended, object.keys(changes)), changes)
	answer := retention.decide with input as {"retention": question}
		with data.calendar.today as today
		with data.data.retention_law as table
}

codes(answer) := [reason.code | some reason in answer.reasons]

test_up_to_its_last_day_the_law_demands_keeping if {
	answer := ask(20310630, {})
	answer.verdict == "deny"
	codes(answer) == ["retention_floor"]
	answer.reasons[0].statute == "T act"
	answer.output == {"keep_until": 20310630, "erase_by": 20310630, "laws": "AA-1", "state": "kept"}
}

test_the_day_after_it_must_go if {
	answer := ask(20310701, {})
	answer.verdict == "allow"
	codes(answer) == ["erasure_due"]
	answer.output.state == "due"
}

test_without_a_limit_it_may_stay if {
	answer := ask(20400101, {"countries": ["BB"]})
	answer.verdict == "allow"
	answer.reasons == []
	answer.output == {"keep_until": 20360630, "laws": "BB-1", "state": "free"}
}

test_the_longest_of_several_laws_counts_and_every_one_that_binds_is_cited if {
	both := ask(20270101, {"countries": ["AA", "BB"]})
	both.output.keep_until == 20360630
	codes(both) == ["retention_floor", "retention_floor"]
	{reason.statute | some reason in both.reasons} == {"B act", "T act"}
	one := ask(20320101, {"countries": ["AA", "BB"]})
	{reason.statute | some reason in one.reasons} == {"B act"}
}

test_a_ceiling_a_lock_and_between_them_freedom if {
	ask(20280630, {"field": "copy"}).output.state == "kept"
	locked := ask(20280701, {"field": "copy"})
	locked.verdict == "deny"
	locked.output == {
		"keep_until": 20310630,
		"lock_after": 20280630,
		"erase_by": 20360630,
		"laws": "AA-2",
		"state": "locked",
	}
	ask(20310701, {"field": "copy"}).output.state == "free"
	ask(20360701, {"field": "copy"}).output.state == "due"
}

test_a_duty_to_erase_rests_while_a_law_demands_keeping if {
	question := object.union(object.remove(ended, ["countries", "field"]), {"countries": ["AA", "BB"], "field": "copy"})
	answer := retention.decide with input as {"retention": question}
		with data.calendar.today as 20370101
		with data.data.retention_law as object.union(table, {"rows": {"BB-1": {"fields": ["copy"], "floor_years": 12}}})
	answer.verdict == "deny"
	answer.output.erase_by == 20380630
}

test_while_the_relationship_is_open_there_is_no_day_of_expiry if {
	answer := ask(20990101, {"events": {"relationship_end": 0, "transaction": 20200101}})
	answer.verdict == "deny"
	codes(answer) == ["retention_open"]
	answer.output == {"laws": "AA-1", "state": "open"}
}

test_the_latest_event_starts_the_clock if {
	answer := ask(20270101, {"events": {"relationship_end": 20260630, "transaction": 20270101}})
	answer.output.keep_until == 20320101
}

test_a_leap_day_ends_on_the_first_of_march if {
	ask(20270101, {"events": {"transaction": 20240229}}).output.keep_until == 20290301
	ask(20270101, {"countries": ["BB"], "events": {"transaction": 20380229}}).output.keep_until == 20480229
	ask(20270101, {"countries": ["BB"], "events": {"transaction": 20900229}}).output.keep_until == 21000301
	ask(20270101, {"countries": ["BB"], "events": {"transaction": 19900229}}).output.keep_until == 20000229
}

test_clocks_of_the_calendar_year if {
	ask(20270101, {"countries": ["CC"]}).output.keep_until == 20271231
	ask(20270101, {"countries": ["DD"]}).output.keep_until == 20280101
}

test_a_reading_that_is_not_certain_is_reviewed_even_when_nothing_binds if {
	answer := ask(20300101, {"countries": ["DD"]})
	answer.verdict == "review"
	codes(answer) == ["law_needs_review"]
}

test_a_row_without_a_name_binds_all_the_same if {
	rows := object.union(object.remove(table.rows, ["BB-1"]), {"BB-1": object.remove(table.rows["BB-1"], ["statute"])})
	question := object.union(object.remove(ended, ["countries"]), {"countries": ["BB"]})
	answer := retention.decide with input as {"retention": question}
		with data.calendar.today as 20270101
		with data.data.retention_law as object.union(object.remove(table, ["rows"]), {"rows": rows})
	codes(answer) == ["retention_floor"]
	answer.reasons[0].statute == "not named in the table"
}

test_a_hold_forbids_erasure_and_its_end_moves_the_clock if {
	held := ask(20320101, {"held": true})
	held.verdict == "deny"
	codes(held) == ["legal_hold"]
	held.output.state == "held"
	released := ask(20320101, {"released": 20320101})
	codes(released) == ["legal_hold"]
	released.output == {"keep_until": 20320101, "erase_by": 20320101, "laws": "AA-1", "state": "kept"}
	ask(20320102, {"released": 20320101}).verdict == "allow"
}

test_erasure_that_was_asked_for_waits_restricted if {
	answer := ask(20270101, {"asked": true})
	answer.verdict == "deny"
	codes(answer) == ["erasure_restricted", "retention_floor"]
	answer.output.state == "restricted"
	ask(20320101, {"asked": true}).verdict == "allow"
}

test_what_authorises_a_card_must_go_on_the_same_day_everywhere if {
	card := {"field": "sad", "events": {"authorization": 20260630}}
	answer := ask(20260630, card)
	answer.verdict == "allow"
	codes(answer) == ["erasure_due"]
	answer.output == {"erase_by": 20260630, "laws": "PCI-1", "state": "due"}
}

test_a_notice_is_named if ask(20270101, {"field": "log"}).output.notice_hours == 48

test_a_country_nobody_knows_is_reviewed if {
	answer := ask(20270101, {"countries": ["ZZ"]})
	answer.verdict == "review"
	codes(answer) == ["jurisdiction_unknown"]
}

test_a_missing_row_is_reviewed if {
	codes(ask(20270101, {"countries": ["EE"]})) == ["law_missing"]
	codes(ask(20270101, {"field": "shoe_size"})) == ["law_missing"]
	codes(ask(20270101, {"countries": []})) == ["law_missing"]
	codes(ask(20270101, {"events": {}})) == ["law_missing"]
	codes(ask(20231231, {})) == ["law_missing"]
}

test_a_question_without_its_facts_is_no_answer if {
	not retention.decide with input as {"retention": {"field": "identity"}, "now_ms": 0}
	not retention.decide with input as {}
}
