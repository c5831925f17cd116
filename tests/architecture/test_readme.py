"""The README's set-up and test commands are the ones that CI runs.

The README marks a fenced `sh` block that CI runs with `<!-- run by .ci/run -->` on the line before the fence.
.ci/run holds the same commands, in the same order, as its lines that begin with `step `.
"""

from __future__ import annotations

import re

from tests.architecture.sources import ROOT

MARKED_BLOCK = re.compile(r"^<!-- run by \.ci/run -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAKE_TARGET = re.compile(r"\bmake ([a-z]+)\b")
CI_ONLY = "make check"


def _list_readme_commands() -> list[str]:
    blocks = MARKED_BLOCK.findall((ROOT / "README.md").read_text())
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _list_ci_commands() -> list[str]:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    return [line.removeprefix("step ") for line in lines if line.startswith("step ")]


def test_ci_runs_the_readmes_commands_and_the_quick_checks() -> None:
    commands = _list_readme_commands()
    assert commands, "mark the README's set-up and test block with <!-- run by .ci/run -->"
    assert [command for command in _list_ci_commands() if command != CI_ONLY or command in commands] == commands
    assert CI_ONLY in _list_ci_commands()


def test_every_make_command_of_the_readme_exists_and_is_in_make_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    fenced = "\n".join(re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL))
    helped = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    assert set(MAKE_TARGET.findall(fenced)) <= helped


def test_make_help_lists_every_command() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
