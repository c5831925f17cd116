"""The golden answers: what the shipped policies said when the corpus was written they say today, on either engine."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from app.ledger.canonical import canonical
from app.policy.decide import parse_answer
from tests.policies.golden import Case, evaluate, list_cases
from tests.policies.rego_suite import POLICIES, shipped
from tests.policies.tools import find_or_report

CASES = list_cases()
ENTRYPOINT = re.compile(r"# entrypoint: true\n(?:#.*\n)*(\w+) :=")
CODE = re.compile(r'"code": "([a-z0-9_]+)"|"([a-z0-9_]+)": \{\s*"verdict"|(?:deny|review)\("([a-z0-9_]+)"')
CASES_MIN = 5
ASK_ALL = """answers[i] := answer if {{
    some i, case in data.cases
    case.entrypoint == "{entrypoint}"
    document := case.document
    answer := data.{rule} with input as document
}}"""
OF_OTHER_TABLES = {"identity_unlisted", "law_ambiguous", "sanctions_list_missing"}
"""Reasons that the shipped tables give no cause for; the tests beside the policies do, with tables of their own."""


@pytest.mark.parametrize("case", CASES, ids=[f"{case.entrypoint}: {case.name}" for case in CASES])
def test_the_answer_is_the_golden_one_to_the_byte(case: Case) -> None:
    assert canonical(evaluate(case.entrypoint, case.document)) == canonical(case.answer)
    if case.answer is not None:
        parse_answer(case.answer)


def test_no_case_is_there_twice() -> None:
    counts = Counter((case.entrypoint, case.name) for case in CASES)
    counts += Counter((case.entrypoint, canonical(case.document)) for case in CASES)
    assert [key for key, count in counts.items() if count > 1] == []


def test_every_entrypoint_has_its_cases_and_one_without_an_answer() -> None:
    asked = Counter(case.entrypoint for case in CASES)
    found = {
        f"{path.split('/')[0]}/{rule}" for path, text in shipped().modules.items() for rule in ENTRYPOINT.findall(text)
    }
    assert set(asked) == found
    assert [entrypoint for entrypoint, count in asked.items() if count < CASES_MIN] == []
    assert {case.entrypoint for case in CASES if case.answer is None} == found


def test_every_reason_that_a_policy_may_give_is_given() -> None:
    codes = {code for text in shipped().modules.values() for match in CODE.findall(text) for code in match if code}
    given = {reason["code"] for case in CASES if case.answer for reason in case.answer["reasons"]}
    assert given <= codes
    assert codes - given == OF_OTHER_TABLES


def test_every_verdict_that_is_no_allow_names_a_control() -> None:
    reasons = [reason for case in CASES if case.answer for reason in case.answer["reasons"]]
    assert reasons
    assert [reason for reason in reasons if not reason.get("control")] == []


def test_opa_gives_the_golden_answers_too(tmp_path: Path) -> None:
    opa = find_or_report("opa")
    entrypoints = sorted({case.entrypoint for case in CASES})
    rules = [ASK_ALL.format(entrypoint=name, rule=name.replace("/", ".")) for name in entrypoints]
    (tmp_path / "golden.rego").write_text("package golden\n\n" + "\n\n".join(rules))
    cases = [{"entrypoint": case.entrypoint, "document": case.document} for case in CASES]
    (tmp_path / "cases.json").write_text(json.dumps({"cases": cases}))
    asked = subprocess.run(
        [opa, "eval", "--strict-builtin-errors", "-d", POLICIES, "-d", tmp_path, "data.golden.answers"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(asked.stdout)["result"][0]["expressions"][0]["value"]
    differ = [case.name for i, case in enumerate(CASES) if canonical(found.get(str(i))) != canonical(case.answer)]
    assert differ == []
