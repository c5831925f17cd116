"""For operators: is it alive, is it ready, what does it measure."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.web.models import ActionsOut, AliveOut, ReadyOut
from app.wiring import Services

READINESS_KEPT_S = 1.0
"""Anybody may ask for readiness, which reads the database: it is looked at once in this time."""
_TAG = Tag(name="service", description="Health and metrics.")


class LogCollector(Collector):
    """How the logs stand together, read from the database: the same whichever web process is asked.

    Sums only: who may read metrics need not know the tenants. `assay ledger status` tells them apart.
    """

    def __init__(self, services: Services) -> None:
        """Read nothing before `collect`."""
        self._services = services

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the logs' number and sizes, the age of the oldest waiting entry, and what reverification found."""
        states = self._services.log_states()
        published = sum(state.published_size for state in states)
        waiting_s = max((state.waiting_s for state in states), default=0)
        yield GaugeMetricFamily("assay_logs", "Logs of this installation.", len(states))
        yield GaugeMetricFamily("assay_entries", "Entries that have an index.", sum(state.size for state in states))
        yield GaugeMetricFamily("assay_published_entries", "Entries under a checkpoint.", published)
        yield GaugeMetricFamily(
            "assay_oldest_waiting_seconds", "Age of the oldest entry that waits for an index.", waiting_s
        )
        yield from self._collect_reverified()

    def _collect_reverified(self) -> Iterator[GaugeMetricFamily]:
        """Yield what the entries `policy.reverified` say, whichever process wrote them."""
        newest = self._services.reverified().values()
        found = [entry for entry in newest if entry is not None]
        problems = sum(entry.data["different"] + entry.data.get("alarming", 0) for entry in found)
        yield GaugeMetricFamily(
            "assay_policy_never_reverified",
            "Open logs of which no decision was run again yet.",
            len(newest) - len(found),
        )
        yield GaugeMetricFamily(
            "assay_policy_reverify_problems",
            "Decisions that came out differently, or could not be run again, in the newest sample of each open log.",
            problems,
        )
        if found:
            yield GaugeMetricFamily(
                "assay_policy_reverified_timestamp_seconds",
                "When the open log that was reverified longest ago was, in Unix time.",
                min(entry.time_ms for entry in found) / 1000,
            )


class Readiness:
    """The answer to /readyz, kept for a moment."""

    def __init__(self, services: Services) -> None:
        """Look at nothing yet."""
        self._services = services
        self._lock = threading.Lock()
        self._looked_at_s = -READINESS_KEPT_S
        self._checks: Mapping[str, str | None] = {}

    def read(self) -> Mapping[str, str | None]:
        """Return each check with its problem, or None."""
        with self._lock:
            if time.monotonic() - self._looked_at_s >= READINESS_KEPT_S:
                self._checks = self._services.readiness()
                self._looked_at_s = time.monotonic()
            return self._checks


def create_blueprint(services: Services) -> APIBlueprint:
    """Return the operators' endpoints."""
    api = APIBlueprint("operator", __name__, abp_tags=[_TAG])
    readiness = Readiness(services)
    registry = CollectorRegistry()
    registry.register(LogCollector(services))

    @api.get("/livez", responses={"200": AliveOut})
    def livez() -> Response:
        """Answer 200 while the process runs; looks at nothing else."""
        return _json({"status": "alive"}, HTTPStatus.OK)

    @api.get("/readyz", responses={"200": ReadyOut, "503": ReadyOut})
    def readyz() -> Response:
        """Answer 200 when requests can be served and published, else 503 with what is wrong."""
        checks = readiness.read()
        ready = all(problem is None for problem in checks.values())
        body = {"status": "ready" if ready else "not ready", "checks": _summarise(checks)}
        return _json(body, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    @api.get("/metrics", responses={"200": {}})
    def metrics() -> Response:
        """Return metrics in Prometheus text format."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    @api.get("/v1/actions", responses={"200": ActionsOut})
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


def _summarise(checks: Mapping[str, str | None]) -> dict[str, str]:
    """Return the checks for anybody's eyes: of the logs only how many are unwell, never whose."""
    logs = [problem for name, problem in checks.items() if name.startswith("log:")]
    unwell = sum(problem is not None for problem in logs)
    state = f"{unwell} of {len(logs)} are not published; `assay ledger status` says which, and why" if unwell else "ok"
    parts = {name: checks.get(name) or "ok" for name in ("database", "policy")}
    return {**parts, "logs": state}


def _json(body: dict[str, Any], status: HTTPStatus) -> Response:
    return Response(orjson.dumps(body), status, mimetype="application/json")
