"""Interrupted runs, in processes of their own, and output that nobody reads or that doesn't fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import scrub.cli
from scrub.cli import _status

SAID = "scrub: interrupted: nothing was written; run the same command again to start over\n"
PROGRAM = [sys.executable, "-c", "from scrub.cli import main; main()"]
PATIENCE = 240  # seconds, on a machine that is busy with other things

# Features are computed for every draw, so this one tells when the run is under way.
SLOW = """
from pathlib import Path
from scrub import Hypothesis

def f(tokens, _):
    Path("{}").touch()
    return tokens % 2

hypothesis = Hypothesis(
    "k a1.ind/k/a0.prev/{{q,k}}/** -> rows like f", features={{"f": f}}, study="induction"
)
"""


@contextmanager
def started(project: Path, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process of its own, in the background: shells let those ignore interrupts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "100"}
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_interrupted_run(project: Path, tmp_path: Path) -> None:
    """In the middle of its draws: one line, status 2, no output, no file left over."""
    module, mark, out = tmp_path / "slow.py", tmp_path / "mark", tmp_path / "out"
    module.write_text(SLOW.format(mark))
    out.mkdir()
    words = [
        "run",
        module,
        "--sequences",
        "31",
        "--draws",
        "100000",
        "--json",
        out / "o.json",
        "--pairs-out",
        out / "p",
    ]
    with started(project, *words) as process:
        until(mark.exists, process)
        mark.unlink()  # that was for the gates
        until(mark.exists, process)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said, complained) == (2, "", SAID)
    assert list(out.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs to see what a process has loaded")
def test_interrupted_while_it_starts(project: Path) -> None:
    """Importing torch takes seconds, in which people change their mind."""
    with started(project, "run", "induction", "--sequences", "31") as process:
        maps = Path(f"/proc/{process.pid}/maps")
        until(lambda: "libtorch" in maps.read_text(), process)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said, complained) == (2, "", SAID)


@pytest.fixture
def own_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets `main` have the process' signals and hooks, and puts them back."""
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("own_signals")
def test_an_interrupt_that_a_library_makes_something_else_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: list[str]) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("the library can't be loaded") from error
        return 0

    monkeypatch.setattr(scrub.cli, "_status", failing)
    with pytest.raises(SystemExit) as ended:
        scrub.cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, SAID)


@pytest.mark.usefixtures("own_signals")
def test_an_interrupt_amid_a_destructor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python prints and forgets what is raised there: the interrupt has to come again."""

    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def slow(_: list[str]) -> int:
        dying = Dying()
        del dying
        for _ in range(1000):
            time.sleep(0.01)
        return 0

    monkeypatch.setattr(scrub.cli, "_status", slow)
    with pytest.raises(SystemExit) as ended:
        scrub.cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, SAID)


def test_a_reader_that_has_enough(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `scrub show induction | head -1`: no mistake, no failed gate."""
    for command in ("show", "plan"):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as pipe, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", pipe)
            assert _status([command, "induction/naive"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_does_not_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("show", "plan"):
        with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", full)
            assert _status([command, "induction/naive"]) == 2
        assert capsys.readouterr().err == "scrub: the output can't be used: No space left on device\n"
