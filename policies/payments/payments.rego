# METADATA
# title: May this payment be made, and through which PSP
# description: |
#   Combines sanctions, KYC and routing: deny wins over review, review over allow. If any part has no answer,
#   neither has this rule, and the caller denies.
# custom:
#   control: PAY-DECIDE-1
package payments

# METADATA
# title: The verdict on a payment, with every part's reasons
# entrypoint: true
# custom:
#   control: PAY-DECIDE-1
decide := {"verdict": verdict, "reasons": reasons, "output": output}

parts := [data.kyc.decide, data.routing.decide, data.sanctions.decide]

verdicts := {part.verdict | some part in parts}

verdict := "deny" if {
	"deny" in verdicts
} else := "review" if {
	"review" in verdicts
} else := "allow" if {
	verdicts == {"allow"}
}

reasons := sort([reason | some part in parts; some reason in part.reasons])

# METADATA
# title: A denied payment names no PSP
# custom:
#   control: PAY-DECIDE-2
output := {} if {
	verdict == "deny"
} else := data.routing.decide.output
