# METADATA
# title: The day of a decision
# description: |
#   Law changes at midnight. Every day here is a day of UTC, as an integer: 20260630 is 30 June 2026. Integers alone,
#   so that every engine and every year gives the same day.
# custom:
#   control: CAL-1
package calendar

# METADATA
# title: The day of input.now_ms in UTC, year * 10000 + month * 100 + day
# custom:
#   control: CAL-1
today := ((year * 10000) + (month * 100)) + day

# METADATA
# title: The time of the decision in milliseconds since 1970, and nothing for what is none
# custom:
#   control: CAL-1
now_ms := input.now_ms if {
	is_number(input.now_ms)
	input.now_ms >= 0
}

# METADATA
# title: Whole days since 1 March of the year 0, so that a leap day is a year's last
# custom:
#   control: CAL-1
days := quotient(now_ms, 86400000) + 719468

# METADATA
# title: Cycles of 400 years, after which the calendar repeats
# custom:
#   control: CAL-1
cycle := quotient(days, 146097)

# METADATA
# title: Day of the cycle, from 0
# custom:
#   control: CAL-1
day_of_cycle := days % 146097

# METADATA
# title: Year of the cycle, from 0, beginning in March
# custom:
#   control: CAL-1
year_of_cycle := quotient(
	((day_of_cycle - quotient(day_of_cycle, 1460)) + quotient(day_of_cycle, 36524)) - quotient(day_of_cycle, 146096),
	365,
)

# METADATA
# title: Day of the year that begins in March, from 0
# custom:
#   control: CAL-1
day_of_year := day_of_cycle - (((365 * year_of_cycle) + quotient(year_of_cycle, 4)) - quotient(year_of_cycle, 100))

# METADATA
# title: Month of the year that begins in March, from 0
# custom:
#   control: CAL-1
month_of_year := quotient((5 * day_of_year) + 2, 153)

# METADATA
# title: Day of the month
# custom:
#   control: CAL-1
day := (day_of_year - quotient((153 * month_of_year) + 2, 5)) + 1

# METADATA
# title: Month of the calendar year
# custom:
#   control: CAL-1
month := month_of_year + 3 if {
	month_of_year < 10
} else := month_of_year - 9

# METADATA
# title: Calendar year; January and February belong to the year that began last March
# custom:
#   control: CAL-1
year := year_of_cycle + (cycle * 400) if {
	month_of_year < 10
} else := (year_of_cycle + (cycle * 400)) + 1

# METADATA
# title: How often a divisor goes into a number that is not negative
# custom:
#   control: CAL-1
quotient(number, divisor) := (number - (number % divisor)) / divisor
