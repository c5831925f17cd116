"""Lists: every entry exactly once, in log order, with every filter; nothing before it is published."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from tests.parts.web import WebPart
from tests.web.problem import read_problem

ENTRIES = 230


@pytest.fixture(scope="module")
def log(web: WebPart) -> list[dict]:
    """Return every entry of a log in which subjects, references and actions are mixed."""
    lines = []
    for number in range(ENTRIES):
        entry: dict = {"action": "approval.given", "data": {"what": f"n {number}", "verdict": "approved"}}
        if number % 3 == 0:
            entry = {"action": "document.recorded", "data": {"kind": "invoice", "sha256": f"{number:064x}"}}
        if number % 5 == 0:
            entry["subject"] = f"sub_{number % 4}"
        if number % 7 == 0:
            entry["ref"] = {"contract": f"c&{number % 2}=+%", "order": f"o{number % 3}"}
        lines.append(orjson.dumps(entry))
    web.post("/v1/entries:batch", data=b"\n".join(lines), content_type="application/x-ndjson")
    size = web.append().json["index"] + 1
    entries = web.list_entries()
    assert [entry["index"] for entry in entries] == list(range(size))
    return entries


def _walk(web: WebPart, address: str) -> Iterator[dict]:
    """Follow the Link header; at most once for each entry there is."""
    for _ in range(2 * ENTRIES):
        page = web.get(address)
        assert page.status_code == 200, page.data
        yield from page.json["entries"]
        link = page.headers.get("Link")
        assert (link is None) == (page.json["next"] is None)
        if link is None:
            return
        target, _, relation = link.partition("; ")
        assert relation == 'rel="next"'
        address = target.removeprefix("<").removesuffix(">")
        assert dict(parse_qsl(urlsplit(address).query))["after"] == str(page.json["next"])
    raise AssertionError("the pages never end")


FILTERS = {
    "": lambda _: True,
    "action=document.recorded": lambda entry: entry["action"] == "document.recorded",
    "subject=sub_0": lambda entry: entry.get("subject") == "sub_0",
    "ref=c%260%3D%2B%25": lambda entry: "c&0=+%" in entry["ref"].values(),
    "ref=o1&action=approval.given": lambda e: "o1" in e["ref"].values() and e["action"] == "approval.given",
    "subject=sub_1&ref=o2": lambda e: e.get("subject") == "sub_1" and "o2" in e["ref"].values(),
    "subject=sub_nobody": lambda _: False,
    "from_ms=0": lambda _: True,
    "to_ms=1": lambda _: False,
}


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("query", FILTERS)
def test_pages_walk_all_that_pass_the_filter_exactly_once_in_order(
    web: WebPart, log: list[dict], query: str, limit: int
) -> None:
    expected = [entry for entry in log if FILTERS[query](entry["entry"])]
    assert list(_walk(web, f"/v1/entries?limit={limit}&{query}".rstrip("&"))) == expected


def test_times_are_a_half_open_range(web: WebPart, log: list[dict]) -> None:
    times = sorted({entry["entry"]["time"] for entry in log})
    start, end = times[len(times) // 3], times[-1]
    expected = [entry for entry in log if start <= entry["entry"]["time"] < end]
    assert list(_walk(web, f"/v1/entries?from_ms={start}&to_ms={end}&limit=13")) == expected


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "after=-1",
        "after=1.5",
        "after=9223372036854775808",
        "from_ms=-1",
        "to_ms=140737488355328",
        "nothing=1",
        "action=Not An Action",
        "subject=Ada",
        "ref=",
        "ref=a%0d%0aSet-Cookie:%20x",
    ],
)
def test_a_filter_that_is_none_is_refused(web: WebPart, query: str) -> None:
    answer = web.get(f"/v1/entries?{query}")
    read_problem(answer, 422, "request_invalid")


def test_a_cursor_past_the_end_is_an_empty_last_page(web: WebPart, log: list[dict]) -> None:
    page = web.get(f"/v1/entries?after={2**63 - 1}")
    assert page.json == {"entries": [], "next": None}
    assert "Link" not in page.headers


def test_an_entry_is_what_was_logged(web: WebPart, log: list[dict]) -> None:
    for entry in log[:5]:
        assert web.get(f"/v1/entries/{entry['id']}").json == entry
