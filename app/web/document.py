"""The OpenAPI document, completed by what signatures cannot say: headers, other content types, problems, 304s."""

from __future__ import annotations

from typing import Any, Final

from app.web.models import Problem

_Json = dict[str, Any]

_PROBLEM: Final[_Json] = {
    "description": "A problem document (RFC 9457); its `code` is stable.",
    "content": {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
}
_NOT_MODIFIED: Final[_Json] = {"description": "The client has it already (If-None-Match)."}
_TEXT: Final[_Json] = {"schema": {"type": "string"}}
_BYTES: Final[_Json] = {"schema": {"type": "string", "format": "binary"}}

_PREFER: Final[_Json] = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: answer when the entry is published, after N seconds at the latest (RFC 7240).",
    "schema": {"type": "string", "examples": ["wait=10"]},
}
_IDEMPOTENCY_KEY: Final[_Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same when a request is sent again: it is answered alike, and nothing is done twice.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_IF_NONE_MATCH: Final[_Json] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag that the client has.",
    "schema": {"type": "string"},
}
_REPLAYED: Final[_Json] = {
    "Idempotency-Replayed": {
        "description": "`true` when an earlier request with this key did it.",
        "schema": {"type": "string", "const": "true"},
    }
}
_RETRY_AFTER: Final[_Json] = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}}
}

HEADERS: Final[dict[tuple[str, str], tuple[_Json, ...]]] = {
    ("post", "/v1/entries"): (_PREFER, _IDEMPOTENCY_KEY),
    ("post", "/v1/entries:batch"): (_PREFER, _IDEMPOTENCY_KEY),
    ("post", "/v1/decisions"): (_PREFER,),
    ("post", "/v1/payments"): (_PREFER, {**_IDEMPOTENCY_KEY, "required": True}),
    ("delete", "/v1/subjects/{subject_id}"): (_PREFER,),
    ("get", "/{tenant}/checkpoint"): (_IF_NONE_MATCH,),
    ("get", "/{tenant}/tile/{rest}"): (_IF_NONE_MATCH,),
    ("get", "/{tenant}/tile/entries/{rest}"): (_IF_NONE_MATCH,),
    ("get", "/{tenant}/keys"): (_IF_NONE_MATCH,),
    ("get", "/v1/policy/bundles/{name}"): (_IF_NONE_MATCH,),
}
CONTENT: Final[dict[tuple[str, str, str], dict[str, _Json]]] = {
    ("post", "/v1/entries", "201"): {"text/plain": _TEXT},
    ("post", "/v1/entries:batch", "200"): {"application/x-ndjson": _TEXT},
    ("get", "/v1/entries/{entry_id}/receipt", "200"): {"text/plain": _TEXT},
    ("get", "/{tenant}/checkpoint", "200"): {"text/plain": _TEXT},
    ("get", "/{tenant}/tile/{rest}", "200"): {"application/octet-stream": _BYTES},
    ("get", "/{tenant}/tile/entries/{rest}", "200"): {"application/octet-stream": _BYTES},
    ("get", "/metrics", "200"): {"text/plain": _TEXT},
    ("get", "/v1/policy/bundles/{name}", "200"): {"application/gzip": _BYTES},
    ("get", "/v1/policy/bundles/by-digest/{digest}", "200"): {"application/gzip": _BYTES},
    ("get", "/v1/policy/data/{table}", "200"): {"application/json": {"schema": {"type": "object"}}, "text/csv": _TEXT},
}
LINES: Final[_Json] = {
    "required": True,
    "description": "Up to 1,000 entries or records, one JSON object a line.",
    "content": {"application/x-ndjson": _TEXT},
}
ARCHIVE: Final[_Json] = {
    "required": True,
    "description": "An archive in OPA's bundle format, at most 16 MiB; with tests beside the policies.",
    "content": {"application/gzip": _BYTES},
}
TABLE: Final[_Json] = {
    "required": True,
    "description": "The table, as JSON or as CSV with a header.",
    "content": {"application/json": {"schema": {"type": "object"}}, "text/csv": _TEXT},
}


def complete(document: _Json) -> None:
    """Add to the document, in place, what the framework does not know."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(method, path, operation)
    document["paths"]["/v1/entries:batch"]["post"]["requestBody"] = LINES
    document["paths"]["/v1/policy/bundles"]["post"]["requestBody"] = ARCHIVE
    document["paths"]["/v1/policy/data/{table}"]["put"]["requestBody"] = TABLE


def _complete_operation(method: str, path: str, operation: _Json) -> None:
    parameters = HEADERS.get((method, path), ())
    if parameters:
        operation["parameters"] = [*operation.get("parameters", ()), *parameters]
    responses = operation["responses"]
    responses.pop("422", None)  # the framework's own idea; 4XX says it
    for status, response in responses.items():
        response["content"] = {**response.get("content", {}), **CONTENT.get((method, path, status), {})}
        if _IDEMPOTENCY_KEY["name"] in {each["name"] for each in parameters} and status.startswith("2"):
            response["headers"] = _REPLAYED
    for status in ("4XX", "5XX"):
        responses[status] = {**_PROBLEM, "headers": _RETRY_AFTER}
    if _IF_NONE_MATCH in parameters:
        responses["304"] = _NOT_MODIFIED
