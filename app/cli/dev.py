"""`assay dev`: from nothing to a running service, with the next steps ready to paste (notes/experience.md, 5)."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from app.cli.configuring import open_settings
from app.cli.opening import open_installation
from app.cli.output import Quiet, command, describe, print_line, tell
from app.cli.process import stop_on_signals
from app.cli.setup import prepare
from app.cli.steps import format_steps
from app.cli.supervisor import Supervisor
from app.cli.token import issue_token
from app.cli.up import is_ready, list_programs
from app.credentials.ports import Scope
from app.settings import Settings

TENANT: Final = "demo"


@command(
    describe(
        "Start everything on this machine and say what to try. Ctrl-C stops it.",
        "assay dev",
        "ASSAY_STATE_DIR=/tmp/try assay dev --port 9000",
        more="Makes what is missing, in ./var unless ASSAY_STATE_DIR says otherwise: keys, schema, the tenant `demo`, "
        "and a token, printed once and written nowhere. `assay dev` again goes on with the same log.",
    )
)
def dev(
    port: Annotated[int | None, typer.Option(help="Port; the setting `port`, or a free one if it is taken.")] = None,
    quiet: Quiet = False,
) -> None:
    """Start everything."""
    stop = stop_on_signals()
    settings = choose_ports(open_settings(), port)
    origin, vkey = prepare(settings, TENANT, quiet=True)
    with open_installation(settings) as installation:
        token = issue_token(installation, TENANT, list(Scope)).token
    tell(f"Starting {origin} in {settings.state_dir} …", quiet=quiet)
    announced = False

    def announce() -> None:
        nonlocal announced
        if not announced and is_ready(settings):
            announced = True
            print_line(describe_steps(settings, token, vkey))
            sys.stdout.flush()

    environment = {
        "ASSAY_HOST": settings.host,
        "ASSAY_PORT": str(settings.port),
        "ASSAY_STRIPE_API_BASE": settings.stripe_api_base,
    }
    Supervisor(list_programs(settings), environment=environment).run(stop, each_turn=announce)
    tell("Stopped. What was logged is kept; start again with the same command.", quiet=quiet)


def describe_steps(settings: Settings, token: str, vkey: str) -> str:
    """Return what to try next; a database can be tampered with by a script of the checkout alone."""
    with_tampering = settings.embedded and Path("scripts/tamper.py").is_file()
    return format_steps(
        settings, tenant=TENANT, token=token, vkey=vkey, command=find_command(), with_tampering=with_tampering
    )


def choose_ports(settings: Settings, port: int | None) -> Settings:
    """Return the settings with ports that are free now, for the web and for the sandbox."""
    sandbox = settings.stripe_api_base
    chosen = {"port": find_free_port(settings.host, port or settings.port)}
    if sandbox.startswith("http://127.0.0.1:"):
        wanted = int(sandbox.rpartition(":")[2])
        return settings.model_copy(
            update={**chosen, "stripe_api_base": f"http://127.0.0.1:{find_free_port('127.0.0.1', wanted)}"}
        )
    return settings.model_copy(update=chosen)


def find_free_port(host: str, wanted: int) -> int:
    """Return `wanted` if it can be listened on, else another port that can."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    return wanted


def find_command() -> str:
    """Return how to call `assay` from here: by name if the PATH has it, else by its path."""
    script = Path(sys.executable).with_name("assay")
    if shutil.which("assay") == str(script):
        return "assay"
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)
