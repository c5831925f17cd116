"""Help is examples first, quick, and loads nothing that it does not need."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import pytest
from typer.core import TyperGroup

from app.cli.main import TARGETS, load_command
from tests.unit.cli.cli_calls import Call

HELP_LIMIT_S = 0.4
HEAVY = {"flask", "sqlalchemy", "granian", "pydantic", "regorus", "stripe"}
SAY_LOADED = """
import sys
sys.argv = ["assay", *sys.argv[1:]]
from app.cli.main import main
try:
    main()
except SystemExit:
    print("LOADED", *sorted(sys.modules))
"""


def _list_commands() -> list[tuple[str, ...]]:
    """Return every command that does something, as the words that call it."""
    found: list[tuple[str, ...]] = []
    for name in TARGETS:
        command: Any = load_command(name)
        below = [sub for sub, each in getattr(command, "commands", {}).items() if not each.hidden]
        found += [(name, sub) for sub in below] if isinstance(command, TyperGroup) else [(name,)]
    return found


@pytest.mark.parametrize("words", _list_commands(), ids=" ".join)
def test_every_commands_help_begins_with_examples_to_copy(call: Call, words: tuple[str, ...]) -> None:
    helped = call(*words, "--help")
    assert helped.code == 0
    assert "Examples:" in helped.out
    examples = helped.out.split("Examples:")[1].split("Options:")[0]
    assert f"assay {words[0]}" in examples
    assert helped.out.index("Examples:") < helped.out.index("Options:")


def test_the_list_of_commands_names_every_one_with_a_summary(call: Call) -> None:
    helped = call("--help")
    for name in TARGETS:
        assert f"\n  {name} " in helped.out


def test_a_mistyped_command_is_a_usage_error(call: Call) -> None:
    assert call("verfiy").code == 2
    assert call("token", "issue").code == 2
    assert call("import", "no-such-file.jsonl", "--tenant", "demo").code == 2


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (("--help",), HEAVY | {"rich"}),
        (("verify", "--help"), {"flask", "sqlalchemy", "granian"}),
        (("sandbox", "--help"), {"flask", "sqlalchemy", "granian", "regorus"}),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: tuple[str, ...], forbidden: set[str]) -> None:
    said = subprocess.run([sys.executable, "-c", SAY_LOADED, *arguments], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in said.stdout.partition("LOADED ")[2].split()}
    assert loaded & forbidden == set()


def test_help_takes_less_than_four_tenths_of_a_second_of_cpu() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "app.cli.main", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < HELP_LIMIT_S
