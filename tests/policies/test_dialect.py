"""The portable dialect: what policies may use, so that every engine gives the same bytes, today and years later."""

from __future__ import annotations

import re

import pytest

from app.adapters.rego_dialect import BUILTINS, TEST_BUILTINS, list_offences
from app.policy.bundle import load_bundle, make_bundle
from app.policy.query import name_tokens
from tests.policies.rego_suite import POLICIES, shipped


def test_the_shipped_policies_keep_to_the_dialect():
    assert list_offences(shipped(with_tests=True)) == []


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
        "import future.keywords.not",
        'x if "a", "a" in {"a", "b"}',
        "x[y].z contains y if some y in input.all",
    ],
)
def test_what_is_outside_the_dialect_is_found(rule):
    assert list_offences(make_bundle({"a/a.rego": f"package a\n\n{rule}\n".encode()}, name="odd"))


def test_an_offence_names_its_module_and_what_it_is():
    files = {"a/a.rego": b"package a\n\nx := [time.now_ns(), 0.5]\n", "b/b.rego": b"package b\n\nx := 1\n"}
    assert list_offences(make_bundle(files, name="odd")) == [
        "a/a.rego: calls time.now_ns",
        "a/a.rego: has the number 0.5",
    ]


def test_functions_of_other_packages_may_be_called_by_their_import_or_their_full_name():
    words = b"import data.lib.words"
    files = {
        "lib/words.rego": b"package lib.words\n\nshort(x) := count(x) < 9\n",
        "a/a.rego": b"package a\n%b\nx if words.short(input.x)\ny if data.lib.words.short(input.y)\n" % words,
        "b/b.rego": b"package b\n\nx if words.short(input.x)\n\ny if data.lib.words.long(input.y)\n",
    }
    assert list_offences(make_bundle(files, name="odd")) == [
        "b/b.rego: calls data.lib.words.long",
        "b/b.rego: calls words.short",
    ]


def test_what_is_for_tests_alone_is_no_part_of_a_policy():
    text = b'package a\n\nx := sprintf("%d", [1])\n'
    assert list_offences(make_bundle({"a/a.rego": text}, name="odd")) == ["a/a.rego: calls sprintf"]
    assert list_offences(make_bundle({"a/a.rego": b"package a\n", "a/a_test.rego": text}, name="odd")) == []


@pytest.mark.parametrize(
    "functions",
    [
        "f(x) := f(x)",
        "f(x) := g(x)\n\ng(x) := 1 if { f(x) }",
        "f(x) := y if { y := data.a.f(x) }",
        'f(x) := y if { y := data.a["f"](x) }',
        "f(x) := 1 if { x } else := f(x)",
    ],
)
def test_functions_that_may_call_themselves_are_found(functions):
    found = list_offences(make_bundle({"a/a.rego": f"package a\n\n{functions}\n".encode()}, name="a"))
    assert "data.a.f may call itself" in found


def test_functions_of_one_name_in_two_packages_may_call_each_other():
    files = {
        "a/a.rego": b"package a\n\nlevel(x) := data.b.level(x)\n",
        "b/b.rego": b"package b\n\nlevel(x) := x\n",
    }
    assert list_offences(make_bundle(files, name="a")) == []


@pytest.mark.parametrize(
    "rule",
    [
        "x if not is_number(input.a.b)",
        "x if not input.a in {1}",
        "x if not input.a < 3",
        "x if not count(input.a.b) > 1",
        "x if { some k in [1]; not is_number(table[k]) }",
        "x := [k | some k in [1]; not is_number(table[k])]",
        "x if not table[input.a]",
        "y := input.a\n\nx if not table[y]",
        "y := input.a\n\nx if not is_number(y)",
        "x contains a.b if some a in input.l",
        "x contains count(a.b) if { some a in input.l; a }",
        "x[k] := a.b if some k, a in input.l",
    ],
)
def test_what_rests_on_the_undefined_where_engines_differ_is_found(rule):
    (offence,) = list_offences(make_bundle({"a/a.rego": f"package a\n\n{rule}\n".encode()}, name="odd"))
    assert offence.startswith(("a/a.rego:3: ", "a/a.rego:5: "))


@pytest.mark.parametrize(
    "rule",
    [
        "x if not input.a.b",
        "y := input.a\n\nx if not y",
        "y contains 1\n\nx if { some k in [1]; not y[k]; not k in y }",
        "x if { some k in [1]; not table[k].b }",
        "near(k) := k\n\nx if { some k in [1]; not near(k); not is_number(k) }",
        "x contains b if { some a in input.l; b := a.b }",
        'x["law"] := input.law.name',
        "x := input.a.b if input.a.c",
        "f(a) := a.b if { some c in [1]; c == a.c }",
    ],
)
def test_what_is_named_first_is_in_the_dialect(rule):
    assert list_offences(make_bundle({"a/a.rego": f"package a\n\n{rule}\n".encode()}, name="fine")) == []


def test_a_package_in_two_modules_is_found():
    files = {"a/a.rego": b"package a\n\nx := 1\n", "a/b.rego": b"package a\n\ny := 1\n"}
    assert list_offences(make_bundle(files, name="odd")) == ["the package a is in two modules"]


def test_regal_knows_the_same_dialect():
    rule = (POLICIES.parent / ".regal" / "rules" / "portable_builtins.rego").read_text()
    portable, in_tests = (
        set(re.findall(r'"([a-z_.]+)"', block)) for block in re.findall(r":= \{(.*?)\}", rule, re.DOTALL)[:2]
    )
    assert portable == BUILTINS
    assert portable | in_tests == TEST_BUILTINS


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


def test_a_package_is_named_as_its_folder_and_its_module():
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
