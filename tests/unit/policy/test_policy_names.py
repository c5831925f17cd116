"""What a query holds: the words of a name, and the bucket of a payment."""

from __future__ import annotations

import pytest

from app.policy.query import BUCKETS, MAX_NAME_TOKENS, name_tokens, payment_query, volume_bucket
from tests.policies.rego_suite import shipped


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("Ada Lovelace", ["ada", "lovelace"]),
        ("  LOVELACE,   ada ", ["ada", "lovelace"]),
        ("Zoltán Mirkováre", ["mirkovare", "zoltan"]),
        ("Qadrenne al-Hisqar", ["al", "hisqar", "qadrenne"]),
        ("Ada ada ADA", ["ada"]),
        ("Straße", ["strasse"]),
        ("İnci", ["inci"]),
        ("\uff21\uff44\uff41", ["ada"]),
        ("A\u200bda", ["ada"]),
        ("O'Neil", ["neil", "o"]),
        ("Иван", ["иван"]),
        ("...", []),
        ("", []),
        ("a\ud800b", ["a", "b"]),
    ],
)
def test_a_name_becomes_its_words(name, tokens):
    assert name_tokens(name) == tokens


def test_a_text_is_cut_just_past_the_bound_that_policy_refuses():
    assert len(name_tokens(" ".join(f"t{n}" for n in range(1000)))) == MAX_NAME_TOKENS + 1
    assert shipped().data["sanctions"]["max_name_tokens"] == MAX_NAME_TOKENS


def test_a_payment_is_always_in_the_same_bucket_and_payments_are_spread_evenly():
    assert volume_bucket("pi_0193583e00007000800000000000000a") == 1829
    counts = [0] * 10
    for number in range(10_000):
        counts[volume_bucket(f"pi_{number}") * 10 // BUCKETS] += 1
    assert all(900 < count < 1100 for count in counts)


def test_what_is_added_never_takes_the_place_of_the_payment_or_the_payer():
    facts = {"amount_minor": 1, "currency": "EUR", "country": "DE", "payer_name": "Ada", "payer_country": "DE"}
    plain = payment_query(**facts).document
    assert "bucket" not in plain["payment"]
    added = payment_query(**facts, payment_id="pi_1", added={"fraud": {}, "payer": {}, "payment": {}}).document
    assert added == {
        "fraud": {},
        "payer": plain["payer"],
        "payment": plain["payment"] | {"bucket": volume_bucket("pi_1")},
    }
