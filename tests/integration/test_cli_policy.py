"""`assay policy` for authors and for the night: tests, checks, coverage, explanations, a sample run again."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import closing, contextmanager

import pytest

from app.adapters import opa_tools
from app.adapters.rego import RegoEngine
from app.cli import policy_reverify, tools
from app.cli.up import REVERIFIER, list_programs
from app.errors import Unavailable
from app.policy.decision import EngineRef
from app.policy.evidence import parse_reports
from app.settings import Settings
from app.wiring import Installation
from tests.integration.test_cli_replay import (  # noqa: F401 -- fixtures
    PAYMENTS,
    call,
    candidate,
    history,
    opened,
    read_pending,
    state,
)
from tests.parts.assay import wait_until
from tests.policies.rego_suite import POLICIES

WITH_OPA = pytest.mark.skipif(not tools.read_tool("opa", required=False), reason="opa is not there")
ENGINES = ["rego", pytest.param("opa", marks=WITH_OPA)]


@pytest.fixture
def folder(tmp_path):
    """Return how to write policies into a folder."""

    def write(**files: str) -> str:
        root = tmp_path / "policies"
        for name, text in files.items():
            path = root / "a" / f"{name}.rego"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(root)

    return write


RULE = "package a\n\nx := 1 if input.n == 1\n\ny := 2 if input.n == 2\n"
TRUE = 'package a_test\n\ntest_one if data.a.x == 1 with input as {"n": 1}\n'
FALSE = TRUE + '\ntest_two if data.a.x == 2 with input as {"n": 1}\n'


@pytest.mark.parametrize("engine", ENGINES)
def test_tests_that_hold_pass_and_one_that_does_not_is_named(call, folder, engine):  # noqa: F811
    good = call("policy", "test", folder(a=RULE, a_test=TRUE), "--engine", engine)
    assert (good.code, good.err) == (0, "1 of 1 tests pass\n")
    bad = call("policy", "test", folder(a=RULE, a_test=FALSE), "--engine", engine, "--json")
    assert bad.code == 1
    assert json.loads(bad.out) == {"engine": engine, "tests": 2, "failed": {"data.a_test.test_two": "is not true"}}


def test_policies_without_tests_or_with_a_mistake_are_told_so(call, folder):  # noqa: F811
    assert "has no tests" in call("policy", "test", folder(a=RULE)).err
    assert "a/a.rego:3" in call("policy", "test", folder(a="package a\n\nx := := 1\n", a_test=TRUE)).err


def test_the_shipped_policies_pass_their_checks(call):  # noqa: F811
    assert call("policy", "check").code == 0
    assert call("policy", "test").code == 0


@pytest.mark.parametrize("rule", ["x := y", "x := {", "import data.b as"])
def test_a_check_finds_what_does_not_compile(call, folder, rule):  # noqa: F811
    failed = call("policy", "check", folder(a=f"package a\n\n{rule}\n"))
    assert failed.code == 1
    assert "a/a.rego" in failed.err


@pytest.mark.parametrize("engine", ENGINES)
def test_coverage_names_the_lines_that_no_test_reached(call, folder, engine):  # noqa: F811
    root = folder(a=RULE, a_test=TRUE)
    covered = json.loads(call("policy", "coverage", root, "--engine", engine, "--json").out)
    assert covered["files"] == [{"path": "a/a.rego", "percent": 50, "not_covered": [5]}]
    assert parse_reports({"coverage": covered["coverage"]}).coverage.percent == 50
    assert call("policy", "coverage", root, "--engine", engine, "--threshold", "50").code == 0
    below = call("policy", "coverage", root, "--engine", engine, "--threshold", "51")
    assert below.code == 1
    assert "below 51 %: a/a.rego" in below.err


@WITH_OPA
def test_fmt_says_what_is_not_formatted_and_formats_it(call, folder):  # noqa: F811
    root = folder(a="package a\nx:=1\n")
    assert call("policy", "fmt", root).code == 1
    assert call("policy", "fmt", root, "--write").code == 0
    assert call("policy", "fmt", root).code == 0


def test_a_missing_tool_is_named_with_the_way_to_it(call, folder, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(opa_tools, "CHECKOUT_BIN", tmp_path)
    for command in ("lint", "fmt"):
        failed = call("policy", command, folder(a=RULE))
        assert failed.code == 3
        assert "make tools" in failed.err
    assert "without opa" in call("policy", "check", folder(a=RULE)).err


def test_a_rule_is_evaluated_and_one_without_an_answer_exits_with_1(call, tmp_path):  # noqa: F811
    file = tmp_path / "input.json"
    document = {
        "payment": {"amount_minor": 1499, "currency": "EUR", "country": "DE", "bucket": 1},
        "payer": {"name_tokens": ["ada"], "country": "KP"},
        "now_ms": 1795435200000,
    }
    file.write_text(json.dumps(document))
    said = call("policy", "eval", "payments/decide", "--input", str(file))
    assert said.code == 0
    assert '"verdict": "deny"' in said.out
    assert "KYC-COUNTRY-1" in said.out
    file.write_text("{}")
    assert "undefined" in call("policy", "eval", "payments/decide", "--input", str(file)).err
    file.write_text("[]")
    assert call("policy", "eval", "payments/decide", "--input", str(file)).code == 1


def test_a_decision_is_explained_in_words_with_control_and_statute(call, state):  # noqa: F811
    denied = next(
        entry for entry in read_pending(state, "decision.recorded") if entry.data["result"]["verdict"] == "deny"
    )
    said = call("policy", "explain", denied.data["decision_id"], "--tenant", "demo")
    assert said.code == 0
    assert "run again from its verified entry: the same result" in said.out
    assert "No payments are taken from the payer's country. [KYC-COUNTRY-1, FATF Recommendation 19]" in said.out
    assert "Ada" not in said.out
    assert call("policy", "explain", f"dec_{'0' * 32}", "--tenant", "demo").code == 1


def test_an_erased_decision_is_not_explained_and_says_why(call, state):  # noqa: F811
    entry = read_pending(state, "decision.recorded")[0]
    assert call("subject", "erase", entry.subject, "--tenant", "demo", "--yes").code == 0
    refused = call("policy", "explain", entry.data["decision_id"], "--tenant", "demo")
    assert refused.code == 1
    assert "erased" in refused.err


def test_a_sample_that_comes_to_the_same_bytes_is_logged(call, state):  # noqa: F811
    said = call("policy", "reverify", "--tenant", "demo", "--json")
    assert said.code == 0, said.err
    [entry] = read_pending(state, "policy.reverified")
    assert entry.data["different"] == entry.data["refused"] == 0
    assert 0 < entry.data["decisions"] <= PAYMENTS
    expected = ["regorus"] if tools.read_tool("opa", required=False) is None else ["regorus", "opa"]
    assert [engine["name"] for engine in entry.data["engines"]] == expected
    assert json.loads(said.out)["entry"] == entry.id
    few = json.loads(call("policy", "reverify", "--tenant", "demo", "--sample", "2", "--json").out)
    assert few["sampled"] == 2


@contextmanager
def watching(state, monkeypatch):  # noqa: F811
    """Run `--watch` in a thread, without its waits, on the installation that the block gets."""
    monkeypatch.setattr(policy_reverify, "LOOK_EVERY_S", 0.05)
    stop = threading.Event()
    installation = Installation(Settings(state_dir=state))
    with closing(installation.store):
        thread = threading.Thread(
            target=policy_reverify.watch_logs, args=(installation, 5, stop), kwargs={"quiet": True}
        )
        thread.start()
        try:
            yield installation
        finally:
            stop.set()
            thread.join()


def test_each_open_log_is_reverified_once_a_day_whoever_did_it_last(call, state, monkeypatch):  # noqa: F811
    looked = []
    real = policy_reverify.list_due
    monkeypatch.setattr(policy_reverify, "list_due", lambda installation: looked.append(1) or real(installation))
    with watching(state, monkeypatch):
        wait_until(lambda: len(looked) >= 4, what="looks")
    [entry] = read_pending(state, "policy.reverified")
    assert (entry.data["sampled"], entry.data["different"], entry.data["alarming"]) == (5, 0, 0)
    monkeypatch.setattr(policy_reverify, "DUE_AFTER_S", 0)
    with watching(state, monkeypatch):
        wait_until(lambda: len(read_pending(state, "policy.reverified")) >= 3, what="days of no length")


def test_a_log_that_cannot_be_reverified_delays_no_other_and_a_frozen_one_is_left_alone(
    call,  # noqa: F811
    state,  # noqa: F811
    monkeypatch,
    caplog,
):
    for name in ("aaa", "zzz"):  # never published: there is no signed tree to draw from
        assert call("tenant", "add", name).code == 0
    with watching(state, monkeypatch) as installation:
        wait_until(lambda: read_pending(state, "policy.reverified"), what="the log that can be")
        wait_until(lambda: "reverification of zzz is delayed" in caplog.text, what="the one after it")
        assert "reverification of aaa is delayed" in caplog.text
        with installation.store.transaction() as tx:
            tx.connection.exec_driver_sql("UPDATE tenant SET state = 'frozen' WHERE id IN ('aaa', 'zzz')")
        assert list(installation.reverified()) == ["demo"]


def test_a_store_that_is_away_ends_no_watch(state, monkeypatch, caplog):  # noqa: F811
    def fail(installation):
        raise Unavailable("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(policy_reverify, "list_due", fail)
        with watching(state, patched):
            wait_until(lambda: caplog.text.count("is delayed: the store is away") >= 2, what="two looks in vain")


def test_without_a_tenant_there_must_be_a_watch(call):  # noqa: F811
    said = call("policy", "reverify")
    assert (said.code, "give --tenant, or --watch" in said.err) == (1, True)


def test_up_runs_it_each_day_unless_the_sample_is_none():
    assert REVERIFIER in list_programs(Settings())
    assert REVERIFIER not in list_programs(Settings(reverify_sample=0))


class Odd(RegoEngine):
    """Says something else than the real engine."""

    ref = EngineRef(name="odd", version="1")

    def __init__(self, read):
        super().__init__(read)
        self.ref = Odd.ref

    def evaluate(self, entrypoint, document, *, bundle_digest, decision_id=None):
        return {**super().evaluate(entrypoint, document, bundle_digest=bundle_digest), "output": {"psp": "other"}}


def test_an_engine_that_differs_is_an_alarm(call, state, monkeypatch, caplog):  # noqa: F811
    real = policy_reverify.open_engines

    def open_both(stack, installation, job):
        odd = Odd(lambda digest: installation.read_bundle("demo", digest))
        return [*real(stack, installation, job), odd]

    monkeypatch.setattr(policy_reverify, "open_engines", open_both)
    said = call("policy", "reverify", "--tenant", "demo")
    assert said.code == 1
    assert "come to other bytes on odd" in said.err
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    [entry] = read_pending(state, "policy.reverified")
    assert entry.data["different"] == entry.data["decisions"]


def test_a_record_that_was_altered_is_an_alarm_by_its_name(call, state):  # noqa: F811
    with opened(state) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE sealed_field SET box = zeroblob(length(box)) WHERE path = 'input'")
    said = call("policy", "reverify", "--tenant", "demo", "--sample", "100")
    assert said.code == 1
    assert "seal_broken" in said.err


def test_a_candidate_of_the_shipped_policies_keeps_its_tests(call, candidate):  # noqa: F811
    root = candidate('standing == "allowed"', 'standing == "nobody"')
    shutil.copytree(POLICIES, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("kyc.rego"))
    failed = call("policy", "test", root)
    assert failed.code == 1
    assert "data.kyc_test." in failed.err
