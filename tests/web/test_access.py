"""The policy's access table and the application's views say the same, and a view without a row is refused."""

from __future__ import annotations

import pytest

from app.web.app import create_app
from app.web.auth import name_operation
from tests.parts.web import WebPart
from tests.policies.rego_suite import shipped
from tests.web.problem import read_problem

TABLE = shipped().data["authz"]


def test_every_view_has_its_row_and_every_row_its_view(web: WebPart) -> None:
    declared = {
        name_operation(rule): getattr(web.app.view_functions[rule.endpoint], "scope", "public")
        for rule in web.app.url_map.iter_rules()
    }
    assert declared == TABLE["operations"]


def test_an_operation_is_one_method_of_one_path(web: WebPart) -> None:
    names = [name_operation(rule) for rule in web.app.url_map.iter_rules()]
    assert len(names) == len(set(names)) == len({rule.endpoint for rule in web.app.url_map.iter_rules()})
    assert not [name for name in names if "," in name]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_view_without_a_row_is_refused_to_everybody(web: WebPart, method: str) -> None:
    app = create_app(web.services)
    app.add_url_rule("/v1/everything", "everything", lambda: "all of it")
    for headers in ({}, {"Authorization": f"Bearer {web.token}"}):
        answer = app.test_client().open("/v1/everything", method=method, headers=headers)
        assert answer.status_code == 403
        if method == "GET":
            read_problem(answer, 403, "operation_unlisted")


def test_what_does_not_exist_is_absent_and_not_forbidden(web: WebPart) -> None:
    read_problem(web.get("/v1/nothing/of/the/kind"), 404, "not_found")
