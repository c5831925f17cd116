# METADATA
# title: Which PSP takes a payment
# description: |
#   The first route of the ordered table data.data.routing that fits the region and the size decides. Its first PSP
#   is what would have been chosen; its first PSP that is wired is what is used.
# custom:
#   control: ROUTE-1
package routing

# METADATA
# title: The PSP for a payment, and the one that would have been chosen were it wired
# entrypoint: true
# custom:
#   control: ROUTE-1
decide := {"verdict": "allow", "reasons": [], "output": output} if {
	psp := wired[0]
	output := {
		"psp": psp,
		"would_have_chosen": route.psps[0],
		"route": route.id,
		"region": region,
	}
} else := {"verdict": "deny", "reasons": [reason], "output": {}} if {
	is_boolean(large)
	reason := {
		"code": "no_route",
		"message": "No wired PSP takes payments of this size in this region.",
		"control": "ROUTE-1",
	}
} else := {"verdict": "deny", "reasons": [reason], "output": {}} if {
	is_string(payment.currency)
	reason := {
		"code": "currency_unlisted",
		"message": "The routing table has no threshold for this currency.",
		"control": "ROUTE-1",
	}
}

payment := input.payment

regions := [name | some name, countries in data.data.routing.regions; payment.country in countries]

region := regions[0]

# METADATA
# title: Over the threshold, in minor units of the payment's own currency
# custom:
#   control: ROUTE-2
large := payment.amount_minor > data.data.routing.large_over_minor[payment.currency] if {
	is_number(payment.amount_minor)
}

fitting := [candidate |
	some candidate in data.data.routing.routes
	region in candidate.regions
	large in candidate.large
]

route := fitting[0]

wired := [psp | some psp in route.psps; data.data.routing.psps[psp].wired]
