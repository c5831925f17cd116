"""Rules evaluated one by one with coverage, for authors: tests, the playground, explanations. Never for a decision.

Each run has a process of its own, which this file is too: policies come from whoever may write them, and the binding
can neither be stopped nor bounded from within. Its memory and processor time are bounded by the kernel, and it ends
with the first question. It reads and prints JSON; what Rust prints about a panic goes nowhere, because it may hold
the input.

    stdin   {modules, data, input, rules, besides}
    stdout  {values, errors, covered, not_covered} | {problem}: it does not compile
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import regorus

CPU_LIMIT_S: Final = 5.0
"""Processor time of one run."""
WALL_LIMIT_S: Final = 20.0
MEMORY_LIMIT_BYTES: Final = 512 * 1024**2
"""Of address space; a policy's engine needs a few MB."""
MAX_OUTPUT_BYTES: Final = 8 * 1024**2
_PASSED_ON: Final = ("LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH")
_UNDEFINED: Final = "<undefined>"
_LOCATION: Final = re.compile(r"--> ([a-z0-9_./]+:\d+:\d+)", re.ASCII)
_MAX_WORDS: Final = 200


class TraceFailedError(Exception):
    """The run gave nothing: `failure` is `timeout`, `memory` or `panic`."""

    def __init__(self, message: str, *, failure: str) -> None:
        """`failure`: one word."""
        super().__init__(message)
        self.failure = failure


class DoesNotCompileError(Exception):
    """The modules are no Rego; the words say where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRun:
    """What the rules came to. `values` by query, None where undefined; `errors` by query, a place and words.

    `covered` and `not_covered` are line numbers by module, of the rules in question and not of those besides.
    """

    values: Mapping[str, Any] = field(repr=False)
    errors: Mapping[str, str]
    covered: Mapping[str, Sequence[int]]
    not_covered: Mapping[str, Sequence[int]]


def run_rules(
    modules: Mapping[str, str],
    data: Mapping[str, Any],
    rules: Sequence[str],
    *,
    document: Any = None,
    besides: Sequence[str] = (),
    cpu_limit_s: float = CPU_LIMIT_S,
    wall_limit_s: float = WALL_LIMIT_S,
) -> RuleRun:
    """Return the values of `rules` (`data.package.rule`) for the input `document`, and which lines that took.

    `data` is mounted at `data.data`. `besides` are evaluated afterwards, and cover nothing.
    Raises DoesNotCompileError, and TraceFailedError if the process had to be ended.
    """
    question = {
        "modules": dict(modules),
        "data": {"data": dict(data)},
        "input": document,
        "rules": list(rules),
        "besides": list(besides),
    }
    try:
        done = subprocess.run(  # noqa: S603 -- our own file
            [sys.executable, "-P", __file__, str(cpu_limit_s), str(MEMORY_LIMIT_BYTES)],
            input=json.dumps(question).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=wall_limit_s,
            check=False,
            cwd="/",
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        )
    except subprocess.TimeoutExpired:
        raise TraceFailedError(f"took longer than {wall_limit_s:g} s", failure="timeout") from None
    if done.returncode == -signal.SIGPROF:
        raise TraceFailedError(f"took more than {cpu_limit_s:g} s of processor time", failure="timeout")
    if done.returncode != 0 or len(done.stdout) > MAX_OUTPUT_BYTES:
        failure = "memory" if done.returncode in {-signal.SIGABRT, 1} else "panic"
        raise TraceFailedError("too deep or too large: it ended its process", failure=failure)
    answer = json.loads(done.stdout)
    if "problem" in answer:
        raise DoesNotCompileError(answer["problem"])
    return RuleRun(**answer)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    """Be the child: evaluate what is asked."""
    try:
        _build(question).eval_query_as_json("true")  # the analysis of all modules
    except Exception as error:  # noqa: BLE001 - the binding raises what it likes
        return {"problem": _shorten(error)}
    child = _Child(question)
    for rule in question["rules"]:
        child.evaluate(rule)
        child.gather_lines()
    for rule in question["besides"]:
        if rule not in child.values and rule not in child.errors:
            child.evaluate(rule)
    return {
        "values": child.values,
        "errors": {rule: child.errors[rule] for rule in question["rules"] if rule in child.errors},
        "covered": {path: sorted(found) for path, found in child.covered.items()},
        "not_covered": {path: sorted(found - child.covered[path]) for path, found in child.missed.items()},
    }


class _Child:
    """An engine, and what came of the rules so far."""

    def __init__(self, question: dict[str, Any]) -> None:
        self._question = question
        self._engine = _build(question)
        self.values: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.covered: dict[str, set[int]] = {}
        self.missed: dict[str, set[int]] = {}

    def evaluate(self, rule: str) -> None:
        """Evaluate one rule; an engine that breaks is replaced, a process without memory ends."""
        try:
            value = json.loads(self._engine.eval_rule_as_json(rule))
            self.values[rule] = None if value == _UNDEFINED else value
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the binding is no Exception
            self.errors[rule] = _shorten(error)
            self._engine = _build(self._question)

    def gather_lines(self) -> None:
        """Add the lines that the engine has covered until now."""
        for each in json.loads(self._engine.get_coverage_report_as_json())["files"]:
            self.covered.setdefault(each["path"], set()).update(each["covered"])
            self.missed.setdefault(each["path"], set()).update(each["not_covered"])


def _build(question: dict[str, Any]) -> regorus.Engine:
    import regorus  # noqa: PLC0415 -- only in the child, once memory is bounded

    engine = regorus.Engine()
    engine.set_gather_prints(True)
    engine.set_enable_coverage(True)
    for path, text in question["modules"].items():
        engine.add_policy(path, text)
    engine.add_data_json(json.dumps(question["data"]))
    engine.set_input_json(json.dumps(question["input"]))
    return engine


def _shorten(error: BaseException) -> str:
    """Return the place and the last line of the binding's words."""
    text = str(error)
    place = _LOCATION.search(text)
    said = [line.strip(" |-^>") for line in text.splitlines() if line.strip(" |-^>")]
    words = said[-1].removeprefix("error: ") if said else type(error).__name__
    return f"{place[1]}: {words}"[:_MAX_WORDS] if place else words[:_MAX_WORDS]


def _main(cpu_limit_s: str, memory_limit_bytes: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_limit_bytes), int(memory_limit_bytes)))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, float(cpu_limit_s))
    json.dump(_answer(json.load(sys.stdin.buffer)), sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
