# METADATA
# title: How findings become an answer
# description: |
#   A pack lists what it may find in a catalogue: code -> {verdict, control, message}. A finding is a verdict with a
#   reason {code, message, control, statute?}. An allow among findings is a note: it changes no verdict and is kept.
# custom:
#   control: ANS-1
package answers

# METADATA
# title: Deny wins over review, review over allow; a verdict nobody knows is no answer
# custom:
#   control: ANS-1
strictest(verdicts) := "deny" if {
	"deny" in verdicts
} else := "review" if {
	"review" in verdicts
} else := "allow" if {
	verdicts == {"allow"}
}

# METADATA
# title: The answer of all findings, each reason once and in order of its code
# custom:
#   control: ANS-1
combine(findings, output) := {
	"verdict": strictest({"allow"} | {finding.verdict | some finding in findings}),
	"reasons": sort({finding.reason | some finding in findings}),
	"output": output,
}

# METADATA
# title: A finding of the catalogue
# custom:
#   control: ANS-1
found(catalogue, code) := {"verdict": entry.verdict, "reason": reason} if {
	entry := catalogue[code]
	reason := {"code": code, "control": entry.control, "message": entry.message}
}

# METADATA
# title: A finding of the catalogue, with the law behind it
# custom:
#   control: ANS-1
cited(catalogue, code, statute) := {"verdict": entry.verdict, "reason": reason} if {
	entry := catalogue[code]
	reason := {"code": code, "control": entry.control, "message": entry.message, "statute": statute}
}
