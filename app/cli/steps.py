"""What `assay dev` says to try next: commands to paste, in the order of the story."""

from __future__ import annotations

import re

from app.settings import Settings

STEPS = r"""
Assay is ready: @url   (API: @url/docs/swagger; Ctrl-C stops it)
The keys in @state_dir are DEVELOPMENT keys: whoever reads them can sign as you. Not for production.

Paste into another terminal, in this folder:

  export ASSAY_URL=@url TOKEN=@token
  export VKEY='@vkey'

  # 1. Pay. A policy decides, the sandbox PSP charges, and each step is an entry of the log.
  curl -sS $ASSAY_URL/v1/payments -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -H 'Prefer: wait=10' -H "Idempotency-Key: order-$(date +%s)" -o payment.json -d '{
    "amount": "12.99", "currency": "EUR", "country": "DE", "payment_method": {"stripe": "pm_card_visa"},
    "payer": {"name": "Ada Example", "email": "ada@example.org", "country": "DE"}}'; cat payment.json; echo

  # 2. Keep the receipt, and verify it offline: it needs this file and the key, and nothing of ours.
  python3 -c 'import json; print(json.load(open("payment.json"))["receipt"], end="")' > payment.tlog-proof
  @assay verify payment.tlog-proof --key "$VKEY"

  # 3. Tamper: change the receipt, or one byte of a copy of the database. Both are found, with the place.
  sed 's/^index .*/index 1/' payment.tlog-proof > tampered.tlog-proof
  @assay verify tampered.tlog-proof --key "$VKEY"
@tamper
  # 4. Erase the payer. Name and e-mail are gone for ever, and every proof stays valid.
  curl -sS -X DELETE -H "Authorization: Bearer $TOKEN" \
    $ASSAY_URL/v1/subjects/$(python3 -c 'import json; print(json.load(open("payment.json"))["subject"])'); echo
  @assay verify database '@database' --tenant @tenant --key "$VKEY" --state @state_dir/heads.json

  # 5. Stop with Ctrl-C; the same command goes on with the same log.
"""
TAMPER = r"""  python3 scripts/tamper.py @state_dir/assay.db tampered.db payment.succeeded
  @assay verify database sqlite:///tampered.db --tenant @tenant --key "$VKEY" --no-state
"""
_PLACE = re.compile("@([a-z_]+)")


def format_steps(settings: Settings, *, tenant: str, token: str, vkey: str, command: str, with_tampering: bool) -> str:
    """Return the text; `command` is how to call `assay` from here."""
    values = {
        "url": f"http://{settings.host}:{settings.port}",
        "state_dir": str(settings.state_dir),
        "database": settings.database,
        "tenant": tenant,
        "token": token,
        "vkey": vkey,
        "assay": command,
        "tamper": TAMPER if with_tampering else "",
    }

    def fill(found: re.Match[str]) -> str:
        return values.get(found[1], found[0])

    return _PLACE.sub(fill, _PLACE.sub(fill, STEPS))
