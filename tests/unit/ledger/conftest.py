"""What the tests of waiting share: a world, callers that may each be held up, and patience."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.ledger import World
from tests.parts.assay import wait_until

PATIENCE_S = 20.0


def until(holds: Callable[[], object], limit_s: float = PATIENCE_S, *, what: str = "it") -> None:
    """Look every millisecond until `holds()`; fail after `limit_s`."""
    wait_until(holds, limit_s, what=what, poll_s=0.001)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def callers():
    with ThreadPoolExecutor(70) as pool:
        yield pool
