"""`assay policy test`, `check`, `coverage`, `lint`, `fmt`: what an author does before anybody else sees a rule.

Tests and coverage run on the embedded engine, in a process with bounds. `opa` and `regal` are used where they are.
"""

from __future__ import annotations

import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import typer

from app.adapters.rego_dialect import list_offences
from app.adapters.rego_trace import DoesNotCompileError, RuleRun, TraceFailedError, run_rules
from app.cli.configuring import open_settings
from app.cli.output import EXIT_NOT_DONE, AsJson, Quiet, complain, describe, print_json, print_line, print_table, tell
from app.cli.tools import read_tool
from app.errors import Malformed, Rejected
from app.ledger.canonical import canonical
from app.policy.annotation import list_rules
from app.policy.bundle import TEST_SUFFIX, Bundle, load_bundle
from app.policy.explain import list_queries
from app.wiring import find_shipped
from app.wiring.policies import list_table_problems

TESTS_LIMIT_S: Final = 120.0
"""Processor time of all tests together, on the embedded engine."""
TOOL_LIMIT_S: Final = 300
TESTED: Final = "tested"
"""The name of a bundle that is only looked at."""
_UNSAFE: Final = ("is unsafe", "undefined function", "could not find function")
"""What regorus says, when a rule is first evaluated, of mistakes that OPA finds when it compiles."""

Folder = Annotated[
    Path | None,
    typer.Argument(help="A folder of policies; those in force for this installation if absent.", exists=True),
]
EngineName = Literal["rego", "opa"]

TEST_HELP: Final = describe(
    "Run the tests beside the policies (`test_…` in `*_test.rego`). Exit 1 if one fails.",
    "assay policy test",
    "assay policy test ./policies --engine opa",
)
CHECK_HELP: Final = describe(
    "Compile the policies and hold them against the dialect. Exit 1 if something is wrong.",
    "assay policy check ./policies",
    more="With `opa` at hand also what `opa check --strict` finds. The dialect is what gives the same answer on every "
    "engine, and years later: no network, no clock, no chance, no fractions.",
)
COVERAGE_HELP: Final = describe(
    "Say how much of each policy its tests reach.",
    "assay policy coverage ./policies",
    "assay policy coverage ./policies --threshold 95   # exit 1 below",
    more="By OPA if it is there. The embedded engine counts a package as reached as a whole when a test imports it.",
)
LINT_HELP: Final = describe(
    "Lint the policies with Regal and the rules of this project. Exit 1 for a violation.",
    "assay policy lint ./policies",
)
FMT_HELP: Final = describe(
    "Say which policies are not formatted (exit 1), or format them.",
    "assay policy fmt ./policies",
    "assay policy fmt ./policies --write",
)


class FileCoverage(NamedTuple):
    """How many lines of a file its tests reached, and which they did not."""

    path: str
    covered: int
    missed: tuple[int, ...]

    @property
    def percent(self) -> int:
        """Whole percent, rounded down; 100 of a file without rules."""
        lines = self.covered + len(self.missed)
        return 100 * self.covered // lines if lines else 100

    @property
    def spans(self) -> str:
        """The lines not reached, as ranges: 3-5, 9."""
        spans: list[list[int]] = []
        for line in self.missed:
            if spans and line == spans[-1][1] + 1:
                spans[-1][1] = line
            else:
                spans.append([line, line])
        return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def run_tests(
    folder: Folder = None,
    engine: Annotated[EngineName, typer.Option("--engine", help="Where to run them.")] = "rego",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the tests."""
    root = find_folder(folder)
    results = run_with_opa(root) if engine == "opa" else run_embedded(load_bundle(root, name=TESTED, with_tests=True))
    failed = {name: problem for name, problem in results.items() if problem is not None}
    if as_json:
        print_json({"engine": engine, "tests": len(results), "failed": failed})
    for name, problem in failed.items() if not as_json else ():
        complain(f"{name}: {problem}")
    if not results:
        raise Malformed(f"{root} has no tests: rules named test_… in files named *{TEST_SUFFIX}", code="tests_missing")
    tell(f"{len(results) - len(failed)} of {len(results)} tests pass", quiet=quiet or as_json)
    if failed:
        raise typer.Exit(EXIT_NOT_DONE)


def run_embedded(bundle: Bundle) -> dict[str, str | None]:
    """Return each test with what is wrong, or None. Raises Malformed if the policies do not compile."""
    run = _run_tests(bundle)
    names = _list_tests(bundle)
    return {name: run.errors.get(name) or (None if run.values.get(name) is True else "is not true") for name in names}


def run_with_opa(root: Path) -> dict[str, str | None]:
    """Return the same from `opa test`."""
    found = _parse(_run_opa(root, "test", "--bundle", "--format=json"), "opa test")
    return {
        f"{each['package']}.{each['name']}": "is not true" if each.get("fail") else each.get("error") and "failed"
        for each in found
    }


def check(folder: Folder = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Compile the policies, and hold them against the dialect."""
    root = find_folder(folder)
    problems = list_problems(load_bundle(root, name=TESTED, with_tests=True))
    opa = read_tool("opa", required=False)
    if opa is not None:
        done = _run([str(opa), "check", "--strict", "--bundle", str(root)])
        problems += (
            [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] if done.returncode else []
        )
    if as_json:
        print_json({"problems": problems, "with_opa": opa is not None})
    for problem in problems if not as_json else ():
        complain(problem)
    if problems:
        raise typer.Exit(EXIT_NOT_DONE)
    tell("the policies compile and keep to the dialect" + ("" if opa else "; without opa"), quiet=quiet or as_json)


def list_problems(bundle: Bundle) -> list[str]:
    """Return what keeps a bundle from being used: it does not compile, or leaves the dialect."""
    queries = list_queries(list_rules(bundle.modules))
    try:
        run = run_rules(bundle.modules, bundle.data, queries, document={}, cpu_limit_s=TESTS_LIMIT_S)
    except DoesNotCompileError as error:
        return [str(error)]
    except TraceFailedError:
        return list_offences(bundle)  # a rule that loops without its input: its tests tell
    unsafe = {problem for problem in run.errors.values() if any(words in problem for words in _UNSAFE)}
    return sorted(unsafe) + list_offences(bundle) + list_table_problems(bundle)


def coverage(
    folder: Folder = None,
    threshold: Annotated[int, typer.Option("--threshold", min=0, max=100, help="Percent each file must have.")] = 0,
    engine: Annotated[EngineName | None, typer.Option("--engine", help="opa if it is there, else rego.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how much the tests reach."""
    root = find_folder(folder)
    engine = engine or ("rego" if read_tool("opa", required=False) is None else "opa")
    rows = cover_with_opa(root) if engine == "opa" else cover_embedded(load_bundle(root, name=TESTED, with_tests=True))
    if as_json:
        files = [{"path": row.path, "percent": row.percent, "not_covered": row.missed} for row in rows]
        summary = {
            "digest": sha256(canonical(files)).hexdigest(),
            "percent": min((row.percent for row in rows), default=0),
        }
        print_json({"engine": engine, "files": files, "threshold": threshold, "coverage": summary})
    else:
        print_table(("FILE", "PERCENT", "LINES NOT REACHED"), [(row.path, row.percent, row.spans) for row in rows])
    short = [row.path for row in rows if row.percent < threshold]
    if short:
        complain(f"below {threshold} %: {', '.join(short)}")
        raise typer.Exit(EXIT_NOT_DONE)


def cover_embedded(bundle: Bundle) -> list[FileCoverage]:
    """Return what the tests reach on the embedded engine: at most that, because an imported package counts whole."""
    run = _run_tests(bundle)
    return [
        FileCoverage(path, len(run.covered.get(path, ())), tuple(run.not_covered.get(path, ())))
        for path in sorted(bundle.modules)
        if not path.endswith(TEST_SUFFIX)
    ]


def cover_with_opa(root: Path) -> list[FileCoverage]:
    """Return the same from `opa test --coverage`."""
    report = _parse(_run_opa(root, "test", "--bundle", "--coverage", "--format=json"), "opa test")
    return [
        FileCoverage(path.removeprefix("/"), len(_lines(found, "covered")), _lines(found, "not_covered"))
        for path, found in sorted(report["files"].items())
        if not path.endswith(TEST_SUFFIX)
    ]


def _lines(found: dict[str, Any], kind: str) -> tuple[int, ...]:
    spans = found.get(kind, ())
    return tuple(sorted({row for span in spans for row in range(span["start"]["row"], span["end"]["row"] + 1)}))


def lint(folder: Folder = None, as_json: AsJson = False) -> None:
    """Lint the policies."""
    form = ["--format=json"] if as_json else []
    done = _run([str(read_tool("regal")), "lint", "--no-color", *form, str(find_folder(folder))])
    print_line(done.stdout.rstrip())
    if done.returncode:
        complain(done.stderr.strip() or "regal found violations")
        raise typer.Exit(EXIT_NOT_DONE)


def fmt(
    folder: Folder = None,
    write: Annotated[bool, typer.Option("--write", help="Format the files in place.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what is not formatted, or format it."""
    root, opa = find_folder(folder), str(read_tool("opa"))
    differ = _run([opa, "fmt", "--list", str(root)])
    if differ.returncode:
        raise Rejected(f"opa fmt: {differ.stderr.strip()}", code="bundle_malformed")
    files = differ.stdout.split()
    if files and write:
        _run([opa, "fmt", "--write", str(root)])
    if as_json:
        print_json({"files": files, "written": write})
    elif files and not write:
        print_line(_run([opa, "fmt", "--diff", str(root)]).stdout.rstrip())
    tell(f"{len(files)} files {'formatted' if write else 'are not formatted'}", quiet=quiet or as_json)
    if files and not write:
        raise typer.Exit(EXIT_NOT_DONE)


def find_folder(folder: Path | None) -> Path:
    """Return the folder that is meant: the one given, that of the settings, or the shipped one."""
    return folder or open_settings().policies_dir or find_shipped("policies")


def _list_tests(bundle: Bundle) -> list[str]:
    rules = list_rules({path: text for path, text in bundle.modules.items() if path.endswith(TEST_SUFFIX)})
    return sorted({rule.query for rule in rules if rule.name.startswith("test_")})


def _run_tests(bundle: Bundle) -> RuleRun:
    try:
        return run_rules(
            bundle.modules,
            bundle.data,
            _list_tests(bundle),
            cpu_limit_s=TESTS_LIMIT_S,
            wall_limit_s=2 * TESTS_LIMIT_S,
        )
    except DoesNotCompileError as error:
        raise Malformed(f"the policies do not compile: {error}", code="bundle_malformed") from None
    except TraceFailedError as error:
        raise Rejected(f"the tests were ended: {error}", code="tests_ended") from None


def _run_opa(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run([str(read_tool("opa").absolute()), *arguments, "."], folder=root)


def _run(command: list[str], *, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 -- a tool that we looked up
            command, capture_output=True, text=True, check=False, timeout=TOOL_LIMIT_S, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise Rejected(f"{command[0]} took longer than {TOOL_LIMIT_S} s", code="tests_ended") from None


def _parse(done: subprocess.CompletedProcess[str], what: str) -> Any:
    try:
        return json.loads(done.stdout or "[]")
    except ValueError:
        raise Rejected(f"{what}: {done.stderr.strip() or done.stdout.strip()}", code="bundle_malformed") from None
