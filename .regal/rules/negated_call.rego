# METADATA
# description: |
#   A call or a look-up under `not` reads something that may be undefined: OPA then says no, the embedded engine yes. Give
#   the condition a name, and negate that
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
	some part in parts(expression.terms)
	walk(part, [_, node])
	may_be_undefined(node)
	not node in called(part)

	violation := result.fail(rego.metadata.chain(), result.location(expression))
}

# What is read on the way: a call's arguments, or the keys of a look-up.
parts(terms) := array.slice(terms, 1, 100) if is_array(terms)

parts(terms) := array.slice(terms.value, 1, 100) if terms.type == "ref"

may_be_undefined(node) if {
	node.type == "ref"
	count(node.value) > 1
}

may_be_undefined(node) if {
	node.type == "var"
	node.value in values
}

# Rules that have a value or none; a set is at least empty.
values contains rule.head.ref[0].value if {
	some rule in input.rules
	count(rule.head.ref) == 1
	not rule.head.args
	not rule.head.key
}

# The names of functions are references too.
called(term) := {node.value[0] |
	walk(term, [_, node])
	node.type == "call"
}
