package routing_test

import data.routing

payment(amount_minor, currency, country) := {"payment": {
	"amount_minor": amount_minor,
	"currency": currency,
	"country": country,
}}

test_europe_goes_to_stripe if {
	answer := routing.decide with input as payment(1499, "EUR", "DE")
	answer.verdict == "allow"
	answer.output == {"psp": "stripe", "would_have_chosen": "stripe", "route": "eu", "region": "EU"}
}

test_north_america_prefers_stripe if {
	answer := routing.decide with input as payment(1499, "USD", "US")
	answer.output == {"psp": "stripe", "would_have_chosen": "stripe", "route": "na", "region": "NA"}
}

test_north_america_has_braintree_to_fall_back_on if {
	answer := routing.decide with input as payment(1499, "USD", "US")
		with data.data.routing.psps as {"stripe": {"wired": false}, "braintree": {"wired": true}}
	answer.output.psp == "braintree"
	answer.output.would_have_chosen == "stripe"
}

test_exactly_the_threshold_is_not_over_it if {
	answer := routing.decide with input as payment(1000000, "EUR", "DE")
	answer.output.route == "eu"
}

test_over_the_threshold_names_braintree_and_uses_what_is_wired if {
	answer := routing.decide with input as payment(1000001, "EUR", "DE")
	answer.output == {"psp": "stripe", "would_have_chosen": "braintree", "route": "large", "region": "EU"}
}

test_over_the_threshold_uses_braintree_once_it_is_wired if {
	answer := routing.decide with input as payment(1000001, "USD", "US")
		with data.data.routing.psps as {"stripe": {"wired": true}, "braintree": {"wired": true}}
	answer.output.psp == "braintree"
}

test_a_currency_without_decimals_has_its_own_threshold if {
	below := routing.decide with input as payment(1700000, "JPY", "DE")
	below.output.route == "eu"
	over := routing.decide with input as payment(1700001, "JPY", "DE")
	over.output.route == "large"
}

test_a_region_without_a_route_is_denied if {
	answer := routing.decide with input as payment(1499, "EUR", "JP")
	answer.verdict == "deny"
	answer.reasons[0].code == "no_route"
	answer.output == {}
}

test_a_route_without_a_wired_psp_is_denied if {
	answer := routing.decide with input as payment(1499, "EUR", "DE")
		with data.data.routing.psps as {"stripe": {"wired": false}, "braintree": {"wired": true}}
	answer.reasons[0].code == "no_route"
}

test_a_currency_without_a_threshold_is_denied if {
	answer := routing.decide with input as payment(1499, "XTS", "DE")
	answer.verdict == "deny"
	answer.reasons[0].code == "currency_unlisted"
}

test_an_amount_that_is_no_number_is_not_compared if {
	answer := routing.decide with input as payment("1499", "EUR", "DE")
	answer.verdict == "deny"
}

test_no_currency_is_no_answer if {
	not routing.decide with input as {"payment": {"amount_minor": 1499, "country": "DE"}}
}

test_the_first_fitting_route_wins if {
	routes := [
		{"id": "first", "regions": ["EU"], "large": [true, false], "psps": ["stripe"]},
		{"id": "second", "regions": ["EU"], "large": [false], "psps": ["stripe"]},
	]
	answer := routing.decide with input as payment(1499, "EUR", "DE") with data.data.routing.routes as routes
	answer.output.route == "first"
}

test_every_psp_of_the_shipped_table_says_whether_it_is_wired if {
	every route in data.data.routing.routes {
		every psp in route.psps {
			is_boolean(data.data.routing.psps[psp].wired)
		}
	}
}

test_no_country_of_the_shipped_table_is_in_two_regions if {
	all := [country | some countries in data.data.routing.regions; some country in countries]
	distinct := {country | some country in all}
	count(all) == count(distinct)
}
