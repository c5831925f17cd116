"""The tests beside the policies, run on the embedded engine."""

from __future__ import annotations

import pytest

from app.policy.bundle import TEST_SUFFIX, make_bundle
from tests.policies.rego_suite import POLICIES, list_tests, run_test, shipped

BUNDLE = shipped(with_tests=True)
TESTS = list_tests(BUNDLE)


@pytest.mark.parametrize("test", TESTS)
def test_every_rego_test_is_true(test):
    assert run_test(BUNDLE, test)


def test_every_policy_has_tests_beside_it():
    policies = [path for path in POLICIES.rglob("*.rego") if not path.name.endswith(TEST_SUFFIX)]
    assert len(policies) >= 4
    for path in policies:
        package = path.stem
        assert path.with_name(f"{package}{TEST_SUFFIX}").is_file(), path
        assert [name for name in TESTS if name.startswith(f"{package}_test.")], path


def test_a_broken_policy_turns_its_test_red():
    test = "kyc_test.test_a_blocked_country_is_denied"
    assert run_test(BUNDLE, test)
    files = {path: text.encode() for path, text in BUNDLE.modules.items()}
    files["kyc/kyc.rego"] = files["kyc/kyc.rego"].replace(b'standing == "blocked"', b'standing == "unblocked"')
    assert not run_test(make_bundle(files, name="broken"), test)


def test_a_policy_that_fails_in_its_test_is_not_green():
    files = {
        "a/a.rego": b"package a\nx := 1 / input.y",
        "a/a_test.rego": b'package a_test\ntest_x if data.a.x == 1 with input as {"y": 0}',
    }
    bundle = make_bundle(files, name="failing")
    assert list_tests(bundle) == ["a_test.test_x"]
    with pytest.raises(RuntimeError, match="divide by zero"):
        run_test(bundle, "a_test.test_x")
