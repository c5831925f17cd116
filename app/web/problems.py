"""Errors as problem details (RFC 9457): the only place that knows status codes.

`code` is stable and documented in docs/errors.md; `errors[].pointer` names the field (RFC 6901); `retryable` says
whether the same request may succeed later. Details of our own faults never leave the house: they are in our logs
under the request id that the caller gets.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import orjson
from flask import Flask, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from app import errors
from app.ledger.card import refuse_card_numbers
from app.web.edge import REQUEST_ID
from app.web.models import VARIANTS

log = logging.getLogger("assay.web")

PROBLEM_TYPE = "application/problem+json"
_STATUS_OF_CODE = {
    "content_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "idempotency_key_missing": HTTPStatus.BAD_REQUEST,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "idempotency_mismatch": HTTPStatus.UNPROCESSABLE_ENTITY,
}
_STATUS_OF_KIND: tuple[tuple[type[errors.AssayError], HTTPStatus], ...] = (
    (errors.Malformed, HTTPStatus.BAD_REQUEST),
    (errors.Conflict, HTTPStatus.CONFLICT),
    (errors.TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.Rejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
    (errors.Refused, HTTPStatus.FORBIDDEN),
    (errors.Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
_TITLES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}
"""RFC 9110's words, which older Pythons do not have."""
_CODE_OF_STATUS = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large"}
_WITHHELD = "The request cannot be accepted, and the reason holds what looks like a card number; it is not repeated."


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    pointer: str | None = None,
    fields: list[dict[str, str]] | None = None,
    retry_after_s: int | None = None,
) -> Response:
    """Return the one error shape of the API."""
    return Response(
        orjson.dumps(problem_body(status, code, detail, pointer=pointer, fields=fields, retry_after_s=retry_after_s)),
        status=status,
        mimetype=PROBLEM_TYPE,
        headers=_headers(status, retry_after_s),
    )


def problem_body(
    status: int,
    code: str,
    detail: str,
    *,
    pointer: str | None = None,
    fields: list[dict[str, str]] | None = None,
    retry_after_s: int | None = None,
) -> dict[str, Any]:
    """Return the members of a problem document."""
    fields = fields or ([{"pointer": pointer, "detail": detail, "code": code}] if pointer else [])
    if _holds_card_number(detail, fields):
        detail, fields = _WITHHELD, []
    body: dict[str, Any] = {
        "type": f"/docs/errors#{code}",
        "title": _TITLES.get(HTTPStatus(status), HTTPStatus(status).phrase),
        "status": status,
        "code": code,
        "detail": detail,
        "instance": f"urn:assay:request:{_request_id()}",
        "retryable": retry_after_s is not None,
    }
    if fields:
        body["errors"] = fields
    return body


def _holds_card_number(detail: str, fields: list[dict[str, str]]) -> bool:
    """Say whether the words of a problem repeat a card number; the name of an unknown field may be one."""
    try:
        refuse_card_numbers([detail, fields])
    except errors.Rejected:
        return True
    return False


def _request_id() -> str:
    return str(request.environ.get(REQUEST_ID, "unknown"))


def _headers(status: int, retry_after_s: int | None) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="assay"'
    return headers


def status_of(error: errors.AssayError) -> int:
    """Return the status code for an error of ours."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    for kind, status in _STATUS_OF_KIND:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def describe(error: errors.AssayError) -> dict[str, Any]:
    """Return the problem members of an error of ours, for answers that hold several."""
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request %s: broken invariant %s: %s", _request_id(), error.code, error)
        return problem_body(status, "internal_error", "The service failed; it has been logged under this request id.")
    return problem_body(
        status,
        error.code,
        str(error),
        pointer=error.pointer,
        retry_after_s=_retry_after(error),
    )


def _retry_after(error: errors.AssayError) -> int | None:
    """Return the seconds after which the same request may succeed, or None."""
    seconds: int | None = getattr(error, "retry_after_s", None)
    return seconds


def from_error(error: errors.AssayError) -> Response:
    """Return the response for an error of ours."""
    body = describe(error)
    return Response(
        orjson.dumps(body),
        status=body["status"],
        mimetype=PROBLEM_TYPE,
        headers=_headers(body["status"], _retry_after(error)),
    )


def describe_validation(error: ValidationError) -> dict[str, Any]:
    """Return the problem members of a schema violation: every field at fault, values never repeated."""
    fields = [
        {
            "pointer": "".join(f"/{part}" for part in item["loc"] if part not in VARIANTS),
            "detail": item["msg"],
            "code": item["type"],
        }
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return problem_body(
        HTTPStatus.UNPROCESSABLE_ENTITY, "request_invalid", "The request does not fit the schema.", fields=fields
    )


def from_validation(error: ValidationError) -> Response:
    """Return 422 with every field at fault."""
    body = describe_validation(error)
    return Response(orjson.dumps(body), body["status"], _headers(body["status"], None), mimetype=PROBLEM_TYPE)


def from_http(error: HTTPException) -> Response:
    """Return the response for an error of the framework; a ready response passes through."""
    if error.response is not None and isinstance(error.response, Response):
        return error.response
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    code = _CODE_OF_STATUS.get(HTTPStatus(status)) or HTTPStatus(status).name.lower()
    response = problem(status, code, error.description or HTTPStatus(status).phrase)
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def from_bug(error: Exception) -> Response:
    """Return a bare 500; the trace goes to our log."""
    log.error("request %s: unexpected error", _request_id(), exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "The service failed; it has been logged under this request id.",
    )


def register(app: Flask) -> None:
    """Render every error of `app` as a problem."""
    app.register_error_handler(errors.AssayError, from_error)
    app.register_error_handler(ValidationError, from_validation)
    app.register_error_handler(HTTPException, from_http)
    app.register_error_handler(Exception, from_bug)
