"""What every error of the API promises."""

from __future__ import annotations

from typing import Any

from werkzeug.test import TestResponse

PAN = "4242424242424242"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
}


def read_problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Return the problem document of an error, after looking at all that it promises."""
    assert answer.status_code == status, answer.data
    assert answer.content_type == "application/problem+json"
    body: dict[str, Any] = answer.get_json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"/docs/errors#{code}"
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == f"urn:assay:request:{answer.headers['X-Request-Id']}"
    assert body["retryable"] is ("Retry-After" in answer.headers)
    assert set(body) <= {"type", "title", "status", "code", "detail", "instance", "retryable", "errors"}
    for error in body.get("errors", ()):
        assert set(error) == {"pointer", "detail", "code"}
    assert answer.headers["Cache-Control"] == "no-store"
    check_headers(answer)
    assert b"Traceback" not in answer.data
    assert b'.py"' not in answer.data
    return body


def check_headers(answer: TestResponse) -> None:
    """Every answer has the security headers, once each."""
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.getlist(name) == [value], name
    assert len(answer.headers.getlist("Content-Security-Policy")) == 1
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert len(answer.headers.getlist("X-Request-Id")) == 1
    assert len(answer.headers.getlist("Cache-Control")) == 1
    assert "Server" not in answer.headers
