"""The Flask application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_openapi3.models import Info, SecurityScheme
from flask_openapi3.openapi import OpenAPI
from pydantic import ValidationError

from app.web import auditor, author, batch, merchant, operator, payments, playground, problems
from app.web.auth import Gate
from app.web.document import complete
from app.web.edge import Edge
from app.web.errors_page import format_errors_page
from app.web.models import Problem
from app.web.wire import Answer, StrictRequest
from app.wiring import Services

SECURITY_SCHEMES: dict[str, SecurityScheme | dict[str, Any]] = {"token": {"type": "http", "scheme": "bearer"}}


class Assay(OpenAPI):
    """The application; all its functions are plain, so none needs looking at for a coroutine."""

    request_class = StrictRequest
    response_class = Answer

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is."""
        return func

    def generate_spec_json(self) -> None:
        """Make the document, and complete it."""
        super().generate_spec_json()  # type: ignore[no-untyped-call]  # the framework's own lacks a return type
        complete(self.spec_json)


def create_app(services: Services) -> OpenAPI:
    """Return the WSGI application over these services."""
    app = Assay(
        "assay",
        info=Info(title="Assay", version="1", description="A ledger that outsiders verify."),
        security_schemes=SECURITY_SCHEMES,
        doc_prefix="/docs",
        doc_url="/openapi.json",
        validation_error_callback=_validation_problem,
        validation_error_model=Problem,
    )
    app.config["SWAGGER_CONFIG"] = {"validatorUrl": None}  # the page asks nobody but us
    problems.register(app)
    Gate(app, services.authenticate, services.authorize, services.settings)
    for blueprint in (
        merchant.create_blueprint(services),
        batch.create_blueprint(services),
        payments.create_blueprint(services),
        auditor.create_blueprint(services),
        playground.create_blueprint(services),
        operator.create_blueprint(services),
        author.create_blueprint(services.policies),
    ):
        app.register_api(blueprint)
    app.add_url_rule("/openapi.json", "openapi_document", lambda: app.api_doc)
    errors_page = format_errors_page(services.errors_page)
    app.add_url_rule("/docs/errors", "errors_page", lambda: errors_page)
    app.extensions["assay"] = services
    app.wsgi_app = Edge(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented place for middleware
    return app


def _validation_problem(error: ValidationError) -> Any:
    return problems.from_validation(error)
