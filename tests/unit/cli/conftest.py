"""`assay` in this process, on an installation of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cli.cli_calls import Call, make_call


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Return how to call `assay`; its state folder does not exist yet."""
    for name in [name for name in os.environ if name.startswith("ASSAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return make_call(monkeypatch, capsys)
