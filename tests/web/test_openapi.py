"""The committed OpenAPI document is the one that a running service answers; /docs shows it without any other host."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from scripts.openapi import TARGET, format_document
from tests.architecture.sources import ROOT
from tests.parts.web import WebPart
from tests.web.problem import check_headers


def test_the_committed_document_is_the_served_one(web: WebPart) -> None:
    served = web.get("/openapi.json", token=None)
    assert served.status_code == 200
    assert TARGET.read_text() == format_document(served.get_json()), "run `python -m scripts.openapi`"


def test_the_document_is_openapi_3_1_and_complete(web: WebPart) -> None:
    document = web.get("/openapi.json", token=None).get_json()
    assert document["openapi"].startswith("3.1")
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            problems = operation["responses"]["4XX"]["content"]
            assert set(problems) == {"application/problem+json"}, (method, path)
            assert any(status.startswith("2") for status in operation["responses"]), (method, path)


def test_exactly_the_endpoints_that_need_a_token_say_so(web: WebPart) -> None:
    document = web.get("/openapi.json", token=None).get_json()
    scoped = {name for name, view in web.app.view_functions.items() if getattr(view, "scope", None)}
    needing = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in web.app.url_map.iter_rules()
        if rule.endpoint in scoped
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    saying = {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("security")
    }
    assert saying == needing


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in {"src", "href"} and tag != "a"]


def test_the_docs_page_loads_everything_from_this_service(web: WebPart) -> None:
    page = web.get("/docs/swagger", token=None)
    assert page.status_code == 200
    check_headers(page)
    assert "http" not in page.headers["Content-Security-Policy"]
    assert '"validatorUrl": null' in page.text, "the page would ask another host whether the document is valid"
    links = _Links()
    links.feed(page.text)
    scripts = [link for link in links.found if not link.startswith("data:")]
    assert len(scripts) >= 2
    for link in scripts:
        assert not re.match(r"(?:\w+:)?//", link), link
        assert web.get(f"/docs/{link}", token=None).status_code == 200, link
    url = re.search(r'new URL\("([^"]+)"', page.text)
    assert url is not None
    assert web.get(f"/docs/{url[1]}", token=None).get_json() == web.get("/openapi.json", token=None).get_json()


def test_docs_answers_at_its_short_address(web: WebPart) -> None:
    moved = web.get("/docs", token=None)
    assert moved.status_code == 308
    assert web.get("/docs/", token=None).status_code == 200


def test_the_type_of_a_problem_leads_to_a_page_with_an_anchor_for_its_code(web: WebPart) -> None:
    for address, token in (("/v1/entries", None), ("/v1/entries/ent_1", ""), (f"/v1/payments/pi_{0:032x}", "")):
        page, _, code = web.get(address, token=token).json["type"].partition("#")
        answer = web.get(page, token=None)
        assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
        assert answer.text.count(f'<b id="{code}">{code}</b>') == 1
    check_headers(answer)
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    documented = [code for row in rows for code in re.findall(r"`([a-z_]+)`", row)]
    assert len(documented) > 100
    assert re.findall(r'<b id="([a-z_]+)">', answer.text) == documented
