"""The real tools on the shipped policies: OPA's compiler, formatter, tests and coverage, and Regal with our rules."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.policies.rego_suite import POLICIES, list_tests, shipped
from tests.policies.tools import find_or_report

ROOT = POLICIES.parent
RULES = ROOT / ".regal" / "rules"
COVERAGE_FLOOR = 95.0
"""Of each package, in per cent of its lines."""


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def opa() -> str:
    return find_or_report("opa")


@pytest.fixture(scope="module")
def regal() -> str:
    return find_or_report("regal")


def test_opa_compiles_the_policies_strictly(opa: str) -> None:
    checked = run(opa, "check", "--strict", POLICIES)
    assert checked.returncode == 0, checked.stderr


def test_the_policies_are_written_as_opa_writes_them(opa: str) -> None:
    formatted = run(opa, "fmt", "--list", POLICIES, RULES)
    assert (formatted.returncode, formatted.stdout) == (0, ""), formatted.stdout + formatted.stderr


def test_opa_runs_every_test_and_covers_every_package(opa: str) -> None:
    tested = run(opa, "test", "--format", "json", POLICIES)
    assert tested.returncode == 0, tested.stdout
    assert len(json.loads(tested.stdout)) == len(list_tests(shipped(with_tests=True)))
    covered = json.loads(run(opa, "test", "--coverage", "--format", "json", POLICIES).stdout)["files"]
    found = {Path(path).resolve().relative_to(POLICIES).as_posix(): file for path, file in covered.items()}
    short = {path: found[path]["coverage"] for path in shipped().modules if found[path]["coverage"] < COVERAGE_FLOOR}
    assert short == {}


def test_regal_finds_nothing_in_the_policies(regal: str) -> None:
    linted = run(regal, "lint", "--format", "json", "policies")
    found = json.loads(linted.stdout)
    assert [(v["title"], v["location"]["file"], v["location"]["row"]) for v in found["violations"]] == []
    assert linted.returncode == 0


def test_our_own_rules_pass_their_tests(regal: str) -> None:
    tested = run(regal, "test", "--format", "json", RULES)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    names = {path.name for path in RULES.glob("*.rego") if not path.name.endswith("_test.rego")}
    assert {f"{Path(name).stem}_test.rego" for name in names} <= {path.name for path in RULES.glob("*_test.rego")}


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        ("portable-builtins", "is_number(input.now_ms)", "input.now_ms < time.now_ns()"),
        ("portable-syntax", "86400000", "86400000.5"),
        ("negated-call", "is_number(input.now_ms)", "not is_string(input.now_ms)"),
        ("bound-head", "now_ms := input.now_ms if {", "now_ms contains input.now_ms if {\n\tsome _ in [1]"),
        ("rule-metadata", "# title: The day of a decision\n", ""),
        ("missing-metadata", "# METADATA\n# title: Day of the month\n# custom:\n#   control: CAL-1\n", ""),
    ],
)
def test_regal_finds_what_is_outside_the_dialect(regal: str, tmp_path: Path, rule: str, old: str, new: str) -> None:
    shutil.copytree(ROOT / ".regal", tmp_path / ".regal")
    shutil.copytree(POLICIES, tmp_path / "policies")
    path = tmp_path / "policies" / "calendar" / "calendar.rego"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    linted = run(regal, "lint", "--format", "json", "policies", cwd=tmp_path)
    assert linted.returncode != 0
    assert rule in {violation["title"] for violation in json.loads(linted.stdout)["violations"]}
