"""For operators: is it alive, is it ready, what does it measure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.wiring import Services

_TAG = Tag(name="service", description="Health and metrics.")


def create_blueprint(services: Services) -> APIBlueprint:
    """Return the operators' endpoints."""
    api = APIBlueprint("operator", __name__, abp_tags=[_TAG])

    @api.get("/livez")
    def livez() -> Response:
        """Answer 200 while the process runs; looks at nothing else."""
        return _json({"status": "alive"}, HTTPStatus.OK)

    @api.get("/readyz")
    def readyz() -> Response:
        """Answer 200 when requests can be served and published, else 503 with what is wrong."""
        checks = services.readiness()
        ready = all(problem is None for problem in checks.values())
        body = {"status": "ready" if ready else "not ready", "checks": {n: p or "ok" for n, p in checks.items()}}
        return _json(body, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    @api.get("/metrics")
    def metrics() -> Response:
        """Return metrics in Prometheus text format."""
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    @api.get("/v1/actions")
    def list_actions() -> Response:
        """List every action that can be logged, with the schema of its data."""
        actions = [
            {
                "name": action.name,
                "title": action.title,
                "external": action.external,
                "schema": action.schema,
                "personal": sorted(action.personal),
            }
            for action in services.registry
        ]
        return _json({"actions": actions}, HTTPStatus.OK)

    return api


def _json(body: dict[str, Any], status: HTTPStatus) -> Response:
    return Response(orjson.dumps(body), status, mimetype="application/json")
