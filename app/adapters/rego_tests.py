"""Runs a bundle's own tests (`test_…` in `*_test.rego`) on the embedded engine, in a process of its own.

A policy may hang, explode or overflow the stack, and the engine offers no way to stop it: so the tests run in a child
that gives itself bounds of memory and CPU, and that the parent ends after `TIME_LIMIT_S`. The child is this module,
run with the archive of bundle and tests on stdin; it prints JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import regorus

from app.ledger.canonical import canonical
from app.policy.archive import format_archive, parse_archive
from app.policy.bundle import Bundle
from app.policy.ports import CheckResult

TIME_LIMIT_S: Final = 60
"""Of all tests together, on the wall clock; CPU time has the same bound."""
MEMORY_LIMIT_BYTES: Final = 2 * 1024**3
"""Of address space; a policy's engine needs a few MB."""
MAX_FAILURES: Final = 20
"""Failures that are told one by one."""
_ROOT: Final = Path(__file__).parents[2]
_CHILD: Final = [sys.executable, "-c", f"from {__name__} import main; main()"]


def run_tests(bundle: Bundle, tests: Mapping[str, bytes]) -> CheckResult:
    """Return which tests failed, and how many ran. A bundle without a test has a problem too."""
    archive = format_archive(bundle, tests=tests, signature=None)
    try:
        done = subprocess.run(  # noqa: S603 -- our own interpreter and module
            _CHILD, input=archive, capture_output=True, timeout=TIME_LIMIT_S, check=False, env={}, cwd=_ROOT
        )
    except subprocess.TimeoutExpired:
        return CheckResult(problems=(f"the tests took longer than {TIME_LIMIT_S} s",), tests=0)
    try:
        said = json.loads(done.stdout)
        return CheckResult(problems=tuple(said["problems"]), tests=said["tests"])
    except (ValueError, KeyError, TypeError):
        return CheckResult(problems=("the tests ended the process: too deep, too large or too long",), tests=0)


def list_tests(modules: Mapping[str, str]) -> list[str]:
    """Return `package.rule` of every rule named `test_…`, in order."""
    engine = regorus.Engine()
    for path, text in modules.items():
        engine.add_policy(path, text)
    trees = [each["ast"] for each in json.loads(engine.get_ast_as_json())]
    return sorted({f"{_name(tree['package']['refr'])}.{name}" for tree in trees for name in _list_rules(tree)})


def main() -> None:
    """Be the child."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT_S, TIME_LIMIT_S))
    unpacked = parse_archive(sys.stdin.buffer.read())
    modules = {**unpacked.bundle.modules, **{path: content.decode() for path, content in unpacked.tests.items()}}
    data = canonical({"data": dict(unpacked.bundle.data)}).decode()
    json.dump(_run(modules, data), sys.stdout)


def _run(modules: Mapping[str, str], data: str) -> dict[str, Any]:
    try:
        names = list_tests(modules)
        engine = _build(modules, data)
    except Exception as error:  # noqa: BLE001 -- the binding raises what it likes; its words name a place in the policy
        return {"problems": [f"it does not compile: {_shorten(error)}"], "tests": 0}
    if not names:
        return {"problems": ["it has no tests"], "tests": 0}
    failures = []
    for name in names:
        try:
            if json.loads(engine.eval_rule_as_json(f"data.{name}")) is not True:
                failures.append(f"{name} is not true")
        except BaseException as error:  # noqa: BLE001 -- a panic of the binding is no Exception
            failures.append(f"{name}: {_shorten(error)}")
            engine = _build(modules, data)
    if len(failures) > MAX_FAILURES:
        failures[MAX_FAILURES:] = [f"{len(failures) - MAX_FAILURES} more tests fail"]
    return {"problems": failures, "tests": len(names)}


def _build(modules: Mapping[str, str], data: str) -> regorus.Engine:
    engine = regorus.Engine()
    engine.set_gather_prints(True)
    for path, text in modules.items():
        engine.add_policy(path, text)
    engine.add_data_json(data)
    return engine


def _list_rules(tree: dict[str, Any]) -> Iterator[str]:
    for rule in tree["rules"]:
        for head in rule.get("Spec", {}).get("head", {}).values():
            name = _name(head["refr"])
            if name.startswith("test_"):
                yield name


def _name(refr: dict[str, Any]) -> str:
    """Return the dotted name of a reference."""
    if "Var" in refr:
        return str(refr["Var"]["value"])
    if "RefDot" in refr:
        return f"{_name(refr['RefDot']['refr'])}.{refr['RefDot']['field'][1]}"
    return "?"


def _shorten(error: BaseException) -> str:
    """Return the first line of the binding's words that says something."""
    lines = [line.strip(" |-^>") for line in str(error).splitlines() if line.strip(" |-^>")]
    return (lines[-1] if lines else type(error).__name__)[:200]
