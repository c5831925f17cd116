package calendar_test

import data.calendar

day(now_ms) := found if {
	found := calendar.today with input as {"now_ms": now_ms}
}

test_the_first_day_and_its_last_millisecond if {
	day(0) == 19700101
	day(86399999) == 19700101
	day(86400000) == 19700102
}

test_a_day_changes_at_midnight_of_utc if {
	day(1782777599999) == 20260629
	day(1782777600000) == 20260630
	day(1782863999999) == 20260630
	day(1782864000000) == 20260701
}

test_leap_days if {
	day(951782400000) == 20000229
	day(951868800000) == 20000301
	day(1709164800000) == 20240229
	day(4107456000000) == 21000228
	day(4107542400000) == 21000301
}

test_new_year if {
	day(1798761599999) == 20261231
	day(1798761600000) == 20270101
}

test_no_time_is_no_day if {
	not calendar.today with input as {}
	not calendar.today with input as {"now_ms": -1}
	not calendar.today with input as {"now_ms": null}
}
