"""What the README and `assay dev` tell people to paste does what they say."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts import report_missing_part
from tests.parts.assay import STOP_LIMIT_S, Assay, wait_until
from tests.story.readme_tour import list_blocks, list_commands, list_exports, make_checkout

pytestmark = pytest.mark.slow


class Tour:
    """`assay dev` in a checkout, and a shell beside it."""

    def __init__(self, assay: Assay, said: Path) -> None:
        self.assay = assay
        self._said = said

    def said(self) -> str:
        """Return what was printed so far."""
        return self._said.read_text()

    def paste(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands in a shell that has the two `export` lines."""
        script = "\n".join([*list_exports(self.said()), commands])
        return subprocess.run(
            ["bash", "-u", "-c", script],
            cwd=self.assay.folder,
            env=self.assay.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    for program in ("bash", "curl", "sed"):
        if shutil.which(program) is None:
            report_missing_part(f"{program} for the commands of the README")
    folder = make_checkout(tmp_path_factory.mktemp("checkout"))
    assay = Assay(folder)
    del assay.environment["ASSAY_STATE_DIR"]  # the default, ./var
    said = folder / "said.txt"
    with socket.create_server(("127.0.0.1", assay.port)), said.open("w") as output:  # the wanted port is taken
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.cli.main", "dev"],
            cwd=folder,
            env=assay.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: "Ctrl-C; the same" in said.read_text() or process.poll() is not None)
            assert process.poll() is None, said.read_text()
            yield Tour(assay, said)
        finally:
            process.terminate()
            process.wait(STOP_LIMIT_S)
    assert process.returncode == 0, said.read_text()


def test_a_taken_port_is_not_used(tour: Tour) -> None:
    assert "Assay is ready: http://127.0.0.1:" in tour.said()
    assert f":{tour.assay.port}" not in tour.said()


def test_it_says_that_the_keys_are_for_development(tour: Tour) -> None:
    assert "DEVELOPMENT keys" in tour.said()
    assert (tour.assay.folder / "var").stat().st_mode & 0o077 == 0


def test_the_readmes_tour_does_what_the_readme_says(tour: Tour) -> None:
    blocks = list_blocks()
    assert len(blocks) >= 6
    for block in blocks:
        done = tour.paste("set -e\n" + block.commands)
        assert done.returncode == block.code, f"{block.commands}\n{done.stdout}{done.stderr}"
    assert '"status":"succeeded"' in (tour.assay.folder / "payment.json").read_text()


def test_what_dev_prints_can_be_pasted_as_it_is(tour: Tour) -> None:
    done = tour.paste(list_commands(tour.said()))
    verdicts = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("VALID", "INVALID"))]
    assert verdicts == ["VALID", "INVALID", "INVALID", "VALID"], done.stdout + done.stderr
    assert done.stderr == ""
    assert '"status":"erased"' in done.stdout
