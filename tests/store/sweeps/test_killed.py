"""Sweeps that are killed at random moments, interrupted, or run beside others, in processes of their own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from sweeping import rows, same_bits

from scrub.store.sweeps.sweep import sweep

PATIENCE = 240.0  # seconds, on a machine that is busy with other things
GRID = ["--sequences", "85", "--draws", "4", "--dtype", "float64"]
BLOCKS = 12  # of 32 sequences, in 4 draws
HERE: dict[str, Any] = {"dtype": "float64", "workers": 1, "progress": False}  # the same in this process
KEPT = "interrupted: finished blocks are kept in the results folder; run the same command again to go on"


def started(results: str, *more: str, workers: int = 1) -> subprocess.Popen[str]:
    """`scrub sweep one` in a process of its own, whose group is its own too."""
    command = [sys.executable, "-c", "from scrub.cli import main; main()", "sweep", "one", *GRID, *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "100"}
    return subprocess.Popen(
        [*command, "--results", results, "--workers", str(workers)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def blocks(results: str) -> dict[str, int]:
    """The finished blocks and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(results, "losses").glob("*.parquet")}


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def said(err: str) -> list[str]:
    """What a process said on standard error, but for notes on the data."""
    return [line for line in err.splitlines() if not line.startswith("note: ")]


def kill_a_worker(process: subprocess.Popen[str]) -> None:
    """SIGKILL one of the processes that compute."""
    children = psutil.Process(process.pid).children(recursive=True)
    working = [each for each in children if "loky" in " ".join(each.cmdline()) and each.num_threads() > 1]
    working[0].kill()


def test_killed_at_random_moments_and_resumed(sweeping: Path) -> None:
    """SIGKILL of a sweep, of a worker and then of its sweep, and the rest: as if nothing had happened."""
    moments = random.Random(os.urandom(8))
    process = started("killed", workers=2)
    goal = moments.randint(1, 8)
    until(lambda: len(blocks("killed")) >= goal, process)
    kill_a_worker(process)
    time.sleep(moments.random() * 0.1)
    process.kill()
    ended(process)
    kept = blocks("killed")
    assert not rows(sweeping / "killed").duplicated(["cell", "sequence"]).any()
    code, out, err = ended(started("killed", workers=2))
    assert (code, said(err)) == (0, [])  # nor has a library anything to say of its workers' end
    assert f"{BLOCKS - len(kept)} blocks were computed" in out
    assert kept.items() <= blocks("killed").items()
    assert len(blocks("killed")) == BLOCKS
    sweep("one", results="undisturbed", sequences=85, draws=4, **HERE)
    same_bits(sweeping / "killed", sweeping / "undisturbed")


def test_two_at_once_of_which_one_is_interrupted_while_it_has_a_block(sweeping: Path) -> None:
    holder = started("both")
    until(lambda: len(blocks("both")) >= 2, holder)
    holder.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor() as threads:
        other = threads.submit(sweep, "one", results="both", sequences=85, draws=4, **HERE)
        try:
            until(lambda: len(blocks("both")) >= BLOCKS - 1 or other.done(), holder)  # all but what the first one has
            assert (len(blocks("both")), other.done()) == (BLOCKS - 1, False)
        finally:
            holder.send_signal(signal.SIGINT)
            holder.send_signal(signal.SIGCONT)
            code, out, err = ended(holder)
        assert (code, out, err) == (2, "", f"scrub: {KEPT}\n")
        assert not other.result(PATIENCE).failures
    table = rows(sweeping / "both")
    assert len(blocks("both")) == BLOCKS
    assert len(table.drop_duplicates(["cell", "sequence"])) == len(table) == 85 * 4 * 11
