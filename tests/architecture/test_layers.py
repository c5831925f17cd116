"""Arrows point down (DESIGN.md, section 2): import-linter's contracts, and what an import really loads."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

NOT_CORE = {"adapters", "cli", "settings", "web", "wiring"}
HEAVY = ("flask", "sqlalchemy", "pydantic", "requests", "psycopg")
LOAD_PACKAGE = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(module.name)
print(*sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


def _lint(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )


def _exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_arrows_point_down_and_nowhere_else() -> None:
    linted = _lint(ROOT)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("app/tlog/tree.py", "import flask"),
        ("app/tlog/tree.py", "import orjson"),
        ("app/tlog/tree.py", "import app.ledger"),
        ("app/ledger/entry.py", "import sqlalchemy"),
        ("app/newcomer.py", '"""A module that no layer names."""'),
    ],
)
def test_a_forbidden_arrow_is_caught(tmp_path: Path, path: str, line: str) -> None:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    with (tmp_path / path).open("a") as source:
        source.write(f"\n{line}\n")
    linted = _lint(tmp_path)
    assert linted.returncode == 1, linted.stdout + linted.stderr
    assert "BROKEN" in linted.stdout


def test_every_core_package_is_under_the_purity_contract() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    named = {
        line.removesuffix(".**") for line in contracts["importlinter:contract:pure-core"]["source_modules"].split()
    }
    found = {path.stem for path in (ROOT / "app").iterdir() if path.name not in {"__init__.py", "__pycache__"}}
    core = {f"app.{name}" for name in found - NOT_CORE}
    assert core <= named, "add these to [importlinter:contract:pure-core] of .importlinter"


@pytest.mark.parametrize("module", ["app.tlog", "app.ledger.verify"])
def test_an_auditors_import_loads_neither_web_nor_database(module: str) -> None:
    if not _exists(module):
        pytest.skip(f"{module} is not written yet")
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD_PACKAGE, module, *HEAVY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
