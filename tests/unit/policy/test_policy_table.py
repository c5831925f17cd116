"""Tables: CSV in and out, effective dates, and a bundle with one table changed."""

from __future__ import annotations

import json
import unicodedata
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Malformed, NotFound, TooLarge
from app.policy import table as tables
from app.policy.bundle import load_bundle, make_bundle
from app.policy.difference import compare_bundles
from app.policy.table import change_table, compare_rows, format_csv, make_value, parse_csv
from app.wiring import find_shipped

COLUMNS = {
    "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
    "limit": {"type": ["integer", "null"]},
    "blocked": {"type": "boolean"},
    "duties": {"type": "array", "items": {"type": "string"}},
    "note": {"type": "string"},
    "effective_from": {"type": ["string", "null"]},
    "effective_to": {"type": ["string", "null"]},
}
ROWS_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": COLUMNS,
        "required": ["country", "limit", "blocked", "note", "effective_from", "effective_to"],
        "additionalProperties": False,
    },
}
SCHEMA = {"type": "object", "properties": {"rows": ROWS_SCHEMA}, "required": ["rows"], "x-key": ["country"]}
ROW = {
    "country": "GB",
    "limit": 1000,
    "blocked": False,
    "duties": ["identify", "verify"],
    "note": 'a "quoted", text\nof two lines',
    "effective_from": "2026-06-30",
    "effective_to": None,
}
EMPTY = {"version": "1", "source": "law", "rows": []}


def make(value=EMPTY, schema=SCHEMA):
    files = {"a/a.rego": b"package a\n", "data/limits/data.json": json.dumps(value).encode()}
    return make_bundle({**files, "data/limits/schema.json": json.dumps(schema).encode()}, name="assay")


def change(*rows):
    return change_table(make(), "limits", {**EMPTY, "rows": [{**ROW, **row} for row in rows]})


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)
DAYS = st.dates(date(2000, 1, 1), date(2100, 1, 1))


@st.composite
def row_sets(draw):
    """Draw rows, each of a country of its own."""
    rows = []
    for country in draw(st.lists(st.from_regex(r"[A-Z]{2}", fullmatch=True), unique=True, max_size=6)):
        begin = draw(DAYS)
        row = {
            "country": country,
            "limit": draw(st.none() | st.integers(-(10**15), 10**15)),
            "blocked": draw(st.booleans()),
            "note": draw(TEXT),
            "effective_from": draw(st.sampled_from([None, begin.isoformat()])),
            "effective_to": draw(
                st.sampled_from([None, (begin + timedelta(days=draw(st.integers(1, 9)))).isoformat()])
            ),
        }
        duties = draw(st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), max_size=3))
        rows.append({**row, **({"duties": duties} if duties else {})})
    return rows


@given(row_sets())
def test_csv_says_the_same_as_the_table(rows) -> None:
    bundle, change = change_table(make(), "limits", {**EMPTY, "rows": rows})
    assert (change.rows, change.added, change.removed) == (len(rows), len(rows), 0)
    assert parse_csv(bundle, "limits", format_csv(bundle, "limits")) == rows
    assert bundle.data["limits"] == {**EMPTY, "rows": rows}


@pytest.mark.parametrize("value", [{**EMPTY, "rows": [{**ROW, "limit": Decimal("0.5")}]}, {**EMPTY, "x": Decimal(1)}])
def test_a_fraction_anywhere_in_a_table_is_refused(value) -> None:
    with pytest.raises(Malformed) as caught:
        change_table(make(), "limits", value)
    assert caught.value.code == "table_malformed"


def test_columns_may_come_in_any_order_and_optional_ones_be_left_out() -> None:
    text = "\ufeffblocked,country,limit,effective_to,effective_from,note\r\ntrue,DE,,,2026-01-01,\r\n"
    [row] = parse_csv(make(), "limits", text)
    assert row == {
        "blocked": True,
        "country": "DE",
        "limit": None,
        "effective_to": None,
        "effective_from": "2026-01-01",
        "note": "",
    }


HEADER = "country,limit,blocked,duties,note,effective_from,effective_to\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1"),
        ("country\n", "line 1"),
        (HEADER.replace("duties", "country"), "line 1"),
        (HEADER.replace("duties", "secret"), "line 1"),
        (HEADER + "DE,1\n", "line 2: 2 cells"),
        (HEADER + "DE,1.5,true,,,,\n", "line 2, limit: not a whole number"),
        (HEADER + "DE,1e3,true,,,,\n", "line 2, limit"),
        (HEADER + "DE,1,yes,,,,\n", "line 2, blocked: not true or false"),
        (HEADER + "DE,1,,,,,\n", "line 2, blocked: not true or false"),
        (HEADER + 'DE,1,true,,"no end,,\n', "line 2"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(Malformed, match=words) as refused:
        parse_csv(make(), "limits", text)
    assert refused.value.code == "table_malformed"


def test_what_the_schema_refuses_is_refused_with_its_place_and_without_the_value() -> None:
    with pytest.raises(Malformed, match="/rows/0/country") as refused:
        change({"country": "Germany"})
    assert "Germany" not in str(refused.value)


@pytest.mark.parametrize(
    "rows",
    [
        [{"effective_to": "2026-06-30"}],
        [{"effective_to": "2026-06-29"}],
        [{"effective_from": "2026-6-3"}],
        [{"effective_from": "2026-W20-1"}],
        [{"effective_from": "soon"}],
        [{}, {}],
        [{"effective_from": None}, {}],
        [{"effective_to": "2027-07-10"}, {"effective_from": "2027-07-09"}],
    ],
)
def test_dates_that_contradict_each_other_are_refused(rows) -> None:
    with pytest.raises(Malformed) as refused:
        change(*rows)
    assert refused.value.code == "table_malformed"


def test_one_key_may_change_on_a_day_and_another_key_have_the_same_dates() -> None:
    bundle, _ = change({"effective_to": "2027-07-10"}, {"effective_from": "2027-07-10"}, {"country": "FR"})
    assert len(bundle.data["limits"]["rows"]) == 3


def test_a_changed_table_is_another_bundle_with_the_rest_as_it_was() -> None:
    before = make({**EMPTY, "rows": [ROW]})
    rows = [ROW | {"limit": 2000}, ROW | {"country": "FR"}]
    after, change = change_table(before, "limits", make_value(before, "limits", rows, version="2"))
    assert (change.rows, change.added, change.removed) == (2, 2, 1)
    assert after.digest != before.digest
    assert after.data["limits"]["source"] == "law"
    assert after.data_versions[0].version == "2"
    assert {path: after.files[path] for path in after.files if not path.endswith("data.json")} == {
        path: before.files[path] for path in before.files if not path.endswith("data.json")
    }
    told = compare_bundles(before, after)
    assert (told.added, told.removed, told.changed, told.text) == ((), (), ("data/limits/data.json",), "")
    assert told.tables == {"limits": change}


def test_the_difference_of_policies_is_their_text() -> None:
    before = make_bundle({"a/a.rego": b"package a\n\nx := 1\n", "b/b.rego": b"package b\n"}, name="x")
    after = make_bundle({"a/a.rego": b"package a\n\nx := 2", "c/c.rego": b"package c\n"}, name="x")
    told = compare_bundles(before, after)
    assert (told.added, told.removed, told.changed) == (("c/c.rego",), ("b/b.rego",), ("a/a.rego",))
    assert "-x := 1\n+x := 2\n" in told.text
    assert "--- a/b/b.rego" in told.text
    assert not told.cut_off


def test_a_table_without_rows_or_columns_is_not_told_in_csv() -> None:
    for bundle in (make({"version": "1", "rows": 7}, {"type": "object"}), make(schema={"type": "object"})):
        with pytest.raises(Malformed):
            format_csv(bundle, "limits")
    with pytest.raises(NotFound):
        format_csv(make(), "none")


def without_schema(rows):
    data = json.dumps({"version": "1", "rows": rows}).encode()
    return make_bundle({"a/a.rego": b"package a\n", "data/limits/data.json": data}, name="assay")


def test_rows_by_their_id_and_without_a_schema_come_back_as_they_were() -> None:
    rows = {
        "AE-1": {"from": 20241230, "lists": [["name"], ["address"]], "per": {"crypto": 1}, "note": "x", "odd": 1},
        "AE-2": {"from": 20251214, "lists": [], "per": {}, "note": "", "odd": "text", "more": None},
    }
    bundle = without_schema(rows)
    text = format_csv(bundle, "limits")
    assert text.splitlines()[0] == "id,from,lists,per,note,odd,more"
    value = make_value(bundle, "limits", parse_csv(bundle, "limits", text), version="1")
    assert value["rows"] == {"AE-1": {**rows["AE-1"], "more": None}, "AE-2": rows["AE-2"]}
    with pytest.raises(Malformed, match="twice"):
        make_value(bundle, "limits", parse_csv(bundle, "limits", text + text.splitlines()[1] + "\n"), version="2")
    with pytest.raises(Malformed, match="lists: not JSON"):
        parse_csv(bundle, "limits", text.replace("[]", "["))


@pytest.mark.parametrize("name", ["kyc_law", "retention_law"])
def test_the_law_tables_that_ship_go_through_csv_unchanged(name: str) -> None:
    shipped = load_bundle(find_shipped("policies"), name="assay")
    rows = parse_csv(shipped, name, format_csv(shipped, name))
    changed, change = change_table(shipped, name, make_value(shipped, name, rows, version="2099-01-01"))
    assert (change.added, change.removed) == (0, 0)
    assert change.rows > 30
    assert changed.data[name] == {**shipped.data[name], "version": "2099-01-01"}


def test_a_schema_that_refers_elsewhere_is_refused_and_nothing_is_fetched() -> None:
    for schema in ({"$ref": "http://127.0.0.1:1/x"}, {"$ref": "file:///etc/passwd"}, {"type": 7}):
        with pytest.raises(Malformed, match="stands alone"):
            make(schema=schema)


def test_a_table_beyond_its_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    with pytest.raises(TooLarge):
        parse_csv(make(), "limits", HEADER + "DE,1,true,,,,\n" * 3)
    with pytest.raises(TooLarge):
        parse_csv(make(), "limits", f"{HEADER}DE,1,true,,{'x' * 5000},,\n")


def test_a_moved_row_is_no_change() -> None:
    rows = [{"a": 1}, {"a": 2}, {"a": 2}]
    told = compare_rows({"rows": rows}, {"rows": rows[::-1]})
    assert (told.rows, told.added, told.removed) == (3, 0, 0)
    fewer = compare_rows({"rows": rows}, {"rows": rows[:2]})
    assert (fewer.rows, fewer.added, fewer.removed) == (2, 0, 1)
