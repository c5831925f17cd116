"""`assay up`: the whole service, supervised."""

from __future__ import annotations

import http.client
from typing import Annotated

import typer

from app.cli.configuring import open_settings, require_fit_to_serve
from app.cli.opening import open_installation
from app.cli.output import Quiet, command, describe, tell
from app.cli.process import stop_on_signals
from app.cli.serve import WEB_STOP_LIMIT_S
from app.cli.supervisor import Program, Supervisor
from app.settings import Settings

WEB = Program(name="serve", arguments=("--quiet",), stop_limit_s=WEB_STOP_LIMIT_S + 2)
SEQUENCER = Program(name="sequencer", stop_limit_s=10)
RECONCILER = Program(name="payments", arguments=("reconcile", "--watch", "--quiet"), stop_limit_s=8)
REVERIFIER = Program(name="policy", arguments=("reverify", "--watch", "--quiet"), stop_limit_s=5)
SANDBOX = Program(name="sandbox", arguments=("--quiet",), stop_limit_s=2)
PROBE_LIMIT_S = 2.0
HTTP_OK = 200


def list_programs(settings: Settings) -> list[Program]:
    """Return what to run, in the order of stopping: writes end first, then they are published.

    The reconciler is a process of its own, so that a PSP that hangs holds up no publication. Killing it in the middle
    of a call leaves a payment that is looked into again after its lease. A reverification that is killed logs nothing,
    and is due as before.
    """
    nightly = [REVERIFIER] if settings.reverify_sample else []
    programs = [*nightly, WEB, RECONCILER, SEQUENCER]
    return [*programs, SANDBOX] if settings.environment == "development" else programs


def is_ready(settings: Settings) -> bool:
    """Say whether /readyz answers 200."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 -- compared, not bound
    connection = http.client.HTTPConnection(host, settings.port, timeout=PROBE_LIMIT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTP_OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@command(
    describe(
        "Run web server, sequencer, reconciler and the daily reverification, and in development the sandbox PSP, until "
        "SIGTERM.",
        "assay up",
        "assay up --port 9000",
        more="They stop in order: requests at work end, what they wrote is published, then the rest. One that dies is "
        "started again; one that keeps dying stops everything.",
    )
)
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on; the setting `host` if absent.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; the setting `port` if absent.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run the whole service."""
    stop = stop_on_signals()
    settings = open_settings()
    settings = settings.model_copy(update={"host": host or settings.host, "port": port or settings.port})
    require_fit_to_serve(settings)
    with open_installation(settings):
        pass
    environment = {"ASSAY_HOST": settings.host, "ASSAY_PORT": str(settings.port)}
    announced = False

    def announce() -> None:
        nonlocal announced
        if not announced and is_ready(settings):
            announced = True
            tell(f"ready: http://{settings.host}:{settings.port}", quiet=quiet)

    Supervisor(list_programs(settings), environment=environment).run(stop, each_turn=announce)
    tell("stopped", quiet=quiet)
