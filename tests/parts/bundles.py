"""Bundles to keep, propose and approve in tests, and a life over a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uuid_utils.compat import uuid7

from app.adapters.bundle_key import FileBundleSigner, create_bundle_key
from app.policy.bundle import Bundle, make_bundle
from app.policy.evidence import REPORTS, Approval, Coverage, Impact, Parity, Reports
from app.policy.life import BundleLife
from app.policy.ports import CheckResult
from tests.fakes.people import append

AUTHOR, SECOND, THIRD = "token:tok_author", "token:tok_second", "token:tok_third"
TESTS: Mapping[str, bytes] = {"a/a_test.rego": b"package a_test\n\ntest_x if data.a.x == 1\n"}
WAIVE_ALL = Approval(replaces=None, waived=REPORTS)
DIGEST = "d" * 64


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
        impact=Impact(digest=DIGEST, base=base, decisions=50, changed=3, deny_to_allow=deny_to_allow),
    )
