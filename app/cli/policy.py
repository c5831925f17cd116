"""`assay policy`: policies written, tested, explained, and held against past decisions."""

from __future__ import annotations

import typer

from app.cli import policy_author, policy_explain, policy_life, policy_replay, policy_reverify
from app.cli.output import PLAIN

app = typer.Typer(
    help="Replay past decisions, and write and test policies.", no_args_is_help=True, add_completion=False, **PLAIN
)


@app.callback()
def policy() -> None:
    """Replay past decisions, and write and test policies."""


app.command("test", help=policy_author.TEST_HELP)(policy_author.run_tests)
app.command("check", help=policy_author.CHECK_HELP)(policy_author.check)
app.command("coverage", help=policy_author.COVERAGE_HELP)(policy_author.coverage)
app.command("lint", help=policy_author.LINT_HELP)(policy_author.lint)
app.command("fmt", help=policy_author.FMT_HELP)(policy_author.fmt)
app.command("eval", help=policy_explain.EVAL_HELP)(policy_explain.evaluate)
app.command("explain", help=policy_explain.EXPLAIN_HELP)(policy_explain.explain)
app.command("replay", help=policy_replay.HELP)(policy_replay.replay)
app.command("reverify", help=policy_reverify.HELP)(policy_reverify.run)
policy_life.register(app)
