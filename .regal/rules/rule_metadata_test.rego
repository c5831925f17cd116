package custom.regal.rules.assay["rule-metadata_test"]

import data.custom.regal.rules.assay["rule-metadata"] as rule

found_in(name, policy) := report if {
	report := rule.report with input as regal.parse_module(name, policy)
}

found(policy) := found_in("p.rego", policy)

whole := `# METADATA
# title: A pack
# custom:
#   control: PACK-1
package p

# METADATA
# title: The answer
# entrypoint: true
# custom:
#   control: PACK-RULE-2
#   effective_from: "2026-06-30"
decide := 1

helper := 2
`

test_metadata_that_names_title_and_control_passes if count(found(whole)) == 0

test_a_package_without_metadata_is_found if count(found("package p\n")) == 1

test_a_title_or_a_control_that_is_missing_is_found if {
	count(found(replace(whole, "# title: A pack\n", ""))) == 1
	count(found(replace(whole, "# title: The answer\n", ""))) == 1
	count(found(replace(whole, "PACK-1", "pack one"))) == 1
	count(found(replace(whole, "#   control: PACK-RULE-2\n", ""))) == 1
}

test_an_entrypoint_without_the_day_from_which_it_counts_is_found if {
	count(found(replace(whole, "#   effective_from: \"2026-06-30\"\n", ""))) == 1
	count(found(replace(whole, "2026-06-30", "soon"))) == 1
}

test_tests_need_no_metadata if count(found_in("p_test.rego", "package p_test\n")) == 0
