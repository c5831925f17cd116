# METADATA
# description: A package or rule that names no title and no control, or an entrypoint without effective_from
# related_resources:
#   - description: what a rule's metadata says
#     ref: docs/policies.md
# schemas:
#   - input: schema.regal.ast
package custom.regal.rules.assay["rule-metadata"]

import data.regal.result

of_tests if endswith(input.regal.file.name, "_test.rego")

report contains violation if {
	not of_tests
	not named(object.get(input["package"], "annotations", []))

	violation := result.fail(rego.metadata.chain(), result.location(input["package"]))
}

report contains violation if {
	not of_tests
	some rule in input.rules
	annotations := object.get(rule, "annotations", [])
	count(annotations) > 0
	not named(annotations)

	violation := result.fail(rego.metadata.chain(), result.location(rule.head))
}

report contains violation if {
	not of_tests
	some rule in input.rules
	some annotation in rule.annotations
	annotation.entrypoint
	not regex.match(`^\d{4}-\d{2}-\d{2}$`, object.get(annotation, ["custom", "effective_from"], ""))

	violation := result.fail(rego.metadata.chain(), result.location(rule.head))
}

named(annotations) if {
	some annotation in annotations
	count(annotation.title) > 0
	regex.match(`^[A-Z]+(-[A-Z]+)*-\d+$`, annotation.custom.control)
}
