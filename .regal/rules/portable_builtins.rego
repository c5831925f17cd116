# METADATA
# description: A builtin that is not in the portable dialect
# related_resources:
#   - description: the dialect, and why each builtin is in it or not
#     ref: docs/policies.md
# schemas:
#   - input: schema.regal.ast
package custom.regal.rules.assay["portable-builtins"]

import data.regal.ast
import data.regal.result

portable := {
	"abs",
	"array.concat",
	"array.reverse",
	"array.slice",
	"concat",
	"contains",
	"count",
	"endswith",
	"indexof",
	"intersection",
	"is_array",
	"is_boolean",
	"is_null",
	"is_number",
	"is_object",
	"is_set",
	"is_string",
	"max",
	"min",
	"numbers.range",
	"object.filter",
	"object.get",
	"object.keys",
	"object.remove",
	"object.subset",
	"object.union",
	"product",
	"regex.match",
	"replace",
	"sort",
	"split",
	"startswith",
	"substring",
	"sum",
	"trim",
	"trim_left",
	"trim_prefix",
	"trim_right",
	"trim_space",
	"trim_suffix",
	"type_name",
	"union",
}

in_tests := {"json.marshal", "lower", "sprintf", "upper", "walk"}

operators := {
	"and", "assign", "div", "eq", "equal", "gt", "gte", "internal.member_2", "internal.member_3", "lt", "lte", "minus",
	"mul", "neq", "or", "plus", "rem",
}

allowed := (portable | operators) | in_tests if {
	endswith(input.regal.file.name, "_test.rego")
} else := portable | operators

report contains violation if {
	call := ast.found.calls[_][_]
	name := ast.ref_to_string(call[0].value)
	name in ast.builtin_names
	not name in allowed

	violation := result.fail(rego.metadata.chain(), result.location(call))
}
