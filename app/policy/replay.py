"""Replay: past decisions run again, with the bundle that decided or with a candidate, and what that shows.

A `Tally` counts what came of each decision. Tallies of parts of a log add up to that of the whole, in any split (up to
`MAX_NAMES` codes), so a replay can be shared out among processes and resumed. It holds codes, counts and entry ids:
nothing of the input, but for the sums of money whose verdict changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from app.ledger.canonical import canonical
from app.policy.decide import Answer, ask
from app.policy.decision import EngineRef
from app.policy.ports import PolicyEngine
from app.policy.record import DecisionRecord

VERDICTS: Final = ("allow", "deny", "review")
FORBIDDEN: Final = frozenset({"deny_to_allow"})
"""Changes of verdict that somebody must sign off: what was refused would go through."""
ERASED: Final = "erased"
EXPECTED: Final = frozenset({ERASED, "engine_failed", "input_refused"})
"""Why a decision may rightly be not replayable. Any other reason means that something was altered or lost."""
SAMPLES: Final = 10
"""Entry ids kept of each kind, the first in log order."""
MAX_NAMES: Final = 256
"""Different codes or currencies counted by name; a candidate may invent them. The rest are `OTHER`."""
OTHER: Final = "(other)"
REPORT_FORMAT: Final = "assay/replay/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A decision of the past that verified, and the document that the policy read."""

    index: int
    record: DecisionRecord
    document: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A decision that cannot be run again, and why, as a code of docs/decisions.md."""

    index: int
    entry_id: str
    code: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of the decisions so far.

    `decisions` were run again; `different` of them gave another result, by digest. `transitions` counts them by
    `old_to_new` verdict, `money` sums the minor units of those whose verdict changed, by currency. `gained` and `lost`
    count reasons by code, `failures` the candidate's engine failures by kind. `refused` counts those that were not run,
    by code. Samples are entry ids.
    """

    decisions: int = 0
    different: int = 0
    transitions: dict[str, int] = field(default_factory=dict)
    money: dict[str, dict[str, int]] = field(default_factory=dict)
    gained: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    refused_samples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Decisions whose verdict is another one."""
        return sum(self.transitions.get(name_transition(old, new), 0) for old, new in _CHANGES)

    @property
    def forbidden(self) -> int:
        """Decisions whose change of verdict needs a sign-off."""
        return sum(self.transitions.get(name, 0) for name in FORBIDDEN)

    @property
    def alarming(self) -> int:
        """Decisions that cannot be run again and should be."""
        return _count_alarming(self.refused)

    def add(self, past: Past, answer: Answer) -> None:
        """Count a decision that was run again."""
        old, new = past.record.verdict, str(answer.result["verdict"])
        name = name_transition(old, new)
        self.decisions += 1
        self.transitions[name] = self.transitions.get(name, 0) + 1
        if answer.failure is not None:
            _count(self.failures, str(answer.outcome.output["failure"]))
        if answer.digest == past.record.result_digest:
            return
        self.different += 1
        _sample(self.samples, name, past.record.entry_id)
        before = {reason.code for reason in past.record.outcome.reasons}
        after = {reason.code for reason in answer.outcome.reasons}
        for code in sorted(after - before):
            _count(self.gained, code)
        for code in sorted(before - after):
            _count(self.lost, code)
        money = find_money(past.document) if old != new else None
        if money:
            _count(self.money.setdefault(name, {}), money[1], money[0])

    def refuse(self, unusable: Unusable) -> None:
        """Count a decision that was not run again."""
        _count(self.refused, unusable.code)
        _sample(self.refused_samples, unusable.code, unusable.entry_id)

    def merge(self, later: Tally) -> None:
        """Take in the tally of the part of the log that follows."""
        self.decisions += later.decisions
        self.different += later.different
        for name in ("transitions", "gained", "lost", "failures", "refused"):
            for key, count in getattr(later, name).items():
                _count(getattr(self, name), key, count)
        for transition, sums in later.money.items():
            for currency, amount in sums.items():
                _count(self.money.setdefault(transition, {}), currency, amount)
        for name in ("samples", "refused_samples"):
            for key, entry_ids in getattr(later, name).items():
                for entry_id in entry_ids:
                    _sample(getattr(self, name), key, entry_id)

    def to_json(self) -> dict[str, Any]:
        """Return the tally as JSON; `parse_tally` reads it."""
        return asdict(self)


_CHANGES: Final = [(old, new) for old in VERDICTS for new in VERDICTS if old != new]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What was asked: which log, up to which signed tree, from when until when, and against which bundle.

    `candidate` is (name, digest), None if each decision was run with its own bundle. `base` is the digest of the bundle
    that was in force when this was asked. Times are ms since 1970, from `since_ms` until before `until_ms`.
    """

    origin: str
    size: int
    root: bytes
    since_ms: int | None
    until_ms: int | None
    candidate: tuple[str, str] | None
    base: str
    engine: EngineRef


def parse_tally(value: Any) -> Tally:
    """Return the tally that `to_json` wrote. Raises TypeError or ValueError for something else."""
    if not isinstance(value, dict) or value.keys() != {each.name for each in fields(Tally)}:
        raise ValueError("not a tally")
    return Tally(**value)


def rerun(engine: PolicyEngine, past: Past, *, bundle_digest: str | None = None) -> Answer:
    """Return what the decision's own bundle, or that of `bundle_digest`, says to the same document today."""
    digest = bundle_digest or past.record.bundle.digest
    return ask(engine, past.record.entrypoint, past.document, bundle_digest=digest)


def tally(engine: PolicyEngine, decisions: Iterable[Past | Unusable], *, bundle_digest: str | None = None) -> Tally:
    """Return what comes of running the decisions again, in log order.

    Without a candidate, a bundle that cannot be had any more makes a decision unusable and not different.
    """
    result = Tally()
    for each in decisions:
        if isinstance(each, Unusable):
            result.refuse(each)
            continue
        answer = rerun(engine, each, bundle_digest=bundle_digest)
        if bundle_digest is None and answer.failure is not None and answer.outcome.output["failure"] == "wrong_bundle":
            result.refuse(Unusable(index=each.index, entry_id=each.record.entry_id, code="bundle_unknown"))
        else:
            result.add(each, answer)
    return result


@dataclass(slots=True, kw_only=True)
class Reverified:
    """What running a sample again has shown. `different` holds the entries that came out differently, by engine."""

    sampled: int = 0
    decisions: int = 0
    different: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    refused_samples: dict[str, list[str]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return the counts that the entry `policy.reverified` holds."""
        erased = self.refused.get(ERASED, 0)
        return {
            "sampled": self.sampled,
            "decisions": self.decisions,
            "different": len({entry_id for entry_ids in self.different.values() for entry_id in entry_ids}),
            "refused": sum(self.refused.values()) - erased,
            "alarming": _count_alarming(self.refused),
            "erased": erased,
        }

    def list_problems(self) -> list[str]:
        """Return what a person must look at, one sentence each."""
        problems = [
            f"{len(entry_ids)} decisions come to other bytes on {engine}: {', '.join(entry_ids[:SAMPLES])}"
            for engine, entry_ids in self.different.items()
        ]
        for code, entry_ids in self.refused_samples.items():
            if code not in EXPECTED:
                problems.append(f"{self.refused[code]} decisions cannot be run again ({code}): {', '.join(entry_ids)}")
        return problems


def reverify(engines: Sequence[PolicyEngine], past: Past | Unusable, found: Reverified) -> None:
    """Run one decision again on each engine with its own bundle, and note what differs from the record."""
    found.sampled += 1
    if isinstance(past, Unusable):
        _count(found.refused, past.code)
        _sample(found.refused_samples, past.code, past.entry_id)
        return
    found.decisions += 1
    for engine in engines:
        if rerun(engine, past).digest != past.record.result_digest:
            found.different.setdefault(engine.ref.name, []).append(past.record.entry_id)


def name_transition(old: str, new: str) -> str:
    """Return the name under which a change of verdict is counted."""
    return f"{old}_to_{new}"


def find_money(document: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return amount in minor units and currency that a document is about, if it is about a payment."""
    payment = document.get("payment")
    if not isinstance(payment, dict):
        return None
    amount, currency = payment.get("amount_minor"), payment.get("currency")
    return (amount, currency) if type(amount) is int and isinstance(currency, str) else None


def make_report(scope: Scope, counted: Tally) -> dict[str, Any]:
    """Return the report: canonical JSON, the same for the same log, bundle and range. Sums of money are texts."""
    refused = {code: count for code, count in counted.refused.items() if code != ERASED}
    return {
        "format": REPORT_FORMAT,
        "log": {"origin": scope.origin, "size": scope.size, "root": scope.root.hex()},
        "since_ms": scope.since_ms,
        "until_ms": scope.until_ms,
        "candidate": None if scope.candidate is None else {"name": scope.candidate[0], "digest": scope.candidate[1]},
        "base": scope.base,
        "engine": {"name": scope.engine.name, "version": scope.engine.version},
        "decisions": counted.decisions,
        "different": counted.different,
        "changed": counted.changed,
        "forbidden": counted.forbidden,
        "transitions": counted.transitions,
        "money": {name: {unit: str(total) for unit, total in sums.items()} for name, sums in counted.money.items()},
        "reasons": {"gained": counted.gained, "lost": counted.lost},
        "failures": counted.failures,
        "samples": counted.samples,
        "erased": counted.refused.get(ERASED, 0),
        "refused": refused,
        "refused_samples": {code: ids for code, ids in counted.refused_samples.items() if code != ERASED},
    }


def digest_report(report: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical report, in hex: what the entry `policy.replayed` names."""
    return hashlib.sha256(canonical(dict(report))).hexdigest()


def report_data(report: Mapping[str, Any], *, sign_off: str | None) -> dict[str, Any]:
    """Return the `data` of the entry `policy.replayed`. `sign_off`: by which code forbidden changes are accepted."""
    data = {name: report[name] for name in ("decisions", "different", "erased", "transitions", "forbidden")}
    data |= {
        "base": report["base"],
        "report_digest": digest_report(report),
        "checkpoint_size": report["log"]["size"],
        "refused": sum(report["refused"].values()),
    }
    if report["candidate"] is not None:
        data["candidate"] = report["candidate"]
    if sign_off is not None:
        data["sign_off"] = sign_off
    return data


def _count_alarming(refused: Mapping[str, int]) -> int:
    return sum(count for code, count in refused.items() if code not in EXPECTED)


def _count(counts: dict[str, int], name: str, by: int = 1) -> None:
    """Add to a count; a name too many is counted as `OTHER`."""
    if name not in counts and len(counts) >= MAX_NAMES:
        name = OTHER
    counts[name] = counts.get(name, 0) + by


def _sample(samples: dict[str, list[str]], name: str, entry_id: str) -> None:
    kept = samples.setdefault(name, [])
    if len(kept) < SAMPLES:
        kept.append(entry_id)
