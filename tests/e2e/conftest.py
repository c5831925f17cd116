"""An installation served in this process, its payments charged over sockets at a sandbox PSP, its time told by us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.test import TestResponse

from app.adapters.connectors.sandbox import StripeSandbox
from app.payments.intent import Intent
from app.payments.reconcile import reconcile
from app.wiring import installation
from tests.fakes.payment_parts import Watch
from tests.parts.web import TENANT, WAIT, WebPart, open_web

PAYER = {"name": "Ada Example", "email": "ada@example.com", "country": "DE"}
READ_TIMEOUT_S = 0.3


def make_payment(method: str = "pm_card_visa", **changes: Any) -> dict[str, Any]:
    payment = {
        "amount_minor": 1499,
        "currency": "EUR",
        "country": "DE",
        "payment_method": {"stripe": method},
        "payer": PAYER,
    }
    whole = payment | changes
    return {name: value for name, value in whole.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A merchant, the service, the PSP, and the clock of payments."""

    web: WebPart
    sandbox: StripeSandbox
    watch: Watch

    def pay(self, key: str, body: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        headers = {"Idempotency-Key": key, **WAIT, **options.pop("headers", {})}
        return self.web.post("/v1/payments", json=body or make_payment(), headers=headers, **options)

    def read(self, payment_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.web.get(f"/v1/payments/{payment_id}").get_json()
        return found

    def list_charges(self) -> list[tuple[str, int, str]]:
        """Return payment, amount and currency of each live charge of this shop's, as the PSP's own list says."""
        charges = requests.get(f"{self.sandbox.url}/_sandbox/charges", timeout=5).json()
        return [
            (payment, charge["amount"], charge["currency"])
            for payment in self._list_payments()
            for charge in charges.get(payment, ())
        ]

    def list_states(self) -> list[str]:
        with self.web.installation.engine.connect() as connection:
            return [row.state for row in connection.exec_driver_sql("SELECT state FROM payment_intent")]

    def _list_payments(self) -> list[str]:
        with self.web.installation.engine.connect() as connection:
            return [row.id for row in connection.exec_driver_sql("SELECT id FROM payment_intent ORDER BY id")]

    def break_sends(self, fault: str, times: int) -> None:
        """Let the PSP break the next `times` requests to pay."""
        order = {"fault": fault, "times": times, "method": "POST"}
        assert requests.post(f"{self.sandbox.url}/_sandbox/faults", json=order, timeout=5).status_code == 200

    def reconcile(self) -> list[Intent]:
        """Do what one round of `assay payments reconcile` does."""
        installation = self.web.installation
        return reconcile(
            store=installation.payment_store(),
            connectors=installation.connectors(),
            clock=self.watch.clock(),
            actor="operator:reconcile",
            tenant=TENANT,
        )

    def list_entries(self, payment_id: str) -> list[dict[str, Any]]:
        """Return a payment's entries, once all of them are published."""
        self.web.append()
        return self.web.list_entries(f"&ref={payment_id}")

    def list_actions(self, payment_id: str) -> list[str]:
        return [entry["entry"]["action"] for entry in self.list_entries(payment_id)]


@contextmanager
def open_shop(folder: Path, sandbox: StripeSandbox) -> Iterator[Shop]:
    """Serve the installation in `folder`, new or not, with a clock that stands still."""
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installation, "CLOCK", watch.clock())
        with open_web(folder, stripe_api_base=sandbox.url, psp_read_timeout_s=READ_TIMEOUT_S) as web:
            yield Shop(web=web, sandbox=sandbox, watch=watch)


@pytest.fixture
def sandbox() -> Iterator[StripeSandbox]:
    with StripeSandbox(hold_s=5) as running:
        yield running


@pytest.fixture
def shop(tmp_path: Path, sandbox: StripeSandbox) -> Iterator[Shop]:
    with open_shop(tmp_path, sandbox) as opened:
        yield opened


@pytest.fixture(scope="module")
def open_all_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One shop for all tests that leave nothing broken behind."""
    with StripeSandbox() as sandbox, open_shop(tmp_path_factory.mktemp("shop"), sandbox) as opened:
        yield opened
