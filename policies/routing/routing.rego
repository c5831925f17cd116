# METADATA
# title: Which PSP takes a payment
# description: |
#   The first route of the ordered table data.data.routing that fits the payment decides. Its first PSP, by order or by
#   cost, is what would have been chosen; the first that is wired, up and takes the method is what is used.
# custom:
#   control: ROUTE-1
package routing

# METADATA
# title: The PSP for a payment, and the one that would have been chosen were it wired
# entrypoint: true
# custom:
#   control: ROUTE-1
#   effective_from: "2024-12-30"
decide := {"verdict": "allow", "reasons": [], "output": output} if {
	psp := usable[0]
	output := {
		"psp": psp,
		"would_have_chosen": preferred[0],
		"route": route.id,
		"region": region,
	}
} else := {"verdict": "deny", "reasons": [reason], "output": {}} if {
	count(wired) > 0
	reason := {
		"code": "psp_unavailable",
		"message": "The PSPs of the route are down, or do not take this payment method.",
		"control": "ROUTE-3",
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

# METADATA
# title: The payment that is asked about; none if what is known of the connectors cannot be read
# custom:
#   control: ROUTE-1
payment := input.payment if is_object(object.get(input, "connectors", {}))

# METADATA
# title: The regions of the payment's country
# custom:
#   control: ROUTE-1
regions := [name | some name, countries in data.data.routing.regions; payment.country in countries]

# METADATA
# title: The region that counts
# custom:
#   control: ROUTE-1
region := regions[0]

# METADATA
# title: Over the threshold, in minor units of the payment's own currency
# custom:
#   control: ROUTE-2
large if {
	is_number(payment.amount_minor)
	payment.amount_minor > data.data.routing.large_over_minor[payment.currency]
} else := false if {
	is_number(payment.amount_minor)
	is_number(data.data.routing.large_over_minor[payment.currency])
}

# METADATA
# title: The routes that fit, in the order of the table
# custom:
#   control: ROUTE-1
fitting := [candidate |
	some candidate in data.data.routing.routes
	region in candidate.regions
	large in candidate.large
	takes_currency(candidate)
	takes_method(candidate)
	takes_share(candidate)
]

# METADATA
# title: The route that counts
# custom:
#   control: ROUTE-1
route := fitting[0]

# METADATA
# title: A route without currencies takes all of them
# scope: document
# custom:
#   control: ROUTE-1
takes_currency(candidate) if not candidate.currencies

takes_currency(candidate) if payment.currency in candidate.currencies

# METADATA
# title: A route without methods takes all of them
# scope: document
# custom:
#   control: ROUTE-1
takes_method(candidate) if not candidate.methods

takes_method(candidate) if method in candidate.methods

# METADATA
# title: The payment's method; a card if nothing is said
# custom:
#   control: ROUTE-1
method := payment.method if {
	is_string(payment.method)
} else := "card"

# METADATA
# title: A route with a share takes the payments whose bucket, 0 to 9,999 by the hash of their id, lies in it
# scope: document
# custom:
#   control: ROUTE-4
takes_share(candidate) if not candidate.share

takes_share(candidate) if {
	is_number(payment.bucket)
	payment.bucket >= candidate.share.from
	payment.bucket < candidate.share.to
}

# METADATA
# title: The route's PSPs, the preferred first
# custom:
#   control: ROUTE-5
preferred := [entry[2] | some entry in by_cost] if {
	route.by == "cost"
} else := route.psps

# METADATA
# title: The route's PSPs by what they take for this amount, then by the order of the table
# custom:
#   control: ROUTE-5
by_cost := sort([[cost(psp), place, psp] | some place, psp in route.psps])

# METADATA
# title: What a PSP takes, in ten-thousandths of a minor unit of the payment's currency
# custom:
#   control: ROUTE-5
cost(psp) := (fees.fixed_minor * 10000) + (payment.amount_minor * fees.basis_points) if {
	fees := data.data.routing.psps[psp].fees[payment.currency]
}

# METADATA
# title: The route's PSPs that Assay speaks to
# custom:
#   control: ROUTE-3
wired := [psp | some psp in preferred; data.data.routing.psps[psp].wired]

# METADATA
# title: PSPs that are down, as far as the caller knows
# custom:
#   control: ROUTE-3
down contains psp if {
	is_object(input.connectors)
	some psp, "down" in input.connectors
}

# METADATA
# title: Those that are up and take the method
# custom:
#   control: ROUTE-3
usable := [psp |
	some psp in wired
	not down[psp]
	method in data.data.routing.psps[psp].methods
]
