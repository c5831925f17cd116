"""What the application leaves out of Flask is what nothing here uses."""

from __future__ import annotations

from http import HTTPStatus

import flask
import pytest

from app.web.app import create_app
from app.web.wire import Whole
from tests.parts.web import WebPart
from tests.web.problem import read_problem


def test_no_hook_is_registered_that_would_not_run(web: WebPart) -> None:
    app = web.app
    assert set(app.before_request_funcs) == {None}
    for hooks in (
        app.after_request_funcs,
        app.teardown_request_funcs,
        app.teardown_appcontext_funcs,
        app.url_value_preprocessors,
    ):
        assert not hooks


@pytest.fixture
def view(web: WebPart, monkeypatch: pytest.MonkeyPatch):
    """Have `GET /livez` do something else."""
    app = create_app(web.services)

    def view(function):
        monkeypatch.setitem(app.view_functions, "operator.livez", function)
        return app.test_client()

    return view


def test_a_view_that_keeps_a_session_fails(view) -> None:
    def write() -> str:
        flask.session["who"] = "ada"
        return "kept"

    assert view(write).get("/livez").status_code == HTTPStatus.INTERNAL_SERVER_ERROR


def test_a_hook_before_a_request_may_answer_it(web: WebPart) -> None:
    app = create_app(web.services)
    app.before_request(lambda: flask.make_response("stop", HTTPStatus.CONFLICT))
    assert app.test_client().get("/livez").status_code == HTTPStatus.CONFLICT


def test_an_answer_made_whole_keeps_its_body_from_a_head_request(view) -> None:
    client = view(lambda: Whole(b'{"a":1}', HTTPStatus.ACCEPTED, [("Assay-Index", "7")]))
    whole, head = client.get("/livez"), client.head("/livez")
    assert (whole.status_code, whole.json, whole.headers["Assay-Index"]) == (HTTPStatus.ACCEPTED, {"a": 1}, "7")
    assert head.data == b""
    assert head.headers["Content-Length"] == whole.headers["Content-Length"] == "7"


@pytest.mark.parametrize("host", ["elsewhere.example", "", "b\u00fccher.example", "a:b:c", "x" * 300])
def test_the_host_header_changes_nothing(web: WebPart, host: str) -> None:
    assert web.app.test_client().get("/livez", headers={"Host": host}).status_code == HTTPStatus.OK


def test_a_path_that_is_no_utf_8_is_not_found(web: WebPart) -> None:
    answer = web.app.test_client().get("/", environ_overrides={"PATH_INFO": "/\xff\xfe"})
    read_problem(answer, HTTPStatus.NOT_FOUND, "not_found")
