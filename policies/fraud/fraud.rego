# METADATA
# title: Signals of fraud
# description: |
#   input.fraud is {amount_minor, currency, signals: {name: integer}}. A signal that is absent, or is no integer, was
#   not evaluated, and that is never read as clean: data.data.fraud says for each whether it is noted or, over an
#   amount, reviewed.
# custom:
#   control: FRAUD-1
package fraud

import data.answers

# METADATA
# title: The verdict on a payment's signals
# entrypoint: true
# custom:
#   control: FRAUD-1
#   effective_from: "2024-12-30"
decide := answers.combine(findings, output) if {
	is_object(input.fraud.signals)
	is_number(input.fraud.amount_minor)
	is_string(input.fraud.currency)
}

# METADATA
# title: The signals that the table knows, and what each means
# custom:
#   control: FRAUD-1
known := data.data.fraud.signals

# METADATA
# title: Signals at hand, by name
# custom:
#   control: FRAUD-2
evaluated[name] := value if {
	some name, _ in known
	value := input.fraud.signals[name]
	is_number(value)
	value >= 0
}

# METADATA
# title: Signals that nobody evaluated
# custom:
#   control: FRAUD-2
not_evaluated contains name if {
	some name, _ in known
	not evaluated[name]
}

# METADATA
# title: Signals that deny
# custom:
#   control: FRAUD-3
denying contains name if {
	some name, value in evaluated
	value > known[name].deny_over
}

# METADATA
# title: Signals that a person looks at
# custom:
#   control: FRAUD-3
reviewing contains name if {
	some name, value in evaluated
	value > known[name].review_over
	not denying[name]
}

# METADATA
# title: Signals whose absence a person looks at, because of the amount; a currency without a limit has limit 0
# scope: document
# custom:
#   control: FRAUD-2
missed contains name if {
	some name in not_evaluated
	known[name].not_evaluated == "review_over"
	not within_limit
}

missed contains name if {
	some name in not_evaluated
	not decided[name]
}

# METADATA
# title: Signals of which the table says what their absence means; of the others it is reviewed
# custom:
#   control: FRAUD-2
decided contains name if {
	some name, signal in known
	signal.not_evaluated in {"note", "review_over"}
}

# METADATA
# title: The amount is one for which a signal may be missing
# custom:
#   control: FRAUD-2
within_limit if input.fraud.amount_minor <= data.data.fraud.missing_up_to_minor[input.fraud.currency]

# METADATA
# title: Signals sent that the table does not know
# custom:
#   control: FRAUD-4
unknown contains name if {
	some name, _ in input.fraud.signals
	not known[name]
}

# METADATA
# title: What the answer tells
# custom:
#   control: FRAUD-1
output := {
	"evaluated": count(evaluated),
	"not_evaluated": count(not_evaluated),
	"signals": concat(" ", sort(denying | reviewing)),
	"missed": concat(" ", sort(missed)),
}

# METADATA
# title: What this pack may find
# custom:
#   control: FRAUD-1
catalogue := {
	"fraud_not_evaluated": {
		"verdict": "review",
		"control": "FRAUD-2",
		"message": "A signal was not evaluated, and this amount may not go without it.",
	},
	"fraud_not_evaluated_noted": {
		"verdict": "allow",
		"control": "FRAUD-2",
		"message": "A signal was not evaluated; it is not read as clean.",
	},
	"fraud_signal": {
		"verdict": "review",
		"control": "FRAUD-3",
		"message": "A signal of fraud is over its limit for review.",
	},
	"fraud_signal_high": {
		"verdict": "deny",
		"control": "FRAUD-3",
		"message": "A signal of fraud is over its limit for denial.",
	},
	"fraud_signal_unknown": {
		"verdict": "review",
		"control": "FRAUD-4",
		"message": "A signal was sent that the table of signals does not know.",
	},
}

# METADATA
# title: Everything that keeps this from being a plain yes
# scope: document
# custom:
#   control: FRAUD-1
findings contains answers.found(catalogue, "fraud_signal_high") if count(denying) > 0

findings contains answers.found(catalogue, "fraud_signal") if count(reviewing) > 0

findings contains answers.found(catalogue, "fraud_not_evaluated") if count(missed) > 0

findings contains answers.found(catalogue, "fraud_not_evaluated_noted") if count(not_evaluated - missed) > 0

findings contains answers.found(catalogue, "fraud_signal_unknown") if count(unknown) > 0
