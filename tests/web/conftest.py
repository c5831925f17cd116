"""One installation for each module of tests, served in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.web import WebPart, open_web


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebPart]:
    with open_web(tmp_path_factory.mktemp("state")) as part:
        yield part
