"""The Flask application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from flask_openapi3.models import Info, SecurityScheme
from flask_openapi3.openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.routing import MapAdapter

from app.web import auditor, author, batch, merchant, operator, payments, playground, problems
from app.web.auth import Gate
from app.web.document import complete
from app.web.edge import Edge
from app.web.errors_page import format_errors_page
from app.web.models import Problem
from app.web.wire import Answer, StrictRequest
from app.wiring import Services

SECURITY_SCHEMES: dict[str, SecurityScheme | dict[str, Any]] = {"token": {"type": "http", "scheme": "bearer"}}


class _NoSession(SessionInterface):
    """Nobody has a session here: who asks is in the token."""

    _nobodys = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002 -- Flask's signature
        """Return the one that takes nothing."""
        return self._nobodys


class Assay(OpenAPI):
    """The application. What Flask does at each request for things that we do not have costs as much as the rest.

    There are no sessions, no hooks but those before a request, and none of a blueprint; no URL is built of the Host
    header; all functions are plain.
    """

    request_class = StrictRequest
    response_class = Answer
    session_interface = _NoSession()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what matches the request's path."""
        if request is None:
            return None
        environ = request.environ
        return MapAdapter(
            self.url_map,
            server_name=environ.get("HTTP_HOST") or environ["SERVER_NAME"],
            script_name=request.root_path,
            subdomain="",
            url_scheme=request.scheme,
            path_info=environ["PATH_INFO"].encode("latin-1").decode(errors="replace"),
            default_method=request.method,
            query_args=environ.get("QUERY_STRING", ""),
        )

    def preprocess_request(self) -> Any:
        """Run the hooks before a request."""
        for hook in self.before_request_funcs[None]:
            answer = hook()
            if answer is not None:
                return answer
        return None

    def process_response(self, response: Response) -> Response:
        """Return the response as it is."""
        return response

    def do_teardown_request(self, exc: Any = None) -> None:
        """Do nothing."""

    def do_teardown_appcontext(self, exc: Any = None) -> None:
        """Do nothing."""

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
