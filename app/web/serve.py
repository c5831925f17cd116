"""The target that the web server loads, once in each worker process."""

from __future__ import annotations

from flask import Flask

from app.adapters.collector import spare_collector
from app.adapters.processor import PLACE
from app.settings import read_settings
from app.web.app import create_app
from app.web.server import answer_later_under_granian
from app.wiring import Installation, build_services

__all__ = ["answer_later_under_granian", "create_wsgi"]


def create_wsgi(workers: int = 1) -> Flask:
    """Return the web application over the installation that the environment names, in one of so many processes."""
    settings = read_settings()
    if settings.bind_workers:
        PLACE.take(workers)
    app = create_app(build_services(Installation(settings)))
    spare_collector()
    return app
