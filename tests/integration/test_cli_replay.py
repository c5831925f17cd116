"""`assay policy replay` on a real installation: matrix, sign-off, the report in the log, going on after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from app.cli import replaying
from app.cli.policy_replay import parse_time
from app.errors import Malformed
from app.ledger.entry import parse_entry
from app.policy.evidence import parse_reports
from tests.parts.web import PAYMENT, open_web
from tests.policies.rego_suite import POLICIES, shipped
from tests.unit.cli.cli_calls import make_call

COUNTRIES = ("DE", "US", "KP", "ZZ")  # allow, allow, deny, review
PAYMENTS = 12


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Return the state folder of an installation with payments of every verdict."""
    folder = tmp_path_factory.mktemp("state")
    with open_web(folder, tenants=("demo",)) as web:
        for number in range(PAYMENTS):
            payer = {**PAYMENT["payer"], "country": COUNTRIES[number % len(COUNTRIES)]}
            answer = web.post(
                "/v1/payments",
                json={**PAYMENT, "payer": payer},
                headers={"Idempotency-Key": f"k{number}", "Prefer": "wait=20"},
                token=web.tokens["demo"],
            )
            assert answer.status_code == 201
    with closing(sqlite3.connect(folder / "assay.db")) as database:  # a listener may still be closing its connection
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    return folder


@pytest.fixture
def state(history, tmp_path):
    shutil.copytree(history, tmp_path / "state", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    return tmp_path / "state"


@pytest.fixture
def call(state, monkeypatch, capsys):
    monkeypatch.setenv("ASSAY_STATE_DIR", str(state))
    monkeypatch.chdir(state.parent)
    return make_call(monkeypatch, capsys)


@pytest.fixture
def candidate(tmp_path):
    """Return how to write a candidate: the shipped policies with one text replaced."""

    def write(old: str, new: str, module: str = "kyc/kyc.rego") -> str:
        folder = tmp_path / "candidate"
        shutil.copytree(POLICIES, folder, dirs_exist_ok=True)
        text = (folder / module).read_text()
        assert old in text
        (folder / module).write_text(text.replace(old, new))
        return str(folder)

    return write


@contextmanager
def opened(state):
    with closing(sqlite3.connect(state / "assay.db")) as database, database:
        yield database


def read_pending(state, action):
    """Return the entries of this action, published or not."""
    with opened(state) as database:
        rows = database.execute("SELECT body FROM entry WHERE action = ? ORDER BY seq", (action,)).fetchall()
    return [parse_entry(bytes(row[0])) for row in rows]


def test_the_bundle_that_decided_gives_the_same_bytes_for_all(call, state):
    called = call("policy", "replay", "--tenant", "demo", "--json")
    said = json.loads(called.out)
    assert called.code == 0
    assert said["problems"] == []
    assert said["report"]["transitions"] == {"allow_to_allow": 6, "deny_to_deny": 3, "review_to_review": 3}
    assert (said["report"]["decisions"], said["report"]["different"]) == (PAYMENTS, 0)
    assert parse_reports({"impact": said["impact"]}).impact.base == shipped().digest
    [entry] = read_pending(state, "policy.replayed")
    assert entry.id == said["entry"]
    assert entry.data["report_digest"] == said["report_digest"]
    assert "candidate" not in entry.data


def test_a_stricter_candidate_prints_the_matrix_and_the_money(call, candidate):
    folder = candidate('standing == "allowed"', 'standing == "allowed"\n\tinput.payment.currency != "EUR"')
    called = call("policy", "replay", "--tenant", "demo", "--bundle", folder)
    assert called.code == 0, called.err
    assert re.search(r"^allow +0 +0 +6$", called.out, re.MULTILINE)
    assert "allow to review: 6, 89.94 EUR; e.g. ent_" in called.out
    assert "reasons gained: country_unknown 6" in called.out


def test_what_was_denied_and_would_be_allowed_needs_a_sign_off_that_is_logged(call, state, candidate):
    folder = candidate('standing == "allowed"', 'standing in {"allowed", "blocked"}')
    refused = call("policy", "replay", "--tenant", "demo", "--bundle", folder)
    assert refused.code == 1
    assert "3 decisions change deny to allow: that needs --sign-off" in refused.err
    signed = call("policy", "replay", "--tenant", "demo", "--bundle", folder, "--sign-off", "risk.accepted")
    assert signed.code == 0
    without, with_it = read_pending(state, "policy.replayed")
    assert "sign_off" not in without.data
    assert (with_it.data["sign_off"], with_it.data["forbidden"]) == ("risk.accepted", 3)
    assert call("policy", "replay", "--tenant", "demo", "--bundle", folder, "--sign-off", "No Code").code == 1


def test_only_what_a_replay_of_the_bundle_found_is_attached_to_a_proposal_and_relied_on(
    call, candidate, tmp_path, monkeypatch
):
    issued = [
        call("token", "issue", "-t", "demo", "-s", scope, "-q").out.strip()
        for scope in ("policies:write", "policies:approve")
    ]
    monkeypatch.setenv("ASSAY_TOKEN", issued[0])
    pushed = call("policy", "push", candidate("package kyc\n", "package kyc\n\nmarker := 1\n"), "-t", "demo", "-q")
    digest, path = pushed.out.strip(), tmp_path / "reports.json"
    own = json.loads(call("policy", "replay", "-t", "demo", "--json").out)["impact"]
    found = json.loads(call("policy", "replay", "-t", "demo", "--digest", digest, "--json").out)["impact"]
    assert (found["decisions"], found["changed"], found["deny_to_allow"]) == (PAYMENTS, 0, 0)
    for said in (own, found | {"decisions": PAYMENTS + 1}, found | {"digest": "d" * 64}):
        path.write_text(json.dumps({"impact": said}))
        refused = call("policy", "shadow", digest, "-t", "demo", "--reports", str(path))
        assert (refused.code, "attach its `impact`" in refused.err) == (1, True), refused.err
    path.write_text(json.dumps({"impact": found}))
    assert call("policy", "shadow", digest, "-t", "demo", "--reports", str(path)).code == 0
    monkeypatch.setenv("ASSAY_TOKEN", issued[1])
    waived = ("--waive", "coverage", "--waive", "parity", "--yes")
    assert call("policy", "promote", digest, "-t", "demo", *waived, "--accept-deny-to-allow", "1").code == 1
    promoted = call("policy", "promote", digest, "-t", "demo", *waived)
    assert (promoted.code, promoted.out.strip()) == (0, digest)


def test_the_report_that_is_written_is_the_one_whose_digest_is_logged(call, state, tmp_path):
    out = tmp_path / "impact.json"
    assert call("policy", "replay", "--tenant", "demo", "--out", str(out)).code == 0
    [entry] = read_pending(state, "policy.replayed")
    assert hashlib.sha256(out.read_bytes()).hexdigest() == entry.data["report_digest"]
    said = re.sub(rb"[0-9a-f]{32,}", b"", out.read_bytes())  # a digest may spell "ada" too
    assert b"Ada" not in said
    assert b"ada" not in said


def test_two_processes_come_to_the_same_report_as_one(call, monkeypatch):
    monkeypatch.setattr(replaying, "CHUNK_ENTRIES", 7)
    one = json.loads(call("policy", "replay", "--tenant", "demo", "--json").out)
    two = json.loads(call("policy", "replay", "--tenant", "demo", "--workers", "2", "--json").out)
    assert one["report"] == two["report"]


def test_only_the_time_asked_for_is_replayed(call, state):
    times = [entry.time_ms for entry in read_pending(state, "decision.recorded")]

    def count(*options):
        said = json.loads(call("policy", "replay", "--tenant", "demo", "--json", *options).out)
        return said["report"]["decisions"]

    def at(ms):
        return f"{datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms):%Y-%m-%dT%H:%M:%S.%f}"

    assert count("--since", at(times[4])) == PAYMENTS - 4
    assert count("--since", at(times[4]), "--until", at(times[9])) == 5
    assert count("--since", "1h") == PAYMENTS
    assert count("--since", "2100-01-01") == 0


def test_an_altered_decision_is_refused_by_name_and_never_run(call, state):
    with opened(state) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        seq, body = database.execute("SELECT seq, body FROM entry WHERE action = 'decision.recorded'").fetchone()
        database.execute("UPDATE entry SET body = ? WHERE seq = ?", (body.replace(b'"allow"', b'"deny!"'), seq))
    called = call("policy", "replay", "--tenant", "demo", "--json")
    said = json.loads(called.out)
    assert called.code == 1
    assert said["report"]["refused"] == {"entry_not_proven": 1}
    assert said["report"]["refused_samples"]["entry_not_proven"] == [parse_entry(body).id]
    assert said["report"]["decisions"] == PAYMENTS - 1


def test_an_erased_payers_decision_is_counted_and_is_no_problem(call, state):
    subject = read_pending(state, "decision.recorded")[0].subject
    assert call("subject", "erase", subject, "--tenant", "demo", "--yes").code == 0
    called = call("policy", "replay", "--tenant", "demo", "--json")
    said = json.loads(called.out)
    assert called.code == 0
    assert (said["report"]["erased"], said["report"]["refused"]) == (1, {})


RUN = """
import sys, time
from app.cli import replaying
replaying.CHUNK_ENTRIES, replaying.SAVE_EVERY_S = 5, 0.0
run = replaying.Replayer.run
def slowly(self, start, stop):
    if start >= 20:
        print("THERE", flush=True)
        time.sleep(60)
    return run(self, start, stop)
if sys.argv.pop(1) == "hang":
    replaying.Replayer.run = slowly
from app.cli.main import main
main()
"""


def test_a_replay_that_was_killed_goes_on_and_comes_to_the_same_report(state):
    environment = {**os.environ, "ASSAY_STATE_DIR": str(state)}
    command = ["policy", "replay", "--tenant", "demo", "--json"]

    def run(how, *more):
        return subprocess.run(
            [sys.executable, "-c", RUN, how, *command, *more],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    whole = json.loads(run("through").stdout)["report"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "hang", *command], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "THERE\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [kept] = (state / "replays").glob("*.json")
    assert json.loads(kept.read_text())["next"] == 20
    resumed = run("through")
    assert "went on at entry 20" in resumed.stderr
    assert json.loads(resumed.stdout)["report"] == whole
    assert list((state / "replays").iterdir()) == []


def test_a_damaged_state_is_named_and_can_be_passed_over(call, state, monkeypatch):
    monkeypatch.setattr(replaying.ReplayState, "drop", lambda self, job: None)
    assert call("policy", "replay", "--tenant", "demo").code == 0
    [kept] = (state / "replays").glob("*.json")
    kept.write_text('{"size": 1')
    failed = call("policy", "replay", "--tenant", "demo")
    assert failed.code == 1
    assert "--restart" in failed.err
    assert call("policy", "replay", "--tenant", "demo", "--restart").code == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("30m", 10**12 - 1_800_000),
    ],
)
def test_a_time_is_a_date_a_moment_or_how_long_ago(text, expected):
    assert parse_time(text, 10**12) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "30x", "-3d"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(Malformed):
        parse_time(text, 0)
