# METADATA
# title: Payer's country
# description: Every country not named in data.data.kyc needs a person; forgetting a country never allows it.
# custom:
#   control: KYC-COUNTRY-1
package kyc

# METADATA
# title: The verdict on a payer's country
# entrypoint: true
# custom:
#   control: KYC-COUNTRY-1
#   statute: FATF Recommendation 19
#   effective_from: "2024-12-30"
decide := {"verdict": "allow", "reasons": [], "output": {}} if {
	standing == "allowed"
} else := {"verdict": "deny", "reasons": [reason], "output": {}} if {
	standing == "blocked"
	reason := {
		"code": "country_blocked",
		"message": "No payments are taken from the payer's country.",
		"control": "KYC-COUNTRY-1",
		"statute": "FATF Recommendation 19",
	}
} else := {"verdict": "review", "reasons": [reason], "output": {}} if {
	standing == "review"
	reason := {
		"code": "country_review",
		"message": "The payer's country calls for enhanced due diligence.",
		"control": "KYC-COUNTRY-1",
		"statute": "FATF Recommendation 19",
	}
} else := {"verdict": "review", "reasons": [reason], "output": {}} if {
	is_string(input.payer.country)
	reason := {
		"code": "country_unknown",
		"message": "The payer's country is not in the country table.",
		"control": "KYC-COUNTRY-1",
	}
}

# METADATA
# title: What the country table says of the payer's country
# custom:
#   control: KYC-COUNTRY-1
standing := data.data.kyc.countries[input.payer.country]
