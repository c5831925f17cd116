# METADATA
# title: Who may call what
# description: |
#   input.authz is {operation, scopes}. data.data.authz names the scope that each operation needs, or says that it is
#   public. An operation without a row is nobody's.
# custom:
#   control: AUTHZ-1
package authz

import data.answers

# METADATA
# title: The verdict on one call
# entrypoint: true
# custom:
#   control: AUTHZ-1
#   effective_from: "2024-12-30"
decide := {"verdict": "allow", "reasons": [], "output": {"needs": needed}} if {
	permitted
} else := answers.combine({answers.found(catalogue, "scope_missing")}, {"needs": needed}) if {
	is_string(input.authz.operation)
} else := answers.combine({answers.found(catalogue, "operation_unlisted")}, {}) if {
	is_string(input.authz.operation)
}

# METADATA
# title: The scope that the operation needs, or "public"
# custom:
#   control: AUTHZ-1
needed := data.data.authz.operations[input.authz.operation]

# METADATA
# title: A row allows this call
# scope: document
# custom:
#   control: AUTHZ-1
permitted if needed == "public"

permitted if {
	needed in data.data.authz.scopes
	needed in input.authz.scopes
}

# METADATA
# title: What this pack may find
# custom:
#   control: AUTHZ-1
catalogue := {
	"operation_unlisted": {
		"verdict": "deny",
		"control": "AUTHZ-1",
		"message": "No row of the access table allows this operation.",
	},
	"scope_missing": {
		"verdict": "deny",
		"control": "AUTHZ-1",
		"message": "The token lacks the scope that this operation needs.",
	},
}
