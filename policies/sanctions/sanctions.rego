# METADATA
# title: Payer's name against the sanctions list
# description: |
#   Compares sets of name tokens (lower case, no accents, any order), see data.data.sanctions. Reasons never say
#   which listed name was met: that would put the payer's name into the log.
# custom:
#   control: SAN-NAME-1
package sanctions

# METADATA
# title: The verdict on a payer's name
# entrypoint: true
# custom:
#   control: SAN-NAME-1
#   effective_from: "2024-12-30"
decide := review("sanctions_list_missing", "There is no sanctions list to compare the payer's name with.") if {
	is_array(input.payer.name_tokens)
	count(listed) == 0
} else := deny("sanctions_name_match", "The payer's name equals a name on the sanctions list.") if {
	readable
	same
} else := review("sanctions_name_near", "The payer's name holds, or is part of, a name on the sanctions list.") if {
	readable
	near
} else := {"verdict": "allow", "reasons": [], "output": {}} if {
	readable
} else := review("sanctions_name_unreadable", unreadable) if {
	is_array(input.payer.name_tokens)
}

# METADATA
# title: Why a name is not compared
# custom:
#   control: SAN-NAME-2
unreadable := concat(" ", [
	"The payer's name cannot be compared with the list:",
	"it has no words, too many, or another script.",
])

# METADATA
# title: The words of the payer's name
# custom:
#   control: SAN-NAME-1
name := {token | some token in input.payer.name_tokens}

# METADATA
# title: Only names written like the list are compared; all others go to a person
# custom:
#   control: SAN-NAME-2
readable if {
	count(name) > 0
	count(input.payer.name_tokens) <= data.data.sanctions.max_name_tokens
	every token in name {
		regex.match(`^[a-z0-9]+$`, token)
	}
}

# METADATA
# title: The words of each listed name
# custom:
#   control: SAN-NAME-1
listed contains tokens if {
	some entry in data.data.sanctions.entries
	tokens := {token | some token in entry.tokens}
}

# METADATA
# title: The same words as a listed name
# custom:
#   control: SAN-NAME-1
same if name in listed

# METADATA
# title: More words than a listed name, or some of its words
# scope: document
# custom:
#   control: SAN-NAME-1
near if {
	some tokens in listed
	count(tokens - name) == 0
}

near if {
	some tokens in listed
	count(name - tokens) == 0
}

# METADATA
# title: A denial
# custom:
#   control: SAN-NAME-1
deny(code, message) := {
	"verdict": "deny",
	"reasons": [{"code": code, "message": message, "control": "SAN-NAME-1"}],
	"output": {},
}

# METADATA
# title: A review
# custom:
#   control: SAN-NAME-1
review(code, message) := {
	"verdict": "review",
	"reasons": [{"code": code, "message": message, "control": "SAN-NAME-1"}],
	"output": {},
}
