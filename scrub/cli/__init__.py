"""The command line: `scrub run`, `check`, `show`, `plan`, `new`, and the making of what is shipped."""

from __future__ import annotations

import os
import sys

import click
import typer

from scrub.cli import inspect, new, run
from scrub.errors import GateError, ScrubError
from scrub.files import one_line

MISTAKE, GATE = 2, 1  # exit statuses

app = typer.Typer(
    help="Causal scrubbing of transformers on explicit computational graphs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("check")(inspect.check)
app.command("show")(inspect.show)
app.command("plan")(inspect.plan)
app.command("new")(new.new)


def main() -> None:
    """Run the command line: status 0 if it ran, 2 for a mistake of the user's, 1 for a failed gate."""
    sys.exit(_status(sys.argv[1:]))


def _status(arguments: list[str]) -> int:
    try:
        return int(app(arguments, prog_name="scrub", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return MISTAKE
    except click.ClickException as error:
        return _say(f"{error.format_message()} ('scrub --help' tells what there is)", MISTAKE)
    except ScrubError as error:
        return _say(str(error), MISTAKE)
    except GateError as error:
        return _say(f"a gate failed: {error}", GATE)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted: nothing was written; run the same command again to start over", MISTAKE)
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _say(message: str, status: int) -> int:
    sys.stderr.write(f"scrub: {one_line(message)}\n")
    return status
