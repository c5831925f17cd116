"""OPA's own conformance cases, as far as the portable dialect reaches, on the embedded engine.

They lie in OPA's module, which `make tools` leaves in Go's module cache; `ASSAY_OPA_CASES` names another folder.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regorus

from app.adapters.opa_tools import OPA, format_version
from app.adapters.rego_dialect import list_in_trees

CASES = Path("v1", "test", "cases", "testdata", "v1")
COMPILED_ERRORS = "rego_"
"""Errors with such a code are the compiler's: `opa check` finds them, and is no part of an engine."""
WANTED = {"want_result", "want_error", "want_error_code"}


@dataclass(slots=True)
class Report:
    """What became of the cases: how many passed, how many are outside the dialect, and which did not pass."""

    passed: int = 0
    outside: int = 0
    failed: dict[str, str] = field(default_factory=dict)


@functools.cache
def find_cases() -> Path | None:
    """Return the folder of the cases, or None."""
    if named := os.environ.get("ASSAY_OPA_CASES"):
        return Path(named)
    if not shutil.which("go"):
        return None
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    folder = Path(cache, f"{OPA.module}@v{format_version(OPA.version)}") / CASES
    return folder if folder.is_dir() else None


def iter_cases(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every case below `folder`."""
    for path in sorted(folder.rglob("*.yaml")):
        engine = regorus.Engine()
        engine.set_input(path.read_text())
        found = json.loads(engine.eval_query_as_json("yaml.unmarshal(input)"))
        yield from found["result"][0]["expressions"][0]["value"]["cases"]


def run_category(folder: Path) -> Report:
    """Run the cases below `folder`."""
    report = Report()
    for case in iter_cases(folder):
        if not is_inside(case):
            report.outside += 1
        elif problem := find_problem(case):
            report.failed[case["note"]] = problem
        else:
            report.passed += 1
    return report


def is_inside(case: dict[str, Any]) -> bool:
    """Say whether the case is about an engine, and written in the dialect."""
    about_compiler = str(case.get("want_error_code", "")).startswith(COMPILED_ERRORS)
    if about_compiler or "input_term" in case or not WANTED & case.keys():
        return False
    modules = [*(case.get("modules") or []), f"package query\n\nanswer if {{ {case['query']} }}\n"]
    trees = {str(number): parse(text) for number, text in enumerate(modules)}
    if None in trees.values():
        return False
    return not list_in_trees(trees)


def parse(text: str) -> Any:
    """Return the syntax tree of a module; None if regorus cannot read it."""
    engine = regorus.Engine()
    try:
        engine.add_policy("module.rego", text)
    except Exception:  # noqa: BLE001 -- what the binding raises
        return None
    return json.loads(engine.get_ast_as_json())[0]["ast"]


def find_problem(case: dict[str, Any]) -> str | None:
    """Return how the engine's answer is not the one that OPA's case wants, or None."""
    try:
        got = [result["bindings"] for result in ask(case).get("result", [])]
    except Exception as error:  # noqa: BLE001 -- what the binding raises
        return None if "want_result" not in case else str(error).strip().rpartition("error: ")[2].splitlines()[0]
    if "want_result" not in case:
        return f"no error, but {got}"
    wanted = case["want_result"] or []
    if case.get("sort_bindings"):
        got, wanted = _sort_values(got), _sort_values(wanted)
    return None if _order(got) == _order(wanted) else f"got {got} for {wanted}"[:300]


def ask(case: dict[str, Any]) -> Any:
    """Return what the embedded engine says to the case's query."""
    engine = regorus.Engine()
    engine.set_gather_prints(True)
    for number, text in enumerate(case.get("modules") or []):
        engine.add_policy(f"module_{number}.rego", text)
    if case.get("data"):
        engine.add_data_json(json.dumps(case["data"]))
    if "input" in case:
        engine.set_input_json(json.dumps(case["input"]))
    return json.loads(engine.eval_query_as_json(case["query"]))


def _sort_values(bindings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: sorted(value, key=json.dumps) if isinstance(value, list) else value for key, value in each.items()}
        for each in bindings
    ]


def _order(bindings: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in bindings)
