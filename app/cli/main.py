"""The entry point of `assay`: a table of commands, each loaded only when it is called.

`assay --help` loads none of them, and `assay verify` neither Flask nor SQLAlchemy. Exit codes: 0 done, 1 not done
(change something), 2 usage, 3 could not be checked or reached (try again). `assay verify` adds 4 and 5.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

import typer
from typer.core import TyperGroup

from app.cli.output import PLAIN, complain, explain_error
from app.errors import AssayError

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

INTERRUPTED: Final = 130

COMMANDS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Start": {
        "dev": ("app.cli.dev:dev", "Start everything on this machine and say what to try."),
        "init": ("app.cli.setup:init", "Create the state folder, its secrets and a first tenant."),
        "migrate": ("app.cli.setup:migrate", "Bring the database to the newest schema."),
        "up": ("app.cli.up:up", "Run web server, sequencer and reconciler (and sandbox) together."),
        "serve": ("app.cli.serve:serve", "Run the web server alone."),
        "sequencer": ("app.cli.sequencer:sequencer", "Run the publisher of all logs alone."),
        "sandbox": ("app.cli.sandbox:sandbox", "Run the sandbox PSP alone."),
    },
    "Verify": {
        "verify": ("app.cli.verify:app", "Verify a receipt, an export, a database or a server."),
        "export": ("app.cli.export:app", "Write a log as files that anybody can verify."),
        "witness": ("app.cli.witness:app", "Be a witness of other people's logs."),
    },
    "Decide": {
        "policy": ("app.cli.policy:app", "Replay past decisions, and write and test policies."),
    },
    "Operate": {
        "tenant": ("app.cli.tenant:app", "Add and list tenants, one log each."),
        "token": ("app.cli.token:app", "Issue, list and revoke API tokens."),
        "key": ("app.cli.key:app", "List, rotate and retire the keys of a log."),
        "ledger": ("app.cli.ledger:app", "Look at a log, freeze it, recover it."),
        "payments": ("app.cli.payments:app", "Settle payments whose fate is unknown."),
        "subject": ("app.cli.subject:app", "Hand out or erase a person's data."),
        "import": ("app.cli.importing:import_records", "Load a file of records into a log."),
        "actions": ("app.cli.actions:actions", "List what can be logged."),
        "config": ("app.cli.config:app", "Show and check the settings."),
        "doctor": ("app.cli.doctor:doctor", "Check this installation."),
    },
}
TARGETS: Final = {name: target for section in COMMANDS.values() for name, (target, _) in section.items()}


class LazyGroup(TyperGroup):
    """Commands by name; a module is imported when its command is called or asked for help."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names, in the order of the table."""
        del ctx
        return list(TARGETS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Import the module of this command."""
        del ctx
        return load_command(cmd_name) if cmd_name in TARGETS else None

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """List the commands by section, importing none."""
        del ctx
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])


def load_command(name: str) -> Command:
    """Return the command of the table, imported now."""
    module, _, attribute = TARGETS[name].partition(":")
    command: Command = typer.main.get_command(getattr(import_module(module), attribute))
    command.name = name
    return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, **PLAIN)


@app.callback()
def assay() -> None:
    """Prove what a fintech did: a signed, witnessed log that outsiders verify.

    First time: `assay dev`. Help on a command: `assay COMMAND --help`.
    """


def main() -> None:
    """Run `assay`; what we raise on purpose becomes one line on stderr and an exit code."""
    try:
        app(prog_name="assay")
    except AssayError as error:
        sys.exit(explain_error(error))
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is flushed at exit
        sys.exit(1)


if __name__ == "__main__":  # how the supervisor starts its children, whatever is on the PATH
    main()
