"""Running Rego's own tests on the embedded engine."""

from __future__ import annotations

import json
from pathlib import Path

import regorus

from app.policy.bundle import Bundle, load_bundle

POLICIES = Path(__file__).parents[2] / "policies"


def shipped(*, with_tests: bool = False) -> Bundle:
    return load_bundle(POLICIES, name="assay", with_tests=with_tests)


def build(bundle: Bundle) -> regorus.Engine:
    engine = regorus.Engine()
    for path, text in bundle.modules.items():
        engine.add_policy(path, text)
    engine.add_data_json(json.dumps({"data": dict(bundle.data)}))
    return engine


def modules(bundle: Bundle) -> dict[str, dict]:
    """Return the syntax tree of each module by path."""
    return {m["source"]["file"]: m["ast"] for m in json.loads(build(bundle).get_ast_as_json())}


def list_tests(bundle: Bundle) -> list[str]:
    """Return `package.rule` of every rule named `test_…`."""
    return sorted(
        f"{_name(ast['package']['refr'])}.{_name(head['refr'])}"
        for ast in modules(bundle).values()
        for rule in ast["rules"]
        for head in rule.get("Spec", {}).get("head", {}).values()
        if _name(head["refr"]).startswith("test_")
    )


def run_test(bundle: Bundle, test: str) -> bool:
    """Return whether the rule is true; undefined is not."""
    return json.loads(build(bundle).eval_rule_as_json(f"data.{test}")) is True


def _name(refr: dict) -> str:
    """Return the dotted name of a reference, `?` for a part that is no constant."""
    if "Var" in refr:
        return refr["Var"]["value"]
    if "RefDot" in refr:
        return f"{_name(refr['RefDot']['refr'])}.{refr['RefDot']['field'][1]}"
    return "?"
