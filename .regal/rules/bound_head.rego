# METADATA
# description: |
#   The head of a rule that iterates looks something up, which may be undefined in one turn: OPA leaves that turn out,
#   the embedded engine fails. Look it up in the body
# related_resources:
#   - description: where engines differ
#     ref: docs/policies.md
# schemas:
#   - input: schema.regal.ast
package custom.regal.rules.assay["bound-head"]

import data.regal.result

report contains violation if {
	some rule in input.rules
	not rule.head.args
	iterates(rule)
	some part in parts(rule.head)
	walk(part, [_, node])
	node.type == "ref"
	count(node.value) > 1
	not node in called(part)

	violation := result.fail(rego.metadata.chain(), result.location(rule.head))
}

iterates(rule) if {
	some expression in rule.body
	expression.terms.symbols
}

parts(head) := [part |
	some name in ["key", "value"]
	part := object.get(head, name, null)
	part != null
]

# The names of functions are references too.
called(term) := {node.value[0] |
	walk(term, [_, node])
	node.type == "call"
}
