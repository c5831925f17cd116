"""Laws of the packs: the calendar is everybody's, more evidence never hurts, nothing is erased while a law keeps it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.rego import RegoEngine
from app.policy.bundle import make_bundle
from app.policy.decision import Allow, Deny
from tests.policies.asking import ask
from tests.policies.rego_suite import shipped

DATA = shipped().data
KYC, RETENTION = DATA["kyc_law"], DATA["retention_law"]
ATTRIBUTES = sorted({choice for row in KYC["rows"].values() for choices in row["identity"] for choice in choices})
FIELDS = sorted({field for row in RETENTION["rows"].values() for field in row["fields"]})
EVENTS = sorted({event for row in RETENTION["rows"].values() for event in row["events"]})
STRICTNESS = {"none": 0, "simplified": 1, "standard": 2, "enhanced": 3}

CALENDAR = make_bundle(
    {
        "calendar/calendar.rego": shipped().modules["calendar/calendar.rego"].encode(),
        "asked/asked.rego": b'package asked\n\nday := {"day": data.calendar.today}\n',
    },
    name="calendar",
)
CALENDAR_ENGINE = RegoEngine({CALENDAR.digest: CALENDAR}.__getitem__)

moments = st.datetimes(datetime(2024, 12, 30), datetime(2045, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
days = st.dates(date(1990, 1, 1), date(2044, 12, 31)).map(lambda day: int(f"{day:%Y%m%d}"))


@settings(max_examples=300, deadline=None)
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001
def test_the_day_is_that_of_every_other_calendar(at):
    now_ms = (at - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001
    answer = CALENDAR_ENGINE.evaluate("asked/day", {"now_ms": now_ms}, bundle_digest=CALENDAR.digest)
    assert answer == {"day": int(f"{at:%Y}") * 10000 + at.month * 100 + at.day}


def person(facts):
    return {"kyc": {**facts, "attributes": sorted(facts["attributes"])}}


people = {
    "country": st.sampled_from(sorted(KYC["countries"])),
    "product": st.sampled_from(KYC["products"]),
    "amount_minor": st.integers(0, 10**9),
    "currency": st.sampled_from(["EUR", "GBP", "USD", "JPY", "AUD"]),
    "risk": st.sampled_from(["low", "normal", "high"]),
    "attributes": st.sets(st.sampled_from(ATTRIBUTES)),
}


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries(people), st.sets(st.sampled_from(ATTRIBUTES)), moments)
def test_more_evidence_never_turns_a_yes_into_a_no(facts, more, at):
    before = ask("kyc_law/decide", person(facts), at=at)
    after = ask("kyc_law/decide", person(facts | {"attributes": facts["attributes"] | more}), at=at)
    assert before.failure is None
    assert isinstance(before.outcome, Deny) or not isinstance(after.outcome, Deny)
    assert set(str(after.outcome.output.get("missing", "")).split()) <= set(
        str(before.outcome.output.get("missing", "")).split()
    )


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries(people), st.integers(0, 10**9), moments)
def test_a_larger_amount_never_owes_less(facts, more, at):
    smaller = ask("kyc_law/decide", person(facts), at=at).outcome.output
    larger = ask("kyc_law/decide", person(facts | {"amount_minor": facts["amount_minor"] + more}), at=at)
    if "level" in smaller:
        assert STRICTNESS[smaller["level"]] <= STRICTNESS[larger.outcome.output["level"]]


questions = st.fixed_dictionaries(
    {
        "countries": st.lists(st.sampled_from(sorted(RETENTION["countries"])), min_size=1, max_size=3, unique=True),
        "field": st.sampled_from(FIELDS),
        "events": st.dictionaries(st.sampled_from(EVENTS), st.just(0) | days, max_size=4),
        "held": st.booleans(),
        "asked": st.booleans(),
        "released": st.just(0) | days,
    }
)


@settings(max_examples=200, deadline=None)
@given(questions, moments)
def test_nothing_is_erased_while_a_law_or_a_hold_keeps_it(question, at):
    decision = ask("retention/decide", {"retention": question}, at=at)
    output = decision.outcome.output
    assert decision.failure is None
    if isinstance(decision.outcome, Allow):
        assert not question["held"]
        assert max(question["released"], output.get("keep_until", 0)) < int(f"{at:%Y%m%d}")
    if {"keep_until", "erase_by"} <= set(output):
        assert output["erase_by"] >= output["keep_until"]
    for day in ("keep_until", "erase_by", "lock_after"):
        if day in output:
            datetime.strptime(str(output[day]), "%Y%m%d").replace(tzinfo=UTC)  # a day that there is


def test_a_country_more_never_shortens_the_keeping():
    for field in ("identity", "transaction"):
        alone = {}
        for country in RETENTION["countries"]:
            question = {"countries": [country], "field": field, "events": {"relationship_end": 20260630}}
            question |= {"held": False, "asked": False, "released": 0}
            alone[country] = ask("retention/decide", {"retention": question}).outcome.output.get("keep_until", 0)
            both = ask("retention/decide", {"retention": question | {"countries": [country, "CH"]}}).outcome.output
            assert both["keep_until"] == max(alone[country], 20360630)
