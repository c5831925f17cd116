"""Calls `assay` inside the test's process: what it prints, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from app.cli.main import main


@dataclass(frozen=True, slots=True)
class Called:
    """What a command did."""

    code: int
    out: str
    err: str


Call = Callable[..., Called]


def make_call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs `assay` with these arguments."""

    def call(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        code = left.value.code
        return Called(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return call
