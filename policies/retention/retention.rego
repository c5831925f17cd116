# METADATA
# title: How long a field must and may be kept
# description: |
#   Asks: may this field be erased today? input.retention is {countries, field, events, released, held, asked}.
#   events are days (20260630) by name; 0 says that the event is still to come, absent that it does not concern the
#   record. released is the day on which the last legal hold ended, or 0; asked is true if the person asked for erasure.
#   The rows of data.data.retention_law that are in force today for any of the countries answer together.
# custom:
#   control: RET-1
package retention

import data.answers
import data.calendar

# METADATA
# title: May this field be erased today, and until when must and may it be kept
# entrypoint: true
# custom:
#   control: RET-1
#   effective_from: "2024-12-30"
decide := answers.combine(findings, output) if {
	is_array(input.retention.countries)
	is_string(input.retention.field)
	is_object(input.retention.events)
	is_boolean(input.retention.held)
	is_boolean(input.retention.asked)
	is_number(input.retention.released)
	is_number(calendar.today)
}

# METADATA
# title: The law table
# custom:
#   control: RET-1
table := data.data.retention_law

# METADATA
# title: Rows in force today for this field, of the countries and of what applies everywhere
# custom:
#   control: RET-1
rows[id] := row if {
	some country in input.retention.countries
	some id in array.concat(table.countries[country], table.everywhere)
	row := table.rows[id]
	input.retention.field in row.fields
	row.effective_from <= calendar.today
	calendar.today < row.effective_to
}

# METADATA
# title: The law behind a row
# custom:
#   control: RET-1
statute_of(id) := rows[id].statute if {
	is_string(rows[id].statute)
} else := "not named in the table"

# METADATA
# title: Rows with an event that is still to come
# custom:
#   control: RET-2
open contains id if {
	some id, row in rows
	some event in row.events
	input.retention.events[event] == 0
}

# METADATA
# title: The day from which a row counts, the latest of its events
# custom:
#   control: RET-2
started[id] := day if {
	some id, row in rows
	not open[id]
	days := {at | some event in row.events; at := input.retention.events[event]; is_number(at)}
	count(days) > 0
	day := max(days)
}

# METADATA
# title: The day from which a row's years run, by its clock
# scope: document
# custom:
#   control: RET-2
clock[id] := start if {
	some id, start in started
	rows[id].clock == "event"
}

clock[id] := start if {
	some id, day in started
	rows[id].clock == "year_end"
	start := (day - (day % 10000)) + 1231
}

clock[id] := start if {
	some id, day in started
	rows[id].clock == "next_january"
	start := (day - (day % 10000)) + 10101
}

# METADATA
# title: The same day of a later year, and 1 March for a 29 February that it lacks
# custom:
#   control: RET-3
later(day, years) := (moved - 229) + 301 if {
	moved := day + (years * 10000)
	moved % 10000 == 229
	year := (moved - 229) / 10000
	not leap(year)
} else := day + (years * 10000)

# METADATA
# title: Leap years
# scope: document
# custom:
#   control: RET-3
leap(year) if {
	year % 4 == 0
	year % 100 != 0
}

leap(year) if year % 400 == 0

# METADATA
# title: The last day on which a row demands keeping
# custom:
#   control: RET-3
floors[id] := day if {
	some id, start in clock
	years := rows[id].floor_years
	day := later(start, years)
}

# METADATA
# title: The last day on which a row permits keeping
# custom:
#   control: RET-4
ceilings[id] := day if {
	some id, start in clock
	years := rows[id].ceiling_years
	day := later(start, years)
}

# METADATA
# title: The day after which a row leaves the field to compliance alone
# custom:
#   control: RET-4
locks[id] := day if {
	some id, start in clock
	years := rows[id].lock_years
	day := later(start, years)
}

# METADATA
# title: Rows that demand keeping, and whose end is not known yet
# custom:
#   control: RET-3
unending contains id if {
	some id in open
	rows[id].floor_years
}

# METADATA
# title: The last day on which a law demands keeping; a hold that ended later moves it
# custom:
#   control: RET-3
keep_until := max({day | some day in floors} | {input.retention.released}) if count(unending) == 0

# METADATA
# title: The earliest last day on which a law permits keeping
# custom:
#   control: RET-4
ceiling := min({day | some day in ceilings}) if count(ceilings) > 0

# METADATA
# title: A law limits storage in general, so that what nobody must keep must go
# custom:
#   control: RET-4
limited if {
	some row in rows
	row.storage_limit
}

# METADATA
# title: The day after which it must be gone; the duty rests while a law demands keeping
# custom:
#   control: RET-4
erase_by := max({keep_until, ceiling}) if {
	is_number(ceiling)
} else := keep_until if {
	limited
	count(floors) > 0
}

# METADATA
# title: What the answer tells; a day that is not known yet is left out
# custom:
#   control: RET-1
output["keep_until"] := keep_until if count(floors) > 0

output["erase_by"] := erase_by

output["lock_after"] := min({day | some day in locks}) if count(locks) > 0

output["laws"] := concat(" ", sort(object.keys(rows)))

output["state"] := state

output["notice_hours"] := max(notices) if count(notices) > 0

# METADATA
# title: Hours between telling the person and the erasure
# custom:
#   control: RET-4
notices contains hours if {
	some row in rows
	hours := row.notice_hours
}

# METADATA
# title: A law still demands keeping
# custom:
#   control: RET-3
demanded if calendar.today <= keep_until

# METADATA
# title: The law demands that it be gone
# scope: document
# custom:
#   control: RET-4
due if calendar.today > erase_by

due if {
	some id, day in ceilings
	rows[id].at_once
	calendar.today >= day
}

# METADATA
# title: Where the field stands today
# custom:
#   control: RET-1
state := "held" if {
	input.retention.held
} else := "open" if {
	count(unending) > 0
} else := "restricted" if {
	demanded
	input.retention.asked
} else := "locked" if {
	demanded
	some day in locks
	calendar.today > day
} else := "kept" if {
	demanded
} else := "due" if {
	due
} else := "free"

# METADATA
# title: Rows whose clock runs, or waits for an event
# custom:
#   control: RET-2
started_or_open := object.keys(started) | open

# METADATA
# title: Rows whose reading is certain
# custom:
#   control: RET-1
certain contains id if {
	some id, row in rows
	row.confidence in table.trusted
}

# METADATA
# title: What this pack may find
# custom:
#   control: RET-1
catalogue := {
	"erasure_due": {
		"verdict": "allow",
		"control": "RET-4",
		"message": "The law demands that this field be erased now.",
	},
	"erasure_restricted": {
		"verdict": "deny",
		"control": "RET-5",
		"message": "Erasure was asked for and must wait: until then only compliance and authorities may look.",
	},
	"jurisdiction_unknown": {
		"verdict": "review",
		"control": "RET-1",
		"message": "The law table has no such country.",
	},
	"law_missing": {
		"verdict": "review",
		"control": "RET-1",
		"message": "The law table has no law for this field, country and day, or no event that starts its clock.",
	},
	"law_needs_review": {
		"verdict": "review",
		"control": "RET-1",
		"message": "The table's reading of this law is not certain: a person must confirm it.",
	},
	"legal_hold": {
		"verdict": "deny",
		"control": "RET-6",
		"message": "A legal hold forbids erasure, up to the day on which it ended.",
	},
	"retention_floor": {
		"verdict": "deny",
		"control": "RET-3",
		"message": "The law demands keeping this field still.",
	},
	"retention_open": {
		"verdict": "deny",
		"control": "RET-2",
		"message": "The event that starts the clock has not come, so there is no day of expiry yet.",
	},
}

# METADATA
# title: Everything that keeps this from being a plain yes
# scope: document
# custom:
#   control: RET-1
findings contains answers.found(catalogue, "legal_hold") if input.retention.held

findings contains answers.found(catalogue, "legal_hold") if calendar.today <= input.retention.released

findings contains finding if {
	some id in unending
	finding := answers.cited(catalogue, "retention_open", statute_of(id))
}

findings contains finding if {
	some id, day in floors
	calendar.today <= day
	finding := answers.cited(catalogue, "retention_floor", statute_of(id))
}

findings contains answers.cited(catalogue, "erasure_restricted", "GDPR Art 17(3)(b), 18") if state == "restricted"

findings contains answers.found(catalogue, "erasure_due") if state == "due"

findings contains answers.found(catalogue, "jurisdiction_unknown") if {
	some country in input.retention.countries
	not table.countries[country]
}

findings contains answers.found(catalogue, "law_missing") if {
	some country in input.retention.countries
	table.countries[country]
	count([id | some id in array.concat(table.countries[country], table.everywhere); id in started_or_open]) == 0
}

findings contains answers.found(catalogue, "law_missing") if count(input.retention.countries) == 0

findings contains finding if {
	some id, _ in rows
	not certain[id]
	finding := answers.cited(catalogue, "law_needs_review", statute_of(id))
}
