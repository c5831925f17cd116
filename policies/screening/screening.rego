# METADATA
# title: Hits of a sanctions screening
# custom:
#   control: SAN-HIT-1
package screening

import data.answers

# METADATA
# title: The verdict on the candidate hits of a screening
# description: |
#   input.screening is {hits: [{list, score, entity_type, alias, birth, country, cleared}], entity_type}. Scores are
#   ten-thousandths: 9,250 is 0.925. Similarity and evidence are two things: a name alone, however near, goes to a
#   person; only a name with evidence denies. The lists' bands and what evidence weighs are data.data.screening.
# entrypoint: true
# custom:
#   control: SAN-HIT-1
#   effective_from: "2024-12-30"
decide := answers.combine(findings, output) if {
	is_array(input.screening.hits)
	is_string(input.screening.entity_type)
}

# METADATA
# title: The table of bands
# custom:
#   control: SAN-HIT-1
bands := data.data.screening

# METADATA
# title: Hits that say all that a verdict needs
# custom:
#   control: SAN-HIT-2
hits contains hit if {
	some hit in input.screening.hits
	is_number(hit.score)
	hit.score >= 0
	hit.score <= 10000
	hit.alias in {"primary", "strong", "weak"}
	hit.birth in {"match", "conflict", "unknown"}
	hit.country in {"match", "conflict", "unknown"}
	hit.cleared in {"never", "same", "changed"}
	hit.entity_type in bands.entity_types
	bands.lists[hit.list]
}

# METADATA
# title: The score less what contradicts it
# description: Evidence for a hit does not raise the score; it decides whether the hit denies or is reviewed.
# custom:
#   control: SAN-HIT-3
adjusted(hit) := ((hit.score - against_birth(hit)) - against_country(hit)) - against_type(hit)

# METADATA
# title: What a contradicting date of birth weighs
# custom:
#   control: SAN-HIT-3
against_birth(hit) := bands.conflict.birth if {
	hit.birth == "conflict"
} else := 0

# METADATA
# title: What a contradicting country weighs
# custom:
#   control: SAN-HIT-3
against_country(hit) := bands.conflict.country if {
	hit.country == "conflict"
} else := 0

# METADATA
# title: What another kind of thing weighs, a vessel's name for a person's
# custom:
#   control: SAN-HIT-3
against_type(hit) := bands.conflict.entity_type if {
	hit.entity_type != input.screening.entity_type
} else := 0

# METADATA
# title: Something besides the name speaks for it
# scope: document
# custom:
#   control: SAN-HIT-4
confirmed(hit) if hit.birth == "match"

confirmed(hit) if hit.country == "match"

# METADATA
# title: Hits in the band that may deny
# custom:
#   control: SAN-HIT-3
strong contains hit if {
	some hit in hits
	adjusted(hit) >= bands.lists[hit.list].deny_from
}

# METADATA
# title: Hits in the band that a person looks at, or above it
# custom:
#   control: SAN-HIT-3
near_hits contains hit if {
	some hit in hits
	adjusted(hit) >= bands.lists[hit.list].review_from
}

# METADATA
# title: Hits that were cleared before for the same person and entry, neither of which has changed since
# custom:
#   control: SAN-HIT-5
cleared contains hit if {
	some hit in near_hits
	hit.cleared == "same"
}

# METADATA
# title: Hits on a weak alias that nothing else confirms
# custom:
#   control: SAN-HIT-6
weak contains hit if {
	some hit in (near_hits - cleared)
	hit.alias == "weak"
	not confirmed(hit)
}

# METADATA
# title: Hits that deny
# custom:
#   control: SAN-HIT-4
denying contains hit if {
	some hit in ((strong - cleared) - weak)
	confirmed(hit)
	bands.lists[hit.list].denies
	hit.alias != "weak"
}

# METADATA
# title: What the answer tells; never which entry was met, because that would tell the name
# custom:
#   control: SAN-HIT-1
output := {"hits": count(near_hits), "cleared": count(cleared), "weak": count(weak), "denying": count(denying)}

# METADATA
# title: The table knows what kind of thing was screened
# custom:
#   control: SAN-HIT-2
subject_known if input.screening.entity_type in bands.entity_types

# METADATA
# title: What this pack may find
# custom:
#   control: SAN-HIT-1
catalogue := {
	"sanctions_cleared_before": {
		"verdict": "allow",
		"control": "SAN-HIT-5",
		"message": "A hit was cleared before for this person, and neither has changed.",
	},
	"sanctions_cleared_changed": {
		"verdict": "review",
		"control": "SAN-HIT-5",
		"message": "A hit was cleared before, but the person or the list's entry has changed since.",
	},
	"sanctions_hit": {
		"verdict": "deny",
		"control": "SAN-HIT-4",
		"message": "A listed name is met, and a date of birth or a country confirms it.",
	},
	"sanctions_hit_possible": {
		"verdict": "review",
		"control": "SAN-HIT-3",
		"message": "A listed name is near: a person must compare.",
	},
	"sanctions_hit_unreadable": {
		"verdict": "review",
		"control": "SAN-HIT-2",
		"message": "A hit lacks a fact, or is of a list that the table of bands does not know.",
	},
	"sanctions_hits_too_many": {
		"verdict": "review",
		"control": "SAN-HIT-2",
		"message": "There are more hits than a verdict may rest on.",
	},
	"sanctions_weak_alias": {
		"verdict": "allow",
		"control": "SAN-HIT-6",
		"message": "Only a weak alias is near, and nothing else confirms it.",
	},
}

# METADATA
# title: No more hits than a verdict may rest on
# custom:
#   control: SAN-HIT-2
few_enough if count(input.screening.hits) <= bands.max_hits

# METADATA
# title: The law behind a list
# custom:
#   control: SAN-HIT-4
statute_of(list) := bands.lists[list].statute if {
	is_string(bands.lists[list].statute)
} else := "not named in the table"

# METADATA
# title: Everything that keeps this from being a plain yes
# scope: document
# custom:
#   control: SAN-HIT-1
findings contains finding if {
	some hit in denying
	finding := answers.cited(catalogue, "sanctions_hit", statute_of(hit.list))
}

findings contains answers.found(catalogue, "sanctions_hit_possible") if {
	count(((near_hits - cleared) - weak) - denying) > 0
}

findings contains answers.found(catalogue, "sanctions_cleared_changed") if {
	some hit in near_hits
	hit.cleared == "changed"
}

findings contains answers.found(catalogue, "sanctions_cleared_before") if count(cleared) > 0

findings contains answers.found(catalogue, "sanctions_weak_alias") if count(weak) > 0

findings contains answers.found(catalogue, "sanctions_hit_unreadable") if {
	some hit in input.screening.hits
	not hits[hit]
}

findings contains answers.found(catalogue, "sanctions_hit_unreadable") if {
	not subject_known
}

findings contains answers.found(catalogue, "sanctions_hits_too_many") if {
	not few_enough
}
