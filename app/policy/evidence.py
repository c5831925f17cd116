"""What an approver relies on: reports on a bundle, each by digest and a few counts, and what may be approved on them.

The reports themselves are files of the author's or the CI's. The log gets their digests: whoever holds a report can
prove that it is the one that was looked at. Coverage and parity are what the proposer says; impact is what the log says
of a replay, and is held against that entry when it is attached and again when it is relied on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from app.errors import Conflict, Malformed, Rejected
from app.ledger.canonical import MAX_INTEGER
from app.ledger.entry import Entry

MAX_PERCENT: Final = 100
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
REPORTS: Final = ("coverage", "parity", "impact")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of the policies their tests reach, in whole percent."""

    digest: str
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How many cases gave other bytes on the other engine."""

    digest: str
    cases: int
    differences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What a replay of past decisions gave, against the bundle `base`."""

    digest: str
    base: str
    decisions: int
    changed: int
    deny_to_allow: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """The reports that were attached."""

    coverage: Coverage | None = None
    parity: Parity | None = None
    impact: Impact | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the reports that are there, as they stand in entries."""
        return {name: asdict(getattr(self, name)) for name in REPORTS if getattr(self, name) is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reports:
        """Return what `to_json` gave."""
        kinds = {"coverage": Coverage, "parity": Parity, "impact": Impact}
        return cls(**{name: kinds[name](**report) for name, report in value.items()})


def parse_reports(value: Any) -> Reports:
    """Return the reports in JSON from outside, each with the fields above. Raises Malformed."""
    kinds = {"coverage": Coverage, "parity": Parity, "impact": Impact}
    if not isinstance(value, dict) or not value.keys() <= kinds.keys():
        raise _malformed(f"reports are an object of {', '.join(REPORTS)}")
    for name, report in value.items():
        expected = {field.name for field in fields(kinds[name])}
        if not isinstance(report, dict) or report.keys() != expected:
            raise _malformed(f"the report on {name} has the fields {', '.join(sorted(expected))}")
        for field, said in report.items():
            is_digest = field in {"digest", "base"}
            if not (_DIGEST.fullmatch(said) if is_digest and isinstance(said, str) else _is_count(said, field)):
                raise _malformed(f"{name}/{field} is not {'a digest' if is_digest else 'a count'}")
    reports = Reports.from_json(value)
    if reports.parity is not None and not reports.parity.differences <= reports.parity.cases > 0:
        raise _malformed("parity is of one case at least, and no more cases differ than there are")
    return reports


def _is_count(value: Any, field: str) -> bool:
    limit = MAX_PERCENT if field == "percent" else MAX_INTEGER
    return field not in {"digest", "base"} and type(value) is int and 0 <= value <= limit


def _malformed(problem: str) -> Malformed:
    return Malformed(problem, code="reports_malformed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What the second person says: which bundle gives way, which reports are done without, which risk is taken.

    `accepted_deny_to_allow` is the number of decisions that would turn from deny to allow, if there are any.
    """

    replaces: str | None
    waived: Collection[str] = ()
    accepted_deny_to_allow: int = 0


def check_impact(said: Impact, replayed: Entry | None, *, bundle: str, active: str | None) -> None:
    """Refuse a report on impact that is not what the log says of a replay of `bundle`, against the `active` one.

    `replayed` is the tenant's entry `policy.replayed` of the report's digest, if there is one. Raises Rejected,
    `evidence_unproven`; Conflict, `evidence_stale`, if it was measured when another bundle was active.
    """
    if replayed is None:
        raise _unproven("no replay on this tenant's log has the digest of the report on impact")
    data = replayed.data
    if data.get("candidate", {}).get("digest") != bundle:
        raise _unproven("the report on impact is of a replay of another bundle")
    measured = {
        "digest": data["report_digest"],
        "base": data.get("base"),
        "decisions": data["decisions"],
        "changed": sum(count for name, count in data["transitions"].items() if _is_change(name)),
        "deny_to_allow": data["forbidden"],
    }
    if asdict(said) != measured:
        raise _unproven("the log says something else of that replay than the report on impact does")
    if said.base != active:
        raise Conflict(
            "the impact was measured against another bundle than the active one; replay again", code="evidence_stale"
        )


def _is_change(transition: str) -> bool:
    """Say whether the verdicts of `old_to_new` differ."""
    old, _, new = transition.partition("_to_")
    return old != new


def _unproven(problem: str) -> Rejected:
    return Rejected(
        f"{problem}: run `assay policy replay`, and attach its `impact`", code="evidence_unproven", pointer="/impact"
    )


def check_evidence(reports: Reports, approval: Approval) -> None:
    """Refuse an approval that the reports do not carry.

    Raises Rejected: `evidence_missing` for a report that is neither there nor waived, `evidence_parity` for engines
    that differ, `sign_off_missing` for forbidden transitions that are not accepted by their number.
    """
    missing = [name for name in REPORTS if getattr(reports, name) is None and name not in approval.waived]
    if missing:
        raise Rejected(
            f"no report on {', '.join(missing)}: attach it when proposing, or waive it", code="evidence_missing"
        )
    if reports.parity is not None and reports.parity.differences:
        raise Rejected("the engines differ on this bundle; it cannot be activated", code="evidence_parity")
    impact = reports.impact
    if impact is not None and impact.deny_to_allow != approval.accepted_deny_to_allow:
        raise Rejected(
            f"{impact.deny_to_allow} decisions would turn from deny to allow; accept exactly that number",
            code="sign_off_missing",
            pointer="/accept_deny_to_allow",
        )
