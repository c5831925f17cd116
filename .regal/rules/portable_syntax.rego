# METADATA
# description: Fractions, text interpolation, renamed imports and sets in answers are not in the portable dialect
# related_resources:
#   - description: the dialect
#     ref: docs/policies.md
# schemas:
#   - input: schema.regal.ast
package custom.regal.rules.assay["portable-syntax"]

import data.regal.result

report contains violation if {
	walk(input.rules, [_, node])
	node.type == "number"
	floor(node.value) != node.value

	violation := result.fail(rego.metadata.chain(), result.location(node))
}

report contains violation if {
	walk(input.rules, [_, node])
	node.type == "templatestring"

	violation := result.fail(rego.metadata.chain(), result.location(node))
}

report contains violation if {
	some imported in input.imports
	imported.alias

	violation := result.fail(rego.metadata.chain(), result.location(imported))
}

# An engine may write a set in any order: what an answer holds is sorted into an array.
report contains violation if {
	walk(input.rules, [_, head])
	head.ref[0].value == "decide"
	walk(head.value, [_, node])
	node.type == "object"
	some [_, value] in node.value
	value.type in {"set", "setcomprehension"}

	violation := result.fail(rego.metadata.chain(), result.location(value))
}
