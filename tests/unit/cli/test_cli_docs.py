"""The documents agree with the code: every error code and every endpoint is in them, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from app import errors
from app.cli.main import TARGETS
from app.settings import Settings
from tests.architecture.sources import ROOT, list_python, parse

KINDS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
ROUTE = re.compile(r'@api\.(get|post|put|delete)\("([^"]+)"')
COMMAND = re.compile(r"(?:`|^    )assay ([a-z]+)\b", re.MULTILINE)
NOT_RAISED = {"error"}  # the code of the base class


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _list_raised() -> set[str]:
    """Return the codes that the app's errors carry."""
    trees = [parse(path) for path in list_python() if path.parts[0] == "app"]
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = {code for node in classes.values() if _is_error(node, classes) for code in _own_code(node)}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                named = classes.get(node.func.id)
                if node.func.id in KINDS or (named is not None and _is_error(named, classes)):
                    found |= {str(key.value.value) for key in node.keywords if _is_code(key)}
    return found - NOT_RAISED


def _is_error(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    names = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return any(name in KINDS or (name in classes and _is_error(classes[name], classes)) for name in names)


def _own_code(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) and _names(line) == ["code"]:
            yield str(line.value.value)


def _names(line: ast.Assign) -> list[str]:
    return [target.id for target in line.targets if isinstance(target, ast.Name)]


def _is_code(key: ast.keyword) -> bool:
    return key.arg == "code" and isinstance(key.value, ast.Constant)


def test_every_error_code_is_explained_and_no_other() -> None:
    rows = [line for line in _read("docs/errors.md").splitlines() if line.startswith("| `")]
    explained = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert explained == _list_raised() | {"request_invalid"}


def test_every_endpoint_is_in_the_api_page_and_no_other() -> None:
    web = [path for path in list_python() if path.parts[:2] == ("app", "web")]
    served = {f"{method.upper()} {path}" for each in web for method, path in ROUTE.findall(_read(str(each)))}
    assert set(re.findall(r"`((?:GET|POST|PUT|DELETE) /[^`]+)`", _read("docs/api.md"))) == served


def test_every_command_that_the_documents_name_exists() -> None:
    for name in ("README.md", "docs/operating.md", "docs/errors.md", "docs/api.md"):
        assert set(COMMAND.findall(_read(name))) <= set(TARGETS), name


def test_every_setting_that_the_documents_name_exists() -> None:
    settings = {f"ASSAY_{name.upper()}" for name in Settings.model_fields} | {
        "ASSAY_CONFIG",
        "ASSAY_TOKEN",
        "ASSAY_URL",
    }
    for name in ("README.md", "docs/operating.md"):
        assert set(re.findall(r"\bASSAY_[A-Z_]+[A-Z]\b", _read(name))) <= settings, name
