"""What the linter of routing tables finds, and that the shipped table has nothing to find."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from app.policy import routing_table
from app.policy.routing_table import Kind, list_problems
from app.wiring.policies import check_bundle
from tests.policies.asking import ask, with_data
from tests.policies.rego_suite import shipped

SHIPPED = shipped().data["routing"]


def table(*routes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a small table with these routes, each in EU up to the threshold unless it says otherwise."""
    plain = {"regions": ["EU"], "large": [False, True], "psps": ["stripe"]}
    return {
        "psps": {"stripe": {"wired": True, "methods": ["card"]}, "adyen": {"wired": False, "methods": ["card"]}},
        "regions": {"EU": ["DE"]},
        "large_over_minor": {"EUR": 1000, "SEK": 10000},
        "routes": [{"id": f"r{number}", **plain, **route} for number, route in enumerate(routes)],
    } | changes


def found(checked: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem.kind.value, problem.message) for problem in list_problems(checked)]


def test_the_shipped_table_has_nothing_to_find() -> None:
    assert list_problems(SHIPPED) == []


def test_a_gap_names_region_size_method_and_currencies() -> None:
    assert found(table({"large": [False], "currencies": ["EUR"]})) == [
        ("no_route", "nothing takes card payments in EU up to the threshold in SEK"),
        ("no_route", "nothing takes card payments in EU over the threshold in EUR, SEK"),
    ]


def test_a_long_list_of_currencies_is_cut() -> None:
    many = {f"AA{letter}": 1 for letter in "ABCDEFGHIJ"}
    (gap, _) = found(table({"large": [True], "currencies": ["AAA"]}, large_over_minor=many))
    assert gap[1].endswith("in AAA, AAB, AAC, AAD, AAE, AAF, AAG, AAH and more")


def test_a_share_that_leaves_buckets_to_nobody_is_a_gap() -> None:
    whole = [{"share": {"from": 0, "to": 5000}}, {"share": {"from": 5000, "to": 10000}}]
    assert found(table(*whole)) == []
    assert [kind for kind, _ in found(table(whole[0]))] == ["no_route", "no_route"]
    assert found(table(whole[0], {"share": {"from": 5001, "to": 10000}})) != []


def test_a_route_behind_others_that_take_all_of_it_is_unreachable() -> None:
    assert found(table({"large": [False]}, {"large": [True]}, {})) == [
        ("unreachable", "route r2: earlier routes take all that it would")
    ]


def test_an_exception_before_its_rule_is_no_overlap() -> None:
    assert found(table({"currencies": ["SEK"]}, {})) == []


def test_two_routes_of_which_neither_is_the_others_exception_overlap() -> None:
    assert found(table({"currencies": ["SEK"]}, {"large": [True]}, {})) == [
        ("overlap", "routes r0 and r1 both take some payments: the order decides")
    ]


def test_a_method_that_a_psp_takes_and_no_route_is_a_gap() -> None:
    psps = {"stripe": {"wired": True, "methods": ["card", "wallet"]}}
    assert [kind for kind, _ in found(table({"methods": ["card"]}, psps=psps))] == ["no_route", "no_route"]


def test_a_route_without_a_wired_psp_is_found() -> None:
    assert found(table({"psps": ["adyen"]})) == [("not_wired", "route r0: none of its PSPs is wired")]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        table(),
        table({}, psps={}),
        table({}, regions=["EU"]),
        table({}, psps={"stripe": {"methods": ["card"]}}),
        table({}, psps={"stripe": {"wired": True}}),
        table({}, regions={"EU": ["DE"], "NA": ["DE"]}),
        table({"id": "r1"}, {}),
        table({"id": 1}),
        table({"regions": ["MARS"]}),
        table({"regions": []}),
        table({"psps": ["nobody"]}),
        table({"large": []}),
        table({"large": ["yes"]}),
        table({"currencies": []}),
        table({"currencies": ["XTS"]}),
        table({"methods": "card"}),
        table({"share": {"from": 5, "to": 5}}),
        table({"share": {"from": 0, "to": 10001}}),
        table({"share": {"from": 0}}),
        table({"by": "whim"}),
        table({"by": "cost"}),
        table({}, routes=["eu"]),
    ],
)
def test_a_table_of_another_form_is_malformed_and_nothing_else_is_said(broken: dict[str, Any]) -> None:
    kinds = {problem.kind for problem in list_problems(broken)}
    assert kinds == {Kind.MALFORMED}


def test_a_choice_by_cost_needs_the_fees_of_every_currency() -> None:
    fees = {"EUR": {"fixed_minor": 1, "basis_points": 1}}
    psps = {"stripe": {"wired": True, "methods": ["card"], "fees": fees}}
    assert found(table({"by": "cost", "currencies": ["EUR"]}, {}, psps=psps)) == []
    assert found(table({"by": "cost"}, psps=psps)) == [
        ("malformed", "route r0: chooses by cost, and stripe has no fees in SEK")
    ]


def test_a_table_with_too_many_cases_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_table, "MAX_CELLS", 3)
    assert [kind for kind, _ in found(table({}))] == ["malformed"]


def test_what_the_linter_calls_a_gap_is_a_payment_without_a_route() -> None:
    """The linter and the policy read the same table the same way."""
    gappy = copy.deepcopy(dict(SHIPPED))
    gappy["routes"] = [route for route in gappy["routes"] if route["id"] != "eu"]
    assert {problem.kind for problem in list_problems(gappy)} == {Kind.NO_ROUTE}
    payment = {"payment": {"amount_minor": 1499, "currency": "EUR", "country": "DE"}}
    decision = ask("routing/decide", payment, bundle=with_data("routing", gappy))
    assert [reason.code for reason in decision.outcome.reasons] == ["no_route"]


def test_a_bundle_with_a_dead_route_does_not_pass_its_check() -> None:
    dead = copy.deepcopy(dict(SHIPPED))
    dead["routes"] = [*dead["routes"], {**dead["routes"][0], "id": "again"}]
    result = check_bundle(with_data("routing", dead), {})
    assert result.problems == ("data/routing: route again: earlier routes take all that it would",)
