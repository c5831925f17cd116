"""The story of one payment, played against a temporary installation on free ports.

    pay → decision → receipt → verify: yes → flip one bit in a copy of the database → verify: no, naming the entry
    → change a rule, replay the decisions: what it would change, and no without a sign-off
    → erase the payer → verify: yes, and the sealed fields are "erased by policy"

Prints each command that it runs and what came of it. Exits with 1 at the first step that is not as promised.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TENANT = "demo"
DATABASE = "sqlite:///state/assay.db"
START_LIMIT_S = 45.0
STOP_LIMIT_S = 30.0
REQUEST_LIMIT_S = 20.0
LINE_LIMIT = 240
VALID, INVALID, ERASED = 0, 1, 5
NOT_DONE = 1
COUNTRIES = ("KP", "DE", "ZZ", "KP")
"""Where the other payers live: blocked, allowed, not in the table, blocked."""
HTTP_NOT_FOUND = 404
NAME, EMAIL = "Ada Example", "ada@example.org"
PAYMENT = {
    "amount": "12.99",
    "currency": "EUR",
    "country": "DE",
    "payment_method": {"stripe": "pm_card_visa"},
    "payer": {"name": NAME, "email": EMAIL, "country": "DE"},
}
SCOPES = ("entries:read", "entries:write", "payments:read", "payments:write", "subjects:erase")
ASSAY = [sys.executable, "-P", "-m", "app.cli.main"]
WITHOUT_SOCKETS = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise OSError(f"networking is off: {event}")
sys.addaudithook(refuse)
from app.cli.main import main
main()
"""
OFFLINE = [sys.executable, "-P", "-c", WITHOUT_SOCKETS]
TAMPER = Path(__file__).parents[1] / "tamper.py"
POLICIES = Path(__file__).parents[2] / "policies"


class BrokenPromiseError(Exception):
    """A step did not do what the story says."""


class Story:
    """What the steps share: the installation's environment, the service's address, a token, the log's key."""

    def __init__(self, folder: Path) -> None:
        """`folder` is empty, and ours."""
        self.folder = folder
        self.state = folder / "state"
        self.port, self.sandbox_port = find_free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
        self.environment |= {
            "ASSAY_STATE_DIR": str(self.state),
            "ASSAY_PORT": str(self.port),
            "ASSAY_STRIPE_API_BASE": f"http://127.0.0.1:{self.sandbox_port}",
            "ASSAY_WORKERS": "1",
            "XDG_STATE_HOME": str(folder / "auditor"),
            "NO_COLOR": "1",
        }
        self.vkey = self.token = ""

    def play(self) -> None:
        """Play every step."""
        title("An installation of its own, in a temporary folder")
        self.vkey = self.assay("init", "--quiet").strip()
        scopes = [word for scope in SCOPES for word in ("--scope", scope)]
        self.token = self.assay("token", "issue", "--tenant", TENANT, *scopes, "--quiet", secret=True).strip()
        with self.service():
            payment = self.pay()
            receipt = self.keep_receipt(payment)
            payer = self.keep_payer_receipt(payment)
            self.tamper()
            self.rehearse()
            erasure = self.erase(payment)
            self.verify_erased(receipt, payer, erasure)

    def pay(self) -> dict[str, Any]:
        """A payment is decided, charged and logged; nothing personal is in the log."""
        title("Pay: a policy decides, the sandbox PSP charges, every step is an entry")
        headers = {"Idempotency-Key": "the-demo's-first", "Prefer": "wait=10"}
        payment: dict[str, Any] = self.request("POST", "/v1/payments", PAYMENT, headers)
        expect(payment["status"] == "succeeded", f"{payment['amount']} {payment['currency']}: {payment['status']}")
        entries = self.list_entries(payment["id"])
        for entry in entries:
            print(f"    entry {entry['index']}: {entry['entry']['action']}")
        decision = next(each["entry"]["data"] for each in entries if each["entry"]["action"] == "decision.recorded")
        expect(decision["result"]["verdict"] == "allow", f"the decision {decision['decision_id']} says allow, and why")
        text = json.dumps(entries)
        expect(NAME not in text and EMAIL not in text, "the payer's name and e-mail are nowhere in the log")
        return payment

    def keep_receipt(self, payment: dict[str, Any]) -> Path:
        """The receipt verifies offline, with the public key alone."""
        title("Verify the receipt with networking off: this file and the public key are all it takes")
        receipt = self.folder / "payment.tlog-proof"
        receipt.write_text(payment["receipt"], encoding="utf-8")
        self.verify(VALID, "receipt", receipt.name)
        return receipt

    def keep_payer_receipt(self, payment: dict[str, Any]) -> Path:
        """The entry about the payer has a receipt too: of commitments, not of the name."""
        entries = self.list_entries(payment["id"])
        payer = next(each for each in entries if each["entry"]["action"] == "payer.recorded")
        expect(set(payer["entry"]["sealed"]) == {"name", "email"}, f"{payer['id']} seals name and e-mail")
        return self.fetch_receipt(payer["id"], "payer.tlog-proof")

    def tamper(self) -> None:
        """One flipped bit in a copy of the database is found, and the entry is named."""
        title("Tamper: flip one bit of the payment in a copy of the database")
        self.verify(VALID, "database", DATABASE, "--tenant", TENANT)
        said = self.run([sys.executable, str(TAMPER), "state/assay.db", "tampered.db", "payment.succeeded"])
        entry_id = said.split("of ")[1].split()[0]
        report = self.verify(INVALID, "database", "sqlite:///tampered.db", "--tenant", TENANT, "--no-state")
        expect(entry_id in report, f"it names the entry: {entry_id}")

    def rehearse(self) -> None:
        """A changed rule is held against the decisions of the past before anybody lets it decide."""
        title("Rehearse a rule: payers from a blocked country would be let through")
        for number, country in enumerate(COUNTRIES):
            body = {**PAYMENT, "payer": {"name": NAME, "email": EMAIL, "country": country}}
            headers = {"Idempotency-Key": f"the-demo's-{country}-{number}", "Prefer": "wait=10"}
            self.request("POST", "/v1/payments", body, headers, quiet=True)
        self.assay("policy", "replay", "--tenant", TENANT)
        candidate = self.folder / "candidate"
        shutil.copytree(POLICIES, candidate)
        rule = candidate / "kyc" / "kyc.rego"
        changed = rule.read_text().replace('standing == "allowed"', 'standing in {"allowed", "blocked"}')
        rule.write_text(changed)
        replay = [*ASSAY, "policy", "replay", "--tenant", TENANT, "--bundle", "candidate"]
        matrix = self.run(replay, expected=NOT_DONE, whole=True)
        expect("deny to allow: 2" in matrix, "two denials would become allowed; that needs a sign-off")
        self.run([*replay, "--sign-off", "risk.accepted"])

    def erase(self, payment: dict[str, Any]) -> Path:
        """The payer's key and sealed fields are destroyed, and the log has a receipt of that."""
        title("Erase the payer: key and salts are destroyed")
        erased = self.request("DELETE", f"/v1/subjects/{payment['subject']}")
        expect(erased["status"] == "erased" and erased["fields"] > 0, f"{erased['fields']} sealed fields are gone")
        return self.fetch_receipt(erased["receipt"].split("/")[3], "erasure.tlog-proof")

    def verify_erased(self, receipt: Path, payer: Path, erasure: Path) -> None:
        """Every proof still holds; the sealed fields are erased by policy, not missing."""
        title("Verify again: every proof still holds")
        self.verify(VALID, "receipt", receipt.name)
        self.verify(VALID, "database", DATABASE, "--tenant", TENANT)
        sealed = self.folder / "sealed.json"
        sealed.write_text('{"name": null, "email": null}')
        self.verify(ERASED, "receipt", payer.name, "--sealed", sealed.name, "--erasure", erasure.name)

    @contextmanager
    def service(self) -> Iterator[None]:
        """Run `assay up`; ready before, stopped in order after."""
        show([*ASSAY, "up", "--quiet"])
        process = subprocess.Popen([*ASSAY, "up", "--quiet"], env=self.environment)
        try:
            self.wait_until_ready(process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_LIMIT_S)
        expect(process.returncode == 0, "the service stopped in order")

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for /readyz."""
        deadline_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline_s and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=1):  # noqa: S310 -- our own address
                    return
            except OSError:
                time.sleep(0.1)
        raise BrokenPromiseError("the service is not ready in time")

    def assay(self, *arguments: str, secret: bool = False) -> str:
        """Run a command of `assay`; return what it printed."""
        return self.run([*ASSAY, *arguments], secret=secret)

    def verify(self, expected: int, *arguments: str) -> str:
        """Verify with networking off; expect this exit code; return the report."""
        command = [*ASSAY, "verify", *arguments, "--key", self.vkey]
        return self.run([*without_network(), *OFFLINE, *command[len(ASSAY) :]], shown=command, expected=expected)

    def run(
        self,
        command: list[str],
        *,
        shown: list[str] | None = None,
        expected: int = 0,
        secret: bool = False,
        whole: bool = False,
    ) -> str:
        """Run and show a command, and the `whole` of what it prints if asked; raise unless it exits as expected."""
        show(shown or command)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if whole:
            print(textwrap.indent(done.stdout.rstrip(), "    "))
        expect(
            done.returncode == expected,
            f"exit code {done.returncode}" + ("" if secret or whole else brief(done.stdout)),
            why=done.stdout + done.stderr,
        )
        return done.stdout

    def list_entries(self, payment_id: str) -> list[dict[str, Any]]:
        """Return the entries of a payment, once its last is published."""
        deadline_s = time.monotonic() + REQUEST_LIMIT_S
        while time.monotonic() < deadline_s:
            page = self.request("GET", f"/v1/entries?ref={payment_id}", quiet=True)
            entries: list[dict[str, Any]] = page["entries"]
            if any(each["entry"]["action"] == "payment.succeeded" for each in entries):
                return entries
            time.sleep(0.1)
        raise BrokenPromiseError("the payment's entries are not published in time")

    def fetch_receipt(self, entry_id: str, name: str) -> Path:
        """Save an entry's receipt, once it is published."""
        path = self.folder / name
        deadline_s = time.monotonic() + REQUEST_LIMIT_S
        while time.monotonic() < deadline_s:
            try:
                path.write_bytes(self.fetch("GET", f"/v1/entries/{entry_id}/receipt"))
            except urllib.error.HTTPError as error:
                if error.code != HTTP_NOT_FOUND:  # "not yet published" is one
                    raise
                time.sleep(0.1)
            else:
                return path
        raise BrokenPromiseError(f"{entry_id} is not published in time")

    def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        *,
        quiet: bool = False,
    ) -> Any:
        """Send a request and show it; return the JSON answer."""
        if not quiet:
            print(f"  > {method} {path}" + (f"  {json.dumps(body)}" if body else ""))
        return json.loads(self.fetch(method, path, body, headers))

    def fetch(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """Return the bytes of an answer."""
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})}
        data = json.dumps(body).encode() if body else None
        asked = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)  # noqa: S310 -- ours
        with urllib.request.urlopen(asked, timeout=REQUEST_LIMIT_S) as answer:  # noqa: S310 -- our own address
            found: bytes = answer.read()
            return found


def title(text: str) -> None:
    """Begin a step."""
    print(f"\n{text}")


def show(command: list[str]) -> None:
    """Print a command as one would type it."""
    words = (
        ["assay", *command[len(ASSAY) :]]
        if command[: len(ASSAY)] == ASSAY
        else ["python3", f"scripts/{TAMPER.name}", *command[2:]]
    )
    print(f"  $ {shlex.join(words)}")


def expect(holds: bool, text: str, *, why: str = "") -> None:  # noqa: FBT001 -- reads as a sentence
    """Print what was promised and holds; raise if it does not."""
    if not holds:
        raise BrokenPromiseError(f"{text}\n{why}")
    print(f"  ✔ {text}")


def brief(text: str) -> str:
    """Return the first line of an output, if it says something short."""
    first = text.strip().partition("\n")[0]
    return f": {first}" if first and len(first) < LINE_LIMIT else ""


def without_network() -> list[str]:
    """Return the prefix that takes the network away from a command, where the kernel lets us; a hook does it too."""
    prefix = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if tried.returncode == 0 else []


def find_free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now."""
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in with_sockets]
    for opened in with_sockets:
        opened.close()
    return ports


def main() -> None:
    """Play the story and say how long it took."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="assay-demo-") as folder:
        try:
            Story(Path(folder)).play()
        except (BrokenPromiseError, OSError, subprocess.SubprocessError) as error:
            sys.exit(f"\n✘ not as promised: {error}")
    print(f"\nAll as promised, in {time.monotonic() - started_s:.0f} s.")


if __name__ == "__main__":
    main()
