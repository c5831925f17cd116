package routing_test

import data.routing

payment(amount_minor, currency, country) := {"payment": {
	"amount_minor": amount_minor,
	"currency": currency,
	"country": country,
}}

# METADATA
# description: The shipped PSPs, of which one alone is wired.
only(psp) := {name: {"wired": name == psp, "methods": ["card"]} | some name, _ in data.data.routing.psps}

test_europe_goes_to_stripe if {
	answer := routing.decide with input as payment(1499, "EUR", "DE")
	answer.verdict == "allow"
	answer.output == {"psp": "stripe", "would_have_chosen": "stripe", "route": "eu", "region": "EU"}
}

test_north_america_prefers_braintree_and_uses_what_is_wired if {
	answer := routing.decide with input as payment(1499, "USD", "US")
	answer.output == {"psp": "stripe", "would_have_chosen": "braintree", "route": "na", "region": "NA"}
}

test_europe_has_adyen_to_fall_back_on if {
	answer := routing.decide with input as payment(1499, "EUR", "DE")
		with data.data.routing.psps as only("adyen")
	answer.output.psp == "adyen"
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
		with data.data.routing.psps.braintree as {"wired": true, "methods": ["card"]}
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
		with data.data.routing.psps as only("braintree")
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

test_a_psp_that_is_down_is_passed_over if {
	answer := routing.decide with input as object.union(payment(1499, "EUR", "DE"), {"connectors": {"stripe": "down"}})
		with data.data.routing.psps.adyen as {"wired": true, "methods": ["card"]}
	answer.output.psp == "adyen"
}

test_a_route_whose_psps_are_all_down_is_denied if {
	answer := routing.decide with input as object.union(payment(1499, "EUR", "DE"), {"connectors": {"stripe": "down"}})
	answer.verdict == "deny"
	answer.reasons[0].code == "psp_unavailable"
}

test_a_psp_that_is_slow_is_still_used if {
	answer := routing.decide with input as object.union(payment(1499, "EUR", "DE"), {"connectors": {"stripe": "degraded"}})
	answer.output.psp == "stripe"
}

with_method(method) := {"payment": object.union(payment(1499, "EUR", "DE").payment, {"method": method})}

test_a_method_that_no_psp_takes_is_denied if {
	answer := routing.decide with input as with_method("ideal")
	answer.reasons[0].code == "psp_unavailable"
}

test_a_method_is_a_card_if_nothing_is_said if {
	said := routing.decide with input as with_method("card")
	unsaid := routing.decide with input as payment(1499, "EUR", "DE")
	said == unsaid
}

rest := {"id": "rest", "regions": ["EU"], "large": [false], "psps": ["stripe"]}

test_a_route_of_a_method_takes_that_method_alone if {
	routes := [object.union(rest, {"id": "wallets", "methods": ["wallet"]}), rest]
	card := routing.decide with input as with_method("card") with data.data.routing.routes as routes
	card.output.route == "rest"
	wallet := routing.decide with input as with_method("wallet")
		with data.data.routing.routes as routes
		with data.data.routing.psps.stripe.methods as ["card", "wallet"]
	wallet.output.route == "wallets"
}

test_a_route_of_a_currency_takes_that_currency_alone if {
	routes := [object.union(rest, {"id": "pounds", "currencies": ["GBP"]}), rest]
	pounds := routing.decide with input as payment(1499, "GBP", "DE") with data.data.routing.routes as routes
	pounds.output.route == "pounds"
	euros := routing.decide with input as payment(1499, "EUR", "DE") with data.data.routing.routes as routes
	euros.output.route == "rest"
}

in_bucket(bucket) := answer.output.route if {
	routes := [object.union(rest, {"id": "share", "share": {"from": 0, "to": 2500}}), rest]
	asked := {"payment": object.union(payment(1499, "EUR", "DE").payment, {"bucket": bucket})}
	answer := routing.decide with input as asked with data.data.routing.routes as routes
}

test_a_share_takes_its_buckets_and_no_other if {
	in_bucket(0) == "share"
	in_bucket(2499) == "share"
	in_bucket(2500) == "rest"
	in_bucket(9999) == "rest"
}

test_a_payment_without_a_bucket_is_in_no_share if in_bucket(null) == "rest"

by_cost(amount_minor) := answer.output if {
	routes := [object.union(rest, {"by": "cost", "psps": ["stripe", "adyen", "braintree"]})]
	answer := routing.decide with input as payment(amount_minor, "EUR", "DE")
		with data.data.routing.routes as routes
		with data.data.routing.psps as {
			"stripe": {"wired": true, "methods": ["card"], "fees": {"EUR": {"fixed_minor": 25, "basis_points": 140}}},
			"adyen": {"wired": true, "methods": ["card"], "fees": {"EUR": {"fixed_minor": 10, "basis_points": 200}}},
			"braintree": {"wired": true, "methods": ["card"], "fees": {"USD": {"fixed_minor": 0, "basis_points": 0}}},
		}
}

test_the_cheaper_psp_depends_on_the_amount if {
	by_cost(1000).psp == "adyen"
	by_cost(10000).psp == "stripe"
}

test_of_two_that_cost_the_same_the_first_in_the_table_is_taken if by_cost(2500).psp == "stripe"

test_every_psp_of_the_shipped_table_says_whether_it_is_wired if {
	every route in data.data.routing.routes {
		every psp in route.psps {
			is_boolean(data.data.routing.psps[psp].wired)
		}
	}
}

test_no_country_of_the_shipped_table_is_in_two_regions if {
	each := [country | some countries in data.data.routing.regions; some country in countries]
	count(each) == count({country | some country in each})
}

test_connectors_that_cannot_be_read_are_no_healthy_ones if {
	every unreadable in ["down", ["stripe"], null, 1] {
		question := object.union(payment(1499, "EUR", "DE"), {"connectors": unreadable})
		not routing.decide with input as question
	}
}
