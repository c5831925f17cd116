"""The portable dialect: what policies may use, so that every engine gives the same bytes, today and years later."""

from __future__ import annotations

import pytest

from app.policy.bundle import load_bundle, make_bundle
from app.policy.query import name_tokens
from tests.policies.rego_suite import list_calls, list_functions, list_numbers, modules, shipped

ALLOWED = {"count", "is_array", "is_boolean", "is_number", "is_string", "regex.match", "sort"}
ALLOWED_IN_TESTS = ALLOWED | {"contains", "json.marshal", "lower", "numbers.range", "sprintf"}
CONTROLLED = {"kyc/kyc.rego", "payments/payments.rego", "routing/routing.rego", "sanctions/sanctions.rego"}


def offences(bundle) -> list[str]:
    """Return what the bundle's modules use outside the dialect."""
    found = []
    for path, ast in modules(bundle).items():
        allowed = ALLOWED_IN_TESTS if path.endswith("_test.rego") else ALLOWED
        found += [f"{path} calls {name}" for name in list_calls(ast) - allowed - list_functions(ast)]
        found += [f"{path} has {number}" for number in list_numbers(ast) if not isinstance(number, int)]
        found += [f"{path} renames an import" for item in ast["imports"] if item.get("as")]
    return found


def test_the_shipped_policies_keep_to_the_dialect():
    assert offences(shipped(with_tests=True)) == []


@pytest.mark.parametrize(
    "rule",
    [
        'x := http.send({"method": "get", "url": "http://127.0.0.1"})',
        "x := time.now_ns()",
        'x := rand.intn("a", 9)',
        'x := uuid.rfc4122("a")',
        "x := opa.runtime()",
        'x := crypto.sha256("a")',
        'x := io.jwt.decode("a")',
        'x := net.lookup_ip_addr("localhost")',
        "x := rego.metadata.rule()",
        'x := 1 if { print("hello") }',
        'x := [opa["runtime"]()]',
        "x := 0.5",
        "import data.b as c",
    ],
)
def test_what_is_outside_the_dialect_is_found(rule):
    assert offences(make_bundle({"a/a.rego": f"package a\n\n{rule}\n".encode()}, name="odd"))


def test_every_package_and_every_entrypoint_names_its_title_and_control():
    bundle = shipped()
    assert set(bundle.modules) == CONTROLLED
    for text in bundle.modules.values():
        for annotated in ("package ", "decide := "):
            block = text[: text.index(f"\n{annotated}")].rpartition("# METADATA\n")[2].splitlines()
            assert all(line.startswith("#") for line in block), annotated
            assert block[0].startswith("# title: ")
            assert [line for line in block if line.startswith("#   control: ")]


def test_the_tokens_of_the_shipped_list_are_those_of_its_names():
    for entry in shipped().data["sanctions"]["entries"]:
        assert entry["tokens"] == name_tokens(entry["name"])
        assert len(entry["tokens"]) >= 2


def test_tests_are_no_part_of_the_enforced_bundle(tmp_path):
    assert not [path for path in shipped().modules if path.endswith("_test.rego")]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.rego").write_text("package a\n")
    before = load_bundle(tmp_path, name="a").digest
    (tmp_path / "a" / "a_test.rego").write_text("package a_test\n")
    assert load_bundle(tmp_path, name="a").digest == before
