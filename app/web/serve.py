"""The target that the web server loads, once in each worker process."""

from __future__ import annotations

from flask import Flask

from app.adapters.collector import spare_collector
from app.settings import read_settings
from app.web.app import create_app
from app.web.server import answer_later_under_granian
from app.wiring import Installation, build_services

__all__ = ["answer_later_under_granian", "create_wsgi"]


def create_wsgi() -> Flask:
    """Return the web application over the installation that the environment names."""
    app = create_app(build_services(Installation(read_settings())))
    spare_collector()
    return app
