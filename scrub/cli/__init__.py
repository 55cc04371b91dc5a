"""The command line: `scrub run`, `check`, `show`, `plan`, `new`, and the making of what is shipped.

Nothing here imports torch before a command needs it: that takes seconds, in which an interrupt comes too.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from io import TextIOWrapper
from types import FrameType
from typing import Any

from scrub.text.garbage import collect_rarely

MISTAKE, GATE = 2, 1  # exit statuses
INTERRUPTED = "interrupted: nothing was written; run the same command again to start over"
KEPT = "interrupted: finished blocks are kept in the results folder; run the same command again to go on"
GOES_ON = "interrupted: what was measured is kept beside the output; run the same command again to go on"
COMPLETION = "_SCRUB_COMPLETE"
SWEEPS = ("sweep", "compare", "report")  # the commands that keep what they compute


def main() -> None:
    """Run the command line: status 0 if it ran, 2 for a mistake of the user's, 1 for a failed gate."""
    interrupts = _Interrupts()
    collect_rarely()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # what the terminal's encoding doesn't have is shown as '?'
    try:
        status = _status(sys.argv[1:])
    except BaseException:
        if not interrupts.seen:
            raise
        status = _interrupted(sys.argv[1:])  # whatever a library has made of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to stop
    sys.exit(status)


def _status(arguments: list[str]) -> int:
    import typer

    from scrub.cli.app import app
    from scrub.cli.outputs import warnings_as_lines
    from scrub.text.errors import GateError, ScrubError

    try:
        if COMPLETION in os.environ:  # the shell asks what could be typed
            app(prog_name="scrub")
        command = typer.main.get_command(app)
        with command.make_context("scrub", arguments) as context, warnings_as_lines():
            command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.Exit as error:
        return error.exit_code
    except ScrubError as error:
        return _say(str(error), MISTAKE)
    except GateError as error:
        return _say(f"a gate failed: {error}", GATE)
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except (BrokenPipeError, SystemExit):  # whoever read the output has enough of it; rich exits then
        _discard_output()
    except OSError as error:
        _discard_output()
        return _say(f"{error.filename or 'the output'} can't be used: {error.strerror or error}", MISTAKE)
    except typer.TyperException as error:
        if not arguments:  # the message is the help then
            sys.stderr.write(f"{error.format_message()}\n")
            return MISTAKE
        return _say(f"{error.format_message().rstrip('.')} ('scrub --help' tells what there is)", MISTAKE)
    return 0


def _discard_output() -> None:
    """Let what is still to be written go nowhere, or Python complains of it at exit."""
    with contextlib.suppress(OSError, ValueError):  # of a stdout that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted(arguments: list[str]) -> int:
    if arguments[:1] == ["search"] and any(word.partition("=")[0] in {"--out", "--json"} for word in arguments):
        return _say(GOES_ON, MISTAKE)
    return _say(KEPT if arguments[:1] and arguments[0] in SWEEPS else INTERRUPTED, MISTAKE)


def _say(message: str, status: int) -> int:
    from scrub.text.clipping import brief
    from scrub.text.files import one_line

    sys.stderr.write(f"scrub: {brief(one_line(message))}\n")
    return status


class _Interrupts:
    """Make sure that an interrupt ends the program, and that one line tells of it."""

    def __init__(self) -> None:
        self.seen = False
        signal.signal(signal.SIGINT, self._stop)
        sys.unraisablehook = self._lost

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt

    def _lost(self, unraisable: Any) -> None:
        if self.seen:  # it came amid a destructor, where exceptions get lost: once more, soon after
            again = threading.Timer(0.01, _thread.interrupt_main)
            again.daemon = True
            again.start()
        else:
            sys.__unraisablehook__(unraisable)
