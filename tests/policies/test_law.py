"""The law tables: made from the CSV of statutes and from nothing else, whole, dated, of the day that is asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from app.policy.decision import Allow, Deny, Review
from scripts.law import kyc, retention
from scripts.law.__main__ import TABLES, main
from scripts.law.table import TRUSTED, ReadingError, read_csv
from tests.policies.asking import ask, codes, with_data
from tests.policies.rego_suite import shipped

DATA = shipped().data
KYC, RETENTION = DATA["kyc_law"], DATA["retention_law"]
EVERYTHING = sorted({choice for row in KYC["rows"].values() for choices in row["identity"] for choice in choices})


def person(**changes: object) -> dict:
    facts = {
        "country": "US",
        "product": "account",
        "amount_minor": 0,
        "currency": "USD",
        "risk": "normal",
        "attributes": EVERYTHING,
    }
    return {"kyc": facts | changes}


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_the_shipped_table_is_what_the_csv_gives(table: str, shared_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([table, "--check", "--csv", str(shared_dir / "data" / "law")]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_csv_that_says_otherwise_stops_the_run(table: str, shared_dir: Path, tmp_path: Path) -> None:
    source = (shared_dir / "data" / "law" / TABLES[table][0]).read_text()
    for old, new in (("DE,", "XX,"), ("15000" if table == "kyc" else "10 y", "17"), (",H\n", ",certain\n")):
        (tmp_path / TABLES[table][0]).write_text(source.replace(old, new).replace(",H,", ",certain,"))
        assert main([table, "--check", "--csv", str(tmp_path)]) == 1, (old, new)


def test_a_table_out_of_date_is_found(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    source, _, make = TABLES["kyc"]
    (tmp_path / "data.json").write_text("{}")
    monkeypatch.setitem(TABLES, "kyc", (source, tmp_path / "data.json", make))
    monkeypatch.setattr("scripts.law.__main__.ROOT", tmp_path)
    folder = ["--csv", str(shared_dir / "data" / "law")]
    assert main(["kyc", "--check", *folder]) == 1
    assert "run `python -m scripts.law kyc`" in capsys.readouterr().out
    assert main(["kyc", *folder]) == 0
    assert main(["kyc", "--check", *folder]) == 0
    assert main(["kyc", "--csv", str(tmp_path / "absent")]) == 1


def test_a_confidence_nobody_knows_stops_the_run(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "law"
    for make, name in ((kyc.make_table, "kyc_by_jurisdiction.csv"), (retention.make_table, TABLES["retention"][0])):
        rows = read_csv(folder / name)
        with pytest.raises(ReadingError, match="no confidence in"):
            make({**rows, "US": {**rows["US"], "confidence": "sure"}})


def test_no_sentence_of_the_csv_is_copied(shared_dir: Path) -> None:
    text = json.dumps({"kyc": KYC, "retention": RETENTION})
    for source in ("kyc_by_jurisdiction.csv", "retention_by_jurisdiction.csv"):
        for row in read_csv(shared_dir / "data" / "law" / source).values():
            assert not [cell for name, cell in row.items() if name != "statute" and len(cell) > 30 and cell in text]


@pytest.mark.parametrize("table", [KYC, RETENTION], ids=["kyc", "retention"])
def test_every_country_has_its_rows_and_every_row_its_country(table: dict) -> None:
    used = {row for rows in table["countries"].values() for row in rows} | set(table.get("everywhere", ()))
    assert used == set(table["rows"])
    assert table["trusted"] == TRUSTED
    for row in table["rows"].values():
        assert 20241230 <= row["effective_from"] < row["effective_to"] <= 99991231


def test_a_country_has_at_most_one_law_of_identification_on_any_day() -> None:
    for country, ids in KYC["countries"].items():
        spans = sorted((KYC["rows"][id_]["effective_from"], KYC["rows"][id_]["effective_to"]) for id_ in ids)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), country


@pytest.mark.parametrize(
    ("country", "day", "before", "after"),
    [
        ("GB", "2026-06-30", "GB-1", "GB-2"),
        ("DE", "2027-07-10", "DE-1", "EU-AMLR-1"),
        ("IE", "2027-07-10", "IE-1", "EU-AMLR-1"),
        ("AT", "2027-07-10", None, "EU-AMLR-1"),
        ("AE", "2025-12-14", "AE-1", "AE-2"),
        ("AU", "2026-03-31", "AU-1", "AU-2"),
        ("AU", "2026-07-01", "AU-2", "AU-3"),
        ("US", "2024-12-30", None, "US-1"),
    ],
)
def test_each_day_has_its_own_law_to_the_millisecond(country: str, day: str, before: str | None, after: str) -> None:
    midnight = at(day)
    expected = {
        timedelta(days=-1): before,
        timedelta(milliseconds=-1): before,
        timedelta(0): after,
        timedelta(hours=23, minutes=59, seconds=59, milliseconds=999): after,
        timedelta(days=1): after,
    }
    for step, law in expected.items():
        decision = ask("kyc_law/decide", person(country=country), at=midnight + step)
        assert decision.outcome.output.get("law") == law, step
        if law is None:
            assert isinstance(decision.outcome, Review)
            assert codes(decision) == ["law_missing"]


def test_gb_compares_in_pounds_from_the_day_of_the_change() -> None:
    facts = person(country="GB", product="crypto", currency="GBP", amount_minor=79_999)
    before = ask("kyc_law/decide", facts, at=at("2026-06-29"))
    assert "currency_not_comparable" in codes(before)
    after = ask("kyc_law/decide", facts, at=at("2026-06-30"))
    assert (after.outcome.output["level"], codes(after)) == ("none", ["law_needs_review", "law_needs_review"])


def test_the_amlr_is_certain_of_identity_and_not_of_its_levels() -> None:
    german = person(country="DE", currency="EUR")
    assert isinstance(ask("kyc_law/decide", german, at=at("2027-07-10")).outcome, Allow)
    assert codes(ask("kyc_law/decide", german, at=at("2027-07-09"))) == ["law_needs_review"]
    simple = person(country="DE", currency="EUR", risk="low")
    assert codes(ask("kyc_law/decide", simple, at=at("2027-07-10"))) == ["law_needs_review"]


def test_only_a_certain_law_ever_allows() -> None:
    for country, ids in KYC["countries"].items():
        for product in KYC["products"]:
            currency = {KYC["rows"][i]["thresholds"].get(product, {}).get("currency", "EUR") for i in ids}.pop()
            decision = ask("kyc_law/decide", person(country=country, product=product, currency=currency))
            if isinstance(decision.outcome, Allow):
                row = KYC["rows"][decision.outcome.output["law"]]
                assert {row["confidence"]["identity"], row["confidence"]["thresholds"]} <= set(TRUSTED), country
    assert isinstance(ask("kyc_law/decide", person()).outcome, Allow)


def test_every_fact_that_may_be_asked_for_fits_the_answer() -> None:
    for country in KYC["countries"]:
        decision = ask("kyc_law/decide", person(country=country, attributes=[], risk="high"))
        assert decision.failure is None, country


def keep(**changes: object) -> dict:
    facts = {
        "countries": ["US"],
        "field": "screening",
        "events": {"transaction": 20260630},
        "held": False,
        "released": 0,
        "asked": False,
    }
    return {"retention": facts | changes}


def test_evidence_of_a_screening_outlives_the_identity_in_the_us() -> None:
    evidence = ask("retention/decide", keep()).outcome
    assert evidence.output["keep_until"] == 20360630
    identity = ask("retention/decide", keep(field="identity", events={"relationship_end": 20260630})).outcome
    assert identity.output["keep_until"] == 20310630


def test_the_amlr_takes_over_the_keeping_too() -> None:
    facts = keep(countries=["DE"], field="identity", events={"relationship_end": 20260630})
    before = ask("retention/decide", facts, at=at("2027-07-09")).outcome.output
    assert before == {"keep_until": 20311231, "erase_by": 20361231, "laws": "DE-1", "state": "kept"}
    after = ask("retention/decide", facts, at=at("2027-07-10")).outcome.output
    assert after == {"keep_until": 20310630, "erase_by": 20310630, "laws": "EU-AMLR-1", "state": "kept"}


def test_spain_locks_and_then_erases() -> None:
    facts = keep(countries=["ES"], field="identity", events={"transaction": 20200101})
    locked = ask("retention/decide", facts)
    assert isinstance(locked.outcome, Deny)
    assert locked.outcome.output["state"] == "locked"
    assert (locked.outcome.output["lock_after"], locked.outcome.output["keep_until"]) == (20250101, 20300101)


def test_what_authorises_a_card_is_never_kept_anywhere() -> None:
    for country in RETENTION["countries"]:
        decision = ask("retention/decide", keep(countries=[country], field="sad", events={"authorization": 20261125}))
        assert (codes(decision), decision.outcome.output["state"]) == (["erasure_due"], "due"), country


@pytest.mark.parametrize("table", ["kyc_law", "retention_law"])
def test_a_row_without_its_law_or_its_confidence_is_never_a_silent_pass(table: str) -> None:
    question = ("kyc_law/decide", person()) if table == "kyc_law" else ("retention/decide", keep())
    row = "US-1" if table == "kyc_law" else "US-4"
    late = at("2040-01-01")
    assert isinstance(ask(*question, at=late).outcome, Allow)
    for key in ("confidence", "effective_from", "effective_to", "identity", "thresholds", "fields", "events"):
        rows = {id_: dict(value) for id_, value in DATA[table]["rows"].items()}
        if rows[row].pop(key, None) is not None:
            decision = ask(*question, at=late, bundle=with_data(table, {**DATA[table], "rows": rows}))
            assert not isinstance(decision.outcome, Allow), key
