"""What an error of ours becomes: one line, a way out, an exit code."""

from __future__ import annotations

import pytest

from app.cli.output import explain_error
from app.errors import AssayError, Broken, Conflict, NotFound, Refused, Rejected, TooLarge, Unavailable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("no"), 1),
        (Conflict("no"), 1),
        (TooLarge("no"), 1),
        (Refused("no"), 1),
        (NotFound("no"), 1),
        (Unavailable("no"), 3),
        (Broken("no"), 1),
    ],
)
def test_the_exit_code_says_what_the_caller_should_do(
    error: AssayError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain_error(error) == code
    said = capsys.readouterr()
    assert said.err.startswith("error: no\n")
    assert said.out == ""


def test_a_broken_invariant_asks_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    explain_error(Broken("the tree is wrong", code="tiles_damaged"))
    said = capsys.readouterr().err
    assert "tiles_damaged" in said
    assert "a person must look" in said
