"""The real web application over a real installation on SQLite, in this process, with a sequencer in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from flask_openapi3.openapi import OpenAPI
from werkzeug.test import TestResponse

from app.adapters.sql.migrate import upgrade
from app.cli.token import issue_token
from app.credentials.ports import Scope
from app.ledger.sequence import SequencerLoop
from app.settings import Settings
from app.web.app import create_app
from app.wiring import Installation, Services, add_tenant, build_services, initialise

TENANT = "acme"
OTHER = "other"
WAIT = {"Prefer": "wait=20"}
PAYMENT = {
    "amount_minor": 1499,
    "currency": "EUR",
    "country": "DE",
    "payment_method": {"stripe": "pm_card_visa"},
    "payer": {"name": "Ada Example", "email": "ada@example.com", "country": "DE"},
}
APPROVAL = {"action": "approval.given", "data": {"what": "a limit", "verdict": "approved"}}


@dataclass(slots=True, kw_only=True)
class WebPart:
    """An application, its services, and a token with every scope for each tenant."""

    installation: Installation
    services: Services
    app: OpenAPI
    tokens: dict[str, str]
    vkeys: dict[str, str]
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.app.test_client()

    @property
    def token(self) -> str:
        return self.tokens[TENANT]

    @property
    def database(self) -> Path:
        return self.installation.settings.state_dir / "assay.db"

    def issue(self, *scopes: Scope, tenant: str = TENANT, lifetime_s: int = 3600) -> tuple[str, str]:
        """Return a new token and its id."""
        issued = issue_token(self.installation, tenant, list(scopes) or list(Scope), lifetime_s=lifetime_s)
        return issued.token, issued.stored.id

    def call(
        self, method: str, path: str, *, token: str | None = "", headers: dict[str, str] | None = None, **options: Any
    ) -> TestResponse:
        """Send one request; `token` is the first tenant's if empty, none if None."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token}"
        return self.app.test_client().open(path, method=method, headers=sent, buffered=True, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self.call("POST", path, **options)

    def append(self, body: Any = None, *, key: str | None = None, **options: Any) -> TestResponse:
        """Append one entry and wait for its receipt, as JSON."""
        headers = {**WAIT, "Accept": "application/json", **({"Idempotency-Key": key} if key else {})}
        headers |= options.pop("headers", {})
        return self.post("/v1/entries", json=APPROVAL if body is None else body, headers=headers, **options)

    def list_entries(self, query: str = "", **options: Any) -> list[dict[str, Any]]:
        """Walk all pages."""
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self.get(f"/v1/entries?after={after}&limit=500{query}", **options).get_json()
            found += page["entries"]
            after = page["next"]
        return found


@contextmanager
def open_web(
    folder: Path, *, tenants: Sequence[str] = (TENANT, OTHER), published: bool = True, **settings: Any
) -> Iterator[WebPart]:
    """Make an installation in `folder`, or go on with the one there, and serve it while the block runs."""
    installation = Installation(Settings(state_dir=folder, **settings))
    upgrade(installation.settings.database)
    initialise(installation.settings)
    with closing(installation.store):
        vkeys = {tenant: add_tenant(installation, tenant)[1] for tenant in tenants}
        tokens = {tenant: issue_token(installation, tenant, list(Scope)).token for tenant in tenants}
        services = build_services(installation)
        part = WebPart(
            installation=installation, services=services, app=create_app(services), tokens=tokens, vkeys=vkeys
        )
        with publishing(installation) if published else nullcontext():
            yield part
            services.group.close()
            services.watch.close()


@contextmanager
def publishing(installation: Installation) -> Iterator[None]:
    """Run the sequencer in a thread while the block runs."""
    stop = threading.Event()
    loop = SequencerLoop(store=installation.store, open_sequencer=installation.sequencer)
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
