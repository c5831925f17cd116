"""What is wrong with a routing table (`data/routing/data.json`), found before a payment finds it.

The table's payments are cut into cells: region, size, currency, method and part of the volume, so fine that each route
takes a cell whole or not at all. Then "who takes this" is a question about sets. See docs/policies.md for the form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any, Final, NamedTuple

from app.policy.query import BUCKETS

MAX_CELLS: Final = 200_000
"""More would be a table that no person reads either."""
MAX_NAMED: Final = 8
"""Currencies of a gap that a message names."""


class Kind(StrEnum):
    """How a table is wrong. All but `OVERLAP` keep a bundle from being checked in."""

    MALFORMED = "malformed"
    NO_ROUTE = "no_route"
    NOT_WIRED = "not_wired"
    OVERLAP = "overlap"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, in words for the table's author."""

    kind: Kind
    message: str


class Cell(NamedTuple):
    """Payments that every route treats alike. `share` is where their buckets begin; `large` is over the threshold."""

    region: str
    large: bool
    currency: str
    method: str
    share: int


def list_problems(table: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the table: what is malformed, or else gaps, dead routes and doubtful order."""
    malformed = [Problem(kind=Kind.MALFORMED, message=message) for message in _list_malformed(table)]
    if malformed:
        return malformed
    routes: Sequence[Mapping[str, Any]] = table["routes"]
    cells = _list_cells(table)
    if len(cells) > MAX_CELLS:
        return [Problem(kind=Kind.MALFORMED, message=f"over {MAX_CELLS:,} cases: fewer currencies, methods or shares")]
    taken = [{cell for cell in cells if _takes(route, cell)} for route in routes]
    return [
        *_find_gaps(cells, taken),
        *_find_unreachable(routes, taken),
        *_find_overlaps(routes, taken),
        *_find_unwired(table),
    ]


def _list_malformed(table: Mapping[str, Any]) -> Iterator[str]:
    for key, kind in (("regions", dict), ("psps", dict), ("large_over_minor", dict), ("routes", list)):
        if not isinstance(table.get(key), kind) or not table[key]:
            yield f"`{key}` is missing or empty"
            return
    for name, psp in table["psps"].items():
        if not isinstance(psp, dict) or not isinstance(psp.get("wired"), bool) or not psp.get("methods"):
            yield f"PSP {name}: says whether it is wired (true or false) and which methods it takes"
    seen: dict[str, str] = {}
    for region, countries in table["regions"].items():
        for country in countries:
            if seen.setdefault(country, region) != region:
                yield f"{country} is in two regions, {seen[country]} and {region}"
    ids = [route.get("id") if isinstance(route, dict) else None for route in table["routes"]]
    for number, (id_, route) in enumerate(zip(ids, table["routes"], strict=True), start=1):
        if not isinstance(id_, str) or ids.count(id_) > 1:
            yield f"route {number}: has no id of its own"
        else:
            yield from (f"route {id_}: {message}" for message in _list_malformed_of(route, table))


def _list_malformed_of(route: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[str]:
    for key, known in (("regions", table["regions"]), ("psps", table["psps"])):
        named = route.get(key)
        if not isinstance(named, list) or not named or not set(named) <= set(known):
            yield f"`{key}` names one or more of {', '.join(sorted(known))}"
    if route.get("large") not in ([True], [False], [True, False], [False, True]):
        yield "`large` is [true], [false] or both"
    for key in ("currencies", "methods"):
        if key in route and not (isinstance(route[key], list) and route[key]):
            yield f"`{key}` is a list, or absent for all of them"
    share = route.get("share", {"from": 0, "to": BUCKETS})
    if not isinstance(share, dict) or not 0 <= share.get("from", -1) < share.get("to", -1) <= BUCKETS:
        yield f"`share` is from and to, 0 <= from < to <= {BUCKETS:,}"
    if not set(route.get("currencies", ())) <= set(table["large_over_minor"]):
        yield "`currencies` names one without a threshold in `large_over_minor`"
    yield from _list_malformed_choice(route, table)


def _list_malformed_choice(route: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[str]:
    if route.get("by", "order") not in {"order", "cost"}:
        yield "`by` is order or cost"
    if route.get("by") != "cost":
        return
    wanted = set(route.get("currencies", table["large_over_minor"]))
    for psp in route.get("psps", ()):
        if lacking := sorted(wanted - set(table["psps"].get(psp, {}).get("fees", {}))):
            yield f"chooses by cost, and {psp} has no fees in {', '.join(lacking)}"


def _list_cells(table: Mapping[str, Any]) -> list[Cell]:
    methods = {method for psp in table["psps"].values() for method in psp["methods"]}
    methods |= {method for route in table["routes"] for method in route.get("methods", ())}
    shares = [route["share"] for route in table["routes"] if "share" in route]
    begins = {0} | {share["from"] for share in shares} | {share["to"] for share in shares if share["to"] < BUCKETS}
    return [
        Cell(*cell)
        for cell in product(
            sorted(table["regions"]), (False, True), sorted(table["large_over_minor"]), sorted(methods), sorted(begins)
        )
    ]


def _takes(route: Mapping[str, Any], cell: Cell) -> bool:
    share = route.get("share", {"from": 0, "to": BUCKETS})
    return (
        cell.region in route["regions"]
        and cell.large in route["large"]
        and cell.currency in route.get("currencies", (cell.currency,))
        and cell.method in route.get("methods", (cell.method,))
        and share["from"] <= cell.share < share["to"]
    )


def _find_gaps(cells: Sequence[Cell], taken: Sequence[set[Cell]]) -> Iterator[Problem]:
    left = set(cells).difference(*taken)
    gaps: dict[tuple[str, bool, str], set[str]] = {}
    for cell in left:
        gaps.setdefault((cell.region, cell.large, cell.method), set()).add(cell.currency)
    for (region, large, method), found in sorted(gaps.items()):
        currencies = sorted(found)
        named = ", ".join(currencies[:MAX_NAMED]) + (" and more" if len(currencies) > MAX_NAMED else "")
        size = "over" if large else "up to"
        yield Problem(
            kind=Kind.NO_ROUTE, message=f"nothing takes {method} payments in {region} {size} the threshold in {named}"
        )


def _find_unreachable(routes: Sequence[Mapping[str, Any]], taken: Sequence[set[Cell]]) -> Iterator[Problem]:
    earlier: set[Cell] = set()
    for route, cells in zip(routes, taken, strict=True):
        if cells <= earlier:
            yield Problem(kind=Kind.UNREACHABLE, message=f"route {route['id']}: earlier routes take all that it would")
        earlier |= cells


def _find_overlaps(routes: Sequence[Mapping[str, Any]], taken: Sequence[set[Cell]]) -> Iterator[Problem]:
    """Yield pairs whose order decides; an exception before its rule, all of which the rule would take, is none."""
    for later in range(len(routes)):
        for first in range(later):
            shared = taken[first] & taken[later]
            if shared and not taken[first] <= taken[later] and not taken[later] <= taken[first]:
                names = f"routes {routes[first]['id']} and {routes[later]['id']}"
                yield Problem(kind=Kind.OVERLAP, message=f"{names} both take some payments: the order decides")


def _find_unwired(table: Mapping[str, Any]) -> Iterator[Problem]:
    for route in table["routes"]:
        if not any(table["psps"][psp]["wired"] for psp in route["psps"]):
            yield Problem(kind=Kind.NOT_WIRED, message=f"route {route['id']}: none of its PSPs is wired")
