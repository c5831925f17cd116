"""Where witnesses meet their port."""

from __future__ import annotations

import logging
from pathlib import Path

from app.adapters.witness_http import HttpWitness
from app.ledger.cosign import Cosigners, Mode, WitnessEvent
from app.settings import Settings
from app.tlog.policy import parse_policy

log = logging.getLogger("assay.wiring")


def open_cosigners(settings: Settings, trust_file: Path) -> Cosigners:
    """Return who asks the witnesses of the trust file. Raises Malformed for what is none."""
    policy = parse_policy(trust_file.read_bytes())
    clients = [
        HttpWitness(witness.name, witness.url, timeout_s=settings.witness_timeout_s)
        for witness in policy.witnesses
        if witness.url
    ]
    return Cosigners(
        policy,
        clients,
        mode=Mode(settings.witness_mode),
        timeout_s=settings.witness_timeout_s,
        report=_report,
    )


def _report(event: WitnessEvent) -> None:
    log.warning("witness %s: %s: %s", event.witness, event.code, event.detail)
