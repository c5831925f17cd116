"""Making and looking at an installation: modes, masks, exit codes, ways out."""

from __future__ import annotations

import io
import json
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.settings import Settings
from app.wiring import Installation
from tests.fakes.payment_parts import make_intent
from tests.unit.cli.cli_calls import Call


def _modes(folder: Path) -> set[str]:
    return {oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.rglob("*") if path.is_file()}


def test_init_makes_a_closed_installation_and_says_that_the_key_is_for_development(call: Call, tmp_path: Path) -> None:
    made = call("init")
    assert made.code == 0
    assert made.out.startswith("assay.localhost/demo+")
    assert "DEVELOPMENT KEY" in made.err
    state = tmp_path / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert _modes(state / "keys") == _modes(state / "secrets") == {"0o600"}


def test_init_again_changes_nothing(call: Call, tmp_path: Path) -> None:
    first = call("init", "--json")
    before = {path: path.read_bytes() for path in (tmp_path / "state" / "secrets").iterdir()}
    again = call("init", "--json")
    assert json.loads(first.out) == json.loads(again.out)
    assert before == {path: path.read_bytes() for path in (tmp_path / "state" / "secrets").iterdir()}


@pytest.mark.parametrize(
    "arguments", [("tenant", "list"), ("serve",), ("sequencer",), ("up",), ("key", "list", "--tenant", "demo")]
)
def test_without_an_installation_a_command_says_what_to_run(call: Call, arguments: tuple[str, ...]) -> None:
    failed = call(*arguments)
    assert failed.code == 3
    assert "run `assay init`" in failed.err


def test_an_older_schema_is_refused_with_the_command_to_run(call: Call, tmp_path: Path) -> None:
    call("init")
    (tmp_path / "state" / "assay.db").unlink()
    for leftover in (tmp_path / "state").glob("assay.db-*"):
        leftover.unlink()
    failed = call("tenant", "list")
    assert failed.code == 3
    assert "assay migrate" in failed.err


def test_migrate_says_what_it_would_do_and_does_it_once(call: Call) -> None:
    assert call("migrate", "--plan").out.startswith("would migrate from nothing to ")
    assert "migrated from nothing" in call("migrate").err
    assert "the newest" in call("migrate").err


@pytest.mark.parametrize("name", ["", "V1", "v1", "docs", "a" * 64, "-a", "a-", "a/b", "ä"])
def test_a_name_that_cannot_stand_in_a_url_is_no_tenant(call: Call, name: str) -> None:
    call("init")
    refused = call("tenant", "add", "--", name)
    assert refused.code == 1
    assert "a tenant's name has" in refused.err


def test_tenants_have_logs_and_keys_of_their_own(call: Call) -> None:
    call("init")
    added = call("tenant", "add", "acme", "--json")
    tenants = json.loads(call("tenant", "list", "--json").out)
    assert [each["tenant"] for each in tenants] == ["acme", "demo"]
    assert json.loads(added.out)["origin"] == "assay.localhost/acme"
    assert call("tenant", "add", "acme", "--json").out == added.out


def test_secrets_are_masked(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_STRIPE_API_KEY", "sk_live_hidden")
    monkeypatch.setenv("ASSAY_DATABASE_URL", "postgresql://assay:hidden@db/assay")
    for arguments in (("config", "show"), ("config", "show", "--effective"), ("config", "show", "--json")):
        shown = call(*arguments)
        assert shown.code == 0
        assert "hidden" not in shown.out + shown.err
        assert "assay:***@db" in shown.out


def test_a_setting_that_does_not_fit_is_named_and_its_value_is_not_repeated(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_PORT", "eighty-hidden")
    failed = call("config", "check")
    assert failed.code == 1
    assert "ASSAY_PORT" in failed.err
    assert "hidden" not in failed.err


def test_production_refuses_development_keys(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call("init")
    assert call("config", "check").code == 0
    monkeypatch.setenv("ASSAY_ENVIRONMENT", "production")
    checked = call("config", "check")
    assert checked.code == 1
    assert "development key files" in checked.err
    assert "policy archives are signed by a development key file" in checked.err
    assert "ASSAY_STRIPE_API_KEY is a test key" in checked.err
    for command in ("serve", "sequencer", "up"):
        assert call(command).code == 1


def test_the_doctor_names_what_is_wrong(call: Call, tmp_path: Path) -> None:
    assert "run `assay init`" in call("doctor").out
    call("init")
    checks = {each["check"]: each for each in json.loads(call("doctor", "--json").out)}
    assert checks["database and schema"]["ok"]
    assert "assay up" in checks["sequencer of demo"]["problem"]
    assert checks["reconciler"]["ok"]
    (tmp_path / "state" / "secrets" / "tokens").chmod(0o644)
    (tmp_path / "state").chmod(0o755)
    assert "chmod 700" in call("doctor").out
    (tmp_path / "state").chmod(0o700)
    sick = call("doctor")
    assert sick.code == 1
    assert "chmod 600" in sick.out


def test_the_doctor_names_a_payment_that_nobody_looks_into(call: Call, tmp_path: Path) -> None:
    call("init")
    installation = Installation(Settings(state_dir=tmp_path / "state"))
    with closing(installation.store), installation.payment_store().transaction() as tx:
        intent = make_intent(tenant="demo", next_check_at=datetime(2020, 1, 1, tzinfo=UTC))
        tx.insert_intent(intent)
    checks = {each["check"]: each for each in json.loads(call("doctor", "--json").out)}
    assert intent.id in checks["reconciler"]["problem"]


def test_no_colours_without_a_terminal(call: Call) -> None:
    assert "\x1b" not in call("doctor").out + call("actions").out + call("--help").out


def test_actions_can_be_listed_and_looked_at(call: Call) -> None:
    assert "document.recorded" in call("actions").out
    assert '"sha256"' in call("actions", "document.recorded").out
    assert call("actions", "no.such").code == 1
    assert any(each["external"] for each in json.loads(call("actions", "--json").out))


def test_a_token_is_printed_once_and_stored_nowhere(call: Call, tmp_path: Path) -> None:
    call("init")
    issued = call("token", "issue", "--tenant", "demo", "--scope", "entries:read", "--ttl", "1h")
    token = issued.out.strip()
    assert token.startswith("ask_")
    assert token not in issued.err
    files = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert token.encode() not in files


def test_tokens_are_listed_by_what_they_may_do_and_never_shown(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call("init")
    call("tenant", "add", "acme")
    issue = ("token", "issue", "--json", "--scope", "entries:read", "--scope", "entries:write")
    old, new, theirs = (json.loads(call(*issue, "--tenant", each).out) for each in ("demo", "demo", "acme"))
    call("token", "revoke", old["id"], "--tenant", "demo")
    [live] = json.loads(call("token", "list", "--tenant", "demo", "--json").out)
    assert (live["id"], live["state"], live["scopes"]) == (new["id"], "live", ["entries:read", "entries:write"])
    listed = json.loads(call("token", "list", "--tenant", "demo", "--all", "--json").out)
    assert [(each["id"], each["state"]) for each in listed] == [(new["id"], "live"), (old["id"], "revoked")]
    assert listed[0]["revoked_at"] is None
    assert listed[1]["revoked_at"] >= listed[1]["issued_at"]

    shown = call("token", "list", "--tenant", "demo", "--all").out
    assert (theirs["id"] in shown, old["id"] in shown) == (False, True)
    assert "ask_" not in shown + json.dumps(listed)
    monkeypatch.setattr("app.cli.token.LIST_LIMIT", 1)
    shortened = call("token", "list", "--tenant", "demo", "--all")
    assert (old["id"] in shortened.out, "only the newest 1" in shortened.err) == (False, True)
    assert call("token", "list", "--tenant", "nobody").code == 1


@pytest.mark.parametrize("ttl", ["", "1", "-1h", "1y", "h", "٣h", "9999999999999d", "91d"])
def test_a_token_cannot_live_for_an_impossible_time(call: Call, ttl: str) -> None:
    call("init")
    refused = call("token", "issue", "--tenant", "demo", "--scope", "entries:read", f"--ttl={ttl}")
    assert refused.code == 1
    assert refused.out == ""


def test_a_token_of_nobody_is_refused_with_the_way_out(call: Call) -> None:
    call("init")
    refused = call("token", "issue", "--tenant", "nobody", "--scope", "entries:read")
    assert refused.code == 1
    assert "assay tenant list" in refused.err


def test_a_revoked_token_is_revoked_once(call: Call) -> None:
    call("init")
    issued = json.loads(call("token", "issue", "-t", "demo", "-s", "entries:read", "--json").out)
    assert "is revoked" in call("token", "revoke", issued["id"], "-t", "demo", "--reason", "leaked").err
    assert "was revoked before" in call("token", "revoke", issued["id"], "-t", "demo").err
    assert call("token", "revoke", "tok_unknown", "-t", "demo").code == 1


def test_nothing_is_erased_without_a_yes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call("init")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert call("subject", "erase", "sub_1", "--tenant", "demo").code == 1
    assert call("subject", "erase", "sub_1", "--tenant", "demo", "--yes").code == 1
    assert call("payments", "reconcile", "--json").out.strip() == "[]"
