"""The words of a name, as policies compare them."""

from __future__ import annotations

import pytest

from app.policy.query import MAX_NAME_TOKENS, name_tokens
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
