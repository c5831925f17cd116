"""Laws of replay: parts add up to the whole, and a policy that did not change changes nothing."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from app.policy.replay import SAMPLES, Tally, Unusable, parse_tally, tally
from tests.unit.policy.test_replay import CANDIDATE, Told, past, result

codes = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True)
verdicts = st.sampled_from(["allow", "deny", "review"])
results = st.builds(lambda verdict, reasons: result(verdict, *reasons), verdicts, codes)
money = st.fixed_dictionaries(
    {
        "payment": st.fixed_dictionaries(
            {"amount_minor": st.integers(1, 2**53 - 1), "currency": st.sampled_from(["EUR", "JPY"])}
        )
    }
)


@st.composite
def decisions(draw):
    """Return past decisions and unusable ones, each with what the candidate says."""
    number = draw(st.integers(0, 30))
    made = []
    for index in range(number):
        if draw(st.booleans()):
            made.append(past(draw(results), number=index, document=draw(money)))
        else:
            made.append(Unusable(index=index, entry_id=f"ent_{index}", code=draw(st.sampled_from(["erased", "x"]))))
    return made


@settings(max_examples=60)
@given(decisions(), results, st.lists(st.integers(0, 30), max_size=4))
def test_tallies_of_parts_add_up_to_that_of_the_whole_through_a_file_too(made, answer, cuts):
    engine = Told(candidate=answer)
    whole = tally(engine, made, bundle_digest=CANDIDATE)
    parts = Tally()
    places = sorted({0, len(made), *(cut for cut in cuts if cut < len(made))})
    for start, stop in pairwise(places):
        parts.merge(tally(engine, made[start:stop], bundle_digest=CANDIDATE))
        parts = parse_tally(json.loads(json.dumps(parts.to_json())))
    assert parts == whole


@settings(max_examples=60)
@given(decisions(), results)
def test_every_decision_is_counted_once_and_samples_are_the_first_in_log_order(made, answer):
    counted = tally(Told(candidate=answer), made, bundle_digest=CANDIDATE)
    assert counted.decisions + sum(counted.refused.values()) == len(made)
    assert sum(counted.transitions.values()) == counted.decisions
    assert counted.changed <= counted.different <= counted.decisions
    for kept in (*counted.samples.values(), *counted.refused_samples.values()):
        assert len(kept) <= SAMPLES
        assert kept == sorted(kept, key=lambda entry_id: int(entry_id.removeprefix("ent_")))


@settings(max_examples=60)
@given(results, money)
def test_the_same_answer_is_no_difference(answer, document):
    counted = tally(Told(own=answer), [past(answer, document=document)])
    assert (counted.decisions, counted.different, counted.changed, counted.samples) == (1, 0, 0, {})
    assert (counted.gained, counted.lost, counted.money) == ({}, {}, {})
