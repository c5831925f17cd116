"""The portable dialect: what policies may use, so that every engine gives the same bytes, today and years later."""

from __future__ import annotations

import re

import pytest

from app.policy.bundle import load_bundle, make_bundle
from app.policy.query import name_tokens
from tests.policies.rego_suite import list_calls, list_functions, list_numbers, modules, shipped

ALLOWED = {"array.concat", "concat", "count", "max", "min", "object.keys", "regex.match", "sort"}
ALLOWED |= {"is_array", "is_boolean", "is_number", "is_object", "is_string"}
ALLOWED_IN_TESTS = ALLOWED | {
    "contains",
    "json.marshal",
    "lower",
    "numbers.range",
    "object.remove",
    "object.union",
    "sprintf",
}


def offences(bundle) -> list[str]:
    """Return what the bundle's modules use outside the dialect."""
    found = []
    trees = modules(bundle)
    shared = {
        f"{ast['package']['refr']['Var']['value']}.{name}" for ast in trees.values() for name in list_functions(ast)
    }
    for path, ast in trees.items():
        allowed = ALLOWED_IN_TESTS if path.endswith("_test.rego") else ALLOWED
        found += [f"{path} calls {name}" for name in list_calls(ast) - allowed - list_functions(ast) - shared]
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
    assert bundle.modules
    for path, text in bundle.modules.items():
        entrypoints = re.findall(r"# METADATA\n((?:#.*\n)*?# entrypoint: true\n(?:#.*\n)*)(\w+) :=", text)
        package = text[: text.index("\npackage ")].rpartition("# METADATA\n")[2] + "\n"
        assert [name for _, name in entrypoints] in ([], ["decide"]), path
        for block in (package, *(block for block, _ in entrypoints)):
            assert block.startswith("# title: "), path
            assert "\n#   control: " in block, path
        for block, _ in entrypoints:
            assert re.search(r'\n#   effective_from: "\d{4}-\d\d-\d\d"\n', block), path


def test_a_package_is_one_module_of_its_name():
    """The embedded engine loses rules of a package in two modules when the package is imported."""
    for path, text in shipped(with_tests=True).modules.items():
        folder, _, file = path.partition("/")
        assert re.findall(r"^package (.+)$", text, re.MULTILINE) == [file.removesuffix(".rego")], path
        assert file.removesuffix("_test.rego").removesuffix(".rego") == folder, path


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
