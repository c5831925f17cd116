"""`assay witness`: cosign other people's checkpoints (C2SP tlog-witness)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.adapters.anchor_file import FileAnchor
from app.adapters.keyfile import create_key_file, read_signer
from app.adapters.witness_server import DEFAULT_ADDRESS, serve_witness
from app.cli.logs import start_logging
from app.cli.output import PLAIN, Quiet, describe, print_line, tell
from app.errors import Conflict, NotFound, Unavailable
from app.ledger.witness import Witness, parse_logs
from app.tlog.note import COSIGNATURE_V1

LOCK_WAIT_S = 5.0

Folder = Annotated[Path, typer.Option("--state", help="The witness's own folder: its key and what it cosigned.")]
Name = Annotated[str, typer.Option("--name", help="The witness's name, such as witness.example.org/w1.")]

app = typer.Typer(help="Be a witness of other people's logs.", no_args_is_help=True, add_completion=False, **PLAIN)


@app.command(
    help=describe(
        "Make the witness's key; print its verifier key, for the trust files of logs and auditors.",
        "assay witness init --name witness.example.org/w1 --state ./witness",
    )
)
def init(name: Name, state: Folder, quiet: Quiet = False) -> None:
    """Make the witness's key."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        read_signer(state / "keys", name, algorithm=COSIGNATURE_V1)
    except NotFound:
        FileAnchor.create(state / "cosigned")
        vkey = create_key_file(state / "keys", name, algorithm=COSIGNATURE_V1)
    else:
        raise Conflict(f"{name} has its key already", code="key_exists")
    tell("a DEVELOPMENT key, not encrypted, is in the folder. The verifier key:", quiet=quiet)
    print_line(vkey)


@app.command(
    help=describe(
        "Cosign the checkpoints of the logs in a file, until SIGTERM.",
        "assay witness serve --name witness.example.org/w1 --state ./witness --logs logs.txt --port 8090",
        more="The file holds lines `log <vkey>`. Only a checkpoint that extends the last one is cosigned.",
    )
)
def serve(
    *,
    name: Name,
    state: Folder,
    logs: Annotated[Path, typer.Option("--logs", help="File of `log <vkey>` lines: whom to cosign.")],
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8090,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DEFAULT_ADDRESS,
    quiet: Quiet = False,
) -> None:
    """Cosign."""
    start_logging()
    load = partial(load_witness, name, state.absolute(), logs.absolute())
    witness = load()
    tell(f"witness {name} serves {len(witness.origins)} logs on http://{host}:{port}", quiet=quiet)
    serve_witness(load, port=port, address=host)


def load_witness(name: str, state: Path, logs: Path) -> Witness:
    """Return the witness; called once here and once in its server process."""
    try:
        trusted = parse_logs(logs.read_bytes())
    except OSError as error:
        raise Unavailable(f"the file of logs {logs} cannot be read ({error.strerror})", code="logs_file") from error
    signer = read_signer(state / "keys", name, algorithm=COSIGNATURE_V1)
    anchor = FileAnchor(state / "cosigned", lock_wait_s=LOCK_WAIT_S)
    return Witness(key=signer.key, sign=signer.sign, logs=trusted, state=anchor, now=_now)


def _now() -> datetime:
    return datetime.now(UTC)
