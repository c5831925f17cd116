"""Laws of bundles, names and decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.rego import RegoEngine
from app.errors import Malformed
from app.ledger.canonical import canonical
from app.policy.bundle import make_bundle
from app.policy.decide import decide, decision_data
from app.policy.decision import Allow, Deny
from app.policy.query import PAYMENT_ENTRYPOINT, Query, name_tokens, payment_query
from tests.policies.rego_suite import shipped

BUNDLE = shipped()
ENGINE = RegoEngine(lambda _: BUNDLE)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
FILES = {
    "a/a.rego": b"package a\n\nx := 1\n",
    "data/d/data.json": b'{"version": "1", "rows": {"a": 1}}',
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
countries = st.sampled_from(["DE", "US", "KP", "MM", "JP", "ZZ", ""])


def ask(query):
    return decide(
        ENGINE, query, bundle=BUNDLE.ref, now=NOW, salt=b"s" * 32, new_id=lambda: UUID(int=0), monotonic_ns=lambda: 0
    )


def payments(name):
    return st.builds(
        payment_query,
        amount_minor=st.integers(-1, 2**53 - 1),
        currency=st.sampled_from(["EUR", "USD", "JPY", "XTS"]),
        country=countries,
        payer_name=name,
        payer_country=countries,
    )


@given(st.sampled_from(sorted(FILES)), st.data())
def test_any_changed_byte_changes_the_digest(path, data):
    content = bytearray(FILES[path])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 127))
    before = make_bundle(FILES, name="x").digest
    try:
        after = make_bundle(FILES | {path: bytes(content)}, name="x").digest
    except Malformed:  # a byte that breaks the data file: refused before it has a digest
        return
    assert after != before


@settings(max_examples=150, deadline=None)
@given(payments(st.text(max_size=60)))
def test_every_payment_has_a_decision_the_same_bytes_each_time(query):
    first, second = ask(query), ask(query)
    assert first.failure is None
    assert canonical(decision_data(first)) == canonical(decision_data(second))
    assert "psp" in first.outcome.output or isinstance(first.outcome, Deny)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["payment", "payer", "now_ms", "x"]), json_values, max_size=4))
def test_no_document_of_another_shape_is_allowed_or_raises(document):
    outcome = ask(Query(entrypoint=PAYMENT_ENTRYPOINT, document=document)).outcome
    assert not isinstance(outcome, Allow)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(BUNDLE.data["sanctions"]["entries"]), st.randoms(use_true_random=False), st.data())
def test_a_listed_name_in_any_order_case_and_spacing_is_never_allowed(entry, random, data):
    words = entry["name"].replace("-", " ").split()
    random.shuffle(words)
    words = [random.choice([word.upper(), word.lower(), word]) for word in words]
    name = data.draw(st.sampled_from([" ", "  ", ", ", "-", "\t"])).join(words)
    query = payment_query(amount_minor=1, currency="EUR", country="DE", payer_name=name, payer_country="DE")
    assert isinstance(ask(query).outcome, Deny)


@given(st.text(max_size=80))
def test_tokens_are_a_fixed_point_and_canonical(name):
    tokens = name_tokens(name)
    assert tokens == sorted(set(tokens))
    canonical(tokens)
    assert name_tokens(" ".join(tokens)) == tokens
