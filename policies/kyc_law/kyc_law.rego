# METADATA
# title: What the law of the day asks to know of a person
# custom:
#   control: KYC-LAW-1
package kyc_law

import data.answers
import data.calendar

# METADATA
# title: Identity and due diligence that the law of the day asks of a person
# description: |
#   Asks: may we go on with what we know of this person? input.kyc is {country, product, amount_minor, currency, risk,
#   attributes, enhanced}. The row of data.data.kyc_law that is in force on the day of input.now_ms in UTC answers.
#   Whatever is not certain, the law's reading included, goes to a person.
# entrypoint: true
# custom:
#   control: KYC-LAW-1
#   effective_from: "2024-12-30"
decide := answers.combine(findings, output) if {
	is_string(input.kyc.country)
	is_string(input.kyc.product)
	is_string(input.kyc.currency)
	is_string(input.kyc.risk)
	is_array(input.kyc.attributes)
	input.kyc.amount_minor >= 0
	is_number(input.kyc.amount_minor)
	is_number(calendar.today)
}

# METADATA
# title: The rows of the country's law that are in force today
# custom:
#   control: KYC-LAW-1
in_force contains id if {
	some id in data.data.kyc_law.countries[input.kyc.country]
	row := data.data.kyc_law.rows[id]
	row.effective_from <= calendar.today
	calendar.today < row.effective_to
}

# METADATA
# title: The one row that applies
# custom:
#   control: KYC-LAW-1
law_id := id if {
	count(in_force) == 1
	some id in in_force
}

# METADATA
# title: What that row says
# custom:
#   control: KYC-LAW-1
law := data.data.kyc_law.rows[law_id]

# METADATA
# title: The law's name
# custom:
#   control: KYC-LAW-1
statute := law.statute if {
	is_string(law.statute)
} else := "not named in the table" if {
	law
}

# METADATA
# title: The travel rule's name
# custom:
#   control: KYC-LAW-6
travel_statute := travel_rule.statute if {
	is_string(travel_rule.statute)
} else := "not named in the table" if {
	travel_rule
}

# METADATA
# title: The smallest amount of this product that asks for due diligence
# custom:
#   control: KYC-LAW-2
threshold := law.thresholds[input.kyc.product]

# METADATA
# title: Below the law's threshold, in its own currency, and nothing else calls for due diligence
# custom:
#   control: KYC-LAW-2
below_threshold if {
	input.kyc.risk in {"low", "normal"}
	threshold.currency == input.kyc.currency
	input.kyc.amount_minor < threshold.from_minor
}

# METADATA
# title: The due diligence that is owed
# custom:
#   control: KYC-LAW-3
level := "none" if {
	below_threshold
} else := "simplified" if {
	input.kyc.risk == "low"
} else := "standard" if {
	input.kyc.risk == "normal"
} else := "enhanced"

# METADATA
# title: What must be known of the person; each element is a list of which one is enough
# custom:
#   control: KYC-LAW-4
demanded := [] if {
	level == "none"
} else := law.identity_simplified if {
	level == "simplified"
} else := law.identity

# METADATA
# title: The table says what must be known
# custom:
#   control: KYC-LAW-4
something_demanded if count(demanded) > 0

# METADATA
# title: What is asked for and not at hand
# custom:
#   control: KYC-LAW-4
missing contains concat("|", choices) if {
	some choices in demanded
	count({choice | some choice in choices} & {attribute | some attribute in input.kyc.attributes}) == 0
}

# METADATA
# title: The enhanced measures were taken
# custom:
#   control: KYC-LAW-3
enhanced_done if input.kyc.enhanced == true

# METADATA
# title: The parts of the row that this answer rests on
# scope: document
# custom:
#   control: KYC-LAW-5
relied_on contains "thresholds"

relied_on contains "identity" if level != "none"

relied_on contains "levels" if level in {"simplified", "enhanced"}

# METADATA
# title: Whether names travel with the money, for transfers of money and of crypto-assets
# custom:
#   control: KYC-LAW-6
travels if input.kyc.product in data.data.kyc_law.travelling

# METADATA
# title: The travel rules of the country that are in force today
# custom:
#   control: KYC-LAW-6
travel_in_force contains rule if {
	travels
	some rule in data.data.kyc_law.travel[input.kyc.country]
	rule.effective_from <= calendar.today
	calendar.today < rule.effective_to
	rule.thresholds[input.kyc.product]
}

# METADATA
# title: The one travel rule that applies to this product
# custom:
#   control: KYC-LAW-6
travel_rule := rule if {
	count(travel_in_force) == 1
	some rule in travel_in_force
}

# METADATA
# title: How much travels with a transfer; if in doubt, everything
# custom:
#   control: KYC-LAW-6
travel := "not_asked" if {
	not travels
} else := "reduced" if {
	limit := travel_rule.thresholds[input.kyc.product]
	limit.currency == input.kyc.currency
	input.kyc.amount_minor < limit.from_minor
} else := "full"

# METADATA
# title: What the answer tells, as short texts and integers; lists are words apart by spaces
# custom:
#   control: KYC-LAW-1
output["level"] := level if law

output["travel"] := travel if law

output["law"] := law_id

output["effective_from"] := law.effective_from

output["effective_to"] := law.effective_to

output["required"] := concat(" ", sort({concat("|", choices) | some choices in demanded})) if law

output["missing"] := concat(" ", sort(missing)) if law

output["threshold_minor"] := threshold.from_minor

output["threshold_currency"] := threshold.currency

# METADATA
# title: The parts whose reading is certain
# scope: document
# custom:
#   control: KYC-LAW-5
certain contains part if {
	some part, confidence in law.confidence
	confidence in data.data.kyc_law.trusted
}

certain contains "travel" if travel_rule.confidence in data.data.kyc_law.trusted

# METADATA
# title: The table knows the country
# custom:
#   control: KYC-LAW-1
country_known if data.data.kyc_law.countries[input.kyc.country]

# METADATA
# title: The table knows the product
# custom:
#   control: KYC-LAW-2
product_known if input.kyc.product in data.data.kyc_law.products

# METADATA
# title: The risk is one that the law speaks of
# custom:
#   control: KYC-LAW-3
risk_known if input.kyc.risk in {"low", "normal", "high"}

# METADATA
# title: What this pack may find
# custom:
#   control: KYC-LAW-1
catalogue := {
	"currency_not_comparable": {
		"verdict": "review",
		"control": "KYC-LAW-2",
		"message": "The law's threshold is in another currency than the amount.",
	},
	"enhanced_due_diligence": {
		"verdict": "review",
		"control": "KYC-LAW-3",
		"message": "The law asks for enhanced due diligence, and it has not been done.",
	},
	"identity_incomplete": {
		"verdict": "deny",
		"control": "KYC-LAW-4",
		"message": "Something that the law asks to know of the person is missing.",
	},
	"identity_unlisted": {
		"verdict": "review",
		"control": "KYC-LAW-4",
		"message": "The law table does not say what this law asks to know of the person.",
	},
	"jurisdiction_unknown": {
		"verdict": "review",
		"control": "KYC-LAW-1",
		"message": "The law table has no such country.",
	},
	"law_ambiguous": {
		"verdict": "review",
		"control": "KYC-LAW-1",
		"message": "The law table has two laws of this country for this day.",
	},
	"law_missing": {
		"verdict": "review",
		"control": "KYC-LAW-1",
		"message": "The law table has no law of this country for this day.",
	},
	"law_needs_review": {
		"verdict": "review",
		"control": "KYC-LAW-5",
		"message": "The table's reading of this law is not certain: a person must confirm it.",
	},
	"product_unknown": {
		"verdict": "review",
		"control": "KYC-LAW-2",
		"message": "The law table does not know this product.",
	},
	"risk_unknown": {
		"verdict": "review",
		"control": "KYC-LAW-3",
		"message": "The person's risk is not one of low, normal and high.",
	},
	"threshold_missing": {
		"verdict": "review",
		"control": "KYC-LAW-2",
		"message": "The law's threshold for this product is not in the table: due diligence is owed from any amount.",
	},
	"travel_rule_missing": {
		"verdict": "review",
		"control": "KYC-LAW-6",
		"message": "The table has no single travel rule of this country for this product and day.",
	},
}

# METADATA
# title: Everything that keeps this from being a plain yes
# scope: document
# custom:
#   control: KYC-LAW-1
findings contains answers.found(catalogue, "jurisdiction_unknown") if {
	not country_known
}

findings contains answers.found(catalogue, "law_missing") if {
	country_known
	count(in_force) == 0
}

findings contains answers.found(catalogue, "law_ambiguous") if count(in_force) > 1

findings contains answers.found(catalogue, "product_unknown") if {
	not product_known
}

findings contains answers.cited(catalogue, "threshold_missing", statute) if {
	product_known
	not threshold
}

findings contains answers.cited(catalogue, "currency_not_comparable", statute) if {
	threshold.from_minor > 0
	threshold.currency != input.kyc.currency
}

findings contains answers.cited(catalogue, "currency_not_comparable", travel_statute) if {
	travel_rule.thresholds[input.kyc.product].from_minor > 0
	travel_rule.thresholds[input.kyc.product].currency != input.kyc.currency
}

findings contains answers.found(catalogue, "risk_unknown") if {
	not risk_known
}

findings contains answers.cited(catalogue, "enhanced_due_diligence", statute) if {
	level == "enhanced"
	not enhanced_done
}

findings contains answers.cited(catalogue, "identity_incomplete", statute) if count(missing) > 0

findings contains answers.cited(catalogue, "identity_unlisted", statute) if {
	level != "none"
	not something_demanded
}

findings contains answers.cited(catalogue, "law_needs_review", statute) if {
	some part in relied_on
	not certain[part]
}

findings contains answers.found(catalogue, "travel_rule_missing") if {
	travels
	not travel_rule
}

findings contains answers.cited(catalogue, "law_needs_review", travel_statute) if {
	travel_rule
	not certain.travel
}
