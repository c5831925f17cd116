# METADATA
# description: |
#   A call under `not` reads something that may be undefined: OPA then says no, the embedded engine yes. Give the
#   condition a name, and negate that
# related_resources:
#   - description: where engines differ
#     ref: docs/policies.md
# schemas:
#   - input: schema.regal.ast
package custom.regal.rules.assay["negated-call"]

import data.regal.result

report contains violation if {
	walk(input.rules, [_, expression])
	expression.negated
	is_array(expression.terms)
	some argument in array.slice(expression.terms, 1, 100)
	walk(argument, [_, node])
	node.type == "ref"
	count(node.value) > 1
	not node in called(argument)

	violation := result.fail(rego.metadata.chain(), result.location(expression))
}

# The names of functions are references too.
called(term) := {node.value[0] |
	walk(term, [_, node])
	node.type == "call"
}
