"""Each dependency has a reason, and each installed byte is named by its hash."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.architecture.sources import ROOT

LOCKS = ["requirements/run.txt", "requirements/dev.txt", "requirements/bench.txt"]
MIN_REASON_CHARS = 20

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REASON_LINE = re.compile(r"^\| `([a-z0-9-]+)` \|(.+)\|$", re.MULTILINE)
LOCKED = re.compile(r"^([a-z0-9-]+)(?:\[[^\]]*\])?==(\S+)", re.MULTILINE)


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def _list_direct(*extras: str) -> set[str]:
    return {_name(line) for line in PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]]}


def _read_lock(path: str) -> dict[str, str]:
    return {_name(name): version for name, version in LOCKED.findall((ROOT / path).read_text())}


def test_every_direct_dependency_has_a_line_of_reason_and_no_line_is_stale() -> None:
    reasons = {
        name: reason.strip() for name, reason in REASON_LINE.findall((ROOT / "docs/dependencies.md").read_text())
    }
    assert set(reasons) == _list_direct(*EXTRAS)
    assert [name for name, reason in reasons.items() if len(reason) < MIN_REASON_CHARS] == []


@pytest.mark.parametrize(
    ("lock", "extras"),
    [(LOCKS[0], ()), (LOCKS[1], ("dev",)), (LOCKS[2], ("dev", "bench"))],
    ids=["run", "dev", "bench"],
)
def test_every_direct_dependency_is_locked(lock: str, extras: tuple[str, ...]) -> None:
    assert _list_direct(*extras) - set(_read_lock(lock)) == set(), "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_exact_version_and_a_hash(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    assert [block for block in blocks if not re.match(r"\S+==\S+[^\n]*\\\n\s+--hash=sha256:[0-9a-f]{64}", block)] == []


@pytest.mark.parametrize(("smaller", "larger"), [LOCKS[:2], LOCKS[1:]], ids=["run in dev", "dev in bench"])
def test_a_larger_lock_agrees_with_the_smaller_one(smaller: str, larger: str) -> None:
    assert _read_lock(smaller).items() <= _read_lock(larger).items()


def test_the_gpl_licensed_peer_is_never_shipped() -> None:
    assert "pymerkle" in {_name(line) for line in EXTRAS["bench"]}
    assert "pymerkle" not in _read_lock("requirements/run.txt")
    assert "pymerkle" not in _read_lock("requirements/dev.txt")
