"""`assay policy …`: from a folder to what decides, by two tokens."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from app.policy.archive import parse_archive
from app.wiring import find_shipped
from tests.unit.cli.cli_calls import Call

WAIVE = ("--waive", "coverage", "--waive", "parity", "--waive", "impact")
MARKER = 'package marker\n\nx := "changed"\n'


@pytest.fixture
def folder(call: Call, tmp_path: Path) -> Path:
    call("init")
    shutil.copytree(find_shipped("policies"), tmp_path / "policies")
    (tmp_path / "policies" / "marker").mkdir()
    (tmp_path / "policies" / "marker" / "marker.rego").write_text(MARKER)
    return tmp_path / "policies"


@pytest.fixture
def act(call: Call, monkeypatch: pytest.MonkeyPatch):
    """Return how to call `assay policy` in the name of a token with these scopes."""
    tokens: dict[str, str] = {}

    def act(who: str, *arguments: str):
        if who not in tokens:
            scopes = ("-s", "policies:write", "-s", "policies:approve")
            tokens[who] = call("token", "issue", "-t", "demo", *scopes, "-q").out.strip()
        monkeypatch.setenv("ASSAY_TOKEN", tokens[who])
        return call("policy", *arguments)

    return act


def active(call: Call) -> str:
    kept = json.loads(call("policy", "bundle", "list", "-t", "demo", "--json").out)
    [one] = [each["digest"] for each in kept if each["state"] == "active"]
    return one


def test_two_people_bring_a_folder_into_force(call: Call, act, folder: Path, tmp_path: Path) -> None:
    before = active(call)
    pushed = act("ada", "push", str(folder), "-t", "demo", "--json")
    digest = json.loads(pushed.out)["digest"]
    assert json.loads(pushed.out)["state"] == "draft"
    assert "kept before" in act("bob", "push", str(folder), "-t", "demo").err
    compared = act("ada", "diff", digest, "-t", "demo").out
    assert "added    marker/marker.rego" in compared
    assert '+x := "changed"' in compared
    reports = tmp_path / "reports.json"
    reports.write_text(json.dumps({"coverage": {"digest": "c" * 64, "percent": 97}}))
    assert act("ada", "shadow", digest[:10], "-t", "demo", "--reports", str(reports)).out.strip() == digest
    alone = act("ada", "promote", digest, "-t", "demo", "--yes", *WAIVE)
    assert (alone.code, active(call)) == (1, before)
    assert "cannot approve it" in alone.err
    missing = act("bob", "promote", digest, "-t", "demo", "--yes")
    assert "no report on parity, impact" in missing.err
    done = act("bob", "promote", digest, "-t", "demo", "--replaces", before[:8], *WAIVE)
    assert (done.code, done.out.strip(), active(call)) == (0, digest, digest)
    told = json.loads(call("policy", "history", "-t", "demo", "--json").out)
    assert [entry["action"].removeprefix("policy.bundle_") for entry in told] == [
        *("activated", "retired", "shadowed", "added"),
        *("activated", "added"),
    ]
    assert "bundle_activated" in call("policy", "history", "-t", "demo").out


def test_nothing_is_promoted_without_a_yes(call: Call, act, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = active(call)
    digest = act("ada", "push", str(folder), "-t", "demo", "-q").out.strip()
    act("ada", "shadow", digest, "-t", "demo")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = act("bob", "promote", digest, "-t", "demo", *WAIVE)
    assert (refused.code, active(call)) == (1, before)
    assert f"in the place of {before[:12]}" in refused.err


def test_a_folder_that_fails_its_tests_is_not_kept_and_the_test_is_named(act, folder: Path) -> None:
    (folder / "marker" / "marker_test.rego").write_text("package marker_test\n\ntest_odd if data.marker.x == 7\n")
    refused = act("ada", "push", str(folder), "-t", "demo")
    assert refused.code == 1
    assert "marker_test.test_odd is not true" in refused.err


def test_without_a_token_or_with_anothers_nothing_is_done(call: Call, act, folder: Path, monkeypatch) -> None:
    monkeypatch.delenv("ASSAY_TOKEN", raising=False)
    missing = call("policy", "push", str(folder), "-t", "demo")
    assert missing.code == 1
    assert "export ASSAY_TOKEN" in missing.err
    call("tenant", "add", "acme")
    other = act("ada", "push", str(folder), "-t", "acme")
    assert other.code == 1
    assert "not one of acme" in other.err
    reader = call("token", "issue", "-t", "demo", "-s", "policies:read", "-q").out.strip()
    monkeypatch.setenv("ASSAY_TOKEN", reader)
    assert "policies:write" in call("policy", "push", str(folder), "-t", "demo").err


def test_a_draft_is_given_up(act, folder: Path) -> None:
    digest = act("ada", "push", str(folder), "-t", "demo", "-q").out.strip()
    assert json.loads(act("ada", "retire", digest, "-t", "demo", "--json").out)["state"] == "retired"
    assert act("ada", "retire", digest, "-t", "demo").code == 1


def test_an_archive_is_the_same_bytes_each_time_and_can_be_signed_and_looked_into(
    call: Call, folder: Path, tmp_path: Path
) -> None:
    first, second, signed = (str(tmp_path / name) for name in ("1.tar.gz", "2.tar.gz", "3.tar.gz"))
    digest = call("policy", "bundle", "build", str(folder), "-o", first).out.strip()
    assert call("policy", "bundle", "build", str(folder), "-o", second).out.strip() == digest
    assert Path(first).read_bytes() == Path(second).read_bytes()
    assert call("policy", "bundle", "sign", first, "-o", signed).out.strip() == digest
    facts = json.loads(call("policy", "bundle", "inspect", signed, "--json").out)
    assert (facts["digest"], facts["signed"]) == (digest, True)
    assert "marker/marker.rego" in facts["files"]
    assert "signed   no" in call("policy", "bundle", "inspect", first).out
    assert call("policy", "bundle", "build", str(folder), "-o", second, "--no-tests").out.strip() == digest
    assert not parse_archive(Path(second).read_bytes()).tests
    Path(signed).write_bytes(Path(signed).read_bytes()[:-30])
    assert call("policy", "bundle", "inspect", signed).code == 1
    shown = call("policy", "bundle", "public-key")
    assert shown.out.startswith("-----BEGIN PUBLIC KEY-----")
    key = json.loads(call("policy", "bundle", "public-key", "--json").out)
    assert (key["key"], key["algorithm"]) == (shown.out, "ES256")
    assert key["key_id"] in shown.err


def test_a_table_goes_out_as_csv_and_comes_back_as_a_draft(call: Call, act, folder: Path, tmp_path: Path) -> None:
    tables = {
        each["name"]: each for each in json.loads(call("policy", "data", "list", "-t", "demo", "--json").out)["tables"]
    }
    assert tables["kyc_law"]["rows"] > 30
    assert "kyc_law" in call("policy", "data", "list", "-t", "demo").out
    path = tmp_path / "kyc_law.csv"
    path.write_text(call("policy", "data", "get", "kyc_law", "-t", "demo", "--csv").out)
    assert "--version" in act("ada", "data", "set", "kyc_law", str(path), "-t", "demo").err
    changed = json.loads(
        act("ada", "data", "set", "kyc_law", str(path), "-t", "demo", "--version", "2099-01-01", "--json").out
    )
    assert changed["change"]["added"] == changed["change"]["removed"] == 0
    assert (changed["bundle"]["state"], changed["bundle"]["base"]) == ("draft", active(call))
    draft = changed["bundle"]["digest"]
    read = json.loads(call("policy", "data", "get", "kyc_law", "-t", "demo", "--bundle", draft).out)
    assert read["version"] == "2099-01-01"
    path.write_text("id,statute\n")
    assert act("ada", "data", "set", "kyc_law", str(path), "-t", "demo", "--version", "x").code == 1
    assert call("policy", "data", "get", "none", "-t", "demo").code == 1


@pytest.mark.parametrize("digest", ["", "12345", "0" * 64, "g" * 64, "../../x"])
def test_a_digest_that_is_none_is_refused(call: Call, digest: str) -> None:
    call("init")
    assert call("policy", "diff", "-t", "demo", "--", digest).code == 1


def test_reports_that_are_none_are_refused(act, folder: Path, tmp_path: Path) -> None:
    digest = act("ada", "push", str(folder), "-t", "demo", "-q").out.strip()
    path = tmp_path / "r.json"
    of_parity = '{"parity": {"digest": "%s", "cases": %d, "differences": %d}}'
    for said in (
        "[]",
        '{"other": {}}',
        '{"coverage": {"digest": "x", "percent": 1}}',
        '{"coverage": {"digest": 7}}',
        of_parity % ("c" * 64, 0, 0),
        of_parity % ("c" * 64, 9, 10),
    ):
        path.write_text(said)
        assert act("ada", "shadow", digest, "-t", "demo", "--reports", str(path)).code == 1
    path.write_text(of_parity % ("c" * 64, 9, 9))
    assert act("ada", "shadow", digest, "-t", "demo", "--reports", str(path)).code == 0


def test_the_key_of_archives_is_rotated_in_two_steps_and_old_archives_are_believed(
    call: Call, folder: Path, tmp_path: Path
) -> None:
    plain, signed = str(tmp_path / "plain.tar.gz"), str(tmp_path / "signed.tar.gz")
    call("policy", "bundle", "build", str(folder), "-o", plain, "-q")
    call("policy", "bundle", "sign", plain, "-o", signed)
    [old] = json.loads(call("policy", "key", "list", "--json").out)
    early = call("policy", "key", "retire", old["key_id"], "--yes")
    assert (early.code, "assay policy key rotate" in early.err) == (1, True)
    made = call("policy", "key", "rotate")
    assert made.out.startswith("-----BEGIN PUBLIC KEY-----")
    assert call("policy", "bundle", "public-key").out == old["public_pem"]
    following = json.loads(call("policy", "key", "rotate", "--json").out)
    assert (following["key"], following["key_id"] in made.err) == (made.out, True)
    assert call("policy", "key", "retire", old["key_id"], "--yes").code == 0
    assert call("policy", "bundle", "public-key").out == made.out
    assert re.search(f"{old['key_id']} +believed", call("policy", "key", "list").out)
    assert "yes, by a key that is believed here" in call("policy", "bundle", "inspect", signed).out
