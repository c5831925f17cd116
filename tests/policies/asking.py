"""Asking the shipped policies, as a caller does: through `decide`, at a given time."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.adapters.rego import RegoEngine
from app.ledger.canonical import canonical
from app.policy.bundle import Bundle, make_bundle
from app.policy.decide import decide
from app.policy.decision import Decision
from app.policy.query import Query
from tests.policies.rego_suite import shipped

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


_BUNDLES: dict[str, Bundle] = {}


_ENGINE = RegoEngine(_BUNDLES.__getitem__)
"""One for all bundles that are asked here."""


def open_engine(bundle: Bundle | None = None) -> tuple[RegoEngine, Bundle]:
    """Return the engine, which from now on knows this bundle: the shipped one unless another is given."""
    known = bundle or _shipped()
    _BUNDLES[known.digest] = known
    return _ENGINE, known


_shipped = functools.cache(shipped)


def ask(entrypoint: str, document: dict[str, Any], *, at: datetime = NOW, bundle: Bundle | None = None) -> Decision:
    """Return the decision on `document`, by the shipped bundle unless another is given."""
    engine, known = open_engine(bundle)
    return decide(
        engine,
        Query(entrypoint=entrypoint, document=document),
        bundle=known.ref,
        now=at,
        salt=b"s" * 32,
        new_id=lambda: UUID(int=0),
        monotonic_ns=lambda: 0,
    )


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.outcome.reasons]


def with_data(name: str, value: object) -> Bundle:
    """Return the shipped bundle with one table changed."""
    bundle = shipped()
    files = {path: text.encode() for path, text in bundle.modules.items()}
    tables = {**bundle.data, name: value}
    return make_bundle(
        files | {f"data/{key}/data.json": canonical(table) for key, table in tables.items()}, name="changed"
    )
