# METADATA
# title: May this payment be made, and through which PSP
# description: |
#   Combines sanctions, the payer's country and routing, and what the caller adds, which is a screening's hits and fraud
#   signals. Deny wins over review, review over allow. If any part has no answer, neither has this rule, and the caller
#   denies. The law of identification is asked when a person is taken on, not at each payment, see ADR 15.
# custom:
#   control: PAY-DECIDE-1
package payments

import data.answers

# METADATA
# title: The verdict on a payment, with every part's reasons
# entrypoint: true
# custom:
#   control: PAY-DECIDE-1
#   effective_from: "2024-12-30"
decide := {"verdict": verdict, "reasons": reasons, "output": output}

# METADATA
# title: The answers that count, always and when the caller sent what they need
# custom:
#   control: PAY-DECIDE-1
parts := array.concat(
	[data.kyc.decide, data.routing.decide, data.sanctions.decide],
	array.concat(screening, fraud),
)

# METADATA
# title: What the caller sent, by name
# custom:
#   control: PAY-DECIDE-3
sent contains name if some name, _ in input

# METADATA
# title: The answer on a screening's hits, if any were sent
# custom:
#   control: PAY-DECIDE-3
screening := [] if {
	not sent.screening
} else := [data.screening.decide]

# METADATA
# title: The answer on signals of fraud, if any were sent
# custom:
#   control: PAY-DECIDE-3
fraud := [] if {
	not sent.fraud
} else := [data.fraud.decide]

# METADATA
# title: The strictest verdict of the parts
# custom:
#   control: PAY-DECIDE-1
verdict := answers.strictest({part.verdict | some part in parts})

# METADATA
# title: Every part's reasons, in order of their codes
# custom:
#   control: PAY-DECIDE-1
reasons := sort([reason | some part in parts; some reason in part.reasons])

# METADATA
# title: A denied payment names no PSP
# custom:
#   control: PAY-DECIDE-2
output := {} if {
	verdict == "deny"
} else := data.routing.decide.output
