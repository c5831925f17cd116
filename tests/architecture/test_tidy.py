"""The limits and names of STYLE.md, enforced.

A module's length is all its lines. A function's is from `def` to its last line, less its docstring: a contract may be
as long as it needs. Migrations keep their length: each is written once, read once and never changed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import ROOT, list_files, list_python, name_module, parse

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
FREE_OF_FUNCTION_LIMIT = ("migrations/versions/",)
BANNED_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager", "managers"}
BANNED_CLASS = re.compile(r"^I[A-Z][a-z]|^Abstract|Impl$|Service$")
CODE_SUFFIXES = {".py", ".sh", ".rego", ".toml", ".mk", ""}
# Written in two halves, so that this file does not hold what it forbids.
NAKED_PROMISE = re.compile(rf"(#|--|//)\s*({'TODO'}|{'FIXME'})\b(?!\s*\(#\d+\))")
REGISTRY_HOSTS = re.compile(
    r"\b(pypi|crates|npmjs|yarnpkg|rubygems|pythonhosted|proxy\.golang)" r"\.(org|io|com)\b", re.IGNORECASE
)
INDEX_OPTION = re.compile(r"^\s*(-i|--(extra-)?index-url|--find-links|--trusted-host)\b", re.MULTILINE)
STARTED_BY_NAME = {"app.cli.main"}  # the `assay` command of pyproject.toml
MODULE_IN_TEXT = re.compile(r"^(app(?:\.\w+)+)(?::\w+)?$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _count_lines(function: Function) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def _read_text(path: Path) -> str:
    return (ROOT / path).read_bytes().decode(errors="replace")


def test_a_module_says_what_it_is_for() -> None:
    silent = [str(path) for path in list_python() if not ast.get_docstring(parse(path))]
    assert silent == [], "begin each module with a docstring: what it is for, and whose rule it follows"


def test_a_module_is_short_enough_to_read() -> None:
    lengths = {str(path): len(_read_text(path).splitlines()) for path in list_python()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}, "make each two modules"


def test_a_function_is_short_enough_to_read() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": _count_lines(node)
        for path in list_python()
        if not str(path).startswith(FREE_OF_FUNCTION_LIMIT)
        for node in ast.walk(parse(path))
        if isinstance(node, Function)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}, "make each two"


def test_a_module_is_named_after_the_one_thing_it_does() -> None:
    banned = [
        str(path) for path in list_python() if BANNED_NAMES & {part.strip("_") for part in path.with_suffix("").parts}
    ]
    assert banned == []


def test_a_class_is_named_after_what_it_is() -> None:
    classes = [
        f"{path}:{node.lineno} {node.name}"
        for path in list_python()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef) and BANNED_CLASS.search(node.name)
    ]
    assert classes == []


def test_a_promise_in_a_comment_names_its_issue() -> None:
    naked = [
        f"{path}:{number}"
        for path in list_files()
        if path.suffix in CODE_SUFFIXES
        for number, line in enumerate(_read_text(path).splitlines(), start=1)
        if NAKED_PROMISE.search(line)
    ]
    assert naked == [], "do it, delete it, or add the issue's number as (#12)"


def test_no_file_names_a_package_registry() -> None:
    named = [
        str(path)
        for path in list_files()
        if REGISTRY_HOSTS.search(text := _read_text(path)) or (path.suffix == ".txt" and INDEX_OPTION.search(text))
    ]
    assert named == [], "where packages come from is the machine's business"


def test_every_module_of_the_app_is_used_by_the_app() -> None:
    """Dead code has tests too: only the app itself, scripts and migrations count as users."""
    users = [path for path in list_python() if path.parts[0] in {"app", "scripts", "migrations"}]
    used = STARTED_BY_NAME.union(*(_list_uses(path) for path in users))
    modules = {name_module(path) for path in list_python() if path.parts[0] == "app" and path.stem != "__init__"}
    unused = sorted(modules - used)
    assert not unused, f"wire them in, or delete them: nobody imports {', '.join(unused)}"


def _list_uses(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # a target such as "app.web.serve:app"
            yield from MODULE_IN_TEXT.findall(node.value)
