"""Bundles to keep, propose and approve in tests, and a life over a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from app.adapters.bundle_key import FileBundleSigner, create_bundle_key
from app.ledger.entry import Draft
from app.policy.bundle import Bundle, make_bundle
from app.policy.evidence import REPORTS, Approval, Coverage, Impact, Parity, Reports
from app.policy.life import BundleLife
from app.policy.ports import CheckResult
from tests.fakes.people import ACTOR, append

AUTHOR, SECOND, THIRD = "token:tok_author", "token:tok_second", "token:tok_third"
TESTS: Mapping[str, bytes] = {"a/a_test.rego": b"package a_test\n\ntest_x if data.a.x == 1\n"}
WAIVE_ALL = Approval(replaces=None, waived=REPORTS)
DIGEST = "d" * 64
DECISIONS, CHANGED = 50, 3


def make(number: int = 1) -> Bundle:
    """Return a small bundle, another for each number."""
    data = f'{{"version": "{number}", "rows": []}}'.encode()
    return make_bundle({"a/a.rego": b"package a\n\nx := 1\n", "data/d/data.json": data}, name="assay")


def make_signer(folder: Path) -> FileBundleSigner:
    create_bundle_key(folder)
    return FileBundleSigner(folder)


def make_life(store, folder: Path, **changes) -> BundleLife:
    """Return a life whose check finds nothing wrong, unless told otherwise."""
    parts = {
        "store": store,
        "signer": make_signer(folder),
        "check": lambda bundle, tests: CheckResult(problems=(), tests=len(tests)),
        "append": append,
        "new_id": uuid7,
    }
    return BundleLife(**(parts | changes))


def full_reports(base: str, *, deny_to_allow: int = 0, differences: int = 0) -> Reports:
    return Reports(
        coverage=Coverage(digest=DIGEST, percent=97),
        parity=Parity(digest=DIGEST, cases=1000, differences=differences),
        impact=Impact(digest=DIGEST, base=base, decisions=DECISIONS, changed=CHANGED, deny_to_allow=deny_to_allow),
    )


def log_replay(store, candidate: str | None, base: str, *, tenant: str = "acme", forbidden: int = 0, **changes) -> None:
    """Log the replay that the impact of `full_reports` is the report of, as `assay policy replay` does."""
    transitions = {
        "allow_to_allow": DECISIONS - CHANGED,
        "allow_to_deny": CHANGED - forbidden,
        "deny_to_allow": forbidden,
    }
    data: dict[str, Any] = {
        "report_digest": DIGEST,
        "base": base,
        "checkpoint_size": 99,
        "decisions": DECISIONS,
        "different": CHANGED,
        "transitions": transitions,
        "forbidden": forbidden,
        "refused": 0,
        "erased": 0,
    }
    if candidate is not None:
        data["candidate"] = {"name": "candidate", "digest": candidate}
    data = {name: value for name, value in (data | changes).items() if value is not None}
    draft = Draft(action="policy.replayed", actor=ACTOR, ref={"report": data["report_digest"]}, data=data)
    with store.transaction() as tx:
        append(tx, tenant, draft, uuid7())


def log_reverified(store, tenant: str = "acme", *, entry_id: UUID | None = None, **counts: int) -> None:
    """Log a reverification, as `assay policy reverify` does."""
    zero = dict.fromkeys(("checkpoint_size", "sampled", "decisions", "different", "refused", "alarming", "erased"), 0)
    data = {**zero, **counts, "engines": [{"name": "regorus", "version": "1"}]}
    with store.transaction() as tx:
        append(tx, tenant, Draft(action="policy.reverified", actor=ACTOR, data=data), entry_id or uuid7())
