"""The only place where adapters meet ports. Everything is built here, from one `Settings`."""

from app.wiring.installation import (
    BUNDLE_KEYS,
    CLOCK,
    JOURNAL_FILE,
    PAYMENT_SECRET,
    TOKEN_SECRET,
    Installation,
    LogState,
    find_shipped,
    new_entry_id,
    now_ms,
)
from app.wiring.services import Services, build_services
from app.wiring.setup import add_tenant, initialise

__all__ = [
    "BUNDLE_KEYS",
    "CLOCK",
    "JOURNAL_FILE",
    "PAYMENT_SECRET",
    "TOKEN_SECRET",
    "Installation",
    "LogState",
    "Services",
    "add_tenant",
    "build_services",
    "find_shipped",
    "initialise",
    "new_entry_id",
    "now_ms",
]
