"""How the benchmarks measure: alternating rounds in one process, and peak memory in a process for each work."""

from __future__ import annotations

import ctypes
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch.profiler import ProfilerActivity, profile

MEBI = 1 << 20
RESAMPLES = 10_000
M_MMAP_THRESHOLD = -3  # of malloc.h
Work = Callable[[], object]


def clock() -> float:
    """Seconds: of the processor on one thread, which other processes disturb less, and else of the wall."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def timed(work: Work) -> float:
    """Seconds that a work takes."""
    start = clock()
    work()
    return clock() - start


def alternate(works: Sequence[Work], repeats: int) -> Float[np.ndarray, "round work"]:
    """Seconds of each work in each round, after one round that isn't counted.

    Every other round goes backwards (ABBA), so that what drifts falls on all alike.
    """
    for work in works:
        work()
    rounds = []
    for number in range(repeats):
        order = range(len(works)) if number % 2 == 0 else reversed(range(len(works)))
        seconds = {at: timed(works[at]) for at in order}
        rounds.append([seconds[at] for at in range(len(works))])
    return np.array(rounds)


@dataclass(frozen=True)
class Ratio:
    """A median of ratios, and its 95 % interval by a bootstrap over rounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(above: Float[np.ndarray, " round"], below: Float[np.ndarray, " round"]) -> Ratio:
    """The median, over rounds, of the ratio of two works' seconds in the same round."""
    each = above / below
    drawn = np.random.default_rng(0).choice(each, size=(RESAMPLES, len(each)))
    low, high = np.quantile(np.median(drawn, 1), [0.025, 0.975])
    return Ratio(float(np.median(each)), float(low), float(high))


def busy(work: Work) -> float | None:
    """The share of a work's time in which the card computes; None without one."""
    if not torch.cuda.is_available():
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        seconds = timed(work)
    kernels = (event for event in seen.key_averages() if not event.key.startswith(("Memcpy", "Memset")))
    return sum(event.self_device_time_total for event in kernels) / 1e6 / seconds


def peaks(makes: Sequence[Callable[[], Work]]) -> list[int]:
    """The peak memory of each work, in bytes: what it holds at most on top of what is there before it.

    Each is made and run in a process of its own. On a GPU it is what torch allocates there; on the processor, the
    resident memory (Linux only, 0 elsewhere).
    """
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.map(_peak, makes, chunksize=1)


def _peak(make: Callable[[], Work]) -> int:
    # glibc, where there is one: every array in pages of its own, which go back when it is freed. Else what malloc keeps
    # for later, up to 64 MiB, would count or not, as it happens.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, 1 << 16)
    with torch.inference_mode():
        work = make()
        work()  # what libraries set up on their first use is no memory of the work
        if torch.cuda.is_available() and torch.cuda.memory_allocated():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            work()
            return torch.cuda.max_memory_allocated() - before
        status, mark = Path("/proc/self/status"), Path("/proc/self/clear_refs")
        if not mark.exists():
            return 0

        def kibi(field: str) -> int:
            return int(status.read_text().partition(f"{field}:")[2].split()[0])

        mark.write_text("5")  # the peak begins anew
        before = kibi("VmRSS")
        work()
        return (kibi("VmHWM") - before) * 1024
